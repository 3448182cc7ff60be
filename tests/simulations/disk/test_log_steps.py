"""The Raft log's changes of files and its snapshots, with a crash before each operation of the disk."""

from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from consensus.config import LogConfig
from consensus.image import write_image
from consensus.messages import Configuration, Entry, HardState, Snapshot
from consensus.opening import open_log
from consensus.storage import DurableLog
from simulations.disk import DiskFaults, Operation, SimDisk
from tests.simulations.disk.test_users import Killed, crash_after

OWNER = b"mesh and node"
MEMBERS = Configuration(voters=(1, 2), learners=(3,))
SMALL = LogConfig(segment_bytes=300, cache_bytes=1000, snapshot_log_bytes=1, kept_log_bytes=0)


def entry(index: int) -> Entry:
    """The entry that every log has at an index."""
    return Entry(1 + index // 10, index, data=b"%d," % index * (index % 7 * 20))


def state(index: int) -> bytes:
    """What those up to an index amount to."""
    return b"".join(entry(number).data for number in range(1, index + 1))


def described(index: int) -> Snapshot:
    return Snapshot(index, entry(index).term, MEMBERS)


def in_pieces(data: bytes) -> Iterator[bytes]:
    yield from (data[begin : begin + 700] for begin in range(0, len(data), 700))


class Node:
    """A process that keeps a log, and what it was told is durable."""

    def __init__(self, disk: SimDisk) -> None:
        self.disk = disk
        self.synced = HardState()
        self.last = 0
        self.snapshot = 0
        self.log: DurableLog | None = None

    def open(self) -> DurableLog:
        """The log, after a look that nothing was lost."""
        log = open_log(self.disk, "raft", owner=OWNER, config=SMALL)
        hard_state, configuration = log.initial_state()
        assert log.lost() is None
        assert log.damage is None
        assert (hard_state.term, hard_state.vote) >= (self.synced.term, self.synced.vote)
        assert log.last_index() >= self.last
        assert log.last_index() >= hard_state.commit >= log.snapshot().index >= self.snapshot
        assert log.first_index() <= log.snapshot().index + 1
        found = log.entries(log.first_index(), log.last_index() + 1) if log.last_index() >= log.first_index() else []
        assert list(found) == [entry(index) for index in range(log.first_index(), log.last_index() + 1)]
        if log.snapshot().index:
            assert configuration == MEMBERS
            assert b"".join(log.images.pieces(log.snapshot())) == state(log.snapshot().index)
            assert log.term(log.snapshot().index) == log.snapshot().term
        assert len([name for name in self.disk.list("raft") if name.endswith(".snapshot")]) <= 2
        assert not [name for name in self.disk.list("raft") if name.endswith(".part")]
        self.log = log
        self.last, self.snapshot = log.last_index(), log.snapshot().index
        return log

    def sync(self, log: DurableLog) -> None:
        expected = (log.last_index(), log.initial_state()[0], log.snapshot().index)
        log.sync()
        self.last, self.synced, self.snapshot = expected

    def append(self, log: DurableLog, count: int) -> None:
        first = log.last_index() + 1
        fresh = [entry(index) for index in range(first, first + count)]
        log.append(HardState(fresh[-1].term, fresh[-1].term % 3, first - 1), fresh)
        self.sync(log)

    def take_snapshot(self, log: DurableLog) -> None:
        index = log.last_index() - 3
        log.record_snapshot(log.images.write(described(index), in_pieces(state(index))))
        self.append(log, 1)

    def install(self, log: DurableLog) -> None:
        snapshot = described(log.last_index() + 20)
        partial = log.images.partial_path(snapshot)
        file = self.disk.open(partial, create=True)
        snapshot = write_image(file, snapshot, in_pieces(state(snapshot.index)))
        file.close()
        log.images.keep(partial, snapshot)
        follows = entry(snapshot.index + 1)
        log.append(HardState(follows.term, 1, snapshot.index), [follows], snapshot)
        self.sync(log)


def switch(node: Node) -> None:
    log = node.open()
    for _ in range(6):
        node.append(log, 3)


def snapshots(node: Node) -> None:
    log = node.open()
    for _ in range(4):
        for _ in range(3):
            node.append(log, 2)
        node.take_snapshot(log)


def installation(node: Node) -> None:
    log = node.open()
    node.append(log, 6)
    node.take_snapshot(log)
    node.append(log, 6)
    node.install(log)
    node.append(log, 3)
    node.install(log)


SCRIPTS = (switch, snapshots, installation)


def operations_of(script: Callable[[Node], None]) -> list[str]:
    asked: list[str] = []
    disk = SimDisk("disk", seed=0)
    disk.on_operation = lambda operation, path: asked.append(operation)
    script(Node(disk))
    return asked


@pytest.mark.parametrize("power_loss", [False, True], ids=["killed", "power-lost"])
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_crash_before_any_operation_of_the_disk_loses_nothing(
    script: Callable[[Node], None], power_loss: bool
) -> None:
    count = len(operations_of(script))
    for number in range(1, count + 1):
        for seed in range(30 if power_loss else 1):
            faults = DiskFaults(torn_sector_rate=0.3, in_order=seed == 2)
            node = Node(SimDisk("disk", seed=seed, faults=faults))
            crash_after(node.disk, number, power_loss=power_loss)
            with suppress(Killed):
                script(node)
            node.disk.on_operation = None
            node.disk.crash(power_loss=power_loss)
            log = node.open()
            node.append(log, 6)
            node.take_snapshot(log)
            node.disk.crash(power_loss=True)
            node.open()


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_crash_while_the_log_is_opened_after_a_crash_loses_nothing(script: Callable[[Node], None]) -> None:
    count = len(operations_of(script))
    for number in range(3, count, 5):
        node = Node(SimDisk("disk", seed=number, faults=DiskFaults(torn_sector_rate=0.3)))
        crash_after(node.disk, number, power_loss=True)
        with suppress(Killed):
            script(node)
        for step in range(1, 30):
            crash_after(node.disk, step, power_loss=step % 2 == 0)
            with suppress(Killed):
                node.open()
            if node.disk.on_operation is not None:  # it was opened before it came to that
                break
        node.disk.on_operation = None
        node.disk.crash(power_loss=True)
        node.open()


def test_the_scripts_do_what_they_are_meant_to() -> None:
    for script in SCRIPTS:
        asked = operations_of(script)
        assert asked.count(Operation.OPEN) >= 4
        if script is not switch:
            assert Operation.RENAME in asked
            assert Operation.REMOVE in asked


def test_a_file_is_begun_only_when_all_before_it_are_on_disk() -> None:
    """Else a torn end of an old file could not be told from damage."""
    disk = SimDisk("disk", seed=0)
    unsynced: set[str] = set()

    def note(operation: str, path: str) -> None:
        if operation == Operation.APPEND:
            unsynced.add(path)
        elif operation == Operation.SYNC:
            unsynced.discard(path)
        elif operation == Operation.OPEN and path.endswith(".log") and not disk._names.find(path):
            assert not unsynced

    disk.on_operation = note
    switch(Node(disk))
