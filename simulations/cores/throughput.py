"""How fast worlds of cores run: `python -m simulations.cores.throughput [NODES ...]`.

Prints one line for each size of a SWIM mesh at rest and in the detection of a crash, and for each world of the swarm.
"""

import contextlib
import gc
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

from meshnode.membership.messages import State
from simulations.cores.swarm import WORLDS, sweep
from simulations.cores.swim_world import SwimWorld, bounds_of

WARM_UP_S = 1.0
"""Virtual seconds before anything is measured: the first probes of all nodes, and the caches of the cores."""

SEEDS = 100


@dataclass(frozen=True, slots=True)
class Throughput:
    """What was measured.

    Attributes:
        events: of the heap.
        virtual_s, wall_s: how long it took there and here.
    """

    events: int
    virtual_s: float
    wall_s: float

    @property
    def events_per_s(self) -> float:
        """By the clock on the wall."""
        return self.events / self.wall_s

    @property
    def times_real(self) -> float:
        """Virtual seconds per second."""
        return self.virtual_s / self.wall_s

    def __str__(self) -> str:
        return f"{self.events_per_s:9,.0f} events/s, {self.times_real:7.1f} × real time"


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Without the cyclic collector, which would look through all tables of all nodes again and again."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


def at_rest(nodes: int, virtual_s: float) -> Throughput:
    """A mesh whose nodes know each other and probe each other."""
    world = SwimWorld(1, nodes)
    world.start_converged()
    with uncollected():
        world.run_for(WARM_UP_S)
        return _measured(world, virtual_s)


def with_crash(nodes: int) -> Throughput:
    """A mesh of which one node crashes, from the crash until all others know."""
    world = SwimWorld(1, nodes)
    world.start_converged()
    with uncollected():
        world.run_for(WARM_UP_S)
        world.crash(nodes // 2)
        bound_s = bounds_of(world).known_to_all_s
        events, virtual_s, wall_s = 0, 0.0, 0.0
        while any(world.state(node.number, nodes // 2) is not State.DEAD for node in world.running):
            assert virtual_s < bound_s, f"not known to all after {bound_s} s"
            second = _measured(world, 1.0)
            events, virtual_s = events + second.events, virtual_s + second.virtual_s
            wall_s += second.wall_s
        return Throughput(events, virtual_s, wall_s)


def _measured(world: SwimWorld, virtual_s: float) -> Throughput:
    events, began_s = world.heap.events, time.perf_counter()
    world.run_for(virtual_s)
    return Throughput(world.heap.events - events, virtual_s, time.perf_counter() - began_s)


def main(sizes: list[int]) -> None:
    """Measure and print."""
    for nodes in sizes:
        for name, measured in (("at rest", at_rest(nodes, max(2.0, 20_000 / nodes))), ("crash", with_crash(nodes))):
            sys.stdout.write(f"{nodes:6} SWIM nodes, {name:8} {measured}\n")
    for name in WORLDS:
        swept = sweep(1, SEEDS, name)
        seen = Throughput(swept.events, swept.virtual_s, swept.wall_s)
        sys.stdout.write(f"swarm {name:11} {swept.seeds / swept.wall_s:7.1f} seeds/s {seen}\n")


if __name__ == "__main__":
    main([int(size) for size in sys.argv[1:]] or [200, 1000])
