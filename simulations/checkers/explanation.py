"""Whole histories, key by key, and why one of them is not linearizable.

An explanation keeps what is needed to see the contradiction. Of the operations that were begun before the end that no
order gets past, it finds a part that contradicts itself *whatever the others did*: each of those counts as one of
unknown outcome, which may have taken effect at any time or never. So it does not blame a read for a value whose write
was cut away.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from simulations.checkers.history import EventType, Operation
from simulations.checkers.linearizability import STEPS_MAX, Search, Verdict, by_key, search
from simulations.checkers.models import Model
from simulations.checkers.violation import Violation

EXPLAINED_MAX: Final = 3
"""Keys that are explained: the first ones show what is wrong, and each costs many searches."""

SHOWN_MAX: Final = 24
"""Operations of a core that the text shows: a screen."""

TRIAL_STEPS_MAX: Final = 100_000
"""For one search of an explanation: a part that takes more does not count as contradicting itself."""

TRIALS_STEPS_MAX: Final = 500_000
"""For all searches of one explanation: a few seconds. What is left then is shown, not the smallest part."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why the operations of one key can't have happened one at a time.

    Attributes:
        placed: the longest prefix that is linearizable, with what is under way at its end, in an order that explains
            it.
        state: what the object would be after it.
        stuck: the operation that can't be placed before its end.
        refused: others under way then that can't be placed next.
        core: the smallest part found that contradicts itself, in the order of the invocations.
    """

    key: str
    placed: tuple[Operation, ...]
    state: str
    stuck: Operation
    refused: tuple[Operation, ...]
    core: tuple[Operation, ...]

    def __str__(self) -> str:
        lines = [f"key {self.key!r}: {len(self.placed)} operations fit, to the state {self.state}; then no place for"]
        lines += [f"  {operation}" for operation in (self.stuck, *self.refused)]
        lines += ["because these contradict each other, whatever the others did:"]
        lines += [f"  {operation}" for operation in self.core[-SHOWN_MAX:]]
        lines += [f"  and {len(self.core) - SHOWN_MAX} before these"] if len(self.core) > SHOWN_MAX else []
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Report:
    """The verdict on a history.

    Attributes:
        verdict: VIOLATED if any key is, else UNKNOWN if any key is.
        keys: how many there are.
        steps: how often the model was asked, without explanations.
        violated: the keys that are not linearizable.
        unknown: the keys for which the budget was too small.
        explanations: of the first `EXPLAINED_MAX` of the violated keys.
    """

    verdict: Verdict
    keys: int
    steps: int
    violated: tuple[str, ...]
    unknown: tuple[str, ...]
    explanations: tuple[Explanation, ...]

    def violation(self) -> Violation | None:
        """The violation, if there is one; an unknown verdict is none, but no proof of the contrary either."""
        if self.verdict is not Verdict.VIOLATED:
            return None
        first = self.explanations[0]
        at_s = (first.stuck.ended_ns or first.stuck.invoked_ns) / 1e9
        others = f"; so are {len(self.violated) - 1} other keys" if len(self.violated) > 1 else ""
        return Violation("linearizability", virtual_s=at_s, message=f"{first}{others}")


def check_history(operations: Iterable[Operation], model: Model, *, steps_max: int = STEPS_MAX) -> Report:
    """Judge a history. Keys with few operations come first, so that a hard one costs no other its verdict.

    Args:
        operations: of all keys; `history.History.operations` gives them.
        model: of each key.
        steps_max: for all keys together.

    Raises:
        ValueError: the model has no such operation.
    """
    keys = by_key(operations)
    spent = 0
    unknown: list[str] = []
    violated: list[tuple[str, Search]] = []
    for key, own in sorted(keys.items(), key=lambda item: (len(item[1]), item[0])):
        found = search(own, model, steps_max=steps_max - spent)
        spent += found.steps
        match found.verdict:
            case Verdict.UNKNOWN:
                unknown.append(key)
                spent = min(spent, steps_max)
            case Verdict.VIOLATED:
                violated.append((key, found))
            case Verdict.LINEARIZABLE:
                pass
    verdict = Verdict.VIOLATED if violated else Verdict.UNKNOWN if unknown else Verdict.LINEARIZABLE
    return Report(
        verdict,
        len(keys),
        spent,
        tuple(key for key, _ in violated),
        tuple(unknown),
        tuple(explain(keys[key], model, found) for key, found in violated[:EXPLAINED_MAX]),
    )


def explain(operations: Sequence[Operation], model: Model, found: Search) -> Explanation:
    """Make a failed search understandable.

    Args:
        operations: of one key.
        found: what `search` returned for them: VIOLATED.
    """
    assert found.verdict is Verdict.VIOLATED, found.verdict
    assert found.stuck is not None
    core = _core(operations, model, found.stuck)
    key, state = found.stuck.key, f"{found.state!r:.200}"
    return Explanation(key, found.placed, state, found.stuck, found.refused, core)


def _core(operations: Sequence[Operation], model: Model, stuck: Operation) -> tuple[Operation, ...]:
    """Binary searches for the operations without which there is no contradiction, from the end on backwards.

    With the needed ones bound to their results, the shortest run of operations before the end that must be bound too
    begins with another needed one (the deletion-free search for a minimal unsatisfiable core; Junker, "QuickXplain",
    2004, has the idea).
    """
    assert stuck.ended_at is not None
    begun = [operation for operation in operations if operation.invoked_at < stuck.ended_at]
    known = [operation for operation in begun if operation.outcome is EventType.OK]
    bound = sorted(known, key=lambda operation: operation.ended_at or 0)
    # What begins later can't help anyone who ends before.
    last = bound[-1].ended_at or 0
    prefix = [
        operation for operation in operations if operation.invoked_at < last and operation.outcome is not EventType.FAIL
    ]
    trials = _Trials(prefix, model)
    needed: list[Operation] = []
    while bound and not trials.contradict(needed):
        # Binding ``enough`` of the last contradicts, or is too much to search; binding ``few`` does not.
        few, enough = 0, len(bound)
        reach = 1
        while reach < enough and not trials.contradict([*needed, *bound[-reach:]]):
            few, reach = reach, 4 * reach
        enough = min(reach, enough)
        while enough - few > 1:
            middle = (few + enough) // 2
            if trials.contradict([*needed, *bound[-middle:]]):
                enough = middle
            else:
                few = middle
        if trials.is_spent:
            needed.extend(bound[-enough:])
            break
        needed.append(bound[-enough])
        bound = bound[len(bound) - enough + 1 :]
    return tuple(sorted(needed, key=lambda operation: operation.invoked_at))


class _Trials:
    """Searches with some operations bound to their results and all others of unknown outcome."""

    def __init__(self, prefix: Sequence[Operation], model: Model) -> None:
        self._prefix = prefix
        self._model = model
        self._steps_left = TRIALS_STEPS_MAX

    @property
    def is_spent(self) -> bool:
        """Whether no more can be searched."""
        return self._steps_left <= 0

    def contradict(self, bound: Iterable[Operation]) -> bool:
        """Whether these can't be placed, whatever the others did, as far as the budget tells."""
        if self.is_spent:
            return False
        places = {operation.invoked_at for operation in bound}
        trial = [operation if operation.invoked_at in places else _unbound(operation) for operation in self._prefix]
        tried = search(trial, self._model, steps_max=min(TRIAL_STEPS_MAX, self._steps_left))
        self._steps_left -= tried.steps + len(trial)
        return tried.verdict is Verdict.VIOLATED


def _unbound(operation: Operation) -> Operation:
    """The operation as if nobody knew how it ended."""
    return replace(operation, outcome=EventType.INFO, result=None, ended_at=None, ended_ns=None)
