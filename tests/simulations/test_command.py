"""``meshnode simulate``, as its users type it."""

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from simulations import campaign, determinism
from simulations.checkers.history import read_history
from simulations.cli import simulate
from simulations.cores.swarm import DRAWS, Wish
from simulations.mesh.swarm import draw_plan
from simulations.plan import AnyPlan, Plan, read_plan
from tests.simulations.work import result_of

ROOT = Path(__file__).parents[2]

LEVEL_1 = ("--level", "1", "--jobs", "1")


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(simulate, arguments)


def fail_where(monkeypatch: pytest.MonkeyPatch, fails: Callable[[AnyPlan], bool], invariant: str = "liveness") -> None:
    """Let some plans fail, and run none."""
    run = lambda plan: result_of(plan, invariant if fails(plan) else "", history=f"{plan.seed}\n")  # noqa: E731
    monkeypatch.setattr(campaign, "run_plan", run)
    monkeypatch.setattr(campaign, "run_and_explain", run)


def watch(monkeypatch: pytest.MonkeyPatch, invariant: str) -> list[AnyPlan]:
    """The plans that are run from now on; each violates the invariant, if there is one."""
    ran: list[AnyPlan] = []

    def fails(plan: AnyPlan) -> bool:
        ran.append(plan)
        return bool(invariant)

    fail_where(monkeypatch, fails, invariant)
    return ran


# ---- run


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


@pytest.mark.parametrize(
    ("invariant", "code"),
    [("linearizability", 10), ("raft-durable-vote", 10), ("liveness-agents", 11), ("harness", 13)],
)
def test_failures_are_listed_and_the_exit_code_says_their_kind(
    invariant: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_where(monkeypatch, lambda plan: plan.seed >= 5, invariant)
    done = invoke("run", "--seeds", "4:7", "--jobs", "1", "--json")
    assert done.exit_code == code
    assert json.loads(done.stdout)["failures"] == [
        {"seed": seed, "invariant": invariant, "virtual_s": 1.0} for seed in (5, 6)
    ]


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--nodes", "3", "--duration", "4.125", "--faults", "cuts, pauses", "--workload", "kv"),
        ("--level", "1"),
        ("--level", "1", "--world", "raft,partitions", "--nodes", "4", "--faults", "crashes,isolations"),
    ],
)
def test_the_command_that_is_told_makes_the_same_plan_again(
    options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = watch(monkeypatch, "liveness")
    told = invoke("run", "--seeds", "7:9", "--jobs", "1", *options)
    commands = [line.removeprefix("again: ") for line in told.stderr.splitlines() if line.startswith("again: ")]
    plans = list(ran)
    assert len(commands) == len(plans) >= 2
    ran.clear()
    for command in commands:
        program, *arguments = shlex.split(command)
        assert (program, arguments[0]) == ("meshnode", "simulate")
        assert invoke(*arguments[1:]).exit_code == 11
    assert ran == plans


def test_level_1_obeys_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = watch(monkeypatch, "")
    options = ("--nodes", "4", "--duration", "3", "--faults", "cuts,leaves", "--world", "swim,partitions")
    assert invoke("run", "--seeds", "0:2", *LEVEL_1, *options).exit_code == 0
    wish = Wish(nodes=4, duration_s=3.0, kinds=frozenset({"cuts", "leaves"}))
    assert ran == [DRAWS[world](seed, wish) for seed in (0, 1) for world in ("swim", "partitions")]
    assert {(plan.nodes, plan.duration_s, plan.faults.crashes) for plan in ran} == {(4, 3.0, ())}


def test_level_1_runs_the_cores() -> None:
    done = invoke("run", "--seeds", "0:3", *LEVEL_1, "--json")
    assert done.exit_code == 0, done.output
    summary = json.loads(done.stdout)
    assert summary["seeds"] == 3
    assert summary["events"] > 1000
    assert summary["operations"] > 0
    assert summary["faults"]


def test_a_run_ends_after_so_many_seeds_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    fail_where(monkeypatch, lambda plan: plan.seed % 2 == 1)
    done = invoke("run", "--seeds", "0:100", "--jobs", "1", "--failures", "2", "--json")
    summary = json.loads(done.stdout)
    assert ([failure["seed"] for failure in summary["failures"]], summary["seeds"]) == ([1, 3], 4)


def test_the_history_is_of_the_first_run_that_failed_or_else_of_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = tmp_path / "history.jsonl"
    for failing, kept in (({3, 5}, "3\n"), (set(), "7\n")):
        fail_where(monkeypatch, lambda plan, failing=failing: plan.seed in failing)  # type: ignore[misc]
        invoke("run", "--seeds", "0:8", "--jobs", "1", "--history", str(history), "--json")
        assert history.read_text() == kept


def test_partitions_of_level_1_have_a_history(tmp_path: Path) -> None:
    history = tmp_path / "history.jsonl"
    done = invoke("run", "--seeds", "3", *LEVEL_1, "--world", "partitions", "--history", str(history), "--json")
    with history.open() as file:
        events = list(read_history(file))
    assert {event.op for event in events} == {"append", "read"}
    assert sum(event.type == "invoke" for event in events) == json.loads(done.stdout)["operations"]


# ---- replay


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


def test_a_plan_of_cores_is_kept_and_run_again(tmp_path: Path) -> None:
    kept = tmp_path / "plan.json"
    first = invoke("replay", "--seed", "3", "--level", "1", "--world", "raft", "--save", str(kept))
    again = invoke("replay", "--plan", str(kept))
    assert first.exit_code == again.exit_code == 0, first.output
    assert first.output.splitlines()[0] == again.output.splitlines()[0]
    assert first.output.startswith("digest raft ")
    assert json.loads(invoke("run", "--plan", str(kept), "--json").stdout)["seeds"] == 1


# ---- check-determinism


@pytest.mark.parametrize(
    ("options", "count"), [(("--nodes", "3", "--duration", "4", "--workload", "kv"), 2), (("--level", "1"), 20)]
)
def test_runs_repeat_themselves_whatever_the_hash_seed(options: tuple[str, ...], count: int) -> None:
    done = invoke("check-determinism", "--seeds", f"1:{1 + count}", *options)
    assert (done.exit_code, done.output) == (0, f"{count} seeds, 0 runs differ\n")


def test_runs_that_differ_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [determinism.Difference("2", 41, "0.5 n1 led 2", "0.5 n2 led 2")]
    monkeypatch.setattr(determinism, "differences", lambda _seeds, _options: found)
    done = invoke("check-determinism", "--seeds", "1:3")
    assert (done.exit_code, done.stdout) == (12, "2 seeds, 1 runs differ\n")
    assert "seed 2: from line 41 on\n  0.5 n1 led 2\n  0.5 n2 led 2\n" in done.stderr
    as_json = invoke("check-determinism", "--seeds", "1:3", "--json")
    assert (as_json.exit_code, json.loads(as_json.stdout)["different"][0]["line"]) == (12, 41)


# ---- shrink and soak


def test_soaking_keeps_the_plans_that_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_where(monkeypatch, lambda plan: plan.seed == 2)
    clock = iter(range(1000))
    monkeypatch.setattr("simulations.cli.time.monotonic", lambda: next(clock) * 10.0)
    kept = tmp_path / "kept"
    done = invoke("soak", "--minutes", "2", "--jobs", "1", "--keep", str(kept), "--json")
    assert done.exit_code == 11
    assert json.loads(done.stdout)["seeds"] < 12, "two minutes are twelve looks at this clock"
    assert [path.name for path in kept.iterdir()] == ["seed-2.json"]
    assert Plan.from_json((kept / "seed-2.json").read_text()) == draw_plan(2)


def test_soaking_cores_keeps_a_plan_for_each_world_that_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_where(monkeypatch, lambda plan: plan.seed == 4)
    done = invoke("soak", "--minutes", "9", "--first", "3", "--failures", "1", *LEVEL_1, "--keep", str(tmp_path))
    assert done.exit_code == 11
    assert [path.name for path in tmp_path.iterdir()] == ["seed-4-swim.json"]
    command = f"again: meshnode simulate replay --plan {tmp_path / 'seed-4-swim.json'}"
    assert command in done.stderr
    assert read_plan((tmp_path / "seed-4-swim.json").read_text()) == DRAWS["swim"](4, Wish())


@pytest.mark.parametrize("level", ["1", "2"])
def test_a_plan_that_fails_is_made_smaller(level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, smaller = tmp_path / "plan.json", tmp_path / "smaller.json"
    world = ("--world", "raft") if level == "1" else ()
    invoke("replay", "--seed", "5", "--level", level, *world, "--duration", "9", "--save", str(kept))
    fail_where(monkeypatch, lambda _plan: True)
    done = invoke("shrink", str(kept), "--save", str(smaller))
    assert done.exit_code == 0, done.output
    assert "1 runs: without " in done.stderr
    assert f"again: meshnode simulate replay --plan {smaller}" in done.stderr
    assert read_plan(smaller.read_text()).duration_s == 0.5
    assert read_plan(invoke("shrink", str(kept)).stdout) == read_plan(smaller.read_text())


def test_an_interrupt_ends_a_search_with_the_smallest_plan_so_far(tmp_path: Path) -> None:
    kept = tmp_path / "plan.json"
    plan = draw_plan(3)
    kept.write_text(plan.to_json())
    script = (
        "from simulations import campaign; from simulations.cli import simulate; from tests.simulations import work;"
        f"campaign.run_plan = work.failing_until_interrupted; simulate(['shrink', {str(kept)!r}])"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 130
    smaller = read_plan(done.stdout)
    assert isinstance(smaller, Plan)
    assert smaller.calls_per_s == 1.0
    assert smaller.duration_s == plan.duration_s


# ---- what is wrong


def test_shrinking_a_plan_that_does_not_fail_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tmp_path / "plan.json"
    kept.write_text(Plan().to_json())
    fail_where(monkeypatch, lambda _plan: False)
    done = invoke("shrink", str(kept))
    assert done.exit_code == 2
    assert "does not fail: there is nothing to shrink" in done.output


def test_a_plan_of_another_version_is_refused_by_the_field(tmp_path: Path) -> None:
    kept = tmp_path / "plan.json"
    kept.write_text(Plan().to_json().replace('"tempo"', '"pace"'))
    done = invoke("run", "--plan", str(kept))
    assert done.exit_code == 2
    assert "not a plan of this version: it knows no field pace" in done.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "--seeds", "5:5"), "names no seed"),
        (("run", "--seeds", "x"), "is no range of seeds"),
        (("run", "--faults", "rain"), "there is no fault of level 2 'rain': choose all, none, or from links, cuts"),
        (("run", "--level", "1", "--faults", "hangs"), "there is no fault of level 1 'hangs'"),
        (("run", "--level", "1", "--world", "moon"), "there is no world 'moon': choose all, none, or from swim, raft"),
        (("run", "--level", "1", "--world", "none"), "'none' names no world"),
        (("run", "--world", "swim"), "'swim' is of cores: give --level 1 too"),
        (("run", "--workload", "chess"), "there is no workload 'chess': choose from counter, kv, predict"),
        (("run", "--plan", "/nowhere"), "No such file"),
        (("run", "--history", "/nowhere/at/all"), "'/nowhere/at/all' can't be written: /nowhere/at is no folder"),
        (("replay",), "give either --seed N or --plan FILE"),
        (("replay", "--seed", "1", "--level", "1", "--save", "/tmp/x"), "choose one with --world"),
        (("run", "--nodes", "0"), "not in the range"),
        (("run", "--nodes", "100"), "100 whole nodes are too many: choose 1 to 99, or --level 1"),
    ],
)
def test_wrong_flags_are_usage_errors(arguments: tuple[Any, ...], message: str) -> None:
    done = invoke(*arguments)
    assert done.exit_code == 2
    assert message in done.output
