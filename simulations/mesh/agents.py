"""The agents that the workloads call: quick ones, slow ones, such as call others, and such as fail."""

import json
import re
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
import trio

from meshnode import Agent, AgentError, CallerError, agent, handler


class Refusal(CallerError):
    """An agent refuses what it is asked for. Nothing was changed."""

    code = "sim-refusal"


class Failure(Exception):
    """A handler has a mistake."""


IN_VAIN = re.compile(r"in vain: (.*)")


def _end_in_vain(seen: object, *, is_refusal: bool) -> NoReturn:
    """End a turn by an error, and tell by it what the turn saw before it changed anything."""
    raise (Refusal if is_refusal else Failure)(f"in vain: {json.dumps(seen)}")


def seen_in_vain(error: AgentError | Refusal) -> Any:
    """What the turn saw that ended like this on purpose. Raises the error if another one did."""
    told = IN_VAIN.search(str(error))
    if told is None:
        raise error
    return json.loads(told[1])


@dataclass
class Total:
    value: int = 0


@agent("sim-counter", state=Total)
class Counter(Agent[Total]):
    """Adds."""

    @handler
    async def add(self, amount: int) -> int:
        self.state.value += amount
        return self.state.value

    @handler
    async def add_slowly(self, amount: int, pause_s: float) -> int:
        """Rests half way."""
        self.state.value += amount
        await trio.sleep(pause_s)
        return self.state.value

    @handler
    async def add_in_vain(self, amount: int, is_refusal: bool) -> int:
        """Adds, and fails then."""
        before = self.state.value
        self.state.value += amount
        _end_in_vain(before, is_refusal=is_refusal)

    @handler
    async def add_with(self, amount: int, others: list[str], pause_s: float, fails: bool) -> list[int]:
        """Adds here and to others; all totals. It rests then, and may fail all the same."""
        before = self.state.value
        self.state.value += amount
        totals = [await self.node.ref(Counter, other).add(amount) for other in others]
        await trio.sleep(pause_s)
        if fails:
            _end_in_vain([before, *totals], is_refusal=False)
        return [self.state.value, *totals]

    @handler(read_only=True)
    async def read(self) -> int:
        return self.state.value

    @handler(read_only=True)
    async def read_with(self, others: list[str]) -> list[int]:
        """All totals."""
        return [self.state.value, *[await self.node.ref(Counter, other).read() for other in others]]


@dataclass
class Cell:
    value: int | None = None


@agent("sim-register", state=Cell)
class Register(Agent[Cell]):
    """Holds a value."""

    @handler
    async def put(self, value: int) -> None:
        self.state.value = value

    @handler
    async def put_slowly(self, value: int, pause_s: float) -> None:
        """Rests half way."""
        self.state.value = value
        await trio.sleep(pause_s)

    @handler
    async def put_in_vain(self, value: int, is_refusal: bool) -> int | None:
        """Changes the value, and fails then."""
        before = self.state.value
        self.state.value = value
        _end_in_vain(before, is_refusal=is_refusal)

    @handler(read_only=True)
    async def read(self) -> int | None:
        return self.state.value

    @handler
    async def compare_and_set(self, expected: int | None, value: int) -> bool:
        if self.state.value != expected:
            return False
        self.state.value = value
        return True


MODEL = "sim-model"
"""The name under which the model of the workload `predict` is published."""


@dataclass
class Tallies:
    total: int = 0
    by_class: list[int] = field(default_factory=list)


@agent("sim-classifier", state=Tallies)
class Classifier(Agent[Tallies]):
    """Has its node classify rows, and tallies them."""

    @handler
    async def classify(self, rows: list[list[float]]) -> tuple[int, list[list[float]]]:
        """How many rows it has tallied by now, and the probabilities of these."""
        answers = await self.node.predict(MODEL, rows)
        tallies = self.state.by_class or [0] * answers.shape[1]
        for place in np.argmax(answers, axis=1):
            tallies[place] += 1
        self.state.by_class = tallies
        self.state.total += len(rows)
        return self.state.total, answers.tolist()

    @handler(read_only=True)
    async def read(self) -> int:
        return self.state.total

    @handler(read_only=True)
    async def tallies(self) -> tuple[int, list[int]]:
        """All rows, and those of each class."""
        return self.state.total, self.state.by_class
