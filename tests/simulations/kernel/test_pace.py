"""Processes that are stopped after some steps, paused, or slow."""

import itertools
from collections.abc import Awaitable, Callable

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from simulations.kernel import Events, Process, simulate
from simulations.kernel.process import current_process

TASKS = 3
STEPS = 4
BEGIN_S = 1.0


class Marchers:
    """A process whose tasks take steps from `BEGIN_S` on, each of which is noted, and another one beside it."""

    def __init__(self, *, loops: int = 0) -> None:
        self.events = Events()
        self.process = Process(self.events, name="marchers")
        self.steps: list[tuple[float, str]] = []
        self.others: list[tuple[float, str]] = []
        self._loops = loops
        self._begin = trio.Event()

    def run(self, *plan: tuple[float, Callable[[], object]], seed: int = 1, until_s: float = 20.0) -> None:
        """Let events happen at times, those of one time in their order."""

        async def main() -> None:
            with trio.move_on_after(until_s):
                async with trio.open_nursery() as nursery:
                    self.process.start(nursery, self._program)
                    bystander = Process(self.events, name="bystander")
                    bystander.start(nursery, self._stand_by)
                    for time_s, action in plan:
                        self.events.at(time_s, action)
                    self.events.at(BEGIN_S, self._begin.set)
            self.events.after(0.0, self.process.kill)
            await trio.sleep(1.0)

        simulate(main, events=self.events, seed=seed)

    def names(self) -> list[str]:
        """Who took the steps."""
        return [name for _time_s, name in self.steps]

    async def _program(self) -> None:
        async with trio.open_nursery() as nursery:
            for number in range(TASKS):
                nursery.start_soon(self._march, f"main {number}", self.steps)
            for loop_number in range(self._loops):
                loop = self.process.open_loop(f"loop {loop_number}")
                for number in range(TASKS):
                    name = f"{loop.name} {number}"
                    loop.spawn(nursery, lambda name=name: self._march(name, self.steps), name)  # type: ignore[misc]

    async def _stand_by(self) -> None:
        await self._march("bystander", self.others)

    async def _march(self, name: str, steps: list[tuple[float, str]]) -> None:
        await self._begin.wait()
        for _ in range(STEPS):
            steps.append((self.events.now, name))
            await trio.lowlevel.checkpoint()
        await trio.sleep(1.0)
        steps.append((self.events.now, name))


# ---- steps that are counted


@given(steps=st.integers(1, TASKS * STEPS), seed=st.integers(0, 9), loops=st.integers(0, 1))
def test_a_process_is_killed_at_exactly_the_step_it_was_allowed_to_take_last(steps: int, seed: int, loops: int) -> None:
    whole = Marchers(loops=loops)
    whole.run(seed=seed)
    cut = Marchers(loops=loops)
    told: list[float] = []
    cut.process.on_kill(lambda: told.append(cut.events.now))
    cut.run((BEGIN_S, lambda: setattr(cut.process, "steps_left", steps)), seed=seed)
    assert cut.names() == whole.names()[:steps]
    assert told == [BEGIN_S]
    assert not cut.process.is_alive
    assert [time_s for time_s, _name in cut.others] == [BEGIN_S] * STEPS + [BEGIN_S + 1.0]


def test_steps_that_are_runnable_already_count_too() -> None:
    marchers = Marchers()

    def wake_and_count() -> None:
        marchers._begin.set()
        marchers.process.steps_left = 2

    marchers.run((BEGIN_S, wake_and_count))
    assert len(marchers.steps) == 2


def test_steps_of_a_paused_process_count_when_they_are_taken() -> None:
    marchers = Marchers()
    process = marchers.process
    marchers.run(
        (0.5, process.pause),
        (2.0, lambda: setattr(process, "steps_left", 2)),
        (3.0, process.resume),
    )
    assert [time_s for time_s, _name in marchers.steps] == [3.0, 3.0]


def test_a_count_may_be_changed_and_called_off() -> None:
    marchers = Marchers()
    process = marchers.process
    marchers.run(
        (0.5, lambda: setattr(process, "steps_left", 5)),
        (0.6, lambda: setattr(process, "steps_left", 2)),
        (0.7, lambda: setattr(process, "steps_left", None)),
    )
    assert len(marchers.steps) == TASKS * (STEPS + 1)
    assert process.steps_left is None


def test_steps_that_were_to_be_counted_are_taken_when_it_is_called_off() -> None:
    marchers = Marchers()

    def count_and_call_off() -> None:
        marchers.process.steps_left = 1
        marchers._begin.set()
        marchers.process.steps_left = None

    marchers.run((BEGIN_S, count_and_call_off))
    assert len(marchers.steps) == TASKS * (STEPS + 1)


def test_a_count_that_has_run_out_is_not_called_off() -> None:
    marchers = Marchers()
    process = marchers.process

    left: list[int | None] = []

    def call_off() -> None:
        process.steps_left = None
        left.append(process.steps_left)

    marchers.run(
        (BEGIN_S, lambda: setattr(process, "steps_left", 1)),
        (BEGIN_S, marchers._begin.set),
        (BEGIN_S, call_off),
    )
    # The event that calls it off comes after the step, and before that of the death.
    assert len(marchers.steps) == 1
    assert left == [0]
    assert not process.is_alive


@pytest.mark.parametrize("steps", [0, -1])
def test_a_count_of_no_steps_is_refused(steps: int) -> None:
    with pytest.raises(ValueError, match=f"{steps}.*or kill"):
        Process(Events(), name="p").steps_left = steps


# ---- pauses


def test_nothing_runs_in_a_paused_process_and_everything_runs_afterwards() -> None:
    marchers = Marchers(loops=1)
    marchers.run((0.5, marchers.process.pause), (5.0, marchers.process.resume))
    assert {time_s for time_s, _name in marchers.steps} == {5.0, 6.0}
    assert len(marchers.steps) == 2 * TASKS * (STEPS + 1)
    assert {time_s for time_s, _name in marchers.others} == {BEGIN_S, BEGIN_S + 1.0}


def test_a_loop_may_be_paused_alone() -> None:
    marchers = Marchers(loops=1)
    main = marchers.process.main
    marchers.run((0.5, main.pause), (5.0, main.resume))
    by_loop = {loop: {time_s for time_s, name in marchers.steps if name.startswith(loop)} for loop in ("main", "loop")}
    assert by_loop == {"main": {5.0, 6.0}, "loop": {1.0, 2.0}}


def test_deadlines_that_passed_in_a_pause_have_passed() -> None:
    assert run_with_a_timeout((0.5, Process.pause), (5.0, Process.resume)) == [(5.0, "timed out")]
    assert run_with_a_timeout() == [(2.0, "timed out")]


def run_with_a_timeout(*plan: tuple[float, Callable[[Process], object]]) -> list[tuple[float, str]]:
    events = Events()
    process = Process(events, name="p")
    seen: list[tuple[float, str]] = []

    async def program() -> None:
        with trio.move_on_after(2.0) as scope:
            await trio.sleep(10.0)
        seen.append((events.now, "timed out" if scope.cancelled_caught else "slept"))

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            process.start(nursery, program)
            for time_s, action in plan:
                events.at(time_s, lambda action=action: action(process))  # type: ignore[misc]

    simulate(main, events=events, seed=1)
    return seen


def test_a_pause_between_two_steps_of_one_moment_lasts_from_there_on() -> None:
    marchers = Marchers()
    plain = Marchers()
    plain.run()

    def pause_after_the_wake_up() -> None:
        marchers._begin.set()
        marchers.process.pause()

    marchers.run((BEGIN_S, pause_after_the_wake_up), (5.0, marchers.process.resume))
    assert {time_s for time_s, _name in marchers.steps} == {5.0, 6.0}
    assert sorted(marchers.names()) == sorted(plain.names())


def test_a_process_that_is_paused_twice_is_resumed_once() -> None:
    marchers = Marchers()
    process = marchers.process
    marchers.run((0.5, process.pause), (0.6, process.pause), (5.0, process.resume), (6.5, process.resume))
    assert {time_s for time_s, _name in marchers.steps} == {5.0, 6.0}
    assert len(marchers.steps) == TASKS * (STEPS + 1)


def test_to_resume_what_is_not_paused_changes_nothing() -> None:
    marchers, plain = Marchers(), Marchers()
    plain.run()
    marchers.run((0.5, marchers.process.resume), (1.5, marchers.process.main.resume))
    assert marchers.steps == plain.steps


def test_a_paused_process_can_be_killed_and_not_resumed_then() -> None:
    marchers = Marchers(loops=1)
    process = marchers.process
    marchers.run((0.5, process.pause), (2.0, process.kill), (3.0, process.resume), (4.0, process.pause))
    assert marchers.steps == []
    assert not process.is_alive


def test_a_process_can_be_paused_again_and_again() -> None:
    marchers = Marchers()
    process = marchers.process
    marchers.run(
        (0.5, process.pause), (2.0, process.resume), (2.5, process.pause), (7.0, process.resume), (7.0, process.pause)
    )
    assert {time_s for time_s, _name in marchers.steps} == {2.0, 7.0}


# ---- slow processes


@given(step_s=st.sampled_from([0.001, 0.01, 0.1]), seed=st.integers(0, 3))
def test_steps_of_a_slow_process_take_their_time(step_s: float, seed: int) -> None:
    slow, fast = Marchers(), Marchers()
    fast.run(seed=seed)
    slow.process.step_s = step_s
    slow.run(seed=seed)
    assert sorted(slow.names()) == sorted(fast.names())
    for number, (time_s, _name) in enumerate(slow.steps, 1):
        # Up to a batch of steps comes at once, when the first of them is due.
        assert time_s >= BEGIN_S + (number - TASKS) * step_s
    assert slow.steps[-1][0] >= BEGIN_S + 1.0 + TASKS * STEPS * step_s - TASKS * step_s
    assert fast.others == slow.others


@pytest.mark.parametrize(("pause_s", "resume_s"), [(1.05, 5.0), (1.03, 1.06)])
def test_the_end_of_a_pause_does_not_make_a_slow_process_fast(pause_s: float, resume_s: float) -> None:
    slow = Marchers()
    slow.process.step_s = 0.1
    slow.run((pause_s, slow.process.pause), (resume_s, slow.process.resume))
    late = [time_s for time_s, _name in slow.steps if time_s > pause_s]
    assert min(late) >= max(resume_s, 1.1)
    assert len(slow.steps) == TASKS * (STEPS + 1)
    assert all(after - before >= 0.1 - 1e-9 for before, after in itertools.pairwise(sorted(set(late))))


def test_a_slow_process_can_be_killed_with_steps_to_take() -> None:
    slow = Marchers()
    slow.process.step_s = 0.1
    slow.run((1.25, slow.process.kill))
    assert slow.steps
    assert all(time_s <= 1.25 for time_s, _name in slow.steps)
    assert len(slow.steps) < TASKS * STEPS


def test_a_process_may_be_slow_for_a_time() -> None:
    marchers = Marchers()
    process = marchers.process
    marchers.run((0.5, lambda: setattr(process, "step_s", 0.1)), (1.25, lambda: setattr(process, "step_s", 0.0)))
    assert len(marchers.steps) == TASKS * (STEPS + 1)
    assert marchers.steps[-1][0] < 3.0


# ---- loops


def test_tasks_belong_to_the_loop_of_the_task_that_starts_them() -> None:
    events = Events()
    process = Process(events, name="p")
    steps: list[tuple[float, str]] = []

    async def tick(name: str) -> None:
        for _ in range(3):
            await trio.sleep(1.0)
            assert current_process() is process
            steps.append((events.now, name))

    async def branch(name: str) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tick, name)

    async def program() -> None:
        other = process.open_loop("other")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(branch, "main")
            start: Callable[[], Awaitable[None]] = lambda: branch("other")  # noqa: E731
            other.spawn(nursery, start, "other")

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            process.start(nursery, program)
            events.at(0.5, lambda: process.loops[1].pause())
            events.at(9.5, lambda: process.loops[1].resume())
            assert current_process() is None

    simulate(main, events=events, seed=1)
    assert [time_s for time_s, name in steps if name == "main"] == [1.0, 2.0, 3.0]
    assert [time_s for time_s, name in steps if name == "other"] == [9.5, 10.5, 11.5]
