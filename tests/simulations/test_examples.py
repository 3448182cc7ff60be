"""The worked example of docs/simulator.md: a mistake in an agent is found, and gone once it is mended."""

import dataclasses
from pathlib import Path

import pytest

from simulations.cores.faults import Crash
from simulations.faults import Faults, Outside
from simulations.mesh import run
from simulations.plan import Plan

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"

SEEDS = range(3)

PLAN = Plan(
    nodes=3,
    clients=4,
    duration_s=14.0,
    partitions=4,
    tempo=0.25,
    workload="shop:workload",
    faults=Faults(
        crashes=tuple(Crash(number % 3, 1.0 + 2.0 * number, 1.0, power=False) for number in range(6)),
        outside=Outside(late=0.1, late_s=5.0),
    ),
)


@pytest.fixture(autouse=True)
def _folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)


def violations(app: str) -> set[str]:
    plans = (dataclasses.replace(PLAN, app=(app,), seed=seed) for seed in SEEDS)
    reports = [run(plan) for plan in plans]
    assert all(report.acknowledged > 10 for report in reports)
    return {report.violation.invariant for report in reports if report.violation is not None}


def test_an_effect_without_the_fence_is_found() -> None:
    assert violations("listings") == {"app-price-went-back"}


def test_the_same_effect_under_a_fencing_token_is_clean() -> None:
    assert violations("listings_mended") == set()
