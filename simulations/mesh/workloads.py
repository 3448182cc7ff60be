"""The workloads that come with the simulator, and those of a user's own, by name."""

import importlib
import inspect
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

import trio

from meshnode import Agent, OperatorError
from meshnode.node import load_application
from simulations.checkers.models import COUNTER, REGISTER
from simulations.mesh.agents import Classifier, Counter, Register
from simulations.mesh.client import TIMEOUTS_S, SimClient
from simulations.mesh.predictions import predict
from simulations.mesh.workload import Workload, World


class UnknownWorkload(ValueError):
    """There is no such workload, or it can't be imported; the message says why."""


async def counter(world: World) -> None:
    """Agents that count, and never count an addition twice."""
    world.model = COUNTER

    async def step(client: SimClient) -> None:
        key = f"k{client.rng.randrange(world.plan.keys)}"
        amount = 0 if client.rng.random() < 0.2 else client.rng.randint(1, 9)
        agent = client.ref(Counter, key, timeout_s=client.rng.choice(TIMEOUTS_S))
        if amount:
            await client.operation("add", key, amount, agent.add(amount))
        else:
            await client.operation("read", key, None, agent.read())

    await world.under_faults(step)
    await every_agent_answers(world, Counter)


async def kv(world: World) -> None:
    """Agents that hold a value."""
    world.model = REGISTER

    async def step(client: SimClient) -> None:
        rng = client.rng
        key = f"k{rng.randrange(world.plan.keys)}"
        chance, value, expected = rng.random(), rng.randint(0, 4), rng.randint(0, 4)
        agent = client.ref(Register, key, timeout_s=rng.choice(TIMEOUTS_S))
        if chance < 0.3:
            await client.operation("get", key, None, agent.read())
        elif chance < 0.6:
            await client.operation("put", key, value, agent.put(value))
        else:
            both = agent.compare_and_set(expected, value)
            await client.operation("compare_and_set", key, [expected, value], both)

    await world.under_faults(step)
    await every_agent_answers(world, Register)


async def every_agent_answers(world: World, agent_type: type[Agent[Any]]) -> None:
    """All at once, so that one that is silent does not take the time of the others."""
    async with trio.open_nursery() as nursery:
        for key in range(world.plan.keys):
            agent: Any = world.client.ref(agent_type, f"k{key}", timeout_s=world.plan.recovery_s)
            nursery.start_soon(agent.read)


WORKLOADS: Mapping[str, Workload] = {
    "counter": Workload((Counter,), counter),
    "kv": Workload((Register,), kv),
    "predict": Workload((Classifier,), predict),
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
