"""Plans made smaller."""

from collections.abc import Callable

import pytest

from simulations.campaign import Result
from simulations.cores.faults import Crash, Cut, Pause
from simulations.cores.plans import PartitionsPlan, PlacementPlan, RaftPlan, SwimPlan
from simulations.cores.swarm import ANY, DRAWS
from simulations.faults import Faults, Reset
from simulations.mesh.swarm import draw_plan
from simulations.plan import AnyPlan, Plan
from simulations.shrinking import Shrinking
from tests.simulations.work import result_of

INVARIANT = "linearizability"


def failing(fails: Callable[[AnyPlan], bool], other: str = "") -> Callable[[AnyPlan], Result]:
    """Runs that violate the invariant where ``fails`` says so, and another one elsewhere."""
    return lambda plan: result_of(plan, INVARIANT if fails(plan) else other)


def test_a_plan_is_shrunk_to_what_the_failure_needs() -> None:
    crashes = tuple(Crash(node, 1.0 + node, 1.0) for node in (4, 2, 0))
    faults = Faults(crashes=crashes, pauses=(Pause(3, 1.0, 1.0), Pause(1, 5.0, 1.0)), resets=(Reset(3, 4, 2.0),))
    plan = Plan(nodes=5, clients=4, keys=8, calls_per_s=80.0, duration_s=40.0, faults=faults)

    def fails(tried: AnyPlan) -> bool:
        """While node 2 crashes, node 1 is paused for half a second and there are ten calls a second."""
        return (
            isinstance(tried, Plan)
            and any(crash.node == 2 for crash in tried.faults.crashes)
            and any(pause.node == 1 and pause.for_s >= 0.5 for pause in tried.faults.pauses)
            and tried.calls_per_s >= 10.0
            and tried.duration_s >= 20.0
        )

    steps: list[str] = []
    search = Shrinking(plan, INVARIANT, run=failing(fails, "liveness-agents"), tell=steps.append)
    smaller = search.shrink()
    assert isinstance(smaller, Plan)
    assert smaller.faults == Faults(crashes=(Crash(2, 3.0, 0.1),), pauses=(Pause(1, 5.0, 0.5),))
    assert (smaller.nodes, smaller.clients, smaller.keys, smaller.partitions) == (3, 1, 1, 1)
    assert (smaller.calls_per_s, smaller.duration_s) == (10.0, 20.0)
    assert any(step.endswith("runs: without resets") for step in steps)
    assert search.runs < 60


@pytest.mark.parametrize("plan", [draw_plan(3), *(draw(3, ANY) for draw in DRAWS.values())])
def test_what_fails_always_is_shrunk_to_nothing(plan: AnyPlan) -> None:
    smaller = Shrinking(plan, INVARIANT, run=failing(lambda _: True)).shrink()
    assert not any(getattr(smaller.faults, name) for name in ("cuts", "slow", "crashes", "pauses", "leaves", "clocks"))
    assert smaller.duration_s == 0.5
    match smaller:
        case Plan():
            least = smaller.replication
            assert (smaller.calls_per_s, smaller.clients, smaller.keys, smaller.partitions) == (1.0, 1, 1, 1)
        case SwimPlan():
            least = 1
        case RaftPlan():
            least = 1
            assert (smaller.workload.proposals_per_s, smaller.workload.founders) == (0.0, 1)
        case PartitionsPlan():
            least = 1
            assert (smaller.workload.clients, smaller.workload.partitions) == (1, 1)
        case PlacementPlan():
            least = 1
            assert (smaller.workload.founders, smaller.workload.partitions) == (1, 1)
    assert smaller.nodes == least


def test_a_plan_that_needs_everything_stays_as_it_is() -> None:
    plan = Plan(faults=Faults(pauses=(Pause(3, 1.0, 1.0),)))
    assert Shrinking(plan, INVARIANT, run=failing(lambda tried: tried == plan)).shrink() == plan


def test_faults_go_with_their_nodes() -> None:
    cut = Cut(frozenset({0, 4}), frozenset({1, 3}), 1.0, 2.0)
    plan = Plan(nodes=5, faults=Faults(cuts=(cut,), pauses=(Pause(4, 1.0, 1.0),)))
    smaller = Shrinking(plan, INVARIANT, run=failing(lambda tried: bool(tried.faults.cuts))).shrink()
    assert smaller.nodes == 3
    assert smaller.faults == Faults(cuts=(Cut(frozenset({0}), frozenset({1}), 1.0, 0.1),))


def test_the_search_ends_after_so_many_runs() -> None:
    plan = draw_plan(2)
    search = Shrinking(plan, INVARIANT, run=failing(lambda _: True), runs_max=3)
    smaller = search.shrink()
    assert search.runs == 3
    assert smaller != plan
