"""Rows: the same steps everywhere, each of them legal."""

from dataclasses import replace

import pytest

from meshnode.identity import Boot, Epoch, NodeId, PartitionId
from meshnode.metadata.rows import Phase, Row
from simulations.checkers.rows import RowsChecker
from tests.simulations.checkers.violations import Clock, violates

P = PartitionId(3)
A, B, C, D = (NodeId(number) for number in range(1, 5))
BEGUN = Row(Epoch(1), A, Boot(1), (A, B, C), Phase.SEALING)
ACTIVE = replace(BEGUN, phase=Phase.ACTIVE, base=(A, B, C))
NEXT = Row(Epoch(2), D, Boot(1), (B, C, D), Phase.SEALING, base=(A, B, C))


@pytest.fixture
def checker() -> RowsChecker:
    found = RowsChecker(Clock())
    for row in (BEGUN, ACTIVE):
        found.changed(A, P, row)
    return found


def test_every_node_may_apply_the_same_legal_steps(checker: RowsChecker) -> None:
    for row in (BEGUN, ACTIVE, NEXT, replace(NEXT, phase=Phase.ACTIVE, base=NEXT.replicas)):
        checker.changed(B, P, row)
    checker.changed(A, P, NEXT)
    checker.restarted(A)
    for row in (BEGUN, ACTIVE, NEXT):
        checker.changed(A, P, row)
    # A recovery of the group may skip numbers.
    checker.changed(B, P, replace(NEXT, epoch=Epoch(1 << 40), base=NEXT.replicas))


def test_a_node_that_was_given_a_later_state_sees_the_last_change_alone(checker: RowsChecker) -> None:
    checker.changed(A, P, NEXT)
    checker.changed(B, P, BEGUN)
    checker.changed(B, P, NEXT, is_jump=True)
    checker.changed(B, P, replace(NEXT, phase=Phase.ACTIVE, base=NEXT.replicas))
    with violates("partitions-same-rows", match="change 1 is"):
        checker.changed(C, P, replace(NEXT, primary=C), is_jump=True)


def test_another_step_or_order_than_elsewhere_is_found(checker: RowsChecker) -> None:
    with violates("partitions-same-rows", match="partition 3 on node 2: change 1 is"):
        checker.changed(B, P, ACTIVE)
    with violates("partitions-same-rows"):
        checker.changed(B, P, replace(ACTIVE, boot=Boot(2)))


@pytest.mark.parametrize(
    "row",
    [
        replace(NEXT, epoch=Epoch(1)),
        replace(NEXT, phase=Phase.ACTIVE, base=NEXT.replicas),
        ACTIVE,
    ],
)
def test_an_epoch_that_begins_or_becomes_active_twice_is_found(checker: RowsChecker, row: Row) -> None:
    with violates("partitions-epoch-rises"):
        checker.changed(A, P, row)


def test_a_first_row_that_is_active_is_found() -> None:
    with violates("partitions-epoch-rises"):
        RowsChecker(Clock()).changed(A, P, ACTIVE)


@pytest.mark.parametrize("base", [(), (B, C, D)])
def test_a_beginning_that_changes_base_is_found(checker: RowsChecker, base: tuple[NodeId, ...]) -> None:
    with violates("partitions-base", match=r"changes base from \(1, 2, 3\) to"):
        checker.changed(A, P, replace(NEXT, base=base))


def test_an_activation_with_another_base_than_the_replicas_is_found(checker: RowsChecker) -> None:
    checker.changed(A, P, NEXT)
    with violates("partitions-base", match="those must be equal"):
        checker.changed(A, P, replace(NEXT, phase=Phase.ACTIVE))


@pytest.mark.parametrize("change", [{"primary": A}, {"replicas": (D, D, B)}])
def test_a_row_without_its_primary_or_with_a_replica_twice_is_found(
    checker: RowsChecker, change: dict[str, NodeId]
) -> None:
    with violates("partitions-row-sound"):
        checker.changed(A, P, replace(NEXT, **change))  # type: ignore[arg-type]


def test_replicas_that_change_within_an_epoch_are_found(checker: RowsChecker) -> None:
    checker.changed(A, P, NEXT)
    with violates("partitions-row-sound", match="activation makes"):
        checker.changed(A, P, replace(NEXT, phase=Phase.ACTIVE, replicas=(D, B), base=(D, B)))
