"""The events to come, and virtual time: the one loop that everything at level 1 runs in."""

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

from simulations.cores.collector import resting_collector

Action = Callable[[Any], object]
"""What an event does, given the argument that was scheduled with it: usually a bound method made once for each node."""


class Timer:
    """An event that may be called off. `EventHeap.at` is cheaper where that is not needed."""

    __slots__ = ("_action", "_argument", "when_s")

    def __init__(self, when_s: float, action: Action, argument: object) -> None:
        self.when_s = when_s
        self._action: Action | None = action
        self._argument = argument

    @property
    def is_pending(self) -> bool:
        """Whether it will still happen."""
        return self._action is not None

    def cancel(self) -> None:
        """It will not happen. Without effect if it has."""
        self._action = None
        self._argument = None

    def fire(self, _: object) -> None:
        """Happen, unless called off."""
        action, argument = self._action, self._argument
        self.cancel()
        if action is not None:
            action(argument)


class EventHeap:
    """Events in the order of their time; those of the same time in the order in which they were scheduled.

    An event is a tuple and no object of its own: with thousands of nodes the heap is the loop's largest cost beside the
    cores. Its size is bounded by what the worlds keep in it: a wake and a message or two for each node, and the faults.

    Attributes:
        now: virtual seconds; the time of the event that runs.
        events: how many have happened.
    """

    __slots__ = ("_events", "_number", "events", "now")

    def __init__(self) -> None:
        self.now = 0.0
        self.events = 0
        self._number = 0
        self._events: list[tuple[float, int, Action, object]] = []

    def __len__(self) -> int:
        return len(self._events)

    @property
    def next_s(self) -> float:
        """When the next event happens; infinite if there is none."""
        return self._events[0][0] if self._events else float("inf")

    def at(self, when_s: float, action: Action, argument: object = None) -> None:
        """Schedule an event. One in the past happens next, without time going back."""
        self._number = number = self._number + 1
        heappush(self._events, (when_s, number, action, argument))

    def timer(self, when_s: float, action: Action, argument: object = None) -> Timer:
        """Schedule an event that may be called off."""
        timer = Timer(when_s, action, argument)
        self.at(when_s, timer.fire)
        return timer

    def run_until(self, end_s: float) -> None:
        """Let everything happen that is due by ``end_s``, which is then the present; see `resting_collector`."""
        events = self._events
        count = 0
        with resting_collector():
            try:
                while events and events[0][0] <= end_s:
                    when_s, _, action, argument = heappop(events)
                    if when_s > self.now:
                        self.now = when_s
                    count += 1
                    action(argument)
            finally:
                self.events += count  # also when an event breaks an invariant
        self.now = max(self.now, end_s)
