"""Events happen in their order, once, unless they are called off."""

import gc
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulations.cores.heap import EventHeap

TIMES = st.lists(st.sampled_from([0.0, 0.5, 1.0, 1.0, 2.5, 7.0]), max_size=30)


@given(TIMES)
def test_events_happen_by_time_and_then_in_the_order_of_scheduling(times: list[float]) -> None:
    heap = EventHeap()
    happened: list[tuple[float, int]] = []
    for number, when_s in enumerate(times):
        heap.at(when_s, lambda number: happened.append((heap.now, number)), number)
    heap.run_until(10.0)
    # The twin: a stable sort.
    assert happened == sorted(((when_s, number) for number, when_s in enumerate(times)), key=lambda event: event[0])
    assert heap.events == len(times)
    assert heap.now == 10.0


@given(TIMES, st.floats(0.0, 8.0))
def test_what_is_due_later_waits(times: list[float], end_s: float) -> None:
    heap = EventHeap()
    for when_s in times:
        heap.at(when_s, lambda _: None)
    heap.run_until(end_s)
    assert len(heap) == sum(when_s > end_s for when_s in times)
    assert heap.next_s == min((when_s for when_s in times if when_s > end_s), default=math.inf)


def test_an_event_in_the_past_happens_next_and_time_does_not_go_back() -> None:
    heap = EventHeap()
    seen: list[float] = []
    heap.at(2.0, lambda _: heap.at(1.0, lambda _: seen.append(heap.now)))
    heap.at(2.0, lambda _: seen.append(-heap.now))
    heap.run_until(3.0)
    assert seen == [2.0, -2.0]


def test_a_timer_that_is_called_off_does_nothing() -> None:
    heap = EventHeap()
    seen: list[str] = []
    kept, dropped = heap.timer(1.0, seen.append, "kept"), heap.timer(1.0, seen.append, "dropped")
    dropped.cancel()
    assert [timer.is_pending for timer in (kept, dropped)] == [True, False]
    heap.run_until(1.0)
    assert seen == ["kept"]
    assert [timer.is_pending for timer in (kept, dropped)] == [False, False]
    kept.cancel()
    heap.run_until(2.0)
    assert seen == ["kept"]


def test_an_event_may_call_off_its_own_timer_and_set_it_again() -> None:
    heap = EventHeap()
    seen: list[float] = []

    def tick(_: object) -> None:
        seen.append(heap.now)
        timer.cancel()
        if len(seen) < 3:
            heap.timer(heap.now + 1.0, tick)

    timer = heap.timer(1.0, tick)
    heap.run_until(10.0)
    assert seen == [1.0, 2.0, 3.0]


def test_events_are_counted_up_to_the_one_that_fails() -> None:
    heap = EventHeap()
    heap.at(1.0, lambda _: None)
    heap.at(2.0, lambda _: 1 / 0)
    heap.at(3.0, lambda _: None)
    with pytest.raises(ZeroDivisionError):
        heap.run_until(5.0)
    assert heap.events == 2
    assert heap.now == 2.0


@pytest.mark.parametrize("is_enabled", [True, False])
def test_the_collector_of_cycles_rests_while_events_run_and_is_then_as_before(is_enabled: bool) -> None:
    heap = EventHeap()
    seen: list[bool] = []
    heap.at(1.0, lambda _: seen.append(gc.isenabled()))
    heap.at(2.0, lambda _: 1 / 0)
    was_enabled = gc.isenabled()
    try:
        (gc.enable if is_enabled else gc.disable)()
        with pytest.raises(ZeroDivisionError):
            heap.run_until(5.0)
        assert seen == [False]
        assert gc.isenabled() is is_enabled
    finally:
        (gc.enable if was_enabled else gc.disable)()
