"""Runs in virtual time."""

import asyncio
import functools
import math
import signal
from collections.abc import Iterator

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from simulations.kernel import Events, Stalled, run, simulate

A_YEAR_S = 3.2e7


def test_a_run_returns_what_its_main_function_returns() -> None:
    async def main() -> str:
        await trio.sleep(A_YEAR_S)
        return "done"

    events = Events()
    assert simulate(main, events=events, seed=1) == "done"
    assert events.now == A_YEAR_S


def test_computations_take_no_time() -> None:
    events = Events()

    async def main() -> None:
        for _ in range(100):
            await trio.lowlevel.checkpoint()

    simulate(main, events=events, seed=1)
    assert events.now == 0.0


def test_a_second_run_goes_on_at_the_time_of_the_first() -> None:
    events = Events()
    for _ in range(2):
        simulate(functools.partial(trio.sleep, 1.0), events=events, seed=1)
    assert events.now == 2.0


TIMES = st.lists(st.integers(0, 40).map(lambda tenths: tenths / 10), max_size=12)


@given(TIMES, TIMES)
def test_events_and_deadlines_come_in_the_order_of_their_times(at: list[float], sleeps: list[float]) -> None:
    events = Events()
    seen: list[tuple[float, float]] = []

    async def sleep(until_s: float) -> None:
        await trio.sleep_until(until_s)
        seen.append((until_s, trio.current_time()))

    async def main() -> None:
        for time_s in at:
            events.at(time_s, lambda time_s=time_s: seen.append((time_s, events.now)))  # type: ignore[misc]
        async with trio.open_nursery() as nursery:
            for time_s in sleeps:
                nursery.start_soon(sleep, time_s)
            await trio.sleep(5.0)

    simulate(main, events=events, seed=len(at))
    assert [time_s for time_s, _now in seen] == sorted(at + sleeps)
    assert all(time_s == now for time_s, now in seen)


def test_a_deadline_that_an_event_brings_forward_is_kept() -> None:
    events = Events()

    async def main() -> float:
        with trio.CancelScope(deadline=10.0) as scope:
            events.at(1.0, lambda: setattr(scope, "deadline", 2.0))
            await trio.sleep_forever()
        return trio.current_time()

    assert simulate(main, events=events, seed=1) == 2.0


def test_a_deadline_that_an_event_puts_off_is_not_kept() -> None:
    events = Events()

    async def main() -> float:
        with trio.CancelScope(deadline=2.0) as scope:
            events.at(1.0, lambda: setattr(scope, "deadline", 10.0))
            await trio.sleep_forever()
        return trio.current_time()

    assert simulate(main, events=events, seed=1) == 10.0


def test_what_runs_at_a_moment_is_over_before_the_next_event_of_that_moment() -> None:
    events = Events()
    seen: list[str] = []
    event = trio.Event()

    async def main() -> None:
        events.at(1.0, event.set)
        events.at(1.0, lambda: seen.append("next event"))
        await event.wait()
        for _ in range(3):
            seen.append("step")
            await trio.lowlevel.checkpoint()
        await trio.sleep(1.0)

    simulate(main, events=events, seed=1)
    assert seen == ["step", "step", "step", "next event"]


def test_a_run_in_which_nothing_will_happen_any_more_is_stalled() -> None:
    async def main() -> None:
        await trio.sleep(1.0)
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(trio.sleep_forever)

    events = Events()
    with pytest.raises(trio.TrioInternalError) as raised:
        simulate(main, events=events, seed=1)
    assert isinstance(raised.value.__cause__, Stalled)
    assert events.now == 1.0


def test_a_pending_event_is_enough_not_to_be_stalled() -> None:
    events = Events()
    event = trio.Event()
    events.at(A_YEAR_S, event.set)
    simulate(event.wait, events=events, seed=1)
    assert events.now == A_YEAR_S


def test_an_error_of_an_event_ends_the_run() -> None:
    events = Events()

    def fail() -> None:
        raise LookupError("of the event")

    events.at(1.0, fail)
    with pytest.raises(trio.TrioInternalError) as raised:
        simulate(trio.sleep_forever, events=events, seed=1)
    assert isinstance(raised.value.__cause__, LookupError)


def test_to_wait_until_all_tasks_are_blocked_takes_no_time_and_lets_no_event_happen() -> None:
    events = Events()
    seen: list[str] = []

    async def work() -> None:
        for _ in range(5):
            await trio.lowlevel.checkpoint()
        seen.append("worked")

    async def main() -> None:
        events.at(0.0, lambda: seen.append("event"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work)
            await trio.testing.wait_all_tasks_blocked()
            seen.append("blocked")

    simulate(main, events=events, seed=1)
    assert seen == ["worked", "blocked"]
    assert events.now == 0.0


def test_what_was_handed_to_the_run_comes_before_the_next_event() -> None:
    events = Events()
    seen: list[str] = []

    async def main() -> None:
        token = trio.lowlevel.current_trio_token()
        events.at(1.0, lambda: token.run_sync_soon(seen.append, "handed over"))
        events.at(1.0, lambda: seen.append("next event"))
        await trio.sleep(2.0)

    simulate(main, events=events, seed=1)
    assert seen == ["handed over", "next event"]


@pytest.fixture
def interruptible() -> Iterator[None]:
    """As in a shell; what runs in the background of a script is not."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_who_interrupts_a_run_ends_it_at_that_moment() -> None:
    events = Events()
    cleaned_up: list[float] = []

    async def main() -> None:
        try:
            await trio.sleep_forever()
        finally:
            cleaned_up.append(trio.current_time())

    events.at(1.0, lambda: signal.raise_signal(signal.SIGINT))
    events.at(2.0, lambda: None)
    with pytest.raises(KeyboardInterrupt):
        simulate(main, events=events, seed=1)
    assert cleaned_up == [1.0]


def test_what_the_world_awaits_of_another_library_breaks_the_run() -> None:
    async def main() -> None:
        await asyncio.sleep(0)

    with pytest.raises(trio.TrioInternalError) as raised:
        simulate(main, events=Events(), seed=1)
    assert isinstance(raised.value.__cause__, AssertionError)


def test_the_clock_of_a_run_is_that_of_its_events() -> None:
    events = Events()

    async def main() -> None:
        await trio.sleep(1.5)
        assert trio.current_time() == events.now == 1.5
        with trio.CancelScope(deadline=-math.inf) as scope:
            await trio.sleep_forever()
        assert scope.cancelled_caught
        assert trio.current_time() == 1.5

    simulate(main, events=events, seed=1)


def test_a_run_within_a_run_is_refused_and_the_outer_one_goes_on() -> None:
    events = Events()

    async def main() -> str:
        with pytest.raises(RuntimeError, match="from outside"):
            simulate(trio.sleep_forever, events=Events(), seed=2)
        await trio.sleep(1.0)
        return "done"

    assert simulate(main, events=events, seed=1) == "done"


def test_what_is_always_due_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "LOOKS_MAX", 2)

    async def never_rests() -> None:
        while True:
            with trio.CancelScope(deadline=trio.current_time()):
                await trio.sleep_forever()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 10.0)
            nursery.start_soon(never_rests)

    with pytest.raises(trio.TrioInternalError) as raised:
        simulate(main, events=Events(), seed=1)
    assert isinstance(raised.value.__cause__, Stalled)
    assert "never_rests" in str(raised.value.__cause__)


def test_much_may_happen_as_long_as_time_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "LOOKS_MAX", 1)

    async def main() -> None:
        for _ in range(25_000):
            await trio.sleep(0.001)

    simulate(main, events=Events(), seed=1)
