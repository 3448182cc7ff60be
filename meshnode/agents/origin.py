"""Which turn makes a call, and which turns of its partition have ended.

A turn that runs again after a crash makes its calls under the same ids and gets the answers of the first time. They
must be kept while it may run again: until its record is committed. So each such call says which turns of its partition
have not ended, and whoever keeps the answers lets go of those to the others (see `meshnode.agents.nested`).
"""

import itertools
from dataclasses import dataclass

from meshnode.identity import Epoch, PartitionId

OPEN_MAX = 64
"""Open turns that one call lists: with more of them, some that have ended are let go of by a later call."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The turn that makes a call, and how its partition's turns stood then.

    Attributes:
        partition, epoch: of the primary that runs it; no other process has that epoch.
        turn: its number in that epoch.
        horizon: all turns below it have ended, but for those in ``open``.
        open: in order.

    Raises:
        ValueError: more than `OPEN_MAX` are open.
    """

    partition: PartitionId
    epoch: Epoch
    turn: int
    horizon: int
    open: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if len(self.open) > OPEN_MAX:
            raise ValueError(f"an origin lists {len(self.open)} open turns: at most {OPEN_MAX}")

    def has_ended(self, turn: int) -> bool:
        """Whether a turn of this epoch had ended by then."""
        return turn < self.horizon and turn not in self.open

    def is_after(self, other: "Origin") -> bool:
        """Whether it tells later news of the partition: turns begin above the horizon, so below it they only end."""
        return (self.epoch, self.horizon, -len(self.open)) > (other.epoch, other.horizon, -len(other.open))


class Lineage:
    """The turns of one partition in one epoch that called others and have not ended."""

    def __init__(self, partition: PartitionId, epoch: Epoch) -> None:
        self._partition = partition
        self._epoch = epoch
        self._next = 1
        # Each is a call under way or a record that waits for its majority; both have bounds.
        self._open: dict[int, None] = {}

    def begin(self) -> int:
        """A turn is about to make its first call; its number."""
        turn = self._next
        self._next += 1
        self._open[turn] = None
        return turn

    def end(self, turn: int) -> None:
        """The turn's record is committed, or it changed nothing anywhere: it asks for no answer again."""
        self._open.pop(turn, None)

    def origin(self, turn: int) -> Origin:
        """Of a call that the turn makes now."""
        listed = tuple(itertools.islice(self._open, OPEN_MAX + 1))
        if len(listed) > OPEN_MAX:
            return Origin(self._partition, self._epoch, turn, listed[-1], listed[:-1])
        return Origin(self._partition, self._epoch, turn, self._next, listed)
