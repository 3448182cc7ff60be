"""Claims of locks, as the replicated state has them."""

import pytest

from simulations.checkers.claims import ClaimsChecker
from tests.simulations.checkers.violations import Clock, violates

A, B, C = (1, 1), (2, 1), (3, 1)


@pytest.fixture
def claims() -> ClaimsChecker:
    return ClaimsChecker(Clock())


def test_what_goes_in_order_is_as_it_should_be(claims: ClaimsChecker) -> None:
    claims.applied(3, [(A, ("x",), 3)])
    claims.applied(4, [(A, ("x",), 3), (B, ("x", "y"), 0), (C, ("z",), 4)])
    claims.applied(5, [(A, ("x",), 3), (B, ("x", "y"), 0), (C, ("z",), 4)])
    claims.applied(7, [(B, ("x", "y"), 7), (C, ("z",), 4)])


def test_who_overtakes_an_older_claim_is_found(claims: ClaimsChecker) -> None:
    with violates("locks-fair", match=r"\(2, 1\).*is granted, and \(1, 1\) is older"):
        claims.applied(4, [(A, ("x",), 0 + 3), (B, ("y", "x"), 4)])


def test_a_claim_that_could_be_granted_and_is_not_is_found(claims: ClaimsChecker) -> None:
    with violates("locks-stuck"):
        claims.applied(4, [(A, ("x",), 3), (B, ("y",), 0)])


def test_a_token_that_changes_is_found(claims: ClaimsChecker) -> None:
    claims.applied(4, [(A, ("x",), 3)])
    with violates("locks-grant"):
        claims.applied(5, [(A, ("x",), 5)])


def test_each_stamp_is_looked_at_once(claims: ClaimsChecker) -> None:
    claims.applied(4, [(A, ("x",), 3)])
    claims.applied(4, [(A, ("x",), 0)])
    claims.applied(2, [(A, ("x",), 0)])
