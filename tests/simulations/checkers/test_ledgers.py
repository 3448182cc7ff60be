"""Copies of a partition hold what its records make."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given

from meshnode import wire
from meshnode.agents.ledger import Expired, Ledger, SessionOpened, Turn
from meshnode.agents.origin import Origin
from meshnode.agents.reply import Reply, RequestId
from meshnode.identity import Epoch, NodeId, PartitionId
from simulations.checkers.ledgers import LedgersChecker
from tests.agents.test_ledger import RECORDS as ANY_RECORDS
from tests.simulations.checkers.violations import Clock, violates

P, NODE = PartitionId(0), NodeId(7)
ID: RequestId = ("tally", "k", "mine")
NESTED = Turn("tally", "k", b"4", Reply("", b"four"), request_id="its", keep_until_s=9.0)
RECORDS: tuple[object, ...] = (
    None,
    SessionOpened(),
    Turn("tally", "k", b"1", Reply("", b"one"), session=2, number=1, lowest=1),
    Turn("tally", "k", b"2", Reply("", b"two"), session=2, number=2, lowest=2),
    Turn("tally", "k", b"3", Reply("", b"three"), request_id="mine", keep_until_s=10.0, elapsed_s=5.0),
    Turn("tally", "k", None, Reply("agent", b"no"), session=2, number=3, lowest=2),
    replace(NESTED, origin=Origin(P, Epoch(1), 1, 2, (1,))),
)


def checker_of(records: Sequence[object]) -> LedgersChecker:
    """It has seen them committed."""
    found = LedgersChecker(Clock())
    for record in records:
        found.committed(P, record)
    return found


@pytest.fixture
def checker() -> LedgersChecker:
    return checker_of(RECORDS)


def ledger_of(records: Sequence[object]) -> Ledger:
    ledger = Ledger()
    for sequence, record in enumerate(records, 1):
        if record is not None:
            ledger.apply(sequence, wire.encode(record))
    return ledger


def copy(records: Sequence[object] = RECORDS) -> Ledger:
    """One that has taken the records, and was restored from its snapshot."""
    restored = Ledger()
    restored.restore(ledger_of(records).snapshot())
    return restored


def test_copies_of_any_age_pass_and_one_that_nobody_knows_is_not_judged(checker: LedgersChecker) -> None:
    for committed in range(len(RECORDS) + 1):
        checker.check(P, NODE, copy(RECORDS[:committed]), committed)
    checker.check(P, NODE, Ledger(), len(RECORDS) + 1)
    checker.check(PartitionId(1), NODE, Ledger(), 0)


def test_an_old_copy_that_holds_something_newer_is_found(checker: LedgersChecker) -> None:
    with violates("partitions-same-state", match="after record 3: states are"):
        checker.check(P, NODE, copy(RECORDS[:4]), 3)


def no_replies(ledger: Ledger) -> None:
    ledger.sessions[2].replies = None


def no_bound(ledger: Ledger) -> None:
    ledger.sessions[2].lowest = 1


def other_state(ledger: Ledger) -> None:
    ledger.states["tally", "k"] = b"9"


def other_reply(ledger: Ledger) -> None:
    ledger.request_ids[ID] = (10.0, Reply("", b"two"))


def no_reply_to_a_turn(ledger: Ledger) -> None:
    ledger.nested.replies.clear()


def other_time(ledger: Ledger) -> None:
    ledger.elapsed_s = 0.0


def other_count(ledger: Ledger) -> None:
    ledger.payload_bytes += 1


CHANGES = [no_replies, no_bound, other_state, other_reply, no_reply_to_a_turn, other_time, other_count]


@pytest.mark.parametrize("change", CHANGES)
def test_a_copy_that_holds_something_else_is_found(checker: LedgersChecker, change: Callable[[Ledger], None]) -> None:
    ledger = copy()
    change(ledger)
    with violates("partitions-same-state"):
        checker.check(P, NODE, ledger, len(RECORDS))


@pytest.mark.parametrize("change", [no_replies, no_bound, other_state, other_reply, no_reply_to_a_turn, other_time])
def test_a_snapshot_that_leaves_something_out_is_found(
    checker: LedgersChecker, change: Callable[[Ledger], None]
) -> None:
    checker.check_snapshot(P, NODE, ledger_of(RECORDS).snapshot(), len(RECORDS))
    ledger = ledger_of(RECORDS)
    change(ledger)
    with violates("partitions-same-state"):
        checker.check_snapshot(P, NODE, ledger.snapshot(), len(RECORDS))


@pytest.mark.parametrize(
    ("last", "change"),
    [(4, no_replies), (4, no_bound), (4, other_state), (5, other_reply), (6, no_replies), (7, no_reply_to_a_turn)],
)
def test_what_the_last_record_touched_is_judged_at_once(last: int, change: Callable[[Ledger], None]) -> None:
    checker, ledger = checker_of(RECORDS[:last]), copy(RECORDS[:last])
    checker.check_last(P, NODE, ledger, last)
    checker.check_last(P, NODE, Ledger(), last - 1)
    change(ledger)
    with violates("partitions-same-state"):
        checker.check_last(P, NODE, ledger, last)


def test_a_turn_that_failed_changes_no_state_whatever_its_record_says() -> None:
    records = [*RECORDS, Turn("tally", "k", b"5", Reply("agent", b"no"), session=2, number=4, lowest=2)]
    with violates("partitions-same-state", match="states are .*b'5'.* the records make .*b'4'"):
        checker_of(records).check(P, NODE, ledger_of(records), len(records))


def test_what_a_turn_asked_for_is_kept_until_it_has_ended() -> None:
    later = replace(NESTED, request_id="later", origin=Origin(P, Epoch(1), 2, 3, (2,)))
    records = [*RECORDS, later]
    checker_of(records).check(P, NODE, copy(records), len(records))
    with violates("partitions-same-state", match="replies to turns are"):
        ledger = copy(records)
        ledger.nested.replies["tally", "k", "its"] = copy().nested.replies["tally", "k", "its"]
        checker_of(records).check(P, NODE, ledger, len(records))


def test_what_expires_goes() -> None:
    records = [*RECORDS, Expired((2,), 9.5)]
    checker_of(records).check(P, NODE, copy(records), len(records))
    with violates("partitions-same-state", match="sessions are"):
        checker_of(records).check(P, NODE, copy(), len(records))


@given(ANY_RECORDS)
def test_a_ledger_holds_what_the_plain_way_makes_of_any_records(records: list[object]) -> None:
    whole = [
        replace(record, state=None) if isinstance(record, Turn) and record.reply.code else record for record in records
    ]
    checker = checker_of(whole)
    for committed in range(len(whole) + 1):
        checker.check(P, NODE, copy(whole[:committed]), committed)
