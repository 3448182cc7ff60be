"""What happened, as a hash over all of it and the last few lines of it."""

import struct
from collections import deque
from dataclasses import dataclass

from xxhash import xxh3_64

_HEAD = struct.Struct("<dIII")

LINES_KEPT = 256
"""For people who look at a failure: what led to it."""


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that happened.

    Attributes:
        what: such as `datagram`, `stream`, `kill`, `fault`.
        subject: where, such as `10.0.0.1:7946 → 10.0.0.2:7946`.
        size: bytes of payload.
    """

    time_s: float
    what: str
    subject: str
    size: int

    def __str__(self) -> str:
        return f"{self.time_s:12.6f}  {self.what:<9} {self.subject}" + (f"  {self.size} bytes" if self.size else "")


class Trace:
    """Takes what happens, in order. Two runs did the same if their digests are equal."""

    def __init__(self) -> None:
        self._hash = xxh3_64()
        self._lines: deque[tuple[float, str, str, int]] = deque(maxlen=LINES_KEPT)
        self.noted = 0

    def note(self, time_s: float, what: str, subject: str, payload: bytes = b"") -> None:
        """Something happened."""
        self.noted += 1
        size = len(payload)
        self._hash.update(_HEAD.pack(time_s, len(what), len(subject), size) + f"{what}{subject}".encode() + payload)
        self._lines.append((time_s, what, subject, size))

    @property
    def digest(self) -> str:
        """Of everything so far."""
        return self._hash.hexdigest()

    def lines(self) -> list[Line]:
        """The last things that happened, oldest first."""
        return [Line(*line) for line in self._lines]
