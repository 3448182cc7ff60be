"""Workloads of a user's own: what they can do, and whose mistake it is when one ends otherwise than it should."""

import contextlib
import dataclasses
import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from meshnode import Agent, AgentError, OutcomeUnknown, TurnTimeout, Unavailable, agent, handler
from simulations.campaign import run_plan
from simulations.checkers.models import COUNTER
from simulations.cores.faults import Crash
from simulations.mesh import Report, SimClient, World, run
from simulations.mesh import world as world_module
from simulations.mesh.agents import Counter, Total
from simulations.mesh.client import LANES
from simulations.mesh.workload import Workload
from simulations.mesh.workloads import UnknownWorkload, find_workload
from simulations.mesh.world import WorkloadFailed
from simulations.plan import Faults, Plan

SMALL = Plan(nodes=1, clients=2, duration_s=2.0, recovery_s=20.0, partitions=1, replication=1, workload="mine")

Program = Callable[[World], Awaitable[None]]


@agent("fragile", state=Total)
class Fragile(Agent[Total]):
    """Its handlers do what agents should not."""

    @handler
    async def divide(self, by: int) -> int:
        return 1 // by

    @handler
    async def wait(self) -> None:
        await trio.sleep_forever()


@pytest.fixture
def carry_out(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Report]:
    """Run a program as the workload."""

    def carry_out(program: Program, plan: Plan = SMALL) -> Report:
        workload = Workload((Counter, Fragile), program)
        monkeypatch.setattr(world_module, "find_workload", lambda _name, _app: workload)
        return run(plan)

    return carry_out


CarryOut = Callable[[Program], Report]


async def idle(client: SimClient) -> None:
    """A step that calls nobody."""


def test_a_workload_prepares_is_put_under_faults_and_judges(carry_out: Any) -> None:
    seen: dict[str, Any] = {}

    async def program(world: World) -> None:
        await world.client.ref(Counter, "a").add(10)
        seen["prepared"] = world.now

        async def step(client: SimClient) -> None:
            await client.ref(Counter, "a").add(1)
            seen.setdefault("numbers", set()).add(client.number)

        await world.under_faults(step)
        seen["calm"] = world.now
        seen["total"] = await world.client.ref(Counter, "a").read()

    report = carry_out(program, dataclasses.replace(SMALL, faults=Faults(crashes=(Crash(0, 1.0, 0.5, power=False),))))
    assert report.violation is None, report.violation
    assert report.fired == {"crash": 1}
    assert seen["numbers"] == {0, 1}
    assert seen["calm"] >= seen["prepared"] + SMALL.duration_s
    assert report.operations >= report.acknowledged > 5
    assert 10 + report.acknowledged <= seen["total"] <= 10 + report.operations


def test_what_does_not_hold_ends_the_run_under_the_name_that_the_workload_gave(carry_out: CarryOut) -> None:
    async def program(world: World) -> None:
        async def step(client: SimClient) -> None:
            world.check(world.steps < 5, "too-many-steps", f"{world.steps} of them")

        await world.under_faults(step)
        raise AssertionError("the run has ended before")

    violation = carry_out(program).violation
    assert violation is not None
    assert (violation.invariant, violation.message) == ("app-too-many-steps", "5 of them")
    assert violation.virtual_s > 0


def test_operations_are_judged_by_the_model(carry_out: CarryOut) -> None:
    async def program(world: World) -> None:
        world.model = COUNTER

        async def step(client: SimClient) -> None:
            await client.operation("add", "a", 2, client.ref(Counter, "a").add(1))

        await world.under_faults(step)

    violation = carry_out(program).violation
    assert violation is not None
    assert violation.invariant == "linearizability"


def test_the_history_tells_what_became_of_each_operation(carry_out: CarryOut) -> None:
    async def program(world: World) -> None:
        endings = iter((None, OutcomeUnknown("who knows"), Unavailable("nobody there")))

        async def call() -> int:
            ending = next(endings, None)
            if ending is not None:
                raise ending
            return 7

        async def step(client: SimClient) -> None:
            async with trio.open_nursery() as nursery:  # errors come out of it in groups
                nursery.start_soon(client.operation, "add", "a", 1, call())

        await world.under_faults(step)
        assert world.done == world.steps - 2

    report = carry_out(program)
    assert report.violation is None
    for kind, value in (("ok", "7"), ("info", '"who knows"'), ("fail", '"nobody there"')):
        assert re.search(f'"type":"{kind}","op":"add","key":"a","value":{value}', report.history), kind


@pytest.mark.parametrize(
    ("ending", "expected"),
    [
        (OutcomeUnknown("who knows"), {"a": "info", "b": "info"}),
        (AgentError("a mistake"), {"a": "fail", "b": "info"}),
        (TurnTimeout("too slow"), {"a": "fail", "b": "info"}),
        (Unavailable("nobody there"), {"a": "fail", "b": "fail"}),
        (trio.TooSlowError(), {"a": "info", "b": "info"}),
        (None, {"a": "ok", "b": "ok"}),
    ],
)
def test_a_call_that_works_on_several_agents_is_an_operation_of_each(
    carry_out: CarryOut, ending: Exception | None, expected: dict[str, str]
) -> None:
    async def program(world: World) -> None:
        async def call() -> list[int]:
            await trio.sleep(0.1)
            if ending is not None:
                raise ending
            return [1, 2]

        async def read() -> int:
            await trio.sleep(0.05)
            return 0

        async def step(client: SimClient) -> None:
            parts = [("add", "a", 1), ("add", "b", 2)]
            with contextlib.suppress(Exception):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(client.operations, parts, call())
                    await client.operation("read", "c", None, read())

        await world.under_faults(step)

    events = [json.loads(line) for line in carry_out(program).history.splitlines()]
    ends = {event["key"]: event["type"] for event in events if event["type"] != "invoke"}
    assert ends == {**expected, "c": "ok"}
    begun = [event["process"] for event in events if event["type"] == "invoke"]
    assert len(set(begun[:3])) == 3, "each is at its own operation"


def test_a_client_does_no_more_at_a_time_than_a_history_has_processes_for(carry_out: CarryOut) -> None:
    async def none() -> list[int]:
        return []

    async def program(world: World) -> None:
        async def step(client: SimClient) -> None:
            parts = [("read", str(part), None) for part in range(LANES + 1)]
            call = none()
            with contextlib.closing(call):
                await client.operations(parts, call)

        await world.under_faults(step)

    with pytest.raises(WorkloadFailed, match=f"client . has 0 operations under way: {LANES} may be"):
        carry_out(program)


def test_an_error_of_an_agent_that_nobody_catches_is_a_violation_that_names_the_line(carry_out: CarryOut) -> None:
    async def program(world: World) -> None:
        async def step(client: SimClient) -> None:
            await client.ref(Fragile, "a").divide(0)

        await world.under_faults(step)

    violation = carry_out(program).violation
    assert violation is not None
    assert violation.invariant == "app-agent-error"
    assert re.search(r"test_workload\.py:\d+: AgentError: .*ZeroDivisionError", violation.message), violation.message


async def _mistaken(world: World) -> None:
    async def step(client: SimClient) -> None:
        raise KeyError("k")

    await world.under_faults(step)


async def _idle(world: World) -> None:
    return


async def _impatient(world: World) -> None:
    async def step(client: SimClient) -> None:
        with trio.fail_after(0.5):
            await trio.sleep_forever()

    await world.under_faults(step)


async def _careless(world: World) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.under_faults, idle)
        await trio.sleep(1.0)
        raise Unavailable("beside the steps")


async def _twice(world: World) -> None:
    for _time in range(2):
        await world.under_faults(idle)


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (_mistaken, r"test_workload\.py:\d+: KeyError: 'k'"),
        (_impatient, r"test_workload\.py:\d+: TooSlowError"),
        (_careless, "Unavailable: beside the steps"),
        (_idle, "nothing was put to the test"),
        (_twice, "under_faults was called before"),
    ],
)
def test_a_mistake_of_the_workload_is_told_with_its_line(carry_out: CarryOut, program: Program, message: str) -> None:
    with pytest.raises(WorkloadFailed, match=message):
        carry_out(program)
    result = run_plan(SMALL)
    assert result.invariant == "harness"
    assert re.search(message, result.story)


async def _asks_who_never_answers(world: World) -> None:
    await world.under_faults(idle)
    await world.client.ref(Fragile, "a", timeout_s=1.0).wait()


async def _never_ends(world: World) -> None:
    await world.under_faults(idle)
    await trio.sleep_forever()


@pytest.mark.parametrize(
    ("program", "message"),
    [(_asks_who_never_answers, "a.wait: no answer within 1 s"), (_never_ends, "did not end within 20 s")],
)
def test_whoever_is_silent_in_calm_is_a_violation(carry_out: CarryOut, program: Program, message: str) -> None:
    violation = carry_out(program).violation
    assert violation is not None
    assert violation.invariant == "liveness-agents"
    assert message in violation.message


def test_a_client_that_ends_by_an_error_is_a_violation(carry_out: CarryOut, monkeypatch: pytest.MonkeyPatch) -> None:
    async def follow(_client: SimClient) -> None:
        raise ZeroDivisionError("a bug of the client's")

    async def program(world: World) -> None:
        await world.under_faults(idle)

    monkeypatch.setattr(SimClient, "_follow_routes", follow)
    violation = carry_out(program).violation
    assert violation is not None
    assert violation.invariant == "client-crash"
    assert "a bug of the client's" in violation.message


# ---- where workloads are found

APP = """
from dataclasses import dataclass

from meshnode import Agent, agent, handler

@dataclass
class State:
    pass

@agent("found", state=State)
class Found(Agent[State]):
    @handler
    async def go(self) -> None: ...

async def workload(world): ...

def not_async(world): ...
"""


def test_a_workload_is_found_by_module_and_name_with_the_agents_of_its_module_or_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "found_app.py").write_text(APP)
    (tmp_path / "found_load.py").write_text("async def load(world): ...")
    (tmp_path / "found_broken.py").write_text("import nowhere_to_be_found\n")
    (tmp_path / "found_wrong.py").write_text("1 / 0\n")
    own = find_workload("found_app:workload")
    assert [cls.__name__ for cls in own.agents] == ["Found"]
    assert find_workload("found_load:load", ("found_app",)).agents == own.agents
    for name, app, message in (
        ("nothing", (), "there is no workload 'nothing': choose from counter, kv, predict"),
        ("counter", ("found_app",), "has agents of its own"),
        ("found_load:load", (), "no class decorated with @agent"),
        ("found_load:load", ("found_broken",), "No module named 'nowhere_to_be_found'"),
        ("found_app:missing", (), "has no 'async def missing"),
        ("found_app:not_async", (), "has no 'async def not_async"),
        ("found_nowhere:load", (), "No module named 'found_nowhere'"),
        ("found_wrong:load", (), "ZeroDivisionError"),
    ):
        with pytest.raises(UnknownWorkload, match=re.escape(message)):
            find_workload(name, app)
