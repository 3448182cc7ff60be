"""When the faults of a plan begin and end."""

import functools
from collections.abc import Callable

from simulations.cores.faults import FOREVER
from simulations.kernel import Handle
from simulations.mesh.cluster import Cluster

Action = Callable[[], object]


class Schedule:
    """What is going to happen to a cluster, in the time of its plan: 0 is when this is made."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._events = cluster.events
        self._begin_s = self._events.now
        # As many as the plan has faults, and one more for each that flaps or undoes itself.
        self._pending: list[Handle] = []

    @property
    def now_s(self) -> float:
        """Seconds since the plan began."""
        return self._events.now - self._begin_s

    def at(self, at_s: float, name: str, action: Action) -> None:
        """A fault strikes then, and is counted by its name."""

        def strike() -> None:
            self.count(name)
            action()

        self._pending.append(self._events.at(self._begin_s + at_s, strike))

    def after(self, delay_s: float, action: Action) -> None:
        """Something else happens, so long from now; never, if that is for ever."""
        if delay_s != FOREVER:
            self._pending.append(self._events.after(delay_s, action))

    def during(self, name: str, at_s: float, for_s: float, begin: Action, end: Action) -> None:
        """A fault strikes then, and is over after so long."""

        def strike() -> None:
            begin()
            self.after(for_s, end)

        self.at(at_s, name, strike)

    def until(self, is_so: Callable[[], bool], poll_s: float, action: Action) -> None:
        """Something happens as soon as something else is so."""
        if is_so():
            action()
        else:
            self.after(poll_s, functools.partial(self.until, is_so, poll_s, action))

    def count(self, name: str) -> None:
        """A fault struck."""
        self._cluster.fired[name] += 1
        self._cluster.trace.note(self._events.now, "fault", name)

    def cancel(self) -> None:
        """Whatever has not happened yet does not happen."""
        for handle in self._pending:
            handle.cancel()
        self._pending.clear()
