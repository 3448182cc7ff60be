"""What primaries were told is on disk, and by whom (rules 5 and 6 of partition replication).

A part of `simulations.checkers.partitions`, which passes on what it is told. That a majority has a record on disk is
not enough to commit it: its primary has to know. One that counts what it was not told is right by luck.
"""

from collections.abc import Callable

from meshnode.identity import Epoch, NodeId, PartitionId
from meshnode.partitions.messages import Appended, ChunkTaken
from meshnode.partitions.primary import Primary, majority
from simulations.checkers.violation import Violation


class Acknowledgements:
    """Of all primaries.

    Args:
        violation: makes one: invariant, partition, message, nodes.
    """

    def __init__(self, violation: Callable[..., Violation]) -> None:
        self._violation = violation
        # One entry for each replica of each epoch of each partition.
        self._told: dict[tuple[PartitionId, Epoch, NodeId], dict[NodeId, int]] = {}

    def received(self, node: NodeId, sender: NodeId, message: Appended | ChunkTaken) -> None:
        """A node is told what another one, or its own journal, has on disk of the log of an epoch."""
        through = message.sequence if isinstance(message, Appended) else message.position.sequence
        told = self._told.setdefault((message.partition, message.epoch, node), {})
        told[sender] = max(through, told.get(sender, 0))

    def check(self, primary: Primary, node: NodeId, sequence: int) -> None:
        """The primary commits a record: a majority of its replicas has told it so, in its epoch.

        Raises:
            Violation: partitions-acknowledged-majority.
        """
        told = self._told.get((primary.partition, primary.epoch, node), {})
        counted = [member for member in primary.replicas if told.get(member, 0) >= sequence]
        if len(counted) < majority(len(primary.replicas)):
            raise self._violation(
                "partitions-acknowledged-majority",
                primary.partition,
                f"{sequence} is committed in epoch {primary.epoch}, and of {primary.replicas} only {counted} have"
                " acknowledged it",
                node,
            )
