"""Callers that write to many agents at once and know afterwards what must have taken effect."""

import itertools
import random
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from meshnode import Client, OutcomeUnknown, TurnTimeout, Unavailable
from tests.process.counters import TallyAgent

VERIFY_TIMEOUT_S = 30.0


@dataclass
class Ledger:
    """What the callers of one agent were told."""

    key: str
    numbers: "itertools.count[int]" = field(default_factory=itertools.count)
    acknowledged: set[int] = field(default_factory=set)
    unknown: set[int] = field(default_factory=set)
    refused: set[int] = field(default_factory=set)
    reasons: dict[str, None] = field(default_factory=dict)
    acknowledged_at_s: float = 0.0
    longest_gap_s: float = 0.0

    def acknowledge(self, number: int, now: float) -> None:
        """An operation was answered."""
        self.acknowledged.add(number)
        if self.acknowledged_at_s:
            self.longest_gap_s = max(self.longest_gap_s, now - self.acknowledged_at_s)
        self.acknowledged_at_s = now


class Workload:
    """Writes to agents ``0`` … of the type "tally", at a rate that leaves the machine room.

    Args:
        agents: how many.
        writers: callers of each agent; each waits for its answer before it calls again.
        interval_s: between two calls of a writer.
        timeout_s: of each call.
    """

    def __init__(
        self, client: Client, *, agents: int = 40, writers: int = 2, interval_s: float = 0.2, timeout_s: float = 20.0
    ) -> None:
        self.ledgers = [Ledger(str(key)) for key in range(agents)]
        self._client = client
        self._writers = writers
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._rng = random.Random(0)
        self._stopping = trio.Event()

    @property
    def acknowledged(self) -> int:
        """Operations that were answered so far."""
        return sum(len(ledger.acknowledged) for ledger in self.ledgers)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Write while the block runs; at its end every call that is under way comes to its own end."""
        async with trio.open_nursery() as nursery:
            for ledger in self.ledgers:
                for _ in range(self._writers):
                    nursery.start_soon(self._write, ledger)
            await self.all_answer()
            yield
            self._stopping.set()

    async def all_answer(self, *, keys: Collection[str] | None = None, within_s: float = 30.0) -> float:
        """Wait until the agents have each acknowledged an operation that was begun from now on; how long that took.

        Args:
            keys: of the agents that count; None for all.

        Raises:
            AssertionError: some did not in time.
        """
        begun_s = trio.current_time()
        # A number that nobody calls with marks the moment: those above it are begun later.
        marks = {ledger.key: next(ledger.numbers) for ledger in self.ledgers if keys is None or ledger.key in keys}

        def silent() -> list[str]:
            return [
                ledger.key
                for ledger in self.ledgers
                if ledger.key in marks and max(ledger.acknowledged, default=-1) < marks[ledger.key]
            ]

        with trio.move_on_after(within_s):
            while silent():
                await trio.sleep(0.02)
        assert not silent(), f"agents {silent()} did not answer within {within_s} s: {self.reasons()}"
        return trio.current_time() - begun_s

    def reasons(self) -> list[str]:
        """Why operations were refused, each reason once."""
        return [reason for ledger in self.ledgers for reason in ledger.reasons]

    async def verify(self) -> None:
        """Compare what the agents hold with what the callers were told.

        Raises:
            AssertionError: an acknowledged operation is lost, one took effect twice, or one did whose caller was told
                that nothing changed.
        """
        for ledger in self.ledgers:
            held = await self._client.ref(TallyAgent, ledger.key, timeout_s=VERIFY_TIMEOUT_S).report()
            numbers = held.numbers()
            lost = ledger.acknowledged - numbers
            assert not lost, f"tally/{ledger.key} lost the acknowledged operations {sorted(lost)}"
            assert held.doubled == 0, f"tally/{ledger.key} took {held.doubled} operations twice"
            uncalled = numbers - ledger.acknowledged - ledger.unknown
            assert not uncalled, f"tally/{ledger.key} took operations that were refused: {sorted(uncalled)}"

    async def _write(self, ledger: Ledger) -> None:
        tally = self._client.ref(TallyAgent, ledger.key, timeout_s=self._timeout_s)
        while not self._stopping.is_set():
            with trio.move_on_after(self._interval_s * self._rng.uniform(0.5, 1.5)):
                await self._stopping.wait()
            number = next(ledger.numbers)
            try:
                await tally.record(number)
            except (OutcomeUnknown, TurnTimeout) as error:
                ledger.unknown.add(number)
                ledger.reasons[str(error)] = None
            except Unavailable as error:
                ledger.refused.add(number)
                ledger.reasons[str(error)] = None
            else:
                ledger.acknowledge(number, trio.current_time())
