"""What a calm mesh does with a fault that is made for it: a path that breaks, a process that ends."""

import math
import random
from collections.abc import Callable, Sequence
from typing import Protocol

from meshnode.membership.config import SwimConfig
from meshnode.membership.messages import State
from simulations.checkers.swim_bounds import CHANCE_SEEN, SwimBounds, gossip_bound_s
from simulations.checkers.violation import Violation
from simulations.cores.faults import LAN, Cut
from simulations.cores.network import Network
from simulations.cores.swim_node import SwimNode

_PERIODS_MAX = 20
"""For how long a broken path is watched, at most: a large mesh needs longer until each has probed each."""

_COPIES_LEAST = 8
"""Of a rumour that each member passes on: from here on none dies out before half of a mesh has heard it, but with a
chance below `CHANCE_SEEN`."""


class Watched(Protocol):
    """What is needed of a mesh."""

    seed: int
    config: SwimConfig
    nodes: list[SwimNode]
    network: Network

    @property
    def now(self) -> float: ...

    @property
    def running(self) -> Sequence[SwimNode]: ...

    def converged(self) -> bool: ...

    def state(self, seen_by: int, number: int) -> State | None: ...

    def total(self, counter: str) -> int: ...

    def crash(self, number: int) -> None: ...

    def run_for(self, seconds: float) -> None: ...

    def run_until(self, condition: Callable[[], bool], *, within_s: float, every_s: float = 0.05) -> float: ...


def watch_a_broken_path(world: Watched, bounds_of: Callable[[], SwimBounds]) -> None:
    """Let two nodes of a converged mesh not hear each other, or one not the other, while all others hear both.

    Whoever is asked to probe reaches the other one and answers within the period, so nobody is suspected at all (SWIM
    3.1: that is what indirect probes are for).

    Raises:
        Violation: swim-indirect-probes, or the mesh does not come to rest before.
    """
    config, running = world.config, world.running
    slowest = min(node.rate for node in world.nodes)
    fastest = max(node.rate for node in world.nodes)
    latency_s = LAN.delay_s + LAN.jitter_s
    # From the sender to the one that is asked, to the target, and back. The sender's clock may be the fastest.
    has_time = 4 * latency_s < (config.probe_interval_s - config.probe_timeout_s) / fastest
    if len(running) < 3 or not config.indirect_probes or not has_time or 2 * latency_s >= config.probe_timeout_s:
        return
    # What was probed under faults is over, and refuted where need be.
    world.run_for(3 * config.probe_interval_s / slowest)
    bounds = bounds_of()
    world.run_until(world.converged, within_s=bounds.healing_s + bounds.known_to_all_s, every_s=0.25)
    rng = random.Random(f"broken path {world.seed}")
    one, other = rng.sample([node.number for node in running], 2)
    for_s = min(2 * len(running), _PERIODS_MAX) * config.probe_interval_s / slowest
    before = world.total("suspicions")
    world.network.plan(Cut(frozenset([one]), frozenset([other]), world.now, for_s, both_ways=rng.random() < 0.5))
    world.run_for(for_s)
    if world.total("suspicions") > before:
        message = f"node {one} or {other} is suspected, though only the path between them is broken"
        nodes = [world.nodes[one].node_id, world.nodes[other].node_id]
        raise Violation("swim-indirect-probes", virtual_s=world.now, message=message, nodes=nodes)


def watch_a_crash(world: Watched, bounds_of: Callable[[], SwimBounds]) -> None:
    """End one more process of a converged mesh, and see to it that everyone learns of it, as from each other.

    Raises:
        Violation: not within the bounds that hold without faults.
    """
    running = world.running
    if len(running) < 2:
        return
    victim = running[-1]
    world.crash(victim.number)
    bounds = bounds_of()
    slowest = min(1.0, *[node.rate for node in world.nodes])
    gossips = world.config.transmit_limit(len(world.running)) >= _COPIES_LEAST
    half_s = gossip_bound_s(world.config, live=len(running), slowest=slowest, chance=CHANCE_SEEN)
    first_s = math.inf
    began_s = world.now
    while True:
        states = [world.state(node.number, victim.number) for node in world.running]
        fooled = sum(state in (State.ALIVE, State.SUSPECT) for state in states)
        if not fooled:
            return
        if world.now > began_s + bounds.known_to_all_s:
            message = f"node {victim.number} crashed {world.now - began_s:.1f} s ago, and some hold it live"
            raise Violation("swim-spread-bound", virtual_s=world.now, message=message, nodes=[victim.node_id])
        ignorant = sum(state is State.ALIVE for state in states)
        if ignorant < len(states):
            first_s = min(first_s, world.now)
        if gossips and world.now > first_s + half_s and 2 * ignorant > len(states):
            message = f"node {victim.number} is suspected since {first_s:.2f} s, and {ignorant} have not heard of it"
            raise Violation("swim-gossip-bound", virtual_s=world.now, message=message, nodes=[victim.node_id])
        world.run_for(0.25)
