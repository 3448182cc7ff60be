"""The rules of the Raft paper and of Ongaro's thesis, one test each, named by their section."""

import pytest

from consensus.errors import LostLog, MalformedMessage, Overloaded, ProposalDropped
from consensus.messages import NO_NODE, Entry, EntryKind, HardState, Message, MessageKind, Role
from consensus.ready import Ready
from tests.consensus.group import ELECTION_S, HEARTBEAT_S, Group, Member, cut, role_of


def take(member: Member) -> Ready:
    """A member's next batch, handed to its log and not synced."""
    ready = member.raft.ready()
    assert ready is not None
    member.log.append(ready.hard_state, ready.entries)
    return ready


def request_vote(group: Group, to: int, sender: int, *, term: int, last: tuple[int, int]) -> list[Message]:
    """Ask a member for its vote, from a log that ends at (term, index), and return its answers."""
    log_term, index = last
    group.deliver(Message(MessageKind.VOTE, to=to, sender=sender, term=term, index=index, log_term=log_term))
    group.work(to)
    answers = [message for message in group.in_flight if message.kind is MessageKind.VOTE_RESPONSE]
    group.in_flight = []
    return answers


def append(group: Group, to: int, *, term: int, after: tuple[int, int], terms: list[int], commit: int = 0) -> Message:
    """Send a member entries of the given terms after (term, index), and return its answer."""
    log_term, index = after
    entries = tuple(Entry(one, place, data=b"x") for place, one in enumerate(terms, start=index + 1))
    leader = next(node for node in (3, 2) if node != to)
    group.deliver(
        Message(
            MessageKind.APPEND,
            to=to,
            sender=leader,
            term=term,
            index=index,
            log_term=log_term,
            entries=entries,
            commit=commit,
        )
    )
    group.work(to)
    (answer,) = [message for message in group.in_flight if message.kind is MessageKind.APPEND_RESPONSE]
    group.in_flight = []
    return answer


def candidacy(group: Group) -> int:
    """The number of the candidacy whose requests for votes are in flight."""
    return next(message.request for message in group.in_flight if message.kind is MessageKind.VOTE)


def terms_of(member: Member) -> list[int]:
    return [entry.term for entry in member.entries()]


class TestPaper51Terms:
    """Raft paper 5.1."""

    def test_a_message_of_an_old_term_changes_nothing(self) -> None:
        """Raft paper 5.1."""
        group = Group(3)
        group.elect(1)
        group.elect(2)
        before = terms_of(group[3])
        group.deliver(Message(MessageKind.APPEND, to=3, sender=1, term=2, index=3, log_term=1))
        group.deliver(Message(MessageKind.VOTE, to=3, sender=1, term=2, index=99, log_term=2))
        group.work(3)
        assert group.in_flight == []
        assert (group[3].raft.leader, terms_of(group[3])) == (2, before)

    def test_a_leader_that_sees_a_higher_term_follows(self) -> None:
        """Raft paper 5.1."""
        group = Group(3)
        group.elect(1)
        group.deliver(Message(MessageKind.HEARTBEAT, to=1, sender=2, term=9))
        assert (group[1].raft.role, group[1].raft.term, group[1].raft.leader) == (Role.FOLLOWER, 9, 2)

    def test_a_candidate_that_sees_a_higher_term_follows(self) -> None:
        group = Group(3)
        group[1].raft.campaign(group.now)
        group.work(1)
        group.deliver(Message(MessageKind.VOTE_RESPONSE, to=1, sender=2, term=9, reject=True))
        assert (group[1].raft.role, group[1].raft.term) == (Role.FOLLOWER, 9)

    def test_a_term_is_never_taken_back(self) -> None:
        group = Group(3)
        group.deliver(Message(MessageKind.HEARTBEAT, to=1, sender=2, term=9))
        group.work(1)
        group.crash(1)
        assert group[1].raft.term == 9
        group.deliver(Message(MessageKind.HEARTBEAT, to=1, sender=3, term=8))
        assert (group[1].raft.term, group[1].raft.leader) == (9, NO_NODE)

    def test_no_message_names_a_term_that_is_not_durable(self) -> None:
        """Else a candidate that restarts could win the same term twice, with two different logs."""
        group = Group(3)
        group[1].raft.campaign(group.now)
        ready = take(group[1])
        assert ready.messages == ()
        assert {message.kind for message in ready.messages_after_sync} == {MessageKind.VOTE}


class TestPaper52LeaderElection:
    """Raft paper 5.2, and figure 2."""

    def test_a_follower_that_hears_nothing_stands_for_election_at_its_deadline_and_not_before(self) -> None:
        """Raft paper 5.2."""
        group = Group(3)
        deadline = group[1].raft.next_deadline
        assert deadline is not None
        group[1].raft.wake(deadline - 0.001)
        assert role_of(group[1].raft) is Role.FOLLOWER
        group[1].raft.wake(deadline)
        assert role_of(group[1].raft) is Role.CANDIDATE

    def test_a_follower_that_hears_from_its_leader_stays_one(self) -> None:
        group = Group(3)
        group.elect(1)
        for _ in range(40):
            group.pass_time(HEARTBEAT_S)
            group.settle()
        assert [group[node].raft.leader for node in (1, 2, 3)] == [1, 1, 1]
        assert group[1].raft.term == 2

    def test_a_candidate_raises_its_term_and_votes_for_itself(self) -> None:
        group = Group(3)
        group[1].raft.campaign(group.now)
        ready = take(group[1])
        assert ready.hard_state == HardState(term=2, vote=1, commit=3)
        assert [(message.to, message.term) for message in ready.messages_after_sync] == [(2, 2), (3, 2)]

    @pytest.mark.parametrize(("voters", "needed"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (7, 4)])
    def test_a_candidate_leads_with_the_votes_of_a_majority_and_not_before(self, voters: int, needed: int) -> None:
        group = Group(voters)
        group[1].raft.campaign(group.now)
        group.work(1)
        for voter in range(2, needed + 1):
            assert role_of(group[1].raft) is Role.CANDIDATE
            vote = Message(MessageKind.VOTE_RESPONSE, to=1, sender=voter, term=2, request=candidacy(group))
            group.deliver(vote)
            group.deliver(vote)  # one voter counts once
        assert role_of(group[1].raft) is Role.LEADER

    def test_a_leader_makes_itself_known_at_once(self) -> None:
        group = Group(3)
        group[1].raft.campaign(group.now)
        group.settle(drop=lambda message: message.kind is MessageKind.APPEND)
        group.elect(2)
        assert [group[node].raft.leader for node in (1, 2, 3)] == [2, 2, 2]

    def test_a_candidate_that_hears_from_the_leader_of_its_term_follows(self) -> None:
        group = Group(3)
        group[1].raft.campaign(group.now)
        group.work(1)
        group.deliver(Message(MessageKind.APPEND, to=1, sender=2, term=2, index=3, log_term=1))
        assert (role_of(group[1].raft), group[1].raft.leader) == (Role.FOLLOWER, 2)

    def test_a_candidate_that_hears_from_the_leader_of_an_older_term_stays_one(self) -> None:
        group = Group(3)
        group.elect(2)
        group[1].raft.campaign(group.now)
        group.work(1)
        group.deliver(Message(MessageKind.HEARTBEAT, to=1, sender=2, term=2))
        assert (role_of(group[1].raft), group[1].raft.term) == (Role.CANDIDATE, 3)

    def test_after_a_split_vote_a_new_term_begins_and_one_wins(self) -> None:
        group = Group(4)
        for node in (1, 2):
            group[node].raft.campaign(group.now)
            group.work(node)
        for message in group.in_flight:  # 3 votes for 1, and 4 for 2
            if (message.sender, message.to) in {(1, 3), (2, 4), (1, 2), (2, 1)}:
                group.deliver(message)
        group.in_flight = []
        group.settle()
        assert {role_of(member.raft) for member in group.members.values()} <= {Role.CANDIDATE, Role.FOLLOWER}
        deadlines = {node: group[node].raft.next_deadline or 0.0 for node in (1, 2)}
        first = min(deadlines, key=lambda node: deadlines[node])
        group.pass_time(deadlines[first] - group.now, first)
        group.settle()
        assert (role_of(group[first].raft), group[first].raft.term) == (Role.LEADER, 3)

    def test_a_vote_is_durable_before_it_is_sent(self) -> None:
        """Raft paper, figure 2: updated on stable storage before responding."""
        group = Group(3)
        voter = group[1]
        group.deliver(Message(MessageKind.VOTE, to=1, sender=2, term=5, index=3, log_term=1))
        ready = take(voter)
        assert ready.must_sync
        assert ready.messages == ()
        assert [message.kind for message in ready.messages_after_sync] == [MessageKind.VOTE_RESPONSE]
        assert ready.hard_state == HardState(term=5, vote=2, commit=3)

    def test_a_node_votes_once_in_a_term_also_after_a_power_failure(self) -> None:
        """Raft paper 5.2."""
        group = Group(3)
        assert not request_vote(group, 1, 2, term=5, last=(1, 3))[0].reject
        assert request_vote(group, 1, 3, term=5, last=(1, 3))[0].reject
        group.crash(1)
        assert request_vote(group, 1, 3, term=5, last=(1, 3))[0].reject
        assert not request_vote(group, 1, 2, term=5, last=(1, 3))[0].reject, "the same vote may be given again"

    def test_the_candidates_own_vote_counts_when_it_is_durable(self) -> None:
        group = Group(1)
        group[1].raft.campaign(group.now)
        take(group[1])
        assert role_of(group[1].raft) is Role.CANDIDATE
        group[1].log.sync()
        group[1].raft.advance()
        assert role_of(group[1].raft) is Role.LEADER

    def test_a_node_that_grants_its_vote_gives_the_candidate_time(self) -> None:
        """Raft paper, figure 2: a follower's election timeout begins anew when it grants a vote."""
        group = Group(3)
        group.now += 0.9
        request_vote(group, 1, 2, term=5, last=(1, 3))
        deadline = group[1].raft.next_deadline
        assert deadline is not None
        assert deadline >= group.now + ELECTION_S
        group.now += 0.05
        request_vote(group, 1, 2, term=5, last=(1, 3))
        assert group[1].raft.next_deadline == pytest.approx(deadline + 0.05)

    def test_a_candidate_that_gets_no_vote_does_not_put_off_the_turn_of_who_refused_it(self) -> None:
        """Raft paper 5.2: one with a fast clock could else keep the only one that can win from standing."""
        group = Group(3)
        append(group, 1, term=2, after=(1, 3), terms=[2, 2])
        deadline = group[1].raft.next_deadline
        group.now += ELECTION_S / 2
        (answer,) = request_vote(group, 1, 2, term=7, last=(1, 3))
        assert answer.reject
        assert group[1].raft.next_deadline == deadline
        (answer,) = request_vote(group, 1, 2, term=8, last=(2, 5))
        assert not answer.reject
        assert group[1].raft.next_deadline != deadline

    def test_a_candidate_that_loses_waits_as_a_follower(self) -> None:
        group = Group(3)
        group[1].raft.campaign(group.now)
        group.work(1)
        for voter in (2, 3):
            group.deliver(Message(MessageKind.VOTE_RESPONSE, to=1, sender=voter, term=2, reject=True))
        assert role_of(group[1].raft) is Role.FOLLOWER

    def test_election_timeouts_differ_and_stay_within_once_and_twice_the_minimum(self) -> None:
        """Raft paper 5.2."""
        group = Group(3)
        timeouts = set()
        for _ in range(20):
            group[1].raft._core.become_follower(group[1].raft.term + 1, 2)
            deadline = group[1].raft.next_deadline
            assert deadline is not None
            timeouts.add(deadline - group.now)
        assert len(timeouts) == 20
        assert all(ELECTION_S <= timeout <= 2 * ELECTION_S for timeout in timeouts)


class TestPaper53LogReplication:
    """Raft paper 5.3, and figure 2."""

    def test_a_proposal_reaches_every_state_machine(self) -> None:
        group = Group(3)
        group.elect(1)
        group.propose(1, b"a", b"b")
        group.settle()
        assert [group[node].data() for node in (1, 2, 3)] == [[b"a", b"b"]] * 3

    def test_an_entry_is_committed_when_a_majority_has_it_and_not_before(self) -> None:
        group = Group(5)
        leader = group.elect(1)
        group.propose(1, b"a")
        group.settle(1, 2, drop=cut(3, 4, 5))
        assert leader.data() == []
        group.in_flight = []
        group.pass_time(HEARTBEAT_S, 1)
        group.settle(1, 2, 3)
        assert leader.data() == [b"a"]

    def test_a_leader_never_changes_what_is_in_its_own_log(self) -> None:
        """Figure 3: leader append-only."""
        group = Group(3)
        append(group, 1, term=2, after=(1, 3), terms=[2, 2])
        before = group[1].entries()
        leader = group.elect(1)
        group.propose(1, b"a")
        group.settle()
        assert [*leader.entries()][: len(before)] == [*before]

    def test_an_append_is_refused_where_the_entry_before_it_differs(self) -> None:
        """The consistency check."""
        group = Group(3)
        append(group, 1, term=2, after=(1, 3), terms=[2, 2])
        assert append(group, 1, term=3, after=(3, 5), terms=[3]).reject, "another term at 5"
        assert append(group, 1, term=3, after=(3, 6), terms=[3]).reject, "nothing at 6"
        assert terms_of(group[1]) == [1, 1, 1, 2, 2]

    @pytest.mark.parametrize(
        "follower",
        [
            [1, 1, 1, 4, 4, 5, 5, 6, 6],
            [1, 1, 1, 4],
            [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
            [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
            [1, 1, 1, 4, 4, 4, 4],
            [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
        ],
        ids="abcdef",
    )
    def test_a_leader_makes_every_log_of_figure_7_like_its_own(self, follower: list[int]) -> None:
        group = Group(3)
        of_leader = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6]
        for node, terms in ((1, of_leader), (2, follower), (3, of_leader)):
            append(group, node, term=max(terms), after=(1, 3), terms=terms[3:])
        group.deliver(Message(MessageKind.HEARTBEAT, to=1, sender=3, term=7))
        group.elect(1)
        assert terms_of(group[2]) == terms_of(group[1]) == [*of_leader, 8]

    def test_an_append_that_came_late_cuts_nothing_off(self) -> None:
        """Raft paper, figure 2: delete only on a conflict."""
        group = Group(3)
        append(group, 1, term=2, after=(1, 3), terms=[2, 2, 2])
        answer = append(group, 1, term=2, after=(1, 3), terms=[2])
        assert terms_of(group[1]) == [1, 1, 1, 2, 2, 2]
        assert answer.index == 4, "it acknowledges what this append says and not what it knows otherwise"

    def test_a_conflict_cuts_off_all_that_follows(self) -> None:
        """Raft paper, figure 2."""
        group = Group(3)
        append(group, 1, term=2, after=(1, 3), terms=[2, 2, 2])
        append(group, 1, term=3, after=(2, 4), terms=[3])
        assert terms_of(group[1]) == [1, 1, 1, 2, 3]
        group.crash(1)
        assert terms_of(group[1]) == [1, 1, 1, 2, 3]

    def test_the_commit_index_ends_where_the_append_ends(self) -> None:
        """Raft paper, figure 2: min(leaderCommit, index of last new entry). What follows may not be the leader's."""
        group = Group(3)
        append(group, 1, term=2, after=(1, 3), terms=[2, 2, 2])
        append(group, 1, term=3, after=(2, 4), terms=[], commit=6)
        assert group[1].raft.commit_index == 4

    def test_an_entry_is_acknowledged_when_it_is_durable(self) -> None:
        """Raft paper, figure 2."""
        group = Group(3)
        entry = Entry(2, 4, data=b"x")
        group.deliver(Message(MessageKind.APPEND, to=1, sender=2, term=1, index=3, log_term=1, entries=(Entry(1, 4),)))
        ready = take(group[1])
        assert ready.must_sync
        assert [message.kind for message in ready.messages_after_sync] == [MessageKind.APPEND_RESPONSE]
        assert not [message for message in ready.messages if message.kind is MessageKind.APPEND_RESPONSE]
        assert entry.index == ready.entries[0].index

    def test_a_leader_skips_a_conflicting_term_in_one_step(self) -> None:
        """Raft paper, end of 5.3."""
        group = Group(3)
        append(group, 2, term=2, after=(1, 3), terms=[2] * 50)
        append(group, 1, term=3, after=(1, 3), terms=[3] * 50)
        rejections: list[Message] = []
        group.on_send = lambda message: rejections.append(message) if message.reject else None
        group.elect(1)
        assert terms_of(group[2]) == terms_of(group[1])
        assert len([message for message in rejections if message.sender == 2]) == 1

    def test_a_commit_index_alone_needs_no_sync(self) -> None:
        group = Group(3)
        append(group, 1, term=2, after=(1, 3), terms=[2])
        group.deliver(Message(MessageKind.HEARTBEAT, to=1, sender=3, term=2, commit=4))
        ready = take(group[1])
        assert ready.hard_state == HardState(2, 0, 4)
        assert not ready.must_sync


class TestPaper54Safety:
    """Raft paper 5.4.1 and 5.4.2."""

    @pytest.mark.parametrize(
        ("last", "granted"), [((2, 5), True), ((2, 6), True), ((3, 1), True), ((2, 4), False), ((1, 9), False)]
    )
    def test_a_vote_needs_a_log_that_is_as_up_to_date(self, last: tuple[int, int], granted: bool) -> None:
        """Raft paper 5.4.1."""
        group = Group(3)
        append(group, 1, term=2, after=(1, 3), terms=[2, 2])
        assert request_vote(group, 1, 2, term=7, last=last)[0].reject is not granted

    def test_entries_of_earlier_terms_are_not_committed_by_counting(self) -> None:
        """Raft paper 5.4.2, figure 8: they could still be replaced, though a majority has them."""
        group = Group(3)
        for node in (1, 2):
            append(group, node, term=2, after=(1, 3), terms=[2])
        group[1].raft.campaign(group.now)
        group.settle(1, 2, drop=lambda message: message.kind is MessageKind.APPEND)
        leader = group[1].raft
        assert leader.role is Role.LEADER
        group.deliver(Message(MessageKind.APPEND_RESPONSE, to=1, sender=2, term=leader.term, index=4))
        assert leader.commit_index == 3
        group.deliver(Message(MessageKind.APPEND_RESPONSE, to=1, sender=2, term=leader.term, index=5))
        assert leader.commit_index == 5


class TestPaper55Crashes:
    """Raft paper 5.5: requests that fail are tried again, and may come twice."""

    def test_an_append_that_comes_twice_is_acknowledged_twice_and_changes_nothing(self) -> None:
        group = Group(3)
        answers = [append(group, 1, term=2, after=(1, 3), terms=[2, 2]) for _ in range(2)]
        assert answers[0] == answers[1]
        assert terms_of(group[1]) == [1, 1, 1, 2, 2]

    def test_a_follower_that_was_away_is_sent_what_it_missed(self) -> None:
        group = Group(3)
        group.elect(1)
        group.propose(1, b"a", b"b")
        group.settle(1, 2)
        group.in_flight = []
        group.crash(3)
        group.pass_time(HEARTBEAT_S, 1)
        group.settle()
        assert group[3].data() == [b"a", b"b"]

    def test_a_vote_that_comes_twice_is_the_same_vote(self) -> None:
        group = Group(3)
        for _ in range(2):
            (answer,) = request_vote(group, 1, 2, term=5, last=(1, 3))
            assert not answer.reject


class TestPaper8Clients:
    """Raft paper 8."""

    def test_a_leader_begins_its_term_with_an_empty_entry(self) -> None:
        """By which it finds out what is committed."""
        group = Group(3)
        append(group, 1, term=2, after=(1, 3), terms=[2])
        append(group, 2, term=2, after=(1, 3), terms=[2])
        leader = group.elect(1)
        last = leader.entries()[-1]
        assert (last.term, last.kind, last.data) == (3, EntryKind.NORMAL, b"")
        assert leader.raft.commit_index == last.index

    def test_a_follower_forwards_a_proposal_to_the_leader(self) -> None:
        group = Group(3)
        group.elect(1)
        group.propose(2, b"a", b"b")
        group.settle()
        assert group[3].data() == [b"a", b"b"]

    def test_a_proposal_without_a_leader_is_dropped(self) -> None:
        group = Group(3)
        with pytest.raises(ProposalDropped, match="no leader"):
            group.propose(1, b"a")
        with pytest.raises(ValueError, match="nothing is proposed"):
            group.propose(1)


class TestThesis310Transfer:
    """Thesis 3.10."""

    def test_leadership_moves_to_a_voter_that_has_the_whole_log(self) -> None:
        """Thesis 3.10: with TimeoutNow, in spite of pre-vote and lease."""
        group = Group(3, pre_vote=True, check_quorum=True)
        group.elect(1)
        group.propose(1, b"a")
        group[1].raft.transfer_leadership(2)
        with pytest.raises(ProposalDropped, match="is handing over"):
            group.propose(1, b"b")
        group.settle()
        assert group[2].raft.role is Role.LEADER
        assert group[2].data() == [b"a"]

    def test_a_follower_passes_the_wish_for_a_transfer_on(self) -> None:
        group = Group(3)
        group.elect(1)
        group[3].raft.transfer_leadership(3)
        group.settle()
        assert group[3].raft.role is Role.LEADER
        group[3].raft.transfer_leadership(3)
        group[3].raft.transfer_leadership(8)
        group.settle()
        assert group[3].raft.role is Role.LEADER

    def test_a_transfer_that_comes_to_nothing_is_given_up(self) -> None:
        """Thesis 3.10: after about an election timeout."""
        group = Group(3)
        leader = group.elect(1)
        leader.raft.transfer_leadership(2)
        leader.raft.transfer_leadership(2)
        group.settle(drop=cut(2))
        group.pass_time(ELECTION_S, 1)
        group.propose(1, b"a")
        group.settle()
        assert group[3].data() == [b"a"]


class TestThesis423Disruption:
    """Thesis 4.2.3: removed servers, and links that work one way, do not depose a leader."""

    def test_who_hears_from_a_leader_grants_no_vote(self) -> None:
        """Thesis 4.2.3: removed servers and one-sided links cannot depose a leader."""
        group = Group(3, check_quorum=True)
        group.elect(1)
        assert request_vote(group, 2, 3, term=9, last=(9, 99)) == []
        assert group[2].raft.term == 2
        group.now += ELECTION_S
        assert not request_vote(group, 2, 3, term=9, last=(8, 99))[0].reject

    def test_an_old_leader_that_is_still_heard_of_learns_the_new_term(self) -> None:
        """Else its followers' votes were ignored for ever by the node that has moved on."""
        group = Group(3, check_quorum=True)
        group.elect(1)
        group[3].raft.campaign(group.now)
        group.settle(drop=cut(1, 2))
        assert group[3].raft.term == 3
        group.pass_time(HEARTBEAT_S, 1)
        group.settle()
        assert group[1].raft.term == 3


class TestThesis62CheckQuorum:
    """Thesis 6.2: a leader steps down when a quorum has not answered for an election timeout."""

    def test_a_leader_without_a_quorum_steps_down(self) -> None:
        """Thesis 6.2."""
        group = Group(3, check_quorum=True)
        leader = group.elect(1)
        group.pass_time(ELECTION_S, 1)
        assert leader.raft.role is Role.LEADER, "the votes and answers of its election still count"
        group.pass_time(ELECTION_S, 1)
        assert (leader.raft.role, leader.raft.leader) == (Role.FOLLOWER, NO_NODE)

    def test_a_leader_with_a_quorum_stays(self) -> None:
        """Thesis 6.2."""
        group = Group(3, check_quorum=True)
        group.elect(1)
        for _ in range(40):
            group.pass_time(HEARTBEAT_S, 1)
            group.settle(drop=cut(3))
        assert role_of(group[1].raft) is Role.LEADER


class TestThesis96PreVote:
    """Thesis 9.6."""

    def test_a_pre_vote_leaves_terms_and_votes_alone(self) -> None:
        """Thesis 9.6: a node that was cut off disturbs nobody when it comes back."""
        group = Group(3, pre_vote=True)
        group.elect(1)
        for _ in range(5):
            group.pass_time(2 * ELECTION_S, 3)
            group.settle(drop=cut(3))
        assert group[3].raft.role is Role.PRE_CANDIDATE
        assert group[3].raft.term == group[1].raft.term == 2
        group.propose(1, b"a")
        group.settle()
        group.pass_time(HEARTBEAT_S, 1)
        group.settle()
        assert (group[1].raft.role, group[1].raft.term) == (Role.LEADER, 2)
        assert group[3].data() == [b"a"]

    def test_a_pre_vote_is_refused_to_a_log_that_is_behind(self) -> None:
        """Thesis 9.6."""
        group = Group(3, pre_vote=True)
        group.elect(1)
        group.propose(1, b"a")
        group.settle(drop=cut(3))
        group[3].raft.campaign(group.now)
        group.settle()
        assert (group[3].raft.role, group[3].raft.term) == (Role.FOLLOWER, 2)

    def test_a_pre_vote_won_leads_to_an_election(self) -> None:
        group = Group(3, pre_vote=True)
        group.elect(1)
        group.elect(2)
        assert {member.raft.leader for member in group.members.values()} == {2}

    def test_a_pre_vote_of_an_old_term_is_answered(self) -> None:
        group = Group(3, pre_vote=True)
        group.elect(1)
        group.elect(2)
        group.deliver(Message(MessageKind.PRE_VOTE, to=1, sender=3, term=2, index=3, log_term=1))
        group.work(1)
        (answer,) = group.in_flight
        assert (answer.kind, answer.reject, answer.term) == (MessageKind.PRE_VOTE_RESPONSE, True, 3)


class TestThesis10Performance:
    """Thesis 10.2.1: the leader writes to its own disk while its followers do."""

    def test_a_leader_sends_its_entries_while_its_own_disk_writes_them(self) -> None:
        """Thesis 10.2.1."""
        group = Group(3)
        leader = group.elect(1)
        group.propose(1, b"a")
        ready = take(leader)
        assert [message.kind for message in ready.messages] == [MessageKind.APPEND] * 2
        assert ready.messages_after_sync == ()

    def test_a_leader_counts_itself_only_when_its_own_disk_has_the_entries(self) -> None:
        """Thesis 10.2.1."""
        group = Group(3)
        leader = group.elect(1)
        group.propose(1, b"a")
        index = leader.raft.last_index
        take(leader)
        group.deliver(Message(MessageKind.APPEND_RESPONSE, to=1, sender=2, term=2, index=index))
        assert leader.raft.commit_index == index - 1
        leader.log.sync()
        leader.raft.advance()
        assert leader.raft.commit_index == index

    def test_followers_may_commit_before_the_leaders_disk_is_done(self) -> None:
        """Thesis 10.2.1."""
        group = Group(3)
        leader = group.elect(1)
        group.propose(1, b"a")
        index = leader.raft.last_index
        take(leader)
        for follower in (2, 3):
            group.deliver(Message(MessageKind.APPEND_RESPONSE, to=1, sender=follower, term=2, index=index))
        assert leader.raft.commit_index == index


class TestFlowControl:
    """What is sent ahead and taken on is bounded (thesis 10.2.2)."""

    def test_appends_keep_within_their_bytes_and_a_large_entry_goes_alone(self) -> None:
        group = Group(2, append_bytes_max=10)
        group.elect(1)
        sent: list[Message] = []
        group.on_send = lambda message: sent.append(message) if message.entries else None
        group.settle(1)
        group.propose(1, b"a" * 4, b"b" * 4, b"c" * 4, b"d" * 30, b"e")
        group.settle()
        assert [[entry.data[:1] for entry in message.entries] for message in sent] == [
            [b"a", b"b"],
            [b"c"],
            [b"d"],
            [b"e"],
        ]

    def test_no_more_is_sent_ahead_than_the_window_holds(self) -> None:
        group = Group(2, inflight_messages_max=3)
        group.elect(1)
        for _ in range(10):
            group.propose(1, b"a")
        group.work(1)
        assert len([message for message in group.in_flight if message.entries]) == 3
        group.settle()
        assert len(group[2].data()) == 10

    def test_a_lost_window_is_found_out_by_the_next_heartbeat(self) -> None:
        group = Group(2, inflight_messages_max=3)
        group.elect(1)
        for _ in range(5):
            group.propose(1, b"a")
        group.work(1)
        group.in_flight = []
        group.pass_time(HEARTBEAT_S)
        group.settle()
        assert len(group[2].data()) == 5

    def test_a_leader_refuses_what_it_could_not_hold_uncommitted(self) -> None:
        group = Group(3, uncommitted_bytes_max=10)
        leader = group.elect(1)
        group.propose(1, b"a" * 30)
        before = leader.raft.last_index
        with pytest.raises(Overloaded, match="30 bytes are uncommitted"):
            group.propose(1, b"b")
        assert leader.raft.last_index == before
        group.settle()
        group.propose(1, b"b")
        group.settle()
        assert group[2].data() == [b"a" * 30, b"b"]

    def test_a_leader_steps_back_when_messages_were_lost_for_certain(self) -> None:
        group = Group(2)
        leader = group.elect(1)
        group.propose(1, b"a")
        group.work(1)
        group.in_flight = []
        leader.raft.report_unreachable(2)
        leader.raft.report_unreachable(9)
        group.propose(1, b"b")
        group.settle()
        assert group[2].data() == [b"a", b"b"]


class TestForgottenLeaders:
    """As in etcd-io/raft."""

    def test_a_forgotten_leader_leaves_the_term_as_it_is(self) -> None:
        group = Group(3)
        group.elect(1)
        group[2].raft.forget_leader()
        assert (group[2].raft.leader, group[2].raft.term) == (NO_NODE, 2)
        group.pass_time(HEARTBEAT_S, 1)
        group.settle()
        assert group[2].raft.leader == 1

    def test_a_leader_is_not_forgotten_where_reads_rely_on_its_lease(self) -> None:
        group = Group(3, check_quorum=True, lease_reads=True)
        group.now += ELECTION_S
        group.elect(1)
        group[2].raft.forget_leader()
        assert group[2].raft.leader == 1


class TestPeersThatCannotBeRight:
    def test_a_second_leader_of_a_term_is_refused(self) -> None:
        group = Group(3)
        group.elect(1)
        with pytest.raises(MalformedMessage, match="node 2 claims to lead term 2"):
            group.deliver(Message(MessageKind.HEARTBEAT, to=1, sender=2, term=2))

    def test_an_acknowledgement_beyond_the_log_is_refused(self) -> None:
        group = Group(3)
        group.elect(1)
        with pytest.raises(MalformedMessage, match="acknowledges index 99"):
            group.deliver(Message(MessageKind.APPEND_RESPONSE, to=1, sender=2, term=2, index=99))

    def test_a_disk_that_went_back_in_time_stops_the_node(self) -> None:
        group = Group(3)
        with pytest.raises(LostLog, match="acknowledged index 9, but its log ends at 3"):
            group.deliver(Message(MessageKind.HEARTBEAT, to=1, sender=2, term=2, commit=9))

    def test_a_change_that_does_not_decode_never_gets_into_the_log(self) -> None:
        group = Group(3)
        leader = group.elect(1)
        before = leader.raft.last_index
        entry = Entry(0, 0, EntryKind.CHANGE, b"\xff")
        with pytest.raises(MalformedMessage, match="does not decode"):
            group.deliver(Message(MessageKind.PROPOSE, to=1, sender=2, entries=(entry,)))
        assert leader.raft.last_index == before
