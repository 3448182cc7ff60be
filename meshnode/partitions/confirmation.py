"""Rounds in which primaries ask whether their epochs still hold: one message a pair of nodes (rules 11 and 12)."""

from collections.abc import Iterable
from dataclasses import dataclass

from meshnode.identity import Epoch, NodeId, PartitionId
from meshnode.partitions.effects import Send
from meshnode.partitions.messages import Claim, Confirm, Confirmed
from meshnode.partitions.primary import Primary

ROUNDS_MAX = 64
"""Rounds whose answers still count; an older one was lost, and the next one asks again."""


@dataclass(frozen=True, slots=True)
class Confirmation:
    """One replica's answer for one partition."""

    partition: PartitionId
    epoch: Epoch
    round: int
    asked_at_s: float
    promised: Epoch | None
    """The higher epoch that it promised instead; None when the claim holds."""


class Rounds:
    """The rounds of one node."""

    def __init__(self, node_id: NodeId) -> None:
        self._node_id = node_id
        self._last_round = 0
        self._asked: dict[int, tuple[float, dict[NodeId, tuple[Claim, ...]]]] = {}

    @property
    def next_round(self) -> int:
        """The number of the round that is asked next."""
        return self._last_round + 1

    def ask(self, primaries: Iterable[Primary], now: float) -> list[Send]:
        """Start a round for these primaries."""
        self._last_round += 1
        claims: dict[NodeId, list[Claim]] = {}
        for primary in primaries:
            claim = primary.claim()
            for member in primary.replicas:
                if member != self._node_id:
                    claims.setdefault(member, []).append(claim)
        by_member = {member: tuple(own) for member, own in claims.items()}
        if by_member:
            self._asked[self._last_round] = (now, by_member)
        if len(self._asked) > ROUNDS_MAX:
            del self._asked[next(iter(self._asked))]
        return [Send(member, Confirm(self._last_round, own)) for member, own in by_member.items()]

    def answered(self, sender: NodeId, message: Confirmed) -> list[Confirmation]:
        """What the answer says of each partition that was asked for."""
        asked_at_s, by_member = self._asked.get(message.round, (0.0, {}))
        denied = {denial.partition: denial.promised for denial in message.denied}
        return [
            Confirmation(claim.partition, claim.epoch, message.round, asked_at_s, denied.get(claim.partition))
            for claim in by_member.pop(sender, ())
        ]
