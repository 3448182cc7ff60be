"""How errors become exit codes and lines."""

from collections.abc import Callable

import pytest

from meshnode.cli.outcome import exit_code, reported, table
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
    with pytest.raises(ZeroDivisionError), reported():
        _throw(ZeroDivisionError())


def test_tables_align_columns_and_end_lines_without_blanks() -> None:
    assert table(("A", "LONG"), [("wide", 1), ("x", "")]) == "A     LONG\nwide  1\nx"


def _end(action: Callable[[], None]) -> int:
    with pytest.raises(SystemExit) as ended, reported():
        action()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def _throw(error: BaseException) -> None:
    raise error
