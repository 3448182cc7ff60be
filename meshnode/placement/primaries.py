"""Which replica of each partition leads it."""

from collections.abc import Iterator
from enum import IntEnum

from meshnode.placement.layout import Layout
from meshnode.placement.path import Hop, level
from meshnode.placement.share import Bounds


class _Cost(IntEnum):
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

    __slots__ = ("_heirs", "_held", "_layout", "leaders", "load")

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._held: list[list[int]] = [[] for _ in layout.load]
        self._heirs: dict[int, list[int]] = {}
        self.load = [0] * len(layout.load)
        self.leaders = [-1] * len(layout.rows)
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

        def givers(taker: int) -> Iterator[Hop]:
            for partition in self._held[taker]:
                leader = self.leaders[partition]
                if leader != taker and (cost := self._cost(partition, taker)) is not None:
                    yield Hop(leader, taker, partition, cost)

        def pass_on(hop: Hop) -> None:
            self.leaders[hop.partition] = hop.taker
            self.load[hop.giver] -= 1
            self.load[hop.taker] += 1

        level(self.load, bounds, givers=givers, pass_on=pass_on)

    def _cost(self, partition: int, taker: int) -> _Cost | None:
        """None if the primary is gone and this replica is not one that has the data."""
        heirs = self._heirs.get(partition)
        if heirs is not None:
            return _Cost.NOTHING if taker in heirs else None
        origin = self._layout.origin[taker]
        if origin and not origin >> partition & 1:
            return _Cost.HANDOFF_TO_FRESH
        return _Cost.HANDOFF if self.leaders[partition] == self._layout.prior[partition] else _Cost.NOTHING
