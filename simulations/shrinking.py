"""Plans made smaller: what is not needed for a failure goes."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, TypeVar

from simulations.campaign import Result, run_plan
from simulations.plan import AnyPlan, Plan

P = TypeVar("P", bound=AnyPlan)

RUNS_MAX = 400
"""A plan of whole nodes that fails late takes some ten minutes for so many runs."""

HALVINGS_MAX = 8
"""Of one number: a 256th of it is as good as the least."""

LOADS: dict[str, tuple[tuple[str, float, str], ...]] = {
    "mesh": (
        ("calls_per_s", 1.0, "calls a second"),
        ("clients", 1, "clients"),
        ("keys", 1, "agents"),
        ("partitions", 1, "partitions"),
    ),
    "raft": (
        ("workload.changes_per_s", 0.0, "changes of the members a second"),
        ("workload.transfers_per_s", 0.0, "transfers a second"),
        ("workload.campaigns_per_s", 0.0, "campaigns a second"),
        ("workload.isolations_per_s", 0.0, "isolations a second"),
        ("workload.proposals_per_s", 0.0, "proposals a second"),
    ),
    "partitions": (
        ("workload.meddling_per_s", 0.0, "needless changes of rows a second"),
        ("workload.copies_per_s", 0.0, "copies a second"),
        ("workload.isolations_per_s", 0.0, "isolations a second"),
        ("workload.clients", 1, "clients"),
        ("workload.partitions", 1, "partitions"),
    ),
    "placement": (
        ("workload.changes_per_s", 0.0, "changes of nodes a second"),
        ("workload.elections_per_s", 0.0, "elections a second"),
        ("workload.lost", 0.0, "of copies lost"),
        ("workload.partitions", 1, "partitions"),
    ),
}
"""The numbers of a plan that make its operations, each with the least that it can be: of whole nodes, and by the
worlds of cores that have any."""


class Shrinking:
    """The search for a smaller plan.

    Args:
        plan: fails.
        invariant: what it violates; a plan that violates another one is of no use.
        run: runs a plan.
        tell: told of each step.
        runs_max: the search ends after so many runs.

    Attributes:
        plan: the smallest that was found so far.
        runs: how many it has taken.
    """

    def __init__(
        self,
        plan: AnyPlan,
        invariant: str,
        *,
        run: Callable[[AnyPlan], Result] = run_plan,
        tell: Callable[[str], None] = lambda _: None,
        runs_max: int = RUNS_MAX,
    ) -> None:
        self.plan = plan
        self.runs = 0
        self._invariant = invariant
        self._run = run
        self._tell = tell
        self._runs_max = runs_max
        self._tried = {plan.to_json()}

    def shrink(self) -> AnyPlan:
        """Fewer faults, then fewer operations, then fewer nodes, then less time; over again, until nothing can go."""
        before = None
        while before != self.plan:
            before = self.plan
            self._faults()
            self._loads()
            self._nodes()
            self._number("duration_s", 0.5, "virtual seconds")
            self._spans()
        return self.plan

    def _attempt(self, smaller: AnyPlan, what: str) -> bool:
        text = smaller.to_json()
        if text in self._tried or self.runs >= self._runs_max:
            return False
        self._tried.add(text)
        self.runs += 1
        if self._run(smaller).invariant != self._invariant:
            return False
        self.plan = smaller
        self._tell(f"{self.runs} runs: {what}")
        return True

    def _with_faults(self, name: str, value: Any) -> AnyPlan:
        return _set(self.plan, f"faults.{name}", value)

    def _faults(self) -> None:
        """Whole kinds first, then one fault after the other."""
        faults = self.plan.faults
        for item in dataclasses.fields(faults):
            absent = getattr(type(faults)(), item.name)
            if item.name != "calm_s":
                self._attempt(self._with_faults(item.name, absent), f"without {item.name}")
        for name in _lists(self.plan.faults):
            for number in reversed(range(len(getattr(self.plan.faults, name)))):
                present = getattr(self.plan.faults, name)
                fewer = (*present[:number], *present[number + 1 :])
                self._attempt(self._with_faults(name, fewer), f"{len(fewer)} of {name}")

    def _spans(self) -> None:
        """What is left of faults lasts less long, and is as plain as can be."""
        for name in _lists(self.plan.faults):
            for number in range(len(getattr(self.plan.faults, name))):
                for field, least in (("for_s", 0.1), ("flap_s", 0.0), ("effects", 0), ("operations", 0)):
                    if hasattr(getattr(self.plan.faults, name)[number], field):
                        self._number(f"faults.{name}.{number}.{field}", least, f"as {field} of one of {name}")

    def _loads(self) -> None:
        for path, least, what in LOADS.get("mesh" if isinstance(self.plan, Plan) else self.plan.world, ()):
            self._number(path, least, what)

    def _nodes(self) -> None:
        """As few as can be, without the faults of those that are gone."""
        least = self.plan.replication if isinstance(self.plan, Plan) else 1
        for nodes in range(least, self.plan.nodes):
            numbers = range(self.plan.numbers.start, self.plan.numbers.stop - self.plan.nodes + nodes)
            faults = _of_nodes(self.plan.faults, frozenset(numbers))
            if self._attempt(self.plan.with_nodes(nodes, faults), f"{nodes} nodes"):
                return

    def _number(self, path: str, least: float, what: str) -> None:
        """A number as small as can be: the least, or else a half, and a half of that, and three quarters."""
        value = _get(self.plan, path)
        if value <= least or self._attempt(_set(self.plan, path, type(value)(least)), f"{least:g} {what}"):
            return
        for share in (*[0.5] * HALVINGS_MAX, 0.75):
            value = _get(self.plan, path)
            if math.isinf(value):
                return
            less = int(value * share) if isinstance(value, int) else round(value * share, 3)
            if less > least:
                self._attempt(_set(self.plan, path, less), f"{less:g} {what}")


def _lists(faults: Any) -> Iterator[str]:
    """The fields that are lists of single faults."""
    for item in dataclasses.fields(faults):
        values = getattr(faults, item.name)
        if isinstance(values, tuple) and values and dataclasses.is_dataclass(values[0]):
            yield item.name


def _of_nodes(faults: Any, numbers: frozenset[int]) -> Any:
    """The faults of these nodes alone."""
    left: dict[str, Any] = {}
    for name in _lists(faults):
        kept = []
        for fault in getattr(faults, name):
            if hasattr(fault, "senders"):
                fault = replace(fault, senders=fault.senders & numbers, receivers=fault.receivers & numbers)
                is_whole = bool(fault.senders and fault.receivers)
            else:
                named = {getattr(fault, place) for place in ("node", "one", "other") if hasattr(fault, place)}
                is_whole = named <= numbers
            if is_whole:
                kept.append(fault)
        left[name] = tuple(kept)
    return replace(faults, **left)


def _get(target: Any, path: str) -> Any:
    for name in path.split("."):
        target = target[int(name)] if name.isdigit() else getattr(target, name)
    return target


def _set(target: P, path: str, value: Any) -> P:
    """The same with another value in the place that the path names."""
    name, _, rest = path.partition(".")
    inner = _set_in(_get(target, name), rest, value) if rest else value
    return replace(target, **{name: inner})


def _set_in(target: Any, path: str, value: Any) -> Any:
    name, _, rest = path.partition(".")
    if not isinstance(target, tuple):
        return _set(target, path, value)
    number = int(name)
    inner = _set_in(target[number], rest, value) if rest else value
    return (*target[:number], inner, *target[number + 1 :])
