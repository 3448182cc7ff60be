"""Who takes over from a primary that fails, and from one that gets nowhere."""

from collections import Counter
from itertools import pairwise

import pytest

from meshnode.identity import Boot, Epoch, NodeId, PartitionId
from meshnode.metadata.allocator import STALL_MAX_S, Allocator, Move
from meshnode.metadata.config import AllocatorConfig
from meshnode.metadata.rows import Phase
from meshnode.placement import Reason
from tests.metadata.mesh import LOOK_INTERVAL_S, Mesh
from tests.metadata.scene import (
    CONFIG,
    changes,
    forget_the_past,
    formed,
    held_by,
    led_by,
    moves,
    one_partition,
    spread,
)

# ---- a primary that fails


def test_the_primaries_of_a_failed_node_and_no_others_are_named_anew_at_once() -> None:
    mesh = formed(5)
    failed = next(iter(mesh.nodes))
    lost, before = led_by(mesh, failed), mesh.table()
    mesh.fail(failed)
    plan = mesh.look()
    assert {change.partition for change in plan.changes} == lost
    assert plan.moves == ()
    mesh.run(CONFIG.replacement_delay_s / 2)
    assert len(mesh.proposals) == len(lost)
    assert mesh.begun == {Reason.NODE_FAILED.value: len(lost)}
    for partition, (old, new) in enumerate(zip(before.rows, mesh.table().rows, strict=True)):
        assert set(old) == set(new), "replicas stay"
        assert partition in lost or old[0] == new[0], "other primaries stay"
    led = mesh.led()
    assert failed not in led
    assert spread(list(led.values())) <= 2


def test_a_node_that_returns_gets_its_share_back_and_copies_nothing() -> None:
    mesh = formed(5)
    failed = next(iter(mesh.nodes))
    share = len(led_by(mesh, failed))
    mesh.fail(failed)
    mesh.run(5.0)
    forget_the_past(mesh)
    mesh.restart(failed)
    mesh.run(10.0)
    assert mesh.copied == 0
    assert moves(mesh) == []
    assert len(changes(mesh)) in (share, share - 1), "as few handovers as its share, rounded down or up"
    assert spread(list(mesh.led().values())) <= 1
    assert mesh.table() == mesh.target(*mesh.nodes)
    assert mesh.begun == {Reason.REBALANCE.value: len(changes(mesh))}


def test_a_node_that_said_goodbye_is_no_failure() -> None:
    mesh = formed(4)
    gone = next(iter(mesh.nodes))
    mesh.fail(gone, left=True)
    mesh.look()
    assert set(mesh.begun) == {Reason.NODE_LEFT.value}


def test_a_process_that_started_again_needs_a_new_epoch() -> None:
    mesh = formed(4)
    node_id = next(iter(mesh.nodes))
    lost = led_by(mesh, node_id)
    mesh.restart(node_id)
    mesh.run(10.0)
    assert {change.partition for change in changes(mesh)} == lost
    assert all(mesh.row(partition).epoch == Epoch(2) for partition in lost)
    assert spread(list(mesh.led().values())) <= 1
    assert all(mesh.row(partition).boot == Boot(2) for partition in led_by(mesh, node_id))


def test_a_single_node_that_started_again_takes_its_partitions_up() -> None:
    mesh = formed(1)
    (node_id,) = mesh.nodes
    mesh.restart(node_id)
    mesh.look()
    assert all(row.boot == Boot(2) and row.phase is Phase.ACTIVE for row in mesh.metadata.rows.values())


def test_a_stuck_node_loses_its_partitions_and_keeps_its_replicas() -> None:
    mesh = formed(4)
    node_id = next(iter(mesh.nodes))
    held = held_by(mesh, node_id)
    mesh.hang(node_id)
    mesh.run(5.0)
    assert led_by(mesh, node_id) == set()
    assert held_by(mesh, node_id) == held
    mesh.recover(node_id)
    mesh.run(5.0)
    assert spread(list(mesh.led().values())) <= 1


def test_a_takeover_that_could_not_succeed_is_not_begun() -> None:
    mesh = formed(3)
    first, second, _third = mesh.nodes
    lost, kept = led_by(mesh, first), led_by(mesh, second)
    mesh.fail(first)
    mesh.fail(second)
    mesh.run(CONFIG.replacement_delay_s * 3)
    assert mesh.proposals == []
    mesh.recover(second)  # it was cut off: the process is the same, and so is its epoch
    mesh.run(0.5)
    assert {change.partition for change in changes(mesh)} == lost
    assert led_by(mesh, second) >= kept


def test_a_lost_proposal_is_made_again_at_the_next_look() -> None:
    mesh = formed(4)
    failed = next(iter(mesh.nodes))
    lost = led_by(mesh, failed)
    mesh.fail(failed)
    mesh.is_lost = lambda: True
    first, second = mesh.look(), mesh.look()
    assert first == second
    mesh.is_lost = lambda: False
    mesh.look()
    assert {change.partition for change in changes(mesh)} == lost
    assert led_by(mesh, failed) == set()


def test_a_node_that_wants_to_leave_takes_over_only_where_nobody_else_can() -> None:
    mesh = formed(4)
    mesh.allocator = Allocator(mesh.metadata, AllocatorConfig(settle_s=1000.0), mesh.now)  # nothing moves meanwhile
    one, other, third, fourth = mesh.nodes
    mesh.leave(one)
    kept = led_by(mesh, one)
    mesh.fail(third)
    mesh.look()
    assert led_by(mesh, one) == kept
    assert led_by(mesh, third) == set()
    mesh.leave(other)
    mesh.fail(fourth)
    common = held_by(mesh, one) & held_by(mesh, other)
    assert common - led_by(mesh, one) - led_by(mesh, other)
    mesh.look()
    assert common <= led_by(mesh, one) | led_by(mesh, other)


# ---- a takeover that stalls


def test_a_takeover_that_stalls_passes_to_the_others_with_doubled_patience() -> None:
    mesh = one_partition()
    primary = mesh.row(0).primary
    others = [node_id for node_id in mesh.nodes if node_id != primary]
    for node_id in others:
        mesh.balk(node_id, 300.0)
    mesh.fail(primary)
    begun: list[tuple[float, NodeId]] = []
    for _ in range(600):
        begun.extend((mesh.now, change.primary) for change in mesh.look().changes)
        mesh.now += LOOK_INTERVAL_S
    names = [node_id for _, node_id in begun]
    assert set(names) == set(others)
    assert all(one != next_ for one, next_ in pairwise(names)), "each time the other one"
    waits = [later - sooner for (sooner, _), (later, _) in pairwise(begun)]
    # A takeover is watched from the look after the one that proposed it.
    assert waits == [wait + LOOK_INTERVAL_S for wait in (3.0, 6.0, 12.0, 24.0, 48.0)][: len(waits)]
    assert len(waits) == 5


def test_patience_has_an_end() -> None:
    mesh = one_partition()
    primary = mesh.row(0).primary
    for node_id in mesh.nodes:
        mesh.balk(node_id, 10_000.0)
    mesh.fail(primary)
    begun: list[float] = []
    for _ in range(2400):
        begun.extend(mesh.now for _ in mesh.look().changes)
        mesh.now += LOOK_INTERVAL_S
    assert begun[-1] - begun[-2] == STALL_MAX_S + LOOK_INTERVAL_S
    assert begun[-2] - begun[-3] == STALL_MAX_S + LOOK_INTERVAL_S


def test_a_move_that_stalled_is_given_more_time_when_it_is_tried_again() -> None:
    mesh = formed(5)
    failed = next(iter(mesh.nodes))
    mesh.fail(failed)
    mesh.run(5.0)
    mesh.takeover_s = 1.5 * CONFIG.stall_s
    mesh.restart(failed)
    mesh.run(3 * STALL_MAX_S)
    assert mesh.table() == mesh.target(*mesh.nodes)
    assert spread(list(mesh.led().values())) <= 1


def test_a_node_whose_takeovers_get_nowhere_is_not_given_more_and_more_time() -> None:
    mesh = formed(5)
    stuck = next(iter(mesh.nodes))
    mesh.fail(stuck)
    mesh.run(5.0)
    mesh.restart(stuck)
    mesh.balk(stuck, 10_000.0)
    mesh.run(10 * STALL_MAX_S)
    unserved: Counter[PartitionId] = Counter()
    looks = int(20 * STALL_MAX_S / LOOK_INTERVAL_S)
    for _ in range(looks):
        mesh.run(LOOK_INTERVAL_S)
        unserved.update(number for number, row in mesh.metadata.rows.items() if row.phase is Phase.SEALING)
    assert 0 < max(unserved.values()) <= looks * 1.5 * CONFIG.stall_s / STALL_MAX_S


@pytest.mark.parametrize("outage_s", [10.0, 40.0, 90.0])
def test_after_a_failure_nobody_is_given_the_time_that_others_have_needed(outage_s: float) -> None:
    mesh = one_partition()
    failed = mesh.row(0).primary
    for node_id in mesh.nodes:
        mesh.balk(node_id, outage_s)
    mesh.fail(failed)
    mesh.look()
    while mesh.row(0).phase is not Phase.ACTIVE:
        mesh.run(LOOK_INTERVAL_S)
    mesh.recover(failed)
    mesh.run(30.0)
    mesh.fail(mesh.row(0).primary)
    mesh.takeover_s = LOOK_INTERVAL_S
    mesh.look()
    mesh.balk(mesh.row(0).primary, 10_000.0)
    mesh.run(CONFIG.stall_s + 3 * LOOK_INTERVAL_S)
    assert mesh.row(0).phase is Phase.ACTIVE


def test_a_crash_in_mid_takeover_is_no_stall() -> None:
    mesh = formed(5, partitions=1, replication=5)
    mesh.takeover_s = 2.0
    mesh.fail(mesh.row(0).primary)
    mesh.look()
    mesh.now += 1.0
    mesh.fail(mesh.row(0).primary)
    mesh.look()
    assert len(mesh.proposals) == 2, "at once"
    mesh.run(2.5)
    assert mesh.row(0).phase is Phase.ACTIVE
    assert mesh.nodes[mesh.row(0).primary].works
    assert len(mesh.proposals) == 2


def test_the_only_candidate_is_not_named_again_and_again() -> None:
    mesh = Mesh(partitions=1, replication=1, config=CONFIG)
    (node_id,) = mesh.join(1)
    mesh.balk(node_id, 100.0)
    mesh.run(90.0)
    assert len(mesh.proposals) == 1
    mesh.run(20.0)
    assert mesh.row(0).phase is Phase.ACTIVE


def test_a_new_leader_gives_a_takeover_under_way_all_its_time() -> None:
    mesh = one_partition()
    mesh.takeover_s = CONFIG.stall_s + 1.0
    mesh.fail(mesh.row(0).primary)
    mesh.run(CONFIG.stall_s - 0.5)
    mesh.elect()
    mesh.run(2.0)
    assert len(mesh.proposals) == 1
    assert mesh.row(0).phase is Phase.ACTIVE


def test_a_takeover_that_lacked_its_majority_is_not_to_blame_for_the_time() -> None:
    mesh = one_partition()
    primary, second, third = mesh.table().rows[0]
    mesh.takeover_s = 1.0
    mesh.fail(primary)
    mesh.look()
    heir = mesh.row(0).primary
    mesh.fail(third if heir == second else second)
    mesh.run(60.0)
    mesh.recover(primary)
    mesh.run(CONFIG.stall_s)
    assert len(mesh.proposals) == 1
    assert (mesh.row(0).primary, mesh.row(0).phase) == (heir, Phase.ACTIVE)


def test_a_move_whose_new_replicas_are_gone_is_undone() -> None:
    mesh = formed(3, partitions=1)
    base = mesh.row(0).replicas
    newcomers = mesh.join(4, 5)
    primary = mesh.row(0).primary
    assert mesh.row(0).base == base
    mesh.takeover_s = 1.0
    row = mesh.row(0)
    move = Move(PartitionId(0), row.epoch, primary, row.boot, (primary, *newcomers), "rebalance")
    mesh.asked[move.partition] = move
    mesh.look()
    assert (mesh.row(0).replicas, mesh.row(0).phase) == ((primary, *newcomers), Phase.SEALING)
    for node_id in newcomers:
        mesh.fail(node_id)
    mesh.run(CONFIG.stall_s + 2.0)
    assert (mesh.row(0).replicas, mesh.row(0).phase) == (base, Phase.ACTIVE)
    assert mesh.row(0).epoch == row.epoch + 2


def test_a_founder_whose_first_guests_vanish_goes_on_alone() -> None:
    mesh = formed(1)
    (founder,) = mesh.nodes
    mesh.takeover_s = 1.0
    guests = mesh.join(2, 3)
    while not any(row.phase is Phase.SEALING for row in mesh.metadata.rows.values()):
        mesh.run(LOOK_INTERVAL_S)
    for guest in guests:
        mesh.fail(guest)
    mesh.run(CONFIG.stall_s + 2.0)
    assert all(row.phase is Phase.ACTIVE for row in mesh.metadata.rows.values())
    assert led_by(mesh, founder) == held_by(mesh, founder) == set(range(mesh.partitions))
    assert not any(held_by(mesh, guest) for guest in guests)
