"""The application that the process tests run: an agent that knows each operation it has carried out."""

from dataclasses import dataclass

import trio

from meshnode import Agent, agent, handler

OPERATIONS_MAX = 1 << 16
"""An agent's state stays within 8 KiB."""


@dataclass
class Tally:
    """Which operations took effect, one bit each, and how many did so more than once."""

    seen: bytes = b""
    doubled: int = 0

    def take(self, number: int) -> None:
        """Operation ``number`` takes effect."""
        byte, bit = divmod(number, 8)
        bits = bytearray(self.seen.ljust(byte + 1, b"\0"))
        self.doubled += bool(bits[byte] & 1 << bit)
        bits[byte] |= 1 << bit
        self.seen = bytes(bits)

    def numbers(self) -> set[int]:
        """The operations that took effect."""
        return {number for number in range(8 * len(self.seen)) if self.seen[number // 8] & 1 << number % 8}


@agent("tally", state=Tally)
class TallyAgent(Agent[Tally]):
    """Records operations."""

    @handler
    async def record(self, number: int) -> int:
        """Operation ``number`` takes effect; returns it."""
        if not 0 <= number < OPERATIONS_MAX:
            raise ValueError(f"operation {number} is outside 0 … {OPERATIONS_MAX - 1}")
        self.state.take(number)
        return number

    @handler(read_only=True)
    async def report(self) -> Tally:
        """All that took effect."""
        return self.state


@dataclass
class Count:
    """A total."""

    total: int = 0


@agent("counter", state=Count)
class Counter(Agent[Count]):
    """Adds numbers up."""

    @handler
    async def add(self, n: int) -> int:
        """The new total."""
        self.state.total += n
        return self.state.total

    @handler(read_only=True)
    async def total(self) -> int:
        """The total."""
        return self.state.total

    @handler
    async def spoil(self, n: int) -> int:
        """Changes the state and then raises."""
        self.state.total += n
        raise LookupError(f"spoiled by {n}")

    @handler
    async def dawdle(self, seconds: float) -> int:
        """Adds 1 to the agent KEY-begun, then 1 to this one, and takes its time."""
        await self.node.ref(Counter, f"{self.key}-begun").add(1)
        self.state.total += 1
        await trio.sleep(seconds)
        return self.state.total


@dataclass
class Chest:
    """What was stored last."""

    content: bytes = b""


@agent("chest", state=Chest)
class ChestAgent(Agent[Chest]):
    """Fills disks."""

    @handler
    async def store(self, size: int) -> None:
        """Keep that many bytes, which the journals of all replicas then hold once more."""
        self.state.content = bytes([(self.state.content or b"\0")[0] ^ 1]) * size
