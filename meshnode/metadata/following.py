"""A node's side towards the one that it follows, while the Raft group itself sends it nothing.

A core without I/O. It looks for a node that knows what is agreed on, and takes everything from it in order. Whatever
comes is agreed on already, by whomever it comes: to follow another node, or one that is behind, does no harm. One that
falls silent, or for a while hears of no leader itself, is left for another.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from meshnode.identity import NodeId
from meshnode.metadata.feeding import BEAT_S, Outgoing
from meshnode.metadata.history import History
from meshnode.metadata.relayed import Agreed, Declined, Follow, News, StatePart, Taken, Unfollow

SILENT_S = 3.5 * BEAT_S
"""Of a node that is followed, or is to be: more, and another one is asked."""

LEADERLESS_S = 5.0
"""How long a node is followed that hears from no leader: several elections."""

PAUSE_MIN_S = 0.1
PAUSE_MAX_S = 3.0
"""Between two nodes that are asked; doubled each time, and jittered."""

STATE_BYTES_MAX = 2**30
"""More than any mesh's metadata: what claims to be larger is not taken."""

NOBODY = NodeId(0)


@dataclass(slots=True)
class _Incoming:
    """All of the metadata of another node, as far as it has come."""

    generation: int
    position: int
    total: int
    data: bytearray


class Follower:
    """What this node does to be told.

    Args:
        restore: makes the metadata what it was when it was frozen at a position.
        candidates: whom to ask.

    Attributes:
        source: who is asked or followed; 0 for nobody.
        news: what the source last said.
    """

    def __init__(
        self,
        node_id: NodeId,
        history: History,
        restore: Callable[[bytes], None],
        candidates: Callable[[], Sequence[NodeId]],
        rng: random.Random,
    ) -> None:
        self.source = NOBODY
        self.news = News()
        self._node_id = node_id
        self._history = history
        self._restore = restore
        self._candidates = candidates
        self._rng = rng
        self._stream = 0
        self._incoming: _Incoming | None = None
        self._pause_s = PAUSE_MIN_S
        self._ask_at_s = 0.0
        self._heard_at_s = 0.0
        self._led_at_s = 0.0
        self._hints: list[NodeId] = []

    @property
    def hears_of_leader(self) -> bool:
        """Whether it follows a node that hears from the leader."""
        return self.news.leader != NOBODY

    @property
    def next_deadline(self) -> float:
        """When to call `seek` at the latest."""
        if self.source == NOBODY:
            return self._ask_at_s
        return min(self._heard_at_s + SILENT_S, self._led_at_s + LEADERLESS_S)

    def seek(self, now: float) -> list[Outgoing]:
        """Follow somebody, and go on following as long as it is worth it."""
        outgoing: list[Outgoing] = []
        if self.source != NOBODY and now >= self.next_deadline:
            outgoing += self._leave(now)
        if self.source == NOBODY and now >= self._ask_at_s:
            outgoing += self._ask(now)
        return outgoing

    def rest(self, now: float) -> list[Outgoing]:
        """The Raft group tells this node itself."""
        if self.source == NOBODY:
            return []
        outgoing = self._leave(now)
        self._pause_s = PAUSE_MIN_S
        return outgoing

    def lost(self, peer: NodeId, now: float) -> None:
        """The node can't be reached, or messages of it were lost."""
        if peer == self.source:
            self._leave(now)

    def receive(self, peer: NodeId, message: Agreed | StatePart | Declined, now: float) -> list[Outgoing]:
        """Take what another node sends."""
        if peer != self.source or message.stream != self._stream:
            return [] if isinstance(message, Declined) else [(peer, Unfollow(message.stream))]
        self._heard_at_s = now
        match message:
            case Declined():
                self._hints = [node for node in message.others if node != peer]
                self._leave(now)
                return []
            case Agreed():
                return self._take(peer, message, now)
            case StatePart():
                return self._take_part(peer, message, now)

    # ---- whom to follow

    def _ask(self, now: float) -> list[Outgoing]:
        candidates = self._candidates()
        hints = [node for node in self._hints if node in candidates]
        if not candidates:
            self._ask_at_s = now + PAUSE_MAX_S
            return []
        self.source = self._rng.choice(hints or candidates)
        self._hints = []
        self._stream = self._rng.getrandbits(53)
        self._incoming = None
        self._heard_at_s = self._led_at_s = now
        return [(self.source, Follow(self._stream, self._history.generation, self._history.position))]

    def _leave(self, now: float) -> list[Outgoing]:
        outgoing: list[Outgoing] = [(self.source, Unfollow(self._stream))]
        self.source = NOBODY
        self.news = replace(self.news, leader=NOBODY, path=())
        self._incoming = None
        self._ask_at_s = now + self._pause_s * self._rng.uniform(0.5, 1.0)
        self._pause_s = min(2 * self._pause_s, PAUSE_MAX_S)
        return outgoing

    # ---- what comes

    def _take(self, peer: NodeId, message: Agreed, now: float) -> list[Outgoing]:
        history = self._history
        is_gap = message.after > history.position
        if is_gap or message.generation != history.generation:
            return self._leave(now)
        for index, data in message.commands:
            history.apply(index, data)
        history.advance(message.position)
        self.news = message.news
        if self.news.leader == self._node_id:  # it is taken for the leader that it was once
            self.news = replace(self.news, leader=NOBODY)
        if self.hears_of_leader:
            self._led_at_s = now
            self._pause_s = PAUSE_MIN_S
        return [(peer, Taken(self._stream, message.position))]

    def _take_part(self, peer: NodeId, message: StatePart, now: float) -> list[Outgoing]:
        incoming = self._incoming
        this = (message.generation, message.position, message.total)
        if message.offset == 0 and message.total <= STATE_BYTES_MAX:
            self._incoming = incoming = _Incoming(*this, bytearray())
        if incoming is None or this != (incoming.generation, incoming.position, incoming.total):
            return self._leave(now)
        if message.offset != len(incoming.data) or len(incoming.data) + len(message.part) > incoming.total:
            return self._leave(now)
        incoming.data += message.part
        self._led_at_s = now
        if len(incoming.data) == incoming.total:
            self._incoming = None
            history = self._history
            is_newer = (message.generation, message.position) > (history.generation, history.position)
            if is_newer:
                self._restore(bytes(incoming.data))
                history.replaced(message.position)
        return [(peer, Taken(self._stream, message.position, len(incoming.data)))]
