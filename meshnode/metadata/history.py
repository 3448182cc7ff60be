"""What was agreed on of late, in its order, whichever way it came: from this node's own log or from another node.

Positions are indexes of the Raft group's log. Not every index is a command's: the rest concerns the group alone.
"""

import itertools
import struct
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from meshnode import wire
from meshnode.metadata.state import Metadata

RECENT_BYTES_MAX = 4 * 2**20
"""Commands that are kept for those who are behind: minutes of a busy mesh. Who is further behind takes all of the state
at once, which is no more than that in most meshes."""

_POSITION = struct.Struct(">Q")

ENTRY_BYTES = 128
"""What it takes to keep one, beside its data."""


@dataclass(frozen=True, slots=True)
class Applied:
    """A command that was carried out.

    Attributes:
        index: where it is in the log.
        outcome: what it did; None where that is not known any more.
    """

    index: int
    outcome: object


@dataclass(frozen=True, slots=True)
class _Recent:
    index: int
    data: bytes
    outcome: object


def _nothing() -> None:
    pass


class History:
    """Hands each command to the metadata once, in order; the state machine of the Raft log.

    Attributes:
        position: up to which everything is applied.
        newest: the position of the last command; or a later one, below that of the next.
        on_change: called after each command.
    """

    def __init__(self, metadata: Metadata, *, bytes_max: int = RECENT_BYTES_MAX) -> None:
        self.position = 0
        self.newest = 0
        self.on_change: Callable[[], None] = _nothing
        self._metadata = metadata
        self._bytes_max = bytes_max
        # All commands after `_complete_after`, up to the position.
        self._recent: deque[_Recent] = deque()
        self._complete_after = 0
        self._bytes = 0

    @property
    def generation(self) -> int:
        """How often the group was recovered: positions of different generations have nothing to do with each other."""
        return self._metadata.generation

    def apply(self, index: int, data: bytes) -> Applied:
        """Carry out the next command, unless it is known already."""
        if index <= self.position:
            return Applied(index, self.outcome_at(index))
        outcome = self._metadata.apply(index, data)
        self.position = self.newest = index
        self._recent.append(_Recent(index, data, outcome))
        self._bytes += len(data) + ENTRY_BYTES
        while self._bytes > self._bytes_max:
            oldest = self._recent.popleft()
            self._complete_after = oldest.index
            self._bytes -= len(oldest.data) + ENTRY_BYTES
        self.on_change()
        return Applied(index, outcome)

    def advance(self, position: int) -> None:
        """There is no other command up to that position."""
        self.position = max(self.position, position)

    def replaced(self, position: int) -> None:
        """The metadata has become what it was at that position."""
        self._recent.clear()
        self._bytes = 0
        self.position = self._complete_after = self.newest = position
        self.on_change()

    # ---- snapshots of the Raft group's log

    def freeze(self) -> Callable[[], Iterable[bytes]]:
        """Keep the present state; the function gives out its image, in another thread.

        The state may be that of a later position than the log's, if it came from another node. The image says which.
        """
        position, image = self.position, self._metadata.freeze()
        return lambda: itertools.chain([_POSITION.pack(position)], image())

    def restore(self, pieces: Iterable[bytes]) -> Callable[[], None]:
        """Read an image, in another thread; the function puts its state in place, unless the present one is later.

        Raises:
            WireError: it is none that this version can read.
        """
        position, rest = _split(pieces)
        put_in_place = self._metadata.restore(rest)

        def become() -> None:
            if position > self.position:
                put_in_place()
                self.replaced(position)

        return become

    # ---- questions

    def outcome_at(self, index: int) -> object:
        """What the command there did; None where that is not known any more."""
        for recent in reversed(self._recent):
            if recent.index <= index:
                return recent.outcome if recent.index == index else None
        return None

    def after(self, position: int, *, bytes_max: int) -> tuple[tuple[tuple[int, bytes], ...], int] | None:
        """The commands after a position, as many as there is room for, one at least; and up to where these are all.

        None if some of them are not kept any more.
        """
        if position < self._complete_after:
            return None
        missing: list[_Recent] = []
        for recent in reversed(self._recent):
            if recent.index <= position:
                break
            missing.append(recent)
        found: list[tuple[int, bytes]] = []
        size = 0
        for recent in reversed(missing):
            size += len(recent.data) + ENTRY_BYTES
            if found and size > bytes_max:
                return tuple(found), found[-1][0]
            found.append((recent.index, recent.data))
        return tuple(found), self.position


def _split(pieces: Iterable[bytes]) -> tuple[int, Iterable[bytes]]:
    """The position with which an image begins, and the image of the metadata behind it."""
    found, begin = iter(pieces), b""
    while len(begin) < _POSITION.size:
        piece = next(found, None)
        if piece is None:
            raise wire.WireError(f"an image of {len(begin)} bytes")
        begin += piece
    (position,) = _POSITION.unpack_from(begin)
    return position, itertools.chain([begin[_POSITION.size :]], found)
