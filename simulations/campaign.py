"""Many runs, one after the other or side by side, and what they come to."""

import gc
import traceback
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field, replace

from simulations.checkers import LIVENESS
from simulations.checkers.violation import Violation
from simulations.cores.plans import CorePlan, struck
from simulations.mesh import run as run_mesh
from simulations.plan import AnyPlan, Plan
from simulations.recording import recording
from simulations.story import Witness, story
from simulations.workers import Lost, Workers

OK = 0
SAFETY = 10
LIVENESS_LOST = 11
NOT_DETERMINISTIC = 12
HARNESS = 13

HARNESS_FAILED = "harness"
"""The invariant of a run that itself failed."""

LIVENESS_NAMES = LIVENESS | {"liveness"}
"""Worlds of cores have one name for all that must happen and does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One run, as far as a campaign is concerned; it crosses from one process to another.

    Attributes:
        invariant: what did not hold; empty if everything did, `harness` if the run itself failed.
        message: what was seen of it.
        story: for people: what led to it, where that was asked for.
        begun_s: when time 0 of the plan was.
        history: what the clients saw, as JSON lines; empty where there are none.
    """

    plan: AnyPlan
    invariant: str = ""
    violation_s: float = 0.0
    message: str = ""
    story: str = ""
    digest: str = ""
    begun_s: float = 0.0
    virtual_s: float = 0.0
    events: int = 0
    operations: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    history: str = ""

    @property
    def seed(self) -> int:
        """Of the plan."""
        return self.plan.seed

    @property
    def is_clean(self) -> bool:
        return not self.invariant


@dataclass(slots=True)
class Totals:
    """Of the runs so far. Those of one seed, in several worlds, come one after the other."""

    seeds: int = 0
    virtual_s: float = 0.0
    events: int = 0
    operations: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    failures: list[Result] = field(default_factory=list)
    _last: int | None = None

    def add(self, result: Result) -> None:
        """Count a run."""
        if result.seed != self._last:
            self.seeds += 1
            self._last = result.seed
        self.virtual_s += result.virtual_s
        self.events += result.events
        self.operations += result.operations
        self.faults.update(result.faults)
        if not result.is_clean:
            self.failures.append(replace(result, history=""))

    @property
    def failed_seeds(self) -> int:
        """How many seeds failed, in whatever worlds."""
        return len({failure.seed for failure in self.failures})

    @property
    def exit_code(self) -> int:
        """Of the worst that happened."""
        invariants = {failure.invariant for failure in self.failures}
        if HARNESS_FAILED in invariants:
            return HARNESS
        if invariants - LIVENESS_NAMES:
            return SAFETY
        return LIVENESS_LOST if invariants else OK


def run_plan(plan: AnyPlan) -> Result:
    """Run a plan. What goes wrong with the harness itself is a result too."""
    try:
        return _run_nodes(plan)[0] if isinstance(plan, Plan) else _run_cores(plan)[0]
    except Exception as error:  # noqa: BLE001 - whatever it is, the seed that led to it must be told
        return Result(plan=plan, invariant=HARNESS_FAILED, message=str(error), story=_trace_of(error))


def run_and_explain(plan: AnyPlan) -> Result:
    """Run a plan; one that violates an invariant is run once more with a pen, for its story."""
    result = run_plan(plan)
    if result.is_clean or result.invariant == HARNESS_FAILED:
        return result
    try:
        return explain(result)
    except Exception as error:  # noqa: BLE001 - what did not hold counts for more than what can't be told of it
        return replace(result, story=f"{result.message}\nIt can't be explained:\n{_trace_of(error)}")


def explain(result: Result) -> Result:
    """The result of a run that violated an invariant, with its story."""
    plan, witness = result.plan, Witness()
    with recording(witness, world="" if isinstance(plan, Plan) else plan.world):
        again, violation, nodes = _run_nodes(plan) if isinstance(plan, Plan) else _run_cores(plan)
    if violation is None or again.digest != result.digest:
        told = f"{result.message}\nIt went another way when it was run again: see check-determinism."
        return replace(result, story=told)
    told = story(violation, nodes=nodes, faults=plan.faults, begun_s=again.begun_s, steps=witness.steps)
    return replace(result, story=told)


def _run_nodes(plan: Plan) -> tuple[Result, Violation | None, tuple[str, ...]]:
    report = run_mesh(plan)
    gc.collect()  # a world is full of cycles, and Python would wait for a few dozen of them
    result = Result(
        plan=plan,
        digest=report.digest,
        begun_s=report.begun_s,
        virtual_s=report.virtual_s,
        events=report.events,
        operations=report.operations,
        faults=report.fired,
        history=report.history,
    )
    return _with_violation(result, report.violation), report.violation, report.nodes


def _run_cores(plan: CorePlan) -> tuple[Result, Violation | None, tuple[str, ...]]:
    report = plan.run()
    violation = report.violations[0] if report.violations else None
    result = Result(
        plan=plan,
        digest=report.trace,
        virtual_s=report.virtual_s,
        events=report.events,
        operations=report.history.count('"invoke"') or report.counters.get("entries_chosen", 0),
        faults=struck(plan.faults, report.virtual_s),
        history=report.history,
    )
    return _with_violation(result, violation), violation, report.nodes


def _with_violation(result: Result, violation: Violation | None) -> Result:
    if violation is None:
        return result
    return replace(result, invariant=violation.invariant, violation_s=violation.virtual_s, message=str(violation))


def _trace_of(error: BaseException) -> str:
    return "".join(traceback.format_exception(error, limit=-8))


def run_all(work: Callable[[AnyPlan], Result], plans: Iterable[AnyPlan], *, jobs: int) -> Generator[Result, None, None]:
    """Carry out the work for each plan, in their order, ``jobs`` at a time. A run whose process dies has failed."""
    if jobs <= 1:
        yield from map(work, plans)
        return
    with Workers(work, jobs) as workers:
        for result in workers.run(plans):
            if isinstance(result, Lost):
                yield Result(plan=result.item, invariant=HARNESS_FAILED, message=result.reason, story=result.reason)
            else:
                yield result
