"""Spreading the replicas of a partition over zones, as far as the loads permit."""

from functools import partial

from meshnode.placement.layout import Layout, members_of
from meshnode.placement.path import cheapest_path
from meshnode.placement.replicas import givers_of, pass_on
from meshnode.placement.share import Bounds


def spread_over_zones(layout: Layout, bounds: Bounds) -> None:
    """Cover as many partitions in as many zones as any table within the bounds does.

    A zone covers all partitions at best, or as many as it has replicas. Swaps bring every zone to that; then, where a
    zone has more replicas than there are partitions and another fewer, the bounds may leave room to pass one on.
    """
    # At its end each round covers at least one more partition in some zone, so there are finitely many.
    while True:
        _swap_until_covered(layout)
        if not _pass_on_a_surplus(layout, bounds):
            return


def _swap_until_covered(layout: Layout) -> None:
    """Swap replicas until every zone covers as many partitions as it can, the loads being what they are.

    A swap that helps always exists while a zone z has a partition q with two replicas in it and lacks a partition s
    altogether: x, one of the two, goes to s, and in its place comes some y of s. It takes a y that is either of a zone
    that q lacks, or one of two in its zone and not in q. Were there none, q would hold every doubled node of s, at
    least one node for each other zone of s, and two of zone z: two nodes more than s has, while both have equally many.
    Each swap covers one more partition in z and uncovers none on balance elsewhere, so this ends.
    """
    moving = 0
    for fresh in layout.fresh:
        moving |= fresh
    for zone in range(len(layout.covered)):
        while (crowded := layout.doubled[zone]) and (lacking := layout.everything & ~layout.covered[zone]):
            _swap_into(layout, zone, crowded=_first(crowded, moving), lacking=_first(lacking, moving))


def _first(partitions: int, moving: int) -> int:
    """A partition that changes anyway, if there is one: to swap its fresh replica costs nothing more."""
    return next(members_of(partitions & moving or partitions))


def _swap_into(layout: Layout, zone: int, *, crowded: int, lacking: int) -> None:
    row, zones = layout.rows[crowded], layout.zones
    zones_here = {zones[node] for node in row}
    zones_there = [zones[node] for node in layout.rows[lacking]]
    giving = [node for node in row if zones[node] == zone]
    returning = [
        node
        for node in layout.rows[lacking]
        if zones[node] not in zones_here or (zones_there.count(zones[node]) > 1 and node not in row)
    ]
    outgoing = min(giving, key=lambda node: _reluctance(layout, crowded, node))
    incoming = min(returning, key=lambda node: (zones[node] in zones_here, _reluctance(layout, lacking, node)))
    layout.replace(crowded, giver=outgoing, taker=incoming)
    layout.replace(lacking, giver=incoming, taker=outgoing)


def _reluctance(layout: Layout, partition: int, node: int) -> tuple[bool, bool]:
    """Smaller for a replica that is better moved: one on the move anyway, one that is not the primary."""
    return not layout.fresh[node] >> partition & 1, layout.prior[partition] == node


def _pass_on_a_surplus(layout: Layout, bounds: Bounds) -> bool:
    """Move one replica from a zone that has more than it can use to one that has too few; False if none can go."""
    held_in_zone = [0] * len(layout.covered)
    for zone, load in zip(layout.zones, layout.load, strict=True):
        held_in_zone[zone] += load
    count = len(layout.rows)
    nodes = range(len(layout.load))
    surplus = [held_in_zone[zone] - count for zone in layout.zones]
    sources = {node for node in nodes if surplus[node] > 0 and layout.load[node] > bounds.low[node]}
    sinks = [node for node in nodes if surplus[node] < 0 and layout.load[node] < bounds.high[node]]
    path = cheapest_path(sources=sources, sinks=sinks, givers=partial(givers_of, layout, layout.held))
    if path is None:
        return False
    for hop in path.hops:
        pass_on(layout, hop)
    return True
