"""Processes that are killed."""

import functools
import gc
import sys
from collections.abc import AsyncIterator, Awaitable, Callable

import outcome
import pytest
import trio
import trio._core._run as scheduler

from simulations.kernel import Events, Killed, Process, Stalled, simulate

KILLED_AT_S = 1.0

STEPS = 10
"""Some of them before that, some of them later."""

Note = Callable[[str], None]
Situation = Callable[[Note], Awaitable[None]]

# ---- what a process can be in the middle of; each notes what it does, at every step


async def sleeping(note: Note) -> None:
    try:
        for _ in range(STEPS):
            await trio.sleep(0.3)
            note("step")
    finally:
        note("finally")


async def in_a_shielded_scope(note: Note) -> None:
    with trio.CancelScope(shield=True):
        await sleeping(note)


async def with_a_deadline(note: Note) -> None:
    with trio.fail_after(2.0):
        await sleeping(note)


async def waiting_for_an_event(note: Note) -> None:
    event = trio.Event()
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(note_after, event.wait, note)
        await trio.sleep(2.0)
        event.set()


async def waiting_in_a_nursery_for_its_children(note: Note) -> None:
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sleeping, note)
            nursery.start_soon(sleeping, note)
    finally:
        note("finally of the parent")


async def starting_a_task(note: Note) -> None:
    async def start(*, task_status: trio.TaskStatus[None]) -> None:
        await sleeping(note)
        task_status.started()

    async with trio.open_nursery() as nursery:
        await nursery.start(start)


async def in_a_generator(note: Note) -> None:
    async for _ in generate(note, 0.3):
        note("step")


async def behind_the_yield_of_a_generator(note: Note) -> None:
    async for _ in generate(note, 0.0):
        await sleeping(note)


async def generate(note: Note, pause_s: float) -> AsyncIterator[int]:
    try:
        for _ in range(STEPS):
            await trio.sleep(pause_s)
            yield 1
    finally:
        note("finally of the generator")
        await trio.sleep(0.1)
        note("later in the finally of the generator")


async def waiting_for_a_channel(note: Note) -> None:
    sender, receiver = trio.open_memory_channel[int](0)
    async with sender, receiver, trio.open_nursery() as nursery:
        nursery.start_soon(sleeping, note)
        nursery.start_soon(note_after, receiver.receive, note)
        await trio.sleep(2.0)
        await sender.send(1)


async def cleaning_up_already(note: Note) -> None:
    with trio.move_on_after(0.5):
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await sleeping(note)


async def swallowing_everything(note: Note) -> None:
    for _ in range(3):
        try:
            await sleeping(note)
        except BaseException:  # noqa: BLE001 - as no program should, and some do
            note("swallowed")


async def runnable_at_that_moment(note: Note) -> None:
    async def wake() -> None:
        await trio.sleep_until(KILLED_AT_S)
        note("step")

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(wake)


async def note_after(wait: Callable[[], Awaitable[object]], note: Note) -> None:
    try:
        await wait()
        note("step")
    finally:
        note("finally")


SITUATIONS: list[Situation] = [
    sleeping,
    in_a_shielded_scope,
    with_a_deadline,
    waiting_for_an_event,
    waiting_in_a_nursery_for_its_children,
    starting_a_task,
    in_a_generator,
    behind_the_yield_of_a_generator,
    waiting_for_a_channel,
    cleaning_up_already,
    swallowing_everything,
    runnable_at_that_moment,
]

every_situation = pytest.mark.parametrize("situation", SITUATIONS, ids=lambda situation: situation.__name__)


def run_and_kill(situation: Situation, *, in_loops: int = 0) -> list[float]:
    """The times of the notes that the process made until well after its death."""
    events = Events()
    notes: list[float] = []

    def note(_what: str) -> None:
        notes.append(events.now)

    async def program() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(in_loops):
                loop = process.open_loop(f"loop {number}")
                loop.spawn(nursery, lambda: situation(note), loop.name)
            await situation(note)

    process = Process(events, name="victim", on_end=lambda _ended: note("end"))

    async def main() -> list[float]:
        async with trio.open_nursery() as nursery:
            process.start(nursery, program)
            events.at(KILLED_AT_S, process.kill)
            await trio.sleep_until(KILLED_AT_S)
        assert not process.is_alive
        await trio.sleep(5.0)
        return list(notes)

    return simulate(main, events=events, seed=1)


@every_situation
def test_a_killed_process_takes_no_further_step_and_cleans_nothing_up(situation: Situation) -> None:
    assert all(at_s <= KILLED_AT_S for at_s in run_and_kill(situation))


@every_situation
def test_no_loop_of_a_killed_process_takes_a_further_step(situation: Situation) -> None:
    assert all(at_s <= KILLED_AT_S for at_s in run_and_kill(situation, in_loops=2))


def test_the_situations_would_make_notes_if_nobody_was_killed() -> None:
    for situation in SITUATIONS:
        events = Events()
        notes: list[float] = []

        async def main(situation: Situation = situation, notes: list[float] = notes, events: Events = events) -> None:
            await situation(lambda _what: notes.append(events.now))

        try:
            simulate(main, events=events, seed=1)
        except* trio.TooSlowError:
            pass
        assert any(at_s >= KILLED_AT_S for at_s in notes), situation


def test_tasks_that_an_event_makes_runnable_and_then_kills_take_no_step() -> None:
    events = Events()
    wake = trio.Event()
    notes: list[str] = []

    async def program() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(note_after, wake.wait, notes.append)

    process = Process(events, name="victim")

    def wake_and_kill() -> None:
        wake.set()
        process.kill()

    async def main() -> list[str]:
        async with trio.open_nursery() as nursery:
            process.start(nursery, program)
            events.at(1.0, wake_and_kill)
        return list(notes)

    assert simulate(main, events=events, seed=1) == []


def test_a_process_may_be_killed_before_its_first_step() -> None:
    events = Events()
    notes: list[str] = []

    async def program() -> None:
        notes.append("begun")

    process = Process(events, name="victim")

    async def main() -> None:
        async with trio.open_nursery() as nursery:

            def start_and_kill() -> None:
                process.start(nursery, program)
                process.kill()

            events.at(1.0, start_and_kill)
            await trio.sleep(2.0)

    simulate(main, events=events, seed=1)
    assert notes == []


def test_what_others_started_in_a_nursery_of_the_process_ends_with_it() -> None:
    events = Events()
    notes: list[str] = []

    async def main() -> tuple[float, list[str]]:
        async with trio.open_nursery() as nursery:
            process = Process(events, name="victim")
            opened: list[trio.Nursery] = []
            wakes = trio.Event()

            async def program() -> None:
                async with trio.open_nursery() as inner:
                    opened.append(inner)
                    await trio.sleep_forever()

            async def parent() -> None:
                async with trio.open_nursery() as own:
                    own.start_soon(note_after, wakes.wait, notes.append)

            def wake_and_kill() -> None:
                wakes.set()
                process.kill()

            process.start(nursery, program)
            await trio.sleep(0.5)
            opened[0].start_soon(parent)
            opened[0].start_soon(sleeping, notes.append)
            events.at(KILLED_AT_S, wake_and_kill)
        return trio.current_time(), list(notes)

    assert simulate(main, events=events, seed=1) == (KILLED_AT_S, ["step"])


# ---- the others


def test_the_nursery_of_a_killed_process_goes_on_with_its_other_tasks() -> None:
    events = Events()
    notes: list[str] = []

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            victim = Process(events, name="victim")
            other = Process(events, name="other")
            victim.start(nursery, lambda: sleeping(lambda _what: None))
            other.start(nursery, lambda: note_after(functools.partial(trio.sleep, 2.0), notes.append))
            events.at(1.0, victim.kill)
            await trio.sleep(1.5)
            nursery.start_soon(note_after, trio.lowlevel.checkpoint, notes.append)
        notes.append("over")

    simulate(main, events=events, seed=1)
    assert notes == ["step", "finally", "step", "finally", "over"]


def test_a_nursery_without_other_tasks_ends_when_its_process_is_killed() -> None:
    events = Events()

    async def main() -> float:
        async with trio.open_nursery() as nursery:
            process = Process(events, name="victim")
            process.start(nursery, lambda: with_a_deadline(lambda _what: None))
            events.at(1.0, process.kill)
        return trio.current_time()

    assert simulate(main, events=events, seed=1) == 1.0


def test_what_is_cancelled_after_the_death_ends_in_order() -> None:
    events = Events()
    notes: list[str] = []

    async def main() -> list[str]:
        async with trio.open_nursery() as nursery:
            process = Process(events, name="victim")
            for situation in (sleeping, with_a_deadline, in_a_shielded_scope):
                process.start(nursery, lambda situation=situation: situation(notes.append))  # type: ignore[misc]
            events.at(0.1, process.kill)
            nursery.start_soon(sleeping, lambda _what: None)
            await trio.sleep(1.0)
            nursery.cancel_scope.cancel()
        assert nursery.cancel_scope.cancel_called
        return list(notes)

    assert simulate(main, events=events, seed=1) == []


def test_a_world_whose_processes_are_all_dead_is_stalled_though_they_had_deadlines() -> None:
    events = Events()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            process = Process(events, name="victim")
            process.start(nursery, lambda: with_a_deadline(lambda _what: None))
            events.at(1.0, process.kill)
            await trio.sleep_forever()

    with pytest.raises(trio.TrioInternalError) as raised:
        simulate(main, events=events, seed=1)
    assert isinstance(raised.value.__cause__, Stalled)
    assert events.now == 1.0


def test_the_scopes_of_the_dead_do_not_pile_up_in_those_of_the_living() -> None:
    events = Events()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(5):
                process = Process(events, name=f"life {number}")
                process.start(nursery, lambda: with_a_deadline(lambda _what: None))
                process.start(nursery, lambda: waiting_in_a_nursery_for_its_children(lambda _what: None))
                events.after(1.0, process.kill)
                await trio.sleep(2.0)
            status = nursery._cancel_status
            assert len(status._children) == 0
            assert list(status._tasks) == [trio.lowlevel.current_task()]
            assert scheduler.GLOBAL_RUN_CONTEXT.runner.deadlines._active == 0
            assert not nursery.child_tasks

    simulate(main, events=events, seed=1)


def test_nobody_can_cancel_what_the_dead_wait_for() -> None:
    events = Events()
    scope = trio.CancelScope()
    aborted: list[bool] = []

    def abort(_raise_cancel: object) -> trio.lowlevel.Abort:
        aborted.append(True)
        return trio.lowlevel.Abort.SUCCEEDED

    async def program() -> None:
        with scope:
            await trio.lowlevel.wait_task_rescheduled(abort)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            process = Process(events, name="victim")
            process.start(nursery, program)
            events.at(1.0, process.kill)
        scope.cancel()
        await trio.sleep(1.0)

    simulate(main, events=events, seed=1)
    assert aborted == []


def test_a_second_death_changes_nothing() -> None:
    events = Events()
    told: list[str] = []

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            process = Process(events, name="victim", on_end=lambda _ended: told.append("end"))
            process.on_kill(lambda: told.append("kill"))
            process.start(nursery, trio.sleep_forever)
            events.at(1.0, process.kill)
            events.at(1.0, process.kill)
            events.at(2.0, process.kill)
            await trio.sleep(3.0)

    simulate(main, events=events, seed=1)
    assert told == ["kill"]


def test_only_events_may_kill() -> None:
    events = Events()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            process = Process(events, name="victim")
            process.start(nursery, trio.sleep_forever)
            with pytest.raises(AssertionError, match="of this moment"):
                process.kill()
            nursery.cancel_scope.cancel()

    simulate(main, events=events, seed=1)


# ---- deaths from within


@pytest.mark.parametrize("is_in_a_nursery", [False, True])
def test_a_step_that_raises_killed_ends_the_process_as_a_kill_does(is_in_a_nursery: bool) -> None:
    events = Events()
    told: list[str] = []

    async def die() -> None:
        await trio.sleep(1.0)
        raise Killed

    async def program() -> None:
        if not is_in_a_nursery:
            await die()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(die)
            nursery.start_soon(trio.sleep_forever)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            process = Process(events, name="victim", on_end=lambda _ended: told.append("end"))
            process.on_kill(lambda: told.append("kill"))
            process.start(nursery, program)
        assert not process.is_alive

    simulate(main, events=events, seed=1)
    assert told == ["kill"]
    assert events.now == 1.0


def test_a_process_that_ends_by_itself_tells_how_and_is_not_killed_later() -> None:
    events = Events()
    ends: list[outcome.Outcome[object]] = []
    killed: list[bool] = []

    async def succeed() -> int:
        await trio.sleep(1.0)
        return 7

    async def fail() -> None:
        raise LookupError("of the program")

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for program in (succeed, fail):
                process = Process(events, name="short", on_end=ends.append)
                process.on_kill(lambda: killed.append(True))
                process.start(nursery, program)
                events.at(2.0, process.kill)
            await trio.sleep(3.0)

    simulate(main, events=events, seed=1)
    failed, succeeded = ends
    assert succeeded.unwrap() == 7
    with pytest.raises(LookupError, match="of the program"):
        failed.unwrap()
    assert killed == []


# ---- what is left


def complaints_of(action: Callable[[], object]) -> list[object]:
    """What Python could not raise anywhere, until all garbage of it is collected."""
    complaints: list[object] = []
    hook = sys.unraisablehook
    sys.unraisablehook = complaints.append
    try:
        action()
        gc.collect()
        gc.collect()
    finally:
        sys.unraisablehook = hook
    return complaints


@every_situation
def test_nothing_is_left_to_complain_about_after_a_death(situation: Situation) -> None:
    assert complaints_of(lambda: run_and_kill(situation, in_loops=1)) == []


@every_situation
def test_nothing_is_left_to_complain_about_after_a_run_that_broke_down(situation: Situation) -> None:
    def run() -> None:
        events = Events()

        def fail() -> None:
            raise LookupError("of the event")

        events.at(0.9 * KILLED_AT_S, fail)
        with pytest.raises(trio.TrioInternalError):
            simulate(lambda: situation(lambda _what: None), events=events, seed=1)

    assert complaints_of(run) == []


def test_fifty_runs_leave_as_much_behind_as_one() -> None:
    def run_all() -> int:
        for situation in SITUATIONS:
            run_and_kill(situation, in_loops=1)
        gc.collect()
        return len(gc.get_objects())

    run_all()
    before = run_all()
    for _ in range(50 // len(SITUATIONS)):
        after = run_all()
    assert after <= before + 10
