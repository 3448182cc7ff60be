"""Rounds in which primaries ask whether their epochs still hold: one message a pair of nodes (rules 11 and 12).

Every primary asks at each interval. A read asks at once, unless a question to that peer is under way: then it waits for
the answer, together with all reads that come meanwhile, so that a slow link carries one question at a time.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from meshnode.identity import Boot, Epoch, NodeId, PartitionId
from meshnode.partitions.config import PartitionsConfig
from meshnode.partitions.effects import Send
from meshnode.partitions.messages import Claim, Confirm, Confirmed
from meshnode.partitions.primary import Primary

BOOT_SHIFT = 32
"""The start of the process in a round's number: what a peer answers to an earlier process confirms nothing."""


@dataclass(frozen=True, slots=True)
class Confirmation:
    """One replica's answer for one partition."""

    partition: PartitionId
    epoch: Epoch
    round: int
    asked_at_s: float
    promised: Epoch | None
    """The higher epoch that it promised instead; None when the claim holds."""


@dataclass(slots=True)
class _Peer:
    """What one other node is asked.

    Attributes:
        wanted: whose reads, or whose first lease, the next round is for.
        asked: when and what, by round. At most two an interval and `lease_s` old: what was asked earlier extends no
            lease, and who has no lease takes no reads.
        awaited: the newest round; 0 when it is answered.
    """

    wanted: dict[PartitionId, Primary] = field(default_factory=dict)
    asked: dict[int, tuple[float, tuple[Claim, ...]]] = field(default_factory=dict)
    awaited: int = 0

    def forget(self, before_s: float) -> None:
        """Answers to what was asked earlier do not count any more."""
        self.asked = {number: asked for number, asked in self.asked.items() if asked[0] >= before_s}


class Rounds:
    """The rounds of one process."""

    def __init__(self, node_id: NodeId, boot: Boot, config: PartitionsConfig) -> None:
        self._node_id = node_id
        self._config = config
        self._last_round = boot << BOOT_SHIFT
        self._peers: dict[NodeId, _Peer] = {}
        self._due: dict[NodeId, None] = {}
        self._due_at_s = 0.0
        self._all_at_s = 0.0
        self.next_deadline = 0.0
        """When `wake` has something to do: kept, since it is asked for after every message."""

    @property
    def next_round(self) -> int:
        """A round of this number or a higher one is asked from now on."""
        return self._last_round + 1

    def want(self, primary: Primary, now: float) -> None:
        """Ask for this one as soon as its replicas may be asked."""
        for member in primary.replicas:
            if member != self._node_id:
                peer = self._peers.setdefault(member, _Peer())
                peer.wanted[primary.partition] = primary
                self._note_due(member, peer, now)

    def wake(self, primaries: Iterable[Primary], now: float) -> list[Send]:
        """Ask what is due: at each interval for all ``primaries``."""
        if now >= self._all_at_s:
            return self.ask_all(primaries, now)
        if self._due and now >= self._due_at_s:
            return [self._ask(member, self._peers[member].wanted.values(), now) for member in list(self._due)]
        return []

    def ask_all(self, primaries: Iterable[Primary], now: float) -> list[Send]:
        """Ask for all these, whatever is under way: an answer may have been lost."""
        self._all_at_s = now + self._config.confirm_interval_s
        by_member: dict[NodeId, list[Primary]] = {}
        for primary in primaries:
            for member in primary.replicas:
                if member != self._node_id:
                    by_member.setdefault(member, []).append(primary)
        for member in list(self._peers):
            if member not in by_member:  # what was wanted there is of primaries that are none any more
                self._due.pop(member, None)
                del self._peers[member]
        self._plan()
        return [self._ask(member, its, now) for member, its in by_member.items()]

    def answered(self, sender: NodeId, message: Confirmed, now: float) -> list[Confirmation]:
        """What the answer says of each partition that was asked for."""
        peer = self._peers.get(sender)
        if peer is None or message.round not in peer.asked:
            return []
        asked_at_s, claims = peer.asked.pop(message.round)
        if message.round == peer.awaited:
            peer.awaited = 0
            self._note_due(sender, peer, now)
        denied = {denial.partition: denial.promised for denial in message.denied}
        return [
            Confirmation(claim.partition, claim.epoch, message.round, asked_at_s, denied.get(claim.partition))
            for claim in claims
        ]

    def _note_due(self, member: NodeId, peer: _Peer, now: float) -> None:
        if peer.wanted and not peer.awaited:
            if not self._due:
                self._due_at_s = now
            self._due[member] = None
            self._plan()

    def _plan(self) -> None:
        self.next_deadline = min(self._due_at_s, self._all_at_s) if self._due else self._all_at_s

    def _ask(self, member: NodeId, primaries: Iterable[Primary], now: float) -> Send:
        peer = self._peers.setdefault(member, _Peer())
        claims = tuple(primary.claim() for primary in primaries if not primary.is_over)
        self._last_round += 1
        peer.forget(now - self._config.lease_s)
        peer.asked[self._last_round] = (now, claims)
        peer.awaited = self._last_round
        peer.wanted.clear()
        self._due.pop(member, None)
        self._plan()
        return Send(member, Confirm(self._last_round, claims))
