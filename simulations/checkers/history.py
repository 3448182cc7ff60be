"""What the clients saw: when each operation began and how it ended, in the form that Jepsen's checkers read.

One JSON object a line, in the order in which things happened:

    {"process":0,"type":"invoke","op":"add","key":"a","value":1,"time_ns":1000}
    {"process":0,"type":"ok","op":"add","key":"a","value":7,"time_ns":2500}

``value`` is the argument in an ``invoke``, the result in an ``ok``, and a reason or null in a ``fail`` or an ``info``.
``ok``: it took effect. ``fail``: it did not and never will. ``info``: nobody knows; it may take effect at any later
time. A process does one thing at a time. One whose operation ended in ``info`` may still be at it, so it does nothing
more: its client goes on under another number (Kingsbury, Jepsen; Kingsbury and Alvaro, "Elle", 2020).
"""

import enum
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, NoReturn, TypeAlias

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
"""Plain data as JSON has it."""

DEPTH_MAX = 64
"""Nesting of a value: far more than any operation has, and far less than what exhausts the stack."""


class EventType(enum.StrEnum):
    """What an event says of its operation."""

    INVOKE = "invoke"
    OK = "ok"
    FAIL = "fail"
    INFO = "info"


@dataclass(slots=True, unsafe_hash=True)
class Event:
    """One line of a history. Nobody changes one, nor an `Operation`; frozen ones would take far longer to make.

    Attributes:
        time_ns: virtual nanoseconds since the run began.
    """

    process: int
    type: EventType
    op: str
    key: str
    value: Json
    time_ns: int


@dataclass(slots=True, unsafe_hash=True)
class Operation:
    """One operation, from its invocation to its end.

    Attributes:
        value: its argument.
        invoked_at: the place of its invocation in the history; no other operation has it.
        outcome: OK, FAIL or INFO; INFO also for one that has not ended.
        result: of an operation that ended OK.
        ended_at: the place of its end; None if it has not ended.
    """

    process: int
    op: str
    key: str
    value: Json
    invoked_at: int
    invoked_ns: int
    outcome: EventType = EventType.INFO
    result: Json = None
    ended_at: int | None = None
    ended_ns: int | None = None

    def __str__(self) -> str:
        returned = f" -> {self.result!r}" if self.outcome is EventType.OK else f" {self.outcome}"
        given = "" if self.value is None else f" {self.value!r}"
        until = "…" if self.ended_ns is None else f"{self.ended_ns / 1e9:.6f}"
        return f"[{self.invoked_ns / 1e9:.6f}–{until}] process {self.process}: {self.op} {self.key}{given}{returned}"


# In Python 3.11 a member that is looked up in its enum costs as much as ten calls.
_INVOKE = EventType.INVOKE
_OK = EventType.OK
_INFO = EventType.INFO


class MalformedHistory(ValueError):
    """The text or the events are no history; the message names the line, counted from 1."""


class History:
    """A history in the making.

    Args:
        clients: how many there are, numbered from 0. The numbers of the processes of client c are c, c + clients,
            c + 2·clients …, as Jepsen numbers them.
        events: what has happened already.

    Raises:
        MalformedHistory: the events are not well-formed.
    """

    def __init__(self, clients: int, events: Iterable[Event] = ()) -> None:
        if clients < 1:
            raise ValueError(f"{clients} clients: a history needs at least one")
        self._clients = clients
        # As long as the run: it is what the run is for. A workload bounds its number of operations.
        self._events: list[Event] = []
        self._open: dict[int, Event] = {}
        self._retired: set[int] = set()
        self._next: dict[int, int] = {}
        for event in events:
            self._add(event)

    def __iter__(self) -> Iterator[Event]:
        return iter(self._events)

    def __len__(self) -> int:
        return len(self._events)

    def invoke(self, client: int, *, op: str, key: str, value: Json, time_ns: int) -> Operation:
        """The client begins an operation; the handle is for its end.

        Raises:
            ValueError: there is no such client, it is at work already, the time falls, or the value is no JSON.
        """
        if not 0 <= client < self._clients:
            raise ValueError(f"client {client}: the history was made for 0 … {self._clients - 1}")
        process = self._next.get(client, client)
        while process in self._retired:
            process += self._clients
        self._next[client] = process
        self._add(Event(process, _INVOKE, op, key, plain(value), time_ns))
        return Operation(process, op, key, plain(value), len(self._events) - 1, time_ns)

    def ok(self, operation: Operation, value: Json, *, time_ns: int) -> None:
        """It took effect and returned ``value``."""
        self._end(operation, _OK, value, time_ns)

    def fail(self, operation: Operation, value: Json = None, *, time_ns: int) -> None:
        """It had no effect and never will; ``value`` says why."""
        self._end(operation, EventType.FAIL, value, time_ns)

    def info(self, operation: Operation, value: Json = None, *, time_ns: int) -> None:
        """Nobody knows whether it took or will take effect; ``value`` says why."""
        self._end(operation, EventType.INFO, value, time_ns)

    def operations(self) -> tuple[Operation, ...]:
        """All operations in the order of their invocations."""
        return operations_of(self._events)

    def write(self, file: IO[str]) -> None:
        """Write one line an event."""
        file.writelines(_line(event) for event in self._events)

    def _end(self, operation: Operation, outcome: EventType, value: Json, time_ns: int) -> None:
        self._add(Event(operation.process, outcome, operation.op, operation.key, plain(value), time_ns))

    def _add(self, event: Event) -> None:
        line = len(self._events) + 1
        if self._events and event.time_ns < self._events[-1].time_ns:
            _refuse(line, f"time_ns falls from {self._events[-1].time_ns} to {event.time_ns}")
        if event.process < 0 or event.time_ns < 0:
            _refuse(line, f"process {event.process} or time_ns {event.time_ns} is negative")
        begun = self._open.get(event.process)
        if event.type is _INVOKE:
            if begun is not None:
                _refuse(line, f"process {event.process} invokes {event.op!r} while its {begun.op!r} is open")
            if event.process in self._retired:
                _refuse(line, f"process {event.process} goes on after an operation of unknown outcome")
            self._open[event.process] = event
        else:
            if begun is None:
                _refuse(line, f"process {event.process} ends {event.op!r}, which it has not invoked")
            if (begun.op, begun.key) != (event.op, event.key):
                _refuse(line, f"{event.op!r} of {event.key!r} ends where {begun.op!r} of {begun.key!r} is open")
            del self._open[event.process]
            if event.type is _INFO:
                self._retired.add(event.process)
        self._events.append(event)


def operations_of(events: Sequence[Event]) -> tuple[Operation, ...]:
    """Pair the events of a well-formed history into operations, in the order of their invocations."""
    open_at: dict[int, int] = {}
    found: dict[int, Operation] = {}
    for place, event in enumerate(events):
        if event.type is _INVOKE:
            open_at[event.process] = place
            found[place] = Operation(event.process, event.op, event.key, event.value, place, event.time_ns)
            continue
        begun = found[open_at.pop(event.process)]
        result = event.value if event.type is EventType.OK else None
        found[begun.invoked_at] = Operation(
            begun.process,
            begun.op,
            begun.key,
            begun.value,
            begun.invoked_at,
            begun.invoked_ns,
            event.type,
            result,
            place,
            event.time_ns,
        )
    return tuple(found.values())


def read_history(lines: Iterable[str]) -> History:
    """Read what `History.write` wrote, or what another recorder did in the same form.

    Raises:
        MalformedHistory: a line is no event, or an event does not follow from those before it.
    """
    events = [_parse(number, line) for number, line in enumerate(lines, start=1)]
    clients = max((event.process + 1 for event in events if event.process >= 0), default=1)
    return History(clients, events)


def plain(value: object, _depth: int = 0) -> Json:
    """A copy of plain data.

    Raises:
        ValueError: something in it is not of JSON, or it is nested too deeply.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if _depth >= DEPTH_MAX:
        raise ValueError(f"a value is nested more than {DEPTH_MAX} deep: record what identifies it instead")
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} has no form in JSON: record it as text")
        return value
    if isinstance(value, list):
        return [plain(item, _depth + 1) for item in value]
    if isinstance(value, dict) and all(isinstance(name, str) for name in value):
        return {name: plain(item, _depth + 1) for name, item in value.items()}
    raise ValueError(f"{value!r:.80} is no plain data: record numbers, text, lists and dicts with text for keys")


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


def canonical(value: Json) -> str:
    """The one text for this value: 1, 1.0 and true differ in it, the order of fields does not."""
    return _CANONICAL.encode(value)


_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)

_FIELDS = ("process", "type", "op", "key", "value", "time_ns")


def _line(event: Event) -> str:
    fields = {
        "process": event.process,
        "type": event.type.value,
        "op": event.op,
        "key": event.key,
        "value": event.value,
        "time_ns": event.time_ns,
    }
    return _ENCODER.encode(fields) + "\n"


def _parse(number: int, line: str) -> Event:
    try:
        fields = json.loads(line, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise MalformedHistory(f"line {number}: no JSON: {error}") from error
    if not isinstance(fields, dict) or fields.keys() != set(_FIELDS):
        _refuse(number, f"expected an object with the fields {', '.join(_FIELDS)}, not {line.strip()!r:.120}")
    for name in ("process", "time_ns"):
        if type(fields[name]) is not int:
            _refuse(number, f"{name} is {fields[name]!r:.80}: expected a whole number")
    for name in ("op", "key"):
        if not isinstance(fields[name], str):
            _refuse(number, f"{name} is {fields[name]!r:.80}: expected text")
    try:
        kind = EventType(fields["type"])
        value = plain(fields["value"])
    except ValueError as error:
        raise MalformedHistory(f"line {number}: {error}; a type is one of {', '.join(EventType)}") from error
    return Event(fields["process"], kind, fields["op"], fields["key"], value, fields["time_ns"])


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not of JSON")


def _refuse(line: int, why: str) -> NoReturn:
    raise MalformedHistory(f"line {line}: {why}")
