"""Requests in committed records: at most one turn each."""

import contextlib
from dataclasses import replace

import pytest

from meshnode.agents.ledger import Expired, SessionOpened, Turn
from meshnode.agents.messages import Answer, Call, OpenSession, Status
from meshnode.agents.origin import Origin
from meshnode.agents.reply import Reply
from meshnode.identity import Epoch, PartitionId
from simulations.checkers.requests import RequestsChecker
from tests.simulations.checkers.violations import Clock, violates

P, Q = PartitionId(0), PartitionId(1)


class Log:
    """Commits records one after the other."""

    def __init__(self) -> None:
        self.checker = RequestsChecker(Clock())
        self.sequence = 0

    def commit(self, record: object, partition: PartitionId = P) -> int:
        self.sequence += 1
        self.checker.committed(partition, self.sequence, record)
        return self.sequence


def turn(*, session: int = 0, number: int = 0, request_id: str = "", until_s: float = 10.0) -> Turn:
    return Turn("tally", "k", None, Reply("", b""), session, number, 0, request_id, until_s)


@pytest.fixture
def log() -> Log:
    return Log()


def test_a_request_of_a_session_has_one_turn(log: Log) -> None:
    log.commit(None)
    first, second = log.commit(SessionOpened()), log.commit(SessionOpened())
    log.commit(turn(session=first, number=1))
    log.commit(turn(session=first, number=2))
    log.commit(turn(session=second, number=1))
    with violates("requests-at-most-once", match=r"request 1 of session 2 takes effect in record 4 and again in 7"):
        log.commit(turn(session=first, number=1))


def test_a_turn_of_a_session_that_is_not_open_is_found(log: Log) -> None:
    session = log.commit(SessionOpened())
    log.commit(turn(session=session, number=1))
    log.commit(Expired((session,)))
    with violates("requests-session", match="record 4 is of session 1, which is not open"):
        log.commit(turn(session=session, number=1))
    with violates("requests-session"):
        log.commit(turn(session=session, number=1), partition=Q)


def test_a_request_id_has_one_turn_until_it_expires(log: Log) -> None:
    log.commit(turn(request_id="a"))
    log.commit(turn(request_id="b", until_s=30.0))
    log.commit(Expired((), 20.0))
    log.commit(turn(request_id="a"))
    with violates("requests-at-most-once", match="request id 'b' of tally/k takes effect in record 2 and again in 5"):
        log.commit(turn(request_id="b"))


def test_the_same_request_id_elsewhere_is_another_request(log: Log) -> None:
    log.commit(turn(request_id="a"))
    log.commit(turn(request_id="a"), partition=Q)
    log.commit(Turn("tally", "other", None, Reply("", b""), request_id="a", keep_until_s=9.0))


def call(*, session: int = 0, request: int = 0, request_id: str = "") -> Call:
    return Call(9, P, "tally", "k", "add", b"", 1.0, session, request, request_id=request_id)


def answer(payload: bytes = b"", code: str = "") -> Answer:
    return Answer(9, Status.FAILED if code else Status.DONE, code, payload)


def test_what_was_committed_before_its_session_expired_may_be_told_later(log: Log) -> None:
    session = log.commit(SessionOpened())
    log.commit(turn(session=session, number=1))
    log.commit(Expired((session,)))
    log.checker.answered(call(session=session, request=1), answer())
    log.checker.opened(OpenSession(9, P), Answer(9, Status.DONE, session=session))
    with violates("requests-answer", match="no turn of it is committed"):
        log.checker.answered(call(session=session, request=2), answer())


@pytest.mark.parametrize("status", Status)
def test_nobody_says_of_a_turn_with_a_record_that_it_had_no_effect(log: Log, status: Status) -> None:
    denies = status in (Status.TRY_AGAIN, Status.REFUSED)
    with violates("requests-denied", match="request 3 of session 2") if denies else contextlib.nullcontext():
        log.checker.ended(call(session=2, request=3), status)


def test_an_answer_that_is_not_of_a_committed_turn_is_found(log: Log) -> None:
    session = log.commit(SessionOpened())
    with violates("requests-answer", match="request 1 of session 1 to tally/k is answered '' b'', and no turn of it"):
        log.checker.answered(call(session=session, request=1), answer())
    log.commit(turn(session=session, number=1))
    log.checker.answered(call(session=session, request=1), answer())
    for other in (answer(b"7"), answer(code="agent_error")):
        with violates("requests-answer", match="record 2 replies"):
            log.checker.answered(call(session=session, request=1), other)


def test_an_answer_to_a_request_id_is_that_of_its_turn(log: Log) -> None:
    log.commit(turn(request_id="a"))
    log.checker.answered(call(request_id="a"), answer())
    with violates("requests-answer", match="request id 'b' of tally/k"):
        log.checker.answered(call(request_id="b"), answer())


def test_a_session_that_no_record_opened_is_found(log: Log) -> None:
    session = log.commit(SessionOpened())
    log.checker.opened(OpenSession(1, P), Answer(1, Status.DONE, session=session))
    with violates("requests-answer", match="session 2 is told, and no record opened it"):
        log.checker.opened(OpenSession(1, P), Answer(1, Status.DONE, session=2))


def test_turns_of_two_partitions_may_call_under_one_id(log: Log) -> None:
    for partition in (0, 1):
        origin = Origin(PartitionId(partition), Epoch(1), 1, 1)
        log.commit(replace(turn(request_id="a"), origin=origin))
    with violates("requests-at-most-once"):
        log.commit(replace(turn(request_id="a"), origin=Origin(P, Epoch(1), 1, 1)))
