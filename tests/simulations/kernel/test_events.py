"""The heap of events."""

import math

from hypothesis import given
from hypothesis import strategies as st

from simulations.kernel import Events, Handle


def test_events_of_one_moment_happen_in_the_order_in_which_they_were_scheduled() -> None:
    events = Events()
    happened: list[int] = []
    for number in range(10):
        events.at(1.0, lambda number=number: happened.append(number))  # type: ignore[misc]
    while events.next_at() < math.inf:
        events.happen()
    assert happened == list(range(10))
    assert events.now == 1.0
    assert events.happened == 10


def test_an_event_of_the_past_happens_now() -> None:
    events = Events()
    events.at(5.0, lambda: events.at(1.0, lambda: None))
    events.happen()
    assert events.next_at() == 5.0
    events.happen()
    assert events.now == 5.0


def test_a_cancelled_event_moves_no_time_and_is_not_counted() -> None:
    events = Events()
    handle = events.at(1.0, lambda: None)
    handle.cancel()
    handle.cancel()
    assert events.next_at() == math.inf
    assert (events.now, events.happened) == (0.0, 0)


def test_what_has_happened_can_be_cancelled_without_effect() -> None:
    events = Events()
    happened: list[str] = []
    handle = events.after(1.0, lambda: happened.append("once"))
    events.happen()
    handle.cancel()
    assert happened == ["once"]


@given(st.lists(st.tuples(st.floats(0.0, 4.0).map(lambda at: round(at, 1)), st.booleans()), max_size=30))
def test_events_happen_as_a_stable_sort_by_time_has_them(drawn: list[tuple[float, bool]]) -> None:
    events = Events()
    happened: list[tuple[float, int]] = []
    handles: list[Handle] = []
    for number, (at_s, _is_cancelled) in enumerate(drawn):
        handles.append(events.at(at_s, lambda number=number: happened.append((events.now, number))))  # type: ignore[misc]
    for handle, (_at_s, is_cancelled) in zip(handles, drawn, strict=True):
        if is_cancelled:
            handle.cancel()
    while events.next_at() < math.inf:
        events.happen()
    kept = [(at_s, number) for number, (at_s, is_cancelled) in enumerate(drawn) if not is_cancelled]
    assert happened == sorted(kept, key=lambda event: event[0])
