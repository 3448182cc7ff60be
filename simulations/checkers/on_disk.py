"""How much of a copy's log is on disk, told entry by entry."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from meshnode.identity import Epoch
from meshnode.partitions.messages import Record


@dataclass(slots=True)
class OnDisk:
    """How much of a copy's log is on disk.

    Attributes:
        length: of the log on disk.
        longest: that it ever was in this life of the process.
        kept: for each entry that is queued, how many of the records before it stay.
    """

    length: int = 0
    longest: int = 0
    # As many as the journal has queued, which the journal bounds.
    kept: deque[int] = field(default_factory=deque)

    def queued(self, kept: int) -> None:
        """An entry is queued that replaces all but so many records."""
        self.kept.append(kept)

    def synced(self, length: int) -> None:
        """The oldest entry in the queue is on disk, and makes the log so long."""
        if self.kept:
            self.kept.popleft()
        self.length = length
        self.longest = max(self.longest, length)

    @property
    def lasting(self) -> int:
        """How many records are on disk now and after whatever is queued."""
        return min(self.length, min(self.kept)) if self.kept else self.length


def kept_by(epochs: Sequence[Epoch], records: Sequence[Record]) -> int:
    """How many records stay when others are put in the place of all from the first one's sequence on."""
    first = records[0].sequence - 1
    if first == len(epochs):  # as a rule: they follow
        return first
    return first + equal_at_start(epochs[first : first + len(records)], [record.epoch for record in records])


def equal_at_start(one: Sequence[Epoch], other: Sequence[Epoch]) -> int:
    """How many at the beginning are equal."""
    count = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        count += 1
    return count
