"""Expecting a violation by its name."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from simulations.checkers import INVARIANTS
from simulations.checkers.violation import Violation


class Clock:
    """Virtual seconds that a test moves."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@contextmanager
def violates(invariant: str, *, match: str = "") -> Iterator[None]:
    """The block raises this violation, and says so in words that match."""
    assert invariant in INVARIANTS, f"{invariant} is not listed"
    with pytest.raises(Violation, match=match) as caught:
        yield
    assert caught.value.invariant == invariant, caught.value
