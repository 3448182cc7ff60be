"""The workload of counters: agents that add, alone or together, quickly, slowly or in vain, and never twice."""

import contextlib
import functools
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from meshnode import AgentError, OutcomeUnknown, Overloaded, TurnTimeout, Unavailable
from simulations.checkers.exactly_once import ExactlyOnce
from simulations.checkers.history import Json
from simulations.checkers.models import COUNTER
from simulations.mesh.agents import Counter, Refusal, seen_in_vain
from simulations.mesh.client import CAUSED_BY_FAULTS, PARTS_MAX, TIMEOUTS_S, SimClient
from simulations.mesh.habits import Habits, act_at_once, choose, draw_pause_s
from simulations.mesh.workload import World

TRIES_MAX = 3
"""How often a client asks under one request id when it does not learn what became of it."""

REMEMBERED_MAX = 64
"""Requests of all clients that may be asked for once more."""

CUT_OFF = frozenset(error.__name__ for error in (Unavailable, Overloaded, OutcomeUnknown, TurnTimeout))
"""How a turn ends that called another agent in vain, when it had changed something already."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a client wants, as often as it must ask.

    Attributes:
        id: in the ledger; for the mesh too if ``is_named``.
        keys: the agents: the one that is called, and those that it calls in turn, which may be the same more than once.
        amount: what each of them adds.
    """

    id: str
    method: str
    keys: tuple[str, ...]
    arguments: tuple[Any, ...]
    amount: int
    is_named: bool
    is_in_vain: bool = False

    @property
    def ids(self) -> list[tuple[str, str]]:
        """Key and id, in the ledger, of what it has each agent do."""
        return [(key, f"{self.id}.{place}" if place else self.id) for place, key in enumerate(self.keys)]

    @property
    def parts(self) -> list[tuple[str, str, Json]]:
        """The same as the model has it: who adds in vain only reads."""
        parts: list[tuple[str, str, Json]] = [
            ("add_once", key, [self.amount, name]) if self.is_named else ("add", key, self.amount)
            for key, name in self.ids
        ]
        if self.is_in_vain:
            parts[0] = ("read", self.keys[0], None)
        return parts


class Counting:
    """Steps of clients, and what must have become of them."""

    def __init__(self, world: World) -> None:
        world.model = COUNTER
        self._keys = world.plan.keys
        self._habits = Habits.draw(world.rng, world.plan)
        self._ledger = ExactlyOnce(lambda: world.now)
        self._remembered: deque[Request] = deque(maxlen=REMEMBERED_MAX)

    async def step(self, client: SimClient) -> None:
        """What a client does at a time: mostly one thing."""
        key = f"k{client.rng.randrange(self._keys)}"
        if client.rng.random() < self._habits.at_once:
            await act_at_once(functools.partial(self._act, client, key))
        else:
            await self._act(client, key)

    async def _act(self, client: SimClient, key: str) -> None:
        habits = self._habits
        odd = (
            (self._add_slowly, habits.slow),
            (self._add_in_vain, habits.in_vain),
            (self._add_together, 0.75 * habits.together),
            (self._read_together, 0.25 * habits.together),
            (self._ask_again, habits.again),
        )
        act = choose(client.rng, odd, ((self._read, 0.2), (self._add, 0.8)))
        try:
            await act(client, key)
        except AgentError as error:
            if error.error_type not in CUT_OFF:
                raise
            raise OutcomeUnknown(f"of those that were called in turn: {error}") from error

    def check_total(self, key: str, total: int) -> None:
        """Judge what an agent holds in the end. Raises Violation."""
        self._ledger.check_total(key, total)

    # ---- steps

    async def _read(self, client: SimClient, key: str) -> None:
        agent = client.ref(Counter, key, timeout_s=client.rng.choice(TIMEOUTS_S))
        await client.operation("read", key, None, agent.read())

    async def _read_together(self, client: SimClient, key: str) -> None:
        others = self._others(client, key)
        agent = client.ref(Counter, key, timeout_s=client.rng.choice(TIMEOUTS_S))
        await client.operations([("read", one, None) for one in (key, *others)], agent.read_with(others))

    async def _add(self, client: SimClient, key: str) -> None:
        amount = client.rng.randint(1, 9)
        await self._ask(client, "add", [key], (amount,), amount)

    async def _add_slowly(self, client: SimClient, key: str) -> None:
        amount = client.rng.randint(1, 9)
        await self._ask(client, "add_slowly", [key], (amount, draw_pause_s(client.rng)), amount)

    async def _add_in_vain(self, client: SimClient, key: str) -> None:
        amount = client.rng.randint(1, 9)
        is_refusal = client.rng.random() < 0.5
        await self._ask(client, "add_in_vain", [key], (amount, is_refusal), amount, is_in_vain=True)

    async def _add_together(self, client: SimClient, key: str) -> None:
        rng = client.rng
        amount, others, is_in_vain = rng.randint(1, 9), self._others(client, key), rng.random() < 0.2
        arguments = (amount, others, draw_pause_s(rng) if rng.random() < 0.5 else 0.0, is_in_vain)
        await self._ask(client, "add_with", [key, *others], arguments, amount, is_in_vain=is_in_vain)

    async def _ask_again(self, client: SimClient, _key: str) -> None:
        """Whether it was answered or not, by whom, and from wherever: it is the same request."""
        if self._remembered:
            await self._attempt(client, client.rng.choice(self._remembered), client.rng.choice(TIMEOUTS_S))

    def _others(self, client: SimClient, key: str) -> list[str]:
        """Agents that this one may call: those after it, so that no two wait for each other."""
        later = range(int(key.removeprefix("k")) + 1, self._keys)
        number = client.rng.randint(1, PARTS_MAX - 1) if later else 0
        return [f"k{client.rng.choice(later)}" for _ in range(number)]

    # ---- asking

    async def _ask(
        self,
        client: SimClient,
        method: str,
        keys: Sequence[str],
        arguments: tuple[Any, ...],
        amount: int,
        *,
        is_in_vain: bool = False,
    ) -> None:
        rng = client.rng
        name, is_named, timeout_s = f"{rng.getrandbits(64):016x}", rng.random() < 0.4, rng.choice(TIMEOUTS_S)
        request = Request(name, method, tuple(keys), arguments, amount, is_named, is_in_vain)
        asking = self._ask_until_known if is_named else self._attempt
        try:
            await client.operations(request.parts, asking(client, request, timeout_s))
        finally:
            # What never ran might, if it was asked for again, and no history would know of it.
            if is_named and self._ledger.may_have_run(keys[0], name):
                self._remembered.append(request)

    async def _ask_until_known(self, client: SimClient, request: Request, timeout_s: float) -> list[int]:
        """And then, every second time, once more."""
        unknown: OutcomeUnknown | None = None
        for _ in range(TRIES_MAX):
            try:
                totals = await self._attempt(client, request, timeout_s)
            except OutcomeUnknown as error:
                unknown = error
            except Unavailable:
                if unknown is None:
                    raise
            else:
                if client.rng.random() < 0.5:
                    with contextlib.suppress(*CAUSED_BY_FAULTS):
                        await self._attempt(client, request, timeout_s)
                return totals
        assert unknown is not None
        raise unknown

    async def _attempt(self, client: SimClient, request: Request, timeout_s: float) -> list[int]:
        """What each agent held after it, or before where that was in vain.

        Raises:
            Unavailable: nothing was changed by this attempt.
            OutcomeUnknown: nobody knows.
            AgentError, TurnTimeout: the called agent was not changed, and of the others nobody knows.
        """
        ledger, (own, *others) = self._ledger, request.ids
        for key, name in request.ids:
            ledger.tried(key, name, request.amount)
        named = request.id if request.is_named else ""
        agent = client.ref(Counter, own[0], timeout_s=timeout_s, request_id=named)
        try:
            answer = await getattr(agent, request.method)(*request.arguments)
        except Unavailable:
            for key, name in request.ids:
                ledger.refused(key, name)
            raise
        except (AgentError, Refusal, TurnTimeout) as error:
            ledger.failed(*own, f"{type(error).__name__} {error}")
            if isinstance(error, TurnTimeout):
                raise
            answer = seen_in_vain(error)
        totals = answer if isinstance(answer, list) else [answer]
        if not request.is_in_vain:
            ledger.acknowledged(*own, totals[0])
        for (key, name), total in zip(others, totals[1:], strict=True):
            ledger.acknowledged(key, name, total)
        return totals
