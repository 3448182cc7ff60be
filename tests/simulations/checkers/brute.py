"""Linearizability by trying every order, and small histories to try it on."""

import itertools
from collections.abc import Sequence

from hypothesis import strategies as st

from simulations.checkers.history import EventType, Json, Operation
from simulations.checkers.models import Mark, Model, State


def is_linearizable(operations: Sequence[Operation], model: Model) -> bool:
    """Whether some order of all that ended ok, and of some of unknown outcome, explains the results."""
    sure = [operation for operation in operations if operation.outcome is EventType.OK]
    maybe = [operation for operation in operations if operation.outcome is EventType.INFO]
    return any(
        respects_time(order) and _explains(order, model)
        for count in range(len(maybe) + 1)
        for chosen in itertools.combinations(maybe, count)
        for order in itertools.permutations([*sure, *chosen])
    )


def respects_time(order: Sequence[Operation]) -> bool:
    """Whether nothing comes after what began when it had ended. What is unknown may take effect later still."""
    return all(
        later.outcome is EventType.INFO or later.ended_at is None or later.ended_at > earlier.invoked_at
        for earlier, later in itertools.combinations(order, 2)
    )


def _explains(order: Sequence[Operation], model: Model) -> bool:
    states: set[State] = {model.initial}
    for operation in order:
        seen = operation.result if operation.outcome is EventType.OK else Mark.UNKNOWN
        states = {after for state in states for after in model.step(state, operation.op, operation.value, seen)}
    return bool(states)


Call = tuple[str, Json, Json]
"""What is called, with what, and what came back."""


def operations_from(calls: Sequence[tuple[Call, EventType]], order: Sequence[int]) -> tuple[Operation, ...]:
    """Operations whose invocations and ends come in an order: a number's first place is its invocation."""
    found: list[Operation] = []
    for number, ((op, value, result), outcome) in enumerate(calls):
        begin, end = (place for place, other in enumerate(order) if other == number)
        is_ok = outcome is EventType.OK
        known_end = None if outcome is EventType.INFO and end % 2 else end
        found.append(
            Operation(number, op, "k", value, begin, begin, outcome, result if is_ok else None, known_end, known_end)
        )
    return tuple(sorted(found, key=lambda operation: operation.invoked_at))


def histories(calls: st.SearchStrategy[Call], most: int = 6) -> st.SearchStrategy[tuple[Operation, ...]]:
    """Histories of one key with results drawn at random: some can be explained and some can't."""
    outcome = st.sampled_from([EventType.OK, EventType.OK, EventType.OK, EventType.INFO, EventType.FAIL])

    def ordered(drawn: list[tuple[Call, EventType]]) -> st.SearchStrategy[tuple[Operation, ...]]:
        places = [number for number in range(len(drawn)) for _ in range(2)]
        return st.permutations(places).map(lambda order: operations_from(drawn, order))

    return st.lists(st.tuples(calls, outcome), max_size=most).flatmap(ordered)
