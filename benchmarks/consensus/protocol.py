"""What the benchmark's client and our node say to each other, and our nodes among themselves: frames over TCP.

frame     length u32 · body
request   number u32 · kind u8 · key (8 bytes) · value
answer    number u32 · 1 or 0: whether it went well · value
"""

import struct
from enum import IntEnum
from typing import Final

HOST: Final = "127.0.0.1"
LENGTH: Final = struct.Struct("<I")
REQUEST: Final = struct.Struct("<IB8s")
ANSWER: Final = struct.Struct("<I?")
FRAMED_REQUEST: Final = struct.Struct("<IIB8s")
FRAMED_ANSWER: Final = struct.Struct("<II?")
KEY_BYTES: Final = 8


class Kind(IntEnum):
    """What a request asks for."""

    STATUS = 0
    PUT = 1
    GET = 2


class Frames:
    """Cuts a stream into the bodies of its frames."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The bodies that are whole by now."""
        data = self._rest + data if self._rest else data
        bodies = []
        at, size = 0, len(data)
        while at + 4 <= size:
            (length,) = LENGTH.unpack_from(data, at)
            end = at + 4 + length
            if end > size:
                break
            bodies.append(data[at + 4 : end])
            at = end
        self._rest = data[at:]
        return bodies


def framed(body: bytes) -> bytes:
    """A body with its length in front."""
    return LENGTH.pack(len(body)) + body
