"""An application whose results are nothing that JSON has."""

import datetime
from dataclasses import dataclass, field

from meshnode import Agent, agent, handler

RAW = b"\x00\xffraw"
DAY = datetime.date(2024, 2, 29)
MOMENT = datetime.datetime(2024, 2, 29, 12, 30, tzinfo=datetime.UTC)


@dataclass
class Calls:
    """How many there were."""

    total: int = 0


@dataclass
class Odd:
    """Everything that JSON lacks."""

    raw: bytes = RAW
    day: datetime.date = DAY
    moment: datetime.datetime = MOMENT
    numbers: list[float] = field(default_factory=lambda: [float("nan"), float("inf"), float("-inf"), 0.5])
    by_number: dict[int, bytes] = field(default_factory=lambda: {1: b"one"})
    text: str = "größer"


@agent("odd", state=Calls)
class OddAgent(Agent[Calls]):
    """Counts calls."""

    @handler
    async def everything(self) -> Odd:
        """One of each."""
        self.state.total += 1
        return Odd()

    @handler
    async def raw(self) -> bytes:
        """Bytes alone."""
        self.state.total += 1
        return RAW

    @handler
    async def nothing_to_say(self) -> float:
        """No number."""
        self.state.total += 1
        return float("nan")

    @handler(read_only=True)
    async def total(self) -> int:
        """How many calls took effect."""
        return self.state.total
