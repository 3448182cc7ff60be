"""What is going to happen, by virtual time."""

import math
from collections.abc import Callable
from heapq import heappop, heappush


class Handle:
    """A scheduled event, to be called off."""

    __slots__ = ("action",)

    def __init__(self, action: Callable[[], object]) -> None:
        self.action: Callable[[], object] | None = action

    def cancel(self) -> None:
        """Nothing happens at its time. Once it has happened this does nothing."""
        self.action = None


class Events:
    """A heap of events; those of one moment happen in the order in which they were scheduled."""

    def __init__(self) -> None:
        self.now = 0.0
        """Virtual seconds since the world began."""
        self.happened = 0
        """How many events have happened."""
        self._heap: list[tuple[float, int, Handle]] = []
        self._scheduled = 0

    def at(self, time_s: float, action: Callable[[], object]) -> Handle:
        """Schedule ``action`` for a time; one that has passed is now."""
        handle = Handle(action)
        self._scheduled += 1
        heappush(self._heap, (max(time_s, self.now), self._scheduled, handle))
        return handle

    def after(self, delay_s: float, action: Callable[[], object]) -> Handle:
        """Schedule ``action`` for ``delay_s`` from now."""
        return self.at(self.now + delay_s, action)

    def next_at(self) -> float:
        """When the next event happens; infinity if there is none."""
        heap = self._heap
        while heap and heap[0][2].action is None:
            heappop(heap)
        return heap[0][0] if heap else math.inf

    def happen(self) -> None:
        """Move to the next event and let it happen. There must be one: see `next_at`."""
        self.now, _, handle = heappop(self._heap)
        action, handle.action = handle.action, None
        assert action is not None
        self.happened += 1
        action()
