"""The workloads that come with the simulator, and those of a user's own, by name."""

import contextlib
import importlib
import inspect
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

import trio

from meshnode import Agent, MeshError, OperatorError, OutcomeUnknown, TurnTimeout, Unavailable
from meshnode.node import load_application
from simulations.checkers.exactly_once import ExactlyOnce
from simulations.checkers.models import COUNTER, REGISTER
from simulations.mesh.agents import Classifier, Counter, Register
from simulations.mesh.client import CAUSED_BY_FAULTS, TIMEOUTS_S, SimClient
from simulations.mesh.coordination import config, locks
from simulations.mesh.predictions import predict
from simulations.mesh.workload import Workload, World


class UnknownWorkload(ValueError):
    """There is no such workload, or it can't be imported; the message says why."""


TRIES_MAX = 3
"""How often a client asks under one request id when it does not learn what became of it."""


async def counter(world: World) -> None:
    """Agents that count, and never count an addition twice, however often it is asked for under one request id."""
    world.model = COUNTER
    requests = ExactlyOnce(lambda: world.now)

    async def step(client: SimClient) -> None:
        rng = client.rng
        key, chance, timeout_s = f"k{rng.randrange(world.plan.keys)}", rng.random(), rng.choice(TIMEOUTS_S)
        request_id, amount = f"{rng.getrandbits(64):016x}", rng.randint(1, 9)
        agent = client.ref(Counter, key, timeout_s=timeout_s)
        if chance < 0.2:
            await client.operation("read", key, None, agent.read())
            return
        requests.tried(key, request_id, amount)
        try:
            if chance < 0.7:
                total = await client.operation("add", key, amount, agent.add(amount))
            else:
                adding = add_once(client, key, request_id, amount, timeout_s)
                total = await client.operation("add_once", key, [amount, request_id], adding)
        except (OutcomeUnknown, TurnTimeout):
            raise
        except MeshError:
            requests.refused(key, request_id)
            raise
        requests.acknowledged(key, request_id, total)

    async def add_once(client: SimClient, key: str, request_id: str, amount: int, timeout_s: float) -> int:
        """Ask until the outcome is known; and then, every second time, once more."""
        agent = client.ref(Counter, key, timeout_s=timeout_s, request_id=request_id)
        unknown: OutcomeUnknown | None = None
        for _ in range(TRIES_MAX):
            try:
                total = await agent.add(amount)
            except OutcomeUnknown as error:
                unknown = error
            except Unavailable:
                if unknown is None:
                    raise
            else:
                requests.acknowledged(key, request_id, total)
                if client.rng.random() < 0.5:
                    with contextlib.suppress(*CAUSED_BY_FAULTS):
                        requests.acknowledged(key, request_id, await agent.add(amount))
                return total
        assert unknown is not None
        raise unknown

    await world.under_faults(step)
    for key, total in (await every_agent_answers(world, Counter)).items():
        requests.check_total(key, total)


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
