"""What replicas promise: that they accept nothing below an epoch (rules 3, 4 and 7 of partition replication).

A part of `simulations.checkers.partitions`, which passes on what it is told.
"""

from collections.abc import Callable

from meshnode.identity import Epoch, NodeId, PartitionId
from meshnode.metadata.rows import Row
from meshnode.partitions.messages import Appended, ChunkTaken, Refused, Sealed
from meshnode.partitions.partition import Partition
from meshnode.partitions.primary import majority
from simulations.checkers.violation import Violation

Answer = Sealed | Appended | ChunkTaken | Refused
"""Each of these names the epoch that its sender has promised."""

ANSWERS = (Sealed, Appended, ChunkTaken, Refused)

Copy = tuple[PartitionId, NodeId]


class Promises:
    """Of all copies. All methods raise Violation.

    Args:
        violation: makes one: invariant, partition, message, nodes.
        row_of: the row with which an epoch began; None where the world does not know the rows.
    """

    def __init__(self, violation: Callable[..., Violation], row_of: Callable[[PartitionId, Epoch], Row | None]) -> None:
        self._violation = violation
        self._row_of = row_of
        # One entry for each copy, and two for each epoch of each partition.
        self._answered: dict[Copy, Epoch] = {}
        self._on_disk: dict[Copy, Epoch] = {}
        self._in_memory: dict[Copy, Epoch] = {}
        self._sealed: dict[tuple[PartitionId, Epoch, NodeId], set[NodeId]] = {}
        self._begun: set[tuple[PartitionId, Epoch]] = set()

    def synced(self, copy: Copy, epoch: Epoch) -> None:
        """The promise is on that node's disk."""
        if epoch > self._on_disk.get(copy, 0):
            self._on_disk[copy] = epoch

    def answered(self, node: NodeId, message: Answer) -> None:
        """An answer leaves: its promise is on the disk, and no lower than one before."""
        partition = message.partition
        copy = (partition, node)
        promised = message.promised if isinstance(message, Refused) else message.epoch
        before = self._answered.get(copy, Epoch(0))
        if promised < before:
            raise self._violation(
                "partitions-below-promise",
                partition,
                f"it answers for epoch {promised} after it answered for {before}",
                node,
            )
        self._answered[copy] = promised
        if promised > self._on_disk.get(copy, Epoch(0)):
            raise self._violation(
                "partitions-promise-durable",
                partition,
                f"it answers for epoch {promised}, and that promise is not on its disk",
                node,
            )

    def received(self, node: NodeId, sender: NodeId, message: Sealed) -> None:
        """A seal reaches the node that asked for it, from itself or another one."""
        self._sealed.setdefault((message.partition, message.epoch, node), set()).add(sender)

    def begins(self, partition: PartitionId, epoch: Epoch, node: NodeId) -> None:
        """A record of the epoch is written: a majority of the old set has told the writer of its seal (rule 7)."""
        if (partition, epoch) in self._begun:
            return
        self._begun.add((partition, epoch))
        row = self._row_of(partition, epoch)
        if row is None or not row.base:
            return
        sealed = self._sealed.get((partition, epoch, node), set())
        answered = [member for member in row.base if member in sealed]
        if len(answered) < majority(len(row.base)):
            raise self._violation(
                "partitions-sealed-majority",
                partition,
                f"it begins to write in epoch {epoch}, and of the base {row.base} only {answered} told it of a seal",
                node,
            )

    def has_begun(self, partition: PartitionId, epoch: Epoch) -> bool:
        """Whether a record of the epoch was written."""
        return (partition, epoch) in self._begun

    def answered_for(self, node: NodeId) -> dict[PartitionId, Epoch]:
        """The highest promise that this node answered for, of each partition."""
        return {partition: epoch for (partition, other), epoch in self._answered.items() if other == node}

    def recovered(self, copy: Copy, promised: Epoch) -> None:
        """A restart found this promise."""
        partition, node = copy
        answered = self._answered.get(copy, Epoch(0))
        if promised < answered:
            raise self._violation(
                "partitions-promise-durable",
                partition,
                f"it restarts with promise {promised} after it answered for {answered}",
                node,
            )

    def restarted(self, node: NodeId) -> None:
        """What was in memory is gone."""
        for copy in [copy for copy in self._in_memory if copy[1] == node]:
            del self._in_memory[copy]

    def check(self, partition: Partition, node: NodeId) -> None:
        """After each step of that copy: its promise has not fallen, and it acts for no lower epoch."""
        replica = partition.replica
        copy = (replica.partition, node)
        promised = self._in_memory.get(copy, Epoch(0))
        if replica.promised < promised:
            raise self._violation(
                "partitions-promise-falls",
                replica.partition,
                f"its promise falls from {promised} to {replica.promised}",
                node,
            )
        self._in_memory[copy] = replica.promised
        for role in (partition.takeover, partition.primary):
            if role is not None and role.epoch != replica.promised:
                raise self._violation(
                    "partitions-below-promise",
                    replica.partition,
                    f"it acts for epoch {role.epoch} and has promised {replica.promised}",
                    node,
                )

    def holds(self, node: NodeId, partition: PartitionId, epoch: Epoch) -> None:
        """The node confirms that it has promised nothing above the epoch (rule 11)."""
        promised = self._in_memory.get((partition, node), Epoch(0))
        if promised > epoch:
            raise self._violation(
                "partitions-below-promise",
                partition,
                f"it confirms epoch {epoch} and has promised {promised}",
                node,
            )
