"""The checker of partition replication: silent on random schedules of the cores, loud on each kind of broken stream."""

from collections.abc import Callable, Collection
from dataclasses import replace

import pytest

from meshnode.identity import Boot, Epoch, NodeId, PartitionId
from meshnode.metadata.rows import Phase, Row
from meshnode.partitions.config import PartitionsConfig
from meshnode.partitions.messages import (
    Appended,
    ChunkTaken,
    Dropped,
    Log,
    Position,
    Promise,
    Record,
    Refused,
    Sealed,
    Snapshot,
)
from meshnode.partitions.partition import Partition
from meshnode.partitions.primary import Primary
from meshnode.partitions.replica import Replica
from simulations.checkers.partitions import PartitionsChecker
from simulations.checkers.violation import Violation
from tests.partitions.copies import at, records
from tests.partitions.oracle import ListMachine
from tests.partitions.schedule import Explorer
from tests.simulations.checkers.violations import Clock, first_violation, violates

P = PartitionId(0)
A, B, C = NodeId(1), NodeId(2), NodeId(3)


def copy_of(node: NodeId, *epochs: int, promised: int = 0, committed: int = 0) -> Partition:
    """A copy with these records, not applied."""
    partition = Partition(P, ListMachine(), node_id=node, boot=Boot(1), config=PartitionsConfig())
    replica = partition.replica
    replica.log.replace(records(1, *epochs))
    replica.promised = max(Epoch(promised), replica.log.last.epoch)
    replica.committed = committed
    return partition


def serving(partition: Partition, node: NodeId, *replicas: NodeId) -> Partition:
    """The copy as that of the active primary of the epoch that it has promised."""
    replica = partition.replica
    primary = Primary(
        replica, epoch=replica.promised, node_id=node, replicas=replicas, config=PartitionsConfig(), now=0.0
    )
    primary.is_active = True
    partition.primary = primary
    return partition


@pytest.fixture
def checker() -> PartitionsChecker:
    return PartitionsChecker(Clock())


def write(checker: PartitionsChecker, node: NodeId, *epochs: int, first: int = 1, synced: bool = True) -> None:
    entry = Log(P, records(first, *epochs))
    checker.wrote(node, entry)
    if synced:
        checker.synced(node, entry)


def promise(checker: PartitionsChecker, node: NodeId, epoch: int) -> None:
    """The node's promise is on its disk."""
    checker.synced(node, Promise(P, Epoch(epoch)))


def acknowledge(checker: PartitionsChecker, node: NodeId, epoch: int, sequence: int) -> None:
    """A, as the primary of that epoch, is told by the node that it has everything up to there."""
    checker.received(A, node, Appended(P, Epoch(epoch), sequence))


def commit(checker: PartitionsChecker, *epochs: int) -> None:
    """Records that A, the primary, has committed with B; C has them, too."""
    for node in (A, B, C):
        write(checker, node, *epochs)
    for node in (A, B):
        acknowledge(checker, node, epochs[-1], len(epochs))
    checker.check(serving(copy_of(A, *epochs, committed=len(epochs)), A, A, B, C), A)


def test_two_records_at_one_position_are_found(checker: PartitionsChecker) -> None:
    write(checker, A, 1, 1)
    with violates("partitions-one-record", match=r"partition 0 on node 2: .* is b'other' here and b'1\.2' elsewhere"):
        checker.wrote(B, Log(P, (records(1, 1)[0], Record(Epoch(1), 2, b"other"))))


def test_equal_records_after_different_ones_are_found(checker: PartitionsChecker) -> None:
    write(checker, A, 1, 3)
    with violates("partitions-equal-prefixes", match="follows epoch 2 here and epoch 1 elsewhere"):
        write(checker, B, 2, 3)


def test_a_record_that_too_few_have_on_disk_is_not_committed(checker: PartitionsChecker) -> None:
    write(checker, A, 1)
    write(checker, B, 1, synced=False)
    primary = serving(copy_of(A, 1, committed=1), A, A, B, C)
    with violates("partitions-durable-majority", match=r"only \[1\] have it on disk"):
        checker.check(primary, A)
    checker.synced(B, Log(P, records(1, 1)))
    for node in (A, B):
        acknowledge(checker, node, 1, 1)
    checker.check(primary, A)
    assert checker.committed[P] == list(records(1, 1))


def test_a_record_that_too_few_acknowledged_in_its_epoch_is_not_committed(checker: PartitionsChecker) -> None:
    for node in (A, B, C):
        write(checker, node, 1, 1)
    primary = serving(copy_of(A, 1, 1, committed=2), A, A, B, C)
    acknowledge(checker, A, 1, 2)
    acknowledge(checker, B, 1, 1)
    acknowledge(checker, C, 0, 2)
    checker.received(B, C, Appended(P, Epoch(1), 2))
    with violates("partitions-acknowledged-majority", match=r"2 is committed in epoch 1, .* only \[1\] have"):
        checker.check(primary, A)
    checker.received(A, C, ChunkTaken(P, Epoch(1), at(1, 2), 8))
    checker.check(primary, A)


def test_what_was_committed_is_neither_replaced_nor_taken_back(checker: PartitionsChecker) -> None:
    commit(checker, 1, 1, 1)
    checker.check(copy_of(B, 1, 1, 1, committed=2), B)
    write(checker, B, 1, 2, first=2)
    with violates("partitions-committed-stays", match="replaces what follows 1, and has taken 2 for committed"):
        write(checker, B, 2, first=2)
    with violates("partitions-committed-stays", match="takes the place of one after 2"):
        checker.wrote(B, Snapshot(P, Epoch(2), at(1, 1), b""))
    with violates("partitions-committed-stays", match="takes 1 for committed, and took 2 before"):
        checker.check(copy_of(B, 1, 1, committed=1), B)
    checker.wrote(B, Dropped(P, Epoch(2)))
    checker.check(copy_of(B, promised=1), B)


def test_nobody_but_an_active_primary_commits_first(checker: PartitionsChecker) -> None:
    for node in (A, B, C):
        write(checker, node, 1)
    with violates("partitions-durable-majority", match="committed first here, where no active primary is"):
        checker.check(copy_of(B, 1, committed=1), B)
    inactive = serving(copy_of(A, 1, committed=1), A, A, B, C)
    assert inactive.primary is not None
    inactive.primary.is_active = False
    with violates("partitions-durable-majority"):
        checker.check(inactive, A)


def test_two_committed_histories_are_found(checker: PartitionsChecker) -> None:
    commit(checker, 1, 1)
    checker.wrote(C, Log(P, records(2, 2)))
    with violates("partitions-one-history", match="2 is committed in epoch 2 here and in 1 elsewhere"):
        checker.check(copy_of(C, 1, 2, committed=2), C)


def test_two_processes_of_an_epoch_are_found(checker: PartitionsChecker) -> None:
    write(checker, A, 1)
    checker.serving(P, Epoch(1), A, Boot(1), 0)
    checker.serving(P, Epoch(1), A, Boot(1), 0)
    with violates("partitions-one-process", match="start 2 of it serves epoch 1, and so does start 1 of 1"):
        checker.serving(P, Epoch(1), A, Boot(2), 0)
    with violates("partitions-one-process"):
        checker.serving(P, Epoch(1), B, Boot(1), 0)


def test_a_primary_that_lacks_what_was_committed_is_found(checker: PartitionsChecker) -> None:
    commit(checker, 1, 1)
    write(checker, B, 2, first=3)
    write(checker, C, 3, first=2)
    checker.serving(P, Epoch(1), A, Boot(1), 0)
    checker.serving(P, Epoch(2), B, Boot(1), 2)
    with violates("partitions-committed-kept", match="serves epoch 3 with 1 records committed, and 2 was"):
        checker.serving(P, Epoch(3), C, Boot(1), 1)


def test_a_commitment_that_ends_with_a_record_of_another_epoch_is_found(checker: PartitionsChecker) -> None:
    for node in (A, B, C):
        write(checker, node, 1, 1, 2)
    for node in (A, B):
        acknowledge(checker, node, 2, 3)
    with violates("partitions-barrier", match="as primary of epoch 2 it commits up to 2, of epoch 1"):
        checker.check(serving(copy_of(A, 1, 1, 2, committed=2), A, A, B, C), A)
    with violates("partitions-barrier", match="it serves epoch 3, of which no record was written"):
        checker.serving(P, Epoch(3), A, Boot(1), 3)
    checker.serving(P, Epoch(2), A, Boot(1), 3)


BEGUN = Row(Epoch(2), A, Boot(7), (A, B, C), Phase.SEALING, base=(A, B, C))


@pytest.fixture
def with_rows() -> PartitionsChecker:
    """Epoch 2 began with that row, epoch 1 with one that had no base."""
    rows = {Epoch(1): replace(BEGUN, epoch=Epoch(1), base=()), Epoch(2): BEGUN}
    return PartitionsChecker(Clock(), row_of=lambda _partition, epoch: rows.get(epoch))


def test_an_epoch_that_begins_before_a_majority_of_the_base_sealed_it_is_found(with_rows: PartitionsChecker) -> None:
    write(with_rows, A, 1)
    for node in (B, NodeId(4)):
        promise(with_rows, node, 2)
        with_rows.received(A, node, Sealed(P, Epoch(2), at(0, 0)))
    with_rows.received(A, C, Sealed(P, Epoch(1), at(0, 0)))
    with_rows.received(B, C, Sealed(P, Epoch(2), at(0, 0)))
    with violates("partitions-sealed-majority", match=r"of the base \(1, 2, 3\) only \[2\] told it of a seal"):
        write(with_rows, A, 2, first=2)


def test_an_epoch_that_a_majority_of_the_base_sealed_may_begin(with_rows: PartitionsChecker) -> None:
    for node in (B, C):
        with_rows.received(A, node, Sealed(P, Epoch(2), at(0, 0)))
    write(with_rows, A, 1, 2)


def test_a_process_that_the_row_does_not_name_is_found(with_rows: PartitionsChecker) -> None:
    write(with_rows, A, 1)
    with_rows.serving(P, Epoch(1), A, Boot(7), 0)
    for node, boot in ((A, Boot(8)), (B, Boot(7))):
        with violates("partitions-one-process", match="serves epoch 1, whose row names start 7 of 1"):
            with_rows.serving(P, Epoch(1), node, boot, 0)


def test_an_acknowledgement_of_what_is_not_committed_is_found(checker: PartitionsChecker) -> None:
    commit(checker, 1)
    with violates("partitions-acknowledged-committed"):
        checker.acknowledge(P, Epoch(1), 1, b"another")
    with violates("partitions-acknowledged-committed"):
        checker.acknowledge(P, Epoch(1), 2, b"1.2")
    checker.acknowledge(P, Epoch(1), 1, b"1.1")
    assert checker.acknowledged == {P: {1: b"1.1"}}


def test_a_snapshot_of_what_is_not_committed_is_found(checker: PartitionsChecker) -> None:
    commit(checker, 1, 1)
    checker.wrote(B, Snapshot(P, Epoch(1), at(1, 2), b"", records(3, 1)))
    for position in (at(1, 3), at(2, 2)):
        with violates("partitions-snapshot-committed"):
            checker.wrote(C, Snapshot(P, Epoch(2), position, b""))


def test_a_promise_that_falls_is_found(checker: PartitionsChecker) -> None:
    checker.check(copy_of(A, promised=4), A)
    with violates("partitions-promise-falls", match="falls from 4 to 3"):
        checker.check(copy_of(A, promised=3), A)


def test_acting_or_answering_below_the_promise_is_found(checker: PartitionsChecker) -> None:
    primary = serving(copy_of(A, promised=4), A, A)
    primary.replica.promised = Epoch(5)
    with violates("partitions-below-promise", match="acts for epoch 4 and has promised 5"):
        checker.check(primary, A)
    promise(checker, B, 4)
    checker.sent(B, Sealed(P, Epoch(4), at(0, 0)))
    checker.sent(B, Refused(P, Epoch(3), Epoch(4), at(0, 0)))
    with violates("partitions-below-promise", match="answers for epoch 3 after it answered for 4"):
        checker.sent(B, Appended(P, Epoch(3), 1))
    checker.check(copy_of(B, promised=4), B)
    checker.promises.holds(B, P, Epoch(4))
    with violates("partitions-below-promise", match="confirms epoch 3 and has promised 4"):
        checker.promises.holds(B, P, Epoch(3))


@pytest.mark.parametrize("answer", [Sealed(P, Epoch(4), at(0, 0)), Refused(P, Epoch(3), Epoch(4), at(0, 0))])
def test_an_answer_for_a_promise_that_is_not_on_disk_is_found_at_once(
    checker: PartitionsChecker, answer: Sealed | Refused
) -> None:
    promise(checker, B, 3)
    with violates("partitions-promise-durable", match="epoch 4, and that promise is not on its disk"):
        checker.sent(B, answer)
    for entry in (Log(P, records(1, 4)), Snapshot(P, Epoch(4), at(0, 0), b""), Dropped(P, Epoch(4))):
        other = PartitionsChecker(Clock())
        other.synced(B, entry)
        other.sent(B, answer)


def test_a_restart_that_forgets_a_promise_is_found(checker: PartitionsChecker) -> None:
    promise(checker, B, 4)
    checker.sent(B, Sealed(P, Epoch(4), at(0, 0)))
    checker.recovered({P: copy_of(B, promised=4)}, B)
    for found in ({}, {P: copy_of(B, promised=3)}):
        with violates("partitions-promise-durable", match="after it answered for 4"):
            checker.recovered(found, B)


@pytest.mark.parametrize("found", [(), (1,), (1, 2)])
def test_a_restart_without_what_was_said_to_be_on_disk_is_found(
    checker: PartitionsChecker, found: tuple[int, ...]
) -> None:
    write(checker, B, 1, 1, 1)
    promise(checker, B, 2)
    checker.sent(B, Appended(P, Epoch(2), 2))
    checker.recovered({P: copy_of(B, 1, 1, promised=2)}, B)
    write(checker, B, 1, first=3)
    with violates("partitions-durable-log", match="after it said that 2 were on disk"):
        checker.recovered({P: copy_of(B, *found, promised=2)}, B)


def test_an_acknowledgement_of_what_is_not_on_disk_is_found_at_once(checker: PartitionsChecker) -> None:
    write(checker, B, 1, 1)
    write(checker, B, 1, first=3, synced=False)
    checker.sent(B, Appended(P, Epoch(1), 2))
    with violates("partitions-durable-log", match="says that 3 records are on disk, and 2 are"):
        checker.sent(B, Appended(P, Epoch(1), 3))
    promise(checker, B, 2)
    with violates("partitions-durable-log"):
        checker.sent(B, Sealed(P, Epoch(2), at(1, 3)))


@pytest.mark.parametrize("found", [(1, 1, 1), (1, 1, 2), (1, 1)])
def test_an_acknowledgement_may_leave_when_its_records_are_being_replaced_again(
    checker: PartitionsChecker, found: tuple[int, ...]
) -> None:
    write(checker, B, 1, 1, 1)
    write(checker, B, 2, first=3, synced=False)
    checker.sent(B, Appended(P, Epoch(1), 3))
    checker.recovered({P: copy_of(B, *found, promised=2)}, B)


def test_what_was_replaced_or_dropped_since_need_not_be_found(checker: PartitionsChecker) -> None:
    commit(checker, 1)
    write(checker, B, 1, 1, first=2)
    checker.sent(B, Appended(P, Epoch(1), 3))
    write(checker, B, 2, first=3, synced=False)
    checker.recovered({P: copy_of(B, 1, 1, promised=2)}, B)
    checker.sent(B, Appended(P, Epoch(2), 2))
    checker.wrote(B, Snapshot(P, Epoch(2), at(1, 1), b""))
    checker.recovered({P: copy_of(B, 1, promised=2)}, B)
    checker.wrote(B, Dropped(P, Epoch(2)))
    checker.wrote(B, Promise(P, Epoch(3)))
    checker.recovered({P: copy_of(B, promised=2)}, B)


def test_a_copy_that_an_active_row_has_excluded_is_found(checker: PartitionsChecker) -> None:
    write(checker, A, 1)
    partition = copy_of(A, 1)
    row = Row(Epoch(2), B, Boot(1), (B, C), Phase.ACTIVE)
    for harmless in (
        None,
        replace(row, phase=Phase.SEALING),
        replace(row, epoch=Epoch(1)),
        replace(row, replicas=(A, B)),
    ):
        partition.row = harmless
        checker.check(partition, A)
    partition.row = row
    with violates("partitions-excluded", match="it has a copy of epoch 1, and the active row of epoch 2"):
        checker.check(partition, A)


def test_a_log_with_holes_or_other_than_what_was_written_is_found(checker: PartitionsChecker) -> None:
    with violates("partitions-log-whole", match="1 is committed in a log"):
        checker.check(copy_of(A, committed=1), A)
    with violates("partitions-log-whole", match="committed 1 and never wrote it"):
        checker.check(copy_of(A, 1, committed=1), A)
    write(checker, A, 1, 1)
    checker.check_whole_log(copy_of(A, 1, 1), A)
    for other in (copy_of(A, 1), copy_of(A, 1, 2), copy_of(A)):
        with violates("partitions-log-whole", match="not what it wrote"):
            checker.check_whole_log(other, A)
    miscounted = copy_of(A, 1, 1)
    miscounted.replica.log.payload_bytes += 1
    with violates("partitions-log-whole"):
        checker.check_whole_log(miscounted, A)


def test_records_are_reported_once_in_order_when_they_are_committed() -> None:
    class Listening(PartitionsChecker):
        def on_committed(self, partition: PartitionId, record: Record) -> None:
            seen.append((partition, record.sequence))

    seen: list[tuple[PartitionId, int]] = []
    checker = Listening(Clock())
    commit(checker, 1, 1)
    checker.check(copy_of(B, 1, 1, committed=2), B)
    assert seen == [(P, 1), (P, 2)]


# ---- real cores


def explore(seed: int) -> PartitionsChecker:
    """A random schedule of tests.partitions."""
    explorer = Explorer(seed)
    explorer.run(events=400)
    return explorer.world.oracle


def test_random_schedules_of_the_cores_break_nothing() -> None:
    checkers = [explore(seed) for seed in range(60)]
    assert sum(len(committed) for checker in checkers for committed in checker.committed.values()) > 1000
    assert sum(len(checker.served) for checker in checkers) > 100


def accept_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshnode.partitions.log.PartitionLog.contains", lambda log, position: True)


def forget_promises(monkeypatch: pytest.MonkeyPatch) -> None:
    recover = Replica.recover

    def without_promises(replica: Replica, entry: Log | Promise | Snapshot | Dropped) -> None:
        if not isinstance(entry, Promise):
            recover(replica, entry)

    monkeypatch.setattr(Replica, "recover", without_promises)


def one_is_a_majority(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshnode.partitions.primary.majority", lambda members: 1)


def seal_one_instead_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshnode.partitions.takeover.majority", lambda members: 1)


@pytest.mark.parametrize(
    ("mistake", "expected"),
    [
        (
            accept_anything,
            [
                "partitions-equal-prefixes",
                "partitions-log-whole",
                "partitions-durable-majority",
                "partitions-durable-log",
            ],
        ),
        (forget_promises, ["partitions-promise-durable"]),
        (one_is_a_majority, ["partitions-durable-majority"]),
        (seal_one_instead_of_two, ["partitions-committed-kept", "partitions-one-history"]),
    ],
)
def test_cores_with_a_mistake_in_them_are_caught(
    mistake: Callable[[pytest.MonkeyPatch], None], expected: Collection[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    mistake(monkeypatch)
    assert first_violation(explore, seeds=100) in expected


def test_positions_are_named_in_messages(checker: PartitionsChecker) -> None:
    commit(checker, 1)
    with pytest.raises(Violation, match=r"Position\(epoch=5, sequence=1\)"):
        checker.wrote(A, Snapshot(P, Epoch(5), Position(Epoch(5), 1), b""))
