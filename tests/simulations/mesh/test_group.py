"""The Raft group of whole nodes manages itself: who votes, who follows, and the way out of a lost quorum."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import pytest

from consensus.status import Status, status_of
from meshnode.identity import NodeId, PartitionId
from meshnode.metadata.rows import Row
from meshnode.recovery import recover, survey
from meshnode.restoration import look, next_generation, restore
from meshnode.snapshot_file import SnapshotFile, save
from simulations.mesh import Report, run
from simulations.mesh.cluster import Cluster
from simulations.mesh.injector import Injector
from simulations.mesh.settings import settings_of
from simulations.plan import Bounds, Plan
from tests.consensus.disks import MemoryDisk

TEMPO = 0.25
REPLACED_S = 8.0 * TEMPO
"""How long the nodes of a plan of this tempo wait for a voter that is gone."""

PLAN = Plan(nodes=7, clients=1, duration_s=12.0, keys=3, partitions=4, calls_per_s=5.0, tempo=TEMPO)

Action = Callable[[Cluster], object]


def carry_out(monkeypatch: pytest.MonkeyPatch, plan: Plan, *actions: tuple[float, Action]) -> Report:
    """A clean run in which these happen at their times."""
    begin = Injector.begin

    def begin_all(injector: Injector) -> None:
        begin(injector)
        for at_s, action in actions:
            injector._schedule.at(at_s, action.__name__, functools.partial(action, injector._cluster))

    monkeypatch.setattr(Injector, "begin", begin_all)
    report = run(plan)
    assert report.violation is None, report.violation
    for at_s, action in actions:
        assert report.fired[action.__name__], f"{action.__name__} at {at_s} s"
    return report


def voters(cluster: Cluster) -> set[int]:
    """The numbers of those that vote, as the leader has it; nodes that are down are negative."""
    leading = next(node for node in cluster.nodes.values() if node.group.is_leader)
    numbers = {node.node_id: number for number, node in cluster.nodes.items()}
    return {numbers.get(NodeId(voter), -1) for voter in leading.group.status.voters}


def leader(cluster: Cluster) -> int:
    return next(number for number, node in cluster.nodes.items() if node.group.is_leader)


def test_five_of_seven_vote_two_stand_by_and_a_voter_that_dies_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    lost: list[int] = []

    def kill_one(cluster: Cluster) -> None:
        assert len(voters(cluster)) == 5
        lost.append(min(voters(cluster) - {leader(cluster)}))
        cluster.kill(lost[-1])

    def see_it_waited_for(cluster: Cluster) -> None:
        assert len(voters(cluster)) == 5
        assert -1 in voters(cluster)

    def see_it_replaced(cluster: Cluster) -> None:
        assert len(voters(cluster)) == 5
        assert -1 not in voters(cluster)

    steps = ((1.0, kill_one), (1.0 + REPLACED_S / 2, see_it_waited_for), (8.0, see_it_replaced))
    carry_out(monkeypatch, PLAN, *steps)


def test_a_leader_that_looks_just_after_each_check_of_its_quorum_sees_who_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Raft forgets then whom it has heard of, and two periods of which one divides the other stay in step."""

    def just_after_a_check(*arguments: Any, **named: Any) -> Status:
        status = status_of(*arguments, **named)
        progress = (dataclasses.replace(peer, recent_active=False) for peer in status.progress)
        return dataclasses.replace(status, progress=tuple(progress))

    monkeypatch.setattr("consensus.driver.status_of", just_after_a_check)

    def see_five(cluster: Cluster) -> None:
        assert len(voters(cluster)) == 5

    carry_out(monkeypatch, dataclasses.replace(PLAN, duration_s=2.0), (1.5, see_five))


def test_two_voters_that_die_in_turn_are_both_replaced_and_come_back_as_others(monkeypatch: pytest.MonkeyPatch) -> None:
    lost: list[int] = []

    def kill_one(cluster: Cluster) -> None:
        lost.append(leader(cluster))
        cluster.kill(lost[-1])

    def kill_another(cluster: Cluster) -> None:
        kill_one(cluster)

    def bring_them_back(cluster: Cluster) -> None:
        assert len(voters(cluster)) == 5
        assert -1 not in voters(cluster)
        for number in lost:
            cluster.start(number)

    def see_them_follow(cluster: Cluster) -> None:
        assert len(voters(cluster)) == 5
        newest = max(node.metadata.version for node in cluster.nodes.values())
        for number in lost:
            assert number not in voters(cluster)
            assert cluster.nodes[number].metadata.version == newest

    steps = ((1.0, kill_one), (3.0, kill_another), (13.0, bring_them_back), (18.0, see_them_follow))
    carry_out(monkeypatch, dataclasses.replace(PLAN, duration_s=19.0), *steps)


def test_a_leader_that_leaves_hands_over_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[NodeId] = []

    def leave(cluster: Cluster) -> None:
        left.append(cluster.nodes[leader(cluster)].node_id)
        cluster.leave(leader(cluster))

    def see_it_gone(cluster: Cluster) -> None:
        assert -1 not in voters(cluster)
        assert len(voters(cluster)) == 5
        for node in cluster.nodes.values():
            assert left[0] not in node.metadata.nodes
            assert left[0] not in node.group.status.configuration.members

    report = carry_out(monkeypatch, PLAN, (1.0, leave), (11.5, see_it_gone))
    assert report.fired["left for good"] == 1


def test_voters_are_spread_over_zones_by_and_by(monkeypatch: pytest.MonkeyPatch) -> None:
    def in_zones(plan: Plan, number: int, *, found: bool) -> object:
        zone = "east" if number < 4 else "west" if number < 6 else "north"
        return dataclasses.replace(settings_of(plan, number, found=found), zone=zone)

    monkeypatch.setattr("simulations.mesh.cluster.settings_of", in_zones)

    def see_them_spread(cluster: Cluster) -> None:
        zones = sorted(cluster.nodes[number].config.zone for number in voters(cluster))
        assert len(zones) == 3
        assert set(zones) == {"east", "north", "west"}

    plan = dataclasses.replace(PLAN, bounds=Bounds(voters=3), duration_s=24.0)
    carry_out(monkeypatch, plan, (23.0, see_them_spread))


def test_more_nodes_follow_than_vote_and_the_leader_streams_to_few(monkeypatch: pytest.MonkeyPatch) -> None:
    def look(cluster: Cluster) -> None:
        leading = cluster.nodes[leader(cluster)]
        assert len(leading.group.status.configuration.members) == 5
        assert len(leading.metadata.nodes) == 12
        for node in cluster.nodes.values():
            assert node.metadata.version == leading.metadata.version
            assert node.group.leader == leading.node_id
            assert set(node.group.status.voters) == set(leading.group.status.voters)

    plan = dataclasses.replace(PLAN, nodes=12, bounds=Bounds(voters=3), duration_s=4.0)
    carry_out(monkeypatch, plan, (3.5, look))


def test_a_lost_quorum_stops_nothing_but_changes_and_is_recovered_from_one_log(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: dict[PartitionId, Row] = {}
    kept: list[int] = []

    def lose_the_quorum(cluster: Cluster) -> None:
        chosen = sorted(voters(cluster))
        kept.append(chosen[0])
        for number in chosen[1:]:
            cluster.kill(number)
            cluster.absent.add(number)

    def remember(cluster: Cluster) -> None:
        rows.update(cluster.nodes[kept[0]].metadata.rows)
        assert all(node.group.leader is None for node in cluster.nodes.values())

    def stop_the_survivor(cluster: Cluster) -> None:
        assert cluster.nodes[kept[0]].metadata.rows == rows, "nothing moves"
        cluster.stop(kept[0])

    def recover_from_its_log(cluster: Cluster) -> None:
        disk = cluster.disk(kept[0])
        holder = disk.acquire()
        found = survey(disk)
        given_up = found.given_up(())
        assert len(given_up) == 2
        assert recover(disk, found, given_up).generation == 1
        disk.release(holder)
        cluster.start(kept[0])

    def see_a_group_again(cluster: Cluster) -> None:
        assert len(cluster.nodes) == 5
        assert len(voters(cluster)) == 3
        assert -1 not in voters(cluster)
        leading = cluster.nodes[leader(cluster)]
        for node in cluster.nodes.values():
            assert node.metadata.generation == 1
            assert node.metadata.version == leading.metadata.version
            assert node.group.leader == leading.node_id
        begun = [row.epoch >> 40 for row in leading.metadata.rows.values()]
        assert 1 in begun, "rows that begin anew do so in the new generation"

    plan = dataclasses.replace(PLAN, bounds=Bounds(voters=3), duration_s=27.0, atlas=False)
    carry_out(
        monkeypatch,
        plan,
        (2.0, lose_the_quorum),
        (5.0, remember),
        (9.0, stop_the_survivor),
        (10.0, recover_from_its_log),
        (26.0, see_a_group_again),
    )


def test_a_mesh_goes_on_from_a_snapshot_and_no_acknowledged_turn_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """All are stopped, and the metadata go back to a snapshot on the disk of the one with the latest log."""
    taken: list[SnapshotFile] = []
    rows: dict[PartitionId, Row] = {}
    kept: list[int] = []

    def take_a_snapshot(cluster: Cluster) -> None:
        described, image = cluster.nodes[leader(cluster)].group.freeze()
        taken.append(save(MemoryDisk(), "file", described, image(), partial="file.part", overwrite=False))
        cluster.kill(next(iter(voters(cluster) - {leader(cluster)})))  # so that partitions move

    def stop_all(cluster: Cluster) -> None:
        kept.append(leader(cluster))
        rows.update(cluster.nodes[kept[0]].metadata.rows)
        for number in list(cluster.nodes):
            cluster.stop(number)

    def restore_and_start(cluster: Cluster) -> None:
        disk = cluster.disk(kept[0])
        holder = disk.acquire()
        present = look(disk, taken[0], NodeId(99))
        assert present.is_newer
        assert taken[0].metadata.rows == rows
        restore(disk, taken[0], present, generation=next_generation(present, taken[0]), lost=())
        disk.release(holder)
        for number in range(cluster.plan.nodes):
            cluster.start(number)

    def see_a_group_again(cluster: Cluster) -> None:
        assert len(voters(cluster)) == 3
        assert -1 not in voters(cluster)
        for node in cluster.nodes.values():
            assert node.metadata.generation == 1
            assert len(node.metadata.nodes) == 5
            assert all(row.epoch >> 40 == 1 for row in node.metadata.rows.values())

    plan = dataclasses.replace(PLAN, nodes=5, bounds=Bounds(voters=3), duration_s=22.0)
    steps = ((2.0, take_a_snapshot), (9.0, stop_all), (10.0, restore_and_start), (21.0, see_a_group_again))
    carry_out(monkeypatch, plan, *steps)
