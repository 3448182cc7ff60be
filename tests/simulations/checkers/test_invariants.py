"""The list of invariants: complete, and each with a test that breaks it."""

import pickle
import re
from pathlib import Path

import pytest

import simulations.checkers
import simulations.mesh
from simulations.checkers import INVARIANTS, LIVENESS
from simulations.checkers.violation import Violation

CHECKERS = Path(simulations.checkers.__file__).parent
MESH = Path(simulations.mesh.__file__).parent
TESTS = Path(__file__).parent
NAME = r"[a-z]+(?:-[a-z]+)+|linearizability"


def raised(sources: Path) -> set[str]:
    """The names in the first argument of every violation that is made."""
    found: set[str] = set()
    for path in sorted(sources.glob("*.py")):
        text = path.read_text(encoding="utf-8")
        found |= set(re.findall(rf'(?:Violation|_violation|violated|Unmet)\(\s*"({NAME})"', text))
    return found


def test_every_invariant_that_is_raised_is_listed_with_a_sentence_and_no_other() -> None:
    assert raised(CHECKERS) | raised(MESH) == INVARIANTS.keys()
    assert all(sentence.endswith(".") for sentence in INVARIANTS.values())
    assert INVARIANTS.keys() >= LIVENESS


@pytest.mark.parametrize("invariant", sorted(raised(CHECKERS)))
def test_some_test_breaks_it(invariant: str) -> None:
    tests = [path.read_text(encoding="utf-8") for path in TESTS.glob("test_*.py")]
    assert any(re.search(rf'(?:violates|breaks)\("{invariant}"', text) for text in tests)


def test_a_violation_says_what_when_and_where() -> None:
    violation = Violation("raft-log-matching", virtual_s=1.5, message="they differ", nodes=[2, 1, 2])
    assert str(violation) == "raft-log-matching at 1.500000 s: they differ (nodes 1, 2)"
    assert violation.nodes == (1, 2)
    assert str(pickle.loads(pickle.dumps(violation))) == str(violation)  # noqa: S301
    assert str(Violation("liveness-raft", virtual_s=0.0, message="nobody leads")) == (
        "liveness-raft at 0.000000 s: nobody leads"
    )
