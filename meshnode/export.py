"""Hands a consistent image of the metadata out, part by part, to whoever makes a snapshot of it.

1. A stream begins with the state at one moment, which goes on changing meanwhile: what is handed out is of that moment.
2. Whoever reads asks for one part after the other. The last one is kept, and given again if its answer was lost.
3. Little is held beside the frozen state, which shares its records with the present one: parts are made as they are
   asked for. There are few streams, and one that nobody reads is forgotten.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from crc32c import crc32c

from consensus.environment import Image
from meshnode.errors import InvalidArgument, NotFound, Overloaded, Unavailable
from meshnode.host import Host

PART_BYTES: Final = 256 * 2**10
"""One answer: far below what a frame may have, and a few milliseconds' work."""

STREAMS_MAX: Final = 4
"""Each keeps a state that may be gone from the metadata since."""

PATIENCE_S: Final = 30.0
"""How long a stream is kept that nobody reads: longer than a client waits for one answer."""


@dataclass(frozen=True, slots=True)
class Part:
    """The next bytes.

    Attributes:
        offset: of the first.
        checksum: CRC32C of all bytes up to the end of this part.
        is_last: whether nothing follows.
    """

    offset: int
    data: bytes
    checksum: int
    is_last: bool


class _Stream:
    """One image on its way. `part` runs in another thread, once at a time."""

    def __init__(self, image: Image, now: float) -> None:
        self.used_at_s = now
        self.is_busy = False
        self.last = Part(0, b"", 0, is_last=False)
        self._image = image
        self._pieces: Iterator[bytes] | None = None
        self._waiting = bytearray()

    @property
    def end(self) -> int:
        """How much was handed out."""
        return self.last.offset + len(self.last.data)

    def advance(self) -> None:
        """Make the next part."""
        if self._pieces is None:
            self._pieces = iter(self._image())
        is_last = False
        while len(self._waiting) < PART_BYTES and not is_last:
            piece = next(self._pieces, None)
            is_last = piece is None
            self._waiting += piece or b""
        data = bytes(self._waiting[:PART_BYTES])
        del self._waiting[:PART_BYTES]
        checksum = crc32c(data, self.last.checksum)
        self.last = Part(self.end, data, checksum, is_last=is_last and not self._waiting)


class Exports:
    """All streams of one node."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._streams: dict[int, _Stream] = {}

    def begin(self, image: Image) -> int:
        """Begin a stream of an image; its number.

        Raises:
            Overloaded: too many are being read.
        """
        now = self._host.now()
        for number, stream in list(self._streams.items()):
            is_idle = now >= stream.used_at_s + PATIENCE_S and not stream.is_busy
            if is_idle or stream.last.is_last:
                del self._streams[number]
        if len(self._streams) >= STREAMS_MAX:
            raise Overloaded(f"{STREAMS_MAX} snapshots are being taken at this node already: retry later")
        number = self._host.fresh_id(53)
        self._streams[number] = _Stream(image, now)
        return number

    async def part(self, number: int, offset: int) -> Part:
        """The part at an offset: the next one, or once more the one before.

        Raises:
            NotFound: there is no such stream, or not any more.
            InvalidArgument: the offset is of no such part.
            Unavailable: the part is being made for an earlier question.
        """
        stream = self._streams.get(number)
        if stream is None:
            raise NotFound("the snapshot is not being taken any more, or was begun at another node: begin anew")
        if stream.is_busy:
            raise Unavailable("this part is being made already")
        stream.used_at_s = self._host.now()
        if stream.last.data and offset == stream.last.offset:
            return stream.last
        if offset != stream.end or stream.last.is_last:
            raise InvalidArgument(f"offset {offset} of a snapshot that is read up to {stream.end}: parts come in order")
        stream.is_busy = True
        try:
            await self._host.run_blocking(stream.advance)
        finally:
            stream.is_busy = False
        return stream.last
