"""A hundred cores in virtual time. Bounds are in virtual seconds, with the default settings; each run has its seed."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from meshnode.membership.config import SwimConfig
from meshnode.membership.messages import State
from simulations.cores.faults import LinkQuality
from simulations.cores.swim_world import SwimWorld

NODES = 100

FORMATION_S = 5.0
"""One round trip to the seed, a few rounds of gossip, and the first comparison of lists at the latest."""

DETECTION_S = 15.0
"""Someone's turn to probe it, at most a few periods among a hundred; one period; 6 s of suspicion; gossip."""

HEALING_S = 30.0
"""Someone knocks across within a fraction of 15 s; the halves then refute each other's deaths by gossip."""


def formed(seed: int, nodes: int = NODES) -> SwimWorld:
    """A mesh that has been up for a minute."""
    world = SwimWorld(seed, nodes)
    world.start_all(spread_s=2.0)
    world.run_until(world.converged, within_s=30.0)
    world.run_for(60.0)
    assert world.converged()
    return world


def all_see(world: SwimWorld, index: int, state: State) -> bool:
    return all(world.state(node.number, index) is state for node in world.running if node.number != index)


@pytest.mark.parametrize("spread_s", [0.0, 3.0])
def test_a_hundred_nodes_form_a_mesh_from_one_seed(spread_s: float) -> None:
    world = SwimWorld(1, NODES, is_measured=True)
    world.start_all(spread_s=spread_s)
    world.run_until(world.converged, within_s=FORMATION_S)
    assert world.total("suspicions") == 0


def test_a_hundred_nodes_form_a_mesh_under_loss() -> None:
    world = SwimWorld(2, NODES)
    world.set_quality(LinkQuality(loss=0.1))
    world.start_all()
    world.run_until(
        lambda: all(len(node.running.members) == NODES for node in world.running),
        within_s=3 * FORMATION_S,
    )


def test_a_mesh_at_rest_reports_nothing_and_sends_little() -> None:
    world = formed(3, 50)
    told = [len(node.changes) for node in world.nodes]
    sent = world.network.sent
    world.run_for(60.0)
    assert [len(node.changes) for node in world.nodes] == told
    assert (world.network.sent - sent) / 60.0 / 50 < 2.3  # a ping, an ack, and now and then a comparison of lists


@pytest.mark.parametrize("seed", range(3))
def test_a_crash_is_known_to_all_within_the_bound_and_nobody_else_is_blamed(seed: int) -> None:
    world = formed(seed)
    world.crash(37)
    took = world.run_until(lambda: all_see(world, 37, State.DEAD), within_s=DETECTION_S)
    assert took > world.config.suspicion_s(NODES)
    world.run_for(30.0)
    assert all_see(world, 37, State.DEAD)
    blamed = {
        change.member.node_id for node in world.running for _, change in node.changes if not change.member.is_live
    }
    assert blamed == {world.nodes[37].node_id}


def test_a_rack_that_crashes_at_once_is_known_to_all() -> None:
    world = formed(4)
    for index in range(40, 60):
        world.crash(index)
    world.run_until(lambda: all(all_see(world, index, State.DEAD) for index in range(40, 60)), within_s=40.0)


def test_no_live_node_is_dead_for_good_under_loss_and_false_suspicions_are_as_rare_as_computed(
    record_property: Callable[[str, object], None],
) -> None:
    world = formed(5)
    before = Counter({name: world.total(name) for name in ("probes", "probes_failed", "refutations", "deaths")})
    world.set_quality(LinkQuality(loss=0.1))
    world.run_for(90.0)
    during = Counter({name: world.total(name) for name in before})
    during.subtract(before)
    # A probe fails if the direct round trip does, and each of three relayed ones, of four datagrams each.
    direct, relayed = 1 - 0.9**2, 1 - 0.9**4
    expected = direct * relayed**3
    rate = during["probes_failed"] / during["probes"]
    record_property("probes of live nodes that failed at 10 % loss", f"{rate:.4f}, {expected:.4f} computed")
    record_property("refutations", during["refutations"])
    record_property("false deaths, each seen by one node", during["deaths"])
    assert during["probes"] > 80 * NODES
    assert expected / 2 < rate < expected * 2
    assert during["refutations"] > 0
    assert during["deaths"] < NODES  # of which each is one node's mistake about another, for a moment
    world.set_quality(LinkQuality())
    world.run_until(world.converged, within_s=DETECTION_S)


def test_a_suspicion_is_refuted_before_it_becomes_a_death() -> None:
    world = formed(6)
    # Nobody hears node 7 until somebody suspects it, and then everyone does again.
    world.partition([7], [node.number for node in world.nodes if node.number != 7])
    world.run_until(
        lambda: any(world.state(node.number, 7) is State.SUSPECT for node in world.nodes), within_s=DETECTION_S
    )
    world.heal()
    world.run_until(world.converged, within_s=DETECTION_S)
    heard = [change.member for node in world.nodes for _, change in node.changes]
    states = {member.state for member in heard if member.node_id == world.nodes[7].node_id}
    assert states == {State.ALIVE, State.SUSPECT}
    assert world.nodes[7].running.counters.refutations == 1


@pytest.mark.parametrize("down_s", [0.2, 30.0])
def test_a_restarted_node_is_alive_to_all_whether_or_not_it_was_missed(down_s: float) -> None:
    world = formed(7)
    world.crash(12)
    world.run_for(down_s)
    assert all_see(world, 12, State.DEAD) == (down_s > DETECTION_S)
    world.start(12, [3])
    world.run_until(world.converged, within_s=FORMATION_S)
    for node in world.running:
        if node.number != 12:
            assert node.running.members[world.nodes[12].node_id].boot == 2
            assert any(change.member.boot == 2 for _, change in node.changes)


def test_a_founder_that_restarts_without_seeds_is_found_by_its_mesh() -> None:
    world = formed(8, 30)
    world.crash(0)
    world.run_for(2.0)
    world.start(0)
    world.run_until(world.converged, within_s=60.0)
    world.crash(0)
    world.run_for(60.0)
    assert all_see(world, 0, State.DEAD)
    world.start(0)
    world.run_until(world.converged, within_s=60.0)


def test_a_symmetric_partition_heals_without_anyone_dying_twice() -> None:
    world = formed(9)
    halves = range(50), range(50, 100)
    world.partition(*halves)
    world.run_for(60.0)
    for half, other in (halves, halves[::-1]):
        assert all(world.state(index, gone) is State.DEAD for index in half for gone in other)
        assert all(world.state(index, near) is State.ALIVE for index in half for near in half)
    deaths = world.total("deaths")
    world.heal()
    world.run_until(world.converged, within_s=HEALING_S)
    assert world.total("deaths") == deaths


@pytest.mark.parametrize("cut_s", [3.0, 8.0, 15.0])
def test_of_a_node_that_nobody_heard_for_a_while_no_other_learns_a_false_death(cut_s: float) -> None:
    world = SwimWorld(9, NODES)
    world.start_converged()
    world.run_for(5.0)
    others = world.nodes[1:]
    world.partition([0], [node.number for node in others])
    world.run_for(cut_s)
    world.heal()
    deaths = world.nodes[0].running.counters.deaths
    assert (deaths > 0) == (cut_s > world.config.suspicion_s(NODES))
    world.run_until(world.converged, within_s=DETECTION_S)
    blamed = {change.member.node_id for node in others for _, change in node.changes if not change.member.is_live}
    assert blamed <= {world.nodes[0].node_id}
    # A suspicion that just ended when the path was there again is past help.
    assert world.nodes[0].running.counters.deaths <= deaths + 1


def test_a_partition_that_is_longer_than_the_dead_are_remembered_heals_through_the_seeds() -> None:
    world = SwimWorld(10, 20, config=SwimConfig(dead_retention_s=60.0))
    world.start_all()
    world.run_until(world.converged, within_s=FORMATION_S)
    world.partition(range(10), range(10, 20))
    world.run_for(300.0)
    assert all(len(node.running.members) == 10 for node in world.nodes)
    world.heal()
    world.run_until(world.converged, within_s=HEALING_S)


def test_a_departure_spreads_as_one_and_is_no_failure() -> None:
    world = formed(11)
    world.leave(42)
    world.run_until(lambda: all_see(world, 42, State.LEFT), within_s=3.0)
    world.run_for(60.0)
    assert all_see(world, 42, State.LEFT)
    assert world.total("deaths") == world.total("suspicions") == 0


def test_departures_under_loss_are_no_failures_either() -> None:
    world = formed(12, 10)
    world.set_quality(LinkQuality(loss=0.3))
    world.leave(4)
    world.run_until(lambda: all_see(world, 4, State.LEFT), within_s=60.0)


@pytest.mark.parametrize("pause_s", [3.0, 60.0])
def test_a_node_that_was_stopped_blames_nobody_and_is_alive_again(pause_s: float) -> None:
    world = formed(13)
    world.pause(20, pause_s)
    world.run_for(pause_s - 0.1)
    assert all_see(world, 20, State.DEAD) == (pause_s > DETECTION_S)
    world.run_for(0.2)
    world.run_until(world.converged, within_s=FORMATION_S + 5.0)
    assert world.nodes[20].running.counters.pauses == 1
    blamed = {change.member.node_id for _, change in world.nodes[20].changes if change.member.state is not State.ALIVE}
    assert blamed == set()


def test_half_of_a_mesh_that_was_stopped_at_once_blames_nobody() -> None:
    world = formed(14, 20)
    for index in range(10):
        world.pause(index, 20.0)
    world.run_for(20.1)
    world.run_until(world.converged, within_s=HEALING_S)
    stopped = {world.nodes[index].node_id for index in range(10)}
    for index in range(10):
        blamed = {
            change.member.node_id
            for _, change in world.nodes[index].changes
            if change.member.state is State.DEAD and change.member.node_id not in stopped
        }
        assert blamed == set()


def test_an_unanswered_newcomer_says_so_and_joins_when_its_seed_comes_up() -> None:
    world = SwimWorld(15, 2)
    world.start(1, [0])
    world.run_for(60.0)
    assert list(world.nodes[1].silences)[:3] == [1, 2, 3]
    world.start(0)
    world.run_until(world.converged, within_s=31.0)


def churn(seed: int) -> SwimWorld:
    """Everything at once, for the comparison of traces."""
    world = SwimWorld(seed, 20)
    world.set_quality(LinkQuality(loss=0.05))
    world.start_all(spread_s=1.0)
    world.run_for(10.0)
    world.crash(3)
    world.pause(4, 5.0)
    world.run_for(8.0)
    world.start(3, [0])
    world.leave(5)
    world.partition(range(10), range(10, 20))
    world.run_for(20.0)
    world.heal()
    world.run_for(20.0)
    return world


def test_the_same_seed_gives_the_same_trace_and_another_seed_another() -> None:
    assert churn(1).trace.hexdigest() == churn(1).trace.hexdigest() != churn(2).trace.hexdigest()


@pytest.mark.parametrize("hash_seed", ["0", "4242"])
def test_the_trace_does_not_depend_on_the_hash_seed(hash_seed: str) -> None:
    root = Path(__file__).parents[2]
    script = "from tests.membership.test_world import churn; print(churn(1).trace.hexdigest())"
    printed = subprocess.run(
        [sys.executable, "-c", script],
        cwd=root,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        check=True,
        text=True,
    )
    assert printed.stdout.strip() == churn(1).trace.hexdigest()
