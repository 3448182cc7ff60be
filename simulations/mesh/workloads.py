"""The workloads that come with the simulator, and those of a user's own, by name."""

import functools
import importlib
import inspect
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

import trio

from meshnode import Agent, AgentError, OperatorError
from meshnode.node import load_application
from simulations.checkers.history import Json
from simulations.checkers.models import REGISTER
from simulations.mesh.agents import Classifier, Counter, Refusal, Register, seen_in_vain
from simulations.mesh.client import TIMEOUTS_S, SimClient
from simulations.mesh.coordination import config, locks
from simulations.mesh.counting import Counting
from simulations.mesh.habits import Habits, act_at_once, choose, draw_pause_s
from simulations.mesh.predictions import predict
from simulations.mesh.workload import Workload, World


class UnknownWorkload(ValueError):
    """There is no such workload, or it can't be imported; the message says why."""


async def counter(world: World) -> None:
    """Agents that count, and never count an addition twice, however often it is asked for under one request id."""
    counting = Counting(world)
    await world.under_faults(counting.step)
    for key, total in (await every_agent_answers(world, Counter)).items():
        counting.check_total(key, total)


async def kv(world: World) -> None:
    """Agents that hold a value."""
    world.model = REGISTER
    habits = Habits.draw(world.rng, world.plan)

    async def get(client: SimClient, key: str, agent: Register) -> None:
        await client.operation("get", key, None, agent.read())

    async def put(client: SimClient, key: str, agent: Register) -> None:
        value = client.rng.randint(0, 4)
        await client.operation("put", key, value, agent.put(value))

    async def compare_and_set(client: SimClient, key: str, agent: Register) -> None:
        expected, value = client.rng.randint(0, 4), client.rng.randint(0, 4)
        await client.operation("compare_and_set", key, [expected, value], agent.compare_and_set(expected, value))

    async def put_slowly(client: SimClient, key: str, agent: Register) -> None:
        value = client.rng.randint(0, 4)
        await client.operation("put", key, value, agent.put_slowly(value, draw_pause_s(client.rng)))

    async def put_in_vain(client: SimClient, key: str, agent: Register) -> None:
        async def seen() -> Json:
            try:
                return await agent.put_in_vain(client.rng.randint(0, 4), client.rng.random() < 0.5)
            except (AgentError, Refusal) as error:
                before: Json = seen_in_vain(error)
                return before

        await client.operation("get", key, None, seen())

    odd = ((put_slowly, habits.slow), (put_in_vain, habits.in_vain))
    usual = ((get, 0.3), (put, 0.3), (compare_and_set, 0.4))

    async def act(client: SimClient, key: str) -> None:
        agent = client.ref(Register, key, timeout_s=client.rng.choice(TIMEOUTS_S))
        await choose(client.rng, odd, usual)(client, key, agent)

    async def step(client: SimClient) -> None:
        key = f"k{client.rng.randrange(world.plan.keys)}"
        if client.rng.random() < habits.at_once:
            await act_at_once(functools.partial(act, client, key))
        else:
            await act(client, key)

    await world.under_faults(step)
    await every_agent_answers(world, Register)


async def every_agent_answers(world: World, agent_type: type[Agent[Any]]) -> dict[str, Any]:
    """All at once, so that one that is silent does not take the time of the others; what they hold in the end."""
    agents: dict[str, Any] = {
        f"k{key}": world.client.ref(agent_type, f"k{key}", timeout_s=world.plan.recovery_s)
        for key in range(world.plan.keys)
    }
    async with trio.open_nursery() as nursery:
        for agent in agents.values():
            nursery.start_soon(agent.read)
    read = "get" if world.model is REGISTER else "read"
    return {key: await world.client.operation(read, key, None, agent.read()) for key, agent in agents.items()}


WORKLOADS: Mapping[str, Workload] = {
    "counter": Workload((Counter,), counter),
    "kv": Workload((Register,), kv),
    "predict": Workload((Classifier,), predict),
    "locks": Workload((), locks),
    "config": Workload((), config),
}
"""By name."""


def find_workload(name: str, app: Sequence[str] = ()) -> Workload:
    """The workload of that name, or the one that is at ``module:function``.

    Args:
        app: modules with the agents that a workload of a user's own calls; those of its module if empty.

    Raises:
        UnknownWorkload: it can't be found.
    """
    module, colon, function = name.partition(":")
    if not colon:
        if name not in WORKLOADS:
            raise UnknownWorkload(
                f"there is no workload {name!r}: choose from {', '.join(WORKLOADS)}, or write module:function for one "
                "of your own"
            )
        if app:
            raise UnknownWorkload(
                f"workload {name!r} has agents of its own: give module:function to call those of yours"
            )
        return WORKLOADS[name]
    try:
        program = getattr(importlib.import_module(module), function, None)
        agents = tuple(definition.cls for definition in load_application(app or (module,)))
    except OperatorError as error:
        raise UnknownWorkload(str(error)) from error
    except Exception as error:
        told = traceback.format_exception(error, limit=-1)
        raise UnknownWorkload(f"workload {name}: module {module} can't be imported: {''.join(told)}") from error
    if not (inspect.isfunction(program) and inspect.iscoroutinefunction(program)):
        raise UnknownWorkload(f"workload {name}: module {module} has no 'async def {function}(world)'")
    return Workload(agents, program)
