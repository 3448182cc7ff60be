"""Replies to calls that were made inside turns: a part of a partition's replicated state.

A reply is kept until the turn that asked has ended, as a later call from the same partition and epoch says. Of a turn
that was cut off by the end of its epoch nothing is heard any more: what it asked for is kept until a time, since it may
run again.

Once a reply is let go of, nobody may ask for it again. A call of an epoch older than one that was heard of comes from a
primary that was deposed; one of a turn that has ended is a late copy of a message. Both are refused.
"""

from dataclasses import dataclass

from meshnode.agents.origin import Origin
from meshnode.agents.reply import Reply, RequestId
from meshnode.identity import Epoch, PartitionId

NESTED_MAX = 65_536
"""Replies kept in one partition: past it a call is refused, since forgetting one could run it twice."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A reply, until when it is kept at most by the partition's own time, and the turn that asked for it."""

    until_s: float
    reply: Reply
    partition: PartitionId
    epoch: Epoch
    turn: int


@dataclass(frozen=True, slots=True)
class NestedSnapshot:
    """All there is."""

    origins: tuple[Origin, ...] = ()
    replies: tuple[tuple[str, str, str, Kept], ...] = ()


NO_NESTED = NestedSnapshot()


class Nested:
    """Decided by the committed records alone."""

    def __init__(self) -> None:
        self.replies: dict[RequestId, Kept] = {}
        # The latest news of each partition's turns: as many as there are partitions, since no call names another one.
        self._origins: dict[PartitionId, Origin] = {}
        # What each turn of the latest epochs asked for.
        self._asked: dict[PartitionId, dict[int, list[RequestId]]] = {}

    def is_over(self, origin: Origin) -> bool:
        """Whether the turn surely asks for nothing any more."""
        latest = self._origins.get(origin.partition)
        if latest is None or origin.epoch > latest.epoch:
            return False
        return origin.epoch < latest.epoch or latest.has_ended(origin.turn)

    def has_room(self, origin: Origin) -> bool:
        """Whether one more reply can be kept, perhaps because the news in ``origin`` lets others go."""
        if len(self.replies) < NESTED_MAX:
            return True
        latest = self._origins.get(origin.partition)
        if latest is None or origin.epoch != latest.epoch:
            return False
        return any(origin.has_ended(turn) for turn in self._asked.get(origin.partition, ()))

    def keep(self, request_id: RequestId, origin: Origin, *, until_s: float, reply: Reply) -> int:
        """Keep a reply, and let go of those that ``origin`` says are not needed any more.

        Returns:
            By how many bytes what is kept has grown; below 0 where it has shrunk.
        """
        growth = self._learn(origin) - self._drop(request_id)
        self.replies[request_id] = kept = Kept(until_s, reply, origin.partition, origin.epoch, origin.turn)
        self._index(request_id, kept)
        return growth + len(reply.payload)

    def expire(self, before_s: float) -> None:
        """Let go of what was to be kept until before a time."""
        self.replies = {request_id: kept for request_id, kept in self.replies.items() if kept.until_s >= before_s}
        self._index_all()

    def snapshot(self) -> NestedSnapshot:
        """The same on every replica."""
        replies = tuple((*request_id, kept) for request_id, kept in self.replies.items())
        return NestedSnapshot(tuple(self._origins.values()), replies)

    def restore(self, snapshot: NestedSnapshot) -> None:
        """Replace everything."""
        self._origins = {origin.partition: origin for origin in snapshot.origins}
        self.replies = {(agent_type, key, chosen): kept for agent_type, key, chosen, kept in snapshot.replies}
        self._index_all()

    def _learn(self, origin: Origin) -> int:
        latest = self._origins.get(origin.partition)
        if latest is not None and not origin.is_after(latest):
            return 0
        self._origins[origin.partition] = origin
        if latest is None or origin.epoch > latest.epoch:
            self._asked[origin.partition] = {}  # what the older epoch asked for is left to its time
            return 0
        asked = self._asked.get(origin.partition, {})
        ended = [turn for turn in asked if origin.has_ended(turn)]
        return -sum(self._drop(request_id) for turn in ended for request_id in asked.pop(turn))

    def _drop(self, request_id: RequestId) -> int:
        """Its size in bytes."""
        kept = self.replies.pop(request_id, None)
        if kept is None:
            return 0
        turns = self._asked.get(kept.partition, {})
        if request_id in turns.get(kept.turn, ()):
            turns[kept.turn].remove(request_id)
            if not turns[kept.turn]:
                del turns[kept.turn]
        return len(kept.reply.payload)

    def _index(self, request_id: RequestId, kept: Kept) -> None:
        if kept.epoch == self._origins[kept.partition].epoch:
            self._asked.setdefault(kept.partition, {}).setdefault(kept.turn, []).append(request_id)

    def _index_all(self) -> None:
        self._asked = {}
        for request_id, kept in self.replies.items():
            self._index(request_id, kept)
