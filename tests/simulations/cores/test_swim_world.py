"""Meshes of SWIM cores: bounds are in virtual seconds, with the default settings; each run has its seed."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.membership.messages import State
from simulations.checkers.swim_bounds import swim_bounds
from simulations.checkers.violation import Violation
from simulations.cores.converged import graft
from simulations.cores.faults import NO_FAULTS, ClockRate, CoreFaults, Crash, Cut, Leave, LinkQuality, Pause
from simulations.cores.swim_world import SwimWorld, run

NODES = 60


def formed(seed: int, nodes: int = NODES, *, faults: CoreFaults = NO_FAULTS) -> SwimWorld:
    """A mesh that has formed by itself and is at rest."""
    world = SwimWorld(seed, nodes, faults=faults, is_measured=True)
    world.start_all(spread_s=2.0)
    world.run_until(world.converged, within_s=30.0)
    world.run_for(30.0)
    return world


def all_see(world: SwimWorld, number: int, state: State) -> bool:
    return all(world.state(node.number, number) is state for node in world.running if node.number != number)


def test_a_mesh_forms_from_one_seed_and_blames_nobody() -> None:
    world = formed(1)
    assert world.converged()
    assert world.total("suspicions") == 0
    world.look()


@pytest.mark.parametrize("is_grafted", [False, True])
def test_a_crash_is_known_to_all_within_the_bound_and_nobody_else_is_blamed(is_grafted: bool) -> None:
    if is_grafted:
        world = SwimWorld(2, NODES)
        world.start_converged()
    else:
        world = formed(2)
    assert world.converged()
    world.crash(7)
    bounds = swim_bounds(world.config, live=NODES - 1)
    took_s = world.run_until(lambda: all_see(world, 7, State.DEAD), within_s=bounds.known_to_all_s)
    assert took_s > world.config.suspicion_s(NODES)
    world.run_for(30.0)
    assert world.total("deaths") >= NODES - 1
    assert world.false_deaths == 0


def test_a_grafted_mesh_knows_what_one_that_formed_by_itself_knows_and_says_as_little() -> None:
    grown, grafted = formed(3), SwimWorld(3, NODES)
    grafted.start_converged()
    grown.run_for(60.0)
    for one, other in zip(grown.nodes, grafted.nodes, strict=True):
        assert one.core is not None
        assert other.core is not None
        assert dict(one.core.members) == dict(other.core.members)
        assert one.core._view.roster.digests() == other.core._view.roster.digests()
        assert one.core._view.roster.live == other.core._view.roster.live
        assert one.core._view.roster._ids == other.core._view.roster._ids
        assert sorted(one.core._view.order._round) == sorted(other.core._view.order._round)
        assert len(other.core._view.gossip) == 0
    sent = []
    for world in (grown, grafted):
        before = world.network.sent
        world.run_for(60.0)
        sent.append(world.network.sent - before)
    assert abs(sent[0] - sent[1]) < 0.05 * sent[0]


def test_to_graft_is_for_fresh_cores_only() -> None:
    world = formed(4, 5)
    with pytest.raises(ValueError, match="knows 5 members"):
        graft([node.core for node in world.nodes if node.core is not None], random.Random(1), world.now)


def test_a_partition_heals_and_a_departure_is_no_failure() -> None:
    world = formed(5, 20)
    world.partition(range(10), range(10, 20))
    world.run_for(40.0)
    assert all(world.state(0, gone) is State.DEAD for gone in range(10, 20))
    world.heal()
    world.run_until(world.converged, within_s=60.0)
    deaths = world.total("deaths")
    world.leave(13)
    world.run_until(lambda: all_see(world, 13, State.LEFT), within_s=3.0)
    assert world.total("deaths") == deaths


def test_a_node_that_stood_still_blames_nobody_and_is_alive_again() -> None:
    world = formed(6, 20)
    world.pause(4, 40.0)
    world.run_for(39.0)
    assert all(world.state(node.number, 4) is State.DEAD for node in world.running if node.number != 4)
    world.run_until(world.converged, within_s=30.0)
    core = world.nodes[4].core
    assert core is not None
    assert core.counters.pauses == 1
    assert core.counters.deaths == 0


def test_a_condition_that_never_holds_is_reported_with_the_seed() -> None:
    with pytest.raises(Violation, match=r"seed 77: not so after 1\.0 s"):
        SwimWorld(77, 1).run_until(lambda: False, within_s=1.0)


EVERYTHING = CoreFaults(
    quality=LinkQuality(loss=0.05, duplicate=0.05, late=0.02, late_s=1.0),
    calm_s=30.0,
    crashes=(Crash(1, 3.0, 5.0, effects=3), Crash(2, 4.0, 15.0), Crash(3, 6.0)),
    pauses=(Pause(4, 5.0, 3.0), Pause(5, 6.0, 20.0)),
    leaves=(Leave(6, 8.0, 4.0), Leave(7, 8.0)),
    cuts=(Cut(frozenset(range(6)), frozenset(range(6, 12)), 10.0, 15.0), Cut(frozenset([8]), frozenset([9]), 2.0, 9.0)),
    clocks=(ClockRate(8, 1.2), ClockRate(9, 0.8)),
)


@pytest.mark.parametrize("seed", range(3))
def test_everything_that_can_go_wrong_breaks_no_invariant_and_is_healed(seed: int) -> None:
    report = run(seed, EVERYTHING, 40.0)
    assert report.violations == ()
    assert report.counters["false_deaths"] > 0
    assert report.counters["pauses"] > 0
    assert report.virtual_s >= 40.0


def test_the_same_seed_gives_the_same_trace_and_another_seed_another() -> None:
    traces = [run(seed, EVERYTHING, 20.0).trace for seed in (1, 1, 2)]
    assert traces[0] == traces[1] != traces[2]


@given(st.integers(0, 2**32), st.floats(0.05, 0.5))
def test_no_node_ever_sleeps_past_its_core(seed: int, gap_s: float) -> None:
    """What spares most looks at a core's deadline is sound: an empty ping or ack brings none nearer."""
    world = SwimWorld(seed, 6, faults=EVERYTHING_SMALL)
    world.start_all(spread_s=1.0)
    for _ in range(60):
        world.run_for(gap_s)
        for node in world.running:
            core = node.core
            assert core is not None
            if node.is_responsive:
                assert node.wakes_s <= core.next_deadline


EVERYTHING_SMALL = CoreFaults(
    quality=LinkQuality(loss=0.2, duplicate=0.1),
    crashes=(Crash(1, 3.0, 2.0),),
    pauses=(Pause(4, 5.0, 3.0),),
    leaves=(Leave(5, 8.0, 4.0),),
    clocks=(ClockRate(2, 1.2), ClockRate(3, 0.8)),
)
