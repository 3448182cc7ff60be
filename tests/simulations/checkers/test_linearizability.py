"""The search for a linearization, against the trial of every order."""

import itertools
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulations.checkers.history import EventType, History, Operation
from simulations.checkers.linearizability import Verdict, by_key, search
from simulations.checkers.models import (
    APPEND_LIST,
    COUNTER,
    LOCK,
    MODELS,
    REGISTER,
    UNIQUE_SET,
    Mark,
    Model,
)
from tests.simulations.checkers.brute import Call, histories, is_linearizable, respects_time

VALUES = st.integers(0, 2)
SETS = st.lists(VALUES, unique=True, max_size=3)

CALLS: dict[str, st.SearchStrategy[Call]] = {
    "counter": st.one_of(
        st.tuples(st.just("add"), st.integers(1, 2), st.integers(1, 6)),
        st.tuples(
            st.just("add_once"), st.tuples(st.integers(1, 2), st.sampled_from("ab")).map(list), st.integers(1, 6)
        ),
        st.tuples(st.just("add"), st.integers(-1, 0), st.integers(0, 5)),
        st.tuples(st.just("read"), st.none(), st.integers(0, 5)),
    ),
    "register": st.one_of(
        st.tuples(st.just("put"), VALUES, st.none()),
        st.tuples(st.just("get"), st.none(), st.none() | VALUES),
        st.tuples(st.just("delete"), st.none(), st.none()),
        st.tuples(st.just("compare_and_set"), st.lists(VALUES, min_size=2, max_size=2), st.booleans()),
    ),
    "append list": st.one_of(
        st.tuples(st.just("append"), VALUES, st.none()),
        st.tuples(st.just("read"), st.none(), SETS),
    ),
    "unique set": st.one_of(
        st.tuples(st.just("add"), VALUES, st.booleans()),
        st.tuples(st.just("read"), st.none(), SETS),
    ),
    "lock": st.one_of(
        st.tuples(st.just("acquire"), st.none(), st.none() | st.integers(1, 3)),
        st.tuples(st.just("release"), st.integers(1, 3), st.booleans()),
        st.tuples(st.just("holder"), st.none(), st.none() | st.integers(1, 3)),
    ),
}


@pytest.mark.parametrize("name", sorted(MODELS))
@given(data=st.data())
@settings(max_examples=120)
def test_the_search_agrees_with_the_trial_of_every_order(name: str, data: st.DataObject) -> None:
    model = MODELS[name]
    operations = data.draw(histories(CALLS[name]))
    found = search(operations, model)
    assert (found.verdict is Verdict.LINEARIZABLE) == is_linearizable(operations, model)
    assert found.verdict is not Verdict.UNKNOWN
    check_order(found.placed, model)
    if found.verdict is Verdict.LINEARIZABLE:
        sure = {operation.invoked_at for operation in operations if operation.outcome is EventType.OK}
        assert sure <= {operation.invoked_at for operation in found.placed}
        assert found.stuck is None
    else:
        assert found.stuck is not None
        # What is before the end that can't be passed is linearizable, and with it, it is not.
        end = found.stuck.ended_at
        assert end is not None
        assert is_prefix_linearizable(operations, end, model)
        assert not is_prefix_linearizable(operations, end + 1, model, needs_all=model.total is not None)


def is_prefix_linearizable(operations: Sequence[Operation], end: int, model: Model, *, needs_all: bool = False) -> bool:
    """Whether what ended before a place can be explained, with any or all of what was under way, whose results are
    known.
    """
    begun = [one for one in operations if one.invoked_at < end and one.outcome is not EventType.FAIL]
    done = [one for one in begun if one.outcome is EventType.INFO or (one.ended_at or 0) < end]
    under_way = [replace(one, ended_at=None) for one in begun if one not in done]
    return any(
        is_linearizable([*done, *some], model)
        for count in range(len(under_way) if needs_all else 0, len(under_way) + 1)
        for some in itertools.combinations(under_way, count)
    )


def check_order(placed: Sequence[Operation], model: Model) -> None:
    """The order respects time and gives every result."""
    assert respects_time(placed)
    states = {model.initial}
    for operation in placed:
        seen = operation.result if operation.outcome is EventType.OK else Mark.UNKNOWN
        states = {after for state in states for after in model.step(state, operation.op, operation.value, seen)}
    assert states


@pytest.mark.parametrize("name", sorted(MODELS))
@given(data=st.data())
def test_what_a_model_calls_a_read_changes_nothing(name: str, data: st.DataObject) -> None:
    model = MODELS[name]
    states = {model.initial}
    for op, value, result in data.draw(st.lists(CALLS[name], max_size=8)):
        # A holder whose token nobody saw is not the same state as one whose token somebody asks for.
        if model.is_read(op, value, result) and op != "holder":
            assert all(set(model.step(state, op, value, result)) <= {state} for state in states)
        seen = data.draw(st.sampled_from([result, Mark.UNKNOWN]))
        states |= {after for state in states for after in model.step(state, op, value, seen)}


def operation(op: str, value: object, result: object, begin: int, end: int | None) -> Operation:
    outcome = EventType.INFO if end is None else EventType.OK
    return Operation(begin, op, "k", value, begin, begin, outcome, result, end, end)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("model", "good", "bad"),
    [
        # An update that is lost, and one that is counted twice.
        (COUNTER, [("add", 1, 1, 0, 1), ("add", 1, 2, 2, 3)], [("add", 1, 1, 0, 1), ("add", 1, 1, 2, 3)]),
        (COUNTER, [("add", 1, None, 0, None), ("read", None, 1, 2, 3)], [("add", 1, 1, 0, 1), ("read", None, 2, 2, 3)]),
        # A read of what was overwritten, and one of what was never written.
        (
            REGISTER,
            [("put", 1, None, 0, 4), ("put", 2, None, 1, 3), ("get", None, 1, 5, 6)],
            [("put", 1, None, 0, 1), ("put", 2, None, 2, 3), ("get", None, 1, 4, 5)],
        ),
        (REGISTER, [("get", None, None, 0, 1)], [("get", None, 3, 0, 1)]),
        # True is not 1.
        (
            REGISTER,
            [("put", True, None, 0, 1), ("get", None, True, 2, 3)],
            [("put", True, None, 0, 1), ("get", None, 1, 2, 3)],
        ),
        # A delete that changes nothing at once, and something later.
        (
            REGISTER,
            [("put", 0, None, 0, 2), ("delete", None, None, 1, 3), ("get", None, None, 4, 5)],
            [("put", 0, None, 0, 1), ("delete", None, None, 2, 3), ("get", None, 0, 4, 5)],
        ),
        # Two who both think that they were first.
        (
            REGISTER,
            [("compare_and_set", [None, 1], True, 0, 1), ("compare_and_set", [None, 2], False, 2, 3)],
            [("compare_and_set", [None, 1], True, 0, 3), ("compare_and_set", [None, 2], True, 1, 2)],
        ),
        # A read that sees the second of two without the first.
        (
            APPEND_LIST,
            [("append", 1, None, 0, 1), ("append", 2, None, 2, 3), ("read", None, [1, 2], 4, 5)],
            [("append", 1, None, 0, 1), ("append", 2, None, 2, 3), ("read", None, [2], 4, 5)],
        ),
        (
            UNIQUE_SET,
            [("add", 1, True, 0, 1), ("add", 1, False, 2, 3), ("read", None, [1], 4, 5)],
            [("add", 1, True, 0, 1), ("add", 1, True, 2, 3)],
        ),
        # Two holders at a time, and a token that goes back.
        (
            LOCK,
            [("acquire", None, 1, 0, 1), ("release", 1, True, 2, 3), ("acquire", None, 5, 4, 5)],
            [("acquire", None, 1, 0, 1), ("acquire", None, 2, 2, 3)],
        ),
        (
            LOCK,
            [("acquire", None, 3, 0, 1), ("release", 3, None, 2, None), ("acquire", None, 4, 5, 6)],
            [("acquire", None, 3, 0, 1), ("release", 3, True, 2, 3), ("acquire", None, 3, 4, 5)],
        ),
    ],
)
def test_known_histories_are_judged_right(
    model: Model,
    good: list[tuple[str, object, object, int, int | None]],
    bad: list[tuple[str, object, object, int, int | None]],
) -> None:
    assert search([operation(*each) for each in good], model).verdict is Verdict.LINEARIZABLE
    assert search([operation(*each) for each in bad], model).verdict is Verdict.VIOLATED


@pytest.mark.parametrize("name", sorted(MODELS))
@given(data=st.data())
def test_operations_of_the_same_effect_do_the_same(name: str, data: st.DataObject) -> None:
    model = MODELS[name]
    states = {model.initial}
    calls = data.draw(st.lists(CALLS[name], max_size=8))
    for op, value, _ in calls:
        alike = [one for one in calls if model.effect(*one[:2]) == model.effect(op, value)]
        for state in states:
            assert len({frozenset(model.step(state, *one[:2], Mark.UNKNOWN)) for one in alike}) == 1
        states = {after for state in states for after in model.step(state, op, value, Mark.UNKNOWN)}


def test_what_failed_never_took_effect_and_what_is_unknown_may_late() -> None:
    history = History(3)
    refused = history.invoke(0, op="put", key="k", value=1, time_ns=0)
    history.fail(refused, time_ns=1)
    unknown = history.invoke(1, op="put", key="k", value=2, time_ns=2)
    history.info(unknown, time_ns=3)
    for time_ns, value in enumerate([None, None, 2], start=4):
        history.ok(history.invoke(2, op="get", key="k", value=None, time_ns=time_ns), value, time_ns=time_ns)
    assert search(history.operations(), REGISTER).verdict is Verdict.LINEARIZABLE
    history.ok(history.invoke(2, op="get", key="k", value=None, time_ns=9), 1, time_ns=9)
    assert search(history.operations(), REGISTER).verdict is Verdict.VIOLATED


def test_of_two_ways_to_a_state_the_one_that_leaves_more_unused_counts() -> None:
    """To the total 4 by 1 and 3, which come first, nothing of 2 and 2 makes 5; by 2 and 2 it is 1 that does."""
    unknown = [operation("add", amount, None, place, None) for place, amount in enumerate([1, 3, 2, 2])]
    reads = [operation("read", None, total, 2 * total, 2 * total + 1) for total in (4, 5)]
    assert search([*unknown, *reads], COUNTER).verdict is Verdict.LINEARIZABLE
    assert search([*unknown, *reads, operation("read", None, 6, 20, 21)], COUNTER).verdict is Verdict.VIOLATED


def test_a_token_that_nobody_saw_is_above_those_before_it_and_may_be_guessed() -> None:
    granted = [operation("acquire", None, 2, 0, 1), operation("release", 2, True, 2, 3)]
    unseen = operation("acquire", None, None, 4, None)
    for token, is_possible in ((1, False), (2, False), (3, True), (9, True)):
        released = operation("release", token, True, 5, 6)
        again = operation("acquire", None, 10, 7, 8)
        found = search([*granted, unseen, released, again], LOCK)
        assert (found.verdict is Verdict.LINEARIZABLE) == is_possible
    seen = operation("holder", None, 2, 5, 6)
    assert search([*granted, unseen, seen], LOCK).verdict is Verdict.VIOLATED


def test_a_search_past_its_budget_is_unknown_and_not_ok() -> None:
    operations = [operation("put", number, None, number, 1000 + number) for number in range(40)]
    impossible = operation("get", None, "nobody wrote this", 2000, 2001)
    found = search([*operations, impossible], REGISTER, steps_max=5_000)
    assert found.verdict is Verdict.UNKNOWN
    assert 5_000 < found.steps < 6_000
    assert found.stuck is not None


def test_a_thousand_unknown_operations_cost_no_more_than_their_kinds() -> None:
    """They stand in for each other, and one that the next operation undoes is not used."""
    alike = [operation("add", 1, None, number, None) for number in range(1000)]
    reads = [operation("read", None, number // 2, 2000 + 2 * number, 2001 + 2 * number) for number in range(100)]
    assert search([*alike, *reads], COUNTER, steps_max=20_000).verdict is Verdict.LINEARIZABLE
    different = [operation("put", number, None, number, None) for number in range(60)]
    reads = [operation("get", None, 59 - number, 2000 + 2 * number, 2001 + 2 * number) for number in range(60)]
    again = operation("get", None, 59, 3000, 3001)
    assert search([*different, *reads], REGISTER, steps_max=20_000).verdict is Verdict.LINEARIZABLE
    assert search([*different, *reads, again], REGISTER, steps_max=400_000).verdict is Verdict.VIOLATED


def test_an_order_that_has_gone_too_far_is_given_up() -> None:
    """Of many unknown operations some have happened, between many whose totals are known: not all sets are tried."""
    rng = random.Random(1)
    unknown = [operation("add_once", [rng.randint(1, 9), f"{number}"], None, number, None) for number in range(14)]
    happened = {rng.randrange(40): one for one in unknown[::3]}
    known, total = [], 0
    for place, ends_at in enumerate(rng.sample(range(200, 240), 40)):
        amount = rng.randint(1, 9)
        total += amount + (_added(happened[place]) if place in happened else 0)
        known.append(operation("add", amount, total, 100 + place, ends_at))
    assert search([*unknown, *known], COUNTER, steps_max=20_000).verdict is Verdict.LINEARIZABLE
    beyond = operation("read", None, total - 1, 500, 501)
    assert search([*unknown, *known, beyond], COUNTER, steps_max=60_000).verdict is Verdict.VIOLATED


def test_what_shrinks_again_has_not_gone_too_far() -> None:
    lowered = operation("add", -2, None, 0, None)
    grown, seen = operation("add", 5, 5, 1, 2), operation("read", None, 3, 1, 4)
    assert search([lowered, grown, seen], COUNTER).verdict is Verdict.LINEARIZABLE


def _added(one: Operation) -> int:
    assert isinstance(one.value, list)
    amount = one.value[0]
    assert isinstance(amount, int)
    return amount


@pytest.mark.parametrize(("clients", "keys"), [(10, 100), (50, 100), (50, 10)])
def test_ten_thousand_operations_take_a_few_steps_each(clients: int, keys: int) -> None:
    history, registers = History(clients), History(clients)
    for seed, (recorded, kind) in enumerate([(history, "counter"), (registers, "register")]):
        record(recorded, kind, clients=clients, keys=keys, count=10_000, rng=random.Random(seed))
    for recorded, model in ((history, COUNTER), (registers, REGISTER)):
        own = by_key(recorded.operations())
        assert len(own) == keys
        found = [search(operations, model) for operations in own.values()]
        assert all(one.verdict is Verdict.LINEARIZABLE for one in found)
        assert sum(one.steps for one in found) < 400_000


def record(history: History, kind: str, *, clients: int, keys: int, count: int, rng: random.Random) -> None:
    """A right history: each operation takes effect at a random time between its invocation and its end."""
    states: dict[str, int] = {}
    running: dict[int, tuple[Operation, bool, int | None]] = {}
    begun = time_ns = 0
    while begun < count or running:
        time_ns += 1
        client = rng.randrange(clients)
        if client in running:
            done, took_effect, result = running.pop(client)
            if rng.random() < 0.02:
                history.info(done, time_ns=time_ns)
            else:
                history.ok(done, result if took_effect else take_effect(states, done), time_ns=time_ns)
        elif begun < count:
            begun += 1
            op, value = draw(kind, rng, begun)
            key = f"k{rng.randrange(keys)}"
            running[client] = (history.invoke(client, op=op, key=key, value=value, time_ns=time_ns), False, None)
            for other, (one, took_effect, _) in list(running.items()):
                if not took_effect and rng.random() < 0.3:
                    running[other] = (one, True, take_effect(states, one))


def draw(kind: str, rng: random.Random, number: int) -> tuple[str, int | None]:
    if kind == "counter":
        return ("add", rng.randint(1, 3)) if rng.random() < 0.7 else ("read", None)
    return ("put", number) if rng.random() < 0.4 else ("get", None)


def take_effect(states: dict[str, int], one: Operation) -> int | None:
    match one.op, one.value:
        case "add", int(amount):
            states[one.key] = states.get(one.key, 0) + amount
            return states[one.key]
        case "read", _:
            return states.get(one.key, 0)
        case "put", int(value):
            states[one.key] = value
            return None
    return states.get(one.key)


def test_operations_that_the_model_does_not_have_are_refused() -> None:
    for model in MODELS.values():
        with pytest.raises(ValueError, match=r"operation 'jump' with None: the model knows"):
            search([operation("jump", None, None, 0, 1)], model)
    with pytest.raises(ValueError, match="'add' with True"):
        search([operation("add", True, 1, 0, 1)], COUNTER)
    keys = [Operation(0, "read", key, None, place, 0) for place, key in enumerate("ab")]
    with pytest.raises(ValueError, match="several keys"):
        search(keys, COUNTER)
