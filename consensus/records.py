"""Records in a file that only grows: what was synced comes back whole, or it is clear that it does not.

    header   offset u64 │ synced u64 │ length u32 │ CRC32C of the three │ magic 4 B                numbers big-endian
    body     payload │ CRC32C of the payload, begun with the header's │ mark 1 B

A power loss leaves each sector that was not synced as it was before or after any write to it, or cut off within; of
several in a row it may keep the later and lose the earlier. What was not synced was promised to nobody and may be cut,
from the first record on that is not whole. What was synced must never be. Two rules tell them apart:

1. What is written never ends in a zero, so a loss can be seen. The last byte of each sector is a mark, put between the
   bytes of the body, and a body ends with one. A header stands within one sector; where it does not fit, marks fill the
   rest. So a header, or what a body has of one sector, that ends in zeros up to the sector's end did not get there,
   whatever zeros the payload has. Where nothing was lost and a checksum is wrong, it is damage.
2. A header says how much of the file had been synced when its record was written. What was lost had been synced after
   all if any header behind it says so, or is damaged and might have.

A header also says where it belongs: a sector that the disk wrote over another one is not taken for what was there, and
remains a witness of the syncs before it.

No reader can see that a synced sector was never written if nothing was written after the sync, nor that damage turned
the mark before the zeros of a lost write to zero as well. The rules take both for a crash. So they do with a loss whose
only witness is damaged in its magic.
"""

import re
import struct
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from crc32c import crc32c

from consensus.disk import File
from consensus.errors import CorruptLog, Damage, ForeignLog

PAYLOAD_BYTES_MAX: Final = 1 << 30
"""Larger than any batch; a length beyond it was not written by `frame`."""
SECTOR_BYTES: Final = 512
"""The smallest unit that a disk writes as a whole. Larger ones consist of several."""
REMEDY: Final = (
    "Start with an empty data directory: the node joins as a new one, and its replicas come back from the others. No"
    " copy made earlier helps: it has forgotten votes and entries that the others count on"
)

ROOM_BYTES_MIN: Final = 1 << 16
ROOM_BYTES_MAX: Final = 1 << 20
"""Room that is made at once: so much that it is made rarely, so little that it takes a moment only."""

_MAGIC: Final = b"\xab\x02Lg"
_MAGIC_OF_FORMAT_1: Final = b"\xabLg\x01"
_MARK: Final = b"\xa5"
"""Not zero, nor one wrong bit away from it."""
_OFFSET = struct.Struct(">Q")
_POSITION = struct.Struct(">QQI")
_HEADER = struct.Struct(">QQII4s")
_TRAILER = struct.Struct(">Is")
_ROOM: Final = SECTOR_BYTES - 1 - _HEADER.size
"""The last place in a sector at which a header fits."""
_CHUNK_BYTES: Final = 1 << 20
"""How much is read at once: large enough that the calls cost nothing, small enough to hold."""


class _Header(NamedTuple):
    offset: int
    synced: int
    length: int
    checksum: int


class _Damaged(Exception):
    """What is wrong with a record."""


def frame(payload: bytes, *, offset: int, synced: int) -> bytes:
    """The record of a payload of 1 … PAYLOAD_BYTES_MAX bytes, to be appended as it is.

    Args:
        offset: the size of the file when the record is appended.
        synced: how many bytes of the file the last successful sync covered.
    """
    if not 1 <= len(payload) <= PAYLOAD_BYTES_MAX:
        raise ValueError(f"a payload has 1 to {PAYLOAD_BYTES_MAX} bytes, not {len(payload)}: split it")
    assert synced <= offset
    fill = b""
    if offset % SECTOR_BYTES > _ROOM:
        fill = _MARK * _fill_bytes(offset)
        offset += len(fill)
    checksum = crc32c(_POSITION.pack(offset, synced, len(payload)))
    header = _HEADER.pack(offset, synced, len(payload), checksum, _MAGIC)
    body = payload + _TRAILER.pack(crc32c(payload, checksum), _MARK)
    return _marked(fill + header, body, offset % SECTOR_BYTES + _HEADER.size)


def room_for(size: int) -> int:
    """How large a file that has, or is about to have, so many bytes should be made ahead (`consensus.disk.File`)."""
    return size + min(max(size, ROOM_BYTES_MIN), ROOM_BYTES_MAX)


def _fill_bytes(offset: int) -> int:
    """How many marks stand at an offset before the header."""
    place = offset % SECTOR_BYTES
    return SECTOR_BYTES - place if place > _ROOM else 0


def _marked(head: bytes, body: bytes, place: int) -> bytes:
    """A head, and a body that begins at a place in a sector, with the marks at the ends of its sectors."""
    first = SECTOR_BYTES - 1 - place
    if len(body) <= first:
        return head + body
    pieces = [head + body[:first]]
    pieces += [body[begin : begin + SECTOR_BYTES - 1] for begin in range(first, len(body), SECTOR_BYTES - 1)]
    return _MARK.join(pieces)


def _marked_bytes(size: int, place: int) -> int:
    """How long `_marked` makes a body of so many bytes."""
    return size + (place + size - 1) // (SECTOR_BYTES - 1)


def _unmarked(marked: bytes, place: int, *, check: bool = True) -> bytes | None:
    """What `_marked` was given; None if a mark is missing."""
    first = SECTOR_BYTES - 1 - place
    if len(marked) <= first:
        return marked
    marks = marked[first::SECTOR_BYTES]
    if check and marks.count(_MARK) < len(marks):
        return None
    body = bytearray(marked)
    del body[first::SECTOR_BYTES]
    return bytes(body)


def _parsed(header: bytes) -> _Header | None:
    """A sound header, wherever it belongs."""
    offset, synced, length, checksum, magic = _HEADER.unpack(header)
    if magic != _MAGIC or checksum != crc32c(header[: _POSITION.size]):
        return None
    return _Header(offset, synced, length, checksum)


class RecordScan:
    """Reads a file's records, once, in order: iterate over (offset, payload).

    Args:
        begin: the offset of the record to begin with.
        on_damage: told of each piece of damage, and the scan goes on with the next record that is sound. Without it,
            damage ends the scan.

    Attributes:
        end: where the next record belongs: the end of the last one read.
        torn_bytes: how many bytes follow `end`. They were never synced, and are to be cut, durably, before anything is
            appended. Known after the iteration.
        is_room: whether these are the room that is made ahead of the end: zeros, and nothing in the file says that it
            belongs there. A write of a record's header to a wrong place leaves zeros in the right one.
    """

    def __init__(
        self, file: File, path: str, *, begin: int = 0, on_damage: Callable[[Damage], None] | None = None
    ) -> None:
        self._file = file
        self._path = path
        self._size = file.size()
        self._chunk = b""
        self._chunk_offset = 0
        self._on_damage = on_damage
        self.end = begin
        self.torn_bytes = 0
        self.is_room = False
        self._is_damaged = False

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """Read on.

        Raises:
            CorruptLog: something that was synced is not what is read.
            ForeignLog: it is of the format before this one.
            OSError: it cannot be read.
        """
        if self.end == 0 and self._bytes(0, len(_MAGIC_OF_FORMAT_1)) == _MAGIC_OF_FORMAT_1:
            raise ForeignLog(
                f"{self._path} is of an older format: start the version that wrote it, or start this one with an empty"
                " data directory"
            )
        while self.end < self._size:
            offset = self.end
            try:
                payload = self._next()
                if payload is None and self._is_written_by_now(offset):
                    payload = self._next()
                if payload is None:
                    self._check_never_synced(offset)
                    self.is_room = self._is_room(offset)
                    self.torn_bytes = self._size - offset
                    return
            except _Damaged as damaged:
                damage = Damage(self._path, offset, self._size, str(damaged), self._remains(offset))
                if self._on_damage is None:
                    raise CorruptLog(f"{damage}. {REMEDY}") from None
                self._is_damaged = True
                self._on_damage(damage)
                self.end = self._next_sound(offset)
                continue
            yield offset, payload

    def _remains(self, offset: int) -> bytes | None:
        """What is there of the payload of a damaged record; None if its header is damaged."""
        body_offset, header = self._header(offset)
        if header is None:
            return None
        place = body_offset % SECTOR_BYTES
        marked = self._bytes(body_offset, _marked_bytes(header.length + _TRAILER.size, place))
        body = _unmarked(marked, place, check=False)
        assert body is not None, "marks were not checked"
        return body[: header.length]

    def _next_sound(self, offset: int) -> int:
        """Where to go on behind a damaged record: at its end, if its header is sound.

        Else with the first record whose header is, or at the end of the file.
        """
        body_offset, header = self._header(offset)
        if header is not None:
            end = body_offset + _marked_bytes(header.length + _TRAILER.size, body_offset % SECTOR_BYTES)
            return min(end, self._size)
        for place, found in self._headers(offset + 1):
            header = _parsed(found)
            if header is not None and header.offset == place:
                return place
        return self._size

    def _headers(self, begin: int) -> Iterator[tuple[int, bytes]]:
        """Places at which, by its magic, a header may be, and what is there."""
        while begin < self._size:
            chunk = self._file.read(begin, _CHUNK_BYTES + _HEADER.size - 1)
            for magic in re.finditer(re.escape(_MAGIC), chunk):
                place = magic.end() - _HEADER.size
                if place >= 0:
                    yield begin + place, chunk[place : magic.end()]
            begin += _CHUNK_BYTES

    def _header(self, offset: int) -> tuple[int, _Header | None]:
        """Where the body of the record at an offset begins, and its header; None if that is not sound."""
        fill = _fill_bytes(offset)
        body_offset = offset + fill + _HEADER.size
        head = self._bytes(offset, body_offset - offset)
        header = _parsed(head[fill:]) if len(head) == body_offset - offset else None
        if header is None or header.offset != offset + fill or head[:fill] != _MARK * fill:
            return body_offset, None
        return body_offset, header

    def _next(self) -> bytes | None:
        """The payload of the record at `end`, which moves behind it; None, and it stays, if a part was lost."""
        offset = self.end
        body_offset, header = self._header(offset)
        if header is None:
            self._check_lost("the header of a record", offset, body_offset)
            return None
        place = body_offset % SECTOR_BYTES
        end = body_offset + _marked_bytes(header.length + _TRAILER.size, place)
        body = _unmarked(self._bytes(body_offset, end - body_offset), place) if end <= self._size else None
        payload = body[: header.length] if body is not None else b""
        if body is None or body[header.length :] != _TRAILER.pack(crc32c(payload, header.checksum), _MARK):
            self._check_lost(f"a record of {header.length} bytes", body_offset, end)
            return None
        self.end = end
        return payload

    def _check_lost(self, what: str, begin: int, end: int) -> None:
        """Pass if what was written from `begin` to `end` did not get to the disk in one of its sectors at least."""
        if end > self._size:
            return
        while begin < end:
            border = begin - begin % SECTOR_BYTES + SECTOR_BYTES
            last = min(end, border) - 1
            if not any(self._bytes(last, border - last)):
                return
            begin = border
        raise _Damaged(f"{what} does not match its checksum, and no part of it is missing as after a crash")

    def _check_never_synced(self, offset: int) -> None:
        """Pass unless a header from `offset` on says that more than that had been synced, or is damaged."""
        for place, found in self._headers(offset):
            here = _OFFSET.pack(place)
            header = _parsed(found) or _parsed(here + found[_OFFSET.size :])
            # Bytes of a payload that look like a header, copied or forged, are not likely to fit in here.
            if header is None and found.startswith(here):
                raise _Damaged(f"a part was never written, and the header at byte {place} is damaged")
            if header is not None and offset < header.synced and header.offset < self._size:
                raise _Damaged(
                    f"a part was never written, and the record of byte {header.offset} says that it was synced"
                )

    def _is_written_by_now(self, offset: int) -> bool:
        """Whether what is read there has changed since: the file may be one that is being written to."""
        before, size = self._chunk, self._chunk_offset + len(self._chunk) - offset
        self._chunk = b""
        return size <= 0 or self._bytes(offset, size)[:size] != before[-size:]

    def _is_room(self, end: int) -> bool:
        offset = end
        while offset < self._size:
            chunk = self._file.read(offset, _CHUNK_BYTES)
            if chunk.count(0) < len(chunk):
                return False
            if not chunk:
                break  # whoever writes to the file has given back its room
            offset += len(chunk)
        astray = (_parsed(found) for _place, found in self._headers(0)) if self._is_damaged else ()
        return not any(header is not None and header.offset >= end for header in astray)

    def _bytes(self, offset: int, size: int) -> bytes:
        """Bytes of the file; fewer at its end."""
        begin = offset - self._chunk_offset
        if begin < 0 or begin + size > len(self._chunk):
            self._chunk = self._file.read(offset, max(size, _CHUNK_BYTES))
            self._chunk_offset = offset
            begin = 0
        return self._chunk[begin : begin + size]
