"""Expecting a violation by its name."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from consensus.errors import LostLog
from simulations.checkers import INVARIANTS
from simulations.checkers.violation import Violation


class Clock:
    """Virtual seconds that a test moves."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@contextmanager
def violates(invariant: str, *, match: str | None = None) -> Iterator[None]:
    """The block raises this violation, and says so in words that match."""
    assert invariant in INVARIANTS, f"{invariant} is not listed"
    with pytest.raises(Violation, match=match) as caught:
        yield
    assert caught.value.invariant == invariant, caught.value


def first_violation(run: Callable[[int], object], *, seeds: int) -> str | None:
    """The invariant that breaks in the first run that breaks one; runs that a core itself ends are passed over."""
    for seed in range(seeds):
        try:
            run(seed)
        except Violation as violation:
            return violation.invariant
        except (AssertionError, IndexError, LostLog):
            continue
    return None
