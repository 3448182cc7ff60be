"""Requests in committed records: at most one turn each."""

import pytest

from meshnode import wire
from meshnode.agents.ledger import Expired, SessionOpened, Turn
from meshnode.agents.reply import Reply
from meshnode.identity import Epoch, PartitionId
from meshnode.partitions.messages import Record
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
        payload = b"" if record is None else wire.encode(record)
        self.checker.committed(partition, Record(Epoch(1), self.sequence, payload))
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
