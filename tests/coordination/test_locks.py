"""Locks as the replicated state keeps them: order, tokens, TTLs, and who may not overtake whom."""

import pytest

from meshnode.coordination import bounds
from meshnode.coordination.bounds import TICK_MS_MAX
from meshnode.coordination.commands import Acquire, Claimed, Release, Tick
from meshnode.coordination.questions import AwaitClaim, AwaitHolder, ClaimIs, Leads, ReadLocks
from meshnode.identity import Boot, NodeId
from tests.coordination.log import TERM, Log


@pytest.fixture
def log() -> Log:
    return Log()


def test_the_token_is_the_log_index_of_the_grant(log: Log) -> None:
    one, other = log.open(), log.open()
    held = log.acquire(one, "a")
    assert log.token(one, held) == log.stamp
    waiting = log.acquire(other, "a")
    assert log.token(other, waiting) == 0
    log.release(one, held)
    assert log.token(other, waiting) == log.stamp
    assert log.token(one, held) is None


def test_waiters_are_served_in_the_order_in_which_they_asked(log: Log) -> None:
    sessions = [log.open() for _ in range(5)]
    claims = [log.acquire(session, "a") for session in sessions]
    for place in range(4):
        waiting = [log.token(session, claim) for session, claim in zip(sessions, claims, strict=True)]
        assert waiting == [None] * place + [log.stamp if place else waiting[0]] + [0] * (4 - place)
        log.release(sessions[place], claims[place])
    assert log.token(sessions[4], claims[4]) == log.stamp


def test_one_process_can_wait_for_a_lock_that_it_holds_itself(log: Log) -> None:
    session = log.open()
    first, second = log.acquire(session, "a"), log.acquire(session, "a")
    assert log.token(session, second) == 0
    log.release(session, first)
    assert log.token(session, second) == log.stamp


def test_several_names_are_taken_at_once_or_not_at_all(log: Log) -> None:
    one, other = log.open(), log.open()
    held = log.acquire(one, "b")
    both = log.acquire(other, "a", "b")
    assert log.token(other, both) == 0
    log.release(one, held)
    assert log.token(other, both) == log.stamp


def test_crossing_claims_of_several_names_do_not_wait_for_each_other(log: Log) -> None:
    one, other, third = log.open(), log.open(), log.open()
    first = log.acquire(one, "a", "b")
    second = log.acquire(other, "b", "a")
    beside = log.acquire(third, "c")
    assert (log.token(other, second), log.token(third, beside)) == (0, log.stamp)
    log.release(one, first)
    assert log.token(other, second) == log.stamp


def test_who_comes_later_does_not_overtake_also_where_a_name_is_free(log: Log) -> None:
    one, other, third = log.open(), log.open(), log.open()
    held = log.acquire(one, "a")
    both = log.acquire(other, "a", "b")
    late = log.acquire(third, "b")
    assert log.token(third, late) == 0, "b is kept for the older claim"
    log.release(other, both)
    assert log.token(third, late) == log.stamp
    assert log.token(one, held) is not None


def test_a_waiter_that_gives_up_lets_those_behind_it_pass(log: Log) -> None:
    one, other, third = log.open(), log.open(), log.open()
    held = log.acquire(one, "a")
    waiting, behind = log.acquire(other, "a"), log.acquire(third, "a")
    log.release(other, waiting)
    assert log.token(third, behind) == 0
    log.release(one, held)
    assert log.token(third, behind) == log.stamp


# ---- time


def test_a_claim_ends_no_sooner_than_its_ttl_and_a_little_later(log: Log) -> None:
    one, other = log.open(), log.open()
    held, waiting = log.acquire(one, "a", ttl_ms=5000), log.acquire(other, "a")
    log.tick(5000 + TICK_MS_MAX - 1)
    assert log.token(other, waiting) == 0
    log.tick(1)
    assert log.token(one, held) is None
    assert log.token(other, waiting) == log.stamp


def test_renewing_makes_it_last_anew(log: Log) -> None:
    session = log.open()
    held = log.acquire(session, "a", ttl_ms=5000)
    for _ in range(10):
        log.tick(4000)
        assert log.renew(session, held) == (held,)
    token = log.token(session, held)
    log.tick(5000 + TICK_MS_MAX)
    assert token
    assert log.renew(session, held) == ()


def test_only_the_claims_that_are_named_are_renewed(log: Log) -> None:
    session = log.open()
    kept, forgotten = log.acquire(session, "a", ttl_ms=5000), log.acquire(session, "b", ttl_ms=5000)
    for _ in range(2):
        log.tick(4000)
        assert log.renew(session, kept) == (kept,)
    assert log.token(session, forgotten) is None


def test_of_two_whose_time_is_over_together_the_second_is_not_granted_first(log: Log) -> None:
    one, other, third = log.open(), log.open(), log.open()
    log.acquire(one, "a", ttl_ms=5000)
    dead = log.acquire(other, "a", ttl_ms=5000)
    alive = log.acquire(third, "a", ttl_ms=60_000)
    log.tick(5000 + TICK_MS_MAX)
    assert log.token(other, dead) is None
    assert log.token(third, alive) == log.stamp


def test_a_tick_counts_two_seconds_at_most_and_never_back(log: Log) -> None:
    log.append(Tick(TERM, 3_600_000))
    assert log.state.now_ms == TICK_MS_MAX
    log.append(Tick(TERM, -5))
    assert log.state.now_ms == TICK_MS_MAX


def test_a_change_of_leader_only_lengthens(log: Log) -> None:
    log.tick(1000)
    assert log.state.now_ms == 1000
    log.append(Tick(TERM + 1, 1000))
    assert log.state.now_ms == 1000, "the first tick of a leader counts nothing"
    log.append(Tick(TERM, 1000))
    assert log.state.now_ms == 1000, "what a deposed leader counted comes late"
    log.append(Tick(TERM + 1, 1000))
    assert log.state.now_ms == 2000


# ---- sessions


def test_a_node_that_starts_again_gives_up_what_it_held_before(log: Log) -> None:
    old, other = log.open(node=5, boot=1), log.open(node=6, boot=1)
    log.acquire(old, "a")
    waiting = log.acquire(other, "a")
    log.stamp += 1
    log.state.node_started(log.stamp, NodeId(5), Boot(2))
    assert log.token(other, waiting) == log.stamp
    assert log.state.sessions.get(old) is None
    assert log.state.sessions.get(other) is not None


def test_a_start_that_is_registered_late_costs_it_nothing(log: Log) -> None:
    session = log.open(node=5, boot=2)
    held = log.acquire(session, "a")
    log.state.node_started(log.stamp, NodeId(5), Boot(2))
    assert log.token(session, held) is not None


# ---- at most once


def test_a_claim_that_is_proposed_again_is_made_once(log: Log) -> None:
    session = log.open()
    request = log.request(session)
    command = Acquire(request, ("a",), 30_000)
    first = log.append(command)
    assert log.append(command) == first
    assert len(log.state.queues) == 1
    log.release(session, request.number)
    assert log.refused(command) == "answered"
    assert len(log.state.queues) == 0


def test_a_claim_that_was_given_up_before_it_was_made_is_never_made(log: Log) -> None:
    session = log.open()
    outstanding = log.request(session)
    acquire = Acquire(log.request(session, answered=outstanding.number), ("a",), 30_000)
    release = Release(log.request(session, answered=outstanding.number), acquire.request.number)
    log.append(release)
    assert log.refused(acquire) == "withdrawn"
    assert len(log.state.queues) == 0


def test_a_late_copy_of_a_release_releases_nobody_else(log: Log) -> None:
    session = log.open()
    first = log.acquire(session, "a")
    release = Release(log.request(session), first)
    log.append(release)
    again = log.acquire(session, "a")
    assert log.refused(release) == "answered"
    assert log.token(session, again)


# ---- bounds


@pytest.mark.parametrize(
    ("names", "ttl_ms", "why"),
    [
        ((), 5000, "no name"),
        (("",), 5000, "is empty"),
        (("a", "a"), 5000, "not all different"),
        (("n" * 256,), 5000, "longer than 255 bytes"),
        (("ü" * 128,), 5000, "longer than 255 bytes"),
        (tuple(map(str, range(17))), 5000, "17 names at once: take at most 16"),
        (("a",), 999, "a TTL of 0.999 s: choose 1 to 86400 s"),
        (("a",), 0, "choose 1 to"),
        (("a",), 86_400_001, "choose 1 to"),
    ],
)
def test_what_is_out_of_bounds_is_refused_with_a_way_out(
    log: Log, names: tuple[str, ...], ttl_ms: int, why: str
) -> None:
    command = Acquire(log.request(log.open()), names, ttl_ms)
    assert why in command.problem()
    assert log.refused(command) == "invalid_argument"
    assert len(log.state.queues) == 0


def test_too_many_claims_are_refused(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "CLAIMS_MAX", 2)
    session = log.open()
    first = log.acquire(session, "a")
    log.acquire(session, "a")
    assert log.refused(Acquire(log.request(session), ("b",), 5000)) == "overloaded"
    log.release(session, first)
    log.acquire(session, "b")


# ---- what is seen


def test_holders_and_queues_are_visible(log: Log) -> None:
    one, other = log.open("one", node=5), log.open("other")
    held = log.acquire(one, "a", "b", ttl_ms=5000)
    token = log.stamp
    log.acquire(other, "b")
    log.tick(1000)
    a, b = _locks(log)
    assert (a.name, b.name) == ("a", "b")
    assert a.holder is not None
    assert (a.holder.name, a.holder.node_id, a.holder.token, a.holder.names) == ("one", 5, token, ("a", "b"))
    assert a.holder.left_ms == 4000 + TICK_MS_MAX
    assert [waiter.name for waiter in b.waiting] == ["other"]
    assert AwaitHolder("a", 0).look(log.state) == Leads(a.holder)
    assert AwaitHolder("a", token).look(log.state) is None
    log.release(one, held)
    assert AwaitHolder("a", token).look(log.state) == Leads(None)
    assert [lock.name for lock in _locks(log)] == ["b"]


def test_a_claim_that_waits_for_another_name_holds_no_name(log: Log) -> None:
    one, other = log.open(), log.open("other")
    log.acquire(one, "a")
    log.acquire(other, "a", "b")
    b = _locks(log)[1]
    assert b.holder is None
    assert [waiter.name for waiter in b.waiting] == ["other"]


def test_news_of_a_claim_come_from_a_state_that_has_it(log: Log) -> None:
    one, other = log.open(), log.open()
    held, waiting = log.acquire(one, "a"), log.acquire(other, "a")
    made = log.stamp
    behind = Log().state
    assert AwaitClaim(other, waiting, 0, made).look(behind) is None, "it has not come so far"
    assert AwaitClaim(other, waiting, 0, made).look(log.state) is None
    log.release(one, held)
    assert AwaitClaim(other, waiting, 0, made).look(log.state) == ClaimIs(True, log.stamp)
    assert AwaitClaim(one, held, made - 1, made).look(log.state) == ClaimIs(False)


def test_the_list_of_locks_comes_in_pages(log: Log) -> None:
    session = log.open()
    for name in ("x/1", "x/2", "y", "x/3"):
        log.acquire(session, name)
    first = ReadLocks("x/", 2).look(log.state)
    assert first is not None
    assert (first.total, [lock.name for lock in first.locks]) == (3, ["x/1", "x/2"])
    rest = ReadLocks("x/", 2, after="x/2").look(log.state)
    assert rest is not None
    assert [lock.name for lock in rest.locks] == ["x/3"]


def _locks(log: Log) -> tuple:  # type: ignore[type-arg]
    found = ReadLocks("", 100).look(log.state)
    assert found is not None
    return found.locks


def test_an_immediate_grant_says_so_in_the_reply(log: Log) -> None:
    session = log.open()
    assert log.append(Acquire(log.request(session), ("a",), 5000)) == Claimed(log.stamp, log.stamp)
    assert log.append(Acquire(log.request(session), ("a",), 5000)) == Claimed(0, log.stamp)
