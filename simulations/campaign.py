"""Many runs: seeds one after the other or side by side; plans made smaller; a check that runs repeat themselves."""

import dataclasses
import os
import subprocess
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from simulations.checkers import LIVENESS
from simulations.checkers.violation import Violation
from simulations.cores.swarm import WORLDS as CORE_WORLDS
from simulations.faults import Faults
from simulations.mesh import run as run_mesh
from simulations.plan import Plan

OK = 0
SAFETY = 10
LIVENESS_LOST = 11
NOT_DETERMINISTIC = 12
HARNESS = 13


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One run, as far as a campaign is concerned; it crosses from one process to another.

    Attributes:
        invariant: what did not hold; empty if everything did, `harness` if the run itself failed.
        story: for people: what was seen.
    """

    seed: int
    plan: Plan | None
    invariant: str
    violation_s: float
    story: str
    digest: str
    virtual_s: float
    events: int
    operations: int
    faults: dict[str, int]
    history: str = ""

    @property
    def is_clean(self) -> bool:
        return not self.invariant


@dataclass(slots=True)
class Totals:
    """Of the runs so far."""

    seeds: int = 0
    virtual_s: float = 0.0
    events: int = 0
    operations: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    failures: list[Result] = field(default_factory=list)

    def add(self, result: Result) -> None:
        """Count a run."""
        self.seeds += 1
        self.virtual_s += result.virtual_s
        self.events += result.events
        self.operations += result.operations
        self.faults.update(result.faults)
        if not result.is_clean:
            self.failures.append(result)

    @property
    def exit_code(self) -> int:
        """Of the worst that happened."""
        invariants = {failure.invariant for failure in self.failures}
        if "harness" in invariants:
            return HARNESS
        if invariants - LIVENESS:
            return SAFETY
        return LIVENESS_LOST if invariants else OK


def run_plan(plan: Plan) -> Result:
    """Run a plan of whole nodes. What goes wrong with the harness itself is a result too."""
    try:
        report = run_mesh(plan)
    except Exception as error:  # noqa: BLE001 - whatever it is, the seed that led to it must be told
        return Result(
            seed=plan.seed, plan=plan, invariant="harness", violation_s=0.0, story=_trace_of(error), digest="",
            virtual_s=0.0, events=0, operations=0, faults={},
        )  # fmt: skip
    violation = report.violation
    return Result(
        seed=plan.seed,
        plan=plan,
        invariant="" if violation is None else violation.invariant,
        violation_s=0.0 if violation is None else violation.virtual_s,
        story="" if violation is None else _story(violation, report.nodes, [str(line) for line in report.lines]),
        digest=report.digest,
        virtual_s=report.virtual_s,
        events=report.events,
        operations=report.operations,
        faults=report.fired,
        history=report.history,
    )


def run_cores(seed: int) -> Result:
    """Run a seed in each world of cores; the first that is not clean is the result."""
    totals = Totals()
    digests = []
    for name, world in CORE_WORLDS.items():
        report = world(seed)
        result = Result(
            seed=seed,
            plan=None,
            invariant="" if report.is_clean else report.violations[0].invariant,
            violation_s=0.0 if report.is_clean else report.violations[0].virtual_s,
            story="" if report.is_clean else "\n".join(f"{name}: {violation}" for violation in report.violations),
            digest=report.trace,
            virtual_s=report.virtual_s,
            events=report.events,
            operations=0,
            faults={},
        )
        if not result.is_clean:
            return result
        totals.add(result)
        digests.append(result.digest)
    return Result(
        seed=seed, plan=None, invariant="", violation_s=0.0, story="", digest=" ".join(digests),
        virtual_s=totals.virtual_s, events=totals.events, operations=0, faults={},
    )  # fmt: skip


def run_all(work: Callable[[Any], Result], items: Sequence[Any], *, jobs: int) -> Iterator[Result]:
    """Carry out the work for each item, in order, ``jobs`` at a time."""
    if jobs <= 1 or len(items) <= 1:
        yield from map(work, items)
        return
    with ProcessPoolExecutor(max_workers=min(jobs, len(items))) as pool:
        yield from pool.map(work, items, chunksize=1)


# ---- smaller plans


def shrink(
    plan: Plan,
    invariant: str,
    *,
    run: Callable[[Plan], Result] = run_plan,
    tell: Callable[[str], None] = lambda _: None,
) -> Plan:
    """The smallest plan that could be found that still violates the same invariant: fewer faults, then fewer
    operations, then fewer nodes, then less time.

    Args:
        run: runs a plan.
        tell: told of each step.
    """

    def still_fails(smaller: Plan) -> bool:
        return run(smaller).invariant == invariant

    def attempt(smaller: Plan, what: str) -> bool:
        nonlocal plan
        if smaller == plan or not still_fails(smaller):
            return False
        plan = smaller
        tell(what)
        return True

    plan = _without_faults(plan, still_fails, tell)
    while plan.calls_per_s > 1.0:
        rate = plan.calls_per_s / 2
        if not attempt(replace(plan, calls_per_s=rate), f"{rate:g} calls a second"):
            break
    attempt(replace(plan, clients=1), "one client")
    attempt(replace(plan, keys=1), "one agent")
    attempt(replace(plan, partitions=1), "one partition")
    for nodes in range(max(1, _highest_node(plan.faults) + 1, plan.replication), plan.nodes):
        if attempt(replace(plan, nodes=nodes), f"{nodes} nodes"):
            break
    for share in (0.25, 0.5, 0.75):
        if attempt(replace(plan, duration_s=round(plan.duration_s * share, 3)), f"{share:.0%} of the time"):
            break
    return plan


def _without_faults(plan: Plan, still_fails: Callable[[Plan], bool], tell: Callable[[str], None]) -> Plan:
    """Whole kinds first, then one fault after the other, until none can go."""
    for item in dataclasses.fields(Faults):
        present = getattr(plan.faults, item.name)
        absent = getattr(Faults(), item.name)
        if present != absent:
            smaller = replace(plan, faults=_with(plan.faults, item.name, absent))
            if still_fails(smaller):
                plan = smaller
                tell(f"without {item.name}")
    shrinks = True
    while shrinks:
        shrinks = False
        for item in dataclasses.fields(Faults):
            faults = getattr(plan.faults, item.name)
            if not isinstance(faults, tuple) or not faults or not dataclasses.is_dataclass(faults[0]):
                continue
            for number in reversed(range(len(faults))):
                fewer = (*faults[:number], *faults[number + 1 :])
                smaller = replace(plan, faults=_with(plan.faults, item.name, fewer))
                if still_fails(smaller):
                    plan, faults, shrinks = smaller, fewer, True
                    tell(f"{len(fewer)} of {item.name}")
    return plan


def _with(faults: Faults, name: str, value: Any) -> Faults:
    return replace(faults, **{name: value})


def _highest_node(faults: Faults) -> int:
    """The highest number of a node that a fault names."""
    highest = 0
    for item in dataclasses.fields(faults):
        values = getattr(faults, item.name)
        for fault in values if isinstance(values, tuple) else ():
            if not dataclasses.is_dataclass(fault):
                continue
            for name in ("node", "one", "other"):
                highest = max(highest, getattr(fault, name, 0))
            for name in ("senders", "receivers"):
                highest = max([highest, *getattr(fault, name, ())])
    return highest


# ---- determinism


def differs(seeds: str, options: Sequence[str]) -> list[int]:
    """The seeds whose runs differ between two processes with other hash seeds."""
    outputs = []
    for hash_seed in ("1", "2"):
        command = [sys.executable, "-m", "simulations", "digests", "--seeds", seeds, *options]
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        outputs.append(dict(line.split(" ", 1) for line in done.stdout.splitlines()))
    first, second = outputs
    return [int(seed) for seed in first if first[seed] != second.get(seed)]


def _story(violation: Violation, nodes: Sequence[str], lines: Sequence[str]) -> str:
    return "\n".join([str(violation), *(f"  {line}" for line in nodes), "the last things that happened:", *lines[-40:]])


def _trace_of(error: BaseException) -> str:
    return "".join(traceback.format_exception(error, limit=-8))
