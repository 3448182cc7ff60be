"""Which files of the journal are still needed, and by which partitions."""

from meshnode.identity import PartitionId
from meshnode.partitions.messages import Dropped, Entry, Snapshot

_WHOLE = (Snapshot, Dropped)


class Retention:
    """Notes each entry with its file: a partition needs the file of its last whole copy, and all that follow it."""

    def __init__(self) -> None:
        self.copies_bytes = 0
        """Of the last whole copies of all partitions together: what the journal holds at least."""
        self._needed_from: dict[PartitionId, int] = {}
        self._copy_bytes: dict[PartitionId, int] = {}

    def note(self, entry: Entry, *, file: int, size: int) -> None:
        """An entry of ``size`` bytes is in this file, or a later one; in the order of the journal."""
        partition = entry.partition
        if isinstance(entry, _WHOLE):
            self._needed_from[partition] = file
            self.copies_bytes += size - self._copy_bytes.get(partition, 0)
            self._copy_bytes[partition] = size
        else:
            self._needed_from.setdefault(partition, file)

    def oldest_needed(self) -> int | None:
        """The oldest file that a partition needs; None while nothing was noted."""
        return min(self._needed_from.values(), default=None)

    def needing(self, file: int) -> list[PartitionId]:
        """The partitions that need this file or an older one."""
        return [partition for partition, oldest in self._needed_from.items() if oldest <= file]
