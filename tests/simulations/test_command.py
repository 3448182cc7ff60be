"""``meshnode simulate``, as its users type it."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from simulations import campaign
from simulations.cli import simulate
from simulations.mesh.swarm import draw_plan
from simulations.plan import Plan


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(simulate, arguments)


@pytest.fixture(scope="module")
def clean() -> Result:
    """A small run, for several tests."""
    return invoke("run", "--seeds", "3", "--nodes", "3", "--duration", "5", "--json")


def test_a_clean_run_ends_in_one_object_and_exits_0(clean: Result) -> None:
    assert clean.exit_code == 0, clean.output
    summary = json.loads(clean.stdout)
    assert summary["failures"] == []
    assert (summary["seeds"], set(summary)) == (
        1,
        {"seeds", "failures", "virtual_s", "wall_s", "events", "operations", "faults"},
    )
    assert summary["virtual_s"] > 5
    assert summary["operations"] > 0


def test_a_replay_shows_the_same_digest_and_keeps_plan_and_history(tmp_path: Path) -> None:
    kept, history = tmp_path / "plan.json", tmp_path / "history.jsonl"
    options = ("--nodes", "3", "--duration", "4", "--history", str(history))
    first = invoke("replay", "--seed", "3", *options, "--save", str(kept))
    assert first.exit_code == 0, first.output
    assert Plan.from_json(kept.read_text()) == draw_plan(3, nodes=3, duration_s=4.0)
    events = [json.loads(line) for line in history.read_text().splitlines()]
    assert {"process", "type", "op", "key", "value", "time_ns"} == set(events[0])
    second = invoke("replay", "--plan", str(kept))
    assert second.output.splitlines()[0] == first.output.splitlines()[0]
    assert first.output.startswith("digest ")


def test_a_failure_is_told_with_the_command_that_repeats_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(plan: Plan) -> campaign.Result:
        return campaign.Result(
            seed=plan.seed, plan=plan, invariant="linearizability", violation_s=7.5, story="k1 lost an add", digest="",
            virtual_s=9.0, events=1, operations=1, faults={},
        )  # fmt: skip

    monkeypatch.setattr(campaign, "run_plan", fail)
    told = invoke("run", "--seeds", "4:6", "--jobs", "1")
    assert told.exit_code == 10
    assert "seed 5: k1 lost an add" in told.output
    assert "meshnode simulate replay --seed 5" in told.output
    counted = invoke("run", "--seeds", "4:6", "--jobs", "1", "--json")
    assert json.loads(counted.stdout)["failures"] == [
        {"seed": seed, "invariant": "linearizability", "virtual_s": 7.5} for seed in (4, 5)
    ]


def test_level_1_runs_the_cores() -> None:
    done = invoke("run", "--seeds", "0:2", "--level", "1", "--json", "--jobs", "1")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["events"] > 1000


def test_runs_repeat_themselves_whatever_the_hash_seed() -> None:
    done = invoke("check-determinism", "--seeds", "1:3", "--nodes", "3", "--duration", "4")
    assert (done.exit_code, done.output) == (0, "2 seeds, 0 differ\n")


def test_runs_that_differ_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaign, "differs", lambda _seeds, _options: [2])
    done = invoke("check-determinism", "--seeds", "1:3")
    assert (done.exit_code, done.output) == (12, "2 seeds, 1 differ: [2]\n")


def test_soaking_keeps_the_plans_that_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(plan: Plan) -> campaign.Result:
        return campaign.Result(
            seed=plan.seed, plan=plan, invariant="liveness-agents" if plan.seed == 2 else "", violation_s=0.0, story="",
            digest="", virtual_s=1.0, events=1, operations=1, faults={},
        )  # fmt: skip

    monkeypatch.setattr(campaign, "run_plan", run)
    clock = iter(range(1000))
    monkeypatch.setattr("simulations.cli.time.monotonic", lambda: next(clock) * 10.0)
    done = invoke("soak", "--minutes", "0.5", "--jobs", "1", "--keep", str(tmp_path / "kept"), "--json")
    assert done.exit_code == 11
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["seed-2.json"]
    assert Plan.from_json((tmp_path / "kept" / "seed-2.json").read_text()) == draw_plan(2)


def test_shrinking_a_plan_that_does_not_fail_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tmp_path / "plan.json"
    kept.write_text(Plan().to_json())

    def run(plan: Plan) -> campaign.Result:
        return campaign.Result(
            seed=0, plan=plan, invariant="", violation_s=0.0, story="", digest="", virtual_s=1.0, events=1,
            operations=1, faults={},
        )  # fmt: skip

    monkeypatch.setattr(campaign, "run_plan", run)
    done = invoke("shrink", str(kept))
    assert done.exit_code == 13
    assert "the plan does not fail" in done.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "--seeds", "5:5"), "names no seed"),
        (("run", "--seeds", "x"), "is no range of seeds"),
        (("run", "--faults", "rain"), "there is no fault 'rain'"),
        (("run", "--plan", "/nowhere"), "No such file"),
        (("replay",), "give either --seed N or --plan FILE"),
        (("run", "--nodes", "0"), "not in the range"),
    ],
)
def test_wrong_flags_are_usage_errors(arguments: tuple[Any, ...], message: str) -> None:
    done = invoke(*arguments)
    assert done.exit_code == 2
    assert message in done.output
