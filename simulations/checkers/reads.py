"""A read is answered only when what it saw is committed and its primary was confirmed after it began (rule 11).

The world calls `asked` and `answered` for each message of a round that leaves a node, `begun` when a read arrives at a
primary, and `ended` when its answer leaves.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from meshnode.identity import Epoch, NodeId, PartitionId
from meshnode.partitions.messages import Claim, Confirm, Confirmed
from meshnode.partitions.partition import Partition
from meshnode.partitions.primary import majority
from simulations.checkers.violation import Violation

ROUNDS_KEPT = 64
"""Rounds of one node that another one may still answer: what is older extends no lease and confirms no read."""

_Process = tuple[PartitionId, Epoch, NodeId]


@dataclass(frozen=True, slots=True)
class Read:
    """A read as it arrived.

    Attributes:
        replicas: of the primary that it reached.
        round: the last that the node had asked; the start of the process is in its number.
        last: the end of the log. What the read sees is at least that.
    """

    partition: PartitionId
    epoch: Epoch
    node: NodeId
    replicas: tuple[NodeId, ...]
    round: int
    last: int


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
        # One entry for each node; of each pair of nodes, the rounds that may still be answered.
        self._rounds: dict[NodeId, int] = {}
        self._asked: dict[tuple[NodeId, NodeId], deque[tuple[int, tuple[Claim, ...]]]] = {}
        # The last round in which each replica confirmed the primary of an epoch: grows with the epochs.
        self._confirmed: dict[_Process, dict[NodeId, int]] = {}

    def asked(self, node: NodeId, to: NodeId, message: Confirm) -> None:
        """A node asks another one to confirm its claims."""
        self._rounds[node] = max(self._rounds.get(node, 0), message.round)
        asked = self._asked.setdefault((node, to), deque(maxlen=ROUNDS_KEPT))
        asked.append((message.round, message.claims))

    def answered(self, node: NodeId, to: NodeId, message: Confirmed) -> None:
        """A node answers: it confirms all claims but the denied ones."""
        asked = self._asked.get((to, node), ())
        # From the last one on: it is mostly that one, or the one before.
        claims = next((claims for number, claims in reversed(asked) if number == message.round), ())
        denied = {denial.partition for denial in message.denied}
        for claim in claims:
            if claim.partition not in denied:
                self._holds(node, claim.partition, claim.epoch)
                confirmed = self._confirmed.setdefault((claim.partition, claim.epoch, to), {})
                confirmed[node] = max(message.round, confirmed.get(node, 0))

    def begun(self, copy: Partition) -> Read | None:
        """A read arrives; None where this node is no primary, and can't answer it."""
        replica, primary = copy.replica, copy.primary
        if primary is None:
            return None
        node, last = primary._node_id, replica.log.last.sequence
        return Read(replica.partition, primary.epoch, node, primary.replicas, self._rounds.get(node, 0), last)

    def ended(self, read: Read, committed: int) -> None:
        """Its answer leaves.

        Args:
            committed: how many records the node takes for committed.
        """
        if committed < read.last:
            raise self._violation(read, f"it saw {read.last} records, of which {committed} are committed")
        rounds = self._confirmed.get((read.partition, read.epoch, read.node), {})
        confirming = [member for member in read.replicas if member == read.node or rounds.get(member, 0) > read.round]
        if len(confirming) < majority(len(read.replicas)):
            raise self._violation(read, f"of {read.replicas} only {confirming} confirmed its epoch after it arrived")

    def _violation(self, read: Read, message: str) -> Violation:
        return Violation(
            "partitions-read-confirmed",
            virtual_s=self._clock(),
            message=f"partition {read.partition} on node {read.node}: a read is answered in epoch {read.epoch}, and"
            f" {message}",
            nodes=(read.node,),
        )
