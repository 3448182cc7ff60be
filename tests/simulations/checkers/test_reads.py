"""Reads: answered when what they saw is committed, and their primary was confirmed after they began."""

import pytest

from meshnode.identity import Boot, Epoch, NodeId, PartitionId
from meshnode.partitions.config import PartitionsConfig
from meshnode.partitions.messages import Claim, Confirm, Confirmed, Denial
from meshnode.partitions.partition import Partition
from meshnode.partitions.primary import Primary
from simulations.checkers.reads import ReadsChecker
from tests.partitions.copies import records
from tests.partitions.oracle import ListMachine
from tests.simulations.checkers.violations import Clock, violates

P = PartitionId(0)
A, B, C = NodeId(1), NodeId(2), NodeId(3)


@pytest.fixture
def copy() -> Partition:
    """Of A, the primary of epoch 1, which committed one record of two."""
    config = PartitionsConfig()
    found = Partition(P, ListMachine(), node_id=A, boot=Boot(1), config=config)
    found.replica.log.replace(records(1, 1, 1))
    found.replica.promised, found.replica.committed = Epoch(1), 1
    found.primary = Primary(found.replica, epoch=Epoch(1), node_id=A, replicas=(A, B, C), config=config, now=0.0)
    return found


@pytest.fixture
def checker() -> ReadsChecker:
    return ReadsChecker(Clock())


def confirm(checker: ReadsChecker, number: int, *, by: NodeId = B, epoch: int = 1, is_denied: bool = False) -> None:
    """A round, asked and answered."""
    checker.asked(A, by, Confirm(number, (Claim(P, Epoch(epoch), 1),)))
    checker.answered(by, A, Confirmed(number, (Denial(P, Epoch(9)),) if is_denied else ()))


def test_a_read_waits_for_what_it_saw_and_for_a_round_that_began_after_it(
    checker: ReadsChecker, copy: Partition
) -> None:
    confirm(checker, 1)
    read = checker.begun(copy)
    assert read is not None
    confirm(checker, 2)
    checker.ended(read, committed=2)
    with violates("partitions-read-confirmed", match="it saw 2 records, of which 1 are committed"):
        checker.ended(read, committed=1)


def test_a_round_from_before_one_that_was_denied_or_of_another_epoch_confirms_nothing(
    checker: ReadsChecker, copy: Partition
) -> None:
    checker.asked(A, B, Confirm(1, (Claim(P, Epoch(1), 1),)))
    read = checker.begun(copy)
    assert read is not None
    checker.answered(B, A, Confirmed(1, ()))
    confirm(checker, 2, is_denied=True)
    confirm(checker, 3, by=C, epoch=2)
    checker.answered(C, A, Confirmed(7, ()))
    with violates("partitions-read-confirmed", match=r"of \(1, 2, 3\) only \[1\] confirmed its epoch after it arrived"):
        checker.ended(read, committed=2)
    confirm(checker, 4, by=C)
    checker.ended(read, committed=2)


def test_a_node_that_is_no_primary_begins_no_read(checker: ReadsChecker, copy: Partition) -> None:
    copy.primary = None
    assert checker.begun(copy) is None


def test_each_claim_that_is_confirmed_is_told() -> None:
    told: list[tuple[NodeId, PartitionId, Epoch]] = []
    checker = ReadsChecker(Clock(), holds=lambda *claim: told.append(claim))
    confirm(checker, 1)
    confirm(checker, 2, is_denied=True)
    assert told == [(B, P, 1)]
