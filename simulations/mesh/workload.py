"""What a workload is, and what it is given.

A workload is an async function of the `World`, in three parts: what it prepares, what clients do while things go wrong
(`World.under_faults`), and what it finds in the end:

    async def workload(world: World) -> None:
        async def step(client: SimClient) -> None:
            await client.ref(Counter, f"k{client.rng.randrange(5)}").add(1)

        await world.under_faults(step)
        total = sum([await world.client.ref(Counter, f"k{key}").add(0) for key in range(5)])
        world.check(total <= world.steps, "counted-twice", f"{total} of {world.steps}")

1. It runs anew for each seed, so it makes anew whatever it needs; what modules keep would pass from run to run.
2. It does the same for the same seed if it draws from `World.rng` and `SimClient.rng`, reads `World.now`, and sleeps
   by trio.
3. What it and its agents reach outside of the mesh are objects of its own, behind `World.outside`.
4. What must hold it says by `World.check`, whenever it wants, or by a `model` for what its clients recorded. An
   `AgentError` that nobody catches is a violation too. Any other exception is a mistake of the workload's own.
"""

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from meshnode import Agent, Node
from simulations.checkers.models import Model
from simulations.checkers.violation import Violation
from simulations.hosts import Trace
from simulations.hosts.quality import Paths
from simulations.kernel import Events
from simulations.mesh.client import SimClient
from simulations.mesh.outside import Outside
from simulations.plan import Plan

Step = Callable[[SimClient], Awaitable[object]]
"""One thing that a client does, again and again."""

Beside = Callable[[Node], Awaitable[None]]
"""What runs beside a node."""


class MisusedWorld(Exception):
    """The workload asked for what a world does not do."""


@dataclass(frozen=True, slots=True)
class Workload:
    """A kind of load.

    Attributes:
        agents: the agent types that the nodes offer for it.
        program: what it does.
    """

    agents: tuple[type[Agent[Any]], ...]
    program: Callable[["World"], Awaitable[object]]


class World:
    """One run, as its workload sees it.

    Attributes:
        plan: what was drawn for the run; `Plan.keys` says how many agents to call.
        rng: what the workload and its services draw.
        model: what every key of the recorded operations is, one operation at a time; None judges them not.
        clients: all clients.
        steps: how many steps the clients have begun under faults; ``done`` of them ended without an error.
    """

    def __init__(
        self,
        plan: Plan,
        events: Events,
        trace: Trace,
        clients: Sequence[SimClient],
        *,
        paths: Paths,
        under_faults: Callable[[Step], Awaitable[None]],
        beside: Callable[[Beside], None],
        fail: Callable[[Violation], None],
    ) -> None:
        self.plan = plan
        self.rng = random.Random(f"workload of {plan.seed}")
        self.model: Model | None = None
        self.clients = clients
        self.steps = 0
        self.done = 0
        self._events = events
        self._trace = trace
        self._paths = paths
        self._under_faults = under_faults
        self._beside = beside
        self._fail = fail

    @property
    def now(self) -> float:
        """Virtual seconds since the run began."""
        return self._events.now

    @property
    def client(self) -> SimClient:
        """The first client: for what comes before and after the faults."""
        return self.clients[0]

    async def under_faults(self, step: Step) -> None:
        """Have each client take the step again and again while faults happen, until the mesh is whole again.

        Faults end after `Plan.duration_s`; steps that are under way then go on to their ends. A step that ends with
        `Unavailable`, `OutcomeUnknown` or `TurnTimeout` ended as calls do while things go wrong: the client goes on.

        Raises:
            MisusedWorld: it was called before.
            BaseException: whatever else a step raises.
        """
        await self._under_faults(step)

    def beside(self, program: Beside) -> None:
        """Run the program beside each node, in its process, whenever it runs: as one that embeds the node.

        It is paused, slowed and killed with its node. What it raises ends the node, and is a bug of somebody's.
        """
        self._beside(program)

    def outside(self, service: object) -> Any:
        """The service's methods as agents reach them; see `simulations.mesh.outside.Outside`.

        What they are given and return is not copied: let it be values.
        """
        name = type(service).__name__
        return Outside(service, name, events=self._events, trace=self._trace, paths=self._paths)

    def check(self, holds: bool, name: str, message: str) -> None:
        """Unless it holds, the run ends here, and ``app-NAME`` is violated; ``message`` says what was seen."""
        if not holds:
            self.violated(f"app-{name}", message)

    def violated(self, invariant: str, message: str) -> None:
        """The run ends with the violation."""
        self._fail(Violation(invariant, virtual_s=self.now, message=message))
