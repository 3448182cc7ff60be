"""What clients do, and what they may see."""

import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from meshnode import Agent, Client
from simulations.checkers.history import Json
from simulations.checkers.models import COUNTER, REGISTER, Model
from simulations.mesh.agents import Counter, Register


@dataclass(frozen=True, slots=True)
class Workload:
    """A kind of load.

    Attributes:
        agents: the agent types that the nodes offer for it.
        model: what the agents are, when they are called one call at a time.
        draw: the next operation and its argument.
        call: carries one out: ``call(client, key, op, value, timeout_s)``.
        read: an operation that changes nothing, by which it is seen whether an agent answers.
    """

    agents: tuple[type[Agent[Any]], ...]
    model: Model
    draw: Callable[[random.Random], tuple[str, Json]]
    call: Callable[[Client, str, str, Json, float], Awaitable[Json]]
    read: str


def _draw_counter(rng: random.Random) -> tuple[str, Json]:
    return ("read", None) if rng.random() < 0.2 else ("add", rng.randint(1, 9))


async def _call_counter(client: Client, key: str, op: str, value: Json, timeout_s: float) -> Json:
    agent = client.ref(Counter, key, timeout_s=timeout_s)
    if op == "read":
        return await agent.read()
    assert isinstance(value, int)
    return await agent.add(value)


def _draw_register(rng: random.Random) -> tuple[str, Json]:
    chance = rng.random()
    if chance < 0.3:
        return "get", None
    if chance < 0.6:
        return "put", rng.randint(0, 4)
    return "compare_and_set", [rng.randint(0, 4), rng.randint(0, 4)]


async def _call_register(client: Client, key: str, op: str, value: Json, timeout_s: float) -> Json:
    agent = client.ref(Register, key, timeout_s=timeout_s)
    match op, value:
        case "put", int():
            await agent.put(value)
            return None
        case "compare_and_set", [int() | None as expected, int() as wanted]:
            return await agent.compare_and_set(expected, wanted)
        case _:
            return await agent.get()


WORKLOADS: Mapping[str, Workload] = {
    "counter": Workload((Counter,), COUNTER, _draw_counter, _call_counter, "read"),
    "kv": Workload((Register,), REGISTER, _draw_register, _call_register, "get"),
}
"""By name."""
