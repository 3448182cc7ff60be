"""How a command ends: its exit code, and what it says."""

import contextlib
import json
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, NoReturn, TypeVar

import click
import trio

from meshnode.errors import (
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
        case OutcomeUnknown() | TurnTimeout():
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
    except (MeshError, OSError, ValueError) as error:
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


def show(value: Any, text: str, *, as_json: bool) -> None:
    """Print a result, as JSON or for people."""
    click.echo(json.dumps(value, ensure_ascii=False) if as_json else text)


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
