"""The next table: balance, few moves, no drift."""

from collections.abc import Mapping
from math import ceil, floor
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from meshnode.identity import NodeId, PartitionId
from meshnode.placement import MemberSpec, Ring, Table, fair_primaries, fair_replicas, next_table, successors
from tests.placement.optimum import least_cost
from tests.placement.strategies import EQUALS, ZONES, by_partition, equal_members, histories, members

Members = Mapping[NodeId, MemberSpec]

COUNTS = st.sampled_from([1, 2, 8, 32])
WIDTHS = st.sampled_from([1, 2, 3, 3, 3, 5])
"""Replicas per partition."""

PROPERTY = settings(deadline=None)
FLOW_PROPERTY = settings(deadline=None, max_examples=30)
"""For comparisons with a flow, which is slow on purpose."""


def copied(before: Table, after: Table) -> int:
    """Replicas that come to nodes that did not have them."""
    return sum(len(set(new) - set(old)) for old, new in zip(before.rows, after.rows, strict=True))


def handed_over(before: Table, after: Table) -> int:
    return sum(old[0] != new[0] for old, new in zip(before.rows, after.rows, strict=True))


def off_balance(table: Table, specs: Members, replication: int) -> tuple[int, int]:
    """How far replicas and primaries are outside their fair shares rounded down and up, in all."""
    count = len(table.rows)
    replica_shares = fair_replicas(specs, partitions=count, replication=replication)
    primary_shares = fair_primaries(specs, count)
    replicas, primaries = table.replicas(), table.primaries()
    return (
        sum(max(0, floor(fair) - replicas[node], replicas[node] - ceil(fair)) for node, fair in replica_shares.items()),
        sum(
            max(0, floor(fair) - primaries[node], primaries[node] - ceil(fair)) for node, fair in primary_shares.items()
        ),
    )


def least_copied(before: Table | None, specs: Members, *, partitions: int, replication: int) -> tuple[int, int]:
    """The fewest replicas that must be copied for balance, zones aside."""
    rows: tuple[tuple[NodeId, ...], ...] = ((),) * partitions if before is None else before.rows
    shares = fair_replicas(specs, partitions=partitions, replication=replication)
    return least_cost(
        [{node: int(node not in row) for node in specs} for row in rows],
        each=min(replication, len(specs)),
        low={node: floor(share) for node, share in shares.items()},
        high={node: ceil(share) for node, share in shares.items()},
    )


def most_covered(specs: Members, *, partitions: int, replication: int) -> int:
    """In how many zones all partitions together can be, if every load is a fair share rounded down or up."""
    shares = fair_replicas(specs, partitions=partitions, replication=replication)
    zones = {spec.zone for spec in specs.values()}
    low = {zone: sum(floor(shares[node]) for node in specs if specs[node].zone == zone) for zone in zones}
    high = {zone: sum(ceil(shares[node]) for node in specs if specs[node].zone == zone) for zone in zones}
    to_round_up = partitions * min(replication, len(specs)) - sum(low.values())
    useful = sum(max(0, min(partitions, high[zone]) - low[zone]) for zone in zones)
    return sum(min(partitions, load) for load in low.values()) + min(to_round_up, useful)


FRESH_COST = 1000


def handoff_cost(old: tuple[NodeId, ...], new: tuple[NodeId, ...], node: NodeId, known: set[NodeId]) -> int | None:
    """What it costs that the node leads the new row; None if rule 5 forbids it."""
    if not old or old[0] not in new:
        survivors = [one for one in new if one in old]
        return 0 if not survivors or node in survivors else None
    if node == old[0]:
        return 0
    return FRESH_COST if node in known and node not in old else 1


# The light node in the crowded zone holds nothing that the one in the other zone lacks: only a chain can relieve it.
CHAINED = [
    {NodeId(1): MemberSpec(weight=0.1)},
    {
        NodeId(1): MemberSpec(weight=2.0),
        NodeId(2): MemberSpec(weight=10.0),
        NodeId(3): MemberSpec(weight=1.0),
        NodeId(4): MemberSpec(weight=0.1),
        NodeId(5): MemberSpec(weight=1.0, zone="a"),
        NodeId(53884): MemberSpec(weight=2.0),
        NodeId(3254722): MemberSpec(weight=1.0),
    },
]


@PROPERTY
@example(CHAINED, 8, 5)
@given(histories(members()), COUNTS, WIDTHS)
def test_rows_are_full_replicas_are_even_zones_are_covered_and_survivors_lead(
    history: list[dict[NodeId, MemberSpec]], partitions: int, replication: int
) -> None:
    table: Table | None = None
    for specs in history:
        after = next_table(table, specs, partitions=partitions, replication=replication)
        width = min(replication, len(specs))
        assert all(len(row) == width and specs.keys() >= set(row) for row in after.rows)
        assert off_balance(after, specs, replication)[0] == 0
        covered = sum(len({specs[node].zone for node in row}) for row in after.rows)
        assert covered == most_covered(specs, partitions=partitions, replication=replication)
        if table is not None:
            for old, new in zip(table.rows, after.rows, strict=True):
                if old[0] not in new and set(old) & set(new):
                    assert new[0] in old
        table = after


@PROPERTY
@given(histories(members()), COUNTS, WIDTHS)
def test_a_table_is_its_own_successor_once_its_orphans_are_settled(
    history: list[dict[NodeId, MemberSpec]], partitions: int, replication: int
) -> None:
    table: Table | None = None
    for specs in history:
        table = next_table(table, specs, partitions=partitions, replication=replication)
        again = next_table(table, specs, partitions=partitions, replication=replication)
        if off_balance(table, specs, replication) == (0, 0):
            assert again == table
        # Where rule 5 forbade balance, one more step reaches it: the primaries are in good health by then.
        assert again.rows == next_table(again, specs, partitions=partitions, replication=replication).rows
        assert [set(row) for row in again.rows] == [set(row) for row in table.rows]


@PROPERTY
@given(EQUALS, COUNTS, WIDTHS)
def test_a_fresh_table_of_equal_nodes_differs_by_one_at_most(
    specs: dict[NodeId, MemberSpec], partitions: int, replication: int
) -> None:
    table = next_table(None, specs, partitions=partitions, replication=replication)
    for loads in (table.replicas(), table.primaries()):
        assert max(loads.values()) - min(loads[node] for node in specs) <= 1


@PROPERTY
@given(members(zones=st.just("")), COUNTS, WIDTHS)
def test_the_order_in_which_members_are_known_does_not_matter(
    specs: dict[NodeId, MemberSpec], partitions: int, replication: int
) -> None:
    backwards = dict(reversed(specs.items()))
    table = next_table(None, specs, partitions=partitions, replication=replication)
    assert next_table(None, backwards, partitions=partitions, replication=replication) == table
    fewer, fewer_backwards = (dict(sorted(one.items())[1:]) for one in (specs, backwards))
    if fewer:
        assert next_table(table, fewer, partitions=partitions, replication=replication) == next_table(
            table, fewer_backwards, partitions=partitions, replication=replication
        )


@FLOW_PROPERTY
@given(histories(EQUALS, longest=3), st.sampled_from([2, 8, 16]), WIDTHS)
def test_equal_nodes_copy_no_more_replicas_than_the_best_flow(
    history: list[dict[NodeId, MemberSpec]], partitions: int, replication: int
) -> None:
    table = next_table(None, history[0], partitions=partitions, replication=replication)
    for specs in history[1:]:
        after = next_table(table, specs, partitions=partitions, replication=replication)
        best = least_copied(table, specs, partitions=partitions, replication=replication)
        assert (0, copied(table, after)) == best
        table = after


@FLOW_PROPERTY
@given(histories(members(zones=st.just("")), longest=3), st.sampled_from([2, 8, 16]), WIDTHS)
def test_unequal_nodes_copy_hardly_more_replicas_than_the_best_flow(
    history: list[dict[NodeId, MemberSpec]], partitions: int, replication: int
) -> None:
    table = next_table(None, history[0], partitions=partitions, replication=replication)
    for specs in history[1:]:
        after = next_table(table, specs, partitions=partitions, replication=replication)
        outside, best = least_copied(table, specs, partitions=partitions, replication=replication)
        assert outside == 0
        assert best <= copied(table, after) <= 1.1 * best + 2
        table = after


@FLOW_PROPERTY
@given(histories(members(), longest=3), st.sampled_from([2, 8, 16]), WIDTHS)
def test_primaries_are_as_even_as_the_best_flow_and_handed_over_as_seldom(
    history: list[dict[NodeId, MemberSpec]], partitions: int, replication: int
) -> None:
    table = Table(((),) * partitions)
    for specs in history:
        after = next_table(table, specs, partitions=partitions, replication=replication)
        known = set(table.replicas())
        costs = [
            {node: cost for node in new if (cost := handoff_cost(old, new, node, known)) is not None}
            for old, new in zip(table.rows, after.rows, strict=True)
        ]
        shares = fair_primaries(specs, partitions)
        outside, best = least_cost(
            costs,
            each=1,
            low={node: floor(share) for node, share in shares.items()},
            high={node: ceil(share) for node, share in shares.items()},
        )
        assert off_balance(after, specs, replication)[1] == outside
        paid = sum(cost[row[0]] for cost, row in zip(costs, after.rows, strict=True))
        if not outside:
            assert paid == best
        table = after


@pytest.mark.parametrize("nodes", range(1, 13))
def test_from_one_to_twelve_equal_nodes_nobody_carries_a_twentieth_more_than_the_mean(nodes: int) -> None:
    specs = equal_members(range(1, nodes + 1))
    table = next_table(None, specs, partitions=1024)
    for loads, total in ((table.replicas(), 1024 * min(3, nodes)), (table.primaries(), 1024)):
        assert set(loads) == set(specs)
        assert max(loads.values()) - min(loads.values()) <= 1
        assert max(loads.values()) <= 1.05 * total / nodes
    assert next_table(table, specs, partitions=1024) == table


@pytest.mark.parametrize("nodes", range(4, 13))
def test_a_leave_copies_what_the_leaver_held_and_a_join_what_the_newcomer_gets(nodes: int) -> None:
    everyone = equal_members(range(1, nodes + 1))
    before = next_table(None, everyone, partitions=1024)
    for leaver in sorted(everyone)[:3]:
        rest = {node: spec for node, spec in everyone.items() if node != leaver}
        without = next_table(before, rest, partitions=1024)
        assert copied(before, without) == before.replicas()[leaver]
        assert handed_over(before, without) <= 1.05 * before.primaries()[leaver]
        assert off_balance(without, rest, 3) == (0, 0)
        for old, new in zip(before.rows, without.rows, strict=True):
            assert new[0] in old
        back = next_table(without, everyone, partitions=1024)
        assert copied(without, back) == back.replicas()[leaver] <= ceil(3 * 1024 / nodes)
        assert handed_over(without, back) <= 1.05 * 1024 / nodes
        assert off_balance(back, everyone, 3) == (0, 0)
        for old, new in zip(without.rows, back.rows, strict=True):
            assert set(new) - set(old) <= {leaver}


@pytest.mark.parametrize("nodes", [4, 8, 20])
def test_what_moves_goes_where_the_ring_would_have_it(nodes: int) -> None:
    everyone = equal_members(range(1, nodes + 1))
    newcomer = equal_members([500])
    ring = Ring(everyone | newcomer)
    founded = next_table(None, everyone, partitions=1024)
    joined = next_table(founded, everyone | newcomer, partitions=1024)
    (node,) = newcomer
    taken = [PartitionId(partition) for partition, row in enumerate(joined.rows) if node in row]
    at_home = sum(node in ring.ranking(partition)[:3] for partition in taken)
    # A newcomer placed at random would find three in N + 1; its bounds keep it from all that the ring would give it.
    assert at_home >= 0.85 * len(taken)


@pytest.mark.parametrize("nodes", [1, 2, 3])
def test_with_three_nodes_or_fewer_everyone_holds_everything(nodes: int) -> None:
    everyone = equal_members(range(1, nodes + 1))
    table = next_table(None, everyone, partitions=1024)
    assert all(set(row) == set(everyone) for row in table.rows)
    more = equal_members(range(1, nodes + 2))
    grown = next_table(table, more, partitions=1024)
    assert copied(table, grown) == grown.replicas()[(more.keys() - everyone.keys()).pop()]
    assert handed_over(table, grown) <= 1.05 * 1024 / (nodes + 1)


def test_of_five_nodes_one_is_killed_and_restarted_and_only_its_primaries_move() -> None:
    everyone = equal_members(range(1, 6))
    before = next_table(None, everyone, partitions=1024)
    killed = sorted(everyone)[2]
    alive = {node: spec for node, spec in everyone.items() if node != killed}
    taken = successors(by_partition(before), failed={killed}, alive=alive)
    rows = list(before.rows)
    for partition, heir in taken.items():
        rows[partition] = (heir, *(node for node in rows[partition] if node != heir))
    during = Table(tuple(rows))
    assert during.primaries()[killed] == 0
    after = next_table(during, everyone, partitions=1024)
    assert copied(during, after) == 0
    assert off_balance(after, everyone, 3) == (0, 0)
    assert handed_over(during, after) <= 1.05 * 1024 / 5
    assert all(new[0] in (old[0], killed) for old, new in zip(during.rows, after.rows, strict=True))


def test_of_five_nodes_one_is_killed_removed_and_returns_and_only_its_share_moves() -> None:
    everyone = equal_members(range(1, 6))
    table = next_table(None, everyone, partitions=1024)
    for killed in sorted(everyone) * 2:
        alive = {node: spec for node, spec in everyone.items() if node != killed}
        without = next_table(table, alive, partitions=1024)
        back = next_table(without, everyone, partitions=1024)
        assert copied(table, without) == table.replicas()[killed]
        assert copied(without, back) == back.replicas()[killed]
        assert handed_over(without, back) <= 1.05 * 1024 / 5
        assert off_balance(back, everyone, 3) == (0, 0)
        table = back


@pytest.mark.parametrize("seed", range(3))
def test_balance_and_few_moves_outlast_churn(seed: int) -> None:
    rng = Random(seed)
    specs = equal_members(range(1, 9))
    table = next_table(None, specs, partitions=1024)
    for number in range(60):
        fresh = equal_members([100 + number])
        leaving = len(specs) > 12 or (len(specs) > 4 and rng.random() < 0.5)
        after_specs = dict(specs)
        if leaving:
            del after_specs[rng.choice(sorted(specs))]
        else:
            after_specs |= fresh
        after = next_table(table, after_specs, partitions=1024)
        assert off_balance(after, after_specs, 3) == (0, 0)
        (changed,) = specs.keys() ^ after_specs.keys()
        ideal = table if leaving else after
        assert copied(table, after) == ideal.replicas()[changed]
        # An exact balance costs a leave a few handoffs more now and then; a join none to speak of.
        assert handed_over(table, after) <= (1.1 if leaving else 1.05) * ideal.primaries()[changed]
        specs, table = after_specs, after


def test_a_heavier_node_carries_more_and_a_changed_weight_moves_only_the_difference() -> None:
    specs = equal_members(range(1, 7))
    before = next_table(None, specs, partitions=1024)
    heavy = min(specs)
    specs[heavy] = MemberSpec(weight=2.0)
    after = next_table(before, specs, partitions=1024)
    assert off_balance(after, specs, 3) == (0, 0)
    assert copied(before, after) == after.replicas()[heavy] - before.replicas()[heavy]
    assert handed_over(before, after) <= 1.05 * (after.primaries()[heavy] - before.primaries()[heavy])


@PROPERTY
@given(members(zones=ZONES, most=9), st.sampled_from([16, 64]))
def test_no_two_replicas_share_a_zone_where_every_zone_can_take_its_part(
    specs: dict[NodeId, MemberSpec], partitions: int
) -> None:
    shares = fair_replicas(specs, partitions=partitions, replication=3)
    zones = {spec.zone for spec in specs.values()}
    by_zone = [sum(ceil(shares[node]) for node in specs if specs[node].zone == zone) for zone in zones]
    table = next_table(None, specs, partitions=partitions)
    if max(by_zone) <= partitions:
        assert all(len({specs[node].zone for node in row}) == len(row) for row in table.rows)


def test_a_lost_zone_that_returns_is_used_again_by_every_partition() -> None:
    specs = {node: MemberSpec(zone="abc"[place % 3]) for place, node in enumerate(sorted(equal_members(range(1, 10))))}
    before = next_table(None, specs, partitions=1024)
    left = {node: spec for node, spec in specs.items() if spec.zone != "c"}
    without = next_table(before, left, partitions=1024)
    back = next_table(without, specs, partitions=1024)
    for table, zones in ((before, 3), (without, 2), (back, 3)):
        assert all(len({specs[node].zone for node in row}) == zones for row in table.rows)
    assert copied(before, without) == before.replicas().total() - sum(before.replicas()[node] for node in left)
    # Free choice of what returns is limited by who has to give how many: a few swaps come on top.
    assert copied(without, back) <= 1.05 * sum(load for node, load in back.replicas().items() if node not in left)


def test_a_founding_of_which_only_some_rows_were_committed_is_continued() -> None:
    specs = equal_members(range(1, 6))
    planned = next_table(None, specs, partitions=64)
    half = Table(planned.rows[:32] + ((),) * 32)
    continued = next_table(half, specs, partitions=64)
    assert continued.rows[:32] == planned.rows[:32]
    assert off_balance(continued, specs, 3) == (0, 0)
    assert half.primary(PartitionId(0)) == planned.rows[0][0]
    assert half.primary(PartitionId(40)) is None


def test_fewer_replicas_are_dropped_from_the_fullest_and_never_from_the_primary() -> None:
    specs = equal_members(range(1, 8))
    five = next_table(None, specs, partitions=64, replication=5)
    three = next_table(five, specs, partitions=64, replication=3)
    assert off_balance(three, specs, 3) == (0, 0)
    assert copied(five, three) == 0
    assert handed_over(five, three) == 0


def test_a_partition_all_of_whose_replicas_are_gone_is_placed_anew() -> None:
    specs = equal_members(range(1, 7))
    before = next_table(None, specs, partitions=64)
    gone = set(before.rows[7])
    rest = {node: spec for node, spec in specs.items() if node not in gone}
    after = next_table(before, rest, partitions=64)
    assert set(after.rows[7]) == set(rest)


def test_a_thousand_nodes_and_the_most_partitions_are_balanced_too() -> None:
    specs = equal_members(range(1, 1001))
    table = next_table(None, specs, partitions=16_384)
    assert off_balance(table, specs, 3) == (0, 0)
    newcomer = equal_members([2000])
    after = next_table(table, specs | newcomer, partitions=16_384)
    assert off_balance(after, specs | newcomer, 3) == (0, 0)
    assert copied(table, after) == after.replicas()[next(iter(newcomer))]
    assert handed_over(table, after) <= 17


def test_what_no_table_can_come_from_is_refused_with_the_reason() -> None:
    specs = equal_members([1, 2])
    table = next_table(None, specs, partitions=8)
    with pytest.raises(ValueError, match=r"16 partitions asked for, but the table has 8.*fixed"):
        next_table(table, specs, partitions=16)
    with pytest.raises(ValueError, match=r"replication 0.*at least one"):
        next_table(None, specs, partitions=8, replication=0)
    with pytest.raises(ValueError, match=r"12 partitions.*power of two"):
        next_table(None, specs, partitions=12)
    with pytest.raises(ValueError, match="at least one member"):
        next_table(table, {}, partitions=8)
    with pytest.raises(ValueError, match=r"partition 1 names a node twice: \(1, 1\)"):
        Table(((NodeId(2),), (NodeId(1), NodeId(1))))
    with pytest.raises(ValueError, match="3 partitions"):
        Table(((),) * 3)
