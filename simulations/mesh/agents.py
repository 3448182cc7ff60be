"""The agents that the workloads call."""

from dataclasses import dataclass

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
    async def get(self) -> int | None:
        return self.state.value

    @handler
    async def compare_and_set(self, expected: int | None, value: int) -> bool:
        if self.state.value != expected:
            return False
        self.state.value = value
        return True
