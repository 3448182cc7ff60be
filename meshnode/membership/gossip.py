"""The updates that still have to spread, and which of them travel next."""

import functools
from collections.abc import Container
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

    def __init__(self) -> None:
        # _rounds[n] holds what was transmitted n times, in order of arrival there.
        self._rounds: list[dict[NodeId, _Sized]] = [{}]
        self._once: dict[NodeId, _Sized] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, update: Member, *, once: bool = False) -> None:
        """Spread ``update`` from now on, in place of what was said of the member before.

        Args:
            update: what to say.
            once: say it one single time, after everything else.
        """
        self.discard(update.node_id)
        if self._count >= UPDATES_MAX:
            self._discard_one()
        place = self._once if once else self._rounds[0]
        place[update.node_id] = update, record_bytes(update)
        self._count += 1

    def discard(self, node_id: NodeId) -> None:
        """Say nothing more about the member."""
        # To look everywhere costs less than to keep in mind where each is: news are rarer than messages.
        for place in (*self._rounds, self._once):
            if place.pop(node_id, None) is not None:
                self._count -= 1

    def take(self, *, bytes_max: int, transmit_limit: int, without: Container[NodeId] = ()) -> tuple[Member, ...]:
        """The next updates, up to the first that does not fit in ``bytes_max``, counted as transmitted once more.

        Args:
            bytes_max: for all records together.
            transmit_limit: an update that was transmitted so often is forgotten.
            without: members that are left out this time.
        """
        if not self._count:
            return ()
        rounds = self._rounds
        if len(rounds) > transmit_limit:
            self._forget_spent(transmit_limit)
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
                self._count -= 1
                continue
            if len(rounds) <= times:  # as many as the transmit limit: some 20 in the largest mesh
                rounds.append({})
            rounds[times][node_id] = sized
        return tuple([sized[0] for _, sized, _, _ in taken])

    def _forget_spent(self, transmit_limit: int) -> None:
        for spent in self._rounds[transmit_limit:]:  # the limit falls when the mesh shrinks
            self._count -= len(spent)
            spent.clear()

    def _discard_one(self) -> None:
        """Give up what matters least: what is to be said once, or was said most often."""
        least = next(updates for updates in [self._once, *reversed(self._rounds)] if updates)
        del least[next(iter(least))]
        self._count -= 1
