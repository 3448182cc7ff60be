"""A read is answered only when what it saw is committed and its primary was confirmed after it began (rule 11).

The world calls `asked` and `answered` for each message of a round that leaves a node, `begun` when a primary takes up a
read, and `ready` when it says that it may be answered.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from meshnode.identity import Epoch, NodeId, PartitionId
from meshnode.partitions.messages import Claim, Confirm, Confirmed
from meshnode.partitions.partition import Partition
from meshnode.partitions.primary import majority
from simulations.checkers.violation import Violation

ROUNDS_KEPT = 64
"""Rounds of one node that another one may still answer: what is older extends no lease and confirms no read."""

_Process = tuple[PartitionId, Epoch, NodeId]


@dataclass(frozen=True, slots=True)
class _Read:
    """What a read saw, and the last round that was asked before it.

    Attributes:
        round: of this node; the round's number has the start of the process in it.
        last: the end of the log.
    """

    round: int
    last: int


@dataclass(slots=True)
class _Node:
    """One node.

    Attributes:
        round: the last that it asked.
        asked: by the other node, its rounds and their claims.
        reads: that wait, by partition and token.
    """

    round: int = 0
    asked: dict[NodeId, deque[tuple[int, tuple[Claim, ...]]]] = field(default_factory=dict)
    reads: dict[tuple[PartitionId, int], _Read] = field(default_factory=dict)


class ReadsChecker:
    """Sees all nodes. All methods raise Violation.

    Args:
        clock: virtual seconds.
        holds: told of each claim that a node confirms: node, partition, epoch.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        holds: Callable[[NodeId, PartitionId, Epoch], None] = lambda _node, _partition, _epoch: None,
    ) -> None:
        self._clock = clock
        self._holds = holds
        self._nodes: dict[NodeId, _Node] = {}
        # The last round in which each replica confirmed the primary of an epoch: grows with the epochs.
        self._confirmed: dict[_Process, dict[NodeId, int]] = {}

    def restarted(self, node: NodeId) -> None:
        """What the node was asked to read is forgotten."""
        self._nodes.pop(node, None)

    def asked(self, node: NodeId, to: NodeId, message: Confirm) -> None:
        """A node asks another one to confirm its claims."""
        known = self._nodes.setdefault(node, _Node())
        known.round = max(known.round, message.round)
        known.asked.setdefault(to, deque(maxlen=ROUNDS_KEPT)).append((message.round, message.claims))

    def answered(self, node: NodeId, to: NodeId, message: Confirmed) -> None:
        """A node answers: it confirms all claims but the denied ones."""
        known = self._nodes.get(to)
        rounds = () if known is None else known.asked.get(node, ())
        claims = next((claims for number, claims in rounds if number == message.round), ())
        denied = {denial.partition for denial in message.denied}
        for claim in claims:
            if claim.partition not in denied:
                self._holds(node, claim.partition, claim.epoch)
                confirmed = self._confirmed.setdefault((claim.partition, claim.epoch, to), {})
                confirmed[node] = max(message.round, confirmed.get(node, 0))

    def begun(self, node: NodeId, copy: Partition, token: int) -> None:
        """A primary takes up a read, which has seen all of its log."""
        known = self._nodes.setdefault(node, _Node())
        known.reads[copy.replica.partition, token] = _Read(known.round, copy.replica.log.last.sequence)

    def ready(self, node: NodeId, copy: Partition, token: int) -> None:
        """The read is answered now. A read of a primary that was deposed meanwhile is never answered."""
        partition = copy.replica.partition
        read = self._nodes.setdefault(node, _Node()).reads.pop((partition, token), None)
        primary = copy.primary
        if read is None or primary is None:
            raise self._violation(partition, node, f"read {token} is answered, and none was begun in this epoch")
        if copy.replica.committed < read.last:
            raise self._violation(
                partition,
                node,
                f"read {token} saw {read.last} records, of which {copy.replica.committed} are committed",
            )
        rounds = self._confirmed.get((partition, primary.epoch, node), {})
        confirming = [member for member in primary.replicas if member == node or rounds.get(member, 0) > read.round]
        if len(confirming) < majority(len(primary.replicas)):
            raise self._violation(
                partition,
                node,
                f"read {token} is answered in epoch {primary.epoch}, which of {primary.replicas} only {confirming}"
                " confirmed after it began",
            )

    def _violation(self, partition: PartitionId, node: NodeId, message: str) -> Violation:
        return Violation(
            "partitions-read-confirmed",
            virtual_s=self._clock(),
            message=f"partition {partition} on node {node}: {message}",
            nodes=(node,),
        )
