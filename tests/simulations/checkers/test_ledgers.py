"""Copies of a partition that have taken the same records hold the same."""

from collections.abc import Callable

import pytest

from meshnode import wire
from meshnode.agents.ledger import Ledger, SessionOpened, Turn
from meshnode.agents.reply import Reply, RequestId
from meshnode.identity import Epoch, NodeId, PartitionId
from meshnode.partitions.messages import Record
from simulations.checkers.ledgers import LedgersChecker
from tests.simulations.checkers.violations import Clock, violates

P, NODE = PartitionId(0), NodeId(7)
ID: RequestId = ("tally", "k", "mine")
RECORDS = (
    None,
    SessionOpened(),
    Turn("tally", "k", b"1", Reply("", b"one"), session=2, number=1, lowest=1),
    Turn("tally", "k", b"2", Reply("", b"two"), session=2, number=2, lowest=2),
    Turn("tally", "k", b"3", Reply("", b"three"), request_id="mine", keep_until_s=10.0, elapsed_s=5.0),
)


@pytest.fixture
def checker() -> LedgersChecker:
    """It has seen all records committed."""
    found = LedgersChecker(Clock())
    for sequence, record in enumerate(RECORDS, 1):
        found.committed(P, Record(Epoch(1), sequence, b"" if record is None else wire.encode(record)))
    return found


def copy() -> Ledger:
    """One that has taken the records, and was restored from its snapshot."""
    ledger, restored = Ledger(), Ledger()
    for sequence, record in enumerate(RECORDS, 1):
        if record is not None:
            ledger.apply(sequence, wire.encode(record))
    restored.restore(ledger.snapshot())
    return restored


def test_a_copy_from_a_snapshot_passes_and_one_that_is_behind_is_not_judged(checker: LedgersChecker) -> None:
    checker.check(P, NODE, copy(), len(RECORDS))
    checker.check(P, NODE, Ledger(), 2)
    checker.check(PartitionId(1), NODE, Ledger(), 0)


def no_replies(ledger: Ledger) -> None:
    ledger.sessions[2].replies = None


def no_bound(ledger: Ledger) -> None:
    ledger.sessions[2].lowest = 1


def other_state(ledger: Ledger) -> None:
    ledger.states["tally", "k"] = b"2"


def other_reply(ledger: Ledger) -> None:
    ledger.request_ids[ID] = (10.0, Reply("", b"two"))


def other_time(ledger: Ledger) -> None:
    ledger.elapsed_s = 0.0


def other_count(ledger: Ledger) -> None:
    ledger.payload_bytes += 1


@pytest.mark.parametrize("change", [no_replies, no_bound, other_state, other_reply, other_time, other_count])
def test_a_copy_that_holds_something_else_is_found(checker: LedgersChecker, change: Callable[[Ledger], None]) -> None:
    ledger = copy()
    change(ledger)
    with violates("partitions-same-state"):
        checker.check(P, NODE, ledger, len(RECORDS))
