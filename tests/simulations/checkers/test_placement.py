"""The placement checker: silent on what placement makes, loud on other tables and on moves that need not be."""

from collections.abc import Mapping, Sequence
from math import ceil, floor

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from meshnode.identity import Boot, Epoch, NodeId, PartitionId
from meshnode.metadata.rows import Phase
from meshnode.metadata.rows import Row as CommittedRow
from meshnode.placement import MemberSpec, Table, fair_replicas, next_table
from simulations.checkers.exchange import Assignment
from simulations.checkers.placement import Movement, check_movement, check_step, check_table, movement
from tests.placement.optimum import least_cost
from tests.placement.strategies import equal_members, histories, members
from tests.simulations.checkers.violations import violates

Members = Mapping[NodeId, MemberSpec]


def check(previous: Table | None, specs: Members, table: Table, *, replication: int = 3) -> None:
    check_table(previous, specs, table, replication=replication, virtual_s=1.0, node=NodeId(7))


@given(histories(members(), longest=4), st.sampled_from([2, 8, 32]), st.sampled_from([1, 2, 3, 3, 5]))
@settings(max_examples=60)
def test_every_table_that_placement_makes_passes(
    history: list[dict[NodeId, MemberSpec]], partitions: int, replication: int
) -> None:
    table: Table | None = None
    for specs in history:
        after = next_table(table, specs, partitions=partitions, replication=replication)
        check(table, specs, after, replication=replication)
        table = after


def test_another_table_than_the_one_that_all_make_is_found() -> None:
    specs = equal_members(range(1, 6))
    table = next_table(None, specs, partitions=16)
    rows = list(table.rows)
    rows[3] = (rows[3][1], rows[3][0], *rows[3][2:])
    with violates("placement-same-table", match="partition 3 is on"):
        check(None, specs, Table(tuple(rows)))


def test_a_table_made_anew_instead_of_from_the_last_one_moves_too_much() -> None:
    everyone = equal_members(range(1, 9))
    before = next_table(None, equal_members(range(1, 8)), partitions=64)
    anew = next_table(None, everyone, partitions=64)
    from_before = next_table(before, everyone, partitions=64)
    assert movement(before, anew).copied > movement(before, from_before).copied
    check_movement(before, everyone, from_before, replication=3, virtual_s=0.0)
    with violates("placement-minimal-movement", match="replicas copied, and loads as even take"):
        check_movement(before, everyone, anew, replication=3, virtual_s=0.0)


def test_one_copy_too_many_is_found_where_all_members_are_alike() -> None:
    specs = equal_members(range(1, 6))
    table = next_table(None, specs, partitions=16)
    rows = [list(row) for row in table.rows]
    # Two partitions swap a replica: the loads stay, and two copies are made for nothing.
    one, other = next(
        (one, other)
        for one in range(16)
        for other in range(16)
        if rows[one][2] not in rows[other] and rows[other][2] not in rows[one]
    )
    rows[one][2], rows[other][2] = rows[other][2], rows[one][2]
    swapped = Table(tuple(tuple(row) for row in rows))
    assert movement(table, swapped) == Movement(copied=2, handed_over=0)
    with violates("placement-minimal-movement", match="2 replicas copied, and loads as even take 0; up to 0 may be"):
        check_movement(table, specs, swapped, replication=3, virtual_s=0.0)


def test_primaries_that_are_handed_round_are_found() -> None:
    specs = equal_members(range(1, 4))
    table = next_table(None, specs, partitions=32)
    turned = Table(tuple((*row[1:], row[0]) for row in table.rows))
    with violates("placement-minimal-movement", match="32 primaries handed over, and loads as even take 0"):
        check_movement(table, specs, turned, replication=3, virtual_s=0.0)


def test_what_nobody_held_has_to_go_somewhere() -> None:
    specs = equal_members(range(1, 5))
    table = next_table(None, specs, partitions=8)
    check_movement(None, specs, table, replication=3, virtual_s=0.0)
    check_movement(Table(((), *table.rows[1:])), specs, table, replication=3, virtual_s=0.0)


NODES = [NodeId(number) for number in range(1, 5)]


@given(
    rows=st.lists(st.lists(st.sampled_from(NODES), min_size=2, max_size=2, unique=True), min_size=1, max_size=6),
    costs=st.lists(st.lists(st.integers(0, 3), min_size=4, max_size=4), min_size=6, max_size=6),
)
@example(rows=[[NodeId(1), NodeId(2)]] * 3, costs=[[3, 3, 0, 0]] * 6)
@settings(max_examples=60)
def test_exchanges_end_at_the_cheapest_assignment(rows: Sequence[Sequence[NodeId]], costs: list[list[int]]) -> None:
    """Against a flow of minimum cost, from assignments within their bounds."""
    specs = {node: MemberSpec() for node in NODES}
    shares = fair_replicas(specs, partitions=len(rows), replication=2)
    load = {node: sum(node in row for row in rows) for node in NODES}
    low = {node: min(floor(shares[node]), load[node]) for node in NODES}
    high = {node: max(ceil(shares[node]), load[node]) for node in NODES}
    priced = [dict(zip(NODES, row, strict=True)) for row in costs[: len(rows)]]
    placed = [set(row) for row in rows]
    assignment = Assignment(placed, lambda partition, node: priced[partition][node], low=low, high=high)
    assignment.improve()
    assert (0, assignment.cost) == least_cost(priced, each=2, low=low, high=high)
    for node in NODES:
        assert low[node] <= sum(node in row for row in placed) <= high[node]
    assert all(len(row) == 2 for row in placed)


def test_an_exchange_gives_up_no_zone() -> None:
    zones = {NODES[0]: "a", NODES[1]: "a", NODES[2]: "b", NODES[3]: "b"}
    # Cheapest would be both replicas of partition 0 in zone a, and both of partition 1 in zone b.
    costs = [dict(zip(NODES, row, strict=True)) for row in ([0, 0, 9, 9], [9, 9, 0, 0])]
    placed = [{NODES[0], NODES[2]}, {NODES[1], NODES[3]}]
    bounds = dict.fromkeys(NODES, 1)

    def improved(by_zone: Mapping[NodeId, str] | None) -> list[set[NodeId]]:
        rows = [set(row) for row in placed]
        Assignment(
            rows, lambda partition, node: costs[partition][node], low=bounds, high=bounds, zones=by_zone
        ).improve()
        return rows

    assert improved(None) == [{NODES[0], NODES[1]}, {NODES[2], NODES[3]}]
    assert all(len({zones[node] for node in row}) == 2 for row in improved(zones))


def test_a_table_of_another_width_is_compared_by_its_rows() -> None:
    specs = equal_members(range(1, 6))
    table = next_table(None, specs, partitions=8)
    with pytest.raises(ValueError, match="argument 2 is"):
        movement(table, next_table(None, specs, partitions=16))


def test_a_step_that_leads_neither_to_the_table_nor_back_to_the_base_is_found() -> None:
    one, two, three, four = (NodeId(number) for number in range(1, 5))
    row = CommittedRow(Epoch(3), one, Boot(1), (one, two), Phase.ACTIVE, base=(one, three))
    table = Table(((three, four), (one, two)))
    for replicas in ((two, one), (three, one), (four, three)):
        check_step(row, PartitionId(0), replicas, table, virtual_s=1.0)
    check_step(None, PartitionId(1), (one, two), table, virtual_s=1.0)
    with violates("placement-minimal-movement", match=r"partition 0 is to go to \(2, 4\)"):
        check_step(row, PartitionId(0), (two, four), table, virtual_s=1.0)
    with violates("placement-minimal-movement"):
        check_step(None, PartitionId(0), (one,), None, virtual_s=1.0)
