"""Whole nodes in the simulated world whose links are over TLS."""

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from meshnode.links.links import Links
from simulations.cores.faults import Crash, Cut, LinkQuality
from simulations.faults import Faults, Reset
from simulations.hosts import Network
from simulations.mesh import Report, run
from simulations.mesh.swarm import draw_plan
from simulations.plan import Plan

FAULTS = Faults(
    quality=LinkQuality(delay_s=0.001, jitter_s=0.01, loss=0.05, duplicate=0.05),
    cuts=(Cut(frozenset({0}), frozenset({1, 2}), 1.0, 2.0),),
    crashes=(Crash(1, 3.0, 1.0, power=False),),
    resets=(Reset(0, 2, 4.0),),
)

PLAN = Plan(nodes=3, clients=2, duration_s=6.0, keys=4, partitions=4, tempo=0.5, tls=True, faults=FAULTS)


def what(report: Report) -> set[str]:
    """Of the last things that happened."""
    return {line.what for line in report.lines}


@pytest.mark.parametrize("seed", range(3))
def test_drawn_plans_are_clean_over_tls(seed: int) -> None:
    report = run(dataclasses.replace(draw_plan(seed, duration_s=8.0), tls=True))
    assert report.violation is None, report.violation
    assert report.acknowledged
    assert "plaintext" in what(report)


def test_a_plan_over_tls_gives_the_same_run_in_two_processes(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(PLAN.to_json())
    command = [sys.executable, "-m", "simulations", "replay", "--plan", str(path)]
    said = [
        subprocess.run(
            command, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, timeout=50, check=True
        ).stdout
        for seed in ("1", "2")
    ]
    digests = [re.findall(r"\b[0-9a-f]{16}\b", text) for text in said]
    assert digests[0]
    assert digests[0] == digests[1]


def test_what_is_on_the_wire_is_never_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    calm = dataclasses.replace(PLAN, duration_s=1.0, faults=Faults())
    digest = run(calm).digest
    assert run(calm).digest == digest
    never = property(lambda _network: False, lambda _network, _value: None)
    monkeypatch.setattr(Network, "is_private", never, raising=False)
    assert len({digest, run(calm).digest, run(calm).digest}) == 3


def test_all_links_of_a_run_are_over_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[bool] = []
    make = Links.__init__

    def seen(links: Links, *arguments: object, tls: object, **named: object) -> None:
        made.append(tls is not None)
        make(links, *arguments, tls=tls, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Links, "__init__", seen)
    run(dataclasses.replace(PLAN, duration_s=1.0, faults=Faults()))
    assert made == [True] * (PLAN.nodes + PLAN.clients)
