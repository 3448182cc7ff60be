"""The schedules for which each rule exists, step by step."""

import pytest

from meshnode.identity import Epoch, NodeId, PartitionId
from meshnode.metadata.rows import Phase, Row
from meshnode.partitions import replica
from meshnode.partitions.messages import Append, Appended, Fetch, Position, Refused, Seal, Sealed
from meshnode.partitions.takeover import Stage
from tests.partitions.copies import Wanted, at
from tests.partitions.schedule import quiet_round, settle
from tests.partitions.world import Flight, World

A, B, C, D, E = (NodeId(number) for number in range(1, 6))
P = PartitionId(0)


def serving_world(nodes: int = 3, replicas: tuple[NodeId, ...] = (A, B, C)) -> World:
    """A world whose partition is active in epoch 1, with the first of the replicas as primary and one barrier."""
    world = World(nodes)
    world.begin(P, replicas[0], replicas)
    quiet_round(world)
    quiet_round(world)
    assert [node.node_id for node in world.serving(P)] == [replicas[0]]
    return world


def tell_rows(world: World, *nodes: NodeId) -> None:
    for node in nodes:
        while world.learn_row(node, P):
            pass


def row_of(world: World) -> Row:
    row = world.row(P)
    assert row is not None
    return row


def last_of(world: World, node: NodeId) -> Position:
    return world.nodes[node].partitions[P].replica.log.last


def committed_of(world: World, node: NodeId) -> int:
    return world.nodes[node].partitions[P].replica.committed


def state_of(world: World, node: NodeId) -> bytes:
    return world.nodes[node].partitions[P].replica.machine.snapshot()


def run_among(world: World, *nodes: NodeId) -> None:
    """Until nothing moves between these nodes any more; messages of others stay where they are."""
    for _ in range(50):
        for node in nodes:
            world.sync(node)
        if not world.deliver_where(Wanted(senders=nodes, to=nodes)):
            return


# ---- why `base` exists


def test_a_second_crash_in_mid_takeover_does_not_hand_the_partition_to_a_set_that_never_had_the_log() -> None:
    world = serving_world(5)
    world.propose(A, P, b"precious")
    world.lose_where(Wanted(to=(C,)))
    run_among(world, A, B)
    assert world.oracle.acknowledged[P] == {2: b"precious"}
    world.crash(A)

    world.begin(P, C, (C, D, E))  # rows name a new set before it has anything
    tell_rows(world, C)
    world.crash(C)
    world.begin(P, D, (D, E, C))
    tell_rows(world, D, E)
    for _ in range(10):
        quiet_round(world)
    assert row_of(world).phase is Phase.SEALING
    assert world.serving(P) == []  # of the set that has it, only B is there

    world.restart(A)
    for _ in range(10):
        quiet_round(world)
    (primary,) = world.serving(P)
    assert primary.node_id == D
    assert b"precious" in state_of(world, D)


def test_what_an_epoch_counted_before_it_was_active_is_not_committed() -> None:
    world = serving_world(5)
    world.propose(A, P, b"only sent")
    world.deliver_where(Wanted(to=(C,)))
    world.sync(C)
    world.crash(A)
    world.network.clear()

    world.begin(P, C, (C, D, E))
    tell_rows(world, C)
    run_among(world, B, C)  # C seals B and itself, and has the longer log
    run_among(world, C, D, E)
    assert last_of(world, C) == last_of(world, D) == at(row_of(world).epoch, 3)
    assert committed_of(world, C) == 1
    late_activation = list(world.proposals)
    assert late_activation

    world.restart(A)
    world.begin(P, B, (A, B, C))  # suspicion came first: base is still A, B, C
    tell_rows(world, A, B)
    run_among(world, A, B)
    assert not any(node.node_id == C for node in world.serving(P))
    while world.proposals:
        world.agree()
    tell_rows(world, B)
    assert [node.node_id for node in world.serving(P)] == [B]
    settle(world)
    assert b"only sent" not in state_of(world, C)


# ---- why the barrier exists


def test_a_record_of_an_old_epoch_is_not_committed_by_counting_it_in_a_new_one() -> None:
    """The schedule of figure 8 of the Raft paper, with two candidates that each wrote one record."""
    world = serving_world()
    world.propose(A, P, b"written at A alone, and longer than a message")
    world.network.clear()
    world.sync(A)
    world.crash(A)

    world.begin(P, C, (A, B, C))
    tell_rows(world, C)
    world.deliver_where(Wanted(Seal, to=(B,)))
    world.sync(B)
    world.sync(C)
    world.deliver_where(Wanted(Sealed, to=(C,)))
    world.network.clear()
    world.sync(C)
    assert last_of(world, C) == at(2, 2)
    world.crash(C)

    world.restart(A)
    world.begin(P, A, (A, B, C))
    tell_rows(world, A)
    world.deliver_where(Wanted(Seal, to=(B,)))
    for _ in range(3):  # sealed; refused for want of the record; that record alone
        world.sync(A)
        world.sync(B)
        world.deliver_where(Wanted(senders=(A, B), to=(A, B)))
    world.sync(B)
    world.deliver_where(Wanted(Refused, to=(A,)))
    world.deliver_where(Wanted(Append, to=(B,)))
    world.sync(B)
    assert last_of(world, B) == at(1, 2)
    world.deliver_where(Wanted(Appended, to=(A,)))
    assert last_of(world, A) == at(3, 3)
    assert committed_of(world, A) < 2, "the old record is on a majority, but the barrier is not"
    assert not world.proposals
    world.crash(A)
    world.network.clear()

    world.restart(C)
    world.begin(P, C, (A, B, C))
    tell_rows(world, C)
    quiet_round(world)
    quiet_round(world)
    (primary,) = world.serving(P)
    assert primary.node_id == C
    assert state_of(world, C) == b""
    settle(world)


# ---- why rows name the boot


def test_a_primary_that_restarts_unsuspected_does_not_write_its_epoch_a_second_time() -> None:
    world = serving_world()
    world.propose(A, P, b"sent, not written")
    world.deliver_where(Wanted(Append))
    world.sync(B)
    world.sync(C)
    world.crash(A)
    world.restart(A, forgotten_rows=10)
    for _ in range(3):
        quiet_round(world)
    assert world.serving(P) == []
    assert last_of(world, B) == at(1, 2)

    world.begin(P, A, (A, B, C))
    for _ in range(3):
        quiet_round(world)
    assert [node.node_id for node in world.serving(P)] == [A]
    assert b"sent, not written" in state_of(world, A)


def test_a_candidate_that_restarts_in_mid_takeover_does_not_take_its_epoch_up_again() -> None:
    world = serving_world()
    world.begin(P, B, (A, B, C))
    tell_rows(world, B)
    world.crash(B)
    world.restart(B, forgotten_rows=10)
    tell_rows(world, B)
    copy = world.nodes[B].partitions[P]
    assert copy.takeover is None
    assert copy.primary is None


# ---- why the seal waits its turn


def test_a_seal_that_races_a_sync_in_flight_answers_with_what_is_being_synced() -> None:
    world = serving_world()
    world.propose(A, P, b"in flight")
    world.lose_where(Wanted(Append, to=(C,)))
    world.sync(A)
    world.deliver_where(Wanted(Append, to=(B,)))  # queued in B's journal

    world.begin(P, C, (A, B, C))
    tell_rows(world, C)
    world.deliver_where(Wanted(Seal, to=(B,)))
    assert not world.lose_where(Wanted(Sealed))
    world.sync(B)
    assert [type(flight.message) for flight in world.network if flight.sender == B] == [Appended, Sealed]
    world.deliver_where(Wanted(Appended, to=(A,)))
    assert world.oracle.acknowledged[P] == {2: b"in flight"}
    world.crash(A)
    world.sync(C)
    world.deliver_where(Wanted(Sealed, to=(C,)))
    takeover = world.nodes[C].partitions[P].takeover
    assert takeover is not None
    assert takeover.stage is Stage.FETCHING
    run_among(world, B, C)
    assert last_of(world, C).sequence == 3
    settle(world)


def test_a_crash_between_a_seal_and_its_sync_leaves_the_seal_unanswered() -> None:
    world = serving_world()
    world.begin(P, C, (A, B, C))
    tell_rows(world, C)
    world.deliver_where(Wanted(Seal, to=(B,)))
    world.crash(B)
    world.restart(B)
    assert world.nodes[B].partitions[P].replica.promised == 1
    assert not world.lose_where(Wanted(Sealed))


# ---- why `previous`


def test_a_replica_that_lost_a_message_across_a_reconnect_acknowledges_nothing_after_the_hole() -> None:
    world = serving_world()
    for payload in (b"one, which is longer than a message", b"two", b"three"):
        world.propose(A, P, payload)
        if payload.startswith(b"one"):
            world.lose_where(Wanted(to=(B,)))
    world.sync(A)
    assert world.deliver_where(Wanted(Append, to=(B,))) == 2
    world.sync(B)
    assert last_of(world, B).sequence == 1
    refusals = [flight.message for flight in world.network if flight.sender == B]
    assert [type(message) for message in refusals] == [Refused, Refused]
    run_among(world, A, B)
    assert last_of(world, B).sequence == 4
    assert sorted(world.oracle.acknowledged[P]) == [2, 3, 4]


def test_many_refusals_for_one_lost_message_cause_one_message_in_return() -> None:
    world = serving_world()
    for number in range(4):
        world.propose(A, P, b"record %d, as long as a message" % number)
        if number == 0:
            world.lose_where(Wanted(to=(B,)))
    world.deliver_where(Wanted(Append, to=(B,)))
    world.sync(B)
    assert world.deliver_where(Wanted(Refused, to=(A,))) == 3
    assert len(world.lose_where(Wanted(Append, to=(B,)))) == 1


# ---- why ids are drawn with the directory


def test_a_replica_that_returns_with_an_empty_disk_counts_for_nothing() -> None:
    world = serving_world(4)
    world.propose(A, P, b"precious")
    world.lose_where(Wanted(to=(B,)))
    run_among(world, A, C)
    assert world.oracle.acknowledged[P] == {2: b"precious"}
    world.crash(A)
    world.crash(C)  # its disk is lost; the host comes back as D

    world.begin(P, B, (A, B, C))
    tell_rows(world, B)
    world.network.append(Flight(D, B, Sealed(P, row_of(world).epoch, at(0, 0))))
    for _ in range(10):
        quiet_round(world)
    assert world.serving(P) == []
    world.restart(A)
    for _ in range(4):
        quiet_round(world)
    assert b"precious" in state_of(world, B)


# ---- why reads confirm


def test_a_read_at_a_primary_that_was_taken_over_is_never_answered() -> None:
    world = serving_world()
    world.begin(P, C, (A, B, C))
    tell_rows(world, C)
    run_among(world, B, C)
    while world.proposals:
        world.agree()
    tell_rows(world, C)
    run_among(world, B, C)
    world.propose(C, P, b"newer")
    run_among(world, B, C)
    assert world.oracle.acknowledged[P] == {3: b"newer"}

    assert {node.node_id for node in world.serving(P)} == {A, C}
    world.read(A, P)
    world.confirm(A)
    run_among(world, A, B)
    assert world.reads_ready == 0
    assert [node.node_id for node in world.serving(P)] == [C]


def test_a_read_waits_for_what_it_saw_to_be_committed() -> None:
    world = serving_world()
    world.propose(A, P, b"seen, not committed")
    world.lose_where(Wanted(Append))
    world.read(A, P)
    world.confirm(A)
    run_among(world, A, B, C)
    assert world.reads_ready == 0
    world.pass_time(1.0)
    run_among(world, A, B, C)
    assert world.reads_ready == 1


# ---- deletion


def test_a_copy_that_was_deleted_keeps_its_promise() -> None:
    world = serving_world(4)
    world.move(A, P, A, (A, B, D))
    quiet_round(world)
    quiet_round(world)
    quiet_round(world)
    row = row_of(world)
    assert row.phase is Phase.ACTIVE
    assert row.replicas == (A, B, D)
    copy = world.nodes[C].partitions[P]
    assert copy.replica.is_empty
    assert copy.replica.promised == row.epoch
    world.sync(C)
    world.crash(C)
    world.restart(C, forgotten_rows=10)
    assert world.nodes[C].partitions[P].replica.promised == row.epoch
    world.network.append(Flight(A, C, Append(P, Epoch(1), at(1, 1), (), 0)))
    world.deliver(len(world.network) - 1)
    world.sync(C)
    assert isinstance(world.network[-1].message, Refused)


def test_a_learner_that_restarts_and_deletes_its_copy_by_an_older_row_is_taught_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(replica, "RECORDS_RETAINED", 100)  # so that it is taught by records
    monkeypatch.setattr(replica, "RETAINED_BYTES_MAX", 10_000)
    world = serving_world(4)
    for number in range(12):
        world.propose(A, P, b"write %d" % number)
        run_among(world, A, B, C)
    world.begin(P, A, (A, B, C))
    quiet_round(world)
    quiet_round(world)
    world.move(A, P, D, (A, B, D))
    learner = world.nodes[D]
    while P not in learner.partitions or learner.partitions[P].replica.is_empty:
        world.deliver_where(Wanted(senders=(A,), to=(D,)))
        world.sync(D)
        world.deliver_where(Wanted(senders=(D,), to=(A,)))
    world.crash(D)
    world.restart(D)
    assert last_of(world, D).epoch == 1
    learner.rows_seen[P] = 2
    tell_rows(world, D)  # the row of epoch 2 excludes it
    assert learner.partitions[P].replica.is_empty
    for _ in range(8):
        quiet_round(world)
    assert last_of(world, D) == last_of(world, A)


# ---- takeover


def test_a_candidate_outside_the_old_set_with_the_longest_log_takes_its_own() -> None:
    world = serving_world(4)
    world.move(A, P, D, (A, B, D))
    world.lose_where(Wanted(senders=(D,)))
    run_among(world, A, D)
    world.proposals.clear()
    world.propose(A, P, b"reached the learner alone")
    world.deliver_where(Wanted(Append, to=(D,)))
    world.network.clear()
    world.crash(A)
    world.begin(P, D, (B, C, D))
    tell_rows(world, D)
    run_among(world, B, C, D)
    assert not world.lose_where(Wanted(Fetch))
    assert last_of(world, D).sequence == 3
    settle(world)
    assert b"reached the learner alone" in state_of(world, D)
