"""``meshnode simulate`` with workloads and agents of a user's own."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from simulations.cli import simulate

AGENTS = """
from dataclasses import dataclass
from meshnode import Agent, agent, handler

@dataclass
class State:
    calls: int = 0

@agent("own", state=State)
class Own(Agent[State]):
    @handler
    async def call(self) -> int:
        assert self.node.wall_clock() > self.node.now() > 0 and 0 <= self.node.rng.random() < 1
        self.state.calls += 1
        return self.state.calls
"""

LOAD = """
async def clean(world):
    async def step(client):
        await client.ref("own", "a").call()
    await world.under_faults(step)

async def unsafe(world):
    async def step(client):
        calls = await client.ref("own", "a").call()
        world.check(calls < 3, "thrice", f"called {calls} times")
    await world.under_faults(step)

async def mistaken(world):
    async def step(client):
        raise KeyError("a mistake")
    await world.under_faults(step)
"""


@pytest.fixture(autouse=True)
def _modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_agents.py").write_text(AGENTS)
    (tmp_path / "own_load.py").write_text(LOAD)
    monkeypatch.syspath_prepend(tmp_path)


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(simulate, arguments)


def options(workload: str) -> tuple[str, ...]:
    return ("--nodes", "1", "--duration", "2.5", "--app", "own_agents", "--workload", f"own_load:{workload}")


def test_agents_that_keep_what_the_workload_asks_for_are_clean() -> None:
    done = invoke("run", "--seeds", "0:2", "--jobs", "1", *options("clean"))
    assert done.exit_code == 0, done.output


def test_what_does_not_hold_is_told_like_any_violation_and_its_plan_alone_repeats_it(tmp_path: Path) -> None:
    done = invoke("run", "--seeds", "0", *options("unsafe"))
    assert done.exit_code == 10, done.output
    assert "seed 0: app-thrice at " in done.output
    assert "called 3 times" in done.output
    again = f"meshnode simulate replay --seed 0 {' '.join(options('unsafe'))}"
    (told,) = [line for line in done.output.splitlines() if line.startswith("again: ")]
    assert sorted(told.split()[1:]) == sorted(again.split())
    kept = tmp_path / "plan.json"
    assert invoke(*again.split()[2:], "--save", str(kept)).exit_code == 10
    repeated = invoke("replay", "--plan", str(kept))
    assert repeated.exit_code == 10, repeated.output
    assert "app-thrice" in repeated.output


def test_a_mistake_in_the_workload_is_the_harnesss_with_the_line(tmp_path: Path) -> None:
    done = invoke("run", "--seeds", "0", *options("mistaken"))
    assert done.exit_code == 13, done.output
    line = 1 + LOAD.splitlines().index('        raise KeyError("a mistake")')
    assert f"own_load.py:{line}: KeyError: 'a mistake'" in done.output


def test_a_plan_whose_workload_is_not_to_be_found_is_a_usage_error(tmp_path: Path) -> None:
    kept = tmp_path / "plan.json"
    assert invoke("replay", "--seed", "0", *options("clean"), "--save", str(kept)).exit_code == 0
    kept.write_text(kept.read_text().replace("own_load:", "lost_load:"))
    done = invoke("replay", "--plan", str(kept))
    assert done.exit_code == 2
    assert "No module named 'lost_load'" in done.output


def test_runs_of_own_agents_repeat_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    done = invoke("check-determinism", "--seeds", "0", *options("clean"))
    assert done.exit_code == 0, done.output
