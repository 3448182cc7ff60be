"""The ring and the walk around it."""

import os
import subprocess
import sys

import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.identity import NodeId, PartitionId
from meshnode.placement import MemberSpec, Ring
from meshnode.placement.ring import POINTS_PER_NODE, Walk
from tests.placement.strategies import NODE_IDS, equal_members, members

PARTITIONS = st.integers(0, 16_383).map(PartitionId)


def points(specs: dict[NodeId, MemberSpec], node: NodeId) -> list[int]:
    average = sum(spec.exact_weight for spec in specs.values()) / len(specs)
    count = max(1, round(POINTS_PER_NODE * specs[node].exact_weight / average))
    return [xxhash.xxh3_64_intdigest(node.to_bytes(8, "big") + number.to_bytes(4, "big"), 1) for number in range(count)]


def distances(specs: dict[NodeId, MemberSpec], partition: PartitionId) -> dict[NodeId, int]:
    """How far clockwise from the partition each node's nearest point is."""
    start = xxhash.xxh3_64_intdigest(partition.to_bytes(4, "big"), 2)
    return {node: min((point - start) % 2**64 for point in points(specs, node)) for node in specs}


@settings(deadline=None)
@given(members(), PARTITIONS)
def test_a_partition_ranks_nodes_by_the_distance_of_their_nearest_point(
    specs: dict[NodeId, MemberSpec], partition: PartitionId
) -> None:
    distance = distances(specs, partition)
    ranking = Ring(specs).ranking(partition)
    assert list(ranking) == sorted(specs, key=lambda node: distance[node])
    assert Ring(dict(reversed(specs.items()))).ranking(partition) == ranking


@settings(deadline=None)
@given(members(weights=st.just(1.0)), NODE_IDS, PARTITIONS)
def test_a_newcomer_enters_the_ranking_and_leaves_the_order_of_the_others(
    specs: dict[NodeId, MemberSpec], newcomer: NodeId, partition: PartitionId
) -> None:
    specs.pop(newcomer, None)
    if not specs:
        return
    before = Ring(specs).ranking(partition)
    after = Ring({**specs, newcomer: MemberSpec()}).ranking(partition)
    assert tuple(node for node in after if node != newcomer) == before


@settings(deadline=None)
@given(members(), PARTITIONS, st.integers(1, 4))
def test_the_choice_of_the_ring_has_as_many_zones_as_can_be(
    specs: dict[NodeId, MemberSpec], partition: PartitionId, count: int
) -> None:
    ring = Ring(specs)
    ranking = list(ring.ranking(partition))
    expected: list[NodeId] = []
    while len(expected) < min(count, len(specs)):
        taken = {specs[node].zone for node in expected}
        left = [node for node in ranking if node not in expected]
        expected.append(next((node for node in left if specs[node].zone not in taken), left[0]))
    choice = ring.choice(partition, count)
    assert list(choice) == expected
    zones = {spec.zone for spec in specs.values()}
    assert len({specs[node].zone for node in choice}) == min(len(choice), len(zones))


@settings(deadline=None)
@given(members(), st.lists(st.tuples(PARTITIONS, st.booleans()), max_size=12), st.data())
def test_a_walk_finds_what_looking_at_every_node_in_turn_finds(
    specs: dict[NodeId, MemberSpec], steps: list[tuple[PartitionId, bool]], data: st.DataObject
) -> None:
    ring = Ring(specs)
    everyone = list(range(len(ring.nodes)))
    open_nodes = set(data.draw(st.sets(st.sampled_from(everyone))))
    walk = Walk(ring, open_nodes)
    for partition, close in steps:
        row = data.draw(st.sets(st.sampled_from(everyone)))
        seen = [node for node in ring.indexes(partition) if node in open_nodes and node not in row]
        zones = {ring.zones[node] for node in row}
        expected = next((node for node in seen if ring.zones[node] not in zones), seen[0] if seen else None)
        assert walk.receiver(partition, row) == expected
        if close and expected is not None:
            walk.close(expected)
            open_nodes.remove(expected)
        assert walk.open == open_nodes


def test_points_follow_weights() -> None:
    specs = {NodeId(1): MemberSpec(weight=3.0), NodeId(2): MemberSpec(weight=1.0)}
    ring = Ring(specs)
    first = sum(ring.first(PartitionId(partition), 1) == [0] for partition in range(16_384))
    assert first / 16_384 == pytest.approx(0.75, abs=0.1)
    assert (len(points(specs, NodeId(1))), len(points(specs, NodeId(2)))) == (96, 32)


def test_a_ring_needs_members() -> None:
    with pytest.raises(ValueError, match="at least one member"):
        Ring({})


def test_rankings_and_tables_do_not_depend_on_the_seed_of_pythons_hashes() -> None:
    program = (
        "from meshnode.placement import MemberSpec, Ring, next_table, moves\n"
        "specs = {node * 7919: MemberSpec(zone='abc'[node % 3]) for node in range(1, 8)}\n"
        "table = next_table(None, specs, partitions=64)\n"
        "del specs[7919]\n"
        "after = next_table(table, specs, partitions=64)\n"
        "print(Ring(specs).ranking(5), table.rows, after.rows, moves(table, after))\n"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert len(outputs) == 1
    assert len(outputs.pop()) > 1000


def test_the_ring_of_known_members_does_not_change_from_release_to_release() -> None:
    ring = Ring(equal_members(range(1, 6)))
    assert [ring.first(PartitionId(partition), 5) for partition in range(4)] == [
        [4, 3, 0, 2, 1],
        [3, 0, 1, 4, 2],
        [0, 3, 1, 4, 2],
        [3, 2, 0, 4, 1],
    ]
