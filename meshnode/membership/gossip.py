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
        self._place: dict[NodeId, dict[NodeId, _Sized]] = {}  # in which of the above a member's update is

    def __len__(self) -> int:
        return len(self._place)

    def put(self, update: Member, *, once: bool = False) -> None:
        """Spread ``update`` from now on, in place of what was said of the member before.

        Args:
            update: what to say.
            once: say it one single time, after everything else.
        """
        self.discard(update.node_id)
        if len(self._place) >= UPDATES_MAX:
            self._discard_one()
        place = self._once if once else self._rounds[0]
        place[update.node_id] = update, record_bytes(update)
        self._place[update.node_id] = place

    def discard(self, node_id: NodeId) -> None:
        """Say nothing more about the member."""
        place = self._place.pop(node_id, None)
        if place is not None:
            del place[node_id]

    def take(self, *, bytes_max: int, transmit_limit: int, without: Container[NodeId] = ()) -> tuple[Member, ...]:
        """The next updates, up to the first that does not fit in ``bytes_max``, counted as transmitted once more.

        Args:
            bytes_max: for all records together.
            transmit_limit: an update that was transmitted so often is forgotten.
            without: members that are left out this time.
        """
        if not self._place:
            return ()
        if len(self._rounds) > transmit_limit:
            self._forget_spent(transmit_limit)
        taken: list[tuple[_Sized, int]] = []
        for times, updates in enumerate([*self._rounds, self._once], 1):
            if not updates:
                continue
            if updates is self._once:
                times = transmit_limit
            for node_id, sized in updates.items():
                if node_id in without:
                    continue
                bytes_max -= sized[1]
                if bytes_max < 0:
                    break
                taken.append((sized, times))
            if bytes_max < 0:
                break
        for sized, times in taken:
            node_id = sized[0].node_id
            if times >= transmit_limit:
                self.discard(node_id)
                continue
            del self._place[node_id][node_id]
            if len(self._rounds) <= times:  # as many as the transmit limit: some 20 in the largest mesh
                self._rounds.append({})
            self._rounds[times][node_id] = sized
            self._place[node_id] = self._rounds[times]
        return tuple([sized[0] for sized, _ in taken])

    def _forget_spent(self, transmit_limit: int) -> None:
        for spent in self._rounds[transmit_limit:]:  # the limit falls when the mesh shrinks
            for node_id in list(spent):
                self.discard(node_id)

    def _discard_one(self) -> None:
        """Give up what matters least: what is to be said once, or was said most often."""
        least = next(updates for updates in [self._once, *reversed(self._rounds)] if updates)
        self.discard(next(iter(least)))
