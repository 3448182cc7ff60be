"""Whom to probe next, and the probes that wait for an answer."""

import random
from collections.abc import Container
from dataclasses import dataclass

from meshnode.identity import Address, NodeId

PROBES_MAX = 64
"""One a period is the rule; the rest are for links that end all at once, and the periods soon get to more of them."""

SUSPECTS_MAX = PROBES_MAX // 2
"""Of them may be of suspects that are probed on: the rest stays for members of whom nothing is known yet."""

RELAYS_MAX = 256
"""A node is asked by `indirect_probes` others for each of its own probes on average; this is for a rack that fails."""

_GONE_SLACK = 16
"""Beyond this and half of the round the gone are swept out, or a peer that invents members would grow the round."""

_SAMPLE_ALL = 48
"""Up to here a sample looks at everyone, which costs no more than drawing until enough are found."""


class ProbeOrder:
    """Live members in shuffled rounds: each is probed once a round, so at most ``2n - 1`` periods apart (SWIM 4.3).

    A member that is new enters at a random place of the running round. One that is gone is dropped when its turn comes.
    """

    __slots__ = ("_gone", "_rng", "_round", "_turn")

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._round: list[NodeId] = []
        self._turn = 0
        self._gone: set[NodeId] = set()  # still in the round

    def __len__(self) -> int:
        return len(self._round) - len(self._gone)

    def add(self, node_id: NodeId) -> None:
        """The member is live from now on; it must not have been before."""
        if node_id in self._gone:
            self._gone.discard(node_id)
            return
        place = self._rng.randint(0, len(self._round))
        self._round.insert(place, node_id)
        if place < self._turn:
            self._turn += 1

    def remove(self, node_id: NodeId) -> None:
        """The member is not live any more; it must have been before."""
        self._gone.add(node_id)
        if len(self._gone) > len(self._round) // 2 + _GONE_SLACK:
            self._turn -= sum(gone in self._gone for gone in self._round[: self._turn])
            self._round = [other for other in self._round if other not in self._gone]
            self._gone.clear()

    def next(self) -> NodeId | None:
        """The next member to probe; None if there is none."""
        while self._round:
            if self._turn >= len(self._round):
                self._rng.shuffle(self._round)
                self._turn = 0
            node_id = self._round[self._turn]
            if node_id not in self._gone:
                self._turn += 1
                return node_id
            self._gone.discard(node_id)
            del self._round[self._turn]
        return None

    def sample(self, count: int, *, besides: NodeId | None = None, without: Container[NodeId] = ()) -> list[NodeId]:
        """Up to ``count`` different live members, but for one and for those of a set.

        In a large mesh it may return fewer than there are, if it draws many that are left out.
        """
        order, size, gone = self._round, len(self._round), self._gone
        draw = self._rng.random  # as fair as `choice` for so few, at a third of its cost
        shuffled = self._rng.sample(order, size) if size <= _SAMPLE_ALL else None
        chosen: list[NodeId] = []
        for attempt in range(8 * count if shuffled is None else size):
            if len(chosen) >= count:
                break
            node_id = order[int(draw() * size)] if shuffled is None else shuffled[attempt]
            if node_id == besides or node_id in chosen or node_id in gone or node_id in without:
                continue
            chosen.append(node_id)
        return chosen


@dataclass(slots=True)
class Probe:
    """A ping that was not answered yet.

    Attributes:
        target: who is probed.
        incarnation: the target's when the probe began: a later claim of the target refutes this probe too.
        goes_on_at: when the probe goes on: to the others, or to its end.
        ends_at: when the target becomes a suspect, at the earliest.
        is_indirect: whether others were asked.
    """

    target: NodeId
    incarnation: int
    goes_on_at: float
    ends_at: float
    is_indirect: bool = False


@dataclass(frozen=True, slots=True)
class Relay:
    """A ping on behalf of another node: where its answer goes, under which number, and until when."""

    target: NodeId
    origin: Address
    sequence: int
    expires_at: float


class Relays:
    """Pings on behalf of others, by the sequence number of the ping."""

    __slots__ = ("_relays",)

    def __init__(self) -> None:
        self._relays: dict[int, Relay] = {}  # all live equally long, so the oldest is also the first to expire

    def __len__(self) -> int:
        return len(self._relays)

    def put(self, sequence: int, relay: Relay, *, now: float) -> bool:
        """False if so many are waiting that this one can't be taken."""
        while self._relays and next(iter(self._relays.values())).expires_at <= now:
            del self._relays[next(iter(self._relays))]
        if len(self._relays) >= RELAYS_MAX:
            return False
        self._relays[sequence] = relay
        return True

    def take(self, sequence: int, target: NodeId) -> Relay | None:
        """The relay that ``target`` answers with this number."""
        relay = self._relays.get(sequence)
        if relay is None or relay.target != target:
            return None
        return self._relays.pop(sequence)
