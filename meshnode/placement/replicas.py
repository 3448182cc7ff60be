"""Which nodes hold which partitions: keep what is there, fill what is missing, even out what is left.

This is consistent hashing with bounded loads (Mirrokni, Thorup and Zadimoghaddam, SODA 2018), with the tightest bound
there is: each node's fair share, rounded down or up.
"""

from collections.abc import Iterator, Sequence
from functools import partial, reduce
from operator import or_

from meshnode.identity import PartitionId
from meshnode.placement.layout import Layout, narrowed, pick
from meshnode.placement.path import Hop, level
from meshnode.placement.ring import Ring, Walk
from meshnode.placement.share import Bounds

# Odd, so that neighbouring loads start their search at partitions far apart: the replicas that one node gives up or
# takes are then spread over all the others.
_STRIDE = 2_654_435_769


def place_replicas(layout: Layout, ring: Ring, bounds: Bounds, *, width: int) -> None:
    """Bring every partition to ``width`` replicas and every node's load within its bounds.

    Replicas within the bounds stay, so with equal weights the fewest possible change hands, and with unequal ones
    hardly more; those that do go where the ring would have them, as far as there is room. Bounds that come from
    `fair_replicas` can always be met (the Gale–Ryser theorem), and are.
    """
    _trim(layout, bounds, width)
    _fill(layout, ring, bounds, width)
    if all(low <= load <= high for low, load, high in zip(bounds.low, layout.load, bounds.high, strict=True)):
        return
    _level(layout, bounds, fresh_only=True)
    _shed(layout, ring, bounds, width)
    _level(layout, bounds, fresh_only=False)


def _trim(layout: Layout, bounds: Bounds, width: int) -> None:
    """Drop surplus replicas, from the most overloaded of their nodes first and from the primary never."""
    for partition, row in enumerate(layout.rows):
        while len(row) > width:
            primary = layout.prior[partition]
            layout.drop(
                partition,
                max(
                    (node for node in row if node != primary),
                    key=lambda node: (layout.load[node] - bounds.high[node], node),
                ),
            )


def _fill(layout: Layout, ring: Ring, bounds: Bounds, width: int) -> None:
    """Give each partition the replicas that it lacks, from the next nodes on the ring that have room.

    Nodes below their lower bound come first, so that everyone reaches it before anyone goes beyond. What finds no room
    (the only nodes left hold the partition already) goes beyond the bounds here and is evened out afterwards.
    """
    lacking = [partition for partition, row in enumerate(layout.rows) if len(row) < width]
    anything = tuple(len(layout.rows) for _ in bounds.high)
    for room in (bounds.low, bounds.high, anything):
        if not lacking:
            return
        walk = Walk(ring, [node for node, load in enumerate(layout.load) if load < room[node]])
        for partition in lacking:
            row = layout.rows[partition]
            while len(row) < width and (taker := walk.receiver(PartitionId(partition), row)) is not None:
                layout.add(partition, taker)
                if layout.load[taker] >= room[taker]:
                    walk.close(taker)
        lacking = [partition for partition in lacking if len(layout.rows[partition]) < width]


def _shed(layout: Layout, ring: Ring, bounds: Bounds, width: int) -> None:
    """Nodes above their upper bound give replicas to the nodes that the ring names among those with room."""
    over = [node for node, load in enumerate(layout.load) if load > bounds.high[node]]
    if not over:
        return
    at_home = _at_home(layout, ring, width)
    for room in (bounds.low, bounds.high):
        walk = Walk(ring, [node for node, load in enumerate(layout.load) if load < room[node]])
        wanted = reduce(or_, (at_home[node] for node in walk.open), 0)
        for giver in over:
            while layout.load[giver] > bounds.high[giver]:
                candidates = layout.held[giver] & ~_held_by_all(layout, walk, width)
                if not candidates:
                    break
                wishes = (layout.doubled[layout.zones[giver]], ~layout.led[giver], wanted, ~at_home[giver])
                partition = _scattered(narrowed(candidates, wishes), layout, giver)
                row = layout.rows[partition]
                taker = walk.receiver(PartitionId(partition), [node for node in row if node != giver])
                assert taker is not None
                layout.replace(partition, giver=giver, taker=taker)
                if layout.load[taker] >= room[taker]:
                    walk.close(taker)


def _held_by_all(layout: Layout, walk: Walk, width: int) -> int:
    """The partitions that every open node holds already, so that none of them could receive."""
    # A partition has too few replicas to be on this many nodes and on the giver.
    if len(walk.open) >= width:
        return 0
    common = layout.everything
    for node in walk.open:
        common &= layout.held[node]
    return common


def _at_home(layout: Layout, ring: Ring, width: int) -> list[int]:
    """Per node, the partitions that the ring would put on it if loads did not matter."""
    at_home = [0] * len(layout.load)
    for partition in range(len(layout.rows)):
        for node in ring.first(PartitionId(partition), width):
            at_home[node] |= 1 << partition
    return at_home


def _level(layout: Layout, bounds: Bounds, *, fresh_only: bool) -> None:
    """Even the loads, replica by replica, with those that are on the move anyway where that does."""
    level(
        layout.load,
        bounds,
        givers=partial(givers_of, layout, layout.fresh if fresh_only else layout.held),
        pass_on=partial(pass_on, layout),
    )


def givers_of(layout: Layout, movable: Sequence[int], taker: int) -> Iterator[Hop]:
    """From each node, the replica among those movable that it had best pass to the taker, if there is one."""
    lacked, zone = ~layout.held[taker], layout.zones[taker]
    for giver, held in enumerate(movable):
        candidates = held & lacked
        if candidates:
            fresh = layout.fresh[giver]
            wishes = (fresh, layout.doubled[layout.zones[giver]], ~layout.covered[zone], ~layout.led[giver])
            partition = _scattered(narrowed(candidates, wishes), layout, taker)
            yield Hop(giver, taker, partition, cost=not fresh >> partition & 1)


def pass_on(layout: Layout, hop: Hop) -> None:
    """Perform a hop."""
    layout.replace(hop.partition, giver=hop.giver, taker=hop.taker)


def _scattered(candidates: int, layout: Layout, node: int) -> int:
    return pick(candidates, start=(node + layout.load[node] * _STRIDE) % len(layout.rows))
