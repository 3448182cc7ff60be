"""An entry as bytes, the same in a log's records and in messages, so that it is encoded once wherever it goes.

entry  term u64 · index u64 · kind u8 · length u32 · data          numbers big-endian
"""

import struct
from collections.abc import Iterable
from typing import Final

from consensus.messages import Entry, EntryKind

_HEAD: Final = struct.Struct(">QQBI")
HEAD_BYTES: Final = _HEAD.size
"""What an entry takes beside its data."""

_KINDS: Final = {int(kind): kind for kind in EntryKind}


def encode_entry(entry: Entry) -> bytes:
    """The entry as bytes, made at the first call and kept with it."""
    encoded = entry.encoded
    if encoded is None:
        encoded = _HEAD.pack(entry.term, entry.index, entry.kind, len(entry.data)) + entry.data
        entry.encoded = encoded
    return encoded


def encode_entries(head: bytes, entries: Iterable[Entry]) -> bytes:
    """Some bytes, and behind them entries as bytes, one behind the other."""
    pieces = [entry.encoded or encode_entry(entry) for entry in entries]
    pieces.insert(0, head)
    return b"".join(pieces)


def decode_entries(data: bytes, at: int, count: int) -> tuple[tuple[Entry, ...], int]:
    """That many entries that begin at a place in `data`, and where they end. They keep the bytes that they came from.

    Raises:
        ValueError: they do not decode.
    """
    size = len(data)
    if count * HEAD_BYTES > size - at:
        raise ValueError(f"{count} entries cannot be in {size - at} bytes")
    unpack, kinds = _HEAD.unpack_from, _KINDS
    entries = []
    for _ in range(count):
        body = at + HEAD_BYTES
        if body > size:
            raise ValueError(f"an entry begins at byte {at} of {size} and has no room for its head")
        term, index, kind, length = unpack(data, at)
        end = body + length
        if kind not in kinds:
            raise ValueError(f"the entry at byte {at} has kind {kind}, which is not a valid EntryKind")
        if end > size:
            raise ValueError(f"the entry at byte {at} of {size} has {length} bytes of data")
        entry = Entry(term, index, kinds[kind], data[body:end])
        entry.encoded = data[at:end]
        entries.append(entry)
        at = end
    return tuple(entries), at
