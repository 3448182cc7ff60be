"""What moves, and why."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.identity import NodeId, PartitionId
from meshnode.placement import Kind, MemberSpec, Move, Reason, Table, moves, next_table
from tests.placement.strategies import equal_members, histories, members

A, B, C, D, E = (NodeId(node) for node in range(1, 6))
P0 = PartitionId(0)


def one_row(*nodes: NodeId) -> Table:
    return Table((nodes,))


@settings(deadline=None)
@given(histories(members()), st.sampled_from([1, 8, 32]))
def test_moves_made_one_by_one_lead_from_one_table_to_the_next_without_thinning_a_partition_out(
    history: list[dict[NodeId, MemberSpec]], partitions: int
) -> None:
    table: Table | None = None
    for specs in history:
        after = next_table(table, specs, partitions=partitions)
        old = table.rows if table else ((),) * partitions
        holders = [set(row) for row in old]
        leaders = [row[0] if row else None for row in old]
        for move in moves(table, after):
            holding = holders[move.partition]
            match move.kind:
                case Kind.REPLICA_ADDED:
                    assert move.target is not None
                    assert move.target not in holding
                    holding.add(move.target)
                case Kind.REPLICA_DROPPED:
                    assert move.source is not None
                    holding.remove(move.source)
                case Kind.PRIMARY_HANDED_OVER:
                    assert leaders[move.partition] == move.source
                    leaders[move.partition] = move.target
            assert len(holding) >= min(len(old[move.partition]), len(after.rows[move.partition]))
        assert holders == [set(row) for row in after.rows]
        assert leaders == [row[0] for row in after.rows]
        assert moves(after, after) == ()
        table = after


def test_at_founding_every_replica_is_added_because_nobody_held_the_partition() -> None:
    assert moves(None, one_row(A, B)) == (
        Move(P0, Kind.REPLICA_ADDED, None, A, Reason.FOUNDED),
        Move(P0, Kind.REPLICA_ADDED, None, B, Reason.FOUNDED),
        Move(P0, Kind.PRIMARY_HANDED_OVER, None, A, Reason.FOUNDED),
    )


@pytest.mark.parametrize(("failed", "reason"), [(set[NodeId](), Reason.NODE_LEFT), ({A}, Reason.NODE_FAILED)])
def test_a_node_that_is_gone_has_failed_if_it_is_known_to_and_left_otherwise(
    failed: set[NodeId], reason: Reason
) -> None:
    assert moves(one_row(A, B, C), one_row(B, C, D), failed=failed) == (
        Move(P0, Kind.REPLICA_ADDED, A, D, reason),
        Move(P0, Kind.REPLICA_DROPPED, A, D, reason),
        Move(P0, Kind.PRIMARY_HANDED_OVER, A, B, reason),
    )


def test_a_takeover_from_a_failed_node_that_keeps_its_replica_is_because_it_failed() -> None:
    assert moves(one_row(A, B), one_row(B, A), failed={A}) == (
        Move(P0, Kind.PRIMARY_HANDED_OVER, A, B, Reason.NODE_FAILED),
    )


def test_a_newcomer_and_evened_loads_are_told_apart() -> None:
    current = Table(((A, B), (C, D)))
    assert {move.reason for move in moves(current, Table(((A, E), (C, D))))} == {Reason.NODE_LEFT}
    assert {move.reason for move in moves(current, Table(((A, C), (B, D))))} == {Reason.REBALANCE}
    grown = moves(current, Table(((E, A, B), (C, D))))
    assert [(move.kind, move.source, move.target, move.reason) for move in grown] == [
        (Kind.REPLICA_ADDED, None, E, Reason.NODE_JOINED),
        (Kind.PRIMARY_HANDED_OVER, A, E, Reason.NODE_JOINED),
    ]


def test_the_first_that_come_take_the_place_of_those_that_are_gone() -> None:
    current = Table(((A, B, C), (B, D)))
    found = moves(current, Table(((A, D, E), (B, D))))
    pairs = [(move.source, move.target, move.reason) for move in found if move.kind is Kind.REPLICA_ADDED]
    assert pairs == [(C, D, Reason.NODE_LEFT), (B, E, Reason.NODE_JOINED)]


def test_with_one_node_more_only_the_newcomer_is_a_reason() -> None:
    before = next_table(None, equal_members(range(1, 6)), partitions=256)
    after = next_table(before, equal_members(range(1, 7)), partitions=256)
    found = moves(before, after)
    assert found
    assert {move.reason for move in found} == {Reason.NODE_JOINED}


@pytest.mark.parametrize(
    ("move", "text"),
    [
        (
            Move(P0, Kind.PRIMARY_HANDED_OVER, A, B, Reason.NODE_LEFT),
            "partition 0 passes from 0000000000000001 to 0000000000000002: a node left the mesh",
        ),
        (
            Move(P0, Kind.PRIMARY_HANDED_OVER, None, B, Reason.FOUNDED),
            "partition 0 passes from nobody to 0000000000000002: nobody held the partition yet",
        ),
        (
            Move(P0, Kind.REPLICA_ADDED, A, B, Reason.NODE_FAILED),
            "partition 0 gets a replica on 0000000000000002 instead of 0000000000000001: a node failed",
        ),
        (
            Move(P0, Kind.REPLICA_ADDED, None, B, Reason.NODE_JOINED),
            "partition 0 gets a replica on 0000000000000002: a node joined and takes its share",
        ),
        (
            Move(P0, Kind.REPLICA_DROPPED, A, B, Reason.REBALANCE),
            "partition 0 loses its replica on 0000000000000001 to 0000000000000002: "
            "the load has to be evened or spread over zones",
        ),
        (
            Move(P0, Kind.REPLICA_DROPPED, A, None, Reason.REBALANCE),
            "partition 0 loses its replica on 0000000000000001: the load has to be evened or spread over zones",
        ),
    ],
)
def test_a_move_is_told_in_one_sentence(move: Move, text: str) -> None:
    assert move.text == text


def test_tables_of_two_meshes_are_not_compared() -> None:
    with pytest.raises(ValueError, match="a table of 1 partitions cannot become one of 2"):
        moves(one_row(A), Table(((A,), (A,))))
