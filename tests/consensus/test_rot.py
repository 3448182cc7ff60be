"""Disks that rot under a log: what it promised is never forgotten, and what it did not agree on never comes back."""

import random
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from consensus.config import LogConfig, RaftConfig
from consensus.errors import CorruptLog
from consensus.image import image_path
from consensus.memory import Lost
from consensus.messages import Configuration, Entry, HardState, Snapshot
from consensus.opening import open_log
from consensus.raft import Raft
from consensus.records import SECTOR_BYTES
from consensus.storage import DurableLog
from consensus.verification import verify
from tests.consensus.disks import MemoryDisk

OWNER = b"mesh and node"
VOTERS = Configuration((1, 2, 3))


def entry(term: int, index: int) -> Entry:
    return Entry(term, index, data=b"%d of %d" % (index, term))


def snapshot_of(log: DurableLog, index: int) -> None:
    term = log.term(index)
    assert term is not None
    log.record_snapshot(log.images.write(Snapshot(index, term, VOTERS), iter([b"state at %d" % index])))
    log.sync()


@dataclass
class End:
    """Where a log ended that its node may have told others of."""

    index: int = 0
    term: int = 0

    def is_covered(self, lost: Lost) -> bool:
        """Whether a node that says so elects nobody who lacks it, and knows when it is whole again."""
        return lost.index >= self.index and (lost.log_term, lost.index) >= (self.term, self.index)


class RotMachine(RuleBasedStateMachine):
    """A node that follows leaders, whose disk forgets and changes what was synced.

    `entries` are those of the leader that it follows now: what is lost comes back from there.
    """

    @initialize(
        segment_bytes=st.sampled_from([1, 300, 1000, 1 << 20]),
        cache_bytes=st.sampled_from([1, 1 << 20]),
        kept_log_bytes=st.sampled_from([0, 500]),
    )
    def begin(self, **sizes: int) -> None:
        self.config = LogConfig(snapshot_log_bytes=1, **sizes)
        self.start_anew()

    def start_anew(self) -> None:
        """With an empty disk, as who is refused has to."""
        self.disk = MemoryDisk()
        self.log = open_log(self.disk, "raft", owner=OWNER, config=self.config)
        self.entries: list[Entry] = []
        self.state = HardState()
        self.last = self.committed = 0
        self.lost: Lost | None = None
        self.told = End()
        self.is_rotten = False

    def term_of(self, index: int) -> int:
        return self.entries[index - 1].term if index else 0

    def append(self, state: HardState, entries: list[Entry]) -> None:
        self.log.append(state, entries)
        self.log.sync()
        self.state = state
        if entries:
            self.last = entries[-1].index
        if self.lost is not None and self.lost.is_regained(self.last, self.term_of(self.last)):
            self.lost = None
        end = End(self.last, self.term_of(self.last))
        if self.lost is None or (end.term, end.index) > (self.told.term, self.told.index):
            self.told = end

    @rule(count=st.integers(1, 3), is_new_term=st.booleans(), commits=st.integers(0, 3))
    def grow(self, count: int, is_new_term: bool, commits: int) -> None:
        term = self.state.term + (is_new_term or not self.state.term)
        vote = self.state.vote if term == self.state.term else 0
        for index in range(len(self.entries) + 1, self.last + count + 1):
            self.entries.append(entry(term, index))
        fresh = self.entries[self.last : self.last + count]
        commit = min(self.state.commit + commits, fresh[-1].index)
        self.committed = max(self.committed, commit)
        self.append(HardState(term, vote, commit), fresh)

    @precondition(lambda self: self.lost is None and self.last > self.committed)
    @rule(count=st.integers(1, 2), data=st.data())
    def replace(self, count: int, data: st.DataObject) -> None:
        """Another leader has other entries than were not committed."""
        first = data.draw(st.integers(self.committed + 1, self.last))
        term = self.state.term + 1
        self.entries[first - 1 :] = [entry(term, index) for index in range(first, first + count)]
        self.append(HardState(term, 0, self.state.commit), self.entries[first - 1 :])

    @rule(vote=st.integers(1, 3))
    def vote(self, vote: int) -> None:
        self.append(HardState(self.state.term + 1, vote, self.state.commit), [])

    @rule(back=st.integers(0, 3))
    def snapshot(self, back: int) -> None:
        index = self.state.commit - back
        assume(index > self.log.snapshot().index and self.log.term(index) is not None)
        snapshot_of(self.log, index)

    @rule(data=st.data(), flips=st.integers(1, 3))
    def flip(self, data: st.DataObject, flips: int) -> None:
        """A zero at the end of a record or a sector is what a crash leaves: so none is made."""
        content = self.disk.bytes_of("raft/" + data.draw(st.sampled_from(self.disk.list("raft"))))
        assume(content)
        for _ in range(flips):
            place = data.draw(st.integers(0, len(content) - 1))
            content[place] = (content[place] ^ data.draw(st.integers(1, 255))) or content[place]
        self.is_rotten = True

    @rule(data=st.data(), how=st.sampled_from(["empty", "zeros", "a sector of zeros", "missing"]))
    def lose(self, data: st.DataObject, how: str) -> None:
        """Of a file that is not the last: of that one, a crash may leave the same."""
        names = [name for name in self.disk.list("raft") if name.endswith(".log")][:-1]
        assume(names)
        path = "raft/" + data.draw(st.sampled_from(names))
        content = self.disk.bytes_of(path)
        if how == "empty":
            content.clear()
        elif how == "zeros":
            content[:] = bytes(len(content))
        elif how == "missing":
            self.disk.remove(path)
        elif content:
            begin = data.draw(st.integers(0, (len(content) - 1) // SECTOR_BYTES)) * SECTOR_BYTES
            end = min(begin + SECTOR_BYTES, len(content))
            content[begin:end] = bytes(end - begin)
        self.is_rotten = True

    @rule(seed=st.none() | st.integers(0, 1000))
    def reopen(self, seed: int | None) -> None:
        self.log.close()
        if seed is not None:
            self.disk = self.disk.after_power_failure(random.Random(seed))
        report = verify(self.disk, "raft")
        try:
            log = open_log(self.disk, "raft", owner=OWNER, config=self.config, must_exist=True)
        except CorruptLog:
            assert self.is_rotten
            assert report.problem
            self.start_anew()
            return
        assert (report.last, report.lost) == (log.last_index(), log.lost())
        self.log, self.lost = log, log.lost()
        state, _ = log.initial_state()
        assert (state.term, state.vote) == (self.state.term, self.state.vote)
        assert state.commit <= self.committed
        assert log.snapshot().index <= self.committed
        first, last = log.first_index(), log.last_index()
        assert list(log.entries(first, last + 1)) == self.entries[first - 1 : last]
        assert first == 1 or log.snapshot().index >= first - 1
        end = End(last, self.term_of(last))
        if self.lost is None:
            assert end == self.told
        else:
            assert self.is_rotten
            assert end == self.told or self.told.is_covered(self.lost)
        self.last, self.state = last, state


TestRotMachine = RotMachine.TestCase
TestRotMachine.settings = settings(suppress_health_check=[HealthCheck.filter_too_much], stateful_step_count=20)


@pytest.mark.parametrize("how", ["empty", "zeros"])
def test_a_file_before_the_last_that_is_gone_takes_no_other_with_it(how: str) -> None:
    def written() -> MemoryDisk:
        disk = MemoryDisk()
        log = open_log(disk, "raft", owner=OWNER, config=LogConfig(segment_bytes=1500))
        for index in range(1, 10):
            log.append(HardState(index, 2, index - 1), [Entry(index, index, data=bytes(600))])
            log.sync()
        log.close()
        return disk

    names = written().list("raft")
    assert len(names) > 2
    for name in names[:-1]:
        disk = written()
        content = disk.bytes_of("raft/" + name)
        content[:] = b"" if how == "empty" else bytes(len(content))
        for _ in range(2):
            log = open_log(disk, "raft", owner=OWNER, must_exist=True)
            assert (log.initial_state()[0].term, log.initial_state()[0].vote) == (9, 2)
            assert log.lost() == Lost(9, 9, 9)
            log.close()
        assert set(names) <= set(disk.list("raft"))


def test_entries_that_were_replaced_do_not_come_back_as_committed() -> None:
    """Of the oldest file that is kept the first records say what was not committed yet, and later ones replace it."""
    disk = MemoryDisk()
    config = LogConfig(kept_log_bytes=0)
    log = open_log(disk, "raft", owner=OWNER, config=config)

    def append(state: HardState, *indexes: int) -> None:
        log.append(state, [entry(state.term, index) for index in indexes])
        log.sync()

    append(HardState(1, 1, 2), 1, 2, 3)
    snapshot_of(log, 1)
    append(HardState(1, 1, 2), 4, 5, 6)
    snapshot_of(log, 2)
    append(HardState(2, 2, 2), 5, 6, 7)
    append(HardState(2, 2, 7))
    snapshot_of(log, 3)
    snapshot_of(log, 5)
    log.close()
    path = "raft/00000003-00000000000000000007.log"
    content = disk.bytes_of(path)
    content[content.index(b"5 of 2") - 40] ^= 1
    log = open_log(disk, "raft", owner=OWNER, config=config)
    assert log.snapshot().term == log.term(5) == 2
    assert log.last_index() == 5
    assert log.lost() == Lost(7, 2, 2)
    raft = Raft(RaftConfig(id=1), log, now=0.0, rng=random.Random(1), applied=5)
    assert raft.commit_index == 5
    ready = raft.ready()
    assert ready is None or not ready.committed_entries


def test_a_head_that_is_read_in_place_of_a_damaged_one_may_name_an_image_that_is_gone() -> None:
    disk = MemoryDisk()
    config = LogConfig(kept_log_bytes=0)
    log = open_log(disk, "raft", owner=OWNER, config=config)
    for index in (1, 2, 3):
        log.append(HardState(1, 1, index - 1), [entry(1, index)])
        snapshot_of(log, index)
    log.append(HardState(1, 1, 3), [entry(1, 4)])
    log.close()
    newest = [name for name in disk.list("raft") if name.endswith(".log")][-1]
    disk.turn_over(f"raft/{newest}", OWNER)
    log = open_log(disk, "raft", owner=OWNER, config=config)
    assert not all(disk.exists(image_path("raft", snapshot)) for snapshot in log.snapshots)
    for index in range(log.last_index() + 1, log.last_index() + 4):
        log.append(HardState(1, 1, index - 1), [entry(1, index)])
        snapshot_of(log, index)
    log.close()
    assert open_log(disk, "raft", owner=OWNER, config=config).snapshot().index == index
