"""Runs an async function in virtual time."""

import math
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import trio
import trio._core._run as scheduler

from simulations.kernel.escapes import Guard
from simulations.kernel.events import Events
from simulations.kernel.garbage import YOUNG_MOMENTS, collect_garbage, orderly_garbage
from simulations.kernel.ordering import ordered
from simulations.kernel.process import processes

T = TypeVar("T")

LOOKS_MAX = 20
"""How often in a row no time has passed until it never will: what is always due never ends."""


class Stalled(Exception):
    """Every task waits and nothing is going to happen any more, or something is always due and no time passes."""


class VirtualClock(trio.abc.Clock):
    """Time as `Events` has it: it passes only while no task can run."""

    def __init__(self, events: Events, guard: Guard) -> None:
        self._events = events
        self._guard = guard
        self._moments = 0
        self._looks = 0
        self._looked_at_s = 0.0
        self._tasks: Iterable[scheduler.Task] = ()

    def start_clock(self) -> None:
        self._runner = scheduler.GLOBAL_RUN_CONTEXT.runner
        self._tasks = self._runner.tasks

    def current_time(self) -> float:
        return self._events.now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Let things happen until a task can run; trio never waits for real."""
        self._guard.check()
        events, runner = self._events, self._runner
        entries = runner.entry_queue
        self._moments += 1
        if not self._moments % YOUNG_MOMENTS:
            collect_garbage(self._moments)
        while not runner.runq:
            if entries.queue or entries.idempotent_queue or runner.waiting_for_idle:
                break  # trio has something to do by itself, as at the end of a run
            at_s = events.next_at()
            if deadline <= at_s:
                if deadline == math.inf:
                    raise Stalled("every task waits, and no event is scheduled")
                events.now = max(events.now, deadline)
                break
            events.happen()
            deadline = runner.deadlines.next_deadline()  # it may have been moved
        return 0.0

    def check_progress(self, runnable: Iterable[scheduler.Task]) -> None:
        """To be called now and then.

        Raises:
            Stalled: no time has passed between many calls.
        """
        now = self._events.now
        self._looks = self._looks + 1 if now == self._looked_at_s else 0
        self._looked_at_s = now
        if self._looks == LOOKS_MAX:
            names = ", ".join(sorted({task.name for task in runnable}))
            raise Stalled(f"no time passes at {now} s, since something is always due: {names}")

    def unfinished(self) -> list[scheduler.Task]:
        """What is left of a run that broke down."""
        return list(self._tasks)


def simulate(main: Callable[[], Awaitable[T]], *, events: Events, seed: int) -> T:
    """Run ``main`` to its end in virtual time; the same seed gives the same run.

    Raises:
        Escaped: something in it reached past the simulated world.
        RuntimeError: trio runs in this thread already.
        Stalled: inside a `trio.TrioInternalError`, when nothing can happen any more, or no time passes any more.
        UnverifiedTrio: see `simulations.kernel.ordering`.
    """
    if trio.lowlevel.in_trio_run():
        raise RuntimeError("a simulation can't be run from inside trio: call simulate() from outside of any trio.run()")
    guard = Guard()
    clock = VirtualClock(events, guard)

    async def run() -> T:
        try:
            with guard.watching():
                return await main()
        finally:
            # Those of killed processes must not be finalized: their cleaning up would wait for the dead.
            generators = scheduler.GLOBAL_RUN_CONTEXT.runner.asyncgens.alive
            dead.extend(generators)
            generators.clear()

    with ordered(seed), orderly_garbage(), processes() as dead:
        try:
            return trio.run(run, clock=clock)
        finally:
            dead.extend(clock.unfinished())
            guard.check()
