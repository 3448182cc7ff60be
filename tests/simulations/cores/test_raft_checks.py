"""Each invariant of Raft is noticed where it is broken, and not where it holds."""

import contextlib
from collections.abc import Iterable

import pytest

from consensus.messages import Configuration, Entry, HardState, Message, MessageKind, ReadState
from simulations.checkers.violation import Violation
from simulations.cores.heap import EventHeap
from simulations.cores.process import LocalClock
from simulations.cores.raft_checks import RaftChecks

VOTERS = Configuration(voters=(1, 2, 3))


def entries(*terms: int, first: int = 1, data: bytes = b"") -> list[Entry]:
    return [Entry(term, index, data=data) for index, term in enumerate(terms, start=first)]


def checks(*logs: Iterable[int]) -> RaftChecks:
    """Members 1, 2, … with these terms in their logs, all on disk."""
    made = RaftChecks(EventHeap())
    for node, terms in enumerate(logs, start=1):
        made.started(node, 0, [])
        if terms:
            made.appended(node, entries(*terms))
        made.synced(node)
    return made


def vote(sender: int, candidate: int, term: int) -> Message:
    return Message(MessageKind.VOTE_RESPONSE, to=candidate, sender=sender, term=term)


def ack(sender: int, term: int, index: int) -> Message:
    return Message(MessageKind.APPEND_RESPONSE, to=1, sender=sender, term=term, index=index)


def broken(invariant: str) -> pytest.RaisesExc[Violation]:
    return pytest.raises(Violation, match=f"^{invariant} ")


def test_a_node_votes_once_in_a_term_whatever_crash_comes_between() -> None:
    made = checks([], [], [])
    made.sent(vote(1, 2, 5), 5)
    made.started(1, 5, [])
    made.sent(vote(1, 2, 5), 5)
    made.sent(vote(1, 3, 6), 6)
    with broken("raft-durable-vote"):
        made.sent(vote(1, 2, 6), 6)
    with broken("raft-durable-vote"):
        made.sent(Message(MessageKind.VOTE, to=2, sender=1, term=5), 5)


def test_a_pre_vote_is_no_vote_and_a_refusal_neither() -> None:
    made = checks([], [], [])
    for candidate in (2, 3):
        made.sent(Message(MessageKind.PRE_VOTE_RESPONSE, to=candidate, sender=1, term=9), 3)
        made.sent(Message(MessageKind.VOTE_RESPONSE, to=candidate, sender=1, term=3, reject=True), 3)
    made.started(1, 3, [])


def test_a_restart_finds_the_term_that_was_named() -> None:
    made = checks([], [])
    made.sent(vote(1, 2, 5), 5)
    with broken("raft-durable-term"):
        made.started(1, 4, [])


def test_a_message_names_a_term_and_a_vote_only_when_they_are_on_disk() -> None:
    made = checks([], [], [])
    made.wrote(1, HardState(5, vote=2))
    made.synced(1)
    made.sent(vote(1, 2, 5), 5)
    made.wrote(1, HardState(6, vote=3))
    with broken("raft-durable-term"):
        made.sent(vote(1, 3, 6), 6)
    made.synced(1)
    made.sent(vote(1, 3, 6), 6)
    made.wrote(2, HardState(6))
    made.synced(2)
    with broken("raft-durable-vote"):
        made.sent(vote(2, 3, 6), 6)


def test_who_leads_has_the_votes_of_a_majority_of_each_half() -> None:
    made = checks([], [], [], [])
    made.sent(vote(2, 1, 5), 5)
    made.elected(1, 5, VOTERS)
    with broken("raft-elected"):
        made.elected(1, 5, Configuration(voters=(1, 2), voters_outgoing=(1, 3, 4)))
    with broken("raft-elected"):
        made.elected(3, 5, VOTERS)


def test_an_append_commits_no_more_than_it_has_compared() -> None:
    made = checks([1, 1, 1])
    sent = tuple(entries(1, first=2))
    append = Message(MessageKind.APPEND, to=1, sender=2, term=1, index=1, log_term=1, entries=sent)
    made.took(1, append, before=1, commit=2)
    with broken("raft-commit-verified"):
        made.took(1, append, before=1, commit=3)


def test_a_restart_finds_what_was_synced_or_what_was_being_written() -> None:
    for found in ([1, 1, 1], [1, 2, 2]):
        made = checks([1, 1, 1])
        made.appended(1, entries(2, 2, first=2))
        made.started(1, 2, found)
    made = checks([1, 1, 1])
    made.appended(1, entries(2, 2, first=2))
    with broken("raft-durable-log"):
        made.started(1, 2, [1])


def test_what_is_acknowledged_is_on_disk() -> None:
    made = checks([1], [1])
    made.sent(ack(2, 1, 1), 1)
    made.appended(2, entries(1, first=2))
    with broken("raft-durable-ack"):
        made.sent(ack(2, 1, 2), 1)
    made.synced(2)
    made.sent(ack(2, 1, 2), 1)


def test_an_answer_of_an_earlier_term_promises_nothing_any_more() -> None:
    made = checks([1], [1, 1, 1])
    made.appended(2, entries(2, first=2))
    made.synced(2)
    made.sent(ack(2, 1, 3), 2)


def test_logs_match() -> None:
    made = checks([1, 1, 2], [1, 1])
    made.appended(2, entries(2, first=3))
    with broken("raft-log-matching"):
        made.appended(2, entries(2, first=3, data=b"another"))
    made = checks([1, 1, 2], [1, 2])
    with broken("raft-log-matching"):
        made.appended(2, entries(2, first=3))
    with broken("raft-log-matching"):
        checks([2, 1])


def test_a_term_has_one_leader() -> None:
    made = checks([1], [1], [1])
    made.led(1, 2, [1])
    made.led(1, 2, [1])
    made.led(2, 3, [1])
    with broken("raft-election-safety"):
        made.led(3, 2, [1])


def committed(made: RaftChecks, node: int, term: int, *terms: int) -> None:
    """The leader of the term commits all of its log and applies it."""
    made.committed(node, term, len(terms), VOTERS, terms)
    made.started(node, term, terms)
    for entry in entries(*terms):
        made.applied(node, entry)


def test_a_leader_has_all_that_was_committed_in_earlier_terms() -> None:
    made = checks([1, 2], [1, 2], [1])
    committed(made, 1, 2, 1, 2)
    made.led(2, 3, [1, 2])
    with broken("raft-leader-completeness"):
        made.led(3, 4, [1])


def test_a_leader_may_lack_what_only_a_later_leader_committed() -> None:
    """Its votes were given before: it may notice that it won long after it lost."""
    made = checks([1, 2, 5], [1, 2, 5], [1])
    committed(made, 1, 5, 1, 2, 5)
    made.led(3, 3, [1])
    with broken("raft-leader-completeness"):
        made.led(3, 6, [1])


def test_a_leader_that_goes_on_lacks_nothing_that_is_committed_in_an_earlier_term() -> None:
    made = checks([1, 2], [1, 2], [1])
    made.committed(1, 2, 2, VOTERS, [1, 2])
    made.applied(1, Entry(1, 1))
    made.led(3, 4, [1])
    with broken("raft-leader-completeness"):
        made.applied(1, Entry(2, 2))


def test_a_leader_that_is_deposed_need_not_have_what_is_applied_later() -> None:
    made = checks([1, 2], [1, 2], [1])
    made.committed(1, 2, 2, VOTERS, [1, 2])
    made.led(3, 4, [1, 2])
    made.led(3, 5, terms := [1, 2])
    made.applied(1, Entry(1, 1))
    made.deposed(3)
    terms.pop()
    made.applied(1, Entry(2, 2))


def test_what_a_leader_commits_is_of_its_term_and_on_the_disks_of_a_majority() -> None:
    made = checks([1, 2], [1, 2], [1])
    made.committed(1, 2, 2, VOTERS, [1, 2])
    with broken("raft-commit-term"):
        made.committed(1, 3, 2, VOTERS, [1, 2])
    made = checks([1, 2], [1], [1])
    with broken("raft-durable-commit"):
        made.committed(1, 2, 2, VOTERS, [1, 2])
    made.appended(2, entries(2, first=2))
    with broken("raft-durable-commit"):
        made.committed(1, 2, 2, VOTERS, [1, 2])
    made.synced(2)
    made.committed(1, 2, 2, VOTERS, [1, 2])


def test_a_joint_configuration_needs_both_majorities() -> None:
    made = checks([1], [1], [], [])
    made.committed(1, 1, 1, Configuration(voters=(1, 2, 3)), [1])
    with broken("raft-durable-commit"):
        made.committed(1, 1, 1, Configuration(voters=(1, 2, 3), voters_outgoing=(1, 3, 4)), [1])


def test_all_apply_the_same_entries_in_the_same_order() -> None:
    made = checks([1, 1], [1, 1])
    for node in (1, 2):
        for entry in entries(1, 1):
            made.applied(node, entry)
    made.started(1, 1, [1, 1])
    made.applied(1, Entry(1, 1))
    with broken("raft-state-machine"):
        made.applied(1, Entry(1, 1))
    with broken("raft-state-machine"):
        made.applied(1, Entry(1, 2, data=b"another"))


def test_the_commit_index_rises_and_stays_within_the_log() -> None:
    made = checks([1])
    made.progressed(1, commit=1, applied=0, last=1)
    with broken("raft-monotonic-commit"):
        made.progressed(1, commit=0, applied=0, last=1)
    with broken("raft-monotonic-commit"):
        made.progressed(1, commit=2, applied=2, last=1)
    made.started(1, 1, [1])
    made.progressed(1, commit=0, applied=0, last=1)


def test_an_acknowledgement_is_of_what_the_leader_has() -> None:
    made = checks([1, 1, 2], [1, 1, 1])
    made.led(1, 2, [1, 1, 2])
    made.sent(ack(2, 2, 2), 2)
    with broken("raft-ack-matches"):
        made.sent(ack(2, 2, 3), 2)


def test_what_is_applied_is_on_the_disk_of_who_applies_it() -> None:
    made = checks([1, 1], [1])
    made.applied(2, Entry(1, 1))
    made.appended(2, entries(1, first=2))
    with broken("raft-durable-apply"):
        made.applied(2, Entry(1, 2))


def test_of_several_batches_under_way_a_restart_finds_the_first_ones() -> None:
    for found, is_possible in (([1], True), ([1, 1], True), ([1, 2, 2], True), ([1, 1, 2], False), ([1, 2], False)):
        made = checks([1])
        made.appended(1, entries(1, first=2))
        made.appended(1, entries(2, 2, first=2))
        if is_possible:
            made.started(1, 2, found)
        else:
            with broken("raft-durable-log"):
                made.started(1, 2, found)


def test_a_founder_finds_what_founded_the_group() -> None:
    made = RaftChecks(EventHeap())
    made.founded(1, 1, [1, 1])
    made.started(1, 1, [1, 1])
    made.founded(2, 1, [1, 1])
    with broken("raft-durable-log"):
        made.started(2, 1, [])


class TestStorageThreads:
    def made(self) -> RaftChecks:
        made = RaftChecks(EventHeap(), has_threads=True)
        for node in (1, 2, 3):
            made.started(node, 4, [])
            made.wrote(node, HardState(4))
            made.synced(node)
        return made

    def test_a_candidate_asks_before_its_term_is_on_disk_and_promises_only_after_that(self) -> None:
        made = self.made()
        made.sent(Message(MessageKind.VOTE, to=2, sender=1, term=5), 5)
        made.sent(Message(MessageKind.HEARTBEAT_RESPONSE, to=2, sender=1, term=5), 5)
        made.started(1, 4, [])
        made.wrote(1, HardState(4))
        made.synced(1)
        made.wrote(1, HardState(5, vote=2))
        with broken("raft-durable-term"):
            made.sent(vote(1, 2, 5), 5)

    def test_a_leader_has_its_own_vote_on_disk(self) -> None:
        made = self.made()
        made.sent(Message(MessageKind.VOTE, to=2, sender=1, term=4), 4)
        made.wrote(2, HardState(4, vote=1))
        made.synced(2)
        made.sent(vote(2, 1, 4), 4)
        with broken("raft-elected"):
            made.elected(1, 4, VOTERS)
        made.wrote(1, HardState(4, vote=1))
        made.synced(1)
        made.sent(vote(1, 1, 4), 4)
        made.elected(1, 4, VOTERS)

    def test_a_vote_for_an_earlier_candidacy_does_not_count(self) -> None:
        made = self.made()
        for node in (1, 2):
            made.wrote(node, HardState(4, vote=1))
            made.synced(node)
        made.sent(vote(1, 1, 4), 4)
        made.sent(Message(MessageKind.VOTE_RESPONSE, to=1, sender=2, term=4, request=7), 4)
        made.sent(Message(MessageKind.VOTE, to=3, sender=1, term=4, request=7), 4)
        made.elected(1, 4, VOTERS)
        made.sent(Message(MessageKind.VOTE, to=3, sender=1, term=4, request=8), 4)
        with broken("raft-elected"):
            made.elected(1, 4, VOTERS)


class TestReads:
    def made(self, lease_s: float = 0.0) -> RaftChecks:
        """Member 1 leads term 1 and has sent its first round at 1 s."""
        made = RaftChecks(EventHeap(), lease_s=lease_s)
        made.reads.configured(1, 1, VOTERS, 0.0)
        self.round(made, 1, 1.0)
        return made

    def round(self, made: RaftChecks, number: int, now_s: float) -> None:
        for member in (2, 3):
            made.reads.sent(Message(MessageKind.HEARTBEAT, to=member, sender=1, term=1, round=number), now_s)

    def confirm(self, made: RaftChecks, member: int, number: int) -> None:
        made.reads.heard(1, Message(MessageKind.HEARTBEAT_RESPONSE, to=1, sender=member, term=1, round=number))

    def answer(self, made: RaftChecks, request: int = 5) -> None:
        made.reads.sent(Message(MessageKind.READ_INDEX_RESPONSE, to=2, sender=1, term=1, request=request), 9.0)

    def test_a_read_sees_what_was_committed_before_it_was_asked(self) -> None:
        made = checks([1, 1])
        made.applied(1, Entry(1, 1))
        made.asked(5)
        made.applied(1, Entry(1, 2))
        made.answered(1, ReadState(5, 1))
        made.asked(6)
        with broken("raft-read"):
            made.answered(1, ReadState(6, 1))

    def test_a_read_is_confirmed_by_a_round_that_was_sent_after_it_came(self) -> None:
        made = self.made()
        self.confirm(made, 2, 1)
        made.reads.asked(1, 1, 2, 5, 1.1)
        with broken("raft-read-confirmed"):
            self.answer(made)
        self.round(made, 2, 1.2)
        with broken("raft-read-confirmed"):
            self.answer(made)
        self.confirm(made, 3, 2)
        self.answer(made)
        with broken("raft-read-confirmed"):
            self.answer(made, request=6)

    def test_of_a_joint_configuration_both_halves_confirm(self) -> None:
        made = self.made()
        made.reads.configured(1, 1, Configuration(voters=(1, 2, 3), voters_outgoing=(1, 4, 5)), 1.0)
        made.reads.asked(1, 1, 2, 5, 1.1)
        self.round(made, 2, 1.2)
        self.confirm(made, 2, 2)
        with broken("raft-read-confirmed"):
            self.answer(made)
        self.confirm(made, 4, 2)
        self.answer(made)

    @pytest.mark.parametrize(("asked_s", "is_within"), [(1.5, True), (1.7, False)])
    def test_a_round_that_was_answered_is_good_for_a_lease(self, asked_s: float, is_within: bool) -> None:
        made = self.made(lease_s=0.6)
        self.confirm(made, 3, 1)
        made.reads.asked(1, 1, 1, 5, asked_s)
        if is_within:
            made.reads.answered(1, 1, ReadState(5, 1))
            made.reads.sent(Message(MessageKind.TIMEOUT_NOW, to=2, sender=1, term=1), 1.5)
        with broken("raft-read-confirmed"):
            made.reads.answered(1, 1, ReadState(5, 1))

    @pytest.mark.parametrize(("asked_s", "is_within"), [(2.5, True), (2.7, False)])
    def test_who_was_alone_has_a_lease_for_a_while(self, asked_s: float, is_within: bool) -> None:
        made = self.made(lease_s=0.6)
        made.reads.configured(1, 1, Configuration(voters=(1,)), 1.0)
        made.reads.configured(1, 1, VOTERS, 2.0)
        made.reads.asked(1, 1, 1, 5, asked_s)
        with contextlib.nullcontext() if is_within else broken("raft-read-confirmed"):
            made.reads.answered(1, 1, ReadState(5, 1))

    def test_who_is_alone_asks_nobody_and_who_follows_has_asked_its_leader(self) -> None:
        made = self.made()
        made.reads.configured(1, 1, Configuration(voters=(1,)), 1.0)
        made.reads.asked(1, 1, 1, 5, 1.0)
        made.reads.answered(1, 1, ReadState(5, 1))
        made.reads.answered(2, 1, ReadState(5, 1))

    def test_what_a_configuration_has_confirmed_stays_so_in_the_next_ones(self) -> None:
        made = self.made(lease_s=0.6)
        self.confirm(made, 2, 1)
        for others in ((2,), (2, 4), (4,), (4, 5), (5,)):
            made.reads.configured(1, 1, Configuration(voters=(1, *others)), 1.1)
        made.reads.asked(1, 1, 1, 5, 1.5)
        made.reads.answered(1, 1, ReadState(5, 1))

    def test_a_change_of_the_configuration_may_confirm_a_round(self) -> None:
        made = self.made()
        made.reads.asked(1, 1, 2, 5, 1.1)
        self.round(made, 2, 1.2)
        made.reads.configured(1, 1, Configuration(voters=(1, 2, 3, 4, 5)), 1.3)
        self.confirm(made, 2, 2)
        with broken("raft-read-confirmed"):
            self.answer(made)
        made.reads.configured(1, 1, VOTERS, 1.4)
        self.answer(made)

    @pytest.mark.parametrize("way", ["nobody answered it", "it is over", "it asked 2 to lead", "it knows"])
    def test_nobody_is_elected_while_another_leader_has_a_lease(self, way: str) -> None:
        heap, later = EventHeap(), EventHeap()
        heap.now, later.now = 1.5, 1.7
        made = self.made(lease_s=0.6)
        made.reads.led(1, 1, LocalClock(later if way == "it is over" else heap))
        if way != "nobody answered it":
            self.confirm(made, 2, 1)
        if way == "it asked 2 to lead":
            made.reads.sent(Message(MessageKind.TIMEOUT_NOW, to=2, sender=1, term=1), 1.4)
        if way == "it knows":
            made.deposed(1)
        made.reads.led(2, 2, LocalClock(heap))

    def test_an_election_within_a_lease_is_a_mistake(self) -> None:
        heap = EventHeap()
        heap.now = 1.5
        made = self.made(lease_s=0.6)
        self.confirm(made, 2, 1)
        made.reads.led(1, 1, LocalClock(heap))
        with broken("raft-lease"):
            made.reads.led(2, 2, LocalClock(heap))
