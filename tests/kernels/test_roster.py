"""Handles, and one thread at a time."""

import threading

import pytest

from kernels.errors import TooManyModelsError, UnknownModelError
from kernels.roster import MODELS_MAX, ModelHandle, OneAtATime, Roster


def test_a_handle_is_never_given_out_twice() -> None:
    roster: Roster[str] = Roster()
    first = roster.add("a")
    assert roster.remove(first) == "a"
    second = roster.add("b")
    assert second != first
    assert roster.get(second) == "b"
    with pytest.raises(UnknownModelError, match=str(first)):
        roster.get(first)


def test_the_number_of_models_is_bounded() -> None:
    roster: Roster[int] = Roster()
    handles = [roster.add(number) for number in range(MODELS_MAX)]
    with pytest.raises(TooManyModelsError, match="unload one first"):
        roster.add(0)
    roster.remove(handles[0])
    roster.add(0)
    assert len(roster.clear()) == MODELS_MAX
    with pytest.raises(UnknownModelError):
        roster.remove(ModelHandle(2))


def test_a_second_thread_inside_is_an_assertion() -> None:
    alone = OneAtATime()
    outcome: list[BaseException | None] = []

    def enter() -> None:
        try:
            with alone:
                outcome.append(None)
        except AssertionError as error:
            outcome.append(error)

    def in_a_thread() -> None:
        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()

    with alone:
        in_a_thread()
    in_a_thread()
    assert isinstance(outcome[0], AssertionError)
    assert outcome[1] is None
