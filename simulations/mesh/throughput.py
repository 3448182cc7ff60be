"""How fast whole nodes run: `python -m simulations.mesh.throughput [SEEDS]`.

Prints one line for a mesh at rest, one for a mesh under load without faults, and one for drawn plans with all faults
and as many calls, over so many seeds. Times are those of the processor, since others may use the machine.
"""

import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

from simulations.mesh.swarm import KINDS, draw_plan
from simulations.mesh.world import run
from simulations.plan import Plan

NODES = 5
AT_REST_S = 300.0
LOADED_S = 30.0

STEPS_PER_S = 80.0
"""Of all clients. Some ask for several things at a time, or once more, so that it comes to about 100 calls."""

STEPS_UNDER_FAULTS_PER_S = 105.0
"""The same where clients often wait in vain for an answer: what they then ask for too little is asked for before."""

CLIENTS = 40
"""So many that their waiting for answers costs few of the calls: each of them takes a step in about half a second."""

SEEDS = 24


@dataclass(frozen=True, slots=True)
class Throughput:
    """What was measured.

    Attributes:
        virtual_s: from the first start of a node to the end, as in the world.
        loaded_s: for how much of it the clients called.
        operations: their calls, whatever came of them.
        events: that happened in the world.
        cpu_s: what it took here.
        failed: seeds of runs that ended in a violation.
    """

    virtual_s: float
    loaded_s: float
    operations: int
    events: int
    cpu_s: float
    failed: tuple[int, ...] = ()

    def __str__(self) -> str:
        text = (
            f"{self.virtual_s / self.cpu_s:6.1f} × real time, {self.events / self.cpu_s:7,.0f} events/s, "
            f"{self.operations / self.loaded_s:6.1f} calls per virtual second"
        )
        return text + (f"; violated: seeds {', '.join(map(str, self.failed))}" if self.failed else "")


def measure(plans: Iterable[Plan]) -> Throughput:
    """Run the plans one after the other."""
    began_s = time.process_time()
    reports = [run(plan) for plan in plans]
    return Throughput(
        virtual_s=sum(report.virtual_s for report in reports),
        loaded_s=sum(min(report.plan.duration_s, report.virtual_s) for report in reports),
        operations=sum(report.operations for report in reports),
        events=sum(report.events for report in reports),
        cpu_s=time.process_time() - began_s,
        failed=tuple(report.plan.seed for report in reports if report.violation is not None),
    )


def at_rest() -> Throughput:
    """A mesh that nobody calls."""
    return measure([Plan(seed=1, nodes=NODES, clients=1, duration_s=AT_REST_S, calls_per_s=0.0001)])


def loaded(seeds: int, kinds: Iterable[str]) -> Throughput:
    """Drawn plans with about 100 calls per virtual second."""
    kinds = tuple(kinds)
    steps_per_s = STEPS_UNDER_FAULTS_PER_S if kinds else STEPS_PER_S
    return measure(
        replace(
            draw_plan(seed, nodes=NODES, duration_s=LOADED_S, kinds=kinds, calls_per_s=steps_per_s), clients=CLIENTS
        )
        for seed in range(seeds)
    )


def main(seeds: int) -> None:
    """Measure and print."""
    run(Plan(seed=1, nodes=NODES, clients=1, duration_s=1.0))  # whatever is made once, such as codecs
    for name, measured in (
        ("at rest", at_rest()),
        ("no faults", loaded(min(seeds, 4), ())),
        ("all faults", loaded(seeds, KINDS)),
    ):
        sys.stdout.write(f"{NODES} nodes, {name:10} {measured}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else SEEDS)
