"""Many runs, side by side or not."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from simulations import campaign
from simulations.campaign import (
    HARNESS,
    LIVENESS_LOST,
    OK,
    SAFETY,
    Totals,
    run_all,
    run_and_explain,
)
from simulations.checkers.violation import Violation
from simulations.cores.plans import PartitionsPlan, SwimPlan
from simulations.plan import Plan
from tests.simulations.work import TO_INTERRUPT, die_at_seed_1, double, result_of

ROOT = Path(__file__).parents[2]


def test_totals_add_up_and_the_worst_failure_decides_the_exit_code() -> None:
    totals = Totals()
    assert totals.exit_code == OK
    for seed, (invariant, code) in enumerate(
        [("", OK), ("liveness", LIVENESS_LOST), ("linearizability", SAFETY), ("harness", HARNESS)]
    ):
        totals.add(result_of(Plan(seed=seed), invariant))
        assert totals.exit_code == code
    assert (totals.seeds, totals.virtual_s, totals.events, totals.operations) == (4, 8.0, 12, 16)
    assert totals.faults == {"crash": 4}
    assert [failure.seed for failure in totals.failures] == [1, 2, 3]


def test_a_seed_of_several_worlds_is_one_seed() -> None:
    totals = Totals()
    for plan in (SwimPlan(seed=4), PartitionsPlan(seed=4), SwimPlan(seed=5)):
        totals.add(result_of(plan, "liveness"))
    assert (totals.seeds, totals.failed_seeds, len(totals.failures)) == (2, 2, 3)


@pytest.mark.parametrize("jobs", [1, 3])
def test_work_is_done_in_order_by_as_many_processes_as_wanted(jobs: int) -> None:
    plans = [Plan(seed=seed) for seed in range(20)]
    assert [result.seed for result in run_all(double, plans, jobs=jobs)] == [2 * seed for seed in range(20)]


def test_a_run_whose_process_dies_has_failed_and_the_others_go_on() -> None:
    results = list(run_all(die_at_seed_1, [Plan(seed=seed) for seed in range(5)], jobs=2))
    assert [(result.seed, result.invariant) for result in results] == [
        (seed, "harness" if seed == 1 else "") for seed in range(5)
    ]
    assert results[1].message == "the process that ran it was ended by SIGKILL"


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_interrupt_ends_a_campaign_at_once_with_what_was_seen_and_leaves_no_process(jobs: int) -> None:
    script = (
        "from simulations import campaign; from simulations.cli import simulate; from tests.simulations import work;"
        "campaign.run_plan = work.interrupt_at_seed_2;"
        f"simulate(['run', '--seeds', '0:50', '--jobs', '{jobs}', '--json'])"
    )
    code = f"import os; os.environ.update({{'{TO_INTERRUPT}': str(os.getpid())}}); {script}"
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    said, _ = process.communicate()
    assert process.returncode == 128 + signal.SIGINT
    # With two processes, the seeds before may be under way yet, or just have ended.
    assert json.loads(said)["seeds"] in ((2,) if jobs == 1 else (0, 1, 2))
    while _members(process.pid):  # the server that makes processes ends a moment after its user
        time.sleep(0.05)


def _members(group: int) -> list[int]:
    """The processes of a group."""
    members = []
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        with contextlib.suppress(ProcessLookupError):
            members += [pid] * (os.getpgid(pid) == group)
    return members


def test_a_harness_that_fails_is_a_result_with_its_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_plan: Plan) -> None:
        raise ZeroDivisionError("a bug of the harness")

    monkeypatch.setattr(campaign, "run_mesh", fail)
    result = run_and_explain(Plan(seed=5))
    assert (result.seed, result.invariant) == (5, "harness")
    assert "ZeroDivisionError: a bug of the harness" in result.story


def test_a_run_that_goes_another_way_the_second_time_is_not_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    violation = Violation("liveness", virtual_s=1.0, message="nobody leads")
    digests = iter(["a", "b"])
    monkeypatch.setattr(
        campaign, "_run_cores", lambda plan: (replace(result_of(plan, "liveness"), digest=next(digests)), violation, ())
    )
    result = run_and_explain(SwimPlan())
    assert result.invariant == "liveness"
    assert "It went another way when it was run again" in result.story
