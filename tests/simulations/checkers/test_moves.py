"""The checker of moves, explanations and takeovers: silent on what placement says, loud on what is not so."""

from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest

from meshnode.identity import NodeId, PartitionId
from meshnode.placement import Kind, MemberSpec, Move, Reason, Table, explain, moves, next_table, successors
from simulations.checkers.moves import check_explanation, check_moves, check_takeover
from tests.placement.strategies import equal_members
from tests.simulations.checkers.violations import violates

A, B, C, D = (NodeId(number) for number in range(1, 5))
OLD = Table(((A, B), (B, C)))
NEW = Table(((D, B), (B, C)))
MADE = moves(OLD, NEW, failed={A})


def judged(made: Sequence[Move], *, failed: frozenset[NodeId] = frozenset({A})) -> None:
    check_moves(OLD, NEW, made, failed=failed, virtual_s=1.0)


@pytest.mark.parametrize("seed", range(20))
def test_what_placement_says_passes(seed: int) -> None:
    rng = Random(seed)
    everyone = equal_members(range(1, 9))
    table: Table | None = None
    for _ in range(4):
        specs = {node: everyone[node] for node in rng.sample(sorted(everyone), rng.randint(2, 8))}
        after = next_table(table, specs, partitions=16)
        failed = frozenset(rng.sample(sorted(specs), 1))
        check_moves(table, after, moves(table, after, failed=failed), failed=failed, virtual_s=0.0)
        said = explain(PartitionId(rng.randrange(16)), after, specs)
        check_explanation(said, after, specs, replication=3, virtual_s=0.0)
        alive = {node: spec for node, spec in specs.items() if node not in failed}
        rows = {PartitionId(place): row for place, row in enumerate(after.rows)}
        heirs = successors(rows, failed=failed, alive=alive)
        check_takeover(rows, heirs, failed=failed, alive=alive, virtual_s=0.0)
        table = after


@pytest.mark.parametrize("left_out", range(3))
def test_a_move_that_is_left_out_is_found(left_out: int) -> None:
    judged(MADE)
    with violates("placement-moves", match="partition 0 is to get from"):
        judged([move for place, move in enumerate(MADE) if place != left_out])


def test_a_copy_that_is_dropped_before_another_is_there_is_found() -> None:
    with violates("placement-moves", match="partition 0 is to get from"):
        judged([MADE[1], MADE[0], MADE[2]])


def test_a_move_that_changes_nothing_is_found() -> None:
    again = Move(PartitionId(1), Kind.REPLICA_ADDED, None, C, Reason.REBALANCE)
    with violates("placement-moves", match="partition 1 is to get from"):
        judged([*MADE, again])


def test_a_move_of_a_partition_that_is_not_there_is_found() -> None:
    with violates("placement-moves", match=r"there are no partitions \[7\]"):
        judged([*MADE, replace(MADE[0], partition=PartitionId(7))])


def test_a_wrong_reason_is_found() -> None:
    with violates("placement-moves", match="and the reason is that a node left the mesh"):
        judged(MADE, failed=frozenset())


@pytest.mark.parametrize(
    "change",
    [{"ring_rank": 99}, {"primaries": 99}, {"replicas": 0}, {"zone": "moon"}, {"replicas_fair": 1.0}],
    ids=lambda change: next(iter(change)),
)
def test_a_standing_that_is_miscounted_is_found(change: dict[str, object]) -> None:
    specs = equal_members(range(1, 6))
    table = next_table(None, specs, partitions=8)
    said = explain(PartitionId(3), table, specs)
    wrong = replace(said, replicas=(replace(said.replicas[0], **change), *said.replicas[1:]))  # type: ignore[arg-type]
    with violates("placement-explanation", match="by counting it is"):
        check_explanation(wrong, table, specs, replication=3, virtual_s=0.0)


def test_an_explanation_of_another_row_and_one_that_passes_over_others_are_found() -> None:
    specs = equal_members(range(1, 6))
    table = next_table(None, specs, partitions=8)
    said = explain(PartitionId(3), table, specs)
    with violates("placement-explanation", match="is about another row"):
        check_explanation(replace(said, replicas=said.replicas[1:]), table, specs, replication=3, virtual_s=0.0)
    with violates("placement-explanation", match="passed over are"):
        check_explanation(
            replace(said, passed_over=(*said.passed_over, NodeId(77))), table, specs, replication=3, virtual_s=0.0
        )


ROWS = {PartitionId(0): (A, B, C), PartitionId(1): (A, B, C), PartitionId(2): (B, A, C)}
ALIVE = {B: MemberSpec(), C: MemberSpec()}


@pytest.mark.parametrize(
    ("heirs", "what"),
    [
        ({0: C}, "need a new primary"),
        ({0: C, 1: D}, "is to lead 1"),
        ({0: B, 1: B}, "2 leads 3 and 3 0"),
        ({0: C, 1: C, 2: B}, "need a new primary"),
    ],
)
def test_a_takeover_that_forgets_someone_names_the_dead_or_is_uneven_is_found(
    heirs: dict[int, NodeId], what: str
) -> None:
    check_takeover(ROWS, {PartitionId(0): C, PartitionId(1): C}, failed={A}, alive=ALIVE, virtual_s=0.0)
    with violates("placement-takeover", match=what):
        check_takeover(
            ROWS, {PartitionId(key): heir for key, heir in heirs.items()}, failed={A}, alive=ALIVE, virtual_s=0.0
        )
