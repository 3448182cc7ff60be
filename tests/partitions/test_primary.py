"""A primary alone: back-off, windows, snapshots, learners, reads, the lease."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.identity import Epoch, NodeId
from meshnode.partitions import primary as primary_module
from meshnode.partitions.config import PartitionsConfig
from meshnode.partitions.effects import AfterSync, Committed, Effect, ReadReady, Send, Write
from meshnode.partitions.messages import ORIGIN, Append, Appended, Chunk, ChunkTaken, Claim, Log, Record, Refused
from meshnode.partitions.primary import PATIENCE_MAX, Primary, majority
from meshnode.partitions.replica import Replica
from tests.partitions.copies import A, B, C, D, P, at, replica_with, sends, sent
from tests.partitions.oracle import ListMachine

RESEND_S = PartitionsConfig().resend_after_s
LONG = b"long enough for a message of its own"


def primary_of(
    replica: Replica,
    *,
    replicas: tuple[NodeId, ...] = (A, B, C),
    epoch: int = 5,
    config: PartitionsConfig | None = None,
) -> tuple[Primary, list[Effect]]:
    """The primary at node A, and the effects of its barrier."""
    replica.promised = Epoch(epoch)
    primary = Primary(
        replica, epoch=Epoch(epoch), node_id=A, replicas=replicas, config=config or PartitionsConfig(), now=0.0
    )
    return primary, primary.start(0.0)


def active_primary(
    replica: Replica | None = None, *, replicas: tuple[NodeId, ...] = (A, B, C), config: PartitionsConfig | None = None
) -> Primary:
    """One whose barrier is everywhere."""
    primary, _ = primary_of(replica or replica_with(1, 1), replicas=replicas, config=config)
    for member in replicas:
        acknowledge(primary, member, primary.barrier)
    primary.activated()
    return primary


def acknowledge(primary: Primary, sender: NodeId, sequence: int, now: float = 0.0) -> list[Effect]:
    return primary.appended(sender, Appended(P, primary.epoch, sequence), now)


def refuse(primary: Primary, sender: NodeId, previous: int, last: object) -> list[Append]:
    return sent(primary.refused(sender, Refused(P, primary.epoch, primary.epoch, last, previous), 0.0), Append)  # type: ignore[arg-type]


def to(effects: list[Effect], member: NodeId) -> list[Append]:
    return [send.message for send in sends(effects) if send.to == member and isinstance(send.message, Append)]


# ---- commitment


@pytest.mark.parametrize(("members", "expected"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3)])
def test_a_majority_is_more_than_half(members: int, expected: int) -> None:
    assert majority(members) == expected


def test_an_epoch_begins_with_a_barrier() -> None:
    primary, effects = primary_of(replica_with(1, 1))
    barrier = Record(Epoch(5), 3)
    assert primary.barrier == 3
    assert effects[:2] == [Write(Log(P, (barrier,))), AfterSync(Send(A, Appended(P, Epoch(5), 3)))]
    assert sent(effects, Append) == [Append(P, Epoch(5), at(1, 2), (barrier,), 0)] * 2


def test_nothing_is_committed_before_the_row_is_active() -> None:
    replica = replica_with(1, 1)
    primary, _ = primary_of(replica)
    for member in (A, B, C):
        acknowledge(primary, member, 3)
    assert primary.durable == 3
    assert replica.committed == 0
    assert primary.activated() == [Committed(P, 3)]


@given(
    members=st.sampled_from([1, 2, 3, 5]),
    acknowledged=st.lists(st.tuples(st.integers(1, 6), st.integers(1, 12)), max_size=30),
)
def test_a_record_is_committed_once_a_majority_of_the_replicas_has_it(
    members: int, acknowledged: list[tuple[int, int]]
) -> None:
    replicas = tuple(NodeId(number) for number in range(1, members + 1))
    replica = replica_with()
    primary = active_primary(replica, replicas=replicas)
    if members < 6:
        primary.teach((NodeId(6),), 0.0)  # who never counts
    for _ in range(9):
        primary.propose(b"x", 0.0)
    matched = dict.fromkeys(replicas, 1)
    for sender, sequence in acknowledged:
        acknowledge(primary, NodeId(sender), sequence)
        if sender in matched and sequence <= 10:
            matched[NodeId(sender)] = max(matched[NodeId(sender)], sequence)
        expected = max(
            number for number in range(1, 11) if sum(have >= number for have in matched.values()) * 2 > members
        )
        assert replica.committed == primary.durable == expected


def test_a_learner_never_counts() -> None:
    replica = replica_with(1, 1)
    primary = active_primary(replica)
    primary.teach((D,), 0.0)
    sequence, _ = primary.propose(b"x", 0.0)
    acknowledge(primary, A, sequence)
    acknowledge(primary, D, sequence)
    assert replica.committed < sequence
    acknowledge(primary, C, sequence)
    assert replica.committed == sequence


def test_a_record_is_one_message_for_all_who_lack_nothing_else() -> None:
    """So that it is made and encoded once."""
    primary = active_primary(replicas=(A, B, C, D))
    _, effects = primary.propose(b"first", 0.0)
    (first,), (second,), (third,) = (to(effects, member) for member in (B, C, D))
    assert first is second is third
    acknowledge(primary, B, first.records[-1].sequence)
    refuse(primary, C, first.previous.sequence, at(1, 1))
    _, effects = primary.propose(b"second", 0.0)
    assert [[record.payload for record in message.records] for message in to(effects, B)] == [[b"second"]]
    assert to(effects, C) == [], "it is being probed"


def test_what_waits_for_its_majority_is_bounded_in_bytes() -> None:
    replica = replica_with(1, 1)
    primary = active_primary(replica, config=PartitionsConfig(uncommitted_bytes_max=2**16))
    had_room = []
    for _ in range(70):
        had_room.append(primary.has_room)
        last, _ = primary.propose(b"x" * 1000, 0.0)
    assert had_room == [True] * 66 + [False] * 4
    for acknowledged, has_room in ((last - 67, False), (last - 65, True), (last, True)):
        for member in (A, B):
            acknowledge(primary, member, acknowledged)
        assert primary.has_room is has_room
    assert replica.committed == last


def test_adopted_records_count_as_waiting() -> None:
    replica = replica_with(1)
    replica.log.add(Record(Epoch(1), 2, b"x" * 2**16))
    primary, _ = primary_of(replica, config=PartitionsConfig(uncommitted_bytes_max=2**16))
    assert not primary.has_room


# ---- back-off


def test_one_refusal_skips_a_whole_epoch_of_records_that_differ() -> None:
    primary, _ = primary_of(replica_with(1, 1, 3, 3, 3, 3))
    assert [(message.previous, message.records[0].sequence) for message in refuse(primary, B, 6, at(2, 5))] == [
        (at(1, 2), 3)
    ]


@given(st.lists(st.integers(0, 1), max_size=10), st.lists(st.integers(0, 1), max_size=10), st.integers(0, 10))
def test_back_off_ends_at_the_last_common_record(ours: list[int], theirs: list[int], common: int) -> None:
    """Two logs with a common beginning that went apart: even epochs here, odd ones there."""
    shared = [1] * common

    def continued(steps: list[int], epoch: int) -> list[int]:
        return shared + [epoch + 2 * sum(steps[: index + 1]) for index in range(len(steps))]

    ours_log, theirs_log = continued(ours, 2), continued(theirs, 3)
    theirs_copy = replica_with(*theirs_log)
    ours_copy = Replica(P, ListMachine())
    ours_copy.log.replace(replica_with(*ours_log).log.after(0))
    primary, effects = primary_of(ours_copy, replicas=(A, B), epoch=60)
    rounds = 0
    messages = to(effects, B)
    while messages:
        rounds += 1
        (message, *_) = messages
        answers = sends(theirs_copy.append(message, A))
        (answer,) = [send.message for send in answers]
        if isinstance(answer, Refused):
            messages = to(primary.refused(B, answer, 0.0), B)
        else:
            assert isinstance(answer, Appended)
            messages = to(primary.appended(B, answer, 0.0), B)
    assert theirs_copy.log.last == ours_copy.log.last
    assert rounds <= 2 * (len(set(ours_log)) + len(set(theirs_log))) + len(ours_log) + 2


def test_a_refusal_of_what_is_not_under_way_is_stale() -> None:
    primary = active_primary()
    assert refuse(primary, B, 2, at(1, 1)) == []
    assert refuse(primary, D, 2, at(1, 1)) == []


def test_a_replica_that_lost_its_copy_is_fed_from_the_beginning() -> None:
    primary = active_primary(replica_with(1))
    _, effects = primary.propose(b"x", 0.0)
    (message,) = to(effects, B)
    assert refuse(primary, B, message.previous.sequence, ORIGIN)[0].previous == ORIGIN


# ---- windows and repetition


def test_one_message_at_a_time_goes_to_a_replica_until_it_answers() -> None:
    primary, effects = primary_of(replica_with(1, 1))
    assert len(to(effects, B)) == 1
    for _ in range(3):
        _, effects = primary.propose(LONG, 0.0)
        assert to(effects, B) == []
    assert len(to(acknowledge(primary, B, 3), B)) == 3


def test_messages_under_way_are_bounded() -> None:
    primary = active_primary()
    count = sum(len(to(primary.propose(LONG, 0.0)[1], B)) for _ in range(10))
    assert count == primary_module.WINDOW_MESSAGES
    assert len(to(acknowledge(primary, B, primary.barrier + 1), B)) == 1


def test_bytes_under_way_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(primary_module, "WINDOW_BYTES", 2 * len(LONG))
    primary = active_primary()
    assert sum(len(to(primary.propose(LONG, 0.0)[1], B)) for _ in range(10)) == 2


def test_what_is_not_answered_in_time_is_sent_again_as_one_message() -> None:
    primary = active_primary()
    for _ in range(3):
        primary.propose(LONG, 1.0)
    acknowledge(primary, C, primary.barrier + 3)
    assert primary.next_deadline == 1.0 + RESEND_S
    assert primary.wake(1.0 + RESEND_S / 2) == []
    (message,) = to(primary.wake(1.0 + RESEND_S), B)
    assert message.previous.sequence == primary.barrier
    assert primary.next_deadline == 1.0 + 2 * RESEND_S


def test_nothing_is_due_when_all_have_answered() -> None:
    primary = active_primary()
    assert primary.next_deadline == float("inf")
    assert primary.wake(1000.0) == []


def test_an_acknowledgement_beyond_the_log_is_ignored() -> None:
    primary = active_primary()
    assert acknowledge(primary, B, 1000) == []


# ---- snapshots


def primary_with_forgotten_records() -> tuple[Primary, Replica]:
    replica = replica_with(*[1] * 12, committed=12)
    return active_primary(replica), replica


def start_stream(primary: Primary) -> Chunk:
    _, effects = primary.propose(b"x", 0.0)
    (message,) = to(effects, B)
    refusal = Refused(P, primary.epoch, primary.epoch, ORIGIN, message.previous.sequence)
    (chunk,) = sent(primary.refused(B, refusal, 0.0), Chunk)
    return chunk


def taken(primary: Primary, chunk: Chunk, offset: int, now: float = 0.0) -> list[Effect]:
    return primary.chunk_taken(B, ChunkTaken(P, primary.epoch, chunk.position, offset), now)


def test_a_replica_before_the_logs_start_gets_the_state_in_parts_and_then_the_records() -> None:
    primary, replica = primary_with_forgotten_records()
    chunk = start_stream(primary)
    assert chunk.position == replica.committed_position
    offset, parts = 0, 0
    effects: list[Effect] = [Send(B, chunk)]
    while sent(effects, Chunk):
        (chunk,) = sent(effects, Chunk)
        assert chunk.offset == offset
        offset += len(chunk.data)
        effects = taken(primary, chunk, offset)
        parts += 1
    assert parts > 2
    assert offset == chunk.total
    (message,) = to(effects, B)
    assert message.previous == chunk.position


def test_records_do_not_overtake_a_snapshot() -> None:
    primary, _ = primary_with_forgotten_records()
    start_stream(primary)
    assert to(primary.propose(b"y", 0.0)[1], B) == []


def test_a_repeated_answer_starts_no_second_stream() -> None:
    primary, _ = primary_with_forgotten_records()
    chunk = start_stream(primary)
    assert len(sent(taken(primary, chunk, 24), Chunk)) == 1
    assert taken(primary, chunk, 24) == []


def test_a_replica_that_lost_the_parts_gets_them_from_the_beginning() -> None:
    primary, _ = primary_with_forgotten_records()
    chunk = start_stream(primary)
    (second,) = sent(taken(primary, chunk, 24), Chunk)
    assert sent(taken(primary, chunk, 0), Chunk) == [chunk]
    assert sent(taken(primary, chunk, 24), Chunk) == [second]


def test_a_repeated_answer_that_follows_a_silence_starts_no_second_stream() -> None:
    primary, _ = primary_with_forgotten_records()
    chunk = start_stream(primary)
    (second,) = sent(taken(primary, chunk, 24), Chunk)
    assert sent(primary.wake(RESEND_S), Chunk) == [second]
    assert taken(primary, chunk, 24, RESEND_S) == []
    assert sent(primary.wake(3 * RESEND_S), Chunk) == [second], "what was asked for last, however often it is sent"


def test_the_more_silences_a_snapshot_meets_the_longer_its_answers_may_take() -> None:
    primary, _ = primary_with_forgotten_records()
    chunk = start_stream(primary)
    acknowledge(primary, C, primary.barrier + 1)
    silent_s, patience = 0.0, 1
    while silent_s < 100 * RESEND_S:
        assert primary.wake(silent_s + (patience - 0.1) * RESEND_S) == []
        silent_s += patience * RESEND_S
        assert primary.next_deadline == silent_s
        assert sent(primary.wake(silent_s), Chunk) == [chunk]
        patience = min(2 * patience, PATIENCE_MAX)
    taken(primary, chunk, 24, silent_s)
    assert primary.next_deadline == silent_s + PATIENCE_MAX * RESEND_S, "the next part meets the same link"


def test_an_answer_about_another_snapshot_is_ignored() -> None:
    primary, _ = primary_with_forgotten_records()
    chunk = start_stream(primary)
    assert primary.chunk_taken(B, ChunkTaken(P, primary.epoch, at(1, 3), 0), 0.0) == []
    assert primary.chunk_taken(D, ChunkTaken(P, primary.epoch, chunk.position, 0), 0.0) == []


def test_a_lost_part_is_sent_again_in_time() -> None:
    primary, _ = primary_with_forgotten_records()
    chunk = start_stream(primary)
    assert sent(primary.wake(RESEND_S), Chunk) == [chunk]
    (second,) = sent(taken(primary, chunk, 24, RESEND_S), Chunk)
    assert sent(primary.wake(2.9 * RESEND_S), Chunk) == []
    assert sent(primary.wake(3 * RESEND_S), Chunk) == [second]


# ---- learners


def test_a_learner_is_fed_to_the_tail_and_reported() -> None:
    primary = active_primary(replica_with(1, 1))
    effects = primary.teach((D,), 0.0)
    (message,) = to(effects, D)
    assert message.records[-1].sequence == primary.barrier
    assert not primary.has_taught
    acknowledge(primary, D, primary.barrier)
    assert primary.has_taught


def test_a_learner_close_to_the_tail_has_caught_up() -> None:
    primary = active_primary(replica_with(1, 1))
    primary.teach((D,), 0.0)
    for _ in range(3):
        last, _ = primary.propose(b"x", 0.0)
    acknowledge(primary, D, last - primary_module.TAIL_RECORDS - 1)
    assert not primary.has_taught
    acknowledge(primary, D, last - primary_module.TAIL_RECORDS)
    assert primary.has_taught


def test_a_learner_that_has_not_answered_has_not_caught_up_however_short_the_log_is() -> None:
    primary = active_primary(replica_with())
    assert primary.barrier < primary_module.TAIL_RECORDS
    primary.teach((D,), 0.0)
    assert not primary.has_taught
    acknowledge(primary, D, primary.barrier)
    assert primary.has_taught


def test_a_learner_that_lost_its_copy_has_not_caught_up_any_more() -> None:
    primary = active_primary(replica_with(1, 1))
    primary.teach((D,), 0.0)
    acknowledge(primary, D, primary.barrier)
    (message,) = to(primary.propose(b"x", 0.0)[1], D)
    assert primary.has_taught
    refuse(primary, D, message.previous.sequence, ORIGIN)
    assert not primary.has_taught


def test_a_learner_that_is_no_longer_taught_gets_nothing_more() -> None:
    primary = active_primary()
    primary.teach((D,), 0.0)
    primary.teach((), 0.0)
    assert to(primary.propose(b"x", 0.0)[1], D) == []
    assert acknowledge(primary, D, primary.barrier) == []


def test_a_replica_cannot_be_taught() -> None:
    primary = active_primary()
    with pytest.raises(AssertionError):
        primary.teach((B, D), 0.0)


# ---- reads and the lease


def test_a_read_waits_for_a_majority_to_confirm_a_round_that_began_after_it() -> None:
    primary = active_primary()
    assert primary.read(7, 3) == []
    assert primary.confirmed(B, 2, 0.0) == []
    assert primary.confirmed(D, 3, 0.0) == []
    assert primary.confirmed(C, 3, 0.0) == [ReadReady(P, 7)]
    assert primary.confirmed(B, 3, 0.0) == []


def test_a_read_waits_for_what_the_log_held_when_it_came() -> None:
    primary = active_primary()
    sequence, _ = primary.propose(b"x", 0.0)
    primary.read(7, 1)
    assert primary.confirmed(B, 1, 0.0) == []
    acknowledge(primary, A, sequence)
    assert acknowledge(primary, B, sequence) == [Committed(P, sequence), ReadReady(P, 7)]


def test_the_only_replica_answers_reads_at_once_and_keeps_its_lease() -> None:
    primary = active_primary(replicas=(A,))
    assert primary.read(7, 1) == [ReadReady(P, 7)]
    assert primary.lease_until == float("inf")


def test_the_lease_ends_a_time_after_a_majority_was_asked() -> None:
    primary = active_primary(replicas=(A, B, C))
    assert primary.lease_until == float("-inf")
    primary.confirmed(B, 1, 10.0)
    assert primary.lease_until == 10.0 + PartitionsConfig().lease_s
    primary.confirmed(C, 1, 4.0)
    primary.confirmed(B, 1, 3.0)
    assert primary.lease_until == 10.0 + PartitionsConfig().lease_s


def test_a_claim_says_what_is_committed() -> None:
    assert active_primary(replica_with(1, 1)).claim() == Claim(P, Epoch(5), 3)
