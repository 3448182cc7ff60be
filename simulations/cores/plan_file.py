"""Plans as files: JSON that says everything, and is refused by name of the field where it says something else."""

import dataclasses
import json
import math
from collections.abc import Iterator
from typing import Any, Self

import msgspec


class MalformedPlan(ValueError):
    """The file is no plan; the message says what is wrong with it."""


class Written:
    """What a plan is, beside its fields: something that fits into a file and comes back from it."""

    __slots__ = ()

    def to_json(self) -> str:
        """As text, for a file."""
        return json.dumps(_plain(msgspec.to_builtins(self)), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote. What is not given is as by default.

        Raises:
            MalformedPlan: it did not write this.
        """
        try:
            given = json.loads(text)
            plan = msgspec.convert(given, cls, strict=False)
        except (msgspec.ValidationError, ValueError, RecursionError) as error:
            raise MalformedPlan(f"not a plan: {error}") from error
        for path in _unknown(given, json.loads(plan.to_json())):
            raise MalformedPlan(f"not a plan of this version: it knows no field {path}")
        return plan


def nodes_of(faults: Any) -> set[int]:
    """The numbers of all nodes that these faults name."""
    named: set[int] = set()
    for item in dataclasses.fields(faults):
        values = getattr(faults, item.name)
        for fault in values if isinstance(values, tuple) else ():
            for name in ("node", "one", "other"):
                if hasattr(fault, name):
                    named.add(getattr(fault, name))
            for name in ("senders", "receivers"):
                named |= getattr(fault, name, frozenset())
    return named


def check_nodes(faults: Any, numbers: range) -> None:
    """Raises ValueError if a fault names a node that is not there."""
    absent = sorted(nodes_of(faults) - set(numbers))
    if absent:
        raise ValueError(
            f"faults name the node {absent[0]}: choose from {numbers.start} to {numbers.stop - 1}, or give more nodes"
        )


def _plain(value: Any) -> Any:
    """JSON has no infinity, and no sets."""
    match value:
        case float() if math.isinf(value):
            return "inf"
        case dict():
            return {key: _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case set() | frozenset():
            return sorted(_plain(item) for item in value)
        case _:
            return value


def _unknown(given: Any, known: Any, path: str = "") -> Iterator[str]:
    """The paths of fields that were given and did not come through."""
    if isinstance(given, dict) and isinstance(known, dict):
        for name, value in given.items():
            inside = f"{path}.{name}" if path else name
            if name in known:
                yield from _unknown(value, known[name], inside)
            else:
                yield inside
    elif isinstance(given, list) and isinstance(known, list):
        for number, (one, other) in enumerate(zip(given, known, strict=False)):
            yield from _unknown(one, other, f"{path}[{number}]")
