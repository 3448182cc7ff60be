"""Whole nodes in the simulated world."""

import dataclasses

import pytest

from simulations.cores.faults import Crash, Cut, LinkQuality, Pause
from simulations.faults import DiskKill, Faults, NewDisk, Reset, StuckLoop
from simulations.mesh import run
from simulations.mesh.swarm import draw_plan
from simulations.plan import Plan

SMALL = Plan(nodes=3, clients=2, duration_s=8.0, keys=4, partitions=4, tempo=0.5)

HARD = Faults(
    quality=LinkQuality(delay_s=0.001, jitter_s=0.01, loss=0.05, duplicate=0.05),
    calm_s=14.0,
    cuts=(Cut(frozenset({0}), frozenset({1, 2}), 1.0, 3.0),),
    crashes=(Crash(1, 4.0, 2.0, power=False), Crash(2, 8.0, 2.0), Crash(1, 11.0, 1.0, 50, power=False)),
    pauses=(Pause(0, 6.0, 3.0),),
    stuck_loops=(StuckLoop(2, 11.0, 3.0),),
    resets=(Reset(0, 2, 5.0), Reset(0, 1, 13.0)),
    disk_kills=(DiskKill(0, 10, 10.0, 1.0),),
)


def test_a_mesh_without_faults_answers_every_call() -> None:
    report = run(SMALL)
    assert report.violation is None
    assert report.operations > 50
    assert report.acknowledged == report.steps <= report.operations
    assert report.fired == {}
    assert len(report.nodes) == 3


def test_a_mesh_under_faults_keeps_what_it_acknowledged_and_comes_together_again() -> None:
    report = run(dataclasses.replace(SMALL, duration_s=15.0, faults=HARD))
    assert report.violation is None, report.violation
    assert report.acknowledged > 20
    for name in ("cut", "crash", "pause", "stuck loop", "reset", "kill at disk"):
        assert report.fired[name], name


def test_the_same_plan_gives_the_same_run_and_another_seed_another_one() -> None:
    plan = dataclasses.replace(SMALL, duration_s=5.0, faults=HARD)
    first, second = run(plan), run(plan)
    assert (first.digest, first.history, first.events) == (second.digest, second.history, second.events)
    other = run(dataclasses.replace(plan, seed=1))
    assert other.digest != first.digest


def test_a_burnt_down_machine_is_replaced() -> None:
    plan = dataclasses.replace(SMALL, nodes=4, duration_s=6.0, faults=Faults(new_disks=(NewDisk(1, 2.0, 1.0),)))
    report = run(plan)
    assert report.violation is None, report.violation
    assert report.fired["new disk"] == 1
    assert "primary of" in report.nodes[1]


@pytest.mark.parametrize("workload", ["counter", "kv"])
@pytest.mark.parametrize("seed", range(3))
def test_drawn_plans_are_clean(seed: int, workload: str) -> None:
    report = run(draw_plan(seed, duration_s=15.0, workload=workload))
    assert report.violation is None, report.violation


def found(plan: Plan, seeds: range) -> set[str]:
    """The invariants that do not hold, over these seeds."""
    reports = (run(dataclasses.replace(plan, seed=seed)) for seed in seeds)
    return {report.violation.invariant for report in reports if report.violation is not None}
