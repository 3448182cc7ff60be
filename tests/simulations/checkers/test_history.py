"""Histories: what is recorded comes back, and what is no history is refused."""

import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulations.checkers.history import (
    Event,
    EventType,
    History,
    Json,
    MalformedHistory,
    canonical,
    plain,
    read_history,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def text_of(history: History) -> str:
    file = io.StringIO()
    history.write(file)
    return file.getvalue()


def line(**changed: Json) -> str:
    fields: dict[str, Json] = {"process": 0, "type": "invoke", "op": "get", "key": "a", "value": None, "time_ns": 0}
    return json.dumps(fields | changed)


@given(data=st.data(), clients=st.integers(1, 4))
@settings(max_examples=60)
def test_a_history_is_read_as_it_was_written(data: st.DataObject, clients: int) -> None:
    history = History(clients)
    running = {}
    for time_ns in range(data.draw(st.integers(0, 25))):
        client = data.draw(st.integers(0, clients - 1))
        value = data.draw(JSON)
        if client not in running:
            key = data.draw(st.text(max_size=3))
            running[client] = history.invoke(client, op="put", key=key, value=value, time_ns=time_ns)
            continue
        end = data.draw(st.sampled_from([history.ok, history.fail, history.info]))
        end(running.pop(client), value, time_ns=time_ns)
    text = text_of(history)
    assert list(read_history(text.splitlines())) == list(history)
    assert text_of(read_history(text.splitlines())) == text
    assert read_history(text.splitlines()).operations() == history.operations()


def test_a_line_has_exactly_the_six_fields_in_order() -> None:
    history = History(1)
    operation = history.invoke(0, op="add", key="a", value=1, time_ns=5)
    history.ok(operation, 7, time_ns=9)
    assert text_of(history).splitlines() == [
        '{"process":0,"type":"invoke","op":"add","key":"a","value":1,"time_ns":5}',
        '{"process":0,"type":"ok","op":"add","key":"a","value":7,"time_ns":9}',
    ]
    (done,) = history.operations()
    assert (done.value, done.result, done.invoked_at, done.ended_at, done.ended_ns) == (1, 7, 0, 1, 9)
    assert len(history) == 2


def test_after_an_unknown_outcome_the_client_goes_on_as_another_process() -> None:
    history = History(3)
    first = history.invoke(1, op="get", key="a", value=None, time_ns=0)
    history.info(first, "timeout", time_ns=1)
    second = history.invoke(1, op="get", key="a", value=None, time_ns=2)
    history.info(second, time_ns=3)
    third = history.invoke(1, op="get", key="a", value=None, time_ns=4)
    history.fail(third, "refused", time_ns=5)
    fourth = history.invoke(1, op="get", key="a", value=None, time_ns=6)
    other = history.invoke(0, op="get", key="a", value=None, time_ns=7)
    assert [first.process, second.process, third.process, fourth.process, other.process] == [1, 4, 7, 7, 0]
    outcomes = [operation.outcome for operation in history.operations()]
    assert outcomes == [EventType.INFO, EventType.INFO, EventType.FAIL, EventType.INFO, EventType.INFO]
    assert str(history.operations()[0]) == "[0.000000–0.000000] process 1: get a info"
    assert str(history.operations()[3]).startswith("[0.000000–…] process 7")


def test_what_is_recorded_does_not_change_with_what_the_caller_holds() -> None:
    history = History(1)
    given: list[Json] = [1]
    history.ok(history.invoke(0, op="put", key="a", value=given, time_ns=0), given, time_ns=1)
    given.append(2)
    assert [event.value for event in history] == [[1], [1]]


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (["{"], "line 1: no JSON"),
        ([line(), "[]"], "line 2: expected an object with the fields process, type"),
        ([line(more=1)], "line 1: expected an object"),
        (['{"process":0}'], "line 1: expected an object"),
        ([line(process="0")], "line 1: process is '0'"),
        ([line(process=True)], "line 1: process is True"),
        ([line(time_ns=1.5)], "line 1: time_ns is 1.5"),
        ([line(op=3)], "line 1: op is 3"),
        ([line(key=None)], "line 1: key is None"),
        ([line(type="done")], "line 1: 'done'.*invoke, ok, fail, info"),
        (['{"process":0,"type":"ok","op":"a","key":"a","value":NaN,"time_ns":0}'], "line 1: no JSON: NaN"),
        (["[" * 100_000], "line 1: no JSON"),
        ([line().replace("null", "[" * 80 + "]" * 80)], "line 1: a value is nested more than 64 deep"),
        ([line(process=-1)], "line 1: process -1"),
        ([line(time_ns=5), line(process=1, time_ns=4)], "line 2: time_ns falls from 5 to 4"),
        ([line(), line()], "line 2: process 0 invokes 'get' while its 'get' is open"),
        ([line(type="ok")], "line 1: process 0 ends 'get', which it has not invoked"),
        ([line(), line(type="ok", op="put")], "line 2: 'put' of 'a' ends where 'get' of 'a' is open"),
        ([line(), line(type="ok", key="b")], "line 2: 'get' of 'b' ends"),
        ([line(), line(type="info"), line()], "line 3: process 0 goes on after an operation of unknown outcome"),
        ([line(), line(type="ok"), line(type="ok")], "line 3: process 0 ends"),
    ],
)
def test_a_malformed_history_is_refused_with_the_line(lines: list[str], why: str) -> None:
    with pytest.raises(MalformedHistory, match=why):
        read_history(lines)


def test_what_the_recorder_is_told_wrongly_is_refused() -> None:
    history = History(1, [Event(0, EventType.INVOKE, "get", "a", None, 0)])
    with pytest.raises(ValueError, match=r"client 1: the history was made for 0 … 0"):
        history.invoke(1, op="get", key="a", value=None, time_ns=1)
    with pytest.raises(MalformedHistory, match="while its 'get' is open"):
        history.invoke(0, op="get", key="a", value=None, time_ns=1)
    with pytest.raises(ValueError, match="at least one"):
        History(0)


@pytest.mark.parametrize("value", [b"bytes", {1: "a"}, float("inf"), object(), (1, 2), [set()]])
def test_values_that_are_no_json_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"plain data|no form in JSON"):
        plain(value)


@given(JSON, JSON)
def test_canonical_text_is_equal_exactly_for_equal_json(one: Json, other: Json) -> None:
    assert canonical(plain(one)) == canonical(one)
    assert (canonical(one) == canonical(other)) == (
        json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    )
    assert canonical(1) != canonical(True)
    assert canonical({"b": 1, "a": 2}) == canonical({"a": 2, "b": 1})
