"""What the node keeps on disk, through crashes at any operation: identity, Raft log and journal."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, cast

import pytest
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st

from consensus.errors import CorruptLog, StorageFailed
from consensus.messages import Entry, EntryKind, HardState
from consensus.storage import DurableLog, open_log
from meshnode import errors
from meshnode.data_directory import load_identity
from meshnode.errors import DataDirectoryError
from meshnode.host import Host
from meshnode.identity import Boot, Epoch, NodeId, PartitionId
from meshnode.partitions.config import PartitionsConfig
from meshnode.partitions.journal import Journal
from meshnode.partitions.messages import Entry as JournalEntry
from meshnode.partitions.messages import Log, Position, Record, Snapshot
from simulations.disk import DiskFaults, SimDisk

OWNER = b"mesh and node"
IN_ORDER = DiskFaults(in_order=True)
DESTROYING = DiskFaults(
    bit_rot_rate=0.2,
    read_bit_rot_rate=0.05,
    stale_rate=0.1,
    misdirected_rate=0.1,
    sync_error_rate=0.05,
    read_error_rate=0.02,
)

SEEDS = st.integers(0, 2**32)
CRASHES = st.lists(st.tuples(st.integers(1, 25), st.booleans()), min_size=1, max_size=6)
"""After how many disk operations, counted from the start of the process, and whether the power goes too."""


class Killed(BaseException):
    """The process is gone in the middle of a disk operation."""


def crash_after(disk: SimDisk, operations: int, *, power_loss: bool) -> None:
    """Let the process die just before one of its next operations."""
    left = operations

    def count(_operation: str, _path: str) -> None:
        nonlocal left
        left -= 1
        if not left:
            disk.on_operation = None
            disk.crash(power_loss=power_loss)
            raise Killed

    disk.on_operation = count


def lives(disk: SimDisk, crashes: list[tuple[int, bool]], live: Callable[[], None]) -> Iterator[None]:
    """Run a process again and again, each time until it is killed; then what follows each."""
    for operations, power_loss in crashes:
        crash_after(disk, operations, power_loss=power_loss)
        with pytest.raises(Killed):
            live()
        yield


# ---- identity


@settings(max_examples=100)
@given(SEEDS, CRASHES)
def test_an_identity_is_never_lost_and_no_boot_number_comes_twice(seed: int, crashes: list[tuple[int, bool]]) -> None:
    disk = SimDisk("disk", seed=seed)
    boots: list[Boot] = []
    known: list[NodeId] = []

    def live() -> None:
        while True:
            identity = load_identity(disk, NodeId(100 + len(boots)))
            boots.append(identity.boot)
            known.append(identity.node_id)

    for _ in lives(disk, crashes, live):
        pass
    assert len(set(known)) <= 1
    assert boots == sorted(set(boots))


# ---- Raft log


class Writer:
    """A process that appends to the Raft log, and remembers what was synced and what may be there as well."""

    def __init__(self, disk: SimDisk) -> None:
        self.disk = disk
        self.written: list[Entry] = []
        self.synced = 0
        self.term = 0

    def live(self) -> None:
        log = self.opened()
        while True:
            self.term += 1
            entries = [
                Entry(
                    self.term, log.last_index() + 1 + number, EntryKind.NORMAL, bytes([self.term % 256]) * 150 * number
                )
                for number in range(1 + self.term % 4)
            ]
            log.append(HardState(self.term, 1, log.last_index()), entries)
            self.written[log.last_index() - len(entries) :] = entries
            log.sync()
            self.synced = len(self.written)

    def opened(self) -> DurableLog:
        """The log, after a look that what it has is what was written."""
        log = open_log(self.disk, "raft", owner=OWNER)
        found = list(log.entries(1, log.last_index() + 1))
        assert found == self.written[: len(found)], "a prefix of what was written"
        assert len(found) >= self.synced, "with all that was synced"
        self.written = found
        self.synced = len(found)  # opening syncs what it found
        return log


@settings(max_examples=100)
@example(seed=3, crashes=[(12, False), (20, False), (1, True)])  # a sector ends within the checksum that is cut off
@given(SEEDS, CRASHES)
def test_the_raft_log_keeps_what_was_synced(seed: int, crashes: list[tuple[int, bool]]) -> None:
    writer = Writer(SimDisk("disk", seed=seed, faults=IN_ORDER))
    for _ in lives(writer.disk, crashes, writer.live):
        pass
    writer.opened()


@settings(max_examples=100)
@given(SEEDS, CRASHES)
def test_a_raft_log_with_lost_sectors_opens_with_all_that_was_synced_or_not_at_all(
    seed: int, crashes: list[tuple[int, bool]]
) -> None:
    writer = Writer(SimDisk("disk", seed=seed))
    try:
        for _ in lives(writer.disk, crashes, writer.live):
            pass
        writer.opened()
    except CorruptLog:
        assert writer.disk.fired["lost_sector"]


@settings(max_examples=300)
@given(SEEDS, CRASHES, st.booleans())
def test_a_raft_log_on_a_broken_disk_is_right_or_refused(
    seed: int, crashes: list[tuple[int, bool]], in_order: bool
) -> None:
    disk = SimDisk("disk", seed=seed, faults=IN_ORDER)
    writer = Writer(disk)
    writer.opened().close()
    disk.faults = replace(DESTROYING, in_order=in_order)
    for operations, power_loss in crashes:
        crash_after(disk, operations, power_loss=power_loss)
        try:
            writer.live()
        except (StorageFailed, OSError):
            disk.crash(power_loss=power_loss)  # the process gave up, and is started again
        except CorruptLog:
            return
        except Killed:
            pass
    disk.on_operation = None
    disk.faults = DiskFaults(in_order=in_order)
    try:
        writer.opened()
    except CorruptLog:
        assert disk.fired


# ---- journal


class InlineHost:
    """Runs the disk's work at once."""

    async def run_blocking(self, work: Callable[..., Any], *arguments: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return work(*arguments)


SMALL = PartitionsConfig(segment_bytes=2**16)
PARTITION = PartitionId(1)


class Keeper:
    """A process that writes to the journal, and remembers what was synced and what may be there as well."""

    def __init__(self, disk: SimDisk) -> None:
        self.disk = disk
        self.written: list[JournalEntry] = []
        self.synced = 0
        self.sequence = 0

    def live(self) -> None:
        trio.run(self._live)

    async def _live(self) -> None:
        journal = self.opened()
        while True:
            for _ in range(1 + self.sequence % 3):
                self._write(journal)
            with trio.CancelScope() as synced:
                journal.after_sync(synced.cancel)
                await journal.run()
            self.synced = len(self.written)

    def _write(self, journal: Journal) -> None:
        self.sequence += 1
        state = self.sequence.to_bytes(2, "big") * (10 if self.sequence % 2 else 20_000)
        entry: JournalEntry = Log(PARTITION, (Record(Epoch(1), self.sequence, state),))
        if self.sequence % 7 == 0:
            entry = Snapshot(PARTITION, Epoch(1), Position(Epoch(1), self.sequence), state)
        journal.write(entry)
        self.written.append(entry)

    def opened(self) -> Journal:
        """The journal, after a look that what it has is what was written, but for what a snapshot has replaced."""
        journal = Journal(cast(Host, InlineHost()), self.disk, SMALL, OWNER)
        found = list(journal.recover())
        first = self.written.index(found[0]) if found else 0
        assert found == self.written[first : first + len(found)]
        assert first + len(found) >= self.synced
        assert first == 0 or any(isinstance(entry, Snapshot) for entry in found)
        self.written = found
        self.synced = len(found)  # opening syncs what it found
        return journal


@settings(max_examples=100)
@example(seed=0, crashes=[(6, False), (9, True)])  # the first process does not get to sync the first file's name
@given(SEEDS, CRASHES)
def test_the_journal_keeps_what_was_synced(seed: int, crashes: list[tuple[int, bool]]) -> None:
    keeper = Keeper(SimDisk("disk", seed=seed, faults=IN_ORDER))
    for _ in lives(keeper.disk, crashes, keeper.live):
        pass
    keeper.opened()


@settings(max_examples=100)
@given(SEEDS, CRASHES)
def test_a_journal_with_lost_sectors_opens_with_all_that_was_synced_or_not_at_all(
    seed: int, crashes: list[tuple[int, bool]]
) -> None:
    keeper = Keeper(SimDisk("disk", seed=seed))
    try:
        for _ in lives(keeper.disk, crashes, keeper.live):
            pass
        keeper.opened()
    except DataDirectoryError:
        assert keeper.disk.fired["lost_sector"]


@settings(max_examples=200)
@given(SEEDS, CRASHES, st.booleans())
def test_a_journal_on_a_broken_disk_is_right_or_refused(
    seed: int, crashes: list[tuple[int, bool]], in_order: bool
) -> None:
    disk = SimDisk("disk", seed=seed, faults=IN_ORDER)
    keeper = Keeper(disk)
    keeper.opened()
    disk.faults = replace(DESTROYING, in_order=in_order)
    for operations, power_loss in crashes:
        crash_after(disk, operations, power_loss=power_loss)
        try:
            keeper.live()
        except (errors.StorageFailed, OSError):
            disk.crash(power_loss=power_loss)  # the process gave up, and is started again
        except DataDirectoryError:
            return
        except Killed:
            pass
    disk.on_operation = None
    disk.faults = DiskFaults(in_order=in_order)
    try:
        keeper.opened()
    except DataDirectoryError:
        assert disk.fired
