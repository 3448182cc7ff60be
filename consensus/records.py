"""Records in a file that only grows: what was written comes back whole, or it is clear that it does not.

    ┌──────────┬─────────────┬──────────────────┬─────────┬──────────────────┐
    │ magic 4 B│ length u32  │ CRC32C of both   │ payload │ CRC32C of payload│   numbers big-endian
    └──────────┴─────────────┴──────────────────┴─────────┴──────────────────┘

The header has a checksum of its own, so that a record cut off by a crash and a record damaged later are told apart. A
crash leaves a *torn tail*: the file ends inside a record, or sectors at its end were never written and read as zeros.
Nobody was told that those bytes are durable, so they may be cut. Anything else that does not check is damage to what
may have been acknowledged, above all whatever has anything but zeros after it, and is never cut.
"""

import struct
from collections.abc import Iterator
from typing import Final

from crc32c import crc32c

from consensus.disk import File
from consensus.errors import CorruptLog

MAGIC: Final = b"\xabLg\x01"
PAYLOAD_BYTES_MAX: Final = 1 << 30
"""Larger than any batch; a length beyond it was not written by `frame`."""

_START = struct.Struct(">4sI")
_CRC = struct.Struct(">I")
_HEADER = struct.Struct(">4sII")
_SECTOR_BYTES: Final = 512
"""The smallest unit that a disk writes as a whole."""
_CHUNK_BYTES: Final = 1 << 20
"""How much is read at once: large enough that the calls cost nothing, small enough to hold."""

OVERHEAD_BYTES: Final = _HEADER.size + _CRC.size


def frame(payload: bytes) -> bytes:
    """The record of a payload of 1 … PAYLOAD_BYTES_MAX bytes."""
    if not 1 <= len(payload) <= PAYLOAD_BYTES_MAX:
        raise ValueError(f"a payload has 1 to {PAYLOAD_BYTES_MAX} bytes, not {len(payload)}: split it")
    start = _START.pack(MAGIC, len(payload))
    return b"".join((start, _CRC.pack(crc32c(start)), payload, _CRC.pack(crc32c(payload))))


class RecordScan:
    """Reads a file's records from an offset on, once, in order: iterate over (offset, payload).

    Attributes:
        end: where the next record belongs: the end of the last one read.
        torn_bytes: how many bytes follow `end`, to be cut before anything is appended. Known after the iteration.
    """

    def __init__(self, file: File, path: str, *, start: int = 0) -> None:
        self._file = file
        self._path = path
        self._size = file.size()
        self._chunk = b""
        self._chunk_offset = 0
        self.end = start
        self.torn_bytes = 0

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """Read on.

        Raises:
            CorruptLog: something that was written is not what is read.
            OSError: it cannot be read.
        """
        while self.end < self._size:
            offset = self.end
            payload = self._record(offset)
            if payload is None:
                self.torn_bytes = self._size - offset
                return
            self.end = offset + OVERHEAD_BYTES + len(payload)
            yield offset, payload

    def _record(self, offset: int) -> bytes | None:
        """The payload of the record at `offset`; None if a torn tail begins there."""
        if self._size - offset < _HEADER.size:
            return None
        header = self._bytes(offset, _HEADER.size)
        magic, length, checksum = _HEADER.unpack(header)
        sound = magic == MAGIC and 1 <= length <= PAYLOAD_BYTES_MAX and checksum == crc32c(header[: _START.size])
        if not sound:
            self._check_unwritten(offset, "the header of a record", last_written=offset + _HEADER.size)
            return None
        end = offset + OVERHEAD_BYTES + length
        if end > self._size:
            return None
        body = self._bytes(offset + _HEADER.size, length + _CRC.size)
        payload = body[:length]
        if _CRC.unpack_from(body, length)[0] != crc32c(payload):
            # Records are written front to back: if the checksum's sector is there, all of it was written.
            self._check_unwritten(offset, f"a record of {length} bytes", last_written=end - _CRC.size + 1)
            return None
        return payload

    def _check_unwritten(self, offset: int, what: str, *, last_written: int) -> None:
        """Pass if the file reads as zeros from a sector that begins before `last_written`; else it is damaged."""
        zeros = self._zeros_from(offset)
        if zeros == offset:
            return
        unwritten = -(-zeros // _SECTOR_BYTES) * _SECTOR_BYTES
        if unwritten < last_written:
            return
        raise CorruptLog(
            f"{self._path} is damaged at byte {offset} of {self._size}: {what} does not match its checksum, and it is"
            " no write that a crash cut off. Restore the file from a copy made while the node was down, or take the"
            " node out of the group and let it join again with an empty data directory, under a new id"
        )

    def _zeros_from(self, offset: int) -> int:
        """Where the zeros begin that reach to the end of the file; not before `offset`."""
        end = self._size
        while end > offset:
            start = max(offset, end - _CHUNK_BYTES)
            written = self._file.read(start, end - start).rstrip(b"\0")
            if written:
                return start + len(written)
            end = start
        return offset

    def _bytes(self, offset: int, size: int) -> bytes:
        begin = offset - self._chunk_offset
        if begin < 0 or begin + size > len(self._chunk):
            self._chunk = self._file.read(offset, max(size, _CHUNK_BYTES))
            self._chunk_offset = offset
            begin = 0
        return self._chunk[begin : begin + size]
