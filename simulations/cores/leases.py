"""Whether a lease is what rule 12 of partition replication says, told by the messages alone."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from meshnode.identity import Epoch, NodeId, PartitionId
from meshnode.partitions.messages import Claim, Confirm, Confirmed
from meshnode.partitions.primary import Primary, majority
from simulations.checkers.violation import Violation


@dataclass(frozen=True, slots=True)
class _Question:
    asked_at_s: float
    claims: tuple[Claim, ...]


class Leases:
    """Sees the questions that primaries ask, and the answers that reach them. Times are of the primary's own clock.

    Args:
        clock: virtual seconds.
        lease_s: how long an answer counts, from when the question left.
    """

    def __init__(self, clock: Callable[[], float], lease_s: float) -> None:
        self._clock = clock
        self._lease_s = lease_s
        # One entry for each question without an answer, and for each replica of each epoch that ever confirmed it.
        self._questions: dict[tuple[NodeId, NodeId, int], _Question] = {}
        self._confirmed: dict[tuple[NodeId, PartitionId, Epoch], dict[NodeId, float]] = {}

    def asked(self, node: NodeId, to: NodeId, question: Confirm, now_s: float) -> None:
        """A question leaves."""
        self._questions[node, to, question.round] = _Question(now_s, question.claims)

    def answered(self, node: NodeId, sender: NodeId, answer: Confirmed) -> None:
        """An answer arrives; a repeated one says nothing new."""
        question = self._questions.pop((node, sender, answer.round), None)
        if question is None:
            return
        denied = {denial.partition for denial in answer.denied}
        for claim in question.claims:
            if claim.partition not in denied:
                known = self._confirmed.setdefault((node, claim.partition, claim.epoch), {})
                known[sender] = max(known.get(sender, question.asked_at_s), question.asked_at_s)

    def check(self, node: NodeId, primary: Primary, now_s: float) -> None:
        """The primary takes itself to have a lease: a majority of its replicas confirmed its epoch within it.

        Raises:
            Violation: partitions-lease.
        """
        confirmed = self._confirmed.get((node, primary.partition, primary.epoch), {})
        held = [one for one in primary.replicas if one == node or self._is_recent(confirmed, one, now_s)]
        if len(held) < majority(len(primary.replicas)):
            message = (
                f"partition {primary.partition} on node {node}: it starts a turn in epoch {primary.epoch}, which of"
                f" {primary.replicas} only {held} confirmed within {self._lease_s} s"
            )
            raise Violation("partitions-lease", virtual_s=self._clock(), message=message, nodes=[node])

    def _is_recent(self, confirmed: Mapping[NodeId, float], one: NodeId, now_s: float) -> bool:
        return one in confirmed and confirmed[one] + self._lease_s > now_s
