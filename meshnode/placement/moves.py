"""What has to move to get from one table to another, and why."""

from collections.abc import Set
from dataclasses import dataclass
from enum import Enum
from itertools import zip_longest
from typing import assert_never

from meshnode.identity import NodeId, PartitionId, node_id_text
from meshnode.placement.table import Table


class Kind(Enum):
    """What a move changes."""

    PRIMARY_HANDED_OVER = "primary handed over"
    REPLICA_ADDED = "replica added"
    REPLICA_DROPPED = "replica dropped"


class Reason(Enum):
    """What caused a move."""

    FOUNDED = "founded"
    NODE_LEFT = "node left"
    NODE_FAILED = "node failed"
    NODE_JOINED = "node joined"
    REBALANCE = "rebalance"
    GROUP_ANEW = "group made anew"

    @property
    def text(self) -> str:
        """The cause as a clause for people."""
        match self:
            case Reason.FOUNDED:
                return "nobody held the partition yet"
            case Reason.NODE_LEFT:
                return "a node left the mesh"
            case Reason.NODE_FAILED:
                return "a node failed"
            case Reason.NODE_JOINED:
                return "a node joined and takes its share"
            case Reason.REBALANCE:
                return "the load has to be evened or spread over zones"
            case Reason.GROUP_ANEW:
                return "the Raft group was made anew, and later changes may be lost"
            case _:
                assert_never(self)


@dataclass(frozen=True, slots=True)
class Move:
    """One change to one partition.

    Attributes:
        partition: which.
        kind: what changes.
        source: the primary that hands over, the node whose replica is dropped or, for an added replica, the node whose
            place it takes; None if there was none.
        target: the new primary, the node that gets a replica or, for a dropped replica, the node that takes its place;
            None if there is none.
        reason: why.
    """

    partition: PartitionId
    kind: Kind
    source: NodeId | None
    target: NodeId | None
    reason: Reason

    @property
    def text(self) -> str:
        """The move and its reason as one sentence for people."""
        source = "nobody" if self.source is None else node_id_text(self.source)
        target = "nobody" if self.target is None else node_id_text(self.target)
        match self.kind:
            case Kind.PRIMARY_HANDED_OVER:
                what = f"passes from {source} to {target}"
            case Kind.REPLICA_ADDED:
                what = f"gets a replica on {target}" + ("" if self.source is None else f" instead of {source}")
            case Kind.REPLICA_DROPPED:
                what = f"loses its replica on {source}" + ("" if self.target is None else f" to {target}")
            case _:
                assert_never(self.kind)
        return f"partition {self.partition} {what}: {self.reason.text}"


def moves(current: Table | None, target: Table, *, failed: Set[NodeId] = frozenset()) -> tuple[Move, ...]:
    """What differs between two tables, partition by partition: replicas added, then dropped, then the handover.

    In that order a partition never has fewer copies on the way than in the poorer of its two rows. Replicas that come
    and go in one row are paired, those of nodes that are gone with the first that come.

    Args:
        current: the table in force; None at founding.
        target: the table to reach.
        failed: the nodes known to have failed. Others that are in the current table only have left.

    Raises:
        ValueError: the tables have different numbers of partitions.
    """
    if current is None:
        current = Table(((),) * len(target.rows))
    if len(current.rows) != len(target.rows):
        raise ValueError(
            f"a table of {len(current.rows)} partitions cannot become one of {len(target.rows)}: the number is fixed "
            "when the mesh is founded"
        )
    causes = _Causes(before=current.replicas().keys(), after=target.replicas().keys(), failed=failed)
    return tuple(
        move
        for partition, (old, new) in enumerate(zip(current.rows, target.rows, strict=True))
        if old != new
        for move in _row_moves(PartitionId(partition), old, new, causes)
    )


@dataclass(frozen=True, slots=True)
class _Causes:
    """Who was and is there: from this follows why a node takes another's place."""

    before: Set[NodeId]
    after: Set[NodeId]
    failed: Set[NodeId]

    def gone(self, node: NodeId) -> bool:
        return node in self.failed or node not in self.after

    def of(self, source: NodeId | None, target: NodeId | None, *, founded: bool) -> Reason:
        if founded:
            return Reason.FOUNDED
        if source is not None and source in self.failed:
            return Reason.NODE_FAILED
        if source is not None and source not in self.after:
            return Reason.NODE_LEFT
        if target is not None and target not in self.before:
            return Reason.NODE_JOINED
        return Reason.REBALANCE


def _row_moves(partition: PartitionId, old: tuple[NodeId, ...], new: tuple[NodeId, ...], causes: _Causes) -> list[Move]:
    dropped = sorted((node for node in old if node not in new), key=lambda node: not causes.gone(node))
    added = [node for node in new if node not in old]
    pairs = [
        (source, target, causes.of(source, target, founded=not old)) for source, target in zip_longest(dropped, added)
    ]
    found = [
        Move(partition, Kind.REPLICA_ADDED, source, target, reason)
        for source, target, reason in pairs
        if target is not None
    ]
    found += [
        Move(partition, Kind.REPLICA_DROPPED, source, target, reason)
        for source, target, reason in pairs
        if source is not None
    ]
    source, target = (row[0] if row else None for row in (old, new))
    if source != target:
        reason = causes.of(source, target, founded=not old)
        found.append(Move(partition, Kind.PRIMARY_HANDED_OVER, source, target, reason))
    return found
