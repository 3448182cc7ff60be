"""Leases and reads rest on what replicas answered, and on when they were asked."""

import pytest

from meshnode.identity import Epoch, NodeId, PartitionId
from meshnode.partitions.config import PartitionsConfig
from meshnode.partitions.messages import Claim, Confirm, Confirmed, Denial
from meshnode.partitions.primary import Primary
from meshnode.partitions.replica import Replica
from simulations.checkers.violation import Violation
from simulations.cores.leases import Leases
from simulations.cores.requests import RequestSet

ME, ONE, OTHER = NodeId(1), NodeId(2), NodeId(3)
EPOCH = Epoch(4)
QUESTION = Confirm(7, (Claim(PartitionId(0), EPOCH, 0),))


@pytest.fixture
def primary() -> Primary:
    replica = Replica(PartitionId(0), RequestSet())
    return Primary(replica, epoch=EPOCH, node_id=ME, replicas=(ME, ONE, OTHER), config=PartitionsConfig(), now=0.0)


@pytest.fixture
def leases() -> Leases:
    """One other replica was asked at 1 s."""
    made = Leases(lambda: 0.0, lease_s=3.0)
    made.asked(QUESTION, 1.0)
    return made


def answer(leases: Leases, answer: Confirmed, question: Confirm = QUESTION) -> None:
    """The other replica answers, and the answer arrives."""
    leases.check_answer(ONE, question, {}, answer)
    leases.answered(ME, ONE, answer)


def test_a_lease_counts_from_when_it_was_asked_for(leases: Leases, primary: Primary) -> None:
    with pytest.raises(Violation, match=r"^partitions-lease "):
        leases.check_turn(ME, primary, 1.5)
    answer(leases, Confirmed(7, ()))
    leases.check_turn(ME, primary, 3.9)
    with pytest.raises(Violation, match=r"^partitions-lease "):
        leases.check_turn(ME, primary, 4.1)


def test_a_read_rests_on_a_question_that_left_after_it_came(leases: Leases, primary: Primary) -> None:
    answer(leases, Confirmed(7, ()))
    leases.check_read(ME, primary, 1.0)
    with pytest.raises(Violation, match=r"^partitions-read "):
        leases.check_read(ME, primary, 1.1)


def test_a_denial_confirms_nothing(leases: Leases, primary: Primary) -> None:
    answer(leases, Confirmed(7, (Denial(PartitionId(0), Epoch(5)),)))
    with pytest.raises(Violation, match=r"^partitions-read "):
        leases.check_read(ME, primary, 1.0)


def test_an_answer_to_an_earlier_question_of_the_same_number_confirms_what_was_asked_then(
    leases: Leases, primary: Primary
) -> None:
    earlier = Confirm(7, (Claim(PartitionId(0), Epoch(3), 0),))
    leases.asked(earlier, 0.5)
    answer(leases, Confirmed(7, ()), earlier)
    with pytest.raises(Violation, match=r"^partitions-read "):
        leases.check_read(ME, primary, 0.5)


def test_who_has_promised_more_does_not_confirm(leases: Leases) -> None:
    leases.check_answer(ONE, QUESTION, {PartitionId(0): EPOCH}, Confirmed(7, ()))
    leases.check_answer(ONE, QUESTION, {PartitionId(0): Epoch(5)}, Confirmed(7, (Denial(PartitionId(0), Epoch(5)),)))
    with pytest.raises(Violation, match=r"^partitions-below-promise "):
        leases.check_answer(ONE, QUESTION, {PartitionId(0): Epoch(5)}, Confirmed(7, ()))
