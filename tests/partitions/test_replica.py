"""A replica alone: promises, appends, snapshots in parts, what a restart finds."""

import pytest

from meshnode.identity import Epoch
from meshnode.partitions import replica as replica_module
from meshnode.partitions.effects import AfterSync, Committed, Send, Write
from meshnode.partitions.messages import (
    ORIGIN,
    Appended,
    Chunk,
    ChunkTaken,
    Claim,
    Dropped,
    Entry,
    Fetch,
    Fetched,
    Log,
    Position,
    Promise,
    Record,
    Refused,
    Seal,
    Sealed,
    Snapshot,
)
from meshnode.partitions.replica import Replica
from tests.partitions.copies import (
    A,
    B,
    P,
    append,
    at,
    records,
    recovered,
    replica_with,
    sends,
    sent,
    state_of,
    written,
)
from tests.partitions.oracle import ListMachine

# ---- promises


def test_a_promise_is_written_before_the_seal_is_answered_after_the_sync() -> None:
    replica = replica_with(1, 1)
    effects = replica.seal(Seal(P, Epoch(3)), A)
    assert effects == [Write(Promise(P, Epoch(3))), AfterSync(Send(A, Sealed(P, Epoch(3), at(1, 2))))]


def test_a_seal_of_the_promised_epoch_is_answered_again_and_a_lower_one_refused() -> None:
    replica = replica_with(1, promised=3)
    assert replica.seal(Seal(P, Epoch(3)), A) == [AfterSync(Send(A, Sealed(P, Epoch(3), at(1, 1))))]
    refused = Refused(P, Epoch(2), Epoch(3), at(1, 1))
    assert replica.seal(Seal(P, Epoch(2)), A) == [AfterSync(Send(A, refused))]
    assert replica.promised == 3


def test_nothing_below_the_promise_is_accepted() -> None:
    replica = replica_with(1, promised=3)
    lower = Epoch(2)
    for effects in (
        replica.append(append(2, at(1, 1), *records(2, 2)), A),
        replica.fetch(Fetch(P, lower, ORIGIN), A),
        replica.take_chunk(Chunk(P, lower, at(2, 9), 0, 0, b""), A),
    ):
        assert [type(message) for message in sent(effects, object)] == [Refused]
        assert not written(effects)
    assert replica.log.last == at(1, 1)


# ---- appends


def test_records_are_written_and_acknowledged_after_the_sync() -> None:
    replica = replica_with(1)
    new = records(2, 1, 1)
    effects = replica.append(append(1, at(1, 1), *new), A)
    assert effects == [Write(Log(P, new)), AfterSync(Send(A, Appended(P, Epoch(1), 3)))]


def test_an_acknowledgement_names_what_this_message_matched_and_not_what_follows_it() -> None:
    replica = replica_with(1, 1, 1, 1)
    effects = replica.append(append(2, at(1, 1), *records(2, 1)), A)
    assert sent(effects, Appended) == [Appended(P, Epoch(2), 2)]
    assert replica.log.last == at(1, 4)


def test_a_log_is_truncated_from_the_conflict_on_and_not_before() -> None:
    replica = replica_with(1, 1, 2, 2)
    effects = replica.append(append(3, at(1, 1), *records(2, 1, 3)), A)
    assert written(effects) == [Promise(P, Epoch(3)), Log(P, records(3, 3))]
    assert replica.log.after(0) == records(1, 1, 1, 3)


def test_a_message_that_arrives_late_truncates_nothing() -> None:
    replica = replica_with(1, 1, 1)
    assert written(replica.append(append(1, ORIGIN, *records(1, 1)), A)) == []
    assert replica.log.last == at(1, 3)


@pytest.mark.parametrize(
    ("previous", "hint"),
    [
        (at(4, 9), at(3, 6)),  # after the end
        (at(1, 5), at(1, 2)),  # the records of epochs 2 and 3 can't be in that log
        (at(2, 5), at(2, 4)),
    ],
)
def test_a_refusal_names_the_last_record_that_may_be_common(previous: Position, hint: Position) -> None:
    replica = replica_with(1, 1, 2, 2, 3, 3, promised=4)
    assert replica.append(append(4, previous), A) == [
        AfterSync(Send(A, Refused(P, Epoch(4), Epoch(4), hint, previous.sequence)))
    ]


def test_records_with_a_hole_are_ignored() -> None:
    replica = replica_with(1)
    assert replica.append(append(1, at(1, 1), *records(3, 1)), A) == []
    assert replica.append(append(1, at(1, 1), *records(2, 0)), A) == []


def test_records_that_the_state_already_holds_are_acknowledged() -> None:
    replica = Replica(P, ListMachine())
    replica.recover(Snapshot(P, Epoch(1), at(1, 5), b""))
    effects = replica.append(append(1, at(1, 2), *records(3, 1, 1, 1, 1)), A)
    assert written(effects) == [Log(P, records(6, 1))]
    assert sent(effects, Appended) == [Appended(P, Epoch(1), 6)]
    assert sent(replica.append(append(1, at(1, 2), *records(3, 1)), A), Appended) == [Appended(P, Epoch(1), 3)]


def test_a_committed_record_is_never_replaced() -> None:
    replica = replica_with(1, 1, committed=2)
    with pytest.raises(AssertionError, match="committed record"):
        replica.append(append(2, at(1, 1), *records(2, 2)), A)


# ---- commitment


def test_committed_records_are_applied_once_and_barriers_change_no_state() -> None:
    replica = replica_with(1, 1)
    replica.log.add(Record(Epoch(1), 3))
    assert replica.commit(3) == [Committed(P, 3)]
    assert replica.commit(3) == []
    assert replica.commit(1) == []
    assert state_of(replica) == [1, 2]


def test_a_message_commits_no_more_than_it_matched() -> None:
    replica = replica_with(1, 1, 1)
    replica.append(append(2, at(1, 1), committed=3), A)
    assert replica.committed == 1


def test_a_claim_commits_what_its_epoch_matched() -> None:
    replica = replica_with(1, 1, 1)
    replica.append(append(2, at(1, 2)), A)
    assert replica.holds(Claim(P, Epoch(1), 3)) == (False, [])
    assert replica.holds(Claim(P, Epoch(3), 3)) == (True, [])
    assert replica.committed == 0
    assert replica.holds(Claim(P, Epoch(2), 3)) == (True, [Committed(P, 2)])


def test_a_claim_does_not_commit_what_an_earlier_epoch_matched_before_a_snapshot_came() -> None:
    replica = replica_with(1)
    replica.append(append(1, at(1, 1), *records(2, 1, 1, 1)), A)
    replica.take_chunk(Chunk(P, Epoch(2), at(1, 2), 0, 0, b""), B)
    assert replica.log.last == at(1, 4)
    assert replica.holds(Claim(P, Epoch(2), 4)) == (True, [])
    assert replica.committed == 2


# ---- memory


def test_applied_records_are_forgotten_beyond_the_bound_and_uncommitted_ones_never() -> None:
    replica = replica_with(*[1] * 10, committed=7)
    assert replica.log.start == at(1, 7)
    assert replica.log.last == at(1, 10)


def test_records_that_a_snapshot_under_way_needs_are_kept_up_to_a_larger_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(replica_module, "PINNED_FACTOR", 5)
    replica = replica_with(1, 1, committed=2)
    replica.snapshot_chunk(Epoch(1), B)
    replica.adopt(records(3, *[1] * 8))
    replica.commit(10)
    assert replica.log.start == at(1, 2)
    replica.adopt(records(11, *[1] * 8))
    replica.commit(18)
    assert replica.log.start == at(1, 15)


# ---- snapshots in parts


def stream(source: Replica, target: Replica, *, epoch: int) -> int:
    """Parts until nothing more is wanted; how many."""
    parts = 0
    effects = source.snapshot_chunk(Epoch(epoch), B)
    while effects:
        (chunk,) = sent(effects, Chunk)
        (taken,) = sent(target.take_chunk(chunk, A), ChunkTaken)
        effects = source.snapshot_chunk(Epoch(epoch), B, taken.position, taken.offset)
        parts += 1
    return parts


def test_a_snapshot_arrives_in_parts_and_is_installed_whole() -> None:
    source, target = replica_with(*[1] * 9, promised=2, committed=9), Replica(P, ListMachine())
    assert stream(source, target, epoch=2) == -(-len(source.machine.snapshot()) // replica_module.MESSAGE_BYTES) > 2
    assert state_of(target) == state_of(source)
    assert target.log.start == target.log.last == at(1, 9)
    assert target.committed == 9
    assert target.receiving is None


def test_a_snapshot_of_no_bytes_is_installed_too() -> None:
    source, target = Replica(P, ListMachine()), Replica(P, ListMachine())
    for sequence in range(1, 9):
        source.log.add(Record(Epoch(1), sequence))
    source.commit(8)
    assert stream(source, target, epoch=1) == 1
    assert target.committed == 8


def test_a_whole_snapshot_is_written_before_it_is_answered() -> None:
    replica = Replica(P, ListMachine())
    effects = replica.take_chunk(Chunk(P, Epoch(2), at(1, 4), 0, 3, b"4 x"), A)
    assert effects == [
        Write(Promise(P, Epoch(2))),
        Write(Snapshot(P, Epoch(2), at(1, 4), b"4 x", ())),
        Committed(P, 4),
        AfterSync(Send(A, ChunkTaken(P, Epoch(2), at(1, 4), 3))),
    ]


def test_a_part_that_is_not_the_next_one_is_answered_with_what_is_wanted() -> None:
    replica = Replica(P, ListMachine())

    def offer(position: int, offset: int, data: bytes, total: int = 9) -> int:
        (taken,) = sent(replica.take_chunk(Chunk(P, Epoch(1), at(1, position), offset, total, data), A), ChunkTaken)
        return taken.offset

    assert offer(5, 3, b"abc") == 0  # the beginning was lost
    assert offer(5, 0, b"abc") == 3
    assert offer(5, 6, b"abc") == 3
    assert offer(5, 3, b"too long") == 3
    assert offer(5, 3, b"abc") == 6
    assert offer(5, 3, b"abc") == 6  # once more
    assert offer(6, 6, b"abc") == 0  # of another snapshot
    assert offer(5, 0, b"", total=replica_module.SNAPSHOT_BYTES_MAX + 1) == 0
    assert replica.committed == 0


def test_a_part_of_a_snapshot_that_is_not_needed_is_answered_with_its_end() -> None:
    replica = replica_with(1, 1, committed=2)
    assert replica.take_chunk(Chunk(P, Epoch(1), at(1, 2), 0, 100, b"x"), A) == [
        AfterSync(Send(A, ChunkTaken(P, Epoch(1), at(1, 2), 100)))
    ]


def test_a_stream_that_the_source_forgot_begins_anew() -> None:
    source = replica_with(1, 1, promised=1, committed=2)
    (chunk,) = sent(source.snapshot_chunk(Epoch(1), B, at(1, 1), 7), Chunk)
    assert (chunk.position, chunk.offset) == (at(1, 2), 0)


def interrupted() -> tuple[Replica, Replica]:
    """A source and a target that had the first part of its state when a new epoch was promised."""
    source = replica_with(*[1] * 9, promised=2, committed=9)
    target = Replica(P, ListMachine())
    (chunk,) = sent(source.snapshot_chunk(Epoch(2), B), Chunk)
    target.take_chunk(chunk, A)
    for replica in (source, target):
        replica.seal(Seal(P, Epoch(3)), A)
    assert target.receiving == (at(1, 9), 24)
    return source, target


def test_a_snapshot_under_way_goes_on_in_the_next_epoch_where_it_stopped() -> None:
    source, target = interrupted()
    (taken,) = sent(target.take_chunk(sent(source.snapshot_chunk(Epoch(3), B), Chunk)[0], A), ChunkTaken)
    assert taken.offset == 24
    parts = []
    effects = source.snapshot_chunk(Epoch(3), B, taken.position, taken.offset)
    while effects:
        (chunk,) = sent(effects, Chunk)
        parts.append(chunk.offset)
        (taken,) = sent(target.take_chunk(chunk, A), ChunkTaken)
        effects = source.snapshot_chunk(Epoch(3), B, taken.position, taken.offset)
    assert parts[0] == 24
    assert state_of(target) == state_of(source)


def test_a_source_that_begins_anew_goes_on_where_the_target_stopped() -> None:
    source, target = interrupted()
    assert target.receiving is not None
    (chunk,) = sent(source.snapshot_chunk(Epoch(3), B, *target.receiving), Chunk)
    assert (chunk.position, chunk.offset) == (at(1, 9), 24)
    source.adopt(records(10, 1))
    source.commit(10)
    source.end_stream(B)
    (chunk,) = sent(source.snapshot_chunk(Epoch(3), B, *target.receiving), Chunk)
    assert (chunk.position, chunk.offset) == (at(1, 10), 0)


def test_parts_of_two_encodings_of_one_state_are_never_put_together() -> None:
    source, target = interrupted()
    state = source.machine.snapshot()
    other = Chunk(P, Epoch(3), at(1, 9), 24, len(state), b"x" * (len(state) - 24), digest=1)
    (taken,) = sent(target.take_chunk(other, A), ChunkTaken)
    assert taken.offset == 0
    assert target.committed == 0


def test_records_that_came_another_way_end_a_snapshot_under_way() -> None:
    _, target = interrupted()
    receiving = []
    for sequence in (8, 9):
        target.append(append(3, ORIGIN, *records(1, *[1] * sequence)), A)
        receiving.append(target.receiving)
    assert receiving == [(at(1, 9), 24), None]


def test_a_commitment_ends_a_snapshot_under_way_to_that_point() -> None:
    _, target = interrupted()
    target.log.replace(records(1, *[1] * 9))
    target.commit(9)
    assert target.receiving is None


# ---- fetching


def test_a_sealed_replica_gives_what_follows_the_last_common_record() -> None:
    replica = replica_with(1, 1, 3, 3, promised=5)
    effects = replica.fetch(Fetch(P, Epoch(5), at(2, 3)), A)
    assert effects == [Send(A, Fetched(P, Epoch(5), at(1, 2), records(3, 3, 3), at(3, 4)))]


def test_a_replica_gives_nothing_to_an_epoch_that_it_did_not_promise() -> None:
    replica = replica_with(1, promised=5)
    assert sent(replica.fetch(Fetch(P, Epoch(6), ORIGIN), A), object) == [Refused(P, Epoch(6), Epoch(5), at(1, 1))]


def test_a_replica_gives_its_state_where_it_has_forgotten_the_records() -> None:
    replica = replica_with(*[1] * 10, promised=5, committed=10)
    (chunk,) = sent(replica.fetch(Fetch(P, Epoch(5), at(1, 2)), A), Chunk)
    assert chunk.position == at(1, 10)


@pytest.mark.parametrize("beyond", [0, 5])
def test_who_has_more_of_another_encoding_of_the_state_than_all_of_this_one_gets_this_one(beyond: int) -> None:
    replica = replica_with(*[1] * 10, promised=5, committed=10)
    total = len(replica.machine.snapshot())
    effects = replica.fetch(Fetch(P, Epoch(5), at(1, 2), at(1, 10), total + beyond), A)
    (chunk,) = sent(effects, Chunk)
    assert (chunk.position, chunk.offset) == (at(1, 10), 0)
    assert chunk.data


def test_a_replica_is_no_source_any_more_once_the_primary_appends() -> None:
    replica = replica_with(*[1] * 10, promised=5, committed=10)
    question = Fetch(P, Epoch(5), at(1, 2))
    replica.fetch(question, A)
    replica.append(append(5, at(1, 10), *records(11, 5)), A)
    assert replica.stream_position(A) is None, "it keeps a whole state, and records from being forgotten"
    assert replica.fetch(question, A) == [], "it was late"
    assert replica.stream_position(A) is None


# ---- restart


def test_a_restart_finds_what_was_written() -> None:
    replica = Replica(P, ListMachine())
    entries: list[Entry] = []
    for effects in (
        replica.append(append(1, ORIGIN, *records(1, 1, 1, 1)), A),
        replica.append(append(2, at(1, 2), *records(3, 2, 2), committed=3), A),
        replica.seal(Seal(P, Epoch(4)), A),
    ):
        entries.extend(written(effects))
    again = recovered(entries)
    assert again.promised == 4
    assert again.log.after(0) == records(1, 1, 1, 2, 2)
    assert again.committed == 0
    assert again.attached == 0


@pytest.mark.parametrize("committed", [0, 4, 10, 12])
def test_a_copy_of_the_whole_log_recovers_to_the_same(committed: int) -> None:
    replica = replica_with(*[1] * 12, promised=6, committed=committed)
    again = recovered([replica.whole_copy()])
    assert again.promised == 6
    assert again.log.last == replica.log.last
    assert again.committed == committed
    assert state_of(again) == state_of(replica)


def test_an_empty_copy_keeps_its_promise() -> None:
    replica = replica_with(1, 1, promised=7, committed=1)
    assert replica.drop() == [Write(Dropped(P, Epoch(7)))]
    assert replica.is_empty
    assert state_of(replica) == []
    again = recovered([replica.whole_copy()])
    assert again.is_empty
    assert again.promised == 7


def test_records_whose_forerunners_were_deleted_with_an_old_file_wait_for_the_snapshot() -> None:
    entries: list[Entry] = [Log(P, records(8, 2)), Snapshot(P, Epoch(3), at(2, 8), b""), Log(P, records(9, 3))]
    again = recovered(entries)
    assert again.log.last == at(3, 9)
    assert again.log.start == at(2, 8)
    assert again.promised == 3


def test_a_copy_in_the_journal_needs_nothing_that_stands_before_it() -> None:
    copy = Snapshot(P, Epoch(2), at(1, 2), b"1 x", records(3, 2))
    for before in ([], [Log(P, records(1, 1, 1, 1, 1))]):
        again = recovered([*before, copy])
        assert again.log.start == at(1, 2)
        assert again.log.after(2) == records(3, 2)
        assert again.committed == 2
        assert again.is_whole
    assert recovered([Log(P, records(1, 1, 1, 1)), Snapshot(P, Epoch(2), at(1, 2), b"1 x")]).log.last == at(1, 2)


def test_a_state_that_is_installed_under_records_that_stay_is_written_together_with_them() -> None:
    replica = Replica(P, ListMachine())
    replica.append(append(1, ORIGIN, *records(1, *[1] * 20), committed=5), A)  # acknowledged
    effects = replica.take_chunk(Chunk(P, Epoch(1), at(1, 18), 0, 4, b"18 x"), A)
    again = recovered(written(effects))  # what stood before the copy may be deleted from now on
    assert again.log.last == replica.log.last == at(1, 20)
    assert again.log.after(18) == records(19, 1, 1)
    assert again.committed == 18


def test_a_gap_that_no_later_copy_covers_is_noticed() -> None:
    gap = [Log(P, records(1, 1, 1)), Log(P, records(4, 1))]
    assert not recovered(gap).is_whole
    assert recovered([*gap, Snapshot(P, Epoch(1), at(1, 4), b"")]).is_whole
    assert recovered([*gap, Dropped(P, Epoch(1))]).is_whole


def test_a_refusal_waits_for_the_sync() -> None:
    replica = replica_with(1)
    replica.seal(Seal(P, Epoch(9)), A)
    effects = replica.append(append(2, ORIGIN), B)
    assert all(isinstance(effect, AfterSync) for effect in effects)
    assert [send.to for send in sends(effects)] == [B]
