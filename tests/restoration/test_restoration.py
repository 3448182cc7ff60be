"""Restoring a snapshot: what goes on from it, what is refused, and that nothing is handed out twice."""

from dataclasses import replace

import pytest

from consensus.messages import Configuration
from meshnode import wire
from meshnode.coordination.commands import Acquire, Claimed, RequestId, Step, Transact
from meshnode.data_directory import Identity, Standing, load_identity, read_identity, save_identity
from meshnode.errors import DataDirectoryError, InvalidArgument, NotFound, OperatorError, WrongMesh
from meshnode.identity import Boot, MeshId, NodeId, PartitionId
from meshnode.metadata.commands import Found, Leaving
from meshnode.metadata.state import GENERATION_SHIFT, Metadata
from meshnode.recovery import recover, survey
from meshnode.restoration import (
    GENERATION_MAX,
    INDEX_JUMP,
    Restored,
    check_age,
    look,
    lost_nodes,
    next_generation,
)
from meshnode.restoration import restore as restore_to
from meshnode.snapshot_file import SnapshotFile, read_snapshot
from simulations.disk import DiskFaults, SimDisk
from tests.consensus.disks import MemoryDisk
from tests.restoration.directories import (
    COMMANDS,
    MESH,
    A,
    B,
    C,
    D,
    read_log,
    register,
    row_on,
    write_log,
    write_snapshot,
)
from tests.simulations.disk.test_users import Killed, crash_after

FRESH = NodeId(99)
LATER = [*COMMANDS, register(A, 2), register(D), register(B, 2)]
"""What was agreed on after the snapshot, too."""


@pytest.fixture
def snapshot() -> SnapshotFile:
    """At index 14."""
    return write_snapshot(MemoryDisk())


def restore(
    disk: MemoryDisk | SimDisk,
    snapshot: SnapshotFile,
    *lost: str,
    alone: bool = False,
    discard_newer: bool = False,
    wanted: int | None = None,
) -> Restored:
    """As the command does it."""
    present = look(disk, snapshot, FRESH)
    if not discard_newer:
        check_age(present, snapshot)
    gone = lost_nodes(present, snapshot, lost, alone=alone)
    return restore_to(disk, snapshot, present, generation=next_generation(present, snapshot, wanted), lost=gone)


def started(disk: MemoryDisk | SimDisk) -> tuple[Identity, Metadata, Configuration]:
    """What a node has that starts there."""
    identity = load_identity(disk, NodeId(1), nonce=5)
    metadata, configuration, _log = read_log(disk, identity)
    return identity, metadata, configuration


def test_an_empty_directory_becomes_a_new_node_that_is_the_group_alone(snapshot: SnapshotFile) -> None:
    disk = MemoryDisk()
    done = restore(disk, snapshot)
    identity, metadata, configuration = started(disk)
    assert (identity.node_id, identity.boot, identity.mesh_id) == (FRESH, 1, MESH)
    assert (identity.generation, metadata.generation, done.identity.generation) == (1, 1, 1)
    assert configuration == Configuration(voters=(FRESH,))
    assert set(metadata.nodes) == {A, B, C}
    assert not any(record.is_leaving for record in metadata.nodes.values())
    entry = metadata.coordination.store.get("key")
    assert entry is not None
    assert entry.value == b"value"
    assert metadata.coordination.queues.names() == ["lock"]
    assert len(metadata.rows) == 3


def test_a_directory_of_the_mesh_keeps_its_node_and_its_partitions(snapshot: SnapshotFile) -> None:
    disk = MemoryDisk()
    write_log(disk, me=B, commands=COMMANDS[:5])
    disk.make_directory("journal")
    disk.open("journal/1", create=True).append(b"partitions")
    restore(disk, snapshot)
    identity, metadata, configuration = started(disk)
    assert (identity.node_id, identity.boot) == (B, 2)
    assert configuration.voters == (B,)
    assert bytes(disk.bytes_of("journal/1")) == b"partitions"
    assert metadata.boot_of(B) == 1
    assert "raft" in disk.list(""), "the old log stays"


def test_nothing_that_was_handed_out_since_is_handed_out_again(snapshot: SnapshotFile) -> None:
    disk = MemoryDisk()
    since = write_log(disk, commands=LATER)
    log = read_log(disk, read_identity(disk))[2]
    newest = (since.stamp(log.last_index()), since.version, log.initial_state()[0].term)
    done = restore(disk, snapshot, discard_newer=True)
    identity, metadata, _ = started(disk)
    new_log = read_log(disk, identity)[2]
    index, term = new_log.last_index(), new_log.initial_state()[0].term
    assert done.index == log.last_index() + INDEX_JUMP < index
    assert (metadata.stamp(index), metadata.version, term) > newest
    assert term >> GENERATION_SHIFT == 1
    assert all(row.epoch < 1 << GENERATION_SHIFT for row in metadata.rows.values()), "so that they begin anew"
    reply = metadata.apply(index + 1, wire.encode(Acquire(RequestId(12, 7, 7), ("other",), 5000)))
    assert isinstance(reply, Claimed)
    assert reply.token == (1 << GENERATION_SHIFT) + index + 1 > newest[0]


@pytest.mark.parametrize("lost", [(), ("b",)], ids=["none", "one of three"])
def test_partitions_with_a_majority_of_their_copies_wait_for_them(
    snapshot: SnapshotFile, lost: tuple[str, ...]
) -> None:
    disk = MemoryDisk()
    write_log(disk, commands=COMMANDS[:5])
    rows = dict(snapshot.metadata.rows)
    done = restore(disk, snapshot, *lost)
    metadata = started(disk)[1]
    assert (done.emptied, metadata.rows[PartitionId(0)]) == ((), rows[PartitionId(0)])
    assert metadata.rows[PartitionId(2)] == rows[PartitionId(2)]
    assert [node for node, record in metadata.nodes.items() if record.is_leaving] == ([B] if lost else [])


def test_partitions_without_a_majority_go_on_from_what_is_left(snapshot: SnapshotFile) -> None:
    disk = MemoryDisk()
    write_log(disk, commands=COMMANDS[:5])
    done = restore(disk, snapshot, "b", "c")
    assert (done.emptied, done.thinned, done.lost) == ((1,), (0,), (B, C))
    metadata = started(disk)[1]
    assert set(metadata.rows) == {0, 2}
    assert metadata.rows[PartitionId(0)].base == (A,)
    assert [node for node, record in metadata.nodes.items() if record.is_leaving] == [B, C]


def test_a_partition_that_nobody_was_primary_of_has_lost_nothing() -> None:
    disk = MemoryDisk()
    begun = write_snapshot(disk, commands=(*COMMANDS[:4], row_on(0, A, B, C)[0]))
    done = restore(MemoryDisk(), begun)
    assert (done.emptied, done.thinned) == ((), ())


def test_alone_means_that_nobody_else_has_anything(snapshot: SnapshotFile) -> None:
    disk = MemoryDisk()
    done = restore(disk, snapshot, alone=True)
    assert (done.lost, done.emptied, done.thinned) == ((A, B, C), (0, 1, 2), ())
    assert started(disk)[1].rows == {}


def test_nodes_and_partitions_are_where_the_directory_last_knew_them(snapshot: SnapshotFile) -> None:
    """What goes back in time is what was agreed on, not what has happened."""
    disk = MemoryDisk()
    later = [*LATER, *row_on(3, A, B), Transact(RequestId(12, 3, 3), (), (Step.put("key", "later"),))]
    since = write_log(disk, commands=later)
    restore(disk, snapshot, "d", discard_newer=True)
    metadata = started(disk)[1]
    assert metadata.rows == since.rows
    assert set(metadata.nodes) == {A, B, C, D}
    assert [metadata.boot_of(node) for node in (A, B, C, D)] == [2, 2, 1, 1]
    assert [node for node, record in metadata.nodes.items() if record.is_leaving] == [D]
    entry = metadata.coordination.store.get("key")
    assert entry is not None
    assert entry.value == b"value"


# ---- what is refused


def test_what_is_newer_than_the_snapshot_is_not_lost_by_mistake(snapshot: SnapshotFile) -> None:
    disk = MemoryDisk()
    write_log(disk, commands=LATER)
    with pytest.raises(OperatorError, match=r"reaches index 17 of generation 0, and the snapshot only 14 .*discard"):
        restore(disk, snapshot)
    assert read_identity(disk).generation == 0
    restore(disk, snapshot, discard_newer=True)
    assert started(disk)[1].generation == 1


def test_a_later_generation_is_newer_whatever_its_index(snapshot: SnapshotFile) -> None:
    disk = MemoryDisk()
    write_log(disk, commands=COMMANDS[:2])
    recover(disk, survey(disk), ())
    with pytest.raises(OperatorError, match=r"of generation 1, and the snapshot only 14 of generation 0"):
        restore(disk, snapshot)
    assert restore(disk, snapshot, discard_newer=True).identity.generation == 2
    assert started(disk)[1].generation == 2


def test_a_damaged_log_may_have_been_newer(snapshot: SnapshotFile) -> None:
    disk = MemoryDisk()
    write_log(disk)
    name = disk.list("raft")[-1]
    disk.bytes_of(f"raft/{name}")[-40] ^= 1
    with pytest.raises(OperatorError, match=rf"it can't be told .*raft/{name} is damaged at byte \d+.*--discard-newer"):
        restore(disk, snapshot)
    restore(disk, snapshot, discard_newer=True)
    assert started(disk)[1].generation == 1


def test_a_directory_of_another_mesh_is_left_alone(snapshot: SnapshotFile) -> None:
    disk = MemoryDisk()
    save_identity(disk, Identity(A, Boot(1), Standing.MEMBER, MeshId(bytes(16))))
    with pytest.raises(WrongMesh, match=r"of mesh 0{32}, and the snapshot of mesh 000102.*give an empty directory"):
        restore(disk, snapshot, discard_newer=True)
    assert disk.list("") == ["identity"]


def test_an_old_copy_or_a_directory_without_identity_is_left_alone(snapshot: SnapshotFile) -> None:
    disk = MemoryDisk()
    save_identity(disk, Identity(A, Boot(1), Standing.SUPERSEDED, MESH))
    with pytest.raises(DataDirectoryError, match="an old copy"):
        restore(disk, snapshot)
    disk = MemoryDisk()
    disk.make_directory("journal")
    with pytest.raises(DataDirectoryError, match="a node's data but no identity"):
        restore(disk, snapshot)


def test_a_node_that_belongs_to_no_mesh_yet_is_taken(snapshot: SnapshotFile) -> None:
    disk = MemoryDisk()
    load_identity(disk, D, nonce=4)
    restore(disk, snapshot)
    identity, _, configuration = started(disk)
    assert (identity.node_id, identity.standing, configuration.voters) == (D, Standing.MEMBER, (D,))


def test_generations_rise_and_may_be_raised_further_but_never_fall(snapshot: SnapshotFile) -> None:
    disk = MemoryDisk()
    write_log(disk, generation=6)
    for wanted in (6, 0, GENERATION_MAX + 1):
        with pytest.raises(InvalidArgument, match="choose one above 6, up to 8388607"):
            restore(disk, snapshot, discard_newer=True, wanted=wanted)
    assert restore(disk, snapshot, discard_newer=True, wanted=GENERATION_MAX).identity.generation == GENERATION_MAX
    _, metadata, _ = started(disk)
    assert metadata.stamp(2**40 - 1) == 2**63 - 1


def test_a_log_that_would_grow_into_the_generation_is_refused(snapshot: SnapshotFile) -> None:
    late = replace(snapshot, position=2**40 - INDEX_JUMP)
    with pytest.raises(OperatorError, match="would begin at index 1099511627776"):
        restore(MemoryDisk(), late)


def test_who_is_lost_is_named_by_those_of_the_snapshot(snapshot: SnapshotFile) -> None:
    disk = MemoryDisk()
    write_log(disk, commands=COMMANDS[:5])
    with pytest.raises(NotFound, match="no node 'x' is known here: choose from a, b, c"):
        restore(disk, snapshot, "x")
    with pytest.raises(InvalidArgument, match="a is the node of this data directory"):
        restore(disk, snapshot, "a")
    assert restore(disk, snapshot, f"{C:016x}").lost == (C,)


# ---- in the middle


@pytest.mark.parametrize("power_loss", [False, True], ids=["killed", "power-lost"])
def test_a_crash_before_any_operation_leaves_the_old_group_or_the_new_one(power_loss: bool) -> None:
    taken = MemoryDisk()
    write_snapshot(taken)
    before = write_log(MemoryDisk(), commands=COMMANDS[:5])
    is_done = False
    number = 0
    while not is_done:
        number += 1
        disk = SimDisk("disk", seed=number, faults=DiskFaults(torn_sector_rate=0.3))
        write_log(disk, commands=COMMANDS[:5])
        crash_after(disk, number, power_loss=power_loss)
        try:
            restore(disk, read_snapshot(taken, "file"))
            is_done = True
        except Killed:
            pass
        disk.on_operation = None
        disk.crash(power_loss=power_loss)
        identity, metadata, configuration = started(disk)
        assert configuration.voters == (A,)
        if identity.generation:
            assert (metadata.generation, len(metadata.rows)) == (1, 3)
        else:
            assert not is_done
            assert b"".join(metadata.freeze()()) == b"".join(before.freeze()())
            restore(disk, read_snapshot(taken, "file"))  # again, over what was left
            assert started(disk)[1].generation == 1
    assert number > 10


# ---- recovery


def test_a_group_is_recovered_from_a_log_that_was_compacted() -> None:
    """From a snapshot and what follows it."""
    commands = [*COMMANDS, *(register(A, boot) for boot in range(2, 20)), Leaving(C)]
    disk = MemoryDisk()
    before = write_log(disk, commands=commands, snapshot_every=9)
    log = read_log(disk, read_identity(disk))[2]
    assert 1 < log.first_index() <= log.snapshot().index < log.last_index(), "a snapshot, and a tail"
    found = survey(disk)
    assert (found.last, found.term, found.generation) == (log.last_index(), 1, 0)
    assert (found.voters, set(found.names.values())) == ((A,), {"a", "b", "c"})
    identity = recover(disk, found, [B])
    metadata, configuration, new_log = read_log(disk, identity)
    assert configuration.voters == (A,)
    assert (metadata.generation, new_log.last_index()) == (1, found.last + 1)
    assert metadata.boot_of(A) == 19
    assert [node for node, record in metadata.nodes.items() if record.is_leaving] == [B, C]
    assert metadata.rows == before.rows
    assert metadata.coordination.store.get("key") == before.coordination.store.get("key")
    assert read_log(disk, replace(identity, generation=0))[0].version == before.version, "the old log is as it was"


def test_what_a_snapshot_says_of_the_mesh_is_founded_once() -> None:
    snapshot = write_snapshot(MemoryDisk())
    disk = MemoryDisk()
    restore(disk, snapshot)
    metadata = started(disk)[1]
    founding = metadata.founding
    metadata.apply(2**31, wire.encode(Found(MeshId(bytes(16)), 8, 1)))
    assert metadata.founding == founding == snapshot.founding
