"""The replicated configuration: keys, conditions, transactions, TTLs, and what those who watch are told."""

import math

import pytest

from meshnode.coordination import bounds
from meshnode.coordination.bounds import TICK_MS_MAX
from meshnode.coordination.commands import Compare, Entry, Field, Relation, Step, StepKind, Transact, Transacted
from meshnode.coordination.questions import PROGRESS_CHANGES, AwaitChanges, Changes, Entries, ReadKey, ReadKeys
from meshnode.coordination.store import Change, ChangeKind
from meshnode.errors import InvalidArgument
from tests.coordination.log import Log


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def session(log: Log) -> int:
    return log.open()


def value(log: Log, key: str) -> bytes | None:
    entry = log.state.store.get(key)
    return None if entry is None else entry.value


def test_a_key_knows_when_it_came_to_be_and_how_often_it_was_put(log: Log, session: int) -> None:
    first = log.transact(session, Step.put("k", "v")).revision
    assert first == log.stamp
    second = log.transact(session, Step.put("k", b"\x00")).revision
    assert log.state.store.get("k") == Entry("k", b"\x00", first, second, 2)
    log.transact(session, Step.delete("k"))
    third = log.transact(session, Step.put("k", "w")).revision
    assert log.state.store.get("k") == Entry("k", b"w", third, third, 1)


def test_each_step_says_what_it_found(log: Log, session: int) -> None:
    log.transact(session, Step.put("a", "1"))
    a = log.state.store.get("a")
    done = log.transact(session, Step.get("a"), Step.put("b", "2"), Step.get("b"), Step.delete("a"), Step.delete("c"))
    assert done.found == (a, None, log.state.store.get("b"), a, None)
    assert (value(log, "a"), value(log, "b")) == (None, b"2")


def test_deleting_what_is_not_there_changes_nothing(log: Log, session: int) -> None:
    before = log.transact(session, Step.put("a", "1")).revision
    done = log.transact(session, Step.delete("b"))
    assert done == Transacted(True, before, (None,))


@pytest.mark.parametrize(
    ("compare", "holds"),
    [
        (Compare.exists("a"), True),
        (Compare.exists("z"), False),
        (Compare.is_absent("a"), False),
        (Compare.is_absent("z"), True),
        (Compare.has_value("a", "1"), True),
        (Compare.has_value("a", "2"), False),
        (Compare.has_value("z", ""), False),
        (Compare("z", Field.VALUE, Relation.NOT_EQUAL, b""), True),
        (Compare("z", Field.VALUE, Relation.LESS, b"9"), False),
        (Compare("a", Field.VALUE, Relation.LESS, b"2"), True),
        (Compare("a", Field.VALUE, Relation.GREATER, b"0"), True),
        (Compare("a", Field.VALUE, Relation.NOT_EQUAL, b"1"), False),
        (Compare("a", Field.VERSION, Relation.EQUAL, number=2), True),
        (Compare("a", Field.CREATED, Relation.EQUAL, number=3), True),
        (Compare("a", Field.CREATED, Relation.LESS, number=3), False),
        (Compare("a", Field.MODIFIED, Relation.EQUAL, number=4), True),
        (Compare("a", Field.MODIFIED, Relation.GREATER, number=3), True),
        (Compare.is_unchanged("a", 4), True),
        (Compare.is_unchanged("a", 3), False),
        (Compare("z", Field.MODIFIED, Relation.EQUAL), True),
    ],
)
def test_conditions(log: Log, session: int, compare: Compare, holds: bool) -> None:
    log.transact(session, Step.put("a", "0"))
    log.transact(session, Step.put("a", "1"))
    assert log.stamp == 4
    done = log.transact(session, Step.put("x", "then"), compares=(compare,), otherwise=(Step.put("x", "else"),))
    assert done.succeeded is holds
    assert value(log, "x") == (b"then" if holds else b"else")


def test_all_conditions_have_to_hold(log: Log, session: int) -> None:
    compares = (Compare.is_absent("a"), Compare.exists("b"))
    assert not log.transact(session, Step.put("x", "1"), compares=compares).succeeded
    assert value(log, "x") is None


def test_keys_are_listed_in_order_by_prefix(log: Log, session: int) -> None:
    log.transact(session, *(Step.put(key, "v") for key in ("b", "a/2", "a/10", "ab", "a/")))
    found = ReadKeys("a/").look(log.state)
    assert isinstance(found, Entries)
    assert [entry.key for entry in found.entries] == ["a/", "a/10", "a/2"]
    assert found.revision == log.stamp
    assert ReadKey("nothing").look(log.state) == Entries(log.stamp, ())


# ---- TTL


def test_a_key_with_a_ttl_goes_at_a_tick_and_who_watches_is_told(log: Log, session: int) -> None:
    put = log.transact(session, Step.put("k", "v", ttl=5.0), Step.put("kept", "v")).revision
    log.tick(5000 + TICK_MS_MAX - 1)
    assert value(log, "k") == b"v"
    log.tick(1)
    assert (value(log, "k"), value(log, "kept")) == (None, b"v")
    news = AwaitChanges("", put).look(log.state)
    assert news is not None
    assert [revision.changes for revision in news.revisions] == [(Change("k", ChangeKind.EXPIRED),)]
    assert news.after == log.stamp


def test_putting_it_again_begins_anew_or_ends_the_ttl(log: Log, session: int) -> None:
    log.transact(session, Step.put("again", "v", ttl=5.0), Step.put("for good", "v", ttl=5.0))
    log.tick(4000)
    log.transact(session, Step.put("again", "v", ttl=5.0), Step.put("for good", "v"))
    log.tick(4000)
    assert value(log, "again") == b"v"
    log.tick(4000)
    assert (value(log, "again"), value(log, "for good")) == (None, b"v")


def test_keys_with_a_ttl_keep_the_time_counted(log: Log, session: int) -> None:
    log.transact(session, Step.put("k", "v", ttl=600.0))
    log.tick(100_000)
    assert log.state.sessions.get(session) is None
    assert log.state.has_deadlines


# ---- bounds


@pytest.mark.parametrize("ttl_s", [0, 0.5, -3, 86_401, math.inf, math.nan])
def test_a_key_lasts_neither_too_long_nor_too_short(ttl_s: float) -> None:
    with pytest.raises(InvalidArgument, match=rf"a TTL of {ttl_s:g} s: choose 1 to 86400 s"):
        Step.put("k", "v", ttl=ttl_s)


@pytest.mark.parametrize("value", [5, True, None, ["a"]])
def test_a_value_is_text_or_bytes(value: object) -> None:
    with pytest.raises(InvalidArgument, match=r"is neither str nor bytes: encode it"):
        Step.put("k", value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("steps", "why"),
    [
        ((Step.put("", "v"),), "a key is empty"),
        ((Step.put("k" * 513, "v"),), "longer than 512 bytes"),
        ((Step.get("\ud800"),), "no UTF-8 form"),
        ((Step.put("k", b"v" * 65_537),), "has 65537 bytes and at most 65536 may"),
        ((Step(StepKind.PUT, "k", b"v", 500),), "a TTL of 0.5 s: choose 1 to 86400 s"),
        ((Step(StepKind.PUT, "k", b"v", -1),), "choose 1 to 86400 s"),
        ((Step.put("k", "1"), Step.delete("k")), "written twice"),
        (tuple(Step.get("k") for _ in range(65)), "65 steps in one transaction: split it into at most 64"),
        ((Step.put("k", b"v" * 60_000), Step.put("l", b"v" * 60_000)), "a transaction of 120002 bytes: split it"),
    ],
)
def test_what_is_out_of_bounds_is_refused_with_a_way_out(
    log: Log, session: int, steps: tuple[Step, ...], why: str
) -> None:
    for command in (
        Transact(log.request(session), (), steps),
        Transact(log.request(session), (), (), steps),
    ):
        assert why in command.problem()
        if "\ud800" not in steps[0].key:  # no bytes can say that
            assert log.refused(command) == "invalid_argument"


def test_the_whole_has_a_bound_and_shrinking_goes_on(log: Log, session: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "STORE_BYTES_MAX", 1000)
    log.transact(session, Step.put("a", "v" * 800))
    full = Transact(log.request(session), (), (Step.put("b", "v" * 200),))
    assert log.refused(full) == "config_full"
    log.transact(session, Step.put("a", "v" * 100))
    log.transact(session, Step.put("b", "v" * 200))
    both = Transact(log.request(session), (), (Step.delete("b"), Step.put("c", "v" * 900)))
    assert log.refused(both) == "config_full"
    assert value(log, "b") is not None, "all of it or nothing"
    monkeypatch.setattr(bounds, "STORE_BYTES_MAX", 100)
    log.transact(session, Step.put("b", "v" * 100))


def test_what_a_transaction_returns_has_a_bound(log: Log, session: int) -> None:
    for number in range(9):
        log.transact(session, Step.put(f"k{number}", b"v" * 60_000))
    reads = tuple(Step.get(f"k{number}") for number in range(9))
    assert log.refused(Transact(log.request(session), (), reads)) == "invalid_argument"
    assert len(log.transact(session, *reads[:8]).found) == 8


# ---- watching


def follow(log: Log, prefix: str, after: int) -> list[tuple[int, str]]:
    """All changes after a revision, as a watcher collects them."""
    seen: list[tuple[int, str]] = []
    while (news := AwaitChanges(prefix, after).look(log.state)) is not None:
        assert not news.compacted
        seen += [(revision.revision, change.key) for revision in news.revisions for change in revision.changes]
        after = news.after
    return seen


def test_watchers_see_every_change_in_order_from_wherever_they_begin(log: Log, session: int) -> None:
    made = [(log.transact(session, Step.put(f"k{number % 3}", "v")).revision, f"k{number % 3}") for number in range(20)]
    for place in range(20):
        assert follow(log, "", made[place][0]) == made[place + 1 :]
    assert follow(log, "k1", 0) == [change for change in made if change[1] == "k1"]


def test_what_a_transaction_changed_comes_together(log: Log, session: int) -> None:
    log.transact(session, Step.put("a", "1"), Step.put("b", "1"), Step.put("c", "1"))
    news = AwaitChanges("", 0).look(log.state)
    assert news is not None
    (revision,) = news.revisions
    assert [change.key for change in revision.changes] == ["a", "b", "c"]


def test_a_watcher_waits_while_there_is_nothing_for_it(log: Log, session: int) -> None:
    revision = log.transact(session, Step.put("a", "1")).revision
    assert AwaitChanges("", revision).look(log.state) is None
    assert AwaitChanges("b", 0).look(log.state) is None


def test_a_watcher_is_told_how_far_it_has_come_past_what_it_does_not_want(log: Log, session: int) -> None:
    for _ in range(PROGRESS_CHANGES - 1):
        log.transact(session, Step.put("other", "v"))
    assert AwaitChanges("mine", 0).look(log.state) is None
    last = log.transact(session, Step.put("other", "v")).revision
    assert AwaitChanges("mine", 0).look(log.state) == Changes((), last)


@pytest.mark.parametrize("bound", ["HISTORY_CHANGES_MAX", "HISTORY_BYTES_MAX"])
def test_a_watcher_of_forgotten_changes_is_told_from_where_to_go_on(
    log: Log, session: int, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    monkeypatch.setattr(bounds, bound, 10 if bound == "HISTORY_CHANGES_MAX" else 1500)
    made = [log.transact(session, Step.put("k", "v")).revision for _ in range(40)]
    news = AwaitChanges("", made[0]).look(log.state)
    assert news is not None
    assert news.revisions == ()
    assert made[20] < news.compacted < made[-1]
    place = made.index(news.compacted)
    assert follow(log, "", news.compacted) == [(revision, "k") for revision in made[place + 1 :]]
    early = AwaitChanges("", made[place - 1]).look(log.state)
    assert early is not None
    assert early.compacted == news.compacted
