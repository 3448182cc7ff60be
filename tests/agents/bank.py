"""Agents that call agents: a partition whose log commits at once, and a caller that reaches it."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, cast

import trio

from meshnode.agents.caller import Caller
from meshnode.agents.config import AgentsConfig
from meshnode.agents.context import TurnContext
from meshnode.agents.definition import Agent, Application, agent, definition_of, handler
from meshnode.agents.messages import Answer, Call, OpenSession
from meshnode.agents.service import TurnInfo
from meshnode.directory import ClientDirectory
from meshnode.errors import InvalidArgument, MeshError
from meshnode.identity import NodeId, PartitionId
from tests.agents.fake_host import FakeHost
from tests.agents.world import GUARD_S, Asked, Log, World

A = NodeId(1)


@dataclass
class Balance:
    cents: int = 0


@agent("account", state=Balance)
class Account(Agent[Balance]):
    """Pays others, and fails in every way on the way."""

    @property
    def bank(self) -> Any:
        return cast(Any, self.node).bank

    @handler
    async def put(self, cents: int) -> int:
        self.state.cents += cents
        return self.state.cents

    @handler
    async def pay(self, to: str, cents: int) -> int:
        self.state.cents -= cents
        return await self.node.ref(Account, to).put(cents)

    @handler
    async def pay_behind(self, to: str, cents: int, gate: str) -> int:
        paid = await self.pay(to, cents)
        await self.bank.gates.wait(gate)
        return paid

    @handler(read_only=True)
    async def cents(self) -> int:
        return self.state.cents

    @handler
    async def refuse(self) -> None:
        raise InvalidArgument("this account takes nothing")

    @handler
    async def fail(self) -> None:
        raise ValueError("broken")

    @handler
    async def be_away(self, *, first: str = "") -> int:
        """Pays somebody first, or nobody."""
        if first:
            await self.pay(first, 5)
        self.bank.turns_of_be_away += 1
        if self.bank.problem is not None:
            raise self.bank.problem
        return int(self.bank.turns_of_be_away)

    @handler
    async def be_away_in_a_nursery(self, tasks: int) -> int:
        async with trio.open_nursery() as nursery:
            for _ in range(tasks):
                nursery.start_soon(self.be_away)
        return 1

    @handler
    async def predict(self, first: str = "") -> Any:
        if first:
            await self.pay(first, 5)
        return await self.node.predict("digits", [1.0])

    @handler
    async def call_wrongly(self, first: str = "") -> None:
        if first:
            await self.pay(first, 5)
        await cast(Any, self.node.ref(Account, "bob")).put("x")

    @handler
    async def have(self, method: str, *, key: str = "bob", then_refuse: bool = False) -> Any:
        """Let another account do something."""
        reference = cast(Any, self.node.ref(Account, key))
        try:
            return await getattr(reference, method)()
        except MeshError as error:
            if then_refuse:
                raise InvalidArgument(f"not today: {error}") from error
            raise

    @handler
    async def look_and_be_away(self, key: str) -> int:
        await self.node.ref(Account, key).cents()
        return await self.be_away()

    @handler(read_only=True)
    async def look(self, key: str) -> int:
        return await self.node.ref(Account, key).cents()

    @handler(read_only=True)
    async def pay_in_a_read(self, to: str) -> int:
        return await self.node.ref(Account, to).put(5)

    @handler(read_only=True)
    async def predict_in_a_read(self) -> Any:
        return await self.node.predict("digits", [1.0])


class Surrounded(TurnContext):
    """The real surroundings, with the test's bank beside them."""

    bank: Any


class EagerLog(Log):
    """Commits and confirms at once, unless it is told to wait."""

    def __init__(self) -> None:
        super().__init__()
        self.is_eager = True
        self._news = trio.Event()

    def propose(self, partition: PartitionId, payload: bytes) -> int:
        self._news.set()
        return super().propose(partition, payload)

    def read(self, partition: PartitionId, token: int) -> None:
        self._news.set()
        super().read(partition, token)

    async def run(self) -> None:
        while True:
            await self._news.wait()
            self._news = trio.Event()
            if self.is_eager:
                self.commit()
                self.confirm()


class Bank(World):
    """``problem`` is what comes in the way of predictions and of those who are away, if anything."""

    def __init__(self) -> None:
        host = FakeHost()
        super().__init__(AgentsConfig(), Application([definition_of(Account)]), host)
        self.log: EagerLog = EagerLog()
        self.log.agents = self.agents
        self.agents.attach(self.log)
        self.directory = ClientDirectory()
        self.directory.update(1, (A,), {})
        self.caller = Caller(host, self.directory, self.exchange)
        self.problem: BaseException | None = None
        self.turns_of_be_away = 0
        self.calls: list[Call] = []
        self.agents._surroundings = self.surround

    def surround(self, turn: TurnInfo) -> Surrounded:
        async def predict(model: str, rows: Any) -> Any:
            await trio.lowlevel.checkpoint()
            if self.problem is not None:
                raise self.problem
            return [model, rows]

        surrounded = Surrounded(self.host, self.caller, predict, turn)
        surrounded.bank = self
        return surrounded

    async def exchange(self, _primary: NodeId, question: Any) -> Answer:
        asked = Asked()
        match question(0):
            case Call() as call:
                self.calls.append(call)
                self.agents.call(call, asked.respond)
            case OpenSession() as opening:
                self.agents.open_session(opening, asked.respond)
        await asked.event.wait()
        assert asked.answer is not None
        return asked.answer

    def calls_to(self, key: str) -> list[Call]:
        """All attempts of calls of an account."""
        return [call for call in self.calls if call.key == key]

    async def ask_caller(self, key: str, method: str, *positional: Any, **options: Any) -> Any:
        """Call an account as an outside caller does."""
        options.setdefault("timeout_s", 30.0)
        return await self.caller.call("account", key, method, positional, **options)


@contextlib.asynccontextmanager
async def open_bank() -> AsyncIterator[Bank]:
    """A bank that serves."""
    with trio.fail_after(GUARD_S):
        async with trio.open_nursery() as nursery:
            bank = Bank()
            await nursery.start(bank.agents.run)
            nursery.start_soon(bank.log.run)
            bank.log.serve()
            yield bank
            nursery.cancel_scope.cancel()
