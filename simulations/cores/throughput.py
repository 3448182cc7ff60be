"""How fast worlds of cores run: `python -m simulations.cores.throughput [NODES ...]`.

Says first whether cores are compiled (`make compiled`). Then it prints one line for each size of a SWIM mesh at rest
and in the detection of a crash, for a Raft group and a mesh with partitions that work without faults, for each world of
the swarm, and for each size what a table of so many nodes costs.
Times are of the processor: what one core needs if it has nothing else to do. What an event is says the docstring of the
package. The collector of cycles rests while a world runs, here as in any run (`resting_collector`). What it takes when
a world is gone is in the figures of the swarm.

The swarm's figures are smaller than those of the same cores at work: its runs are a few thousand events long, and
worlds are made, and processes started on the disks of earlier ones, all the time.
"""

import random
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass

from consensus import raft
from meshnode.identity import NodeId
from meshnode.membership import swim
from meshnode.membership.messages import State
from meshnode.partitions import core as partitions_core
from meshnode.placement import MemberSpec, Table, next_table
from simulations.cores.collector import resting_collector
from simulations.cores.faults import CoreFaults
from simulations.cores.partition_world import PartitionSettings, PartitionWorkload, PartitionWorld
from simulations.cores.raft_process import RaftSettings
from simulations.cores.raft_world import RaftWorkload, RaftWorld
from simulations.cores.swarm import WORLDS, sweep
from simulations.cores.swim_world import SwimWorld, bounds_of

WARM_UP_S = 1.0
"""Virtual seconds before anything is measured: the first probes of all nodes, and the caches of the cores."""

ELECTION_S = 4.0
"""Virtual seconds until a group has its leader, and partitions their primaries."""

SEEDS = 100

IN_ORDER = CoreFaults(ordered=True)
"""No faults, and links that keep the order, as streams do."""

RAFT_WORKLOAD = RaftWorkload(members=5, founders=5, proposals_per_s=1_000.0)
PARTITION_WORKLOAD = PartitionWorkload(nodes=5, partitions=16, replication=3, clients=64, pause_s=0.02)

PARTITIONS = 16_384
"""Of the table: the most that a mesh can have."""

ZONES = 5


@dataclass(frozen=True, slots=True)
class Throughput:
    """What was measured.

    Attributes:
        events: of the heap.
        virtual_s, cpu_s: how long it took there and here.
    """

    events: int
    virtual_s: float
    cpu_s: float

    @property
    def events_per_s(self) -> float:
        """Of the processor's seconds."""
        return self.events / self.cpu_s

    @property
    def times_real(self) -> float:
        """Virtual seconds per second of the processor."""
        return self.virtual_s / self.cpu_s

    def __str__(self) -> str:
        return f"{self.events_per_s:9,.0f} events/s, {self.times_real:7.1f} × real time"


@resting_collector()
def at_rest(nodes: int, virtual_s: float) -> Throughput:
    """A mesh whose nodes know each other and probe each other."""
    world = SwimWorld(1, nodes)
    world.start_converged()
    world.run_for(WARM_UP_S)
    return _measured(world, virtual_s)


@resting_collector()
def with_crash(nodes: int) -> Throughput:
    """A mesh of which one node crashes, from the crash until all others know."""
    world = SwimWorld(1, nodes)
    world.start_converged()
    world.run_for(WARM_UP_S)
    world.crash(nodes // 2)
    bound_s = bounds_of(world).known_to_all_s
    events, virtual_s, cpu_s = 0, 0.0, 0.0
    while any(world.state(node.number, nodes // 2) is not State.DEAD for node in world.running):
        assert virtual_s < bound_s, f"not known to all after {bound_s} s"
        second = _measured(world, 1.0)
        events, virtual_s, cpu_s = events + second.events, virtual_s + second.virtual_s, cpu_s + second.cpu_s
    return Throughput(events, virtual_s, cpu_s)


@resting_collector()
def raft_at_work(virtual_s: float) -> Throughput:
    """A group of five whose leader takes a thousand proposals a second."""
    world = RaftWorld(1, faults=IN_ORDER, settings=RaftSettings(), workload=RAFT_WORKLOAD)
    world.begin()
    world.run_for(ELECTION_S)
    assert world.checks.chosen, "nobody leads"
    return _measured(world, virtual_s)


@resting_collector()
def partitions_at_work(virtual_s: float) -> Throughput:
    """Five nodes and 64 clients, which mostly write and pause for 20 ms after each answer."""
    world = PartitionWorld(1, faults=IN_ORDER, settings=PartitionSettings(), workload=PARTITION_WORKLOAD)
    world.run_for(ELECTION_S)
    return _measured(world, virtual_s)


def _measured(world: SwimWorld | RaftWorld | PartitionWorld, virtual_s: float) -> Throughput:
    events, began_s = world.heap.events, time.process_time()
    world.run_for(virtual_s)
    return Throughput(world.heap.events - events, virtual_s, time.process_time() - began_s)


def in_swarm(world: str) -> tuple[float, Throughput]:
    """Seeds per second of a world of the swarm, and what was measured."""
    began_s = time.process_time()
    swept = sweep(1, SEEDS, world)
    cpu_s = time.process_time() - began_s
    return swept.seeds / cpu_s, Throughput(swept.events, swept.virtual_s, cpu_s)


def tables(nodes: int) -> dict[str, float]:
    """Seconds that tables take: the first of a mesh, and those after some have gone or come."""
    rng = random.Random(nodes)
    members = {NodeId(rng.getrandbits(62) + 1): MemberSpec(zone=f"z{number % ZONES}") for number in range(nodes)}
    without_tenth = dict(list(members.items())[nodes // 10 :])
    without_one = dict(list(members.items())[1:])
    took_s: dict[str, float] = {}
    table: Table | None = None
    steps: Mapping[str, Mapping[NodeId, MemberSpec]] = {
        "founded": members,
        "one gone": without_one,
        "one back": members,
        "a tenth gone": without_tenth,
    }
    for step, present in steps.items():
        began_s = time.process_time()
        table = next_table(table, present, partitions=PARTITIONS)
        took_s[step] = time.process_time() - began_s
    return took_s


def cores_are() -> str:
    """Which cores run: those that are compiled, if not all are, by name."""
    modules = (raft, swim, partitions_core)
    compiled = [module.__name__ for module in modules if not str(module.__file__).endswith(".py")]
    if len(compiled) == len(modules):
        return "compiled by mypyc"
    return f"as they are written, but for {', '.join(compiled)}" if compiled else "as they are written, in Python"


def main(sizes: list[int]) -> None:
    """Measure and print."""
    sys.stdout.write(f"cores: {cores_are()}\n")
    for nodes in sizes:
        for name, measured in (("at rest", at_rest(nodes, max(2.0, 20_000 / nodes))), ("crash", with_crash(nodes))):
            sys.stdout.write(f"{nodes:6} SWIM nodes, {name:8} {measured}\n")
    sys.stdout.write(f"raft at work       {raft_at_work(5.0)}\n")
    sys.stdout.write(f"partitions at work {partitions_at_work(5.0)}\n")
    for name in WORLDS:
        seeds_per_s, seen = in_swarm(name)
        sys.stdout.write(f"swarm {name:11} {seeds_per_s:7.1f} seeds/s {seen}\n")
    for nodes in sizes:
        steps = ", ".join(f"{step} {took_s:.2f} s" for step, took_s in tables(nodes).items())
        sys.stdout.write(f"{nodes:6} nodes, table of {PARTITIONS} partitions: {steps}\n")


if __name__ == "__main__":
    main([int(size) for size in sys.argv[1:]] or [200, 1000])
