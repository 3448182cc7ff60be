"""Liveness: what has not converged is named, and nothing is asked of a set whose majority is gone."""

from dataclasses import replace

import pytest

from meshnode.identity import Boot, Epoch, NodeId, PartitionId
from meshnode.membership.config import SwimConfig
from meshnode.metadata.allocator import MOVE_TIMEOUT_S
from meshnode.metadata.config import AllocatorConfig
from meshnode.metadata.rows import Phase, Row
from simulations.checkers.liveness import (
    LivenessChecker,
    MeshReport,
    NodeReport,
    Unmet,
    convergence_bound_s,
    rest_s,
    unmet,
)
from simulations.checkers.swim_bounds import swim_bounds
from simulations.mesh.settings import settings_of
from simulations.plan import Plan
from tests.simulations.checkers.violations import Clock, violates

A, B, C = NodeId(1), NodeId(2), NodeId(3)
P, Q = PartitionId(0), PartitionId(1)
ROWS = {
    P: Row(Epoch(4), A, Boot(1), (A, B, C), Phase.ACTIVE, (A, B, C)),
    Q: Row(Epoch(2), B, Boot(1), (B, C), Phase.ACTIVE, (B, C)),
}


def node(number: NodeId, **changes: object) -> NodeReport:
    serving = {partition: row.epoch for partition, row in ROWS.items() if row.primary == number}
    base = NodeReport(
        node_id=number,
        boot=Boot(1),
        live={A, B, C},
        leader=A,
        term=3,
        applied=100,
        rows=ROWS,
        serving=serving,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def mesh(*nodes: NodeReport, **changes: object) -> MeshReport:
    changed = {one.node_id: one for one in nodes}
    base = MeshReport(
        nodes=tuple(changed.get(number, node(number)) for number in (A, B, C)),
        expected={A, B, C},
        voters=(A, B, C),
        partitions=2,
        silent={},
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def changed_row(partition: PartitionId, **changes: object) -> dict[PartitionId, Row]:
    return ROWS | {partition: replace(ROWS[partition], **changes)}  # type: ignore[arg-type]


def everywhere(rows: dict[PartitionId, Row]) -> MeshReport:
    return mesh(*(node(number, rows=rows) for number in (A, B, C)))


def breaks(invariant: str, report: MeshReport, message: str) -> None:
    """The report lacks just this, and the checker says so once its time is over."""
    assert [each.invariant for each in unmet(report)] == [invariant]
    clock = Clock()
    checker = LivenessChecker(60.0, clock)
    clock.now_s = 10.0
    checker.calm()
    clock.now_s = 70.0
    assert checker.check(report)
    clock.now_s = 70.5
    with violates(
        invariant, match=rf"not converged 60\.500 s after the last fault, with a bound of 60\.000 s: {message}"
    ):
        checker.check(report)


def test_as_many_nodes_vote_as_should_and_all_of_them_run() -> None:
    assert unmet(mesh(voters_wanted=3)) == ()
    breaks("liveness-voters", mesh(voters_wanted=1), "3 nodes vote, 1 should")
    breaks("liveness-voters", mesh(voters=(A, B, NodeId(99)), voters_wanted=3), "node 99 votes and does not run")
    assert unmet(mesh(voters=(A, B, NodeId(99)), voters_wanted=5)) == (), "there are not as many"
    assert unmet(mesh(voters=(A, NodeId(98), NodeId(99)), voters_wanted=3)) == (), "they can't be replaced"


def test_a_mesh_that_is_whole_lacks_nothing() -> None:
    assert unmet(mesh()) == ()
    assert unmet(mesh(node(C, applied=98))) == ()


def test_each_thing_that_is_missing_is_named() -> None:
    without_c = mesh(nodes=(node(A, live={A, B}), node(B, live={A, B})))
    breaks("liveness-membership", without_c, "node 3 does not run or belongs to no mesh")
    breaks("liveness-membership", mesh(node(B, live={A, B})), r"node 2 does not see \[3\]")
    breaks("liveness-membership", mesh(node(B, live={A, B, C, NodeId(9)})), r"node 2 holds \[9\] live")
    breaks("liveness-raft", mesh(node(C, leader=None)), "node 3 knows no leader in term 3")
    breaks("liveness-raft", mesh(node(C, leader=B, term=2)), "node 3 follows 2 of term 2, not 3")
    breaks("liveness-raft", mesh(node(C, applied=97)), "node 3 has applied 97 of 100")
    breaks("liveness-partitions", everywhere({P: ROWS[P]}), "partition 1 has no row")
    sealing = changed_row(Q, phase=Phase.SEALING)
    breaks("liveness-partitions", everywhere(sealing), "partition 1 .* since epoch 2 began and is not active")
    breaks(
        "liveness-partitions", everywhere(changed_row(Q, boot=Boot(2))), "partition 1 has the primary 2, start 2, which"
    )
    breaks("liveness-partitions", mesh(node(A, serving={})), "partition 0 is not served by 1")
    breaks("liveness-partitions", mesh(node(A, serving={P: Epoch(3)})), "partition 0 is not served by 1")
    breaks("liveness-replicas", mesh(replication=3), r"partition 1 has replicas on \[2, 3\], 3 should be")
    assert unmet(mesh(replication=2)) == ()
    breaks("liveness-agents", mesh(silent={"tally/k": "timed out"}), "tally/k does not answer: timed out")


def test_nothing_is_asked_of_a_group_or_partition_whose_majority_is_gone() -> None:
    alone = MeshReport(
        nodes=(node(A, live={A}, leader=None, rows=changed_row(P, primary=B)),),
        expected={A},
        voters=(A, B, C),
        partitions=2,
        silent={},
    )
    assert unmet(alone) == ()
    # With a majority of the voters, and none of the partition's base.
    two = replace(alone, nodes=(node(A, live={A, B}), node(B, live={A, B})), expected={A, B}, voters=(A, B, C))
    assert unmet(two) == ()
    lost = dict(two.nodes[0].rows) | {P: replace(ROWS[P], primary=C, base=(C, NodeId(8), NodeId(9)))}
    both = tuple(replace(one, rows=lost) for one in two.nodes)
    assert unmet(replace(two, nodes=both)) == ()
    # A partition that was never active has lost nothing: it has to become so.
    fresh = dict(two.nodes[0].rows) | {P: replace(ROWS[P], base=(), phase=Phase.SEALING)}
    both = tuple(replace(one, rows=fresh) for one in two.nodes)
    assert [each.invariant for each in unmet(replace(two, nodes=both))] == ["liveness-partitions"]


def test_nothing_is_due_before_the_faults_have_ended() -> None:
    clock = Clock()
    checker = LivenessChecker(1.0, clock)
    clock.now_s = 100.0
    report = mesh(node(C, leader=None))
    assert checker.check(report)
    checker.calm()
    checker.disturb()
    clock.now_s = 200.0
    assert checker.check(report)
    checker.calm()
    assert checker.check(mesh()) == ()


def test_a_mesh_that_is_whole_again_and_again_does_not_rest() -> None:
    clock = Clock()
    checker = LivenessChecker(10.0, clock, rest_s=2.0)
    checker.calm()
    later = mesh(voters=(A,))
    for second in range(12):
        clock.now_s = float(second)
        (unrest,) = checker.check(mesh() if second % 2 else later)
        assert unrest.invariant == "liveness-rest"
    clock.now_s = 12.5
    with violates("liveness-rest", match="the voters changed 0.000 s ago"):
        checker.check(later)


def test_a_mesh_has_come_together_once_it_has_rested() -> None:
    clock = Clock()
    checker = LivenessChecker(10.0, clock, rest_s=2.0)
    checker.calm()
    clock.now_s = 9.0
    assert checker.check(mesh())
    clock.now_s = 10.5
    assert checker.check(mesh()), "the time of rest comes on top of the bound"
    clock.now_s = 11.0
    assert checker.check(mesh()) == ()


def test_the_time_of_rest_counts_only_once_the_mesh_is_whole() -> None:
    clock = Clock()
    checker = LivenessChecker(60.0, clock, rest_s=20.0)
    checker.calm()
    for second in (0.0, 40.0):
        clock.now_s = second
        assert checker.check(mesh(node(C, leader=None)))
    clock.now_s = 45.0
    (unrest,) = checker.check(mesh())
    assert unrest == Unmet("liveness-rest", "whole for 0.000 s only"), "though nothing has moved for longer"
    clock.now_s = 65.0
    assert checker.check(mesh()) == ()


def test_a_mesh_that_is_whole_only_now_and_then_does_not_rest() -> None:
    clock = Clock()
    checker = LivenessChecker(10.0, clock, rest_s=2.0)
    checker.calm()
    for second in range(10):
        clock.now_s = float(second)
        assert checker.check(mesh() if second % 2 else mesh(node(C, leader=None)))
    clock.now_s = 10.5
    with violates("liveness-raft", match=r"with a bound of 10\.000 s"):
        checker.check(mesh(node(C, leader=None)))


def test_the_time_of_rest_is_not_there_to_become_whole_in() -> None:
    clock = Clock()
    checker = LivenessChecker(10.0, clock, rest_s=2.0)
    checker.calm()
    clock.now_s = 10.5
    with violates("liveness-raft", match=r"with a bound of 10\.000 s"):
        checker.check(mesh(node(C, leader=None)))
    clock.now_s = 11.0
    assert checker.check(mesh())
    clock.now_s = 12.5
    with violates("liveness-rest", match=r"with a bound of 12\.000 s: whole for 1\.500 s only"):
        checker.check(mesh())


@pytest.mark.parametrize("tempo", [0.25, 1.0])
def test_the_time_of_rest_outlasts_what_a_mesh_waits_for_before_it_changes(tempo: float) -> None:
    settings = settings_of(Plan(seed=1, tempo=tempo), 0, found=True)
    assert rest_s(tempo) > max(MOVE_TIMEOUT_S, settings.voting.settle_s)


def test_no_even_number_of_nodes_votes_however_few_there_are() -> None:
    breaks("liveness-voters", mesh(voters=(A, B), voters_wanted=5), "2 nodes vote, an even number")


def test_a_mesh_without_nodes_lacks_them_all_and_long_lists_are_cut() -> None:
    clock = Clock()
    checker = LivenessChecker(1.0, clock)
    checker.calm()
    clock.now_s = 2.0
    empty = mesh(nodes=(), expected={NodeId(number) for number in range(1, 21)})
    with violates("liveness-membership", match="and 8 more"):
        checker.check(empty)


def test_the_bound_covers_membership_elections_one_stalled_takeover_and_the_move_after_it() -> None:
    swim, allocator = SwimConfig(), AllocatorConfig()
    bound_s = convergence_bound_s(swim, allocator, election_timeout_s=1.0, live=5)
    healing_s = swim_bounds(swim, live=5, gone=0).healing_s
    assert bound_s == pytest.approx(healing_s + (12 + 6 + 1 + 60 + 3) + (allocator.replacement_delay_s + 60 + 10))
    assert convergence_bound_s(swim, allocator, election_timeout_s=1.0, live=5, slowest=0.5) > 1.9 * bound_s
