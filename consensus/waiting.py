"""What callers wait for: each ends once, with a result, an error, or at its deadline."""

import heapq
from collections import deque
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from consensus.errors import ConsensusError

_PRUNED_AT_MIN: Final = 64


class Waiter:
    """One caller that waits.

    Args:
        deadline: when it is given up.
        wake: called once, with the waiter, when it is settled. It must be quick, and must not raise.
    """

    __slots__ = ("_error", "_result", "_wake", "deadline", "settled")

    def __init__(self, deadline: float, wake: Callable[["Waiter"], None]) -> None:
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
        # Most come in the order of their deadlines, and need no heap. Both also hold settled ones, until these are at
        # the front, or half of all, or their deadline has come.
        self._in_order: deque[W] = deque()
        self._heap: list[tuple[float, int, W]] = []
        self._added = 0
        self._pruned_at = _PRUNED_AT_MIN

    def __len__(self) -> int:
        return len(self._in_order) + len(self._heap)

    def add(self, waiter: W) -> None:
        """One more waits."""
        in_order = self._in_order
        while in_order and in_order[0].settled:
            in_order.popleft()
        if not in_order or in_order[-1].deadline <= waiter.deadline:
            in_order.append(waiter)
        else:
            self._added += 1
            heapq.heappush(self._heap, (waiter.deadline, self._added, waiter))
        if len(self) > self._pruned_at:
            self._in_order = deque([one for one in in_order if not one.settled])
            self._heap = [item for item in self._heap if not item[2].settled]
            heapq.heapify(self._heap)
            self._pruned_at = 2 * len(self) + _PRUNED_AT_MIN

    @property
    def next(self) -> float | None:
        """When to call `due` next. May be the deadline of one that was settled meanwhile."""
        in_order, heap = self._in_order, self._heap
        if in_order and heap:
            return min(in_order[0].deadline, heap[0][0])
        return in_order[0].deadline if in_order else heap[0][0] if heap else None

    def due(self, now: float) -> list[W]:
        """Those whose time is over and that are not settled, the earliest first."""
        found: list[W] = []
        while self._in_order and self._in_order[0].deadline <= now:
            found.append(self._in_order.popleft())
        while self._heap and self._heap[0][0] <= now:
            found.append(heapq.heappop(self._heap)[2])
        return sorted([waiter for waiter in found if not waiter.settled], key=lambda waiter: waiter.deadline)
