"""A data directory from a snapshot of the metadata: a mesh whose Raft group is one node, and goes on from there.

It is offline, on a directory that no node uses: an empty one, or that of a node of the same mesh, which keeps its id
and what it has of partitions. As with `meshnode.recovery`, the new log is begun beside the old one and counts once
`identity` names it, so that a crash in the middle leaves everything as it was; and the others, when they hear of the
new group, set their own logs aside.

The metadata go back in time. Nodes and rows of partitions do not, where the directory's own log can be read and has
later ones: they say where things are, and the agents' state is where the last rows say.

Nothing that was handed out since may be handed out again. So the new group is of a later generation than any before it,
which stands above the index in fencing tokens, session ids and revisions, and above the number in epochs and terms
(rule 13); and its log begins `INDEX_JUMP` behind the last index that is known, for what goes by the index alone. Only
who restores knows whether there has been a later generation than snapshot and directory know.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Final

from consensus.disk import Disk
from consensus.messages import Configuration, HardState, Snapshot
from consensus.quorum import majority
from consensus.verification import verify
from meshnode.data_directory import Identity, Standing, has_identity, read_identity, save_identity
from meshnode.errors import DataDirectoryError, InvalidArgument, OperatorError, WrongMesh
from meshnode.identity import Boot, NodeId, PartitionId
from meshnode.metadata.group import open_raft_log
from meshnode.metadata.history import History
from meshnode.metadata.nodes import resolve
from meshnode.metadata.rows import Row
from meshnode.metadata.state import GENERATION_SHIFT, Metadata
from meshnode.recovery import clear, first_term, raising_entry, replay
from meshnode.snapshot_file import SnapshotFile

INDEX_JUMP: Final = 2**30
"""More than a mesh agrees on between two snapshots: twelve days of a thousand entries a second."""

GENERATION_MAX: Final = 2 ** (63 - GENERATION_SHIFT) - 1
"""So that tokens and epochs have 63 bits."""


@dataclass(frozen=True, slots=True)
class Present:
    """What is in the directory.

    Attributes:
        identity: of the node; drawn anew for an empty directory.
        generation: the latest that the directory knows.
        last: where its own log ends; 0 without one.
        damage: why it can't be told what its log has; empty if it can.
        is_newer: whether its log has more than the snapshot, nodes and rows included.
    """

    identity: Identity
    generation: int = 0
    last: int = 0
    damage: str = ""
    is_newer: bool = False


@dataclass(frozen=True, slots=True)
class Restored:
    """What came of it.

    Attributes:
        identity: of the node, in the new generation.
        index: where its log begins.
        emptied: partitions of which no copy is left.
        thinned: partitions of which fewer than a majority of the copies are left: they go on from those.
    """

    identity: Identity
    index: int
    lost: tuple[NodeId, ...]
    emptied: tuple[PartitionId, ...]
    thinned: tuple[PartitionId, ...]


def look(disk: Disk, snapshot: SnapshotFile, fresh_id: NodeId) -> Present:
    """What a directory has that the snapshot is to be restored to. Nothing there is changed.

    The metadata of the snapshot get the nodes and rows of the directory's own log, where that has later ones.

    Raises:
        WrongMesh: its node belongs to another mesh.
        DataDirectoryError: it is damaged, or an old copy.
        OSError: the disk refuses.
    """
    mesh_id = snapshot.founding.mesh_id
    if not has_identity(disk):
        return Present(Identity(fresh_id, Boot(0), Standing.MEMBER, mesh_id))
    identity = read_identity(disk)
    if identity.standing is Standing.SUPERSEDED:
        raise DataDirectoryError("the data directory is an old copy of a node that has gone on elsewhere: take another")
    if identity.standing is Standing.BORN:
        return Present(replace(identity, standing=Standing.MEMBER, mesh_id=mesh_id))
    if identity.mesh_id != mesh_id:
        raise WrongMesh(
            f"the data directory is of mesh {identity.mesh_id.hex()}, and the snapshot of mesh {mesh_id.hex()}: give "
            "an empty directory"
        )
    return _with_log(disk, identity, snapshot)


def _with_log(disk: Disk, identity: Identity, snapshot: SnapshotFile) -> Present:
    if not disk.exists(identity.raft_directory):
        return Present(identity, identity.generation)
    report = verify(disk, identity.raft_directory)
    generation = max(identity.generation, max(report.term, report.last_term) >> GENERATION_SHIFT)
    last = report.last if report.lost is None else max(report.last, report.lost.index)
    if not report.is_sound:
        return Present(identity, generation, last, damage=report.problem or str(report.damages[0]))
    if (generation, last) <= (snapshot.metadata.generation, snapshot.position):
        return Present(identity, generation, last)
    log = open_raft_log(disk, identity.raft_directory, identity.owner)
    try:
        own, _ = replay(log)
    finally:
        log.close()
    snapshot.metadata.nodes, snapshot.metadata.rows = own.nodes, own.rows
    return Present(identity, generation, last, is_newer=True)


def check_age(present: Present, snapshot: SnapshotFile) -> None:
    """Raises OperatorError where the directory has, or may have, what was agreed on after the snapshot."""
    if present.damage:
        raise OperatorError(
            f"it can't be told whether the data directory has more than the snapshot: {present.damage}. If it is to be "
            "lost, give --discard-newer"
        )
    if present.is_newer:
        raise OperatorError(
            f"the data directory's own log reaches index {present.last} of generation {present.generation}, and the "
            f"snapshot only {snapshot.position} of generation {snapshot.metadata.generation}: start the node as it is, "
            "or meshnode raft recover; if what is newer is to be lost, give --discard-newer"
        )


def next_generation(present: Present, snapshot: SnapshotFile, wanted: int | None = None) -> int:
    """The generation of the new group.

    Raises:
        InvalidArgument: the wanted one has been there, or is too high.
    """
    known = max(present.generation, snapshot.metadata.generation)
    generation = known + 1 if wanted is None else wanted
    if not known < generation <= GENERATION_MAX:
        raise InvalidArgument(f"generation {generation}: choose one above {known}, up to {GENERATION_MAX}")
    return generation


def lost_nodes(present: Present, snapshot: SnapshotFile, names: Collection[str], *, alone: bool) -> tuple[NodeId, ...]:
    """Nodes whose data directories are gone.

    Args:
        names: of them, or their ids.
        alone: whether all others are.

    Raises:
        NotFound, InvalidArgument: one can't be told from its name, or is the node of this directory.
    """
    me = present.identity.node_id
    known = {node_id: record.name for node_id, record in snapshot.metadata.nodes.items()}
    lost = {resolve(known, name) for name in names}
    if me in lost:
        raise InvalidArgument(f"{known[me]} is the node of this data directory, so it is not lost")
    return tuple(sorted(known.keys() - {me} if alone else lost))


def restore(
    disk: Disk, snapshot: SnapshotFile, present: Present, *, generation: int, lost: Collection[NodeId]
) -> Restored:
    """Begin the new group. The snapshot's metadata are changed on the way.

    Args:
        present: what `look` said of the same directory and snapshot.
        generation: from `next_generation`.
        lost: from `lost_nodes`: partitions go on without their copies, and they are forgotten.

    Raises:
        OperatorError: the log's index would become too large.
        OSError: the disk refuses. What was there is as it was.
    """
    metadata = snapshot.metadata
    index = max(present.last, snapshot.position) + INDEX_JUMP
    if index >> GENERATION_SHIFT:
        raise OperatorError(f"the log would begin at index {index}, and tokens have room for {GENERATION_SHIFT} bits")
    emptied, thinned = _do_without(metadata.rows, lost)
    identity = replace(present.identity, generation=generation)
    clear(disk, identity.raft_directory)
    log = open_raft_log(disk, identity.raft_directory, identity.owner)
    try:
        begun = Snapshot(index, first_term(generation), Configuration(voters=(identity.node_id,)))
        written = log.images.write(begun, _frozen_at(index, metadata))
        entry = raising_entry(index + 1, identity, lost)
        log.append(HardState(entry.term, vote=0, commit=entry.index), (entry,), written)
        log.sync()
    finally:
        log.close()
    save_identity(disk, identity)
    return Restored(identity, index, tuple(lost), emptied, thinned)


def _frozen_at(index: int, metadata: Metadata) -> Iterable[bytes]:
    history = History(metadata)
    history.replaced(index)
    return history.freeze()()


def _do_without(
    rows: dict[PartitionId, Row], lost: Collection[NodeId]
) -> tuple[tuple[PartitionId, ...], tuple[PartitionId, ...]]:
    """Have no partition wait for copies that are gone: those of which none is left, and those of which few are.

    A partition whose row is gone begins as in a new mesh, at an epoch above all that it ever had.
    """
    emptied, thinned = [], []
    for partition, row in list(rows.items()):
        if not row.base:
            continue  # nobody was primary of it yet
        left = tuple(member for member in row.base if member not in lost)
        if not left:
            del rows[partition]
            emptied.append(partition)
        elif len(left) < majority(len(row.base)):
            rows[partition] = replace(row, base=left)
            thinned.append(partition)
    return tuple(emptied), tuple(thinned)
