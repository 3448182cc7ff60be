"""Whether a history is linearizable: whether its operations could have happened one at a time, each between its
invocation and its end, with the results that were seen (Herlihy and Wing 1990).

The search is Wing and Gong's ("Testing and verifying concurrent objects", 1993) with the refinements of Lowe ("Testing
for linearizability", 2017): each key by itself; configurations that were met before are not searched again; and an
operation is placed just in time, when the end of one is reached that was not placed yet. Beyond these:

- A read that may be placed now is: it changes nothing, so no later place can be better.
- Operations of unknown outcome with the same effect are used in the order of their invocations: they can stand in for
  each other. One whose effect the very next operation undoes is not used at all. Of two configurations that differ only
  in which were used, the one that used fewer can do whatever the other can.
"""

import enum
import itertools
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from simulations.checkers.history import EventType, Operation
from simulations.checkers.models import Mark, Model, Result, State

STEPS_MAX: Final = 2_000_000
"""Steps of the model in one history: some seconds, and a few hundred megabytes at most. Histories of the simulator take
a handful an operation."""


class Verdict(enum.Enum):
    """What the search found."""

    LINEARIZABLE = "linearizable"
    VIOLATED = "violated"
    UNKNOWN = "unknown"
    """The budget was spent: neither is known."""


@dataclass(frozen=True, slots=True)
class Search:
    """The result for one key.

    Attributes:
        steps: how often the model was asked.
        configurations: how many were searched, each once.
        placed: an order of operations that gets as far as any that was found; all of them if linearizable.
        state: the object after those.
        stuck: the operation whose end no order gets past, the results of those under way considered; or at whose end
            the furthest order stood when the budget was spent; None if linearizable.
        refused: the other operations under way at that end that can't be placed next in ``state``.
    """

    verdict: Verdict
    steps: int
    configurations: int
    placed: tuple[Operation, ...]
    state: State
    stuck: Operation | None = None
    refused: tuple[Operation, ...] = ()


def by_key(operations: Iterable[Operation]) -> dict[str, tuple[Operation, ...]]:
    """The operations of each key, in the order in which the keys first occur."""
    found: dict[str, list[Operation]] = {}
    for operation in operations:
        found.setdefault(operation.key, []).append(operation)
    return {key: tuple(own) for key, own in found.items()}


def search(operations: Sequence[Operation], model: Model, *, steps_max: int = STEPS_MAX) -> Search:
    """Look for an order of the operations of one key.

    Raises:
        ValueError: the model has no such operation, or the keys differ.
    """
    if len({operation.key for operation in operations}) > 1:
        raise ValueError("operations of several keys: search each key by itself, see by_key")
    return _Searcher(operations, model, steps_max).run()


@dataclass(frozen=True, slots=True)
class _Path:
    """Operations in the order in which they were placed, the last one first."""

    before: "_Path | None"
    operation: Operation

    def in_order(self) -> tuple[Operation, ...]:
        found = []
        path: _Path | None = self
        while path is not None:
            found.append(path.operation)
            path = path.before
        return tuple(reversed(found))


@dataclass(frozen=True, slots=True)
class _Configuration:
    """A point of the search.

    Attributes:
        end: how many ends are passed.
        placed: of the operations that end later, which are placed: bit 0 for the one that ends next.
        used: of the operations of unknown outcome, which are placed; a bit each.
        path: how it came here.
        without: if the last that was placed is of unknown outcome, the state before it.
    """

    end: int
    placed: int
    used: int
    state: State
    path: _Path | None
    without: State | None = None


class _Searcher:
    """One search."""

    def __init__(self, operations: Sequence[Operation], model: Model, steps_max: int) -> None:
        self._model = model
        self._steps_max = steps_max
        self._steps = 0
        self._configurations = 0
        # Which are known to lead nowhere new, by what must be equal; for each the least sets of ``used``.
        self._met: dict[tuple[int, int, State], list[int]] = {}
        known = [operation for operation in operations if operation.outcome is EventType.OK]
        self._ending = sorted(known, key=lambda operation: operation.ended_at or 0)
        self._is_read = [model.is_read(one.op, one.value, one.result) for one in self._ending]
        self._unknown = sorted(
            (
                one
                for one in operations
                if one.outcome is EventType.INFO and not model.is_read(one.op, one.value, Mark.UNKNOWN)
            ),
            key=lambda operation: operation.invoked_at,
        )
        self._under_way = _under_way(self._ending)
        self._invoked = _count_invoked(self._ending, self._unknown)
        self._alike = _group_alike(self._unknown, model)
        self._totals = _totals(self._ending, operations, model)
        self._furthest = _Configuration(0, 0, 0, model.initial, None)

    def run(self) -> Search:
        start = self._settle(self._furthest)
        self._furthest = start
        if start.end == len(self._ending):
            return self._result(Verdict.LINEARIZABLE)
        self._is_new(start)
        # As deep as there are operations.
        stack = [self._choices(start)]
        while stack:
            if self._steps > self._steps_max:
                return self._result(Verdict.UNKNOWN)
            chosen = next(stack[-1], None)
            if chosen is None:
                stack.pop()
                continue
            settled = self._settle(chosen)
            if settled.end > self._furthest.end:
                self._furthest = settled
            if settled.end == len(self._ending):
                return self._result(Verdict.LINEARIZABLE)
            if not self._is_too_far(settled) and self._is_new(settled):
                stack.append(self._choices(settled))
        return self._result(Verdict.VIOLATED)

    def _result(self, verdict: Verdict) -> Search:
        at = self._furthest
        placed = () if at.path is None else at.path.in_order()
        if verdict is Verdict.LINEARIZABLE:
            return Search(verdict, self._steps, self._configurations, placed, at.state)
        stuck = self._ending[at.end]
        refused = tuple(
            self._ending[number]
            for number in self._under_way[at.end]
            if number != at.end
            and not at.placed >> number - at.end & 1
            and not self._step(at.state, self._ending[number])
        )
        return Search(verdict, self._steps, self._configurations, placed, at.state, stuck, refused)

    def _step(self, state: State, operation: Operation) -> tuple[State, ...]:
        self._steps += 1
        result: Result = operation.result if operation.outcome is EventType.OK else Mark.UNKNOWN
        return self._model.step(state, operation.op, operation.value, result)

    def _settle(self, at: _Configuration) -> _Configuration:
        """Place all reads that may be, and pass the ends of what is placed."""
        end, placed, path, without = at.end, at.placed, at.path, at.without
        while end < len(self._ending):
            for number in self._under_way[end]:
                bit = 1 << number - end
                if (
                    self._is_read[number]
                    and not placed & bit
                    and self._step(at.state, self._ending[number]) == (at.state,)
                ):
                    placed |= bit
                    path = _Path(path, self._ending[number])
                    without = None
            if not placed & 1:
                break
            placed >>= 1
            end += 1
        return _Configuration(end, placed, at.used, at.state, path, without)

    def _choices(self, at: _Configuration) -> Iterator[_Configuration]:
        """What may be placed next: what has to be, then what makes that possible, then all else.

        Last comes what may never have happened.
        """
        due = self._ending[at.end]
        states = self._place(at, due)
        for state in states:
            yield _Configuration(at.end, at.placed | 1, at.used, state, _Path(at.path, due))
        others = itertools.chain(self._place_ending(at), self._place_unknown(at))
        if states:
            yield from others
            return
        waiting = []
        for choice in others:
            if self._step(choice.state, due):
                yield choice
            else:
                waiting.append(choice)
        yield from waiting

    def _place(self, at: _Configuration, operation: Operation) -> tuple[State, ...]:
        """The states that follow, without those that come about as well without what was placed last for nothing."""
        states = self._step(at.state, operation)
        if at.without is None or not states:
            return states
        known = self._step(at.without, operation)
        return tuple(state for state in states if state not in known) if known else states

    def _place_ending(self, at: _Configuration) -> Iterator[_Configuration]:
        """Place one that is under way and ends later than the next, the soonest first."""
        for number in self._under_way[at.end]:
            bit = 1 << number - at.end
            if number == at.end or at.placed & bit:
                continue
            operation = self._ending[number]
            for state in self._place(at, operation):
                yield _Configuration(at.end, at.placed | bit, at.used, state, _Path(at.path, operation))

    def _place_unknown(self, at: _Configuration) -> Iterator[_Configuration]:
        """Place one of unknown outcome that has an effect."""
        invoked = self._invoked[at.end]
        for bits, numbers in self._alike:
            used = (at.used & bits).bit_count()
            if used == len(numbers) or numbers[used] >= invoked:
                continue
            bit, operation = 1 << numbers[used], self._unknown[numbers[used]]
            for state in self._place(at, operation):
                if state != at.state:
                    path = _Path(at.path, operation)
                    yield _Configuration(at.end, at.placed, at.used | bit, state, path, without=at.state)

    def _is_too_far(self, at: _Configuration) -> bool:
        """Whether the object has grown past what one under way saw that is not placed yet."""
        totals, state = self._totals, at.state
        if totals is None:
            return False
        assert isinstance(state, int)
        return any(
            totals[number] < state and not at.placed >> number - at.end & 1 for number in self._under_way[at.end]
        )

    def _is_new(self, at: _Configuration) -> bool:
        """Whether nothing that was met before can do all that this configuration can; if so, it is met now."""
        least = self._met.setdefault((at.end, at.placed, at.state), [])
        if any(used & ~at.used == 0 for used in least):
            return False
        least[:] = [used for used in least if at.used & ~used]
        least.append(at.used)
        self._configurations += 1
        return True


def _under_way(ending: Sequence[Operation]) -> list[list[int]]:
    """For each end, which operations are under way just before it, by their ends."""
    invocations = sorted(range(len(ending)), key=lambda number: ending[number].invoked_at)
    found: list[list[int]] = []
    begun = 0
    current: list[int] = []
    for number, operation in enumerate(ending):
        assert operation.ended_at is not None
        news = []
        while begun < len(invocations) and ending[invocations[begun]].invoked_at < operation.ended_at:
            news.append(invocations[begun])
            begun += 1
        current = sorted([*(one for one in current if one >= number), *news])
        found.append(current)
    return found


def _count_invoked(ending: Sequence[Operation], unknown: Sequence[Operation]) -> list[int]:
    """For each end, how many operations of unknown outcome were invoked before it."""
    found = []
    count = 0
    for operation in ending:
        assert operation.ended_at is not None
        while count < len(unknown) and unknown[count].invoked_at < operation.ended_at:
            count += 1
        found.append(count)
    return found


def _totals(ending: Sequence[Operation], operations: Sequence[Operation], model: Model) -> list[float] | None:
    """For each end, what the object has grown to just after that operation; None if it does not only grow."""
    if model.total is None:
        return None
    added = (model.effect(operation.op, operation.value) for operation in operations)
    if not all(isinstance(amount, int) and amount >= 0 for amount in added):
        return None
    return [model.total(operation.result) for operation in ending]


def _group_alike(unknown: Sequence[Operation], model: Model) -> list[tuple[int, list[int]]]:
    """The operations of unknown outcome by what they do: the bits of those that do the same, and their numbers."""
    found: dict[Hashable, list[int]] = {}
    for number, operation in enumerate(unknown):
        found.setdefault(model.effect(operation.op, operation.value), []).append(number)
    return [(sum(1 << number for number in numbers), numbers) for numbers in found.values()]
