"""One partition on one node: which rows and messages change what it is."""

import pytest

from meshnode.identity import Boot, Epoch, NodeId
from meshnode.metadata.allocator import Move
from meshnode.metadata.commands import RowChange, Step
from meshnode.metadata.rows import Phase, Row
from meshnode.partitions.config import PartitionsConfig
from meshnode.partitions.effects import Committed, Deposed, Effect, Propose, Send, Serving
from meshnode.partitions.messages import (
    ORIGIN,
    Append,
    Appended,
    Chunk,
    ChunkTaken,
    Fetch,
    Fetched,
    Message,
    Refused,
    Seal,
    Sealed,
)
from meshnode.partitions.partition import MOVE_EXPIRY_S, PROPOSE_AGAIN_S, Partition
from tests.partitions.copies import A, B, C, D, P, append, at, records, sends, sent, state_of
from tests.partitions.oracle import ListMachine

BOOT = Boot(4)
ACTIVATE = Propose(RowChange(P, Step.ACTIVATE, Epoch(1), Phase.SEALING))


def partition_of() -> Partition:
    """The copy at node A, started for the fourth time."""
    return Partition(P, ListMachine(), node_id=A, boot=BOOT, config=PartitionsConfig())


def row(
    epoch: int,
    phase: Phase = Phase.SEALING,
    *,
    primary: NodeId = A,
    boot: int = BOOT,
    replicas: tuple[NodeId, ...] = (A, B, C),
    base: tuple[NodeId, ...] = (),
) -> Row:
    return Row(Epoch(epoch), primary, Boot(boot), replicas, phase, base)


def own(partition: Partition, effects: list[Effect]) -> list[Effect]:
    """What follows when the journal has synced."""
    caused = [partition.receive(send.message, A, 0.0) for send in sends(effects) if send.to == A]
    return [effect for each in caused for effect in each]


def at_barrier() -> Partition:
    """A candidate of epoch 1, a new partition, whose barrier is on its own disk."""
    partition = partition_of()
    own(partition, partition.row_changed(row(1), 0.0))
    return partition


def serving() -> Partition:
    partition = at_barrier()
    partition.receive(Appended(P, Epoch(1), 1), B, 0.0)
    partition.row_changed(row(1, Phase.ACTIVE, base=(A, B, C)), 0.0)
    assert partition.is_serving
    return partition


# ---- the way to serving


def test_nobody_but_a_primary_sends_the_next_part_of_a_snapshot_when_told_that_one_was_taken() -> None:
    """Else two that know nothing of what they sent answer each other, and each message that comes twice goes on."""
    partition = partition_of()
    partition.receive(append(1, ORIGIN, *records(1, *[1] * 8), committed=8), B, 0.0)
    partition.receive(Seal(P, Epoch(2)), C, 0.0)
    assert sent(partition.receive(Fetch(P, Epoch(2), ORIGIN), C, 0.0), Chunk)
    assert partition.receive(ChunkTaken(P, Epoch(2), at(1, 8), 1), C, 0.0) == []


def test_a_candidate_of_a_new_partition_writes_a_barrier_asks_to_be_activated_and_serves() -> None:
    partition = partition_of()
    effects = partition.row_changed(row(1), 0.0)
    assert partition.primary is not None
    assert len(sent(effects, Append)) == 2
    assert own(partition, effects) == []
    assert partition.receive(Appended(P, Epoch(1), 1), B, 0.0) == [ACTIVATE]
    effects = partition.row_changed(row(1, Phase.ACTIVE), 0.0)
    assert effects == [Committed(P, 1), Serving(P, Epoch(1))]
    assert partition.is_serving
    assert partition.row_changed(row(1, Phase.ACTIVE), 0.0) == []


def test_activation_is_proposed_again_until_the_row_is_active() -> None:
    partition = at_barrier()
    assert partition.next_deadline == PartitionsConfig().resend_after_s
    partition.receive(Appended(P, Epoch(1), 1), B, 0.0)
    partition.receive(Appended(P, Epoch(1), 1), C, 0.0)
    assert partition.next_deadline == PROPOSE_AGAIN_S
    assert partition.wake(PROPOSE_AGAIN_S) == [ACTIVATE]
    assert partition.wake(PROPOSE_AGAIN_S) == []
    partition.row_changed(row(1, Phase.ACTIVE), 0.0)
    assert partition.next_deadline == float("inf")


def test_a_candidate_with_an_old_set_takes_its_log_first() -> None:
    partition = partition_of()
    effects = partition.row_changed(row(3, base=(B, C, D)), 0.0)
    assert [send.to for send in sends(effects) if isinstance(send.message, Seal)] == [B, C, D]
    own(partition, effects)
    assert partition.next_deadline == PartitionsConfig().resend_after_s
    assert [send.to for send in sends(partition.wake(partition.next_deadline))] == [B, C, D]
    partition.receive(Sealed(P, Epoch(3), at(2, 2)), C, 1.0)
    assert sends(partition.receive(Sealed(P, Epoch(3), ORIGIN), D, 1.0)) == [Send(C, Fetch(P, Epoch(3), ORIGIN))]
    effects = partition.receive(Fetched(P, Epoch(3), ORIGIN, records(1, 1, 2), at(2, 2)), C, 1.0)
    assert partition.primary is not None
    assert partition.primary.barrier == 3
    assert len(sent(effects, Append)) == 2


def test_answers_to_another_takeover_are_ignored() -> None:
    partition = partition_of()
    assert partition.receive(Sealed(P, Epoch(3), ORIGIN), B, 0.0) == []
    partition.row_changed(row(3, base=(B, C, D)), 0.0)
    for sender in (B, C, D):
        assert partition.receive(Sealed(P, Epoch(2), ORIGIN), sender, 0.0) == []
    assert partition.primary is None


def test_a_state_from_the_source_is_taken_over_too() -> None:
    partition = partition_of()
    partition.row_changed(row(3, base=(B,)), 0.0)
    partition.receive(Sealed(P, Epoch(3), at(2, 5)), B, 0.0)
    partition.receive(Chunk(P, Epoch(3), at(2, 5), 0, 3, b"5 x"), B, 0.0)
    assert partition.primary is not None
    assert partition.primary.barrier == 6
    assert state_of(partition.replica) == [5]


# ---- rows that give nothing


@pytest.mark.parametrize(
    "other",
    [row(1, primary=B), row(1, boot=BOOT - 1), row(1, boot=BOOT + 1), row(1, Phase.ACTIVE)],
    ids=["another node", "an earlier process", "a later process", "nothing was begun"],
)
def test_only_a_sealing_row_that_names_this_very_process_begins_a_takeover(other: Row) -> None:
    partition = partition_of()
    assert partition.row_changed(other, 0.0) == []
    assert partition.takeover is None
    assert partition.primary is None


def test_a_row_below_the_promise_begins_nothing() -> None:
    partition = partition_of()
    partition.receive(Seal(P, Epoch(2)), B, 0.0)
    assert partition.row_changed(row(1), 0.0) == []
    assert partition.primary is None


def test_the_same_row_twice_begins_one_takeover() -> None:
    partition = partition_of()
    partition.row_changed(row(3, base=(B, C)), 0.0)
    takeover = partition.takeover
    assert partition.row_changed(row(3, base=(B, C)), 0.0) == []
    assert partition.takeover is takeover


# ---- the end of a role


@pytest.mark.parametrize(
    "message",
    [
        Seal(P, Epoch(2)),
        append(2, ORIGIN),
        Chunk(P, Epoch(2), at(1, 9), 0, 9, b"x"),
        Refused(P, Epoch(1), Epoch(2), ORIGIN),
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_primary_that_hears_of_a_newer_epoch_steps_down_at_once_and_for_good(message: Message) -> None:
    partition = serving()
    effects = partition.receive(message, B, 0.0)
    assert effects[0] == Deposed(P, Epoch(1))
    assert not partition.is_serving
    assert partition.primary is None
    assert partition.next_deadline == float("inf")
    assert partition.row_changed(row(1), 0.0) == []
    assert partition.primary is None


@pytest.mark.parametrize(
    "message",
    [Seal(P, Epoch(1)), append(0, ORIGIN), Refused(P, Epoch(1), Epoch(1), ORIGIN), Fetch(P, Epoch(1), ORIGIN)],
    ids=lambda message: type(message).__name__,
)
def test_a_primary_stays_one_when_it_hears_of_no_newer_epoch(message: Message) -> None:
    partition = serving()
    partition.receive(message, B, 0.0)
    assert partition.is_serving


def test_a_newer_row_ends_the_role() -> None:
    partition = serving()
    assert partition.row_changed(row(2, primary=B, base=(A, B, C)), 0.0) == [Deposed(P, Epoch(1))]
    assert partition.primary is None


def test_a_newer_row_may_name_the_same_process_again() -> None:
    partition = serving()
    effects = partition.row_changed(row(2, base=(A, B, C)), 0.0)
    assert effects[0] == Deposed(P, Epoch(1))
    assert partition.takeover is not None
    assert partition.takeover.epoch == 2


def test_a_candidate_that_steps_down_was_never_serving() -> None:
    partition = at_barrier()
    assert not any(isinstance(effect, Deposed) for effect in partition.receive(Seal(P, Epoch(2)), B, 0.0))
    assert partition.primary is None


def test_nobody_else_writes_in_the_primarys_epoch() -> None:
    partition = serving()
    assert partition.receive(append(1, at(1, 1), *records(2, 1)), B, 0.0) == []
    assert partition.receive(Chunk(P, Epoch(1), at(1, 9), 0, 0, b""), B, 0.0) == []
    assert partition.replica.log.last == at(1, 1)


# ---- what belongs elsewhere


def test_answers_of_another_epoch_are_ignored() -> None:
    partition = serving()
    for message in (Appended(P, Epoch(2), 1), ChunkTaken(P, Epoch(0), ORIGIN, 0), Sealed(P, Epoch(1), ORIGIN)):
        assert partition.receive(message, B, 0.0) == []
    assert partition.is_serving


def test_a_sealed_source_goes_on_with_the_state_that_it_was_asked_for() -> None:
    partition = partition_of()
    partition.receive(append(1, ORIGIN, *records(1, *[1] * 8), committed=8), B, 0.0)
    partition.receive(Seal(P, Epoch(2)), C, 0.0)
    (first,) = sent(partition.receive(Fetch(P, Epoch(2), ORIGIN), C, 0.0), Chunk)
    rest = Fetch(P, Epoch(2), ORIGIN, first.position, len(first.data))
    (second,) = sent(partition.receive(rest, C, 0.0), Chunk)
    assert second.offset == len(first.data)


def test_a_refusal_or_a_lost_part_reaches_the_primary() -> None:
    partition = serving()
    (message,) = sent(partition.wake(1.0), Append)
    refused = Refused(P, Epoch(1), Epoch(1), ORIGIN, message.previous.sequence)
    assert sent(partition.receive(refused, C, 1.0), Append) == [message]
    assert partition.receive(ChunkTaken(P, Epoch(1), ORIGIN, 0), C, 1.0) == []


def test_what_is_no_message_of_a_partition_changes_nothing() -> None:
    partition = serving()
    assert partition.receive(object(), B, 0.0) == []
    assert partition.is_serving


# ---- moves


def move(replicas: tuple[NodeId, ...], *, epoch: int = 1) -> Move:
    return Move(P, Epoch(epoch), replicas[0], Boot(2), replicas, "why")


def idle() -> Partition:
    """A primary that waits for nothing."""
    partition = serving()
    partition.receive(Appended(P, Epoch(1), 1), C, 0.0)
    assert partition.next_deadline == float("inf")
    return partition


def learners_of(partition: Partition) -> tuple[NodeId, ...]:
    assert partition.primary is not None
    return partition.primary.learners


def begin(replicas: tuple[NodeId, ...]) -> Propose:
    return Propose(RowChange(P, Step.BEGIN, Epoch(1), Phase.ACTIVE, replicas[0], Boot(2), replicas, "why"))


def test_a_move_is_proposed_once_its_learners_have_the_tail_and_again_until_it_begins() -> None:
    partition = idle()
    assert [send.to for send in sends(partition.move(move((A, B, D)), 10.0))] == [D]
    assert partition.receive(Appended(P, Epoch(1), 1), D, 11.0) == [begin((A, B, D))]
    assert partition.receive(Appended(P, Epoch(1), 1), D, 11.0) == []
    assert partition.move(move((A, B, D)), 11.5) == []
    assert partition.next_deadline == 11.0 + PROPOSE_AGAIN_S
    assert partition.wake(11.0 + PROPOSE_AGAIN_S) == [begin((A, B, D))]
    partition.row_changed(row(2, primary=B, base=(A, B, C)), 20.0)
    assert partition.next_deadline == float("inf")


def test_a_move_without_learners_is_proposed_at_once() -> None:
    assert serving().move(move((B, A, C)), 0.0) == [begin((B, A, C))]


def test_only_the_serving_primary_of_its_epoch_takes_a_move() -> None:
    candidate, primary = at_barrier(), idle()
    assert candidate.move(move((A, B, D)), 0.0) == []
    assert primary.move(move((A, B, D), epoch=2), 0.0) == []
    assert partition_of().move(move((A, B, D)), 0.0) == []
    assert primary.next_deadline == float("inf")


def test_a_move_that_is_not_asked_for_any_more_expires_and_its_learner_is_forgotten() -> None:
    partition = idle()
    partition.move(move((A, B, D)), 0.0)
    partition.move(move((A, B, D)), 50.0)
    partition.wake(MOVE_EXPIRY_S)
    assert learners_of(partition) == (D,)
    partition.wake(50.0 + MOVE_EXPIRY_S)
    assert learners_of(partition) == ()
    assert partition.next_deadline == float("inf")
    assert partition.receive(Appended(P, Epoch(1), 1), D, 7200.0) == []
    assert partition.wake(7200.0) == []


def test_what_a_learner_that_is_not_needed_received_of_a_state_is_let_go() -> None:
    partition = partition_of()
    partition.receive(Chunk(P, Epoch(2), at(1, 9), 0, 9, b"x"), B, 0.0)
    partition.row_changed(row(2, Phase.ACTIVE, primary=B, replicas=(B, C)), 0.0)
    kept = partition.replica.receiving
    partition.row_changed(row(3, Phase.ACTIVE, primary=B, replicas=(B, C)), 0.0)
    assert (kept, partition.replica.receiving) == ((at(1, 9), 1), None)


# ---- deletion


def copy_of_epoch(epoch: int) -> Partition:
    partition = partition_of()
    partition.receive(append(epoch, ORIGIN, *records(1, epoch)), B, 0.0)
    return partition


@pytest.mark.parametrize(
    ("given", "is_deleted"),
    [
        (row(3, Phase.ACTIVE, primary=B, replicas=(B, C)), True),
        (row(3, Phase.SEALING, primary=B, replicas=(B, C)), False),
        (row(3, Phase.ACTIVE, primary=B), False),
        (row(2, Phase.ACTIVE, primary=B, replicas=(B, C)), False),
        (row(1, Phase.ACTIVE, primary=B, replicas=(B, C)), False),
    ],
    ids=["excluded", "not active", "still a replica", "a learner of that epoch", "an older row"],
)
def test_a_copy_is_deleted_only_when_an_active_row_of_a_newer_epoch_excludes_it(given: Row, is_deleted: bool) -> None:
    partition = copy_of_epoch(2)
    partition.row_changed(given, 0.0)
    assert partition.replica.is_empty is is_deleted
    assert partition.replica.promised == 2
    if is_deleted:
        assert partition.row_changed(given, 0.0) == []


@pytest.mark.parametrize(
    "late",
    [
        append(2, ORIGIN, *records(1, 2)),
        Chunk(P, Epoch(2), at(1, 5), 0, 3, b"5 x"),
        Chunk(P, Epoch(2), at(1, 5), 0, 9, b"5"),
    ],
    ids=["records", "a state", "a part of a state"],
)
def test_what_comes_late_makes_no_copy_again_that_was_deleted(late: Message) -> None:
    partition = copy_of_epoch(2)
    partition.row_changed(row(3, Phase.ACTIVE, primary=B, replicas=(B, C)), 0.0)
    assert partition.receive(late, B, 0.0) == []
    assert partition.replica.is_empty
    assert partition.replica.receiving is None


def test_a_learner_of_the_newest_epoch_gets_its_copy_again() -> None:
    partition = copy_of_epoch(2)
    partition.row_changed(row(3, Phase.ACTIVE, primary=B, replicas=(B, C)), 0.0)
    partition.receive(append(3, ORIGIN, *records(1, 2)), B, 0.0)
    assert partition.replica.log.last == at(2, 1)


def test_after_a_restart_the_log_says_which_epoch_a_learner_belongs_to() -> None:
    partition = copy_of_epoch(2)
    again = partition_of()
    again.replica.recover(partition.replica.whole_copy())
    again.row_changed(row(2, Phase.ACTIVE, primary=B, replicas=(B, C)), 0.0)
    assert not again.replica.is_empty
