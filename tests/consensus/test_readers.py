"""Reads that wait: for an index, and until it is applied."""

import pytest

from consensus.errors import NodeStopped, Overloaded, ProposalDropped
from consensus.messages import ReadState
from consensus.readers import WAITING_MAX, Reader, Readers


def waiting(readers: Readers, *, deadline: float = 10.0) -> Reader:
    return readers.add(deadline=deadline, wake=lambda _: None)


@pytest.fixture
def readers() -> Readers:
    return Readers(retry_s=0.2, before=0)


def test_one_question_answers_all_that_wait_and_those_that_come_meanwhile_share_the_next(readers: Readers) -> None:
    first, second = waiting(readers), waiting(readers)
    assert readers.ask(0.0) == 1
    late = waiting(readers)
    assert readers.ask(0.1) is None
    readers.answered(ReadState(1, 7))
    readers.applied(7)
    assert [reader.settled for reader in (first, second, late)] == [True, True, False]
    assert readers.ask(0.1) == 2
    assert len(readers) == 1


def test_an_answer_counts_only_once_its_index_is_applied(readers: Readers) -> None:
    reader = waiting(readers)
    assert readers.ask(0.0) == 1
    readers.answered(ReadState(1, 7))
    readers.applied(6)
    assert not reader.settled
    readers.applied(9)
    assert reader.outcome() == 9


def test_a_question_without_an_answer_is_asked_again_and_either_answer_counts(readers: Readers) -> None:
    old = waiting(readers)
    assert readers.ask(0.0) == 1
    assert readers.next_question == 0.2
    new = waiting(readers)
    assert readers.ask(0.2) == 2
    readers.answered(ReadState(1, 5))
    readers.applied(5)
    assert (old.settled, new.settled) == (True, False)
    assert readers.ask(0.3) is None, "the second question is still under way"
    readers.answered(ReadState(2, 5))
    readers.applied(5)
    assert new.settled


def test_a_later_answer_serves_all_who_asked_before(readers: Readers) -> None:
    old = waiting(readers)
    readers.ask(0.0)
    readers.ask_again()
    assert readers.ask(0.1) == 2
    readers.answered(ReadState(2, 5))
    readers.answered(ReadState(1, 4))
    readers.applied(4)
    assert not old.settled
    readers.applied(5)
    assert old.settled


def test_who_waits_too_long_is_told_and_nobody_is_asked_for_it(readers: Readers) -> None:
    reader = waiting(readers, deadline=5.0)
    assert readers.next_deadline == 5.0
    readers.expire(5.0)
    with pytest.raises(ProposalDropped, match="no leader confirmed"):
        reader.outcome()
    assert readers.ask(5.0) is None
    assert len(readers) == 0
    assert [readers.next_deadline, readers.next_question] == [None, None]


def test_a_question_that_nobody_waits_for_any_longer_is_not_asked_again(readers: Readers) -> None:
    waiting(readers)
    readers.ask(0.0)
    assert readers.ask(0.2) == 2
    readers.answered(ReadState(1, 5))
    readers.applied(5)
    waiting(readers)
    assert readers.ask(0.4) == 3
    readers.answered(ReadState(2, 5))
    reader = waiting(readers)
    readers.withdraw(reader)
    readers.answered(ReadState(3, 5))
    assert readers.ask(0.5) is None
    assert readers.next_question is None


def test_one_that_gave_up_is_passed_over(readers: Readers) -> None:
    gone, stays = waiting(readers), waiting(readers)
    readers.ask(0.0)
    readers.withdraw(gone)
    readers.withdraw(gone)
    readers.answered(ReadState(1, 1))
    readers.applied(1)
    assert (stays.settled, len(readers)) == (True, 0)


def test_those_that_gave_up_are_not_kept_until_their_index_is_applied(readers: Readers) -> None:
    for second in range(100):
        for _ in range(10):
            waiting(readers, deadline=second + 0.5)
        late = waiting(readers, deadline=second + 0.5)
        request = readers.ask(float(second))
        assert request is not None
        readers.withdraw(late)
        readers.answered(ReadState(request, 7))
        assert late not in readers._confirmed
        assert len(readers._confirmed) < 40
        readers.expire(second + 1.0)
    stays = waiting(readers, deadline=200.0)
    request = readers.ask(100.0)
    assert request is not None
    readers.answered(ReadState(request, 7))
    assert list(readers._confirmed) == [stays]
    readers.applied(7)
    assert stays.outcome() == 7


def test_so_many_may_wait_and_no_more(readers: Readers) -> None:
    for _ in range(WAITING_MAX):
        waiting(readers)
    with pytest.raises(Overloaded, match="65536 reads wait"):
        waiting(readers)


def test_when_the_node_stops_nobody_waits_any_longer(readers: Readers) -> None:
    asked = waiting(readers)
    readers.ask(0.0)
    unasked = waiting(readers)
    readers.stop()
    for reader in (asked, unasked):
        with pytest.raises(NodeStopped):
            reader.outcome()
    assert len(readers) == 0
    assert readers.next_deadline is None


def test_an_answer_to_an_earlier_start_of_the_node_counts_for_nothing() -> None:
    readers = Readers(retry_s=0.2, before=1000)
    reader = waiting(readers)
    assert readers.ask(0.0) == 1001
    for request in (1, 1000, 1002):
        readers.answered(ReadState(request, 5))
        readers.applied(5)
        assert not reader.settled
    readers.answered(ReadState(1001, 6))
    readers.applied(6)
    assert reader.outcome() == 6
