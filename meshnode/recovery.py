"""The way out where the Raft group has lost its quorum for good: a group of one voter, made from one node's log.

It is offline, on a data directory that no node uses. What the new group has is all that this log has, whether or not it
was agreed on: that can't be told any more. What the lost voters agreed on without this node is lost. The generation of
the group rises, which makes all terms of the Raft group and all epochs of partitions later than those of the old one;
whoever still has a log of the old group sets it aside when it hears of the new one.

The old log stays where it is. The new one is begun in a directory of its own and counts once `identity` names it, so
that a crash in the middle leaves everything as it was.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from consensus.disk import Disk
from consensus.messages import ChangeKind, ConfChange, ConfChangeSet, Configuration, Entry, EntryKind, HardState
from consensus.proposals import Envelope, unwrap, wrap
from consensus.quorum import majority
from consensus.reconfiguration import decode_change, encode_change, reconfigure
from consensus.storage import DurableLog
from meshnode import wire
from meshnode.data_directory import Identity, Standing, read_identity, save_identity
from meshnode.errors import DataDirectoryError, OperatorError
from meshnode.identity import NodeId, node_id_text
from meshnode.metadata.commands import Recover
from meshnode.metadata.group import open_raft_log
from meshnode.metadata.history import History
from meshnode.metadata.nodes import resolve
from meshnode.metadata.state import GENERATION_SHIFT, Metadata

COPY_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Survey:
    """What a data directory knows of its Raft group.

    Attributes:
        last, term: the end of the log.
        committed: up to where it is known to be agreed on; more may be.
        names: of the registered nodes.
    """

    identity: Identity
    configuration: Configuration
    last: int
    term: int
    committed: int
    generation: int
    names: dict[NodeId, str]

    @property
    def voters(self) -> tuple[NodeId, ...]:
        """Those of the group; of both halves, where it is in between."""
        return tuple(map(NodeId, self.configuration.electorate))

    def name_of(self, node_id: NodeId) -> str:
        """A node for people."""
        return self.names.get(node_id, node_id_text(node_id))

    def resolve(self, text: str) -> NodeId:
        """A node by its name or id. Raises NotFound, or InvalidArgument where several have that name."""
        return resolve({**{voter: node_id_text(voter) for voter in self.voters}, **self.names}, text)

    def given_up(self, survivors: Collection[NodeId]) -> tuple[NodeId, ...]:
        """The voters that are neither this node nor among the survivors.

        Raises:
            OperatorError: the survivors can go on as they are.
        """
        present = {self.identity.node_id, *survivors}
        halves = [half for half in (self.configuration.voters, self.configuration.voters_outgoing) if half]
        if all(len(present.intersection(half)) >= majority(len(half)) for half in halves):
            raise OperatorError(
                "a majority of the voters survives, so nothing is to be recovered: start them, and then have the "
                "others removed, by meshnode raft remove NODE"
            )
        return tuple(voter for voter in self.voters if voter not in present)


def survey(disk: Disk) -> Survey:
    """Read what the directory has. Nothing is changed.

    Raises:
        DataDirectoryError: it is damaged.
        OperatorError: its node belongs to no mesh, or was never a member of the Raft group.
        OSError: there is no node's data, or the disk refuses.
    """
    identity = read_identity(disk)
    if identity.standing is not Standing.MEMBER:
        raise OperatorError("the node of this data directory belongs to no mesh, or was superseded: take another one")
    log = open_raft_log(disk, identity.raft_directory, identity.owner, must_exist=identity.has_log)
    try:
        if log.lost() is not None:
            raise DataDirectoryError(f"{log.damage}. The log has lost entries: take another voter's directory")
        metadata, configuration = replay(log)
        state, _ = log.initial_state()
        last = log.last_index()
        term = log.term(last) or 0
    finally:
        log.close()
    if not configuration.voters:
        raise OperatorError("this node was never a member of the Raft group, and has no log: take a voter's directory")
    names = {record.node_id: record.name for record in metadata.nodes.values()}
    return Survey(identity, configuration, last, term, state.commit, metadata.generation, names)


def recover(disk: Disk, found: Survey, given_up: Collection[NodeId]) -> Identity:
    """Make the group anew, of this node alone; others are taken in as they are there.

    Args:
        found: what `survey` said of the same directory.
        given_up: nodes that are lost for good: they are to be forgotten.

    Raises:
        OSError: the disk refuses. The old group is as it was.
    """
    identity = replace(found.identity, generation=found.generation + 1)
    _copy(disk, found.identity.raft_directory, identity.raft_directory)
    log = open_raft_log(disk, identity.raft_directory, identity.owner)
    try:
        entries = tuple(_last_entries(found, identity, given_up))
        log.append(HardState(entries[-1].term, vote=0, commit=entries[-1].index), entries)
        log.sync()
    finally:
        log.close()
    save_identity(disk, identity)
    return identity


def replay(log: DurableLog) -> tuple[Metadata, Configuration]:
    """What all that the log has comes to."""
    metadata, snapshot = Metadata(), log.snapshot()
    configuration = snapshot.configuration
    if snapshot.index:
        History(metadata).restore(log.images.pieces(snapshot))()
    for entry in log.entries(snapshot.index + 1, log.last_index() + 1) if log.last_index() > snapshot.index else ():
        if entry.kind is not EntryKind.NORMAL:
            configuration = reconfigure(configuration, decode_change(entry)).configuration
        elif entry.data:
            metadata.apply(entry.index, unwrap(entry.data)[1])
    return metadata, configuration


def _last_entries(found: Survey, identity: Identity, given_up: Collection[NodeId]) -> Iterator[Entry]:
    """What leaves this node as the only member, one change at a time, and raises the generation."""
    me, term, index = identity.node_id, first_term(identity.generation), found.last
    configuration = found.configuration
    changes: list[ConfChange | ConfChangeSet] = []
    if configuration.is_joint:
        changes.append(ConfChangeSet())
    if me not in configuration.voters:
        changes.append(ConfChange(ChangeKind.ADD_VOTER, me))
    others = sorted({*configuration.members, *configuration.learners_next} - {me})
    changes += [ConfChange(ChangeKind.REMOVE, other) for other in others]
    for change in changes:
        index += 1
        kind, data = encode_change(change)
        yield Entry(term, index, kind, data)
    yield raising_entry(index + 1, identity, given_up)


def first_term(generation: int) -> int:
    """Of the Raft group in a generation."""
    return (generation << GENERATION_SHIFT) + 1


def raising_entry(index: int, identity: Identity, lost: Collection[NodeId]) -> Entry:
    """What raises the generation to that of the identity, and lets nodes go that are lost for good."""
    term = first_term(identity.generation)
    command = wire.encode(Recover(identity.generation, tuple(sorted(lost))))
    envelope = Envelope(proposer=identity.node_id, incarnation=0, sequence=0, term=term)
    return Entry(term, index, EntryKind.NORMAL, wrap(envelope, command))


def clear(disk: Disk, directory: str) -> None:
    """Make an empty directory, in place of what an attempt before this one has left there."""
    if disk.exists(directory):
        for name in disk.list(directory):
            disk.remove(f"{directory}/{name}")
    disk.make_directory(directory)


def _copy(disk: Disk, old: str, new: str) -> None:
    """Copy the files of a directory."""
    clear(disk, new)
    for name in disk.list(old):
        source, target = disk.open(f"{old}/{name}", create=False), disk.open(f"{new}/{name}", create=True)
        try:
            for offset in range(0, source.size(), COPY_BYTES):
                target.append(source.read(offset, COPY_BYTES))
            target.sync()
        finally:
            source.close()
            target.close()
    disk.sync_directory(new)
    disk.sync_directory("")
