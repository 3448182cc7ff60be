"""The checker of tables: silent on what placement makes, loud on each way in which a table can be wrong."""

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.identity import NodeId
from meshnode.placement import MemberSpec, Table, next_table
from simulations.checkers.tables import check_quality
from tests.placement.strategies import histories, members
from tests.simulations.checkers.violations import violates

NODES = [NodeId(number) for number in range(1, 7)]
A, B, C, D, E, F = NODES


def alike(*nodes: NodeId) -> dict[NodeId, MemberSpec]:
    return {node: MemberSpec() for node in nodes}


def check(
    previous: Table | None, specs: Mapping[NodeId, MemberSpec], *rows: tuple[NodeId, ...], width: int = 2
) -> None:
    check_quality(previous, specs, Table(rows), replication=width, virtual_s=1.0)


@given(histories(members(), longest=4), st.sampled_from([2, 8, 32]), st.sampled_from([1, 2, 3, 3, 5]))
@settings(max_examples=40, deadline=None)
def test_every_table_that_placement_makes_passes(
    history: list[dict[NodeId, MemberSpec]], partitions: int, replication: int
) -> None:
    table: Table | None = None
    for specs in history:
        after = next_table(table, specs, partitions=partitions, replication=replication)
        check_quality(table, specs, after, replication=replication, virtual_s=0.0)
        table = after


def test_a_row_with_too_few_replicas_is_found() -> None:
    with violates("placement-row-sound", match="partition 1"):
        check(None, alike(A, B, C), (A, B), (C,))


def test_a_replica_on_somebody_who_is_no_member_is_found() -> None:
    with violates("placement-row-sound", match="partition 0"):
        check(None, alike(A, B), (A, C), (B, A))


def test_a_node_that_holds_more_than_its_share_is_found() -> None:
    with violates("placement-balance", match="1 holds 4 replicas; its share is 2"):
        check(None, alike(A, B, C, D), (A, B), (A, C), (A, D), (A, B))


def test_two_replicas_in_one_zone_are_found_where_two_zones_could_be() -> None:
    specs = {node: MemberSpec(zone=zone) for node, zone in zip((A, B, C, D), "aabb", strict=True)}
    with violates("placement-zones", match="in 2 zones, and 4 is possible"):
        check(None, specs, (A, B), (C, D))


def test_zones_that_cannot_all_be_covered_are_nobodys_fault() -> None:
    specs = {node: MemberSpec(zone="a") for node in (A, B, C)} | {D: MemberSpec(zone="b")}
    table = next_table(None, specs, partitions=2, replication=2)
    check(None, specs, *table.rows)


def test_a_primary_without_the_data_is_found() -> None:
    before = Table(((A, B), (B, C)))
    with violates("placement-survivor-leads", match="partition 0 was on"):
        check(before, alike(B, C), (C, B), (B, C))


def test_primaries_that_could_be_more_even_are_found() -> None:
    with violates("placement-primaries", match="1 leads 4 of a fair 2"):
        check(None, alike(A, B), (A, B), (A, B), (A, B), (A, B))


def test_primaries_that_could_be_more_even_by_way_of_another_are_found() -> None:
    rows = ((A, B), (A, B), (A, B), (B, C), (B, C), (C, A), (C, A), (B, C))
    # A leads 3 of 8, B 3, C 2: that is even. With one partition turned, A leads 4 and C 1, and only B is between.
    with violates("placement-primaries", match="1 leads 4"):
        check(None, alike(A, B, C), *rows[:5], (A, C), (C, A), (B, C))


def test_a_table_that_does_not_stay_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    specs = alike(A, B, C)
    table = next_table(None, specs, partitions=4, replication=2)
    check(None, specs, *table.rows)
    turned = Table(tuple((row[1], row[0]) for row in table.rows))
    monkeypatch.setattr("simulations.checkers.tables.next_table", lambda *_args, **_more: turned)
    with violates("placement-stays", match="partition 0"):
        check(None, specs, *table.rows)
