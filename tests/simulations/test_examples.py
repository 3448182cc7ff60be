"""The worked example of docs/simulator.md: a mistake in an agent is found, and gone once it is mended."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from simulations.cores.faults import Crash
from simulations.faults import Faults, Outside
from simulations.mesh import run
from simulations.plan import Plan

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"

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


def outcomes(app: str, seeds: int) -> Iterator[str | None]:
    for seed in range(seeds):
        report = run(dataclasses.replace(PLAN, app=(app,), seed=seed))
        if report.violation is None:  # which may come early
            assert report.acknowledged > 10
        yield None if report.violation is None else report.violation.invariant


def test_an_effect_without_the_fence_is_found() -> None:
    """In about every fifth seed, and which these are changes with whatever changes the order of things."""
    assert next(filter(None, outcomes("listings", 50))) == "app-price-went-back"


def test_the_same_effect_under_a_fencing_token_is_clean() -> None:
    assert set(outcomes("listings_mended", 4)) == {None}
