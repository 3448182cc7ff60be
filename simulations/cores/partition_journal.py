"""The journal of a node in a world of partitions: what was written, what is on the disk, what a restart finds."""

from collections import deque
from dataclasses import dataclass, field

from meshnode.partitions.effects import Send
from meshnode.partitions.messages import Entry
from meshnode.partitions.retention import Retention


@dataclass(slots=True)
class Journal:
    """What a node has written.

    Attributes:
        queue: not synced yet; a `Send` marks what waits for that. Bounded by what arrives during one sync.
        at_work: how much of the queue is being synced; 0 while the disk rests.
        history: everything that was ever synced.
        deleted: how much of the history is not on the disk any more; each entry counts as a file.
        retention: says which files are needed.
    """

    queue: deque[Entry | Send] = field(default_factory=deque)
    at_work: int = 0
    history: list[Entry] = field(default_factory=list)
    deleted: int = 0
    retention: Retention = field(default_factory=Retention)

    def keep(self, entry: Entry) -> None:
        """The entry is on the disk."""
        self.retention.note(entry, file=len(self.history), size=1)
        self.history.append(entry)

    @property
    def durable(self) -> list[Entry]:
        """What a restart finds."""
        return self.history[self.deleted :]

    def reopen(self) -> None:
        """Note anew what is there."""
        self.queue.clear()
        self.at_work = 0
        self.retention = Retention()
        for index, entry in enumerate(self.durable):
            self.retention.note(entry, file=self.deleted + index, size=1)
