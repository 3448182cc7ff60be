"""Agent types for the tests of the service."""

import datetime
import random
from dataclasses import dataclass, field
from typing import Any

import trio

from meshnode.agents.definition import Agent, agent, handler
from meshnode.errors import InvalidArgument


class Gates:
    """Surroundings that let a test hold a turn: a handler waits until the test opens a gate."""

    fencing_token: Any = 0

    def __init__(self) -> None:
        self.gates: dict[str, trio.Event] = {}
        self.entered: list[str] = []
        self.left: list[str] = []

    def gate(self, name: str) -> trio.Event:
        return self.gates.setdefault(name, trio.Event())

    async def wait(self, name: str) -> None:
        self.entered.append(name)
        try:
            await self.gate(name).wait()
        finally:
            self.left.append(name)

    def ref(self, agent_type: Any, key: str) -> Any:
        raise AssertionError("these turns call nobody")

    @property
    def rng(self) -> random.Random:
        raise AssertionError("these turns draw nothing")

    def now(self) -> float:
        raise AssertionError("these turns read no clock")

    wall_clock = now

    async def predict(self, model: str, rows: Any) -> Any:
        raise AssertionError("these turns predict nothing")


@dataclass
class Tally:
    total: int = 0
    seen: list[int] = field(default_factory=list)


@agent("tally", state=Tally)
class Counter(Agent[Tally]):
    """Counts, in every way that a turn can go."""

    @handler
    async def add(self, n: int = 1) -> int:
        self.state.total += n
        self.state.seen.append(n)
        return self.state.total

    @handler(read_only=True)
    async def total(self) -> int:
        return self.state.total

    @handler(read_only=True)
    async def seen(self) -> list[int]:
        return self.state.seen

    @handler
    async def nothing(self) -> None:
        """A write that changes nothing."""

    @handler
    async def add_behind(self, gate: str, n: int = 1) -> int:
        node: Any = self.node
        self.state.total += n
        self.state.seen.append(n)
        await node.wait(gate)
        return self.state.total

    @handler(read_only=True)
    async def total_behind(self, gate: str) -> int:
        node: Any = self.node
        await node.wait(gate)
        return self.state.total

    @handler
    async def change_and_raise(self, message: str = "no") -> None:
        self.state.total = -1
        self.state.seen.append(-1)
        raise ValueError(message)

    @handler
    async def refuse(self) -> None:
        self.state.total = -1
        raise InvalidArgument("not like this")

    @handler(read_only=True)
    async def change_in_a_read(self) -> None:
        self.state.seen.append(-1)

    @handler
    async def return_the_unsayable(self) -> Any:
        self.state.total = -1
        return object()

    @handler
    async def return_bytes(self, size: int) -> bytes:
        return bytes(size)

    @handler
    async def keep_text(self, size: int) -> None:
        state: Any = self.state
        state.total = "x" * size

    @handler
    async def keep_many(self, count: int) -> None:
        self.state.seen = [0] * count

    @handler
    async def keep_deep(self, depth: int) -> None:
        state: Any = self.state
        for _ in range(depth):
            state.seen = [state.seen]

    @handler
    async def raise_the_unreadable(self) -> None:
        raise Unreadable

    @handler
    async def swallow_cancellation(self, gate: str) -> int:
        node: Any = self.node
        try:
            await node.wait(gate)
        except trio.Cancelled:
            self.state.total += 1
        return self.state.total

    @handler
    async def raise_when_cancelled(self, gate: str) -> None:
        node: Any = self.node
        try:
            await node.wait(gate)
        except trio.Cancelled:
            raise ValueError("instead of stopping") from None


class Unreadable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no message either")


@dataclass
class Tags:
    """Encodes to other bytes each time that it is made: by when it was, and by the order of a set."""

    names: set[str] = field(default_factory=set)
    at: datetime.datetime = field(default_factory=datetime.datetime.now)


@agent("tags", state=Tags)
class Tagged(Agent[Tags]):
    @handler
    async def put(self, names: list[str]) -> None:
        self.state.names = set(names)

    @handler
    async def touch(self) -> datetime.datetime:
        return self.state.at

    @handler(read_only=True)
    async def at(self) -> datetime.datetime:
        return self.state.at

    @handler(read_only=True)
    async def names(self) -> list[str]:
        return sorted(self.state.names)


def _always_fails() -> int:
    raise OSError("no such sensor")


@dataclass
class Fragile:
    value: int = 0


@agent("fragile", state=Fragile)
class FragileAgent(Agent[Fragile]):
    """Can't be made once ``broken`` is set."""

    broken = False

    def __init__(self) -> None:
        if self.broken:
            _always_fails()

    @handler
    async def put(self, value: int) -> int:
        self.state.value = value
        return value
