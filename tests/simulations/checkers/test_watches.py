"""Watches: every change once, in order, the same for all."""

import pytest

from meshnode.coordination.commands import Entry
from meshnode.coordination.store import Change, ChangeKind, Revision
from simulations.checkers.watches import WatchesChecker
from tests.simulations.checkers.violations import Clock, violates


def put(revision: int, key: str, value: bytes = b"v") -> Revision:
    return Revision(revision, (Change(key, ChangeKind.PUT, Entry(key, value, revision, revision)),))


def delete(revision: int, key: str) -> Revision:
    return Revision(revision, (Change(key, ChangeKind.DELETED),))


@pytest.fixture
def watches() -> WatchesChecker:
    """After three revisions: "a" and "b" were put, and "a" deleted."""
    watches = WatchesChecker(Clock())
    after = 0
    for revision in (put(3, "a"), put(5, "b"), delete(9, "a")):
        watches.seen("one", revision, after)
        after = revision.revision
    return watches


def test_another_watcher_sees_the_same(watches: WatchesChecker) -> None:
    watches.seen("other", put(3, "a"), 0)
    watches.seen("other", put(5, "b"), 3)
    watches.seen("late", delete(9, "a"), 5)
    watches.seen("other", put(11, "c"), 9)
    watches.check_complete({"b": b"v", "c": b"v"}, {3: "a", 11: "c"})


def test_a_revision_that_was_left_out_is_found(watches: WatchesChecker) -> None:
    with violates("watch-gap", match="other sees revision 5 after 0; others saw 3 between"):
        watches.seen("other", put(5, "b"), 0)
    with violates("watch-gap", match="goes on after revision 4, which nobody saw"):
        watches.seen("other", put(5, "b"), 4)


def test_a_revision_that_comes_again_is_found(watches: WatchesChecker) -> None:
    with violates("watch-order", match="revision 5 after 5"):
        watches.seen("one", put(5, "b"), 5)


def test_a_revision_that_is_another_one_for_somebody_is_found(watches: WatchesChecker) -> None:
    with violates("watch-differs"):
        watches.seen("other", put(3, "a", b"w"), 0)


def test_an_acknowledged_change_that_nobody_saw_is_found(watches: WatchesChecker) -> None:
    with violates("watch-lost", match="7 of k"):
        watches.check_complete({"b": b"v"}, {3: "a", 7: "k"})


def test_keys_that_the_changes_do_not_make_are_found(watches: WatchesChecker) -> None:
    watches.check_complete({"b": b"v"}, {})
    for keys in ({}, {"b": b"w"}, {"a": b"v", "b": b"v"}):
        with violates("watch-state"):
            watches.check_complete(keys, {})
