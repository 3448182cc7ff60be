"""A run in which much happens at once, and what it did in which order. As a program, it prints that as a hash.

Usage: ``python -m tests.simulations.kernel.scenario SEED JUNK``
"""

import hashlib
import random
import sys
import warnings
from collections.abc import AsyncIterator

import trio

from simulations.kernel import Events, Process, simulate
from simulations.kernel.garbage import YOUNG_MOMENTS

TASKS = 12


class Scenario:
    """Each part does something that trio leaves to chance or to addresses.

    Args:
        junk: how many objects to allocate now and then, so that everything else is elsewhere in memory.
    """

    def __init__(self, seed: int, *, junk: int = 0) -> None:
        self.steps: list[str] = []
        self._seed = seed
        self._junk = junk
        self._kept: list[list[object]] = []
        self._rng = random.Random(junk)

    def run(self) -> list[str]:
        """What happened, in order."""
        events = Events()
        simulate(lambda: self._main(events), events=events, seed=self._seed)
        return self.steps

    def _litter(self) -> None:
        """Leave holes of all sizes in memory, and let the collector of garbage see more allocations than before."""
        made: list[object] = [bytes(self._rng.randrange(500)) for _ in range(20 * self._junk)]
        made += [[number] for number in range(self._junk)]
        self._rng.shuffle(made)
        self._kept.append(made[: self._junk // 2])

    async def _main(self, events: Events) -> None:
        for part in (
            self._cancel_a_nursery,
            self._cancel_nested_scopes,
            self._expire_deadlines_that_tie,
            self._wake_from_an_event,
            self._move_started_tasks,
            self._crowd_a_limiter,
            self._leave_generators_behind,
        ):
            self._litter()
            self.steps.append(part.__name__)
            await part()
        await self._kill_one_of_several(events)

    async def _wait(self, name: str) -> None:
        def abort(_raise_cancel: object) -> trio.lowlevel.Abort:
            self.steps.append(f"cancel {name}")
            return trio.lowlevel.Abort.SUCCEEDED

        try:
            await trio.lowlevel.wait_task_rescheduled(abort)
        finally:
            self._litter()
            self.steps.append(name)

    async def _cancel_a_nursery(self) -> None:
        async with trio.open_nursery() as nursery:
            for number in range(TASKS):
                nursery.start_soon(self._wait, f"child {number}")
            await trio.sleep(1.0)
            nursery.cancel_scope.cancel()

    async def _cancel_nested_scopes(self) -> None:
        async def nested(number: int) -> None:
            with trio.CancelScope(), trio.CancelScope():
                await self._wait(f"nested {number}")

        async with trio.open_nursery() as nursery:
            for number in range(TASKS):
                nursery.start_soon(nested, number)
            await trio.sleep(1.0)
            nursery.cancel_scope.cancel()

    async def _expire_deadlines_that_tie(self) -> None:
        at_s = trio.current_time() + 1.0

        async def sleep(number: int) -> None:
            with trio.CancelScope(deadline=at_s):
                await self._wait(f"deadline {number}")

        async with trio.open_nursery() as nursery:
            for number in range(TASKS):
                nursery.start_soon(sleep, number)

    async def _wake_from_an_event(self) -> None:
        event = trio.Event()

        async def wait(number: int) -> None:
            await event.wait()
            self.steps.append(f"event {number}")

        async with trio.open_nursery() as nursery:
            for number in range(TASKS):
                nursery.start_soon(wait, number)
            await trio.sleep(1.0)
            event.set()

    async def _move_started_tasks(self) -> None:
        async def start(number: int, *, task_status: trio.TaskStatus[None]) -> None:
            async with trio.open_nursery() as inner:
                for letter in "abc":
                    inner.start_soon(self._wait, f"started {number}{letter}")
                await trio.lowlevel.checkpoint()
                task_status.started()

        async with trio.open_nursery() as nursery:
            for number in range(4):
                await nursery.start(start, number)
            nursery.cancel_scope.cancel()

    async def _crowd_a_limiter(self) -> None:
        limiter = trio.CapacityLimiter(2)

        async def crowd(number: int) -> None:
            async with limiter:
                await trio.lowlevel.checkpoint()
                self.steps.append(f"limiter {number}")

        async with trio.open_nursery() as nursery:
            for number in range(TASKS):
                nursery.start_soon(crowd, number)

    async def _leave_generators_behind(self) -> None:
        """Garbage in cycles, whose cleaning up is a task."""

        async def generate(number: int) -> AsyncIterator[int]:
            try:
                yield number
            finally:
                self.steps.append(f"generator {number}")

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            for number in range(2 * YOUNG_MOMENTS):
                generator = generate(number)
                cycle: list[object] = [generator]
                cycle.append(cycle)
                await anext(generator)
                del generator, cycle
                await trio.sleep(0.01)
                if not number % 100:
                    self._litter()

    async def _kill_one_of_several(self, events: Events) -> None:
        processes = [Process(events, name=f"p{number}") for number in range(3)]

        def program(number: int) -> None:
            async def root() -> None:
                async with trio.open_nursery() as inner:
                    for letter in "abc":
                        inner.start_soon(self._tick, f"process {number}{letter}")

            processes[number].start(nursery, root)

        async with trio.open_nursery() as nursery:
            for number in range(3):
                program(number)
            events.after(2.5, processes[1].kill)

    async def _tick(self, name: str) -> None:
        for _ in range(5):
            await trio.sleep(1.0)
            self.steps.append(name)


if __name__ == "__main__":
    what = "\n".join(Scenario(int(sys.argv[1]), junk=int(sys.argv[2])).run())
    sys.stdout.write(hashlib.sha256(what.encode()).hexdigest())
