"""The Raft checker: silent on a correct group under all faults, and loud on each kind of broken stream."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.log import RaftLog
from consensus.memory import MemoryLog
from consensus.messages import Entry, EntryKind, HardState, Message, MessageKind, Role, Snapshot
from consensus.segments import SegmentWriter
from consensus.status import Status, status_of
from consensus.storage import DurableLog
from simulations.checkers.raft import Observation, RaftChecker
from tests.consensus.group import Group, Member
from tests.consensus.test_safety import STEPS, Chaos
from tests.simulations.checkers.violations import Clock, first_violation, violates


def log_of(*terms: int, data: bytes = b"x") -> tuple[Entry, ...]:
    return tuple(Entry(term, index, EntryKind.NORMAL, data) for index, term in enumerate(terms, start=1))


def seen(node: int, log: tuple[Entry, ...] = (), **fields: object) -> Observation:
    """A follower in term 1 with a whole log; other fields by name."""
    base = Observation(node, 1, 1, Role.FOLLOWER, 0, 0, 0, 1, log)
    return replace(base, **fields)  # type: ignore[arg-type]


@pytest.fixture
def checker() -> RaftChecker:
    return RaftChecker(Clock())


def test_two_leaders_of_a_term_are_found(checker: RaftChecker) -> None:
    checker.observe(seen(1, term=3, role=Role.LEADER))
    checker.observe(seen(2, term=4, role=Role.LEADER))
    checker.observe(seen(3, term=3, leader=1))
    with violates("raft-election-safety", match="node 3: 3 leads term 4 and so does 2"):
        checker.observe(seen(3, term=4, role=Role.LEADER))
    with violates("raft-election-safety"):
        checker.observe(seen(5, term=3, leader=4))


def test_equal_index_and_term_with_other_contents_are_found(checker: RaftChecker) -> None:
    checker.observe(seen(1, log_of(1, 1)))
    with violates("raft-log-matching", match="at index 1"):
        checker.observe(seen(2, log_of(1, data=b"y")))


def test_equal_entries_after_different_ones_are_found(checker: RaftChecker) -> None:
    checker.observe(seen(1, log_of(1, 3), term=3))
    with violates("raft-log-matching", match="at index 2"):
        checker.observe(seen(2, log_of(2, 3), term=3))


def test_terms_that_fall_along_a_log_are_found(checker: RaftChecker) -> None:
    with violates("raft-log-matching"):
        checker.observe(seen(1, log_of(2, 1), term=2))


def test_a_leader_without_what_was_committed_before_is_found(checker: RaftChecker) -> None:
    checker.observe(seen(1, log_of(1, 1), role=Role.LEADER, commit=2, applied=1))
    checker.observe(seen(2, log_of(1, 1), term=2, role=Role.LEADER, commit=2))
    with violates("raft-leader-completeness", match="leads term 3 without NORMAL b'x' of term 1 at index 2"):
        checker.observe(seen(3, log_of(1), term=3, role=Role.LEADER))


def test_a_commit_that_becomes_known_late_is_held_against_a_later_leader_too(checker: RaftChecker) -> None:
    checker.observe(seen(3, log_of(1), term=3, role=Role.LEADER))
    checker.observe(seen(1, log_of(1, 1), term=2, commit=1))
    with violates("raft-leader-completeness", match="node 3: it leads term 3 without"):
        checker.observe(seen(1, term=2, commit=2, first=3))


def test_a_leader_of_an_older_term_may_lack_what_is_committed_in_a_newer_one(checker: RaftChecker) -> None:
    checker.observe(seen(1, log_of(1, 3), term=3, role=Role.LEADER, commit=2))
    checker.observe(seen(2, log_of(1), term=2, role=Role.LEADER))
    checker.observe(seen(3, log_of(1, 3), term=3, commit=2))


def test_what_a_node_of_an_older_term_knows_to_be_committed_was_so_then(checker: RaftChecker) -> None:
    checker.observe(seen(1, log_of(1, 1), term=3, role=Role.LEADER, commit=2))
    checker.observe(seen(2, log_of(1, 1), term=1, commit=2))
    with violates("raft-leader-completeness", match="committed in term 1"):
        checker.observe(seen(3, log_of(1), term=2, role=Role.LEADER))


def test_a_leader_that_stepped_down_may_lack_what_is_committed_later(checker: RaftChecker) -> None:
    checker.observe(seen(3, log_of(1), term=3, role=Role.LEADER))
    checker.observe(seen(3, term=3, first=2))
    checker.observe(seen(1, log_of(1, 1), term=2, commit=2))


def test_a_vote_or_an_acknowledgement_that_is_not_on_disk_is_found_at_once(checker: RaftChecker) -> None:
    acknowledgement = Message(MessageKind.APPEND_RESPONSE, to=2, sender=1, term=2, index=2)
    vote = Message(MessageKind.VOTE_RESPONSE, to=2, sender=1, term=2)
    checker.observe(seen(1, log_of(1, 2), term=2))
    checker.synced(1, 1, HardState(1, 2))
    with violates("raft-durable-log", match="acknowledges everything up to 2, and 1 is on its disk"):
        checker.sent(acknowledgement)
    with violates("raft-durable-vote", match="votes for 2 in term 2, and its disk has 2 in term 1"):
        checker.sent(vote)
    checker.synced(1, 2, HardState(2, 2))
    checker.sent(acknowledgement)
    checker.sent(vote)
    checker.sent(replace(acknowledgement, term=1, index=2))
    checker.synced(1, 2, HardState(3, 3))
    checker.sent(vote)


def test_two_commands_at_one_index_are_found(checker: RaftChecker) -> None:
    checker.observe(seen(1, log_of(1, 1), commit=2))
    with violates("raft-state-machine", match="index 2 is committed as"):
        checker.observe(seen(2, log_of(1, 2), term=2, commit=2))
    checker.applied(1, 2, b"x", life=1)
    with violates("raft-state-machine", match=r"index 2 was b'x' elsewhere and is b'y' here"):
        checker.applied(2, 2, b"y", life=1)


def test_a_state_machine_that_is_given_an_index_twice_is_found(checker: RaftChecker) -> None:
    checker.applied(1, 2, b"x", life=1)
    checker.applied(1, 3, b"y", life=1)
    checker.applied(1, 2, b"x", life=2)
    with violates("raft-state-machine", match="index 2 is applied after 2"):
        checker.applied(1, 2, b"x", life=2)


def test_a_committed_entry_that_is_replaced_or_lost_is_found(checker: RaftChecker) -> None:
    checker.observe(seen(1, log_of(1, 1, 1), commit=2))
    checker.observe(seen(1, log_of(1, 1, 2)[2:], term=2, first=3, commit=2))  # what was not committed may be
    with violates("raft-committed-stays", match="committed up to 2 and now replaces 2"):
        checker.observe(seen(1, log_of(1, 2)[1:], term=2, first=2, commit=2))


def test_two_votes_in_a_term_are_found_across_a_restart_and_the_own_vote_counts(checker: RaftChecker) -> None:
    checker.observe(seen(1))
    checker.observe(seen(2))
    checker.sent(Message(MessageKind.VOTE_RESPONSE, to=2, sender=1, term=2))
    checker.sent(Message(MessageKind.VOTE_RESPONSE, to=3, sender=1, term=2, reject=True))
    checker.observe(seen(1, life=2, term=2))
    checker.sent(Message(MessageKind.VOTE_RESPONSE, to=2, sender=1, term=2))
    with violates("raft-durable-vote", match="votes for 3 in term 2 and voted for 2"):
        checker.sent(Message(MessageKind.VOTE_RESPONSE, to=3, sender=1, term=2))
    checker.sent(Message(MessageKind.VOTE, to=1, sender=2, term=5))
    with violates("raft-durable-vote"):
        checker.sent(Message(MessageKind.VOTE_RESPONSE, to=3, sender=2, term=5))


def test_a_term_that_falls_is_found_within_a_life_and_across_lives(checker: RaftChecker) -> None:
    checker.observe(seen(1, term=4))
    with violates("raft-monotonic-term", match="falls from 4 to 3"):
        checker.observe(seen(1, term=3))
    checker.observe(seen(1, term=3, life=2))  # nothing had named term 4
    checker.sent(Message(MessageKind.PRE_VOTE, to=2, sender=1, term=9))  # nor is this one the node's own
    checker.sent(Message(MessageKind.APPEND_RESPONSE, to=2, sender=1, term=3, reject=True))
    with violates("raft-durable-term", match="it is in term 2, and messages of it named 3"):
        checker.observe(seen(1, term=2, life=3))


def test_commit_and_applied_that_fall_or_overtake_are_found(checker: RaftChecker) -> None:
    checker.observe(seen(1, log_of(1, 1), commit=2, applied=2))
    for commit, applied in ((1, 1), (2, 1)):
        with violates("raft-monotonic-commit", match="index falls from 2 to 1"):
            checker.observe(seen(1, first=3, commit=commit, applied=applied))
    with violates("raft-monotonic-commit", match="applied 3 and committed 2 only"):
        checker.observe(seen(1, first=3, commit=2, applied=3))
    checker.observe(seen(1, log_of(1, 1), life=2))  # what is known to be committed may be forgotten


@pytest.mark.parametrize("found", [log_of(1), log_of(1, 2), log_of(1, 1, data=b"y")])
def test_an_acknowledged_entry_that_a_restart_does_not_find_is_found(
    checker: RaftChecker, found: tuple[Entry, ...]
) -> None:
    checker.observe(seen(1, log_of(1, 1, 1), term=1))
    checker.sent(Message(MessageKind.APPEND_RESPONSE, to=2, sender=1, term=1, index=2))
    with violates("raft-durable-log", match="acknowledged everything up to 2"):
        checker.observe(seen(1, found, term=2, life=2))


def test_what_was_not_acknowledged_or_was_replaced_since_may_be_lost(checker: RaftChecker) -> None:
    checker.observe(seen(1, log_of(1, 1, 1)))
    checker.sent(Message(MessageKind.APPEND_RESPONSE, to=2, sender=1, term=1, index=3))
    checker.observe(seen(1, log_of(1, 1, 2)[2:], term=2, first=3))
    checker.observe(seen(1, log_of(1, 1), term=2, life=2))


def test_only_whole_logs_without_gaps_can_be_observed(checker: RaftChecker) -> None:
    checker.observe(seen(1, log_of(1)))
    with pytest.raises(ValueError, match=r"entries from 3 on were observed of node 1, which had 1"):
        checker.observe(seen(1, log_of(1, 1, 1)[2:], first=3))
    with pytest.raises(ValueError, match="begins at 6"):
        checker.look(status(), MemoryLog(Snapshot(index=5, term=1)), life=1)


def status(**fields: object) -> Status:
    """A follower in term 2 with the leader 2; other fields by name."""
    group = Group(1)
    base = status_of(group[1].raft, running=True, messages_dropped=0, messages_refused=0)
    base = replace(base, role=Role.FOLLOWER, term=2, leader=2, commit=2, applied=2, stored=3)
    return replace(base, **fields)  # type: ignore[arg-type]


def stored(entries: Sequence[Entry]) -> MemoryLog:
    log = MemoryLog()
    log.append(entries)
    return log


@pytest.mark.parametrize(
    ("invariant", "fields", "log", "life"),
    [
        ("raft-durable-term", {}, log_of(1, 1, 1), 2),
        ("raft-monotonic-term", {"term": 1}, log_of(1, 1, 1), 1),
        ("raft-election-safety", {"role": Role.LEADER}, log_of(1, 1, 1), 1),
        ("raft-election-safety", {"leader": 3}, log_of(1, 1, 1), 1),
        ("raft-monotonic-commit", {"commit": 1}, log_of(1, 1, 1), 1),
        ("raft-monotonic-commit", {"applied": 1}, log_of(1, 1, 1), 1),
        ("raft-committed-stays", {}, log_of(1), 1),
        ("raft-committed-stays", {}, (), 1),
        ("raft-log-matching", {}, (*log_of(1, 1), Entry(1, 3, data=b"y")), 1),
        ("raft-log-matching", {}, (*log_of(1, 1, 1), Entry(1, 5)), 1),
        ("raft-state-machine", {"commit": 3, "applied": 3}, log_of(1, 1, 1), 1),
    ],
)
def test_a_look_misses_nothing_that_has_changed_since_the_last_one(
    checker: RaftChecker, invariant: str, fields: dict[str, object], log: tuple[Entry, ...], life: int
) -> None:
    checker.observe(seen(2, log_of(1, 1, 2), term=2, role=Role.LEADER, commit=3))
    for _ in range(2):  # the second one finds that nothing has changed
        checker.look(status(), stored(log_of(1, 1, 1)), life=1)
    checker.sent(Message(MessageKind.VOTE, to=2, sender=1, term=3))
    with violates(invariant):
        checker.look(status(**fields), stored(log), life=life)


def test_what_the_disk_has_behind_what_is_stored_is_not_what_is_committed(checker: RaftChecker) -> None:
    checker.observe(seen(2, log_of(1, 1, 2), term=2, role=Role.LEADER, commit=3))
    disk = stored(log_of(1, 1, 1))
    checker.look(status(commit=3, stored=2), disk, life=1)
    disk.append(log_of(1, 1, 2)[2:])
    checker.look(status(commit=3, stored=2), disk, life=1)
    checker.look(status(commit=3, stored=3), disk, life=1)
    with violates("raft-state-machine"):
        checker.look(status(commit=3, stored=3), stored(log_of(1, 1, 1)), life=2)


def test_a_snapshot_may_take_the_place_of_what_was_never_committed(checker: RaftChecker) -> None:
    checker.observe(seen(2, log_of(1, 1, 2, 2, 2), term=2, role=Role.LEADER, commit=5))
    checker.look(status(), stored(log_of(1, 1, 1)), life=1)
    checker.look(status(term=2, commit=5, applied=5, stored=5), MemoryLog(Snapshot(index=5, term=2)), life=1)


def compacted(entries: Sequence[Entry], upto: int) -> MemoryLog:
    log = stored(entries)
    log.record_snapshot(Snapshot(index=upto, term=entries[upto - 1].term))
    log.compact(upto)
    return log


def retaining(entries: Sequence[Entry], snapshot: Snapshot) -> MemoryLog:
    """The entries before the snapshot are still there."""
    log = stored(entries)
    log.record_snapshot(snapshot)
    return log


@pytest.mark.parametrize(
    "log",
    [
        compacted(log_of(1, 1, 1), 3),
        compacted(log_of(1, 1, 1, 2), 3),
        MemoryLog(Snapshot(index=5, term=1)),
        retaining(log_of(1, 1, 2, 2, 2), Snapshot(index=3, term=1)),
    ],
    ids=["all of it is a snapshot", "a part of it is a snapshot", "installed", "the entries are still there"],
)
def test_a_snapshot_of_something_else_than_what_was_committed_is_found(checker: RaftChecker, log: MemoryLog) -> None:
    checker.observe(seen(2, log_of(1, 1, 2, 2, 2), term=2, role=Role.LEADER, commit=5))
    checker.look(status(), stored(log_of(1, 1, 1)), life=1)
    with violates("raft-state-machine", match="its snapshot stands for an entry of term 1"):
        checker.look(status(commit=3, applied=3), log, life=1)


def test_a_look_misses_nothing_that_was_observed_since_the_last_one(checker: RaftChecker) -> None:
    checker.look(status(), stored(log_of(1, 1)), life=1)
    checker.observe(seen(1, term=3, leader=2, commit=2, applied=2, first=3))
    with violates("raft-monotonic-term"):
        checker.look(status(), stored(log_of(1, 1)), life=1)


class Watched:
    """A random run of tests.consensus, watched as the simulator does it."""

    def __init__(self, seed: int, *, protected: bool, changes: bool) -> None:
        self.chaos = Chaos(seed, protected=protected, changes=changes, threads=False)
        group = self.chaos.group
        self.checker = RaftChecker(lambda: group.now)
        self.lives: dict[int, list[Member]] = {}
        self.handed: dict[int, int] = {}
        group.on_send = self.sent
        self.crash, group.crash = group.crash, self.crashed  # type: ignore[method-assign]

    def look(self, member: Member) -> None:
        if member.raft._core.log.unwritten():
            return  # what is committed may not be in its log yet, but something older in the same place
        lives = self.lives.setdefault(member.id, [])
        if member not in lives:
            lives.append(member)
            self.handed[member.id] = 0
        status = status_of(member.raft, running=True, messages_dropped=0, messages_refused=0)
        self.checker.look(status, member.log, life=len(lives))
        for entry in member.applied[self.handed[member.id] :]:
            self.checker.applied(member.id, entry.index, entry.data, life=len(lives))
        self.handed[member.id] = len(member.applied)

    def sent(self, message: Message) -> None:
        self.look(self.chaos.group[message.sender])
        self.checker.sent(message)

    def crashed(self, node: int, *, power: bool = True) -> None:
        self.look(self.chaos.group[node])
        self.crash(node, power=power)
        self.look(self.chaos.group[node])

    def run(self) -> None:
        for step in range(STEPS):
            self.chaos.step()
            if step % 5 == 0:
                for member in self.chaos.group.members.values():
                    self.look(member)


@given(seed=st.integers(0, 1 << 32), protected=st.booleans(), changes=st.booleans())
@settings(max_examples=10)
def test_a_correct_group_under_all_faults_breaks_nothing(seed: int, protected: bool, changes: bool) -> None:
    watched = Watched(seed, protected=protected, changes=changes)
    watched.run()
    watched.chaos.recover()


def test_random_runs_give_a_checker_something_to_judge() -> None:
    runs = [Watched(seed, protected=True, changes=True) for seed in range(5)]
    for watched in runs:
        watched.run()
    assert sum(len(watched.checker.committed) for watched in runs) > 50


def forget_votes(monkeypatch: pytest.MonkeyPatch) -> None:
    append = DurableLog.append

    def without_vote(log: DurableLog, hard_state: HardState | None, entries: Sequence[Entry]) -> None:
        append(log, hard_state and replace(hard_state, vote=0), entries)

    monkeypatch.setattr(DurableLog, "append", without_vote)


def acknowledge_before_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    def write_only(writer: SegmentWriter) -> None:
        assert writer.file is not None
        writer.file.append(b"".join(writer._buffer))
        writer._buffer = []

    monkeypatch.setattr(SegmentWriter, "_flush", write_only)


def vote_for_anyone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RaftLog, "is_up_to_date", lambda log, index, term: True)


@pytest.mark.parametrize(
    ("mistake", "expected"),
    [
        (forget_votes, {"raft-durable-vote"}),
        (acknowledge_before_sync, {"raft-durable-log", "raft-durable-term", "raft-durable-vote"}),
        (vote_for_anyone, {"raft-leader-completeness", "raft-state-machine", "raft-committed-stays"}),
    ],
)
def test_a_group_with_a_mistake_in_it_is_caught(
    mistake: Callable[[pytest.MonkeyPatch], None], expected: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    mistake(monkeypatch)
    assert first_violation(lambda seed: Watched(seed, protected=False, changes=False).run(), seeds=30) in expected
