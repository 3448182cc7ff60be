"""What must be true of the state that partitions keep in a world."""

import pytest

from meshnode.identity import Boot, Epoch, NodeId, PartitionId
from meshnode.partitions.config import PartitionsConfig
from meshnode.partitions.messages import Log, Position, Record
from meshnode.partitions.partition import Partition
from meshnode.partitions.replica import Replica
from simulations.checkers.violation import Violation
from simulations.cores.requests import RequestsChecker, RequestSet, chained

P, A, B = PartitionId(0), NodeId(1), NodeId(2)


def checker() -> RequestsChecker:
    return RequestsChecker(lambda: 12.0)


def copy(*payloads: bytes, committed: int = 0) -> Partition:
    """A copy with these records of epoch 1."""
    made = Partition(P, RequestSet(), node_id=A, boot=Boot(1), config=PartitionsConfig())
    made.replica.log.replace([Record(Epoch(1), index, payload) for index, payload in enumerate(payloads, start=1)])
    made.replica.commit(committed)
    return made


def test_a_state_comes_back_from_its_snapshot_with_its_digest() -> None:
    state, restored = RequestSet(), RequestSet()
    state.apply(2, b"one")
    state.apply(5, b"two words")
    restored.restore(state.snapshot())
    assert restored.applied == {b"one": 2, b"two words": 5}
    assert restored.digest == state.digest == chained(chained(0, 2, b"one"), 5, b"two words")
    restored.restore(b"")
    assert (restored.applied, restored.digest) == ({}, 0)


def test_a_request_that_takes_effect_twice_is_noticed() -> None:
    made = checker()
    made.on_committed(P, Record(Epoch(1), 1, b"r"))
    made.on_committed(P, Record(Epoch(1), 2, b""))
    made.on_committed(PartitionId(1), Record(Epoch(1), 3, b"r"))
    with pytest.raises(Violation, match="partitions-at-most-once at 12"):
        made.on_committed(P, Record(Epoch(2), 3, b"r"))


def test_a_state_that_differs_after_equal_records_is_noticed() -> None:
    made = checker()
    for record in (Record(Epoch(1), 1, b"a"), Record(Epoch(1), 2, b"b")):
        made.wrote(A, Log(P, (record,)))
        made.committed.setdefault(P, []).append(record)
        made.on_committed(P, record)
    sound = copy(b"a", b"b", committed=2)
    made.check(sound, A)
    assert isinstance(sound.replica.machine, RequestSet)
    sound.replica.machine.apply(3, b"c")
    with pytest.raises(Violation, match="partitions-state"):
        made.check(sound, A)


def test_a_read_must_see_what_was_acknowledged_wherever_it_comes() -> None:
    made = checker()
    assert made.must_see(copy())
    record = Record(Epoch(1), 1, b"a")
    made.committed[P] = [record]
    made.acknowledge(P, Epoch(1), 1, b"a")
    assert made.must_see(copy(b"a"))
    assert not made.must_see(copy())
    other = copy()
    other.replica.log.replace([Record(Epoch(2), 1, b"b")])
    assert not made.must_see(other)
    other.replica.log.restart(Position(Epoch(2), 4))
    assert made.must_see(other)


def test_a_read_that_misses_a_write_or_sees_what_is_not_committed_is_not_answered() -> None:
    made = checker()
    made.answers_read(copy(), A, 0, sees_all=True)
    with pytest.raises(Violation, match=r"^partitions-read .* misses a write"):
        made.answers_read(copy(), A, 0, sees_all=False)
    with pytest.raises(Violation, match=r"^partitions-read .* saw 2 records"):
        made.answers_read(copy(b"a", b"b"), A, 2, sees_all=True)


def test_an_append_that_commits_more_than_it_has_compared_is_told() -> None:
    assert "partitions-commit-verified" in str(checker().committed_unseen(P, A, 3))


def test_the_replica_of_the_room_takes_the_state_for_its_own() -> None:
    replica = Replica(P, RequestSet())
    replica.adopt((Record(Epoch(1), 1, b"a"),))
    replica.commit(1)
    assert isinstance(replica.machine, RequestSet)
    assert replica.machine.applied == {b"a": 1}
