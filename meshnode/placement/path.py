"""Evening loads by passing partitions along: the cheapest path from a node with too much to a node with room.

The graph has an edge from x to y when x can pass some partition to y. Passing one along every edge of a path takes one
off the load of the first node, adds one to the last, and leaves those between as they were: an augmenting path in the
flow between partitions and nodes (Ford and Fulkerson, 1956), the cheapest first (Busacker and Gowen, 1960). What still
costs more than it must is found by going round in circles (Klein, 1967).
"""

import itertools
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from heapq import heappop, heappush

from meshnode.placement.share import Bounds


@dataclass(frozen=True, slots=True)
class Hop:
    """One partition passes from ``giver`` to ``taker``, both node indexes.

    Costs of paths are of zero or more. In a circle one below zero takes back an earlier hop.
    """

    giver: int
    taker: int
    partition: int
    cost: int


Givers = Callable[[int], Iterable[Hop]]
"""For a node, hops that could pass a partition to it."""


@dataclass(frozen=True, slots=True)
class Path:
    """Hops from a source to a sink, the one out of the source first."""

    hops: tuple[Hop, ...]
    cost: int


def cheapest_path(*, sources: Collection[int], sinks: Iterable[int], givers: Givers, enough: int = 0) -> Path | None:
    """The path from one of the sources to one of the sinks that costs least; None if there is none.

    Dijkstra's algorithm, backwards from the sinks. Of equally cheap paths the first found, so that the answer depends
    on nothing but the order in which ``sinks`` and ``givers`` come. Nobody is both a source and a sink.

    Args:
        enough: a cost that no path goes below, as far as the caller knows: the first of that cost ends the search.
    """
    if not sources:
        return None  # the search would look at every pair of nodes to find it out
    best: dict[int, Hop | None] = dict.fromkeys(sinks)
    costs = dict.fromkeys(best, 0)
    # Each of the N nodes enters at most once a cheaper hop, N² at the worst and hardly more than once in practice. The
    # order of entry breaks ties.
    queue = [(0, order, node) for order, node in enumerate(best)]
    entered = len(queue)
    while queue:
        cost, _, taker = heappop(queue)
        if taker in sources:
            return _unwind(taker, best, cost)
        if cost > costs[taker]:
            continue
        for hop in givers(taker):
            giver, total = hop.giver, cost + hop.cost
            if giver in costs and costs[giver] <= total:
                continue
            best[giver], costs[giver] = hop, total
            if giver in sources and total <= enough:
                return _unwind(giver, best, total)
            heappush(queue, (total, entered, giver))
            entered += 1
    return None


def _unwind(source: int, best: dict[int, Hop | None], cost: int) -> Path:
    hops: list[Hop] = []
    hop = best[source]
    while hop is not None:
        hops.append(hop)
        hop = best[hop.taker]
    return Path(tuple(hops), cost)


def level(load: list[int], bounds: Bounds, *, givers: Givers, pass_on: Callable[[Hop], None]) -> None:
    """Pass partitions along until every load is within its bounds, or no path leads any closer.

    Nodes above their upper bound give to nodes below their lower one first, then to any with room; after that, nodes
    below their lower bound take from any that can spare one. Every path takes one off the sum of what is outside the
    bounds, which is why this ends. ``pass_on`` performs a hop and keeps ``load`` up to date.
    """

    def over(node: int) -> bool:
        return load[node] > bounds.high[node]

    def under(node: int) -> bool:
        return load[node] < bounds.low[node]

    def has_room(node: int) -> bool:
        return load[node] < bounds.high[node]

    def can_spare(node: int) -> bool:
        return load[node] > bounds.low[node]

    nodes = range(len(load))
    for gives, takes in ((over, under), (over, has_room), (can_spare, under)):
        sources = {node for node in nodes if gives(node)}
        sinks = [node for node in nodes if takes(node)]
        # Between the same kinds of node, the cheapest path is never cheaper than the one before.
        enough = 0
        while sources and sinks:
            path = cheapest_path(sources=sources, sinks=sinks, givers=givers, enough=enough)
            if path is None:
                break
            enough = path.cost
            for hop in path.hops:
                pass_on(hop)
            first, last = path.hops[0].giver, path.hops[-1].taker
            if not gives(first):
                sources.remove(first)
            if not takes(last):
                sinks.remove(last)


_NO_PARTITION = -1


def cheapen(
    load: list[int],
    bounds: Bounds,
    *,
    begin: Callable[[], Iterable[int]],
    givers: Givers,
    pass_on: Callable[[Hop], None],
) -> None:
    """Pass partitions round in circles for as long as that costs less than nothing.

    A circle may end at a node with room and go on from one that can spare a partition: what happens between those two
    happens in the slack of the bounds. Afterwards no other choice with the loads of those nodes that are outside their
    bounds is cheaper. Every circle makes the sum of all costs less, which is why this ends.

    Args:
        begin: says the takers of all hops that cost less than nothing, which are others after each circle.
    """
    slack = len(load)

    def givers_and_slack(taker: int) -> Iterable[Hop]:
        if taker == slack:
            return [Hop(node, slack, _NO_PARTITION, 0) for node in range(slack) if load[node] < bounds.high[node]]
        if load[taker] > bounds.low[taker]:
            return itertools.chain(givers(taker), (Hop(slack, taker, _NO_PARTITION, 0),))
        return givers(taker)

    while circle := _cheap_circle(begin(), givers_and_slack):
        for hop in circle:
            if hop.partition != _NO_PARTITION:
                pass_on(hop)


def _cheap_circle(begin: Iterable[int], givers: Givers) -> list[Hop]:
    """Hops round a circle that together cost less than nothing; empty if there is none. After Bellman and Ford."""
    costs: defaultdict[int, int] = defaultdict(int)
    best: dict[int, Hop] = {}
    takers = list(dict.fromkeys(begin))
    while takers:
        reached: dict[int, None] = {}
        for taker in takers:
            for hop in givers(taker):
                total = costs[taker] + hop.cost
                if total < costs[hop.giver]:
                    costs[hop.giver] = total
                    best[hop.giver] = hop
                    reached[hop.giver] = None
        # As long as there is no such circle the best hops lead from everywhere to an end.
        if circle := _circle_in(best):
            return circle
        takers = list(reached)
    return []


def _circle_in(best: dict[int, Hop]) -> list[Hop]:
    seen: set[int] = set()
    for start in best:
        way: dict[int, None] = {}
        node = start
        while node in best and node not in seen:
            seen.add(node)
            way[node] = None
            node = best[node].taker
        if node in way:
            circle = itertools.dropwhile(lambda one: one != node, way)  # noqa: B023 - used up before it changes
            return [best[one] for one in circle]
    return []
