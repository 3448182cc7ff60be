"""Changes of the configuration (thesis 4), and what new, removed and restarted nodes make of them."""

import pytest

from consensus.errors import ConfigurationRefused, ProposalDropped, Refusal
from consensus.founding import founding
from consensus.messages import (
    NO_NODE,
    ConfChange,
    ConfChangeSet,
    Configuration,
    EntryKind,
    HardState,
    Message,
    MessageKind,
    Role,
    Transition,
)
from tests.consensus.group import ELECTION_S, HEARTBEAT_S, Group, add_learner, add_voter, cut, remove, role_of


def refusal(group: Group, node: int, change: ConfChange | ConfChangeSet) -> Refusal | None:
    refused = group[node].raft.refusal(change)
    return None if refused is None else refused.refusal


class TestFounding:
    def test_the_founder_alone_elects_itself(self) -> None:
        group = Group(1)
        assert group[1].raft.configuration == Configuration(voters=(1,))
        group.elect(1)

    def test_what_a_founder_writes_is_committed_from_the_start(self) -> None:
        hard_state, entries = founding([7])
        assert hard_state == HardState(term=1, vote=NO_NODE, commit=1)
        assert [(entry.term, entry.index, entry.kind) for entry in entries] == [(1, 1, EntryKind.CHANGE)]

    @pytest.mark.parametrize("founders", [[], [1, 1]])
    def test_founders_are_named_once_each(self, founders: list[int]) -> None:
        with pytest.raises(ValueError, match="name at least one node, and none twice"):
            founding(founders)

    def test_a_node_without_a_configuration_waits_for_ever(self) -> None:
        group = Group(1)
        group.add(2)
        assert group[2].raft.next_deadline is None
        group.pass_time(1000.0, 2)
        group[2].raft.campaign(group.now)
        assert role_of(group[2].raft) is Role.FOLLOWER
        assert group[2].raft.ready() is None


class TestThesis421Joining:
    def test_a_node_with_an_empty_log_learns_everything_from_it(self) -> None:
        """Thesis 4.2.1."""
        group = Group(1)
        group.elect(1)
        group.propose(1, b"a")
        group.add(2)
        group.change(1, add_learner(2))
        assert group[2].data() == [b"a"]
        assert group[2].raft.configuration == Configuration(voters=(1,), learners=(2,))
        group.change(1, add_voter(2))
        assert group[2].raft.configuration == Configuration(voters=(1, 2))

    def test_a_learner_counts_for_nothing(self) -> None:
        """Thesis 4.2.1."""
        group = Group(1)
        leader = group.elect(1)
        group.add(2)
        group.change(1, add_learner(2))
        group.propose(1, b"a")
        group.settle(drop=cut(2))
        assert leader.data() == [b"a"]

    def test_a_learner_does_not_stand_for_election(self) -> None:
        """Thesis 4.2.1."""
        group = Group(1)
        group.elect(1)
        group.add(2)
        group.change(1, add_learner(2))
        assert group[2].raft.next_deadline is None
        group.pass_time(100 * ELECTION_S, 2)
        group[2].raft.campaign(group.now)
        assert role_of(group[2].raft) is Role.FOLLOWER

    def test_a_leader_does_not_hand_over_to_a_learner(self) -> None:
        group = Group(1)
        group.elect(1)
        group.add(2)
        group.change(1, add_learner(2))
        group[1].raft.transfer_leadership(2)
        group.settle()
        assert group[1].raft.role is Role.LEADER

    def test_a_learner_that_a_candidate_takes_for_a_voter_votes(self) -> None:
        """It may be one already and not know: a group could be left without a quorum otherwise."""
        group = Group(2)
        group.elect(1)
        group.add(3)
        group.change(1, add_learner(3))
        group[1].raft.propose_change(add_voter(3))
        group.settle(drop=cut(3))
        group[2].raft.campaign(group.now)
        group.settle(2, 3)
        assert role_of(group[2].raft) is Role.LEADER
        assert group[3].raft.configuration.voters == (1, 2, 3)

    def test_a_restarted_node_finds_its_configuration_in_its_log(self) -> None:
        group = Group(1)
        group.elect(1)
        group.add(2)
        group.change(1, add_voter(2))
        group.propose(1, b"a")
        group.settle()
        for node in (1, 2):
            group.crash(node)
            assert group[node].raft.configuration == Configuration()
        group.settle()
        group.elect(2)
        assert group[1].raft.configuration == group[2].raft.configuration == Configuration(voters=(1, 2))
        assert group[1].data() == group[2].data() == [b"a"]

    def test_nobody_stands_for_election_while_a_change_waits_to_be_applied(self) -> None:
        group = Group(1)
        leader = group.elect(1)
        leader.raft.propose_change(add_voter(2))
        group.begin(leader)
        group.finish(leader)
        assert leader.raft.commit_index == leader.raft.last_index > leader.raft.applied_index
        leader.raft._core.become_follower(leader.raft.term, NO_NODE)
        leader.raft.campaign(group.now)
        assert leader.raft.role is Role.FOLLOWER

    def test_a_newcomer_is_not_taken_for_dead_before_it_could_answer(self) -> None:
        group = Group(1, check_quorum=True)
        leader = group.elect(1)
        leader.raft.propose_change(add_voter(2))
        group.settle()
        group.pass_time(ELECTION_S, 1)
        assert leader.raft.role is Role.LEADER
        group.pass_time(ELECTION_S, 1)
        assert role_of(leader.raft) is Role.FOLLOWER


class TestThesis41OneAtATime:
    def test_a_change_waits_until_the_last_one_is_applied(self) -> None:
        """Thesis 4.1."""
        group = Group(3)
        leader = group.elect(1)
        leader.raft.propose_change(add_learner(4))
        assert refusal(group, 1, add_learner(5)) is Refusal.PENDING
        group.settle()
        assert refusal(group, 1, add_learner(5)) is None

    def test_a_new_leader_waits_until_all_it_found_is_applied(self) -> None:
        """Thesis 4.1: there may be a change among it."""
        group = Group(3)
        group.elect(1)
        group.propose(1, b"a")
        group.settle(1, 2, drop=lambda message: message.kind is MessageKind.APPEND_RESPONSE)
        group[2].raft.campaign(group.now)
        group.settle(2, 3, drop=lambda message: message.kind is MessageKind.APPEND_RESPONSE)
        assert role_of(group[2].raft) is Role.LEADER
        assert refusal(group, 2, add_learner(4)) is Refusal.PENDING

    def test_a_refused_change_leaves_an_empty_entry(self) -> None:
        group = Group(3)
        leader = group.elect(1)
        leader.raft.propose_change(remove(3))
        leader.raft.propose_change(remove(2))
        group.settle()
        assert leader.raft.configuration == Configuration(voters=(1, 2))
        assert [entry.kind for entry in leader.entries()][-2:] == [EntryKind.CHANGE, EntryKind.NORMAL]

    def test_a_change_that_does_not_fit_is_refused_before_it_is_in_the_log(self) -> None:
        group = Group(1)
        group.elect(1)
        assert refusal(group, 1, remove(1)) is Refusal.REMOVES_ALL_VOTERS
        assert refusal(group, 1, ConfChangeSet()) is Refusal.NOT_JOINT
        with pytest.raises(ConfigurationRefused, match="leave no voter"):
            group[1].raft.apply_change(remove(1))

    def test_without_the_check_the_application_has_its_way(self) -> None:
        group = Group(1, check_changes=False)
        leader = group.elect(1)
        leader.raft.propose_change(add_learner(2))
        leader.raft.propose_change(add_learner(3))
        group.settle()
        assert leader.raft.configuration.learners == (2, 3)


class TestThesis422Removal:
    def test_a_leader_that_removes_itself_steps_down_when_that_is_committed(self) -> None:
        """Thesis 4.2.2. Until then it leads without counting itself."""
        group = Group(3)
        leader = group.elect(1)
        leader.raft.propose_change(remove(1))
        group.work(1)
        assert leader.raft.role is Role.LEADER
        group.settle()
        assert (leader.raft.role, leader.raft.leader) == (Role.FOLLOWER, NO_NODE)
        assert group[2].raft.configuration == Configuration(voters=(2, 3))
        group.elect(2)

    def test_a_removed_leader_that_stays_takes_no_proposals(self) -> None:
        group = Group(3, step_down_on_removal=False)
        leader = group.elect(1)
        group.change(1, remove(1))
        assert leader.raft.role is Role.LEADER
        with pytest.raises(ProposalDropped, match="leader of term 2 is removed"):
            group.propose(1, b"a")

    def test_a_removed_leader_that_stays_commits_what_those_who_stay_have(self) -> None:
        """Its own disk is behind: until its removal was applied, it would have had to have the entry as well."""
        group = Group(2, step_down_on_removal=False, async_storage=True)
        leader = group.elect(1)
        group.settle()
        leader.raft.propose_change(remove(1))
        group.begin(leader)
        group.propose(1, b"a")
        group.begin(leader)
        group.write(leader)
        group.sync(leader)
        group.settle(2)
        group.deliver_all(group.take())
        while group.begin(leader) or group.apply(leader):
            pass
        assert leader.raft.configuration == Configuration(voters=(2,))
        assert leader.raft.commit_index == leader.raft.last_index

    @pytest.mark.parametrize("change", [remove(4), add_learner(4)], ids=["removed", "demoted"])
    def test_who_learns_of_its_removal_from_a_late_refusal_does_not_go_on_standing(self, change: ConfChange) -> None:
        group = Group(4, check_quorum=True, pre_vote=True)
        group.now += ELECTION_S
        group.elect(1)
        group.settle()
        here, knows = group[4].raft, group[2].raft
        group[1].raft.propose_change(change)
        index = group[1].raft.last_index
        group.settle(drop=lambda message: message.commit >= index and message.to != 2)
        assert (knows.commit_index, here.commit_index, here.last_index) == (index, index - 1, index)
        group.crash(1)
        group.take()
        group.now += 2 * ELECTION_S
        for node in (2, 4):
            group[node].raft.campaign(group.now)
        for _ in range(2):
            for node in (2, 3, 4):
                group.work(node)
            group.deliver_all(group.take(lambda message: message.to != 1))
        for node in (2, 4):
            group.work(node)
        assert role_of(knows) is role_of(here) is Role.CANDIDATE
        group.deliver_all(group.take(lambda message: (message.sender, message.to) == (4, 2)))
        group.take()
        group.work(2)
        slow_refusal = group.take(lambda message: message.to == 4)
        group.pass_time(2 * ELECTION_S, 4)
        group.work(4)
        assert role_of(here) is Role.PRE_CANDIDATE
        questions = group.take(lambda message: message.to in (1, 3))
        group.deliver_all(slow_refusal)
        assert here.commit_index == index
        group.deliver_all(questions)
        group.settle(1, 3, 4)
        assert role_of(here) is Role.FOLLOWER
        assert 4 not in here.configuration.voters

    def test_fewer_voters_may_commit_what_more_could_not(self) -> None:
        group = Group(2)
        leader = group.elect(1)
        group[1].raft.propose_change(remove(2))
        group.propose(1, b"a")
        kinds = (MessageKind.APPEND,)
        group.settle(drop=lambda message: message.kind in kinds and len(message.entries) != 1)
        assert leader.raft.configuration == Configuration(voters=(1,))
        assert leader.data() == [b"a"]

    def test_a_transfer_to_a_node_that_is_removed_is_given_up(self) -> None:
        group = Group(3)
        leader = group.elect(1)
        leader.raft.propose_change(remove(3))
        leader.raft.transfer_leadership(3)
        group.settle(drop=cut(3))
        group.propose(1, b"a")
        group.settle()
        assert leader.data() == [b"a"]

    def test_a_removed_node_cannot_stand_for_election(self) -> None:
        group = Group(3)
        group.elect(1)
        group.change(1, remove(3))
        group.pass_time(HEARTBEAT_S)
        group.settle()
        group[3].raft.campaign(group.now)
        assert group[3].raft.role is Role.FOLLOWER

    def test_a_refused_vote_tells_what_is_committed(self) -> None:
        """A leader removes itself and is gone before anyone hears that the removal is committed.

        Its own log is longer than all others, so it grants no vote, and the others would need it.
        """
        group = Group(4)
        leader = group.elect(1)
        leader.raft.propose_change(remove(1))
        group.propose(1, b"lost")

        def lost(message: Message) -> bool:
            beyond = message.index + len(message.entries) > 6
            return cut(4)(message) or (message.kind is MessageKind.APPEND and (beyond or message.commit > 5))

        group.settle(drop=lost)
        assert leader.raft.configuration == Configuration(voters=(2, 3, 4))
        assert {group[node].raft.commit_index for node in (2, 3)} == {5}
        group[2].raft.campaign(group.now)
        group.settle(drop=cut(4))
        assert role_of(group[2].raft) is Role.FOLLOWER
        assert group[2].raft.configuration == Configuration(voters=(2, 3, 4))
        group[2].raft.campaign(group.now)
        group.settle(drop=cut(1, 4))
        assert role_of(group[2].raft) is Role.LEADER


class TestThesis43JointConsensus:
    def test_several_voters_change_through_a_joint_configuration(self) -> None:
        """Thesis 4.3."""
        group = Group(3)
        group.elect(1)
        group.add(4)
        seen = []
        changes = ConfChangeSet((remove(3), add_voter(4), add_learner(2)))
        group[1].raft.propose_change(changes)
        while group.in_flight or any(group.begin(member) for member in group.members.values()):
            for member in group.members.values():
                if member.ready:
                    group.finish(member)
                    seen.append(group[1].raft.configuration)
            due, group.in_flight = group.in_flight, []
            for message in due:
                group.deliver(message)
        assert Configuration((1, 4), (1, 2, 3), (), (2,), True) in seen
        assert seen[-1] == Configuration(voters=(1, 4), learners=(2,))

    def test_a_joint_configuration_needs_both_majorities(self) -> None:
        """Thesis 4.3."""
        group = Group(3)
        leader = group.elect(1)
        group.change(1, ConfChangeSet((remove(2), remove(3)), Transition.JOINT_EXPLICIT))
        assert leader.raft.configuration == Configuration((1,), (1, 2, 3))
        group.propose(1, b"a")
        group.settle(drop=cut(2, 3))
        assert leader.data() == []
        group.settle()
        group.pass_time(HEARTBEAT_S)
        group.settle()
        assert leader.data() == [b"a"]
        assert refusal(group, 1, add_voter(4)) is Refusal.ALREADY_JOINT
        group.change(1, ConfChangeSet())
        assert leader.raft.configuration == Configuration((1,))

    def test_leaving_is_put_off_by_a_transfer_and_not_forgotten(self) -> None:
        group = Group(3)
        leader = group.elect(1)
        leader.raft.propose_change(ConfChangeSet((remove(3),), Transition.JOINT_IMPLICIT))
        leader.raft.transfer_leadership(2)
        group.settle(drop=lambda message: message.kind is MessageKind.TIMEOUT_NOW)
        assert leader.raft.configuration.is_joint
        group.pass_time(ELECTION_S, 1)
        group.settle()
        assert leader.raft.configuration == Configuration((1, 2))
