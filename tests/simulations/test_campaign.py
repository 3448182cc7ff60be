"""Many runs, and plans made smaller."""

import dataclasses

import pytest

from simulations import campaign
from simulations.campaign import HARNESS, LIVENESS_LOST, OK, SAFETY, Result, Totals, run_all, run_plan, shrink
from simulations.cores.faults import Crash, Pause
from simulations.faults import Faults, Reset
from simulations.plan import Plan


def result_of(plan: Plan, invariant: str = "") -> Result:
    return Result(
        seed=plan.seed, plan=plan, invariant=invariant, violation_s=1.0, story="", digest="", virtual_s=2.0, events=3,
        operations=4, faults={"crash": 1},
    )  # fmt: skip


def test_totals_add_up_and_the_worst_failure_decides_the_exit_code() -> None:
    totals = Totals()
    assert totals.exit_code == OK
    for seed, (invariant, code) in enumerate(
        [("", OK), ("liveness-agents", LIVENESS_LOST), ("linearizability", SAFETY), ("harness", HARNESS)]
    ):
        totals.add(result_of(Plan(seed=seed), invariant))
        assert totals.exit_code == code
    assert (totals.seeds, totals.virtual_s, totals.events, totals.operations) == (4, 8.0, 12, 16)
    assert totals.faults == {"crash": 4}
    assert [failure.seed for failure in totals.failures] == [1, 2, 3]


def double(number: int) -> Result:
    return result_of(Plan(seed=2 * number))


def test_work_is_done_in_order_by_as_many_processes_as_wanted() -> None:
    for jobs in (1, 3):
        assert [result.seed for result in run_all(double, range(5), jobs=jobs)] == [0, 2, 4, 6, 8]


def test_a_harness_that_fails_is_a_result_with_its_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_plan: Plan) -> None:
        raise ZeroDivisionError("a bug of the harness")

    monkeypatch.setattr(campaign, "run_mesh", fail)
    result = run_plan(Plan(seed=5))
    assert (result.seed, result.invariant) == (5, "harness")
    assert "ZeroDivisionError: a bug of the harness" in result.story


def test_a_plan_is_shrunk_to_what_the_failure_needs() -> None:
    crashes = tuple(Crash(node, 1.0 + node, 1.0) for node in (4, 2, 0))
    faults = Faults(crashes=crashes, pauses=(Pause(3, 1.0, 1.0), Pause(1, 5.0, 1.0)), resets=(Reset(3, 4, 2.0),))
    plan = Plan(nodes=5, clients=4, keys=8, calls_per_s=80.0, duration_s=40.0, faults=faults)

    def run(tried: Plan) -> Result:
        """Fails while node 2 crashes, node 1 is paused and there are ten calls a second."""
        fails = (
            any(crash.node == 2 for crash in tried.faults.crashes)
            and any(pause.node == 1 for pause in tried.faults.pauses)
            and tried.calls_per_s >= 10.0
            and tried.duration_s >= 20.0
        )
        return result_of(tried, "linearizability" if fails else "liveness-agents")

    steps: list[str] = []
    smaller = shrink(plan, "linearizability", run=run, tell=steps.append)
    assert smaller.faults == Faults(crashes=(crashes[1],), pauses=(Pause(1, 5.0, 1.0),))
    assert (smaller.nodes, smaller.clients, smaller.keys, smaller.partitions) == (3, 1, 1, 1)
    assert (smaller.calls_per_s, smaller.duration_s) == (10.0, 20.0)
    assert "without resets" in steps
    assert run(smaller).invariant == "linearizability"


def test_a_plan_that_needs_everything_stays_as_it_is() -> None:
    plan = Plan(faults=Faults(pauses=(Pause(3, 1.0, 1.0),)))

    def run(tried: Plan) -> Result:
        return result_of(tried, "linearizability" if tried == plan else "")

    assert shrink(plan, "linearizability", run=run) == plan


def test_no_fault_is_left_that_names_a_node_that_is_gone() -> None:
    plan = Plan(nodes=5, faults=Faults(resets=(Reset(0, 3, 1.0),)))
    smaller = shrink(plan, "linearizability", run=lambda tried: result_of(tried, "linearizability"))
    assert smaller.nodes == 3
    kept = Plan(nodes=5, faults=Faults(resets=(Reset(0, 3, 1.0),)))
    smaller = shrink(
        kept,
        "linearizability",
        run=lambda tried: result_of(tried, "linearizability" if tried.faults == kept.faults else ""),
    )
    assert smaller.nodes == 4
    assert dataclasses.replace(smaller.faults) == kept.faults
