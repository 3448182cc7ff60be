"""The agents that the workloads call."""

from dataclasses import dataclass, field

import numpy as np

from meshnode import Agent, agent, handler


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

    @handler(read_only=True)
    async def read(self) -> int:
        return self.state.value


@dataclass
class Cell:
    value: int | None = None


@agent("sim-register", state=Cell)
class Register(Agent[Cell]):
    """Holds a value."""

    @handler
    async def put(self, value: int) -> None:
        self.state.value = value

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
