"""Sequential models: what each operation does when nothing else is under way.

A state is any hashable value. A model is for one key: histories are checked key by key, since a history is
linearizable if and only if its part for each object is (Herlihy and Wing 1990, theorem 1; for sets of keys, Horn and
Kroening, "Faster linearizability checking via P-compositionality", 2015).
"""

import enum
import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final, TypeAlias, TypeGuard

from simulations.checkers.history import Json, canonical


class Mark(enum.Enum):
    """What stands in the place of a result."""

    UNKNOWN = "unknown"
    """The operation ended in ``info``: any result that is possible."""
    ANYTHING = "anything"
    """The result says nothing: any will do."""


State: TypeAlias = Hashable
Result: TypeAlias = "Json | Mark"
Step: TypeAlias = Callable[[State, str, Json, Result], tuple[State, ...]]


@dataclass(frozen=True, slots=True)
class Model:
    """A sequential object.

    Attributes:
        name: for people.
        initial: the state before any operation.
        step: ``step(state, op, value_in, value_out)`` gives the states in which the object may be after the operation;
            none if the operation can't have had that result in that state. Raises ValueError for an operation that the
            object does not have.
        is_read: whether an operation, given ``(op, value_in, value_out)``, changes nothing in any state in which it can
            have that result. It makes the search fast and may say no for any of them.
        effect: ``effect(op, value_in)`` is equal for operations that do the same to the object in any state, so that
            those whose results nobody saw can stand in for each other. The fewer effects, the faster the search.
        total: for an object that is a sum, whose states are numbers and whose effects are what is added: the state
            after an operation with the result ``value_out``, infinity if it doesn't tell. Where nothing is subtracted,
            this shows when an order has gone too far.
    """

    name: str
    initial: State
    step: Step
    is_read: Callable[[str, Json, Result], bool]
    effect: Callable[[str, Json], Hashable] = lambda op, value_in: (op, canonical(value_in))
    total: Callable[[Result], float] | None = None


def deterministic(
    name: str,
    initial: State,
    step: Callable[[State, str, Json], tuple[State, Result]],
    is_read: Callable[[str, Json, Result], bool],
    effect: Callable[[str, Json], Hashable],
    total: Callable[[Result], float],
) -> Model:
    """A model whose ``step(state, op, value_in)`` gives the one state after it and the one result that is right."""

    def check(state: State, op: str, value_in: Json, value_out: Result) -> tuple[State, ...]:
        after, expected = step(state, op, value_in)
        return (after,) if fits(expected, value_out) else ()

    return Model(name, initial, check, is_read, effect, total)


def fits(expected: Result, seen: Result) -> bool:
    """Whether a result that was seen is the expected one, as JSON compares: 1 is not true."""
    if isinstance(expected, Mark) or isinstance(seen, Mark):
        return True
    if type(expected) is type(seen) and isinstance(expected, int | str):
        return expected == seen
    return canonical(expected) == canonical(seen)


def _is_int(value: Result) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _no_such(op: str, value: Json, known: str) -> ValueError:
    return ValueError(f"operation {op!r} with {value!r:.80}: the model knows {known}")


def _counter(state: State, op: str, value: Json) -> tuple[State, Result]:
    assert isinstance(state, int)
    match op, value:
        case ("add", amount) | ("add_once", [amount, str()]) if _is_int(amount):
            return state + amount, state + amount
        case "read", None:
            return state, state
    raise _no_such(op, value, "add n -> total, add_once [n, id] -> total, read -> total")


def _added(op: str, value: Json) -> Hashable:
    """How much an operation adds."""
    before = 0
    return _counter(before, op, value)[0]


COUNTER: Final = deterministic(
    "counter",
    0,
    _counter,
    is_read=lambda op, _value_in, _value_out: op == "read",
    effect=_added,
    total=lambda value_out: value_out if _is_int(value_out) else math.inf,
)
"""``add n`` returns the total after it, ``read`` the total. ``add_once [n, id]`` is an ``add`` for which its client may
have asked more than once, under a request id that no other operation has."""


def _register(state: State, op: str, value_in: Json, value_out: Result) -> tuple[State, ...]:
    match op, value_in:
        case "get", None:
            is_possible = isinstance(value_out, Mark) or canonical(value_out) == state
            return (state,) if is_possible else ()
        case "put", _:
            return (canonical(value_in),)
        case "delete", None:
            return (_NOTHING,)
        case "compare_and_set", [expected, wanted]:
            matches = canonical(expected) == state
            return (canonical(wanted) if matches else state,) if fits(matches, value_out) else ()
    raise _no_such(op, value_in, "get -> value, put value, delete, compare_and_set [expected, value] -> true or false")


_NOTHING: Final = canonical(None)

REGISTER: Final = Model(
    "register",
    _NOTHING,
    _register,
    lambda op, _, value_out: op == "get" or (op == "compare_and_set" and value_out is False),
)
"""``get``, ``put value``, ``delete``, ``compare_and_set [expected, value]``. A key without a value reads as null."""


def _append_list(state: State, op: str, value_in: Json, value_out: Result) -> tuple[State, ...]:
    assert isinstance(state, tuple)
    match op, value_in:
        case "append", _:
            return ((*state, canonical(value_in)),)
        case "read", None:
            is_possible = isinstance(value_out, Mark) or (
                isinstance(value_out, list) and tuple(map(canonical, value_out)) == state
            )
            return (state,) if is_possible else ()
    raise _no_such(op, value_in, "append x, read -> list")


APPEND_LIST: Final = Model("append list", (), _append_list, lambda op, _value_in, _value_out: op == "read")
"""``append x``, and ``read``, which returns everything appended, in order."""


def _unique_set(state: State, op: str, value_in: Json, value_out: Result) -> tuple[State, ...]:
    assert isinstance(state, tuple)
    match op, value_in:
        case "add", _:
            text = canonical(value_in)
            is_new = text not in state
            return (tuple(sorted((*state, text))) if is_new else state,) if fits(is_new, value_out) else ()
        case "read", None:
            is_possible = isinstance(value_out, Mark) or (
                isinstance(value_out, list) and tuple(sorted(map(canonical, value_out))) == state
            )
            return (state,) if is_possible else ()
    raise _no_such(op, value_in, "add x -> whether it is new, read -> list in any order")


UNIQUE_SET: Final = Model("unique set", (), _unique_set, lambda op, _, value_out: op == "read" or value_out is False)
"""``add x`` returns whether it was not there before; ``read`` returns the members in any order, each once."""


@dataclass(frozen=True, slots=True)
class _Lock:
    """A lock's state.

    Attributes:
        holder: the token under which it is held; None if it is free, UNKNOWN if it was granted and nobody saw the
            token.
        granted: the highest token so far; if that one is unknown, the lowest that it can be.
    """

    holder: int | Mark | None = None
    granted: int = 0


def _lock(state: State, op: str, value_in: Json, value_out: Result) -> tuple[State, ...]:
    assert isinstance(state, _Lock)
    if op == "acquire" and value_in is None:
        return _acquire(state, value_out)
    if op == "release" and _is_int(value_in):
        return _release(state, value_in, value_out)
    if op == "holder" and value_in is None:
        return _look(state, value_out)
    raise _no_such(op, value_in, "acquire -> token or null, release token -> true or false, holder -> token or null")


def _acquire(state: _Lock, value_out: Result) -> tuple[State, ...]:
    if state.holder is not None:
        return (state,) if fits(None, value_out) else ()
    if isinstance(value_out, Mark):
        return (_Lock(Mark.UNKNOWN, state.granted + 1),)
    return (_Lock(value_out, value_out),) if _is_int(value_out) and value_out > state.granted else ()


def _release(state: _Lock, token: int, value_out: Result) -> tuple[State, ...]:
    if state.holder is Mark.UNKNOWN:
        may_fit = token >= state.granted
    else:
        may_fit = state.holder == token
    after: list[State] = []
    if may_fit and fits(True, value_out):
        after.append(_Lock(None, max(token, state.granted)))
    if (state.holder is Mark.UNKNOWN or not may_fit) and fits(False, value_out):
        after.append(state)
    return tuple(after)


def _look(state: _Lock, value_out: Result) -> tuple[State, ...]:
    if state.holder is Mark.UNKNOWN and not isinstance(value_out, Mark):
        return (_Lock(value_out, value_out),) if _is_int(value_out) and value_out >= state.granted else ()
    return (state,) if state.holder is Mark.UNKNOWN or fits(_token(state), value_out) else ()


def _token(state: _Lock) -> int | None:
    return None if isinstance(state.holder, Mark) else state.holder


LOCK: Final = Model(
    "lock", _Lock(), _lock, lambda op, _, value_out: op == "holder" or value_out is (None if op == "acquire" else False)
)
"""``acquire`` returns a token above all tokens before it, or null if the lock is held; ``release token`` whether it was
held under that token; ``holder`` the token or null. Tokens are whole numbers from 1. A lease that may run out is a
``release`` of the token that ends in ``info`` as soon as it is granted: it may take effect at any later time, or never.
"""

MODELS: Final = {model.name: model for model in (COUNTER, REGISTER, APPEND_LIST, UNIQUE_SET, LOCK)}
"""By name."""
