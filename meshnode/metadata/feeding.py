"""A node's side towards those that follow it: who they are, and what each is sent.

A core without I/O. Each follower has a window: so much may be under way that it has not said to have taken. One that
says nothing for long is given up. There are few for each node, so that many make a tree.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from meshnode.identity import NodeId
from meshnode.metadata.history import ENTRY_BYTES, History
from meshnode.metadata.relayed import Agreed, Declined, Follow, News, Obstacle, StatePart, Taken

FOLLOWERS_MAX = 16
"""Of one node. Five voters and two stand-bys feed 112 nodes, and these 1,792 more."""

PATH_MAX = 8
"""The longest way to a node. Each step costs as much time as a message."""

BEAT_S = 1.0
"""How often a follower hears something, if there is nothing to say."""

PATIENCE_S = 10.0
"""How long a follower may say nothing."""

WINDOW_BYTES = 256 * 2**10
"""Under way to one follower: more than a link of 1 Gbit/s holds in 2 ms."""

BATCH_BYTES = 64 * 2**10

PART_BYTES = 128 * 2**10
"""Of a state; two parts are under way at a time."""

Outgoing = tuple[NodeId, object]
"""A message, and to whom it goes."""


@dataclass(slots=True)
class _State:
    """All of the metadata on its way to a follower."""

    generation: int
    position: int
    data: bytes
    sent: int = 0
    taken: int = 0


@dataclass(slots=True)
class _Follower:
    """One that follows.

    Attributes:
        generation: of what it has, or is sent.
        sent: the position up to which everything was sent.
        under_way: the position that each message ended at which is not answered for, and its size.
    """

    stream: int
    generation: int
    sent: int
    heard_at_s: float
    told_at_s: float = float("-inf")
    told: News | None = None
    under_way: list[tuple[int, int]] = field(default_factory=list)
    state: _State | None = None

    @property
    def next_deadline(self) -> float:
        given_up_at_s = self.heard_at_s + PATIENCE_S
        # A state takes the place of beats: what is next depends on the follower alone.
        return given_up_at_s if self.state is not None else min(self.told_at_s + BEAT_S, given_up_at_s)

    @property
    def has_room(self) -> bool:
        return sum(size for _, size in self.under_way) < WINDOW_BYTES


class Feeder:
    """All that follow this node.

    Args:
        freeze: all of the metadata, at this moment.
    """

    def __init__(self, history: History, freeze: Callable[[], bytes]) -> None:
        self._history = history
        self._freeze = freeze
        self._followers: dict[NodeId, _Follower] = {}
        # Of the last position at which somebody needed it: those who come together share it.
        self._frozen: _State | None = None

    def __len__(self) -> int:
        return len(self._followers)

    def follow(self, peer: NodeId, asked: Follow, news: News, now: float) -> list[Outgoing]:
        """A node wants to follow."""
        self._followers.pop(peer, None)
        obstacle = self._obstacle(asked, news)
        if obstacle is not None:
            others = tuple(self._followers) if obstacle is Obstacle.FULL else (*news.path[:1], *news.voters)
            return [(peer, Declined(asked.stream, obstacle, others))]
        self._followers[peer] = follower = _Follower(asked.stream, asked.generation, asked.position, now)
        return self._feed(peer, follower, news, now)

    def _obstacle(self, asked: Follow, news: News) -> Obstacle | None:
        if asked.generation > self._history.generation:
            return Obstacle.OLD
        if not self._history.position:
            return Obstacle.IGNORANT
        if len(self._followers) >= FOLLOWERS_MAX or len(news.path) >= PATH_MAX:
            return Obstacle.FULL
        return None

    def taken(self, peer: NodeId, answer: Taken, now: float) -> None:
        """A follower has taken what it was sent."""
        follower = self._followers.get(peer)
        if follower is None or follower.stream != answer.stream:
            return
        follower.heard_at_s = now
        state = follower.state
        if state is not None:
            if answer.position == state.position:
                state.taken = max(state.taken, min(answer.offset, state.sent))
            return
        follower.under_way = [item for item in follower.under_way if item[0] > answer.position]

    def left(self, peer: NodeId, stream: int | None = None) -> None:
        """A node follows no more, or can't be reached."""
        follower = self._followers.get(peer)
        if follower is not None and stream in (None, follower.stream):
            del self._followers[peer]

    def pump(self, news: News, now: float) -> list[Outgoing]:
        """Whatever is to be sent now."""
        outgoing: list[Outgoing] = []
        for peer, follower in list(self._followers.items()):
            if now >= follower.heard_at_s + PATIENCE_S:
                del self._followers[peer]
            elif peer in news.path:
                del self._followers[peer]
                outgoing.append((peer, Declined(follower.stream, Obstacle.LOOP)))
            else:
                outgoing += self._feed(peer, follower, news, now)
        return outgoing

    @property
    def next_deadline(self) -> float:
        """When to call `pump` at the latest."""
        return min([one.next_deadline for one in self._followers.values()], default=float("inf"))

    # ---- one follower

    def _feed(self, peer: NodeId, follower: _Follower, news: News, now: float) -> list[Outgoing]:
        outgoing: list[Outgoing] = []
        while (message := self._next(follower, news, now)) is not None:
            outgoing.append((peer, message))
            follower.told_at_s = now
        return outgoing

    def _next(self, follower: _Follower, news: News, now: float) -> Agreed | StatePart | None:
        """What to send to a follower now; None if it has to wait, or has everything."""
        if follower.generation < self._history.generation:
            self._send_state(follower)
        state = follower.state
        if state is not None and state.taken == len(state.data):
            follower.sent, follower.state = state.position, None
        if follower.state is None:
            message = self._next_commands(follower, news, now)
            if message is not None:
                return message
        return None if follower.state is None else _next_part(follower.stream, follower.state)

    def _next_commands(self, follower: _Follower, news: News, now: float) -> Agreed | None:
        history = self._history
        position = min(follower.sent, history.position)
        commands: tuple[tuple[int, bytes], ...] = ()
        if follower.has_room and follower.sent < history.position:
            found = history.after(follower.sent, bytes_max=BATCH_BYTES)
            if found is None:
                self._send_state(follower)
                return None
            commands, position = found
        if position <= follower.sent and news == follower.told and now < follower.told_at_s + BEAT_S:
            return None
        message = Agreed(
            follower.stream, history.generation, news, min(follower.sent, history.position), position, commands
        )
        if commands:
            follower.under_way.append((position, sum(len(data) + ENTRY_BYTES for _, data in commands)))
        follower.sent = max(follower.sent, position)
        follower.told = news
        return message

    def _send_state(self, follower: _Follower) -> None:
        history = self._history
        frozen = self._frozen
        if frozen is None or (frozen.generation, frozen.position) != (history.generation, history.position):
            self._frozen = frozen = _State(history.generation, history.position, self._freeze())
        follower.state = replace(frozen)
        follower.generation = history.generation
        follower.under_way = []


def _next_part(stream: int, state: _State) -> StatePart | None:
    if state.sent == len(state.data) or state.sent - state.taken >= 2 * PART_BYTES:
        return None
    offset = state.sent
    part = state.data[offset : offset + PART_BYTES]
    state.sent += len(part)
    return StatePart(stream, state.generation, state.position, offset, len(state.data), part)
