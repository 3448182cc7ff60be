"""The leader's duty towards the rows, one care at a time."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest

from meshnode.identity import Boot, Epoch, NodeId, PartitionId
from meshnode.metadata.allocator import MOVE_ATTEMPTS, MOVE_TIMEOUT_S, STALL_MAX_S, Allocator, Health, Move, Plan
from meshnode.metadata.commands import RowChange
from meshnode.metadata.config import AllocatorConfig
from meshnode.metadata.rows import Phase
from meshnode.metadata.state import Metadata
from meshnode.placement import Reason, Table, next_table
from tests.metadata.mesh import LOOK_INTERVAL_S, Mesh

CONFIG = AllocatorConfig(settle_s=1.0, replacement_delay_s=30.0, stall_s=3.0)


def formed(nodes: int, *, partitions: int = 20, replication: int = 3, config: AllocatorConfig = CONFIG) -> Mesh:
    """A mesh of nodes that came at once, at rest. Twenty partitions divide evenly by four and by five."""
    mesh = Mesh(partitions=_power_of_two(partitions), replication=replication, config=config)
    mesh.join(*range(1, nodes + 1))
    mesh.run(5.0)
    assert mesh.table() == mesh.target(*mesh.nodes)
    forget_the_past(mesh)
    return mesh


def _power_of_two(least: int) -> int:
    return 1 << (least - 1).bit_length()


def forget_the_past(mesh: Mesh) -> None:
    mesh.proposals.clear()
    mesh.begun.clear()
    mesh.copied = 0


def changes(mesh: Mesh) -> list[RowChange]:
    return [proposal for proposal in mesh.proposals if isinstance(proposal, RowChange)]


def moves(mesh: Mesh) -> list[Move]:
    return [proposal for proposal in mesh.proposals if isinstance(proposal, Move)]


def led_by(mesh: Mesh, node_id: NodeId) -> set[int]:
    return {partition for partition, row in mesh.metadata.rows.items() if row.primary == node_id}


def held_by(mesh: Mesh, node_id: NodeId) -> set[int]:
    return {partition for partition, row in mesh.metadata.rows.items() if node_id in row.replicas}


def spread(counts: Sequence[int]) -> int:
    return max(counts) - min(counts)


# ---- formation


def test_before_the_mesh_is_founded_there_is_nothing_to_do() -> None:
    assert Allocator(Metadata(), CONFIG, 0.0).plan({}, 100.0) == Plan()


def test_without_members_there_is_nothing_to_do() -> None:
    mesh = Mesh()
    mesh.run(5.0)
    assert mesh.proposals == []


def test_partitions_are_given_out_once_the_members_have_settled() -> None:
    mesh = Mesh(config=CONFIG)
    ids = mesh.join(1, 2, 3, 4)
    mesh.run(CONFIG.settle_s)
    assert mesh.proposals == []
    mesh.look()
    assert len(changes(mesh)) == mesh.partitions
    assert mesh.begun == {Reason.FOUNDED.value: mesh.partitions}
    assert mesh.table() == mesh.target(*ids)
    assert all(row.phase is Phase.ACTIVE and row.epoch == Epoch(1) for row in mesh.metadata.rows.values())


@pytest.mark.parametrize("gap_s", [0.0, 0.25, 0.5, 0.75])
def test_five_nodes_that_come_within_seconds_cost_one_epoch_a_partition(gap_s: float) -> None:
    mesh = Mesh(partitions=64, config=CONFIG)
    for number in range(1, 6):
        mesh.join(number)
        mesh.run(gap_s)
    mesh.run(10.0)
    assert sum(mesh.begun.values()) == 64
    assert mesh.copied == 64 * 3
    assert mesh.table() == mesh.target(*mesh.nodes)


@pytest.mark.parametrize("gap_s", [1.25, 2.0, 5.0])
def test_nodes_that_come_one_by_one_cost_no_more_than_each_by_itself(gap_s: float) -> None:
    mesh = Mesh(partitions=64, config=CONFIG)
    for number in range(1, 6):
        mesh.join(number)
        mesh.run(gap_s)
    mesh.run(10.0)
    assert mesh.table() == mesh.target(*mesh.nodes)
    # Every partition gets its second and third replica, then 3/4 of those of the fourth node, 3/5 for the fifth.
    assert mesh.copied <= 64 * 3 + 48 + 39
    assert sum(mesh.begun.values()) <= 64 * 3 + 48 + 39 + 5 * 4, "some primaries are handed over besides"


def test_a_member_that_fails_while_the_mesh_forms_does_not_hold_it_up() -> None:
    mesh = Mesh(config=CONFIG)
    first, second, third = mesh.join(1, 2, 3)
    mesh.fail(third)
    mesh.run(2.0)
    assert mesh.table() == mesh.target(first, second)


def test_a_partition_whose_first_replicas_are_gone_is_given_to_others() -> None:
    mesh = Mesh(config=CONFIG, takeover_s=0.5)
    nodes = mesh.join(1, 2, 3)
    while not mesh.metadata.rows:
        mesh.run(LOOK_INTERVAL_S)
    assert all(row.phase is Phase.SEALING for row in mesh.metadata.rows.values())
    mesh.fail(nodes[0])
    mesh.fail(nodes[1])
    mesh.run(3.0)
    assert all(row.phase is Phase.ACTIVE and row.replicas == (nodes[2],) for row in mesh.metadata.rows.values())


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


def one_partition(nodes: int = 3) -> Mesh:
    return formed(nodes, partitions=1)


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


def test_a_crash_in_mid_takeover_is_no_stall() -> None:
    mesh = one_partition(5)
    mesh.takeover_s = 2.0
    for _ in range(2):
        mesh.fail(mesh.row(0).primary)
        mesh.look()
        mesh.now += 1.0
        assert mesh.row(0).phase is Phase.SEALING
        if mesh.works(mesh.row(0).base):
            break
    heir = mesh.row(0).primary
    mesh.fail(heir)
    mesh.restart(next(n for n, process in mesh.nodes.items() if not process.is_up and n != heir))
    mesh.run(4.0)
    row = mesh.row(0)
    assert row.phase is Phase.ACTIVE
    assert mesh.nodes[row.primary].works


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
    mesh._moves[move.partition] = move
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
        under_way.append(sealing + len(mesh._moves))
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
