"""Whether leases and reads are confirmed as rules 11 and 12 of partition replication say, told by messages alone."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from meshnode.identity import Epoch, NodeId, PartitionId
from meshnode.partitions.messages import Claim, Confirm, Confirmed
from meshnode.partitions.primary import Primary, majority
from simulations.checkers.violation import Violation


@dataclass(frozen=True, slots=True)
class _Question:
    question: Confirm
    asked_at_s: float


@dataclass(frozen=True, slots=True)
class _Answer:
    answer: Confirmed
    asked_at_s: float
    confirmed: tuple[Claim, ...]


class Leases:
    """Sees the questions that primaries ask, and the answers that reach them. Times are of the primary's own clock.

    Which question an answer belongs to is known from where it was given, and not from the number that it bears: the
    same objects that are sent have to arrive.

    Args:
        clock: virtual seconds.
        lease_s: how long an answer counts, from when the question left.
    """

    def __init__(self, clock: Callable[[], float], lease_s: float) -> None:
        self._clock = clock
        self._lease_s = lease_s
        # One entry for each question, for each answer, and for each replica of each epoch that ever confirmed it. By
        # the identity of messages, which stay here so that no other one gets it.
        self._questions: dict[int, _Question] = {}
        self._answers: dict[int, _Answer] = {}
        self._confirmed: dict[tuple[NodeId, PartitionId, Epoch], dict[NodeId, float]] = {}

    def asked(self, question: Confirm, now_s: float) -> None:
        """A question leaves."""
        self._questions[id(question)] = _Question(question, now_s)

    def answered(self, node: NodeId, sender: NodeId, answer: Confirmed) -> None:
        """An answer arrives; a repeated one says nothing new."""
        given = self._answers[id(answer)]
        for claim in given.confirmed:
            known = self._confirmed.setdefault((node, claim.partition, claim.epoch), {})
            known[sender] = max(known.get(sender, given.asked_at_s), given.asked_at_s)

    def check_turn(self, node: NodeId, primary: Primary, now_s: float) -> None:
        """The primary takes itself to have a lease: a majority of its replicas confirmed its epoch within it.

        Raises:
            Violation: partitions-lease.
        """
        held = self._confirmed_since(node, primary, now_s - self._lease_s)
        if len(held) < majority(len(primary.replicas)):
            raise self._violation("partitions-lease", node, primary, f"starts a turn, though only {held} confirmed it")

    def check_read(self, node: NodeId, primary: Primary, came_s: float) -> None:
        """The primary answers a read: a majority was asked after it came, and confirmed the epoch.

        Raises:
            Violation: partitions-read.
        """
        held = self._confirmed_since(node, primary, came_s)
        if len(held) < majority(len(primary.replicas)):
            raise self._violation("partitions-read", node, primary, f"answers a read that only {held} confirmed")

    def check_answer(
        self, node: NodeId, question: Confirm, promised: Mapping[PartitionId, Epoch], answer: Confirmed
    ) -> None:
        """A replica is about to answer, and confirms no epoch below the one that it has promised.

        Raises:
            Violation: partitions-below-promise.
        """
        denied = {denial.partition for denial in answer.denied}
        confirmed = tuple(claim for claim in question.claims if claim.partition not in denied)
        self._answers[id(answer)] = _Answer(answer, self._questions[id(question)].asked_at_s, confirmed)
        for claim in confirmed:
            if claim.epoch < promised.get(claim.partition, 0):
                message = (
                    f"partition {claim.partition} on node {node}: it confirms epoch {claim.epoch} and has promised"
                )
                message += f" {promised[claim.partition]}"
                raise Violation("partitions-below-promise", virtual_s=self._clock(), message=message, nodes=[node])

    def _confirmed_since(self, node: NodeId, primary: Primary, since_s: float) -> list[NodeId]:
        confirmed = self._confirmed.get((node, primary.partition, primary.epoch), {})
        return [one for one in primary.replicas if one == node or confirmed.get(one, float("-inf")) >= since_s]

    def _violation(self, invariant: str, node: NodeId, primary: Primary, what: str) -> Violation:
        message = (
            f"partition {primary.partition} on node {node}: the primary of {primary.epoch} on {primary.replicas} {what}"
        )
        return Violation(invariant, virtual_s=self._clock(), message=message, nodes=[node])
