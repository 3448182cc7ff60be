"""What moves where, when, and how much at a time."""

from itertools import pairwise
from typing import Any

import pytest

from meshnode.identity import Epoch
from meshnode.metadata.allocator import MOVE_ATTEMPTS, MOVE_TIMEOUT_S, STALL_MAX_S, Health, Plan
from meshnode.metadata.config import AllocatorConfig
from meshnode.metadata.rows import Phase
from meshnode.placement import Reason, Table, next_table
from tests.metadata.mesh import LOOK_INTERVAL_S
from tests.metadata.scene import (
    CONFIG,
    changes,
    forget_the_past,
    formed,
    held_by,
    led_by,
    moves,
    spread,
)

# ---- a node that does not return


def test_while_a_failed_node_may_return_no_replica_moves() -> None:
    mesh = formed(5)
    failed = next(iter(mesh.nodes))
    held = held_by(mesh, failed)
    mesh.fail(failed)
    mesh.run(CONFIG.replacement_delay_s)
    assert moves(mesh) == []
    assert held_by(mesh, failed) == held


def test_replicas_of_a_node_that_does_not_return_are_made_again_elsewhere() -> None:
    mesh = formed(5)
    failed, *others = mesh.nodes
    held = held_by(mesh, failed)
    mesh.fail(failed)
    mesh.run(CONFIG.replacement_delay_s + 10.0)
    assert held_by(mesh, failed) == set()
    assert {move.partition for move in moves(mesh)} == held
    assert mesh.copied == len(held), "one copy for each that was lost"
    assert mesh.table() == mesh.target(*others)


def test_where_there_is_nobody_to_make_replicas_on_they_wait_for_their_node() -> None:
    mesh = formed(3)
    failed, *_others = mesh.nodes
    mesh.fail(failed)
    mesh.run(CONFIG.replacement_delay_s * 3)
    assert moves(mesh) == []
    assert held_by(mesh, failed) == set(range(mesh.partitions))
    (newcomer,) = mesh.join(4)
    mesh.run(10.0)
    assert held_by(mesh, failed) == set()
    assert held_by(mesh, newcomer) == set(range(mesh.partitions))


def test_a_new_leader_waits_all_the_time_again() -> None:
    mesh = formed(5)
    mesh.fail(next(iter(mesh.nodes)))
    mesh.run(CONFIG.replacement_delay_s - 5.0)
    mesh.elect()
    mesh.run(CONFIG.replacement_delay_s - 5.0)
    assert moves(mesh) == []


# ---- nodes that come and go


def test_a_newcomer_gets_its_share_and_nothing_else_moves() -> None:
    mesh = formed(4)
    (newcomer,) = mesh.join(5)
    mesh.run(10.0)
    share = mesh.partitions * 3 / 5
    assert mesh.copied == len(held_by(mesh, newcomer))
    assert abs(mesh.copied - share) < 1
    assert {move.reason for move in moves(mesh)} == {Reason.NODE_JOINED.value}
    assert spread(list(mesh.led().values())) <= 1


def test_a_node_that_wants_to_leave_ends_with_nothing_and_is_forgotten() -> None:
    mesh = formed(4)
    leaving, *others = mesh.nodes
    mesh.leave(leaving)
    assert mesh.forget() == []
    mesh.run(10.0)
    assert held_by(mesh, leaving) == set()
    assert mesh.table() == mesh.target(*others)
    assert {move.reason for move in moves(mesh)} == {Reason.NODE_LEFT.value}
    assert mesh.forget() == [leaving]


def test_a_node_that_wants_to_leave_is_not_kept_by_one_that_failed() -> None:
    mesh = formed(3)
    failed, leaving, staying = mesh.nodes
    mesh.fail(failed)
    mesh.leave(leaving)
    mesh.run(CONFIG.replacement_delay_s + 5.0)
    assert all(row.replicas == (staying,) for row in mesh.metadata.rows.values())
    assert mesh.forget() == [leaving]


def test_members_that_change_every_moment_move_nothing() -> None:
    mesh = formed(4)
    flapping = next(iter(mesh.nodes))
    (_newcomer,) = mesh.join(5)
    for _ in range(20):
        mesh.restart(flapping)
        mesh.run(CONFIG.settle_s / 2)
    assert moves(mesh) == []
    mesh.run(10.0)
    assert mesh.table() == mesh.target(*mesh.nodes)


# ---- how moves are asked for


def test_no_more_partitions_move_at_a_time_than_allowed() -> None:
    config = AllocatorConfig(settle_s=1.0, moves_max=4)
    mesh = formed(3, config=config)
    mesh.join(4)
    mesh.takeover_s = 2.0
    under_way = []
    for _ in range(200):
        mesh.look()
        mesh.now += LOOK_INTERVAL_S
        sealing = sum(row.phase is Phase.SEALING for row in mesh.metadata.rows.values())
        under_way.append(sealing + len(mesh.asked))
    assert max(under_way) == 4
    assert mesh.table() == mesh.target(*mesh.nodes)


def test_a_move_that_shows_no_effect_is_asked_for_again_and_then_left_alone_for_a_while() -> None:
    config = AllocatorConfig(settle_s=1.0, moves_max=1)
    mesh = formed(3, partitions=8, config=config)
    mesh.join(4)
    mesh.is_lost = lambda: True
    asked: list[tuple[float, int]] = []
    for _ in range(1200):
        asked.extend((mesh.now, move.partition) for move in mesh.look().moves)
        mesh.now += LOOK_INTERVAL_S
    first = asked[:MOVE_ATTEMPTS]
    assert len({partition for _, partition in first}) == 1
    assert all(later[0] - sooner[0] == MOVE_TIMEOUT_S for sooner, later in pairwise(first))
    assert asked[MOVE_ATTEMPTS][1] != first[0][1], "another one gets its turn"
    again = [at for at, partition in asked if partition == first[0][1]]
    assert again[MOVE_ATTEMPTS] - again[MOVE_ATTEMPTS - 1] >= STALL_MAX_S


def test_a_partition_whose_takeover_stalled_is_not_handed_over_for_a_while() -> None:
    mesh = formed(3)
    failed, balking, _other = mesh.nodes
    mesh.balk(balking, 20.0)
    mesh.fail(failed)
    mesh.run(CONFIG.stall_s + 2.0)
    stalled = {change.partition for change in changes(mesh) if change.epoch == Epoch(2)}
    assert stalled
    assert led_by(mesh, balking).isdisjoint(stalled)
    mesh.restart(failed)
    forget_the_past(mesh)
    mesh.run(STALL_MAX_S - 10.0)
    assert {change.partition for change in changes(mesh)}.isdisjoint(stalled)


def test_partitions_that_nobody_can_serve_hold_up_no_other() -> None:
    config = AllocatorConfig(settle_s=1.0, replacement_delay_s=5.0, moves_max=2)
    mesh = formed(6, replication=1, partitions=32, config=config)
    failed, leaving, *_others = mesh.nodes
    lost = held_by(mesh, failed)
    mesh.fail(failed)
    mesh.leave(leaving)
    mesh.run(60.0)
    assert held_by(mesh, failed) == lost, "its copies are the only ones"
    assert held_by(mesh, leaving) == set()
    mesh.restart(failed)
    mesh.run(60.0)
    assert mesh.table() == mesh.target(*(node_id for node_id in mesh.nodes if node_id != leaving))


# ---- a mesh in order


def test_a_mesh_in_order_is_not_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = formed(5)
    health = mesh.health()

    def fail(*_arguments: object, **_named: object) -> None:
        raise AssertionError("the rows were looked at, although nothing had changed")

    monkeypatch.setattr("meshnode.metadata.allocator.next_table", fail)
    monkeypatch.setattr("meshnode.metadata.allocator.successors", fail)
    monkeypatch.setattr(mesh.metadata, "rows", None)
    for _ in range(3):
        assert mesh.allocator.plan(health, mesh.now) == Plan()


def test_a_change_of_who_is_alive_makes_it_look_again() -> None:
    mesh = formed(5)
    health = mesh.health()
    assert mesh.allocator.plan(health, mesh.now) == Plan()
    node_id = next(iter(mesh.nodes))
    plan = mesh.allocator.plan({**health, node_id: Health.FAILED}, mesh.now)
    assert {change.partition for change in plan.changes} == led_by(mesh, node_id)


def test_the_table_to_reach_is_worked_out_once_a_wave(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = formed(4, config=AllocatorConfig(settle_s=1.0, moves_max=2))
    calls = []

    def counted(*arguments: Any, **named: Any) -> Table:
        calls.append(mesh.now)
        return next_table(*arguments, **named)

    monkeypatch.setattr("meshnode.metadata.allocator.next_table", counted)
    mesh.join(5)
    mesh.run(20.0)
    assert len(moves(mesh)) > 10
    assert len(calls) == 2, "once to know where to go, once to see that it is reached"


def test_settings_that_mean_nothing_are_refused() -> None:
    for name in ("settle_s", "replacement_delay_s", "stuck_after_s", "stall_s", "moves_max"):
        for value in (0, -1):
            with pytest.raises(ValueError, match=f"{name} is {value}"):
                AllocatorConfig(**{name: value})
