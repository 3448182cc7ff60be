"""Messages on their way out: what must not leave yet, and what waits a moment for company."""

from dataclasses import replace

import pytest

from consensus.messages import Entry, EntryKind, HardState, Message, MessageKind
from consensus.outbox import COMPANY_S, WITHHELD_MAX, Outbox
from consensus.ready import StorageAppend

Sent = list[Message]
ENTRIES = (Entry(1, 5, EntryKind.NORMAL, b"data"),)


def message(kind: MessageKind, *, to: int = 2, entries: tuple[Entry, ...] = (), commit: int = 0) -> Message:
    return Message(kind, to=to, sender=1, term=1, entries=entries, commit=commit)


def append(*, to: int = 2, entries: tuple[Entry, ...] = (), commit: int = 0) -> Message:
    return message(MessageKind.APPEND, to=to, entries=entries, commit=commit)


@pytest.fixture
def sent() -> Sent:
    return []


@pytest.fixture
def outbox(sent: Sent) -> Outbox:
    return Outbox(HardState(term=1), sent.append)


def test_an_append_with_entries_goes_at_once(outbox: Outbox, sent: Sent) -> None:
    outbox.take([append(entries=ENTRIES)], None)
    outbox.flush(0.0)
    assert len(sent) == 1
    assert outbox.due is None


def test_one_without_entries_waits_and_then_goes(outbox: Outbox, sent: Sent) -> None:
    outbox.take([append(commit=4)], None)
    outbox.flush(10.0)
    assert (sent, outbox.due) == ([], 10.0 + COMPANY_S)
    outbox.flush(10.0 + COMPANY_S / 2)
    assert sent == []
    outbox.flush(10.0 + COMPANY_S)
    assert [one.commit for one in sent] == [4]
    outbox.flush(20.0)
    assert (len(sent), outbox.due) == (1, None)


def test_a_later_append_to_the_same_node_takes_its_place(outbox: Outbox, sent: Sent) -> None:
    outbox.take([append(commit=4), append(to=3, commit=4)], None)
    outbox.flush(0.0)
    outbox.take([append(entries=ENTRIES, commit=4)], None)
    outbox.flush(COMPANY_S)
    assert [(one.to, len(one.entries)) for one in sent] == [(2, 1), (3, 0)]


def test_the_latest_of_several_without_entries_goes_when_the_first_had_to(outbox: Outbox, sent: Sent) -> None:
    outbox.take([append(commit=4)], None)
    outbox.flush(0.0)
    outbox.take([append(commit=6)], None)
    outbox.flush(COMPANY_S / 2)
    outbox.flush(COMPANY_S)
    assert [one.commit for one in sent] == [6]


def test_what_else_goes_to_that_node_does_not_overtake_it(outbox: Outbox, sent: Sent) -> None:
    answer = message(MessageKind.READ_INDEX_RESPONSE)
    outbox.take([append(commit=4), answer], None)
    assert [one.kind for one in sent] == [MessageKind.APPEND, MessageKind.READ_INDEX_RESPONSE]


def test_who_waits_for_a_commit_hears_of_it_at_once(outbox: Outbox, sent: Sent) -> None:
    outbox.await_commit(2, 6)
    outbox.take([append(commit=5)], None)
    assert sent == []
    outbox.take([append(commit=6), append(to=3, commit=6)], None)
    assert [(one.to, one.commit) for one in sent] == [(2, 6)]
    outbox.take([append(commit=7)], None)
    assert len(sent) == 1, "it waited for 6"


def test_who_waits_for_several_commits_hears_of_the_last_at_once(outbox: Outbox, sent: Sent) -> None:
    outbox.await_commit(2, 6)
    outbox.await_commit(2, 9)
    for commit in (5, 6, 9, 10):
        outbox.take([append(commit=commit)], None)
    assert [one.commit for one in sent] == [9]


def test_a_term_that_is_not_on_disk_is_not_named(outbox: Outbox, sent: Sent) -> None:
    promise = StorageAppend(HardState(term=2, vote=1), (), None, must_sync=True, responses=())
    outbox.take([message(MessageKind.VOTE), append()], promise)
    outbox.flush(0.0)
    outbox.flush(COMPANY_S)
    assert sent == []
    outbox.stored(promise)
    assert [one.kind for one in sent] == [MessageKind.VOTE, MessageKind.APPEND]


def test_what_waits_for_a_disk_that_hangs_is_bounded_and_the_latest_of_it_leaves(outbox: Outbox, sent: Sent) -> None:
    promise = StorageAppend(HardState(term=2, vote=1), (), None, must_sync=True, responses=())
    outbox.take([], promise)
    for index in range(2 * WITHHELD_MAX):
        outbox.take([replace(message(MessageKind.HEARTBEAT_RESPONSE), round=index)], None)
    assert outbox.is_withholding
    assert (outbox.stored(promise), outbox.is_withholding) == (True, False)
    assert [one.round for one in sent] == [*range(WITHHELD_MAX, 2 * WITHHELD_MAX)]
