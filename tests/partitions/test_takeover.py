"""A takeover alone: whom it asks, whose log it takes, what it does about silence."""

from meshnode.identity import Epoch, NodeId
from meshnode.partitions.config import PartitionsConfig
from meshnode.partitions.effects import Effect, Send, Write
from meshnode.partitions.messages import (
    ORIGIN,
    Chunk,
    ChunkTaken,
    Fetch,
    Fetched,
    Log,
    Position,
    Promise,
    Record,
    Seal,
    Sealed,
)
from meshnode.partitions.replica import Replica
from meshnode.partitions.takeover import FETCH_ATTEMPTS, Stage, Takeover
from tests.partitions.copies import A, B, C, D, P, at, records, replica_with, sends, sent, state_of, written
from tests.partitions.oracle import ListMachine

RESEND_S = PartitionsConfig().resend_after_s
EPOCH = Epoch(9)


def takeover_of(replica: Replica, base: tuple[NodeId, ...] = (A, B, C)) -> tuple[Takeover, list[Effect]]:
    """The takeover at node A."""
    takeover = Takeover(replica, epoch=EPOCH, node_id=A, base=base, config=PartitionsConfig())
    return takeover, takeover.start(0.0)


def seal(takeover: Takeover, sender: NodeId, last: Position) -> list[Effect]:
    return takeover.sealed(sender, Sealed(P, EPOCH, last), 0.0)


def sealed_copy(*epochs: int) -> Replica:
    replica = replica_with(*epochs)
    replica.promised = EPOCH
    return replica


def converse(takeover: Takeover, source: Replica, effects: list[Effect], *, most: int = 100) -> int:
    """Everything asked of node B is answered by ``source``; how many questions there were."""
    questions = [send.message for send in sends(effects) if send.to == B]
    count = 0
    while questions:
        question = questions.pop(0)
        count += 1
        assert count < most, "questions without end"
        answers: list[Effect] = []
        if isinstance(question, Fetch):
            answers = source.fetch(question, A)
        elif isinstance(question, ChunkTaken):
            answers = source.snapshot_chunk(EPOCH, A, question.position, question.offset)
        for answer in sends(answers):
            if isinstance(answer.message, Fetched):
                caused = takeover.fetched(B, answer.message, 0.0)
            else:
                assert isinstance(answer.message, Chunk)
                caused = takeover.chunk(B, answer.message, 0.0)
            questions.extend(send.message for send in sends(caused) if send.to == B)
    return count


def stage_of(takeover: Takeover) -> Stage:
    return takeover.stage


# ---- sealing


def test_a_takeover_promises_and_asks_every_member_of_the_old_set() -> None:
    _, effects = takeover_of(replica_with(1))
    assert written(effects) == [Promise(P, EPOCH)]
    assert [(send.to, send.message) for send in sends(effects)] == [
        (A, Sealed(P, EPOCH, at(1, 1))),
        (B, Seal(P, EPOCH)),
        (C, Seal(P, EPOCH)),
    ]


def test_a_new_partition_has_nobody_to_ask() -> None:
    takeover, effects = takeover_of(Replica(P, ListMachine()), base=())
    assert stage_of(takeover) is Stage.ADOPTED
    assert takeover.next_deadline == float("inf")
    assert written(effects) == [Promise(P, EPOCH)]
    assert takeover.wake(100.0) == []


def test_a_majority_of_the_old_set_must_answer_and_nobody_else_counts() -> None:
    takeover, _ = takeover_of(replica_with(1, 1))
    seal(takeover, A, at(1, 2))
    seal(takeover, D, at(1, 2))
    seal(takeover, A, at(1, 2))
    assert stage_of(takeover) is Stage.SEALING
    assert takeover.missing == (B, C)
    seal(takeover, C, at(1, 2))
    assert stage_of(takeover) is Stage.ADOPTED


def test_a_node_outside_the_old_set_does_not_count_itself() -> None:
    takeover, _ = takeover_of(replica_with(1, 1), base=(B, C, D))
    assert seal(takeover, A, at(1, 2)) == []
    seal(takeover, B, at(1, 1))
    assert stage_of(takeover) is Stage.SEALING
    seal(takeover, C, at(1, 1))
    assert stage_of(takeover) is Stage.ADOPTED


def test_those_who_have_not_answered_are_asked_again_in_time() -> None:
    takeover, _ = takeover_of(replica_with(1))
    seal(takeover, C, at(1, 1))
    assert takeover.wake(RESEND_S / 2) == []
    assert sends(takeover.wake(RESEND_S)) == [Send(B, Seal(P, EPOCH))]
    assert takeover.next_deadline == 2 * RESEND_S


# ---- whose log


def test_the_own_log_is_taken_where_it_is_as_good_as_any() -> None:
    for last in (at(1, 2), at(1, 1), ORIGIN):
        takeover, _ = takeover_of(replica_with(1, 1))
        seal(takeover, B, last)
        assert seal(takeover, C, ORIGIN) == []
        assert stage_of(takeover) is Stage.ADOPTED


def test_the_log_of_the_highest_epoch_is_taken_and_not_the_longest() -> None:
    takeover, _ = takeover_of(replica_with(1, 1, 1, 1))
    seal(takeover, C, at(1, 9))
    effects = seal(takeover, B, at(2, 2))
    assert sends(effects) == [Send(B, Fetch(P, EPOCH, at(1, 4)))]


def test_records_are_fetched_in_several_messages_with_their_stamps() -> None:
    source = sealed_copy(1, 1, *[2] * 20)
    replica = replica_with(1, 1, 1)
    takeover, _ = takeover_of(replica)
    seal(takeover, C, ORIGIN)
    questions = converse(takeover, source, seal(takeover, B, source.log.last))
    assert questions > 2
    assert stage_of(takeover) is Stage.ADOPTED
    assert replica.log.after(0) == source.log.after(0)


def test_logs_that_went_apart_often_are_followed_back_to_where_they_agree() -> None:
    source = sealed_copy(1, 1, 3, 3, 5, 5, 8)
    replica = replica_with(1, 2, 2, 4, 4, 6, 6)
    takeover, _ = takeover_of(replica)
    seal(takeover, C, ORIGIN)
    converse(takeover, source, seal(takeover, B, source.log.last))
    assert stage_of(takeover) is Stage.ADOPTED
    assert replica.log.after(0) == source.log.after(0)


def test_adopted_records_are_written_from_the_first_that_differs() -> None:
    replica = replica_with(1, 1, 1)
    takeover, _ = takeover_of(replica)
    seal(takeover, C, ORIGIN)
    seal(takeover, B, at(2, 2))
    effects = takeover.fetched(B, Fetched(P, EPOCH, at(1, 1), records(2, 2), at(2, 2)), 0.0)
    assert effects == [Write(Log(P, records(2, 2)))]
    assert replica.log.last == at(2, 2)


def test_a_state_is_fetched_in_parts_where_the_records_are_gone() -> None:
    source = sealed_copy(*[1] * 20)
    source.commit(15)
    replica = replica_with(1)
    takeover, _ = takeover_of(replica)
    seal(takeover, C, ORIGIN)
    questions = converse(takeover, source, seal(takeover, B, source.log.last))
    assert questions > 5
    assert stage_of(takeover) is Stage.ADOPTED
    assert replica.log.last == source.log.last
    assert state_of(replica) == list(range(1, 16))


def test_a_state_that_ends_the_sources_log_ends_the_takeover() -> None:
    source = sealed_copy(*[1] * 12)
    source.commit(12)
    replica = Replica(P, ListMachine())
    takeover, _ = takeover_of(replica)
    seal(takeover, C, ORIGIN)
    converse(takeover, source, seal(takeover, B, source.log.last))
    assert stage_of(takeover) is Stage.ADOPTED
    assert replica.committed == 12


# ---- silence, repetition, nonsense


def fetching(replica: Replica | None = None) -> Takeover:
    """One that asked node B, whose log ends at (2, 8); C has less."""
    takeover, _ = takeover_of(replica or replica_with(1, 1))
    seal(takeover, C, at(1, 3))
    seal(takeover, B, at(2, 8))
    assert stage_of(takeover) is Stage.FETCHING
    return takeover


def test_a_question_is_repeated_in_time() -> None:
    takeover = fetching()
    assert takeover.wake(0.0) == []
    assert sends(takeover.wake(RESEND_S)) == [Send(B, Fetch(P, EPOCH, at(1, 2)))]


def test_the_more_silences_a_takeover_meets_the_longer_an_answer_may_take() -> None:
    takeover = fetching()
    assert takeover.next_deadline == RESEND_S
    takeover.wake(RESEND_S)
    assert takeover.next_deadline == 3 * RESEND_S
    takeover.chunk(B, Chunk(P, EPOCH, at(2, 7), 0, 9, b"abc"), 3 * RESEND_S)
    assert takeover.next_deadline == 5 * RESEND_S, "the next part meets the same link"


def test_a_seal_that_comes_late_changes_no_source() -> None:
    takeover = fetching()
    assert seal(takeover, A, at(1, 2)) == []
    assert stage_of(takeover) is Stage.FETCHING


def test_a_source_that_falls_silent_is_replaced_by_another_one() -> None:
    replica = replica_with(1, 1)
    takeover = fetching(replica)
    seal(takeover, A, at(1, 2))
    for _ in range(1, FETCH_ATTEMPTS):
        assert sent(takeover.wake(takeover.next_deadline), Fetch)
    effects = takeover.wake(takeover.next_deadline)
    assert [(send.to, type(send.message)) for send in sends(effects)] == [(B, Seal), (C, Fetch)]
    takeover.fetched(C, Fetched(P, EPOCH, at(1, 2), records(3, 1), at(1, 3)), 0.0)
    assert stage_of(takeover) is Stage.ADOPTED


def test_what_was_adopted_of_a_source_that_fell_silent_stays() -> None:
    replica = replica_with(1, 1)
    takeover = fetching(replica)
    seal(takeover, A, at(1, 2))
    takeover.fetched(B, Fetched(P, EPOCH, at(1, 2), records(3, 2, 2), at(2, 8)), 0.0)
    for _ in range(FETCH_ATTEMPTS):
        takeover.wake(takeover.next_deadline)
    assert stage_of(takeover) is Stage.ADOPTED, "the own log is higher than what is left of the majority"
    assert replica.log.last == at(2, 4)


def test_without_a_source_and_without_a_majority_the_takeover_waits() -> None:
    takeover = fetching()  # node A's own promise is not on disk yet
    for _ in range(FETCH_ATTEMPTS):
        silent_s = takeover.next_deadline
        effects = takeover.wake(silent_s)
    assert stage_of(takeover) is Stage.SEALING
    assert sends(effects) == [Send(B, Seal(P, EPOCH))]
    assert takeover.next_deadline == silent_s + RESEND_S
    assert seal(takeover, B, at(2, 8)) == [Send(B, Fetch(P, EPOCH, at(1, 2)))]


def test_records_of_somebody_else_or_without_use_are_ignored() -> None:
    replica = replica_with(1, 1)
    takeover = fetching(replica)
    last = at(2, 8)
    for sender, answer in (
        (C, Fetched(P, EPOCH, at(1, 2), records(3, 2), last)),
        (B, Fetched(P, EPOCH, at(1, 2), (), last)),
        (B, Fetched(P, EPOCH, ORIGIN, records(1, 1), last)),
        (B, Fetched(P, EPOCH, at(1, 2), records(4, 2), last)),
        (B, Fetched(P, EPOCH, at(2, 5), records(6, 2), last)),
    ):
        assert takeover.fetched(sender, answer, 0.0) == []
    assert replica.log.last == at(1, 2)
    assert takeover.chunk(C, Chunk(P, EPOCH, at(1, 3), 0, 0, b""), 0.0) == []


def test_a_source_that_lost_its_log_is_not_asked_without_end() -> None:
    replica = replica_with(*[1] * 10, committed=10)
    assert replica.log.start == at(1, 7)
    takeover = fetching(replica)
    nothing = Fetched(P, EPOCH, ORIGIN, (), ORIGIN)
    assert sends(takeover.fetched(B, nothing, 0.0)) == [Send(B, Fetch(P, EPOCH, at(1, 7)))]
    assert takeover.fetched(B, nothing, 0.0) == []


def test_an_answer_that_comes_twice_asks_once() -> None:
    takeover = fetching()
    answer = Fetched(P, EPOCH, at(1, 2), records(3, 2), at(2, 8))
    assert sends(takeover.fetched(B, answer, 0.0)) == [Send(B, Fetch(P, EPOCH, at(2, 3)))]
    assert takeover.fetched(B, answer, 0.0) == []


def test_a_lost_part_of_the_state_is_asked_for_again_where_it_stopped() -> None:
    takeover = fetching()
    part = Chunk(P, EPOCH, at(2, 7), 0, 9, b"abc")
    wanted = Fetch(P, EPOCH, at(1, 2), at(2, 7), 3)
    assert sends(takeover.chunk(B, part, 0.1)) == [Send(B, wanted)]
    assert takeover.next_deadline == 0.1 + RESEND_S
    assert takeover.chunk(B, part, 0.1) == []
    assert sends(takeover.wake(0.1 + RESEND_S)) == [Send(B, wanted)]


def test_a_state_too_large_for_one_takeover_is_copied_by_several() -> None:
    source = sealed_copy(*[1] * 30)
    source.commit(30)
    replica = Replica(P, ListMachine())
    total = len(source.machine.snapshot())
    offsets: list[int] = []
    for epoch in map(Epoch, range(10, 30)):
        takeover = Takeover(replica, epoch=epoch, node_id=A, base=(A, B), config=PartitionsConfig())
        takeover.start(0.0)
        source.seal(Seal(P, epoch), A)
        takeover.sealed(A, Sealed(P, epoch, replica.log.last), 0.0)
        effects = takeover.sealed(B, Sealed(P, epoch, source.log.last), 0.0)
        for _ in range(3):  # then the leader loses its patience
            for question in [send.message for send in sends(effects) if send.to == B]:
                assert isinstance(question, Fetch)
                (chunk,) = sent(source.fetch(question, A), Chunk)
                offsets.append(chunk.offset)
                effects = takeover.chunk(B, chunk, 0.0)
            if stage_of(takeover) is Stage.ADOPTED:
                break
        if stage_of(takeover) is Stage.ADOPTED:
            break
    assert state_of(replica) == state_of(source)
    assert offsets == sorted(set(offsets))
    assert len(offsets) == -(-total // 24) > 6


def test_a_source_whose_state_is_shorter_than_what_came_of_another_encoding_replaces_it() -> None:
    source = sealed_copy(*[1] * 30)
    source.commit(30)
    replica = Replica(P, ListMachine())
    total = len(source.machine.snapshot())
    replica.assemble(Chunk(P, EPOCH, at(1, 30), 0, 2 * total, b"x" * total))
    takeover, _ = takeover_of(replica, base=(A, B))
    seal(takeover, A, ORIGIN)
    converse(takeover, source, seal(takeover, B, source.log.last))
    assert stage_of(takeover) is Stage.ADOPTED
    assert state_of(replica) == state_of(source)


def test_no_empty_record_is_made_up() -> None:
    replica = replica_with(1, 1)
    takeover = fetching(replica)
    barrier = Record(Epoch(2), 3)
    takeover.fetched(B, Fetched(P, EPOCH, at(1, 2), (barrier, *records(4, 2, 2, 2, 2, 2)), at(2, 8)), 0.0)
    assert stage_of(takeover) is Stage.ADOPTED
    assert replica.log.record_at(3) == barrier
