"""Which replica of each partition leads it."""

from collections.abc import Iterator
from enum import IntEnum
from functools import partial

from meshnode.placement.layout import Layout
from meshnode.placement.path import Hop, cheapen, level
from meshnode.placement.share import Bounds


class _Price(IntEnum):
    """What it takes to give a partition to another of its replicas."""

    NOTHING = 0
    """The primary changes anyway."""
    HANDOFF = 1
    """A healthy primary hands over to a replica that has the data, or to a newcomer that has to get its share."""
    HANDOFF_TO_FRESH = 1 << 20
    """A healthy primary hands over to a replica that is itself being moved to an old member. More than the hops of any
    path, so that it is chosen only where nothing else does."""


def choose_primaries(layout: Layout, bounds: Bounds) -> list[int]:
    """Per partition, the node among its replicas that leads it.

    A primary that still holds its partition keeps it unless the bounds ask for a handoff. A partition whose primary is
    gone goes to a replica that held it before, if any is left. Within these rules the loads end within the bounds, or
    as near as any handoffs can bring them.
    """
    pass_ = _Pass(layout)
    pass_.adopt_orphans(bounds)
    pass_.level(bounds)
    return pass_.leaders


class _Pass:
    """The choice in the making."""

    __slots__ = ("_heirs", "_held", "_layout", "_paid", "leaders", "load")

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._held: list[list[int]] = [[] for _ in layout.load]
        self._heirs: dict[int, list[int]] = {}
        self.load = [0] * len(layout.load)
        self.leaders = [-1] * len(layout.rows)
        self._paid = [0] * len(layout.rows)
        for partition, row in enumerate(layout.rows):
            for node in row:
                self._held[node].append(partition)
            prior = layout.prior[partition]
            if prior is not None and prior in row:
                self.leaders[partition] = prior
                self.load[prior] += 1
            else:
                survivors = [node for node in row if layout.origin[node] >> partition & 1]
                self._heirs[partition] = survivors or row

    def adopt_orphans(self, bounds: Bounds) -> None:
        """Give each partition without a primary to the heir with the most room, the first in the row if several."""
        for partition, heirs in self._heirs.items():
            heir = max(heirs, key=lambda node: bounds.low[node] - self.load[node])
            self.leaders[partition] = heir
            self.load[heir] += 1

    def level(self, bounds: Bounds) -> None:
        """Bring the loads within the bounds with the cheapest handoffs."""
        level(self.load, bounds, givers=partial(self._givers, least=0), pass_on=self._pass_on)
        givers = partial(self._givers, least=-_Price.HANDOFF_TO_FRESH)
        cheapen(self.load, bounds, begin=self._cheaper, givers=givers, pass_on=self._pass_on)

    def _cheaper(self) -> Iterator[int]:
        """All nodes that may lead some partition for less than its leader does."""
        return (node for partition, paid in enumerate(self._paid) if paid for node in self._layout.rows[partition])

    def _givers(self, taker: int, *, least: int) -> Iterator[Hop]:
        for partition in self._held[taker]:
            leader = self.leaders[partition]
            if leader != taker and (price := self._price(partition, taker)) is not None:
                yield Hop(leader, taker, partition, max(price - self._paid[partition], least))

    def _pass_on(self, hop: Hop) -> None:
        self.leaders[hop.partition] = hop.taker
        self._paid[hop.partition] = self._price(hop.partition, hop.taker) or 0
        self.load[hop.giver] -= 1
        self.load[hop.taker] += 1

    def _price(self, partition: int, node: int) -> _Price | None:
        """Of this replica as the primary; None if the primary is gone and this is not one that has the data."""
        heirs = self._heirs.get(partition)
        if heirs is not None:
            return _Price.NOTHING if node in heirs else None
        if node == self._layout.prior[partition]:
            return _Price.NOTHING
        origin = self._layout.origin[node]
        return _Price.HANDOFF_TO_FRESH if origin and not origin >> partition & 1 else _Price.HANDOFF
