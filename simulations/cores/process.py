"""What a process is in a world of cores: a clock of its own, and an end in the middle of what it does."""

from simulations.cores.faults import FOREVER
from simulations.cores.heap import EventHeap


class ProcessKilled(Exception):
    """Raised inside a process where it dies, so that nothing after that point happens."""


class LocalClock:
    """The clock of a node, at a rate of its own. It never falls, whatever rounding makes of a rate.

    Attributes:
        rate: local seconds per virtual second.
    """

    __slots__ = ("_heap", "_latest_s", "rate")

    def __init__(self, heap: EventHeap) -> None:
        self.rate = 1.0
        self._heap = heap
        self._latest_s = 0.0

    def now_s(self) -> float:
        """The local time."""
        if self.rate == 1.0:
            return self._heap.now
        self._latest_s = max(self._latest_s, self._heap.now * self.rate)
        return self._latest_s

    def has_come(self, planned_s: float) -> None:
        """The event that was planned for this local time happens: it is at least that time."""
        if self.rate != 1.0:
            self._latest_s = max(self._latest_s, planned_s)

    def virtual_s(self, local_s: float) -> float:
        """The virtual time of a local one to come."""
        return local_s / self.rate


class Fuse:
    """Counts the effects that a process still performs; as a rule it does not burn.

    Attributes:
        effects_left: before the process dies.
    """

    __slots__ = ("effects_left",)

    def __init__(self) -> None:
        self.effects_left = FOREVER

    @property
    def is_lit(self) -> bool:
        """Whether the process is to die."""
        return self.effects_left != FOREVER

    def burn(self) -> None:
        """One more effect is about to be performed.

        Raises:
            ProcessKilled: not any more.
        """
        if self.effects_left <= 0:
            raise ProcessKilled
        self.effects_left -= 1
