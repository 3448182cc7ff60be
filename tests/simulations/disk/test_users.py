"""What the node keeps on disk, through crashes at any operation: identity, Raft log and journal."""

import copy
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any, cast

import pytest
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st

from consensus.config import LogConfig
from consensus.errors import CorruptLog, StorageFailed
from consensus.messages import Entry, EntryKind, HardState
from consensus.opening import open_log
from consensus.storage import DurableLog
from consensus.syncing import SlowSyncs, Syncs
from meshnode import errors
from meshnode.data_directory import load_identity
from meshnode.errors import DataDirectoryError
from meshnode.host import Host
from meshnode.identity import STARTS_KEPT, Boot, Epoch, NodeId, PartitionId
from meshnode.partitions.config import PartitionsConfig
from meshnode.partitions.journal import Journal
from meshnode.partitions.messages import Entry as JournalEntry
from meshnode.partitions.messages import Log, Position, Record, Snapshot
from simulations.disk import DiskFaults, Operation, SimDisk

OWNER = b"mesh and node"
CRASHING = st.builds(DiskFaults, in_order=st.booleans(), torn_sector_rate=st.sampled_from((0.0, 0.5)))
"""Every power loss, and no damage to what was synced."""
BROKEN = st.builds(
    replace,
    st.sampled_from(
        (
            DiskFaults(bit_rot_rate=0.2, read_bit_rot_rate=0.05),
            DiskFaults(stale_rate=0.2),
            DiskFaults(misdirected_rate=0.2),
        )
    ),
    in_order=st.booleans(),
    torn_sector_rate=st.sampled_from((0.0, 0.5)),
    sync_error_rate=st.sampled_from((0.0, 0.05)),
    read_error_rate=st.sampled_from((0.0, 0.02)),
)
"""One kind of damage: the newest two records, one lost and the other with a wrong bit, may look like a crash."""

DAMAGE = {"bit_rot", "read_bit_rot", "stale", "misdirected"}

SEEDS = st.integers(0, 2**32)
SECTORS = st.sampled_from((512, 4096))
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
    nonces: dict[Boot, int] = {}

    def live() -> None:
        while True:
            identity = load_identity(disk, NodeId(100 + len(boots)), 1000 + len(boots))
            remembered = identity.start.before
            for boot, nonce in nonces.items():
                ago = identity.boot - boot
                assert (remembered[-ago] == nonce) if ago <= len(remembered) else ago > STARTS_KEPT - 1
            nonces[identity.boot] = 1000 + len(boots)
            boots.append(identity.boot)
            known.append(identity.node_id)

    for _ in lives(disk, crashes, live):
        pass
    assert len(set(known)) <= 1
    assert boots == sorted(set(boots))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "identity is cut off at byte 0"),
        (b"\xab", "identity is cut off at byte 1"),
        (b"\xabLg\x01" + bytes(40), "identity is of an older format"),
        (b"\xff" * 40, "identity is damaged at byte 0 of 40"),
        (None, "but no identity"),
    ],
)
def test_without_a_sound_identity_the_only_way_on_is_an_empty_directory(content: bytes | None, problem: str) -> None:
    disk = SimDisk("disk", seed=1)
    disk.make_directory("raft")
    if content is not None:
        disk.open("identity", create=True).append(content)
    with pytest.raises(DataDirectoryError, match=f"{problem}.* with an empty"):
        load_identity(disk, NodeId(1), 7)


# ---- Raft log


class Writer:
    """A process that appends to the Raft log, and remembers what was synced and what may be there as well."""

    config = LogConfig(segment_bytes=600)
    """A few batches each."""

    def __init__(self, disk: SimDisk) -> None:
        self.disk = disk
        self.written: list[Entry] = []
        self.synced = 0
        self.term = self.promised = 0

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
            log.append(HardState(self.term, 1, log.last_index()), entries[:2])
            log.append(None, entries[2:])
            self.written[log.last_index() - len(entries) :] = entries
            log.sync()
            self.synced, self.promised = len(self.written), self.term

    def opened(self) -> DurableLog:
        """The log, after a look that what it has is what was written. What damage has cost is written again."""
        log = open_log(self.disk, "raft", owner=OWNER, config=self.config)
        found = list(log.entries(1, log.last_index() + 1))
        assert found == self.written[: len(found)], "a prefix of what was written"
        assert log.initial_state()[0].term >= self.promised, "in the term that it was in"
        lost = log.lost()
        if lost is not None:
            assert self.disk.fired.keys() & DAMAGE
            assert lost.index >= self.synced, "it knows all that it had"
            self.synced = min(self.synced, len(found))
            log.append(None, self.written[len(found) : lost.index])
            log.sync()
            found = self.written[: lost.index]
        assert len(found) >= self.synced, "with all that was synced"
        self.written = found
        self.synced, self.promised = len(found), log.initial_state()[0].term  # opening syncs what it found
        return log


@settings(max_examples=300)
@example(3, [(12, False), (20, False), (1, True)], DiskFaults(in_order=True), 512)  # a sector ends within a checksum
@given(SEEDS, CRASHES, CRASHING, SECTORS)
def test_a_raft_log_opens_after_any_crash_with_all_that_was_synced(
    seed: int, crashes: list[tuple[int, bool]], faults: DiskFaults, sector_bytes: int
) -> None:
    writer = Writer(SimDisk("disk", seed=seed, faults=faults, sector_bytes=sector_bytes))
    for _ in lives(writer.disk, crashes, writer.live):
        pass
    writer.opened()


@settings(max_examples=300)
@given(SEEDS, CRASHES, BROKEN, SECTORS)
def test_a_raft_log_on_a_broken_disk_is_right_or_refused(
    seed: int, crashes: list[tuple[int, bool]], faults: DiskFaults, sector_bytes: int
) -> None:
    disk = SimDisk("disk", seed=seed, sector_bytes=sector_bytes)
    writer = Writer(disk)
    writer.opened().close()
    disk.faults = faults
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
    disk.faults = DiskFaults()
    try:
        writer.opened()
    except CorruptLog:
        assert disk.fired.keys() & DAMAGE


# ---- journal


class InlineHost:
    """Runs the disk's work at once."""

    def syncs(self) -> Syncs:
        return SlowSyncs(self.run_blocking)

    async def run_blocking(self, work: Callable[..., Any], *arguments: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return work(*arguments)


@pytest.fixture(scope="module", autouse=True)
def several_records_a_sync() -> Iterator[None]:
    """As when more is queued than a record of the journal takes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("meshnode.partitions.journal.BATCH_BYTES_MAX", 1000)
        yield


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


@settings(max_examples=200)
@example(0, [(6, False), (9, True)], DiskFaults(in_order=True), 512)  # the first file's name was not synced
@given(SEEDS, CRASHES, CRASHING, SECTORS)
def test_a_journal_opens_after_any_crash_with_all_that_was_synced(
    seed: int, crashes: list[tuple[int, bool]], faults: DiskFaults, sector_bytes: int
) -> None:
    keeper = Keeper(SimDisk("disk", seed=seed, faults=faults, sector_bytes=sector_bytes))
    for _ in lives(keeper.disk, crashes, keeper.live):
        pass
    keeper.opened()


@settings(max_examples=200)
@given(SEEDS, CRASHES, BROKEN, SECTORS)
def test_a_journal_on_a_broken_disk_is_right_or_refused(
    seed: int, crashes: list[tuple[int, bool]], faults: DiskFaults, sector_bytes: int
) -> None:
    disk = SimDisk("disk", seed=seed, sector_bytes=sector_bytes)
    keeper = Keeper(disk)
    keeper.opened()
    disk.faults = faults
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
    disk.faults = DiskFaults()
    try:
        keeper.opened()
    except DataDirectoryError:
        assert disk.fired.keys() & DAMAGE


# ---- both, in the middle of recovery

User = Writer | Keeper


def on_a_copy(user: User, seed: int) -> User:
    """The same, with a disk of its own."""
    twin = copy.copy(user)
    twin.disk = user.disk.fork("copy", seed=seed)
    return twin


def asked_by_recovery(user: User) -> list[str]:
    """The operations that opening asks of the disk."""
    found: list[str] = []
    twin = on_a_copy(user, 0)
    twin.disk.on_operation = lambda operation, _path: found.append(operation)
    twin.opened()
    return found


def with_a_torn_tail(kind: type[User], operations: int) -> User:
    """After a crash that left something to be cut."""
    for seed in range(200):
        user = kind(SimDisk("disk", seed=seed))
        crash_after(user.disk, operations + seed % 6, power_loss=True)  # one of them is a sync
        with pytest.raises(Killed):
            user.live()
        if Operation.TRUNCATE in asked_by_recovery(user):
            return user
    raise AssertionError("no crash left a torn tail")


@pytest.mark.parametrize("power_loss", [False, True], ids=["killed", "power lost"])
@pytest.mark.parametrize(
    ("kind", "operations"),
    [(Writer, 20), (Keeper, 19)],
    ids=["Raft log", "journal"],
)
def test_a_tail_is_cut_durably_before_anything_follows_and_a_crash_meanwhile_is_harmless(
    kind: type[User], operations: int, power_loss: bool
) -> None:
    user = with_a_torn_tail(kind, operations)
    asked = asked_by_recovery(user)
    later = asked[asked.index(Operation.TRUNCATE) + 1 :]
    assert Operation.APPEND not in later[: later.index(Operation.SYNC)]
    for count in range(1, len(asked) + 2):
        for seed in range(5):
            twin = on_a_copy(user, seed)
            crash_after(twin.disk, count, power_loss=power_loss)
            with suppress(Killed):
                twin.opened()
            twin.disk.on_operation = None
            twin.opened()
