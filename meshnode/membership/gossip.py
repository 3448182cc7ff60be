"""The updates that still have to spread, and which of them travel next."""

import functools
from collections import deque
from collections.abc import Collection
from typing import TypeAlias

from meshnode import wire
from meshnode.identity import NodeId
from meshnode.membership.messages import Member

_Sized: TypeAlias = tuple[Member, int]
"""An update with the bytes of its record, which each message counts anew."""

UPDATES_MAX = 16_384
"""One for each member of the largest mesh. Only a peer that invents members has more to say."""


@functools.lru_cache(maxsize=16_384)  # one for each member of the largest mesh: a list's page measures each again
def record_bytes(member: Member) -> int:
    """How many bytes the record takes inside a message."""
    return len(wire.pack(member))


class GossipQueue:
    """One update per member, the newest; those transmitted least go first, and among them in turn (SWIM 4.1).

    It is bounded by the number of members, as a newer update of a member replaces the older one, and by `UPDATES_MAX`.
    """

    __slots__ = ("_all", "_bytes", "_once", "_rounds", "waiting")

    def __init__(self) -> None:
        # _rounds[n] holds what was transmitted n times, in order of arrival there.
        self._rounds: deque[dict[NodeId, _Sized]] = deque([{}])
        self._once: dict[NodeId, _Sized] = {}
        self.waiting = 0
        """How many updates there are: a plain attribute, since every message asks."""
        self._bytes = 0
        self._all: tuple[Member, ...] | None = None  # all in their order, as long as none comes or goes

    def __len__(self) -> int:
        return self.waiting

    def put(self, update: Member, *, once: bool = False) -> None:
        """Spread ``update`` from now on, in place of what was said of the member before.

        Args:
            update: what to say.
            once: say it one single time, after everything else.
        """
        self.discard(update.node_id)
        if self.waiting >= UPDATES_MAX:
            self._discard_one()
        place = self._once if once else self._rounds[0]
        size = record_bytes(update)
        place[update.node_id] = update, size
        self.waiting += 1
        self._bytes += size
        self._all = None

    def discard(self, node_id: NodeId) -> None:
        """Say nothing more about the member."""
        if not self.waiting:
            return
        # To look everywhere costs less than to keep in mind where each is: news are rarer than messages.
        for place in (*self._rounds, self._once):
            sized = place.pop(node_id, None)
            if sized is not None:
                self._lose(1, sized[1])

    def take(self, *, bytes_max: int, transmit_limit: int, without: Collection[NodeId] = ()) -> tuple[Member, ...]:
        """The next updates, up to the first that does not fit in ``bytes_max``, counted as transmitted once more.

        Args:
            bytes_max: for all records together.
            transmit_limit: an update that was transmitted so often is forgotten.
            without: members that are left out this time.
        """
        if not self.waiting:
            return ()
        rounds = self._rounds
        if len(rounds) > transmit_limit:
            self._forget_spent(transmit_limit)
        if not without and self._bytes <= bytes_max:
            return self._take_all(transmit_limit)
        self._all = None
        taken: list[tuple[NodeId, _Sized, dict[NodeId, _Sized], int]] = []
        for times, place in enumerate([*rounds, self._once], 1):
            if not place:
                continue
            if place is self._once:
                times = transmit_limit
            for node_id, sized in place.items():
                if node_id in without:
                    continue
                bytes_max -= sized[1]
                if bytes_max < 0:
                    break
                taken.append((node_id, sized, place, times))
            if bytes_max < 0:
                break
        for node_id, sized, place, times in taken:
            del place[node_id]
            if times >= transmit_limit:
                self._lose(1, sized[1])
                continue
            if len(rounds) <= times:  # as many as the transmit limit: some 20 in the largest mesh
                rounds.append({})
            rounds[times][node_id] = sized
        return tuple([sized[0] for _, sized, _, _ in taken])

    def _take_all(self, transmit_limit: int) -> tuple[Member, ...]:
        """Everything at once, which as a rule fits: all keep their order, and are a round further."""
        taken = self._all
        if taken is None:
            taken = self._all = tuple([sized[0] for place in (*self._rounds, self._once) for sized in place.values()])
        if self._once:
            self._clear(self._once)
        if len(self._rounds) < transmit_limit:
            self._rounds.appendleft({})
            return taken
        if self._rounds[-1]:
            self._clear(self._rounds[-1])
        self._rounds.rotate(1)
        return taken

    def _forget_spent(self, transmit_limit: int) -> None:
        while len(self._rounds) > transmit_limit:  # the limit falls when the mesh shrinks
            self._clear(self._rounds.pop())

    def _clear(self, place: dict[NodeId, _Sized]) -> None:
        self._lose(len(place), sum(size for _, size in place.values()))
        place.clear()

    def _lose(self, count: int, size: int) -> None:
        if count:
            self.waiting -= count
            self._bytes -= size
            self._all = None

    def _discard_one(self) -> None:
        """Give up what matters least: what is to be said once, or was said most often."""
        least = next(updates for updates in [self._once, *reversed(self._rounds)] if updates)
        _, size = least.pop(next(iter(least)))
        self._lose(1, size)
