"""The log as the core sees it: what storage has, behind it what is still to be written, and how far each is.

    snapshot │ stored                    │ unstable                   │
             1 …   applied ≤ applying ≤ committed …        last index
                                         offset … handed out …

`committed` may be inside either part. Entries from `offset` on shadow what storage has there.
"""

from collections.abc import Sequence

from consensus.memory import LogView
from consensus.messages import Entry, Snapshot


def data_bytes(entries: Sequence[Entry]) -> int:
    """The bytes of data in the entries: what all bounds are about."""
    size = 0
    for entry in entries:
        size += len(entry.data)
    return size


def limit(entries: Sequence[Entry], bytes_max: int) -> Sequence[Entry]:
    """The longest prefix within `bytes_max` of data; at least one entry, or a large one would never get through."""
    if len(entries) == 1 or data_bytes(entries) <= bytes_max:  # as a rule
        return entries
    size = 0
    for place, entry in enumerate(entries):
        size += len(entry.data)
        if size > bytes_max and place:
            return entries[:place]
    return entries


class RaftLog:
    """One node's log.

    Args:
        applies_unstable: hand committed entries out for application together with writing them. Else only what storage
            has is handed out: where writing and applying go on at the same time, one would overtake the other.

    Attributes:
        committed: the highest index known to be on the disks of a quorum.
        applying: the highest index handed out for application.
        applied: the highest index that the application has applied.
        offset: the index of the first unstable entry, or of the next one to come.
        last: the index of the last entry, or of the snapshot if none follows it. Kept, since every message asks for it.
        snapshot: a snapshot received and not yet stored.
    """

    __slots__ = (
        "_applies_unstable",
        "_apply_bytes",
        "_apply_bytes_max",
        "_apply_paused",
        "_handed_out",
        "_piece",
        "_snapshot_handed_out",
        "_storage",
        "_unstable",
        "applied",
        "applying",
        "committed",
        "last",
        "offset",
        "snapshot",
    )

    def __init__(
        self,
        storage: LogView,
        *,
        committed: int,
        applied: int,
        apply_bytes_max: int,
        applies_unstable: bool = True,
    ) -> None:
        self._storage = storage
        self._applies_unstable = applies_unstable
        # Bounded through uncommitted_bytes_max on a leader, and on a follower by what its leader may send ahead.
        self._unstable: list[Entry] = []
        self._handed_out = 0
        self._piece: tuple[tuple[int, int, int], tuple[Entry, ...], int] | None = None
        self._apply_bytes = 0
        self._apply_bytes_max = apply_bytes_max
        self._apply_paused = False
        self._snapshot_handed_out = False
        self.last = storage.last_index()
        self.offset = self.last + 1
        self.snapshot: Snapshot | None = None
        self.committed = max(committed, storage.first_index() - 1)
        self.applying = self.applied = max(applied, storage.first_index() - 1)
        assert self.applied <= self.committed <= self.last

    def first_index(self) -> int:
        """The index of the first entry that can still be read."""
        return self.snapshot.index + 1 if self.snapshot else self._storage.first_index()

    def last_term(self) -> int:
        """The term of the entry at `last`."""
        term = self._unstable[-1].term if self._unstable else self.term(self.last)
        assert term is not None
        return term

    def term(self, index: int) -> int | None:
        """The term of the entry at `index`; None if it was compacted or is not there yet."""
        place = index - self.offset
        if place >= 0:
            return self._unstable[place].term if place < len(self._unstable) else None
        if self.snapshot:
            return self.snapshot.term if index == self.snapshot.index else None
        return self._storage.term(index)

    def matches(self, index: int, term: int) -> bool:
        """Whether the entry at `index` is of that term: then the logs agree up to there (Raft paper 5.3)."""
        place = index - self.offset
        if place >= 0:
            return place < len(self._unstable) and self._unstable[place].term == term
        return self.term(index) == term

    def is_up_to_date(self, index: int, term: int) -> bool:
        """Whether a log that ends so is at least as up to date as this one (Raft paper 5.4.1)."""
        own = self.last_term()
        return term > own or (term == own and index >= self.last)

    def entries(self, low: int, bytes_max: int, *, high: int | None = None) -> Sequence[Entry]:
        """Entries from `low` on, up to and not including `high`, as many as fit. They must not be compacted away.

        None, though there are some, only where storage can't read them any more.
        """
        end = self.last + 1 if high is None else high
        if low >= end:
            return ()
        if low >= self.offset:
            return limit(self._unstable[low - self.offset : end - self.offset], bytes_max)
        assert self.first_index() <= low, f"entry {low} was compacted away"
        found = limit(self._storage.entries(low, min(end, self.offset), bytes_max), bytes_max)
        if end > self.offset and len(found) == self.offset - low:
            found = limit([*found, *self._unstable[: end - self.offset]], bytes_max)
        return found

    def piece(self, low: int, bytes_max: int) -> tuple[tuple[Entry, ...], int]:
        """`entries` up to the end of the log, and how many bytes of data they have.

        Made once for all followers that lack the same.
        """
        key = low, self.last, bytes_max
        if self._piece is None or self._piece[0] != key:
            entries = tuple(self.entries(low, bytes_max))
            self._piece = key, entries, data_bytes(entries)
        return self._piece[1], self._piece[2]

    def append(self, entries: Sequence[Entry]) -> None:
        """Put entries at their places, in place of whatever begins there."""
        self._piece = None
        first = entries[0].index
        assert self.committed < first <= self.last + 1, f"entry {first} is committed or leaves a gap"
        if first <= self.last:
            if first >= self.offset:
                del self._unstable[first - self.offset :]
            else:
                # Storage will replace its own from here on when it gets them.
                self.offset = first
                self._unstable = []
            self._handed_out = min(self._handed_out, first - self.offset)
        self._unstable.extend(entries)
        self.last = entries[-1].index

    def first_conflict(self, entries: Sequence[Entry]) -> int | None:
        """The place in `entries` of the first that the log has not; None if it has them all."""
        if entries and entries[0].index > self.last:  # as a rule
            return 0
        for place, entry in enumerate(entries):
            if not self.matches(entry.index, entry.term):
                return place
        return None

    def agreement_hint(self, index: int, term: int) -> tuple[int, int]:
        """The highest index up to `index` whose term is at most `term`, and that entry's term.

        All above it differ for certain from a log that has `term` at `index`, because terms only rise along a log.
        The term is 0 where the entry cannot be read. This skips a whole term at once (Raft paper, end of 5.3).
        """
        while index > 0:
            own = self.term(index)
            if own is None:
                return index, 0
            if own <= term:
                return index, own
            index -= 1
        return 0, 0

    def commit_to(self, index: int) -> bool:
        """Raise the commit index. False if it was there already."""
        if index <= self.committed:
            return False
        assert index <= self.last, f"commit index {index} is beyond the log's end at {self.last}"
        self.committed = index
        return True

    def restore(self, snapshot: Snapshot) -> None:
        """Replace the log by a snapshot."""
        assert snapshot.index > self.committed
        self.snapshot = snapshot
        self._snapshot_handed_out = False
        self._piece = None
        self._unstable = []
        self._handed_out = 0
        self.offset = snapshot.index + 1
        self.committed = self.last = snapshot.index

    def stored_snapshot(self) -> Snapshot:
        """The latest snapshot, for a follower that needs one."""
        return self.snapshot or self._storage.snapshot()

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to write and nothing to apply, as after most messages."""
        return self.applying >= self.committed and self._handed_out == len(self._unstable) and self.snapshot is None

    # What is to be written.

    @property
    def has_unstable(self) -> bool:
        """Whether there are entries that storage is not known to have."""
        return bool(self._unstable)

    def unwritten(self) -> tuple[Entry, ...]:
        """The unstable entries that were not handed out yet."""
        return tuple(self._unstable[self._handed_out :]) if self._handed_out < len(self._unstable) else ()

    def unwritten_snapshot(self) -> Snapshot | None:
        """The snapshot to store, if it was not handed out yet."""
        return None if self._snapshot_handed_out else self.snapshot

    def hand_out(self) -> None:
        """Everything unstable is on its way to storage."""
        self._handed_out = len(self._unstable)
        self._snapshot_handed_out = self.snapshot is not None

    def stored(self, index: int, term: int) -> None:
        """Storage has the entries up to `index`. Without effect if the entry there was replaced meanwhile."""
        if index < self.offset or not self.matches(index, term):
            return
        count = index - self.offset + 1
        del self._unstable[:count]
        self._handed_out = max(self._handed_out - count, 0)
        self.offset += count

    def snapshot_stored(self, index: int) -> None:
        """Storage has the snapshot at `index`."""
        if self.snapshot and self.snapshot.index == index:
            self.snapshot = None
            self._snapshot_handed_out = False

    # What is to be applied.

    def unapplied(self) -> Sequence[Entry]:
        """Committed entries to hand out, as many as fit beside those handed out and not applied yet."""
        if self.applying >= self.committed or self._apply_paused or self.snapshot:
            return ()
        room = self._apply_bytes_max - self._apply_bytes
        return self.entries(self.applying + 1, room, high=self._appliable + 1)

    @property
    def _appliable(self) -> int:
        """The highest index that may be handed out for application."""
        return self.committed if self._applies_unstable else min(self.committed, self.offset - 1)

    def begin_applying(self, entries: Sequence[Entry]) -> int:
        """The entries were handed out; how many bytes of data they have."""
        self.applying = entries[-1].index
        size_bytes = data_bytes(entries)
        self._apply_bytes += size_bytes
        # Also where the next one did not fit: small ones behind it would otherwise come in batches of their own.
        self._apply_paused = self._apply_bytes >= self._apply_bytes_max or self.applying < self._appliable
        return size_bytes

    def finish_applying(self, index: int, size_bytes: int) -> None:
        """The application has applied what was handed out up to an index, with so many bytes of data."""
        self._apply_bytes -= size_bytes
        assert self._apply_bytes >= 0
        self._apply_paused = self._apply_bytes >= self._apply_bytes_max
        self.applied_to(index)

    def applied_to(self, index: int) -> None:
        """The application's state is that after `index`."""
        assert self.applied <= index <= self.committed, f"{index} is not between {self.applied} and {self.committed}"
        self.applied = index
        self.applying = max(self.applying, index)
