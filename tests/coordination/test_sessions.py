"""Sessions: a request takes effect at most once, and what is forgotten can't take effect any more."""

import pytest

from meshnode.coordination import bounds
from meshnode.coordination.bounds import SESSION_TTL_MS, TICK_MS_MAX
from meshnode.coordination.commands import BeginSession, Refused, Release, Renew, RequestId, Step, Transact, Transacted
from tests.coordination.log import Log


@pytest.fixture
def log() -> Log:
    return Log()


def put(request: RequestId, value: str = "v", key: str = "k") -> Transact:
    return Transact(request, (), (Step.put(key, value),))


def version(log: Log, key: str = "k") -> int:
    entry = log.state.store.get(key)
    return 0 if entry is None else entry.version


def test_a_request_that_comes_again_gets_the_same_reply_and_has_no_effect(log: Log) -> None:
    command = put(log.request(log.open()))
    first = log.append(command)
    assert isinstance(first, Transacted)
    for _ in range(3):
        assert log.append(command) == first
    assert version(log) == 1


def test_also_while_later_requests_are_under_way(log: Log) -> None:
    session = log.open()
    commands = [put(log.request(session, answered=1), str(number)) for number in range(5)]
    replies = [log.append(command) for command in commands]
    assert [log.append(command) for command in reversed(commands)] == replies[::-1]
    assert version(log) == 5


def test_a_late_copy_of_what_was_answered_has_no_effect(log: Log) -> None:
    session = log.open()
    command = put(log.request(session))
    log.append(command)
    log.append(put(log.request(session), "w"))
    assert log.refused(command) == "answered"
    assert version(log) == 2


def test_a_request_that_was_given_up_never_takes_effect_later(log: Log) -> None:
    session = log.open()
    lost = put(log.request(session))  # it is on its way when its process wants it no more
    log.append(put(log.request(session), "w"))
    assert log.refused(lost) == "answered"
    assert version(log) == 1


def test_a_session_that_is_not_heard_of_ends_and_what_is_asked_in_it_has_no_effect(log: Log) -> None:
    session = log.open()
    log.tick(SESSION_TTL_MS + TICK_MS_MAX - 1)
    assert log.state.sessions.get(session) is not None
    log.tick(1)
    assert log.refused(put(log.request(session))) == "session_over"
    assert log.refused(Renew(session, ())) == "session_over"
    assert not log.state.has_deadlines, "and nobody needs to count the time any more"


@pytest.mark.parametrize("heard", ["request", "renewal"])
def test_a_session_that_is_heard_of_lasts(log: Log, heard: str) -> None:
    session = log.open()
    for _ in range(3):
        log.tick(SESSION_TTL_MS - 1000)
        log.append(put(log.request(session)) if heard == "request" else Renew(session, ()))
    assert log.state.sessions.get(session) is not None


def test_a_session_lasts_as_long_as_its_claims(log: Log) -> None:
    session = log.open()
    held = log.acquire(session, "a", ttl_ms=3 * SESSION_TTL_MS)
    log.tick(2 * SESSION_TTL_MS)
    assert log.token(session, held)
    log.release(session, held)
    log.tick(SESSION_TTL_MS + TICK_MS_MAX)
    assert log.state.sessions.get(session) is None


def test_replies_are_kept_for_so_many_requests_and_no_more(log: Log) -> None:
    session = log.open()
    for _ in range(bounds.PENDING_MAX):
        log.append(put(log.request(session, answered=1)))
    assert log.refused(put(log.request(session, answered=1))) == "overloaded"
    assert isinstance(log.append(put(log.request(session))), Transacted)
    assert len(log.state.freeze().replies) == 1


def test_replies_of_all_sessions_have_a_bound_together(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "REPLIES_BYTES_MAX", 3000)
    one, other = log.open(), log.open()
    log.append(put(log.request(one), "v" * 4000))
    log.append(Transact(log.request(one), (), (Step.get("k"),)))
    assert log.refused(put(log.request(other))) == "overloaded"
    log.append(Release(RequestId(one, 9, 9), 1))  # all is answered
    assert isinstance(log.append(put(log.request(other))), Transacted)


def test_sessions_have_a_bound(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "SESSIONS_MAX", 2)
    log.open()
    log.open()
    assert log.refused(BeginSession("third")) == "overloaded"
    log.tick(SESSION_TTL_MS + TICK_MS_MAX)
    log.open()


def test_what_was_refused_is_refused_again(log: Log) -> None:
    command = Transact(log.request(log.open()), (), (Step.put("", "v"),))
    first = log.append(command)
    assert isinstance(first, Refused)
    assert log.append(command) == first
