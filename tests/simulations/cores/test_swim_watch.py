"""A calm mesh that has a path broken, or loses a node: what it must not do, and what it must."""

import pytest

from meshnode.membership.config import SwimConfig
from meshnode.membership.detector import FailureDetector
from meshnode.membership.gossip import GossipQueue
from simulations.checkers.swim_bounds import CHANCE_SEEN, gossip_bound_s
from simulations.checkers.violation import Violation
from simulations.cores.swim_watch import watch_a_broken_path, watch_a_crash
from simulations.cores.swim_world import SwimWorld, bounds_of

LARGE = 24
"""So many that what spreads by gossip is known long before half have found it out alone."""


def converged(nodes: int, config: SwimConfig | None = None) -> SwimWorld:
    world = SwimWorld(3, nodes, config=config)
    world.start_converged()
    world.run_for(1.0)
    return world


def test_a_path_that_breaks_makes_nobody_suspect_while_others_reach_both() -> None:
    for nodes in (3, 8):
        world = converged(nodes)
        watch_a_broken_path(world, lambda world=world: bounds_of(world))  # type: ignore[misc]
        assert world.network.cut > 0
        assert world.total("suspicions") == 0


def test_probes_that_are_not_tried_through_others_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FailureDetector, "on_ping_request", lambda *_: None)
    world = converged(5)
    with pytest.raises(Violation, match=r"^swim-indirect-probes "):
        watch_a_broken_path(world, lambda: bounds_of(world))


def test_without_anybody_to_ask_a_broken_path_is_not_looked_at() -> None:
    for nodes, config in ((2, SwimConfig()), (5, SwimConfig(indirect_probes=0))):
        world = converged(nodes, config)
        watch_a_broken_path(world, lambda world=world: bounds_of(world))  # type: ignore[misc]
        assert world.network.cut == 0


def test_half_of_a_large_mesh_hears_of_a_suspicion_as_fast_as_gossip_goes() -> None:
    world = converged(LARGE)
    watch_a_crash(world, lambda: bounds_of(world))
    assert gossip_bound_s(world.config, live=LARGE, slowest=1.0, chance=CHANCE_SEEN) < 4.0


def test_suspicions_that_nobody_passes_on_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GossipQueue, "put", lambda *_, **__: None)
    world = converged(LARGE, SwimConfig(indirect_probes=0))  # who asks others to probe a suspect tells them of it
    with pytest.raises(Violation, match=r"^swim-gossip-bound "):
        watch_a_crash(world, lambda: bounds_of(world))
