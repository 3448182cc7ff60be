"""Data directories and snapshots, made without a node."""

from collections.abc import Iterable, Sequence

from consensus.config import LogConfig
from consensus.disk import Disk
from consensus.messages import Configuration, Entry, EntryKind, HardState, Snapshot
from consensus.proposals import Envelope, unwrap, wrap
from consensus.reconfiguration import decode_change, reconfigure
from consensus.storage import DurableLog
from meshnode import wire
from meshnode.coordination.commands import Acquire, BeginSession, RequestId, Step, Transact
from meshnode.data_directory import Identity, Standing, save_identity
from meshnode.identity import Address, Boot, Epoch, MeshId, NodeId, PartitionId
from meshnode.metadata.commands import ChangeRows, Found, Register, RowChange
from meshnode.metadata.commands import Step as RowStep
from meshnode.metadata.group import open_raft_log
from meshnode.metadata.history import History
from meshnode.metadata.rows import Phase
from meshnode.metadata.state import Metadata
from meshnode.snapshot_file import SnapshotFile, save

MESH = MeshId(bytes(range(16)))
A, B, C, D = map(NodeId, (11, 12, 13, 14))
NAMES = {A: "a", B: "b", C: "c", D: "d"}
SMALL = LogConfig(segment_bytes=600, cache_bytes=1000, snapshot_log_bytes=1, kept_log_bytes=0)


def register(node_id: NodeId, boot: int = 1) -> Register:
    return Register(node_id, Boot(boot), NAMES[node_id], Address("127.0.0.1", 7946))


def row_on(partition: int, *replicas: NodeId) -> tuple[ChangeRows, ChangeRows]:
    """What makes a new partition active on these."""
    number = PartitionId(partition)
    begin = RowChange(number, RowStep.BEGIN, Epoch(0), Phase.ACTIVE, replicas[0], Boot(1), replicas)
    return ChangeRows((begin,)), ChangeRows((RowChange(number, RowStep.ACTIVATE, Epoch(1), Phase.SEALING),))


COMMANDS: Sequence[object] = (
    Found(MESH, 4, 3),
    *map(register, (A, B, C)),
    *row_on(0, A, B, C),
    *row_on(1, B, C),
    *row_on(2, A),
    BeginSession("client"),  # at index 12, which is its id
    Acquire(RequestId(12, 1, 1), ("lock",), 30_000),
    Transact(RequestId(12, 2, 2), (), (Step.put("key", "value"),)),
)
"""A mesh of three, from index 2 on: one lock, one key, and three partitions."""


def write_log(
    disk: Disk,
    *,
    me: NodeId = A,
    commands: Iterable[object] = COMMANDS,
    snapshot_every: int = 0,
    generation: int = 0,
) -> Metadata:
    """The data directory of the founder of a mesh; what its log comes to.

    Args:
        snapshot_every: so many commands; 0 for never.
    """
    identity = Identity(me, Boot(1), Standing.MEMBER, MESH, generation=generation)
    save_identity(disk, identity)
    log = open_raft_log(disk, identity.raft_directory, identity.owner, founder=me, config=SMALL)
    metadata = Metadata()
    history = History(metadata)
    for number, command in enumerate(commands, start=1):
        index = log.last_index() + 1
        data = wrap(Envelope(proposer=me, incarnation=1, sequence=number, term=1), wire.encode(command))
        log.append(HardState(1, vote=me, commit=index - 1), [Entry(1, index, data=data)])
        log.sync()
        history.apply(index, unwrap(data)[1])
        if snapshot_every and number % snapshot_every == 0:
            described = Snapshot(index, 1, Configuration(voters=(me,)))
            log.record_snapshot(log.images.write(described, history.freeze()()))
            log.sync()
    log.close()
    return metadata


def read_log(disk: Disk, identity: Identity) -> tuple[Metadata, Configuration, DurableLog]:
    """What a node that starts on the directory comes to; and its log, closed."""
    log = open_raft_log(disk, identity.raft_directory, identity.owner)
    metadata, snapshot = Metadata(), log.snapshot()
    configuration = snapshot.configuration
    history = History(metadata)
    if snapshot.index:
        history.restore(log.images.pieces(snapshot))()
    for entry in log.entries(snapshot.index + 1, log.last_index() + 1) if log.last_index() > snapshot.index else ():
        if entry.kind is not EntryKind.NORMAL:
            configuration = reconfigure(configuration, decode_change(entry)).configuration
        else:
            history.apply(entry.index, unwrap(entry.data)[1])
    log.close()
    return metadata, configuration, log


def write_snapshot(
    disk: Disk, path: str = "file", *, commands: Iterable[object] = COMMANDS, first: int = 2
) -> SnapshotFile:
    """A snapshot of the mesh that these commands make, the first of them at an index."""
    history = History(Metadata())
    for index, command in enumerate(commands, start=first):
        history.apply(index, wire.encode(command))
    described = Snapshot(history.position, 3, Configuration(voters=(A, B, C)))
    return save(disk, path, described, history.freeze()(), partial=f"{path}.part", overwrite=False)
