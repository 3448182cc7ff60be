"""What clients of the built-in workloads do beside the usual."""

import dataclasses
import json
import random
from collections import Counter

import pytest

from meshnode.agents.activation import Activation
from meshnode.agents.service import Agents
from simulations.cores.faults import Crash
from simulations.mesh import counting as counting_module
from simulations.mesh import run
from simulations.mesh.counting import Counting
from simulations.mesh.habits import BUSY_MAX, Habits, choose, draw_pause_s
from simulations.plan import Faults, Plan

SMALL = Plan(nodes=3, clients=4, duration_s=8.0, keys=4, partitions=4, tempo=0.5)

ALL = Habits(slow=0.2, in_vain=0.2, together=0.2, again=0.2, at_once=0.05)


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each method is, where all habits are drawn."""
    found: Counter[str] = Counter()
    original = Agents.call

    def call(agents, call, respond):  # type: ignore[no-untyped-def]
        found[call.method] += 1
        original(agents, call, respond)

    monkeypatch.setattr(Agents, "call", call)
    monkeypatch.setattr(Habits, "draw", lambda _rng, _plan: ALL)
    return found


@pytest.mark.parametrize(
    ("workload", "methods"),
    [
        ("counter", {"add", "add_slowly", "add_in_vain", "add_with", "read", "read_with"}),
        ("kv", {"put", "put_slowly", "put_in_vain", "compare_and_set", "read"}),
    ],
)
def test_clients_make_calls_that_take_their_time_fail_or_call_others(
    called: Counter[str], workload: str, methods: set[str]
) -> None:
    faults = Faults(crashes=(Crash(1, 2.0, 1.0, power=False), Crash(0, 4.0, 1.0, power=False)))
    report = run(dataclasses.replace(SMALL, workload=workload, faults=faults))
    assert report.violation is None, report.violation
    assert all(called[method] for method in methods), called
    events = [json.loads(line) for line in report.history.splitlines()]
    open_now: set[int] = set()
    most = 0
    for event in events:
        (open_now.add if event["type"] == "invoke" else open_now.discard)(event["process"])
        most = max(most, len(open_now))
    assert most > SMALL.clients, "somebody does several things at a time"


def test_what_was_asked_for_before_is_asked_for_again_by_anybody(
    called: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: Counter[str] = Counter()
    askers: dict[str, set[int]] = {}
    original = Counting._attempt

    async def attempt(counting, client, request, timeout_s):  # type: ignore[no-untyped-def]
        tries[request.id] += 1
        askers.setdefault(request.id, set()).add(client.number)
        return await original(counting, client, request, timeout_s)

    monkeypatch.setattr(Counting, "_attempt", attempt)
    assert run(SMALL).violation is None
    assert max(tries.values()) > counting_module.TRIES_MAX
    assert any(len(numbers) > 1 for numbers in askers.values())


@pytest.mark.parametrize("workload", ["counter", "kv"])
def test_an_agent_that_keeps_what_a_failed_turn_has_changed_is_found(
    called: Counter[str], monkeypatch: pytest.MonkeyPatch, workload: str
) -> None:
    original = Activation.take_turn

    async def take_turn(activation, *arguments, **named):  # type: ignore[no-untyped-def]
        agent = activation.agent
        ended = await original(activation, *arguments, **named)
        activation.agent = activation.agent or agent
        return ended

    monkeypatch.setattr(Activation, "take_turn", take_turn)
    violation = run(dataclasses.replace(SMALL, workload=workload)).violation
    assert violation is not None
    assert violation.invariant in ("linearizability", "app-agent-error"), violation


def test_agents_that_few_call_rest_no_longer_than_others_can_wait() -> None:
    drawn = [Habits.draw(random.Random(seed), dataclasses.replace(SMALL, keys=1)) for seed in range(50)]
    rng = random.Random(1)
    rest_s = sum(draw_pause_s(rng) for _ in range(10_000)) / 10_000
    busy = max(habits.slow for habits in drawn) * SMALL.calls_per_s * rest_s
    assert busy == pytest.approx(BUSY_MAX, rel=0.1)
    assert {habits.slow > 0 for habits in drawn} == {True, False}


def test_odd_ones_have_their_shares_and_usual_ones_share_the_rest() -> None:
    rng = random.Random(1)
    chosen = Counter(choose(rng, [("a", 0.1), ("b", 0.2)], [("c", 1), ("d", 3)]) for _ in range(10_000))
    assert [round(chosen[name] / 1000) for name in "abcd"] == [1, 2, 2, 5]
