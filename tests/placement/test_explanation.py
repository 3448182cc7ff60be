"""Why a partition is where it is."""

from math import ceil, floor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.identity import NodeId, PartitionId
from meshnode.placement import MemberSpec, Ring, Table, explain, fair_replicas, next_table
from tests.placement.strategies import equal_members, members


@settings(deadline=None)
@given(members(), st.sampled_from([4, 32]), st.data())
def test_an_explanation_agrees_with_the_ring_and_the_table(
    specs: dict[NodeId, MemberSpec], partitions: int, data: st.DataObject
) -> None:
    table = next_table(None, specs, partitions=partitions)
    partition = PartitionId(data.draw(st.integers(0, partitions - 1)))
    found = explain(partition, table, specs)
    ring = Ring(specs)
    ranking = ring.ranking(partition)
    assert tuple(standing.node for standing in found.replicas) == table.rows[partition]
    for standing in found.replicas:
        assert standing.ring_rank is not None
        assert ranking[standing.ring_rank - 1] == standing.node
        assert standing.displaced == (standing.node not in ring.choice(partition, len(found.replicas)))
        assert standing.zone == specs[standing.node].zone
        assert standing.primaries == sum(row[0] == standing.node for row in table.rows)
        assert standing.replicas == sum(standing.node in row for row in table.rows)
        fair = fair_replicas(specs, partitions=partitions, replication=3)[standing.node]
        assert standing.replicas_fair == pytest.approx(float(fair))
        assert floor(fair) <= standing.replicas <= ceil(fair)
    before = ranking[: ranking.index(table.rows[partition][0])]
    assert found.passed_over == tuple(node for node in before if node not in table.rows[partition])


def test_an_explanation_can_be_read() -> None:
    specs = {
        NodeId(10): MemberSpec(zone="east"),
        NodeId(11): MemberSpec(zone="west"),
        NodeId(12): MemberSpec(zone="west"),
    }
    ring = Ring(specs)
    partition = next(
        PartitionId(at) for at in range(64) if ring.ranking(PartitionId(at)) == (NodeId(11), NodeId(12), NodeId(10))
    )
    rows = [(NodeId(10), NodeId(11))] * 64
    rows[partition] = (NodeId(10), NodeId(12))
    text = explain(partition, Table(tuple(rows)), specs, replication=2).text
    assert text == (
        f"partition {partition}\n"
        "  primary 000000000000000a, zone east: number 3 on the ring, where the ring would put it; "
        "leads 64 partitions (fair share 21.3), holds 64 (42.7)\n"
        "  replica 000000000000000c, zone west: number 2 on the ring, displaced from where the ring alone would put it"
        "; leads 0 partitions (fair share 21.3), holds 1 (42.7)\n"
        "  before the primary on the ring: 000000000000000b"
    )


def test_a_replica_on_a_node_that_is_gone_is_named_as_such() -> None:
    specs = equal_members([1, 2])
    table = Table(((NodeId(99), *sorted(specs)),))
    found = explain(PartitionId(0), table, specs)
    assert found.replicas[0].ring_rank is None
    assert found.passed_over == ()
    assert "primary 0000000000000063 is not a member any more; its replica will be placed elsewhere" in found.text


def test_a_partition_that_nobody_holds_yet_says_so() -> None:
    found = explain(PartitionId(0), Table(((),)), equal_members([1]))
    assert found.text == "partition 0 is held by nobody yet"


@pytest.mark.parametrize("partition", [-1, 8])
def test_a_partition_that_the_table_has_not_is_refused(partition: int) -> None:
    specs = equal_members([1])
    table = next_table(None, specs, partitions=8)
    with pytest.raises(ValueError, match=f"partition {partition} is not from 0 to 7"):
        explain(PartitionId(partition), table, specs)
