"""Cheapest paths and levelling."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.placement.path import Hop, cheapen, cheapest_path, level
from meshnode.placement.share import Bounds

NODES = 6
EDGES = st.dictionaries(st.tuples(st.integers(0, NODES - 1), st.integers(0, NODES - 1)), st.integers(0, 3), max_size=20)


def distances(edges: dict[tuple[int, int], int]) -> list[list[float]]:
    """Between all nodes, after Floyd and Warshall."""
    table = [[0.0 if one == other else float("inf") for other in range(NODES)] for one in range(NODES)]
    for (giver, taker), cost in edges.items():
        table[giver][taker] = min(table[giver][taker], cost)
    for middle in range(NODES):
        for one in range(NODES):
            for other in range(NODES):
                table[one][other] = min(table[one][other], table[one][middle] + table[middle][other])
    return table


@settings(deadline=None)
@given(EDGES, st.sets(st.integers(0, NODES - 1)), st.sets(st.integers(0, NODES - 1)))
def test_the_path_found_is_a_path_and_none_is_cheaper(
    edges: dict[tuple[int, int], int], sources: set[int], sinks: set[int]
) -> None:
    sinks -= sources

    def givers(taker: int) -> list[Hop]:
        return [Hop(giver, taker, 0, cost) for (giver, to), cost in edges.items() if to == taker]

    table = distances(edges)
    shortest = min((table[source][sink] for source in sources for sink in sinks), default=float("inf"))
    path = cheapest_path(sources=sources, sinks=sinks, givers=givers)
    if path is None:
        assert shortest == float("inf")
        return
    assert path.cost == shortest == sum(edges[hop.giver, hop.taker] for hop in path.hops)
    assert path.hops[0].giver in sources
    assert path.hops[-1].taker in sinks
    assert all(one.taker == other.giver for one, other in zip(path.hops, path.hops[1:], strict=False))
    # Told what the cheapest costs, the search may stop sooner and finds one as cheap.
    sooner = cheapest_path(sources=sources, sinks=sinks, givers=givers, enough=path.cost)
    assert sooner is not None
    assert sooner.cost == path.cost


def test_where_nobody_gives_no_hop_is_asked_for() -> None:
    def givers(taker: int) -> list[Hop]:
        raise AssertionError(f"asked who could give to {taker}")

    assert cheapest_path(sources=set(), sinks=range(NODES), givers=givers) is None


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, NODES - 1), min_size=1, max_size=3, unique=True), max_size=12), st.data())
def test_levelling_ends_where_no_handoff_leads_closer_to_the_bounds(rows: list[list[int]], data: st.DataObject) -> None:
    leaders = [row[0] for row in rows]
    load = [leaders.count(node) for node in range(NODES)]
    low = data.draw(st.lists(st.integers(0, 2), min_size=NODES, max_size=NODES))
    high = [bound + data.draw(st.integers(0, 1)) for bound in low]

    def givers(taker: int) -> list[Hop]:
        return [Hop(leader, taker, at, 1) for at, leader in enumerate(leaders) if taker in rows[at] and taker != leader]

    def pass_on(hop: Hop) -> None:
        assert leaders[hop.partition] == hop.giver
        leaders[hop.partition] = hop.taker
        load[hop.giver] -= 1
        load[hop.taker] += 1

    def outside() -> int:
        return sum(max(0, low[node] - load[node], load[node] - high[node]) for node in range(NODES))

    before = outside()
    level(load, Bounds(tuple(low), tuple(high)), givers=givers, pass_on=pass_on)
    assert load == [leaders.count(node) for node in range(NODES)]
    assert outside() <= before
    edges = {(leader, node): 1 for leader, row in zip(leaders, rows, strict=True) for node in row if node != leader}
    table = distances(edges)
    for giver in range(NODES):
        for taker in range(NODES):
            if giver != taker and table[giver][taker] < float("inf"):
                assert not (load[giver] > high[giver] and load[taker] < high[taker])
                assert not (load[giver] > low[giver] and load[taker] < low[taker])


@pytest.mark.parametrize(("room", "moved"), [(1, {3, 4}), (0, {0, 1, 2})])
def test_a_long_way_from_one_to_the_other_gives_way_to_two_short_ones_by_nodes_with_slack(
    room: int, moved: set[int]
) -> None:
    rows = [(0, 1), (1, 2), (2, 3), (0, 4), (5, 3)]  # 0 has one too many, 3 one too few
    leaders = [leader for leader, _ in rows]
    load = [2, 1, 1, 0, 0, 1]
    bounds = Bounds((1, 1, 1, 1, 0, 0), (1, 1, 1, 1, room, 1))

    def givers(taker: int) -> list[Hop]:
        may = [at for at, leader in enumerate(leaders) if taker in rows[at] and taker != leader]
        return [Hop(leaders[at], taker, at, 1 if taker != rows[at][0] else -1) for at in may]

    def pass_on(hop: Hop) -> None:
        leaders[hop.partition] = hop.taker
        load[hop.giver] -= 1
        load[hop.taker] += 1

    def changed() -> set[int]:
        return {at for at, leader in enumerate(leaders) if leader != rows[at][0]}

    level(load, bounds, givers=givers, pass_on=pass_on)
    assert changed() == {0, 1, 2}
    cheapen(load, bounds, begin=lambda: [0, 1, 2], givers=givers, pass_on=pass_on)
    assert changed() == moved
    assert load == [1, 1, 1, 1, room, 1 - room]
