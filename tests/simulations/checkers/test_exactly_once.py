"""Requests against what the agents hold: lost, duplicated, phantom."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulations.checkers.exactly_once import ExactlyOnce, Outcome
from simulations.checkers.violation import Violation
from tests.simulations.checkers.violations import Clock, violates


@pytest.fixture
def ledger() -> ExactlyOnce:
    """Of one agent: a and b acknowledged, c unknown, d refused."""
    found = ExactlyOnce(Clock())
    for request_id, amount in (("a", 1), ("b", 2), ("c", 4), ("d", 8)):
        found.tried("k", request_id, amount)
    found.acknowledged("k", "a", 1)
    found.acknowledged("k", "b", 3)
    found.refused("k", "d")
    return found


@pytest.mark.parametrize("applied", [{"a": 1, "b": 1}, {"a": 1, "b": 1, "c": 1}, {"a": 1, "b": 1, "d": 0}])
def test_acknowledged_once_and_unknown_at_most_once_is_right(ledger: ExactlyOnce, applied: dict[str, int]) -> None:
    ledger.check_applied("k", applied)
    ledger.check_total("k", sum({"a": 1, "b": 2, "c": 4}[name] for name, times in applied.items() if times))


def test_what_is_wrong_has_a_name(ledger: ExactlyOnce) -> None:
    with violates("exactly-once-lost", match=r"k lost acknowledged requests: 'b'"):
        ledger.check_applied("k", {"a": 1})
    with violates("exactly-once-duplicated", match=r"more than once: 'c'"):
        ledger.check_applied("k", {"a": 1, "b": 1, "c": 2})
    with violates("exactly-once-phantom", match=r"refused or never made: 'd'"):
        ledger.check_applied("k", {"a": 1, "b": 1, "d": 1})
    with violates("exactly-once-phantom", match=r"'z'"):
        ledger.check_applied("k", {"a": 1, "b": 1, "z": 1})
    with violates("exactly-once-lost", match=r"holds 2: 3 are acknowledged and 4 unknown, so 1 are lost"):
        ledger.check_total("k", 2)
    with violates("exactly-once-duplicated", match=r"so 1 are too many"):
        ledger.check_total("k", 8)
    with violates("exactly-once-total", match=r"no choice of these"):
        ledger.check_total("k", 5)
    with violates("exactly-once-reply", match=r"answered 1 and then 2"):
        ledger.acknowledged("k", "a", 2)


def test_a_request_that_is_tried_again_under_its_id_is_one_request(ledger: ExactlyOnce) -> None:
    ledger.tried("k", "c", 4)
    ledger.refused("k", "c")
    assert ledger.outcome("k", "c") is Outcome.UNKNOWN  # the first try may have taken effect
    ledger.tried("k", "d", 8)
    assert ledger.outcome("k", "d") is Outcome.UNKNOWN
    ledger.refused("k", "d")
    assert ledger.outcome("k", "d") is Outcome.REFUSED
    ledger.acknowledged("k", "c", 7)
    ledger.refused("k", "a")
    assert [ledger.outcome("k", name) for name in "ac"] == [Outcome.ACKNOWLEDGED] * 2
    ledger.check_total("k", 7)
    ledger.check_total("other", 0)


def test_a_request_that_ended_in_an_error_ends_so_each_time_and_has_no_effect(ledger: ExactlyOnce) -> None:
    ledger.tried("k", "c", 4)
    ledger.failed("k", "c", "too much")
    ledger.failed("k", "c", "too much")
    assert ledger.outcome("k", "c") is Outcome.REFUSED
    assert [ledger.may_have_run("k", name) for name in "abcd"] == [True, True, True, False]
    with violates("exactly-once-duplicated"):
        ledger.check_total("k", 7)
    with violates("exactly-once-reply", match=r"answered \('error', 'too much'\) and then \('error', 'no'\)"):
        ledger.failed("k", "c", "no")
    with violates("exactly-once-reply", match="and then 7"):
        ledger.acknowledged("k", "c", 7)
    with violates("exactly-once-reply", match="answered 1 and then"):
        ledger.failed("k", "a", "too much")


@given(
    sure=st.lists(st.integers(1, 5), max_size=4),
    maybe=st.lists(st.integers(1, 5), max_size=5),
    total=st.integers(0, 45),
)
def test_a_total_is_right_exactly_if_some_choice_of_the_unknown_makes_it(
    sure: list[int], maybe: list[int], total: int
) -> None:
    ledger = ExactlyOnce(Clock())
    for number, amount in enumerate(sure):
        ledger.tried("k", f"sure {number}", amount)
        ledger.acknowledged("k", f"sure {number}")
    for number, amount in enumerate(maybe):
        ledger.tried("k", f"maybe {number}", amount)
    choices = itertools.product([0, 1], repeat=len(maybe))
    sums = {sum(sure) + sum(itertools.compress(maybe, choice)) for choice in choices}
    try:
        ledger.check_total("k", total)
    except Violation:
        assert total not in sums
    else:
        assert total in sums


def test_what_is_recorded_wrongly_is_refused(ledger: ExactlyOnce) -> None:
    with pytest.raises(ValueError, match="adds 3 and before 1: take a new id"):
        ledger.tried("k", "a", 3)
    with pytest.raises(ValueError, match="amounts are whole numbers from 1"):
        ledger.tried("k", "e", 0)
    ledger.tried("k", "e", 1 << 30)
    with pytest.raises(ValueError, match="choose amounts"):
        ledger.check_total("k", 3)


def test_long_lists_are_cut() -> None:
    ledger = ExactlyOnce(Clock())
    with violates("exactly-once-phantom", match="'9' and 5 more"):
        ledger.check_applied("k", {str(number): 1 for number in range(15)})
