"""The core's log against a twin that is one list."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from consensus.log import RaftLog, data_bytes, limit
from consensus.memory import MemoryLog
from consensus.messages import Configuration, Entry, HardState, Snapshot


def entries(first: int, terms: Sequence[int]) -> list[Entry]:
    return [Entry(term, index, data=b"%d" % index) for index, term in enumerate(terms, start=first)]


def log_of(*terms: int, stored: int = 0, committed: int = 0) -> RaftLog:
    """A log with entries of those terms from index 1, the first of them in storage."""
    storage = MemoryLog()
    storage.append(entries(1, terms[:stored]))
    log = RaftLog(storage, committed=0, applied=0, apply_bytes_max=1 << 30)
    if terms[stored:]:
        log.append(entries(stored + 1, terms[stored:]))
    log.commit_to(committed)
    return log


class LogMachine(RuleBasedStateMachine):
    """Appends, conflicts, commits, batches and restarts of the application, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.storage = MemoryLog()
        self.log = RaftLog(self.storage, committed=0, applied=0, apply_bytes_max=6)
        self.twin: list[Entry] = []
        self.term = 1
        self.writing: tuple[Entry, ...] = ()
        self.applying: list[Entry] = []
        self.applied: list[Entry] = []

    @rule(back=st.integers(0, 4), count=st.integers(1, 4))
    def append(self, back: int, count: int) -> None:
        if back:
            self.term += 1
        first = max(len(self.twin) + 1 - back, self.log.committed + 1)
        fresh = entries(first, [self.term] * count)
        self.log.append(fresh)
        self.twin[first - 1 :] = fresh

    @rule(ahead=st.integers(0, 5))
    def commit(self, ahead: int) -> None:
        self.log.commit_to(min(self.log.committed + ahead, len(self.twin)))

    @precondition(lambda self: not self.writing)
    @rule()
    def hand_out(self) -> None:
        self.writing = self.log.unwritten()
        self.log.hand_out()
        self.storage.append(self.writing)

    @precondition(lambda self: self.writing)
    @rule()
    def stored(self) -> None:
        self.log.stored(self.writing[-1].index, self.writing[-1].term)
        self.writing = ()

    @rule()
    def begin_applying(self) -> None:
        found = list(self.log.unapplied())
        if found:
            self.log.begin_applying(found)
            self.applying += found

    @precondition(lambda self: self.applying)
    @rule()
    def finish_applying(self) -> None:
        self.log.finish_applying(self.applying[-1].index, data_bytes(self.applying))
        self.applied += self.applying
        self.applying = []

    @invariant()
    def it_reads_like_the_list(self) -> None:
        log = self.log
        assert list(log.entries(1, 1 << 30)) == self.twin
        assert log.last == len(self.twin)
        assert [log.term(index) for index in range(len(self.twin) + 2)] == [
            0,
            *[entry.term for entry in self.twin],
            None,
        ]
        assert self.applied == self.twin[: log.applied]
        if self.twin:
            middle = len(self.twin) // 2 + 1
            fitting = list(limit(self.twin[middle - 1 :], 3))
            assert list(log.entries(middle, 3)) == fitting
            for _ in range(2):
                found, size_bytes = log.piece(middle, 3)
                assert (list(found), size_bytes) == (fitting, data_bytes(fitting))


TestLogMachine = LogMachine.TestCase


@given(st.lists(st.integers(0, 9), max_size=10), st.integers(0, 30))
def test_a_limit_takes_what_fits_and_at_least_one(sizes: list[int], bytes_max: int) -> None:
    given_entries = [Entry(1, index, data=bytes(size)) for index, size in enumerate(sizes)]
    taken = limit(given_entries, bytes_max)
    fitting = max((n for n in range(len(sizes) + 1) if sum(sizes[:n]) <= bytes_max), default=0)
    assert len(taken) == min(max(fitting, 1), len(sizes))
    assert data_bytes(taken) == sum(sizes[: len(taken)])


@given(st.lists(st.integers(0, 3), max_size=12), st.integers(0, 14), st.integers(0, 40))
def test_the_hint_is_the_highest_index_that_may_agree(rises: list[int], index: int, term: int) -> None:
    terms = [1 + sum(rises[: place + 1]) for place in range(len(rises))]
    log = log_of(*terms)
    possible = [place for place in range(min(index, len(terms)), 0, -1) if terms[place - 1] <= term]
    expected = (possible[0], terms[possible[0] - 1]) if possible else (0, 0)
    if index <= len(terms):
        assert log.agreement_hint(index, term) == expected


def test_the_hint_ends_where_the_log_can_no_longer_be_read() -> None:
    storage = MemoryLog(Snapshot(5, 3, Configuration((1,))))
    log = RaftLog(storage, committed=5, applied=5, apply_bytes_max=1)
    assert log.agreement_hint(4, 1) == (4, 0)
    assert log.agreement_hint(5, 3) == (5, 3)


def test_the_first_conflict_is_the_first_entry_that_differs_or_is_missing() -> None:
    log = log_of(1, 1, 2)
    assert log.first_conflict(entries(1, [1, 1, 2])) is None
    assert log.first_conflict(entries(2, [1, 3])) == 1
    assert log.first_conflict(entries(3, [2, 2])) == 1


@pytest.mark.parametrize(
    ("index", "term", "expected"), [(3, 2, True), (4, 2, True), (2, 2, False), (1, 3, True), (9, 1, False)]
)
def test_up_to_date_means_a_later_term_or_a_longer_log(index: int, term: int, expected: bool) -> None:
    """Raft paper 5.4.1."""
    assert log_of(1, 1, 2).is_up_to_date(index, term) is expected


def test_a_write_that_was_overtaken_makes_nothing_stable() -> None:
    log = log_of(1, 1)
    log.hand_out()
    log.append(entries(2, [2]))
    log.stored(2, 1)
    assert log.offset == 1
    assert [entry.term for entry in log.unwritten()] == [2]
    log.stored(2, 2)
    assert log.offset == 3
    log.stored(1, 1)
    assert log.offset == 3


def test_committed_entries_are_never_replaced() -> None:
    log = log_of(1, 1, committed=2)
    with pytest.raises(AssertionError, match="is committed or leaves a gap"):
        log.append(entries(2, [2]))
    with pytest.raises(AssertionError, match="is committed or leaves a gap"):
        log.append(entries(4, [2]))


def test_the_commit_index_never_falls_and_never_passes_the_end() -> None:
    log = log_of(1, 1, committed=2)
    assert not log.commit_to(1)
    assert log.committed == 2
    with pytest.raises(AssertionError, match="beyond the log's end"):
        log.commit_to(3)


def test_a_snapshot_takes_the_place_of_the_log() -> None:
    log = log_of(1, 1, stored=1)
    snapshot = Snapshot(9, 3, Configuration((1,)))
    log.restore(snapshot)
    assert (log.first_index(), log.last, log.last_term(), log.committed) == (10, 9, 3, 9)
    assert (log.term(8), log.term(9)) == (None, 3)
    assert log.stored_snapshot() is snapshot
    assert log.unwritten_snapshot() is snapshot
    log.hand_out()
    assert log.unwritten_snapshot() is None
    log.snapshot_stored(8)
    assert log.snapshot is snapshot
    log.snapshot_stored(9)
    assert log.snapshot is None


class TestMemoryLog:
    def test_it_replaces_from_the_first_new_entry_on(self) -> None:
        log = MemoryLog()
        log.append([])
        log.append(entries(1, [1, 1, 1]))
        log.append(entries(2, [2]))
        assert [entry.term for entry in log.entries(1, 3)] == [1, 2]
        assert log.last_index() == 2

    def test_it_takes_no_gaps(self) -> None:
        log = MemoryLog()
        with pytest.raises(AssertionError, match="does not follow"):
            log.append(entries(2, [1]))
        with pytest.raises(AssertionError, match="no entries from"):
            log.entries(1, 2)

    def test_compaction_keeps_the_term_before_the_first_entry(self) -> None:
        log = MemoryLog()
        log.append(entries(1, [1, 2, 3]))
        log.record_snapshot(Snapshot(2, 2, Configuration((1,))))
        log.compact(2)
        assert (log.first_index(), log.last_index()) == (3, 3)
        assert [log.term(index) for index in range(5)] == [None, None, 2, 3, None]
        assert log.snapshot().index == 2
        with pytest.raises(AssertionError, match="has no such entry"):
            log.compact(9)

    def test_a_snapshot_replaces_everything_and_never_goes_back(self) -> None:
        log = MemoryLog()
        log.append(entries(1, [1, 2, 3]))
        log.set_hard_state(HardState(3, 1, 2))
        log.install(Snapshot(7, 3, Configuration((1,))))
        assert (log.first_index(), log.last_index(), log.term(7)) == (8, 7, 3)
        assert log.initial_state() == (HardState(3, 1, 2), Configuration((1,)))
        with pytest.raises(AssertionError, match="back in time"):
            log.install(Snapshot(7, 3))
