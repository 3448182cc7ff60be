"""How a command ends: its exit code, and what it says."""

import base64
import contextlib
import json
import math
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, NoReturn, TypeVar

import click
import trio

from meshnode.errors import (
    LockTimeout,
    MeshError,
    NotFound,
    OutcomeUnknown,
    TurnTimeout,
    Unavailable,
    UnknownAgentType,
    UnknownMethod,
)
from meshnode.joining import NoMesh

T = TypeVar("T")

OK = 0
ERROR = 1
USAGE = 2
NOT_FOUND = 5
UNAVAILABLE = 6
TIMEOUT = 7
INTERRUPTED = 130


def exit_code(error: BaseException) -> int:
    """The exit code for an error."""
    match error:
        case NoMesh():
            return USAGE
        case NotFound() | UnknownAgentType() | UnknownMethod():
            return NOT_FOUND
        case OutcomeUnknown() | TurnTimeout() | LockTimeout():
            return TIMEOUT
        case Unavailable():
            return UNAVAILABLE
        case _:
            return ERROR


def fail(error: BaseException) -> NoReturn:
    """End the command with what the error says."""
    click.echo(f"meshnode: {error}", err=True)
    sys.exit(exit_code(error))


@contextlib.contextmanager
def reported() -> Iterator[None]:
    """Turn errors that are no bug into one line and an exit code; a bug keeps its traceback."""
    try:
        yield
    except BrokenPipeError:
        raise  # whoever read the output has seen enough: click ends the command without a word
    except (MeshError, OSError) as error:
        fail(error)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BaseExceptionGroup as group:
        leaves = _leaves(group)
        if any(isinstance(leaf, KeyboardInterrupt) for leaf in leaves):
            sys.exit(INTERRUPTED)
        # A bug next to an operator's error must not be hidden by it.
        if all(isinstance(leaf, MeshError | OSError) for leaf in leaves):
            fail(leaves[0])
        raise


def run(main: Callable[[], Awaitable[T]]) -> T:
    """Run a coroutine function on trio, with errors reported."""
    with reported():
        return trio.run(main)


def show(value: Any, text: Callable[[], str], *, as_json: bool) -> None:
    """Print a result, as JSON or for people; ``text`` is only asked for what is printed."""
    with reported():
        click.echo(json_text(value) if as_json else text())


def json_text(value: Any, *, indent: int | None = None) -> str:
    """A result of plain data, as CBOR has it, in JSON (RFC 8259), which has neither bytes nor all numbers.

    Bytes become ``{"base64": "…"}``, numbers that are not finite "NaN", "Infinity" and "-Infinity", keys that are no
    text the text of their JSON. Dates are text already when they cross the mesh.
    """
    return json.dumps(_jsonable(value), ensure_ascii=False, allow_nan=False, indent=indent)


def _jsonable(value: Any) -> Any:
    match value:
        case bytes():
            return {"base64": base64.b64encode(value).decode()}
        case float() if not math.isfinite(value):
            return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        case dict():
            return {
                key if isinstance(key, str) else json_text(key): _jsonable(content) for key, content in value.items()
            }
        case list() | tuple():
            return [_jsonable(item) for item in value]
        case _:
            return value


def table(headings: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    """Rows under headings, in columns."""
    cells = [headings, *[tuple(str(cell) for cell in row) for row in rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headings))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]
    return "\n".join(line.rstrip() for line in lines)


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    leaves: list[BaseException] = []
    for error in group.exceptions:
        leaves.extend(_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    return leaves
