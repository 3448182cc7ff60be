"""Whatever plan is drawn, what must hold holds; `HYPOTHESIS_PROFILE=long` draws forty times as many."""

import dataclasses
import logging
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simulations.campaign import run_plan
from simulations.disk import DiskFaults
from simulations.options import PlanFile
from simulations.plan import Faults, Plan, read_plan
from tests.chaos.strategies import CRUEL_DISK, FAULTS, MILD_DISK, NO_STRATEGY, PLAN, plans

CORPUS = sorted((Path(__file__).parent / "corpus").glob("*.json"))
"""Plans that once failed: each stands for a mistake that was in the code."""

PLANS = max(1, settings.default.max_examples // 4) if settings.default else 1
"""A run of whole nodes takes about a second."""


@pytest.fixture(autouse=True)
def _without_logs() -> Iterator[None]:
    """Thousands of nodes have much to say."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def check(plan: Plan) -> None:
    """Run a plan; if it fails, say so with the plan and the command that runs it again."""
    result = run_plan(plan)
    if result.is_clean:
        return
    # Hypothesis runs the smallest one last, so that is what is left there.
    kept = PlanFile(str(Path(tempfile.gettempdir()) / "meshnode-chaos.json"), plan)
    Path(kept.path).write_text(plan.to_json())
    pytest.fail(f"{result.message}\n{plan.to_json()}\nagain: {kept.replay}", pytrace=False)


@pytest.mark.timeout(7200)  # the long profile, on a busy machine
@settings(max_examples=PLANS, suppress_health_check=list(HealthCheck), print_blob=False)
@given(plans())
def test_whatever_goes_wrong_what_must_hold_holds(plan: Plan) -> None:
    check(plan)


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_a_plan_that_once_failed_is_clean(path: Path) -> None:
    result = run_plan(read_plan(path.read_text()))
    assert result.is_clean, f"{result.message}\nagain: meshnode simulate replay --plan {path}"


def test_every_field_of_a_plan_and_every_kind_of_fault_can_be_drawn() -> None:
    assert set(PLAN) | {"faults"} == {item.name for item in dataclasses.fields(Plan)}
    assert set(FAULTS) == {item.name for item in dataclasses.fields(Faults)}
    of_disks = MILD_DISK.keys() | CRUEL_DISK.keys() | NO_STRATEGY.keys()
    assert of_disks == {item.name for item in dataclasses.fields(DiskFaults)}


@settings(max_examples=30, suppress_health_check=list(HealthCheck))
@given(plans())
def test_what_is_drawn_is_over_before_the_end_and_fits_into_a_file(plan: Plan) -> None:
    assert read_plan(plan.to_json()) == plan
    for item in dataclasses.fields(plan.faults):
        values = getattr(plan.faults, item.name)
        for fault in values if isinstance(values, tuple) else ():
            assert getattr(fault, "at_s", 0.0) + getattr(fault, "for_s", 0.0) <= plan.duration_s


SMALL = Plan(seed=7, nodes=2, replication=2, duration_s=1.0, partitions=1, clients=1)


@pytest.fixture(scope="module")
def digest() -> str:
    """Of a small plan, run outside of any example."""
    return run_plan(SMALL).digest


@settings(max_examples=3, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**32 - 1))
def test_a_run_is_the_same_inside_an_example_whatever_generators_hypothesis_has_seeded(digest: str, seed: int) -> None:
    random.seed(seed)
    before = random.getstate()
    assert run_plan(SMALL).digest == digest
    assert random.getstate() == before
