"""Traces: equal exactly if the same happened."""

import pytest

from simulations.hosts import Trace
from simulations.hosts.trace import LINES_KEPT

EVENT = (1.5, "datagram", "a → b", b"payload")


def digest(*events: tuple[float, str, str, bytes]) -> str:
    trace = Trace()
    for event in events:
        trace.note(*event)
    return trace.digest


def test_traces_of_the_same_events_are_equal() -> None:
    assert digest(EVENT, EVENT) == digest(EVENT, EVENT)


@pytest.mark.parametrize(
    "other",
    [
        (1.5000000000000002, "datagram", "a → b", b"payload"),
        (1.5, "stream", "a → b", b"payload"),
        (1.5, "datagram", "a → c", b"payload"),
        (1.5, "datagram", "a → b", b"pay1oad"),
        (1.5, "datagram", "a → b", b""),
        (1.5, "datagram", "a → bp", b"ayload"),
        (1.5, "datagrama", " → b", b"payload"),
    ],
    ids=repr,
)
def test_traces_differ_by_whatever_is_different(other: tuple[float, str, str, bytes]) -> None:
    assert digest(EVENT) != digest(other)
    assert digest(EVENT, other) != digest(other, EVENT)
    assert digest(EVENT, EVENT) != digest(EVENT)


def test_the_last_lines_are_kept_for_people() -> None:
    trace = Trace()
    for number in range(LINES_KEPT + 10):
        trace.note(float(number), "stream", f"link {number}", bytes(number))
    lines = trace.lines()
    assert trace.noted == LINES_KEPT + 10
    assert len(lines) == LINES_KEPT
    assert (lines[0].time_s, lines[0].subject, lines[0].size) == (10.0, "link 10", 10)
    assert str(lines[0]) == "   10.000000  stream    link 10  10 bytes"
    trace.note(0.5, "kill", "n1")
    assert str(trace.lines()[-1]) == "    0.500000  kill      n1"
