"""What callers wait for: each ends once, with a result, an error, or at its deadline."""

import heapq
from collections.abc import Callable
from typing import Generic, TypeVar

from consensus.errors import ConsensusError


class Waiter:
    """One caller that waits.

    Args:
        deadline: when it is given up.
        wake: called once, with the waiter, when it is settled. It must be quick, and must not raise.
    """

    __slots__ = ("_error", "_result", "_wake", "deadline", "settled")

    def __init__(self, *, deadline: float, wake: Callable[["Waiter"], None]) -> None:
        self.deadline = deadline
        self.settled = False
        self._wake = wake
        self._result: object = None
        self._error: ConsensusError | None = None

    def settle(self, result: object = None, *, error: ConsensusError | None = None) -> None:
        """It has ended so."""
        assert not self.settled
        self.settled = True
        self._result = result
        self._error = error
        self._wake(self)

    def outcome(self) -> object:
        """The result. Raises the error if there is one."""
        assert self.settled
        if self._error is not None:
            raise self._error
        return self._result


W = TypeVar("W", bound=Waiter)


class Deadlines(Generic[W]):
    """The deadlines of those that wait; settled ones are forgotten in time, by and by."""

    def __init__(self) -> None:
        # Also holds settled ones, until half are or their deadline has come.
        self._heap: list[tuple[float, int, W]] = []
        self._added = 0
        self._pruned_at = 64

    def add(self, waiter: W) -> None:
        """One more waits."""
        self._added += 1
        heapq.heappush(self._heap, (waiter.deadline, self._added, waiter))
        if len(self._heap) > self._pruned_at:
            self._heap = [item for item in self._heap if not item[2].settled]
            heapq.heapify(self._heap)
            self._pruned_at = 2 * len(self._heap) + 64

    @property
    def next(self) -> float | None:
        """When to call `due` next. May be the deadline of one that was settled meanwhile."""
        return self._heap[0][0] if self._heap else None

    def due(self, now: float) -> list[W]:
        """Those whose time is over and that are not settled, the earliest first."""
        found = []
        while self._heap and self._heap[0][0] <= now:
            waiter = heapq.heappop(self._heap)[2]
            if not waiter.settled:
                found.append(waiter)
        return found
