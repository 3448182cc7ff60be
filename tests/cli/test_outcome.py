"""How errors become exit codes and lines."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode import wire
from meshnode.cli.outcome import exit_code, json_text, reported, show, table
from meshnode.errors import (
    AddressInUse,
    AgentError,
    DataDirectoryError,
    InvalidArgument,
    NotFound,
    OutcomeUnknown,
    Overloaded,
    StorageFailed,
    TurnTimeout,
    Unavailable,
    UnknownAgentType,
    UnknownMethod,
)
from meshnode.joining import NoMesh


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NoMesh(""), 2),
        (NotFound(""), 5),
        (UnknownAgentType(""), 5),
        (UnknownMethod(""), 5),
        (Unavailable(""), 6),
        (Overloaded(""), 6),
        (OutcomeUnknown(""), 7),
        (TurnTimeout(""), 7),
        (AgentError("", "KeyError"), 1),
        (InvalidArgument(""), 1),
        (AddressInUse(""), 1),
        (DataDirectoryError(""), 1),
        (StorageFailed(""), 1),
        (OSError("disk"), 1),
    ],
)
def test_each_error_has_the_exit_code_of_who_must_act(error: Exception, code: int) -> None:
    assert exit_code(error) == code
    assert _end(lambda: _throw(error)) == code
    assert _end(lambda: _throw(ExceptionGroup("", [ExceptionGroup("", [error])]))) == code


def test_an_operators_error_is_one_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert _end(lambda: _throw(ExceptionGroup("", [AddressInUse("127.0.0.1:1 is in use")]))) == 1
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "meshnode: 127.0.0.1:1 is in use\n")


def test_an_interrupt_wins_over_the_errors_that_it_causes() -> None:
    assert _end(lambda: _throw(KeyboardInterrupt())) == 130
    assert _end(lambda: _throw(BaseExceptionGroup("", [Unavailable(""), KeyboardInterrupt()]))) == 130


def test_a_bug_keeps_its_traceback_also_beside_an_operators_error() -> None:
    with pytest.raises(ExceptionGroup), reported():
        _throw(ExceptionGroup("", [Unavailable(""), ZeroDivisionError()]))
    for bug in (ZeroDivisionError(), ValueError("not of a setting: those are told before a node starts")):
        with pytest.raises(type(bug)), reported():
            _throw(bug)


def test_output_that_nobody_reads_any_more_is_left_to_click() -> None:
    with pytest.raises(BrokenPipeError), reported():
        _throw(BrokenPipeError())


def test_only_the_form_that_is_shown_is_made(capsys: pytest.CaptureFixture[str]) -> None:
    show({"raw": b"1"}, lambda: pytest.fail("nobody asked for text"), as_json=True)
    assert json.loads(capsys.readouterr().out) == {"raw": {"base64": "MQ=="}}
    show(object(), lambda: "for people", as_json=False)
    assert capsys.readouterr().out == "for people\n"


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text() | st.integers(-(2**63), 2**64 - 1) | st.binary(), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(PLAIN)
def test_whatever_crosses_the_mesh_is_strict_json(value: Any) -> None:
    text = json_text(wire.loads(wire.dumps(value)))
    json.loads(text, parse_constant=pytest.fail)
    assert "\n" not in text
    assert json_text(value, indent=2).count("\n") or not isinstance(value, dict | list) or not value


def test_what_json_has_is_what_json_has() -> None:
    value = {"text": "größer", "numbers": [1, -2.5, 2**63], "nothing": None, "yes": True}
    assert json.loads(json_text(value)) == value
    assert json_text({1: 2, None: 3, b"k": 4, "s": 5}) == '{"1": 2, "null": 3, "{\\"base64\\": \\"aw==\\"}": 4, "s": 5}'


def test_tables_align_columns_and_end_lines_without_blanks() -> None:
    assert table(("A", "LONG"), [("wide", 1), ("x", "")]) == "A     LONG\nwide  1\nx"


def _end(action: Callable[[], None]) -> int:
    with pytest.raises(SystemExit) as ended, reported():
        action()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def _throw(error: BaseException) -> None:
    raise error
