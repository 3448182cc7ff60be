"""Messages and entries as bytes."""

import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus import codec
from consensus.entries import HEAD_BYTES, decode_entries, encode_entries, encode_entry
from consensus.errors import MalformedMessage
from consensus.messages import NODE_ID_MAX, Configuration, Entry, EntryKind, Message, MessageKind, Snapshot

numbers = st.integers(0, NODE_ID_MAX)
entries = st.builds(Entry, term=numbers, index=numbers, kind=st.sampled_from(EntryKind), data=st.binary(max_size=40))
nodes = st.lists(numbers, max_size=4).map(tuple)
configurations = st.builds(
    Configuration, voters=nodes, voters_outgoing=nodes, learners=nodes, learners_next=nodes, auto_leave=st.booleans()
)
snapshots = st.builds(Snapshot, index=numbers, term=numbers, configuration=configurations, data=st.binary(max_size=40))
messages = st.builds(
    Message,
    kind=st.sampled_from(MessageKind),
    to=numbers,
    sender=numbers,
    term=numbers,
    index=numbers,
    log_term=numbers,
    entries=st.lists(entries, max_size=4).map(tuple),
    commit=numbers,
    reject=st.booleans(),
    hint=numbers,
    snapshot=st.none() | snapshots,
    transfer=st.booleans(),
    round=numbers,
    request=numbers,
    lost=st.booleans(),
)


@given(messages)
def test_a_message_comes_back_as_it_was_sent(message: Message) -> None:
    assert codec.decode(codec.encode(message)) == message


@given(messages, st.data())
def test_bytes_that_are_no_message_raise_one_error(message: Message, data: st.DataObject) -> None:
    encoded = codec.encode(message)
    cut = data.draw(st.integers(0, len(encoded) - 1))
    with pytest.raises(MalformedMessage):
        codec.decode(encoded[:cut])
    with pytest.raises(MalformedMessage):
        codec.decode(encoded + b"\0")
    damaged = bytearray(encoded)
    damaged[cut] ^= data.draw(st.integers(1, 255))
    _is_one_message_or_none(bytes(damaged))


@given(st.binary(max_size=200), st.sampled_from(MessageKind), st.integers(0, 2**6 - 1), st.tuples(*9 * [numbers]))
def test_whatever_decodes_has_no_other_form(body: bytes, kind: MessageKind, parts: int, head: tuple[int, ...]) -> None:
    _is_one_message_or_none(body)
    _is_one_message_or_none(struct.pack(">BBH9Q", codec.VERSION, kind, parts, *head) + body)


def _is_one_message_or_none(encoded: bytes) -> None:
    try:
        message = codec.decode(encoded)
    except MalformedMessage:
        return
    assert codec.encode(message) == encoded


def test_a_later_version_is_not_guessed_at() -> None:
    encoded = codec.encode(Message(MessageKind.HEARTBEAT, to=1, sender=2, term=3))
    with pytest.raises(MalformedMessage, match="version 3 and this node speaks version 2"):
        codec.decode(b"\3" + encoded[1:])


def test_a_count_beyond_the_bytes_is_refused_before_anything_is_made() -> None:
    encoded = codec.encode(Message(MessageKind.APPEND, to=1, sender=2, term=3, entries=(Entry(1, 1),)))
    place = len(encoded) - HEAD_BYTES - 4
    with pytest.raises(MalformedMessage, match="entries cannot be in"):
        codec.decode(encoded[:place] + b"\xff" * 4 + encoded[place + 4 :])


def test_an_entry_is_encoded_once_and_a_receiver_keeps_what_it_received() -> None:
    entry = Entry(3, 7, EntryKind.NORMAL, b"data")
    encoded = encode_entry(entry)
    assert encode_entry(entry) is encoded
    assert encode_entries(b"head", (entry,)) == b"head" + encoded
    (received,), end = decode_entries(b"before" + encoded, len(b"before"), 1)
    assert (received, end) == (entry, len(b"before") + len(encoded))
    assert received.encoded == encoded
    assert encode_entry(replace(received, term=4)) != encoded
