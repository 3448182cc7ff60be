"""The world of placement: members come, go and return, and the rows follow as little as they must."""

import pytest

from meshnode.identity import NodeId
from meshnode.metadata.allocator import Move
from meshnode.metadata.config import AllocatorConfig
from meshnode.metadata.rows import Row
from simulations.checkers.violation import Violation
from simulations.cores import placement_world
from simulations.cores.faults import NO_FAULTS, CoreFaults, Crash, Leave
from simulations.cores.placement_checks import table_of
from simulations.cores.placement_settings import PlacementSettings, PlacementWorkload
from simulations.cores.placement_world import PlacementWorld

FIVE = PlacementWorkload(nodes=6, founders=5, partitions=32, joins_per_s=0.0)


def settled(faults: CoreFaults = NO_FAULTS, workload: PlacementWorkload = FIVE) -> PlacementWorld:
    """A mesh ten seconds after it was founded."""
    world = PlacementWorld(3, faults=faults, settings=PlacementSettings(), workload=workload)
    world.run_for(10.0)
    assert not world.unfinished()
    return world


def held_by(world: PlacementWorld, number: int) -> tuple[int, int]:
    """How many partitions the node leads, and how many it holds."""
    table, node_id = table_of(world.metadata), world.nodes[number].node_id
    return table.primaries()[node_id], table.replicas()[node_id]


def test_a_node_that_returns_in_time_leads_its_share_again_and_nothing_is_copied() -> None:
    world = settled(CoreFaults(crashes=(Crash(2, at_s=12.0, for_s=20.0),)))
    before, rows, copies = held_by(world, 2), table_of(world.metadata).rows, world.copies_begun
    world.run_for(10.0)
    assert held_by(world, 2) == (0, before[1])
    world.run_for(12.0)
    world.recover()
    assert held_by(world, 2) == before
    assert world.copies_begun == copies
    assert [set(row) for row in table_of(world.metadata).rows] == [set(row) for row in rows]


def test_a_node_that_stays_away_is_given_up_and_has_its_share_when_it_returns_late() -> None:
    world = settled(CoreFaults(crashes=(Crash(2, at_s=12.0, for_s=100.0),)))
    world.run_for(95.0)
    assert not world.unfinished()
    assert held_by(world, 2) == (0, 0)
    world.run_for(10.0)
    world.recover()
    leads, holds = held_by(world, 2)
    assert leads in (6, 7)
    assert holds in (19, 20)


def test_a_node_that_leaves_is_forgotten_once_it_holds_nothing() -> None:
    world = settled(CoreFaults(leaves=(Leave(4, at_s=12.0),)))
    world.run_for(30.0)
    assert not world.nodes[4].is_up
    assert world.nodes[4].node_id not in world.metadata.nodes
    assert not world.unfinished()


def test_a_batch_that_goes_and_comes_in_other_zones_leaves_a_table_in_all_of_them() -> None:
    crashes = tuple(Crash(number, at_s=12.0, for_s=5.0) for number in (1, 2))
    workload = PlacementWorkload(
        nodes=9, founders=6, partitions=32, zones=3, weights=(1, 2), joins_per_s=1.0, changes_per_s=0.2
    )
    report = placement_world.run(5, CoreFaults(crashes=crashes), 40.0, workload=workload)
    assert report.is_clean, report.violations
    assert report.counters["tables"] > 5


def test_two_hundred_nodes_get_their_table() -> None:
    workload = PlacementWorkload(nodes=200, founders=200, partitions=256, zones=4)
    world = PlacementWorld(1, faults=NO_FAULTS, settings=PlacementSettings(), workload=workload)
    world.run_for(5.0)
    assert set(table_of(world.metadata).replicas().values()) <= {3, 4}


# ---- mistakes of a leader


def test_a_move_to_elsewhere_than_the_table_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def elsewhere(*arguments: object) -> Move:
        partition, epoch, primary, boot, replicas, reason = arguments
        return Move(partition, epoch, primary, boot, replicas[:-1], reason)  # type: ignore[arg-type, index]

    monkeypatch.setattr("meshnode.metadata.allocator.Move", elsewhere)
    world = settled(CoreFaults(leaves=(Leave(4, at_s=12.0),)))
    with pytest.raises(Violation, match="placement-goal"):
        world.run_for(30.0)


def test_a_move_that_is_asked_of_a_row_that_nobody_serves_is_found() -> None:
    world = settled()
    row = world.metadata.rows[next(iter(world.metadata.rows))]
    move = Move(next(iter(world.metadata.rows)), row.epoch, row.primary, row.boot, row.replicas, "")
    with pytest.raises(Violation, match="placement-heir-lives"):
        world.checks._move(row, move, {})


def test_a_follower_that_comes_to_other_rows_is_found() -> None:
    world = settled()
    partition, row = next(iter(world.follower.rows.items()))
    assert isinstance(row, Row)
    world.follower.rows[partition] = Row(row.epoch, NodeId(7), row.boot, row.replicas, row.phase)
    with pytest.raises(Violation, match="placement-same-rows"):
        world.run_for(1.0)


def test_rows_that_do_not_become_those_of_the_table_in_time_are_found() -> None:
    settings = PlacementSettings(allocator=AllocatorConfig(replacement_delay_s=1.0))
    world = PlacementWorld(
        3, faults=NO_FAULTS, settings=settings, workload=PlacementWorkload(nodes=4, founders=2, lost=1.0)
    )
    world.run_for(5.0)
    world.start(3)
    world.start(4)
    with pytest.raises(Violation, match="liveness"):
        world.recover()
