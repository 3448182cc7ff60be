"""Whole histories: each key by itself, and why a violated one is."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from simulations.checkers.explanation import check_history, explain
from simulations.checkers.history import EventType, History, Operation
from simulations.checkers.linearizability import Verdict, search
from simulations.checkers.models import COUNTER, MODELS, REGISTER
from tests.simulations.checkers.brute import histories, is_linearizable
from tests.simulations.checkers.test_linearizability import CALLS
from tests.simulations.checkers.violations import violates


def put_and_get(history: History, key: str, seen: int) -> None:
    """One put of 1, one of 2, and a read of ``seen``, among reads that are right."""
    time_ns = 0 if not len(history) else list(history)[-1].time_ns
    for op, value, result in (
        ("get", None, None),
        ("put", 1, None),
        ("get", None, 1),
        ("put", 2, None),
        ("get", None, seen),
    ):
        time_ns += 1_000_000_000
        done = history.invoke(0, op=op, key=key, value=value, time_ns=time_ns)
        history.ok(done, result, time_ns=time_ns)


def test_each_key_is_judged_by_itself() -> None:
    history = History(1)
    put_and_get(history, "good", 2)
    put_and_get(history, "bad", 1)
    put_and_get(history, "too", 1)
    report = check_history(history.operations(), REGISTER)
    assert (report.verdict, report.keys, report.violated, report.unknown) == (
        Verdict.VIOLATED,
        3,
        ("bad", "too"),
        (),
    )
    explanation = report.explanations[0]
    assert [(done.op, done.value, done.result) for done in explanation.core] == [
        ("get", None, 1),
        ("put", 2, None),
        ("get", None, 1),
    ]
    assert explanation.stuck.result == 1
    assert len(explanation.placed) == 4
    assert explanation.state == "'2'"
    violation = report.violation()
    assert violation is not None
    assert violation.virtual_s == 10.0
    assert "key 'bad': 4 operations fit" in violation.message
    assert "so are 1 other keys" in violation.message
    with violates("linearizability", match="contradict each other"):
        raise violation


def test_a_good_history_is_no_violation() -> None:
    history = History(1)
    put_and_get(history, "good", 2)
    report = check_history(history.operations(), REGISTER)
    assert report.verdict is Verdict.LINEARIZABLE
    assert report.violation() is None


def test_a_hard_key_is_unknown_and_costs_no_other_its_verdict() -> None:
    history = History(60)
    put_and_get(history, "bad", 1)
    under_way = [history.invoke(client, op="put", key="hard", value=client, time_ns=10**11) for client in range(60)]
    for done in under_way:
        history.ok(done, None, time_ns=2 * 10**11)
    done = history.invoke(0, op="get", key="hard", value=None, time_ns=3 * 10**11)
    history.ok(done, "nobody wrote this", time_ns=3 * 10**11)
    report = check_history(history.operations(), REGISTER, steps_max=3_000)
    assert (report.verdict, report.violated, report.unknown) == (Verdict.VIOLATED, ("bad",), ("hard",))
    hard = [done for done in history.operations() if done.key == "hard"]
    alone = check_history(hard, REGISTER, steps_max=3_000)
    assert alone.verdict is Verdict.UNKNOWN
    assert alone.violation() is None


def test_a_lost_update_is_explained_by_the_two_who_got_the_same_total() -> None:
    history = History(2)
    for total in (1, 2, 3, 3, 4):
        done = history.invoke(0, op="add", key="k", value=1, time_ns=total)
        history.ok(done, total, time_ns=total)
    (explanation,) = check_history(history.operations(), COUNTER).explanations
    assert [done.result for done in explanation.core] == [3, 3]
    assert "2 operations" not in str(explanation).splitlines()[0]
    assert str(explanation).count("add k 1 -> 3") == 3


def test_what_begins_later_may_excuse_one_that_was_under_way_and_so_it_is_not_blamed() -> None:
    history = History(3)
    slow = history.invoke(0, op="add", key="k", value=1, time_ns=0)
    wrong = history.invoke(1, op="read", key="k", value=None, time_ns=1)
    history.ok(wrong, 7, time_ns=2)
    later = history.invoke(2, op="add", key="k", value=4, time_ns=3)
    history.ok(later, 4, time_ns=4)
    history.ok(slow, 5, time_ns=5)
    (explanation,) = check_history(history.operations(), COUNTER).explanations
    assert [done.result for done in explanation.core] == [7]


@pytest.mark.parametrize("name", sorted(MODELS))
@given(data=st.data())
@settings(max_examples=40)
def test_the_core_contradicts_itself_whatever_the_others_did_and_each_part_of_it_is_needed(
    name: str, data: st.DataObject
) -> None:
    model = MODELS[name]
    operations = data.draw(histories(CALLS[name], most=5))
    found = search(operations, model)
    assume(found.verdict is Verdict.VIOLATED)
    explanation = explain(operations, model, found)
    core = {operation.invoked_at for operation in explanation.core}
    assert not is_linearizable(explanation.core, model)
    assert not is_linearizable(bound(operations, core), model)
    for one in core:
        assert is_linearizable(bound(operations, core - {one}), model)


def bound(operations: tuple[Operation, ...], places: set[int]) -> list[Operation]:
    """Only these have known results; of the others nobody knows whether they took effect."""
    return [
        done
        if done.invoked_at in places
        else replace(done, outcome=EventType.INFO, result=None, ended_at=None, ended_ns=None)
        for done in operations
        if done.outcome is not EventType.FAIL
    ]


def test_what_is_too_much_to_search_is_shown_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    history = History(1)
    for number in range(30):
        history.ok(history.invoke(0, op="add", key="k", value=1, time_ns=number), number + 1, time_ns=number)
    history.ok(history.invoke(0, op="read", key="k", value=None, time_ns=40), 4, time_ns=41)
    (explanation,) = check_history(history.operations(), COUNTER).explanations
    assert [done.result for done in explanation.core] == [30, 4]
    monkeypatch.setattr("simulations.checkers.explanation.TRIALS_STEPS_MAX", 1)
    (explanation,) = check_history(history.operations(), COUNTER).explanations
    assert len(explanation.core) == 31
    assert "and 7 before these" in str(explanation)


EXPLAIN = """
from simulations.checkers.explanation import check_history
from simulations.checkers.history import History
from simulations.checkers.models import REGISTER
from tests.simulations.checkers.test_explanation import put_and_get
history = History(1)
for key in ("left", "right", "up", "down"):
    put_and_get(history, key, 1)
print(check_history(history.operations(), REGISTER).violation())
"""


def test_an_explanation_does_not_depend_on_the_hash_seed() -> None:
    texts = [
        subprocess.run(
            [sys.executable, "-c", EXPLAIN],
            cwd=Path(__file__).parents[3],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for hash_seed in ("0", "4242")
    ]
    assert texts[0] == texts[1]
    assert "key 'down'" in texts[0]
