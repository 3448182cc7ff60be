"""The log on disk: term, vote, commit index and entries, in the order in which they were handed over; and snapshots.

Files are described in `consensus.segments` (the log) and `consensus.image` (snapshots). A later batch supersedes an
earlier one: entries that begin at an index replace all from there on.

Within the files a commit index stands before any entry that was handed over after it was known. This is a matter of
safety. A configuration change is proposed only when the one before is applied, so a node that finds the later change
in its log also finds the earlier one committed, and never stands for election in a configuration two changes old,
whose majorities need not overlap with those of today.

In memory are the latest entries, up to `LogConfig.cache_bytes`; of the others, their terms (a number or two for each
leader) and 16 bytes for each record. An older entry is read from its file, and checked, where it is asked for, which is
on the event loop. That is bounded by what was asked for and one record (`consensus.segments.RECORD_DATA_BYTES`), and
rare: committed entries are applied when they have just been written, and followers that keep up are sent the same. Only
a start, which applies what follows the snapshot, and a follower that is far behind read from the disk; each of their
appends costs about as much as to send it.

A record that is found damaged then is not a crash: what it had is no longer there to be read, `damage` says so, and the
next snapshot, which is due at once, stands for it. So it is with the image of the latest snapshot, where somebody finds
it damaged: the next one takes its place.
"""

from collections import deque
from collections.abc import Iterator, Sequence

from consensus.config import LogConfig
from consensus.disk import Disk, File
from consensus.entries import HEAD_BYTES
from consensus.errors import Damage, StorageFailed
from consensus.image import Identity
from consensus.images import Images
from consensus.index import Tail
from consensus.log import data_bytes
from consensus.memory import Lost
from consensus.messages import Configuration, Entry, HardState, Snapshot
from consensus.records import RecordScan
from consensus.recovery import Recovered
from consensus.segments import (
    SNAPSHOTS_MAX,
    Change,
    Placed,
    SegmentWriter,
    Work,
    batch_entries,
)


class DurableLog:
    """One node's log.

    `append`, `record_snapshot` and all reads belong where the core runs. `close` and what deals with images block, and
    belong elsewhere, and so does `sync` unless the disk is quick (`consensus.syncing`); `sync` and `close` never at the
    same time. All others may be called meanwhile: what is appended during a sync is durable after the next.

    Attributes:
        images: of its snapshots.
        damage: the first damage found since it was opened, or when it was opened if that has cost entries.
        unreadable: up to which index entries can't be read any more, though they have been found sound when the log was
            opened. A snapshot that covers them stands for them; those that are not applied yet are lost to this
            process, and a new one finds the damage and repairs it from the peers.
        is_image_damaged: whether the image of the latest snapshot is known to be damaged.
    """

    def __init__(
        self,
        disk: Disk,
        directory: str,
        found: Recovered,
        writer: SegmentWriter,
        config: LogConfig,
        damage: Damage | None,
    ) -> None:
        """Use `consensus.opening.open_log`."""
        self._disk = disk
        self.images = Images(disk, directory)
        self._writer = writer
        self._config = config
        self._terms = found.terms
        self._places = found.places
        self._hard_state = found.state
        self._snapshot = found.snapshot
        self._snapshots = found.snapshots
        self._lost = found.lost
        self.damage = damage
        self._tail = Tail(config.cache_bytes)
        self._tail.clear(found.terms.last + 1)
        for entries in found.recent:
            self._tail.append(entries, data_bytes(entries))
        self.unreadable = 0
        self.is_image_damaged = False
        self._reader: tuple[int, File] | None = None
        # What `append` took and `sync` has not written: what the core hands out, and commit indexes between.
        self._queued: deque[Work] = deque()
        # The first index of each of these, with the number of its piece of work, until its place is known.
        self._unplaced: deque[tuple[int, int]] = deque()
        self._placed: deque[Placed | int] = deque()
        self._taken = self._written = 0
        self._bytes_logged = self._bytes_behind(found.snapshot.index)
        self._failure: BaseException | None = None
        self.durable = (found.terms.last, found.state)
        """The last index and the hard state that the last sync made durable."""

    # What the core reads.

    def initial_state(self) -> tuple[HardState, Configuration]:
        return self._hard_state, self._snapshot.configuration

    def first_index(self) -> int:
        return self._terms.start + 1

    def last_index(self) -> int:
        return self._terms.last

    def term(self, index: int) -> int | None:
        return self._terms.term(index)

    def snapshot(self) -> Snapshot:
        return self._snapshot

    def lost(self) -> Lost | None:
        return self._lost

    def entries(self, low: int, high: int, bytes_max: int | None = None) -> Sequence[Entry]:
        assert self._terms.start < low <= high <= self._terms.last + 1, f"no entries from {low} to {high}"
        if low >= self._tail.first:  # as a rule: they were written just now
            return self._tail.slice(low, high)
        self._note_places()
        found: list[Entry] = []
        room = bytes_max
        while low < min(high, self._tail.first) and (room is None or not found or room > 0):
            piece = self._read(low, min(high, self._tail.first), room)
            if not piece:
                return found
            found += piece
            low += len(piece)
            room = None if room is None else room - data_bytes(piece)
        if low < high and (room is None or not found or room > 0):
            found += self._tail.slice(low, high)
        return found

    # What the driver does.

    def append(self, hard_state: HardState | None, entries: Sequence[Entry], snapshot: Snapshot | None = None) -> None:
        """Queue a batch for the next `sync`. It can be read at once, and is durable only after that.

        Args:
            snapshot: replaces the log, before the rest. Its image has been received (`consensus.snapshots`).

        Raises:
            StorageFailed: a write or a sync failed before.
        """
        self._check()
        if hard_state is None and not entries and snapshot is None:
            return
        if self._placed or self._tail.is_large:
            self._note_places()
        if hard_state is not None:
            self._hard_state = hard_state
        change = None if snapshot is None else self._install(snapshot)
        size_bytes = data_bytes(entries)
        if entries:
            self._terms.extend(entries)
            self._tail.append(entries, size_bytes)
        self._queue(entries, size_bytes, change)

    def sync(self) -> None:
        """Return when everything that was appended before is durable. One write and one sync, however much it is.

        Raises:
            StorageFailed: it could not be written or synced. Nobody knows how much of it is on disk, and a second try
                could report success for what is lost, so every later call raises as well.
        """
        self._check()
        works = []
        while self._queued:
            works.append(self._queued.popleft())
        if not works:
            return
        try:
            placed = self._writer.write(works)
        except OSError as error:
            self._failure = error
            raise self._failed() from error
        except BaseException as error:  # such as Ctrl-C, which leaves as little known
            self._failure = error
            raise
        self.durable = (works[-1].last, works[-1].state)
        self._placed.extend(placed)
        self._placed.append(len(works))

    def close(self) -> None:
        """Sync what is left, and release the file, whatever happens.

        Raises:
            StorageFailed: what was left could not be written. Not raised again for an earlier failure.
        """
        try:
            if self._failure is None:
                self.sync()
        finally:
            self._failure = self._failure or ValueError("the log is closed")
            self._writer.close()
            if self._reader is not None:
                self._reader[1].close()
                self._reader = None

    # Snapshots.

    @property
    def snapshot_due(self) -> bool:
        """Whether a snapshot is worth it: the log has grown by as much as the last one has, and by a minimum.

        So no more is written for snapshots than for the log, and a start reads little more of the log than that. Also
        if there are entries that can't be read any more, which a snapshot stands for, or the last is damaged.
        """
        return self.growth >= 1 or self.unreadable > self._snapshot.index or self.is_image_damaged

    @property
    def growth(self) -> float:
        """By how much the log has grown since the last snapshot, as a multiple of that which makes one due."""
        size = Identity.of(self._snapshot).size if self._snapshot.index else 0
        return self._bytes_logged / max(size, self._config.snapshot_log_bytes)

    @property
    def snapshots(self) -> Sequence[Snapshot]:
        """Those whose images are kept, the latest last."""
        return self._snapshots

    def image_found_damaged(self, snapshot: Snapshot, damage: Damage) -> None:
        """The image of a snapshot is damaged. Without effect if it is not kept any more."""
        if snapshot in self._snapshots:
            self.damage = self.damage or damage
            self.is_image_damaged = self.is_image_damaged or snapshot == self._snapshot

    def may_record(self, index: int) -> bool:
        """Whether a snapshot of that index may follow the latest: it is newer, or the image of that one is damaged."""
        return index > self._snapshot.index or (index == self._snapshot.index and self.is_image_damaged)

    def record_snapshot(self, snapshot: Snapshot) -> None:
        """Go on from a snapshot of what has been applied, whose image is written. Durable after the next `sync`.

        The log is compacted up to the snapshot before, which together with the log stands in for this one if it is
        damaged; and it keeps what followers that are a little behind may need (`LogConfig.kept_log_bytes`). It takes
        the place of one that is damaged already.
        """
        self._check()
        self._note_places()
        assert self.may_record(snapshot.index), "a snapshot does not go back in time"
        assert snapshot.index <= self._terms.last
        sound = self._snapshots[:-1] if self.is_image_damaged else self._snapshots
        before = max(sound[-1].index if sound else 0, self._terms.start)
        oldest, start = self._compaction(before, snapshot.index)
        self._snapshot = snapshot
        self._snapshots = (*sound, snapshot)[-SNAPSHOTS_MAX:]
        self.is_image_damaged = False
        self._bytes_logged = 0
        term = self._terms.term(start)
        self._terms.compact(start, term or 0)
        self._places.compact(start)
        self._queue((), 0, Change(start, term or 0, oldest, self._snapshots))

    # What goes on behind it.

    def _queue(self, entries: Sequence[Entry], size_bytes: int, change: Change | None) -> None:
        self._taken += 1
        if entries:
            self._unplaced.append((entries[0].index, self._taken))
            self._bytes_logged += size_bytes + HEAD_BYTES * len(entries)
        state, terms = self._hard_state, self._terms
        self._queued.append(Work(state, entries, size_bytes, terms.last, terms.last_term, change))

    def _install(self, snapshot: Snapshot) -> Change:
        assert snapshot.index > self._snapshot.index, "a snapshot does not go back in time"
        self._snapshot, self._snapshots = snapshot, (snapshot,)
        self._terms = type(self._terms)(snapshot.index, snapshot.term)
        self._tail.clear(snapshot.index + 1)
        self.unreadable = 0
        self.is_image_damaged = False
        self._bytes_logged = 0
        if self._lost is not None and self._lost.is_regained(snapshot.index, snapshot.term):
            self._lost = None
        return Change(snapshot.index, snapshot.term, None, self._snapshots, installed=True)

    def _note_places(self) -> None:
        """Take over what `sync` has written since: where it stands, and that it may be read from there."""
        unplaced = self._unplaced
        while self._placed:
            placed = self._placed.popleft()
            if isinstance(placed, int):
                self._written += placed
                while unplaced and unplaced[0][1] <= self._written:
                    unplaced.popleft()
            elif placed.offset < 0:
                self._places.clear()
            else:
                self._places.append(*placed)
        if self._tail.is_large:
            # What is not written yet can be read only here.
            self._tail.shrink(before=min([first for first, _ in self._unplaced], default=self._terms.last + 1))

    def _compaction(self, before: int, index: int) -> tuple[int, int]:
        """The oldest file to keep, and the index behind which the log then begins.

        Args:
            before: the index of the snapshot from which the log must still go on.
            index: that of a new one, which also stands for entries that can't be read any more.
        """
        sizes = self._writer.sizes
        kept, oldest = 0, max(sizes)
        for number in sorted(sizes, reverse=True):
            if kept >= self._config.kept_log_bytes:
                break
            oldest = number
            kept += sizes[number]
        after = self._places.find(before + 1) if before < self._terms.last else None
        if after is not None:
            oldest = min(oldest, after[0])
        first = self._places.first_from(oldest)
        start = before if first is None else min(first - 1, before)
        start = max(start, min(self.unreadable, index), self._terms.start)
        return oldest, start

    def _read(self, low: int, high: int, bytes_max: int | None) -> list[Entry]:
        """Entries from `low` on, out of one file and as many as fit; none if the first can't be read."""
        place = self._places.find(low)
        assert place is not None, f"nobody knows where entry {low} is"
        number, offset = place
        path = self._writer.path_of(number)
        damages: list[Damage] = []
        try:
            for file in self._files(number, path):
                damages.clear()
                scan = RecordScan(file, path, begin=offset, on_damage=damages.append)
                if found := self._entries_of(scan, number, low, high, bytes_max):
                    return found
        except OSError as error:
            damages = [Damage(path, offset, offset, f"it can't be read: {error.strerror or error}")]
        what = damages[0] if damages else Damage(path, offset, offset, "the record is not there any more")
        self.damage = self.damage or what
        # All that is before goes with it: who needs that needs this as well.
        self.unreadable = max(self.unreadable, self._places.end_of(number, offset, last=self._terms.last))
        return []

    def _entries_of(self, scan: RecordScan, number: int, low: int, high: int, bytes_max: int | None) -> list[Entry]:
        found: list[Entry] = []
        for offset, payload in scan:
            place = self._places.find(low)
            if place is None or place[0] != number or offset > place[1]:
                break  # the record that has the next entry is in another file, or damaged
            if offset == place[1]:
                following = self._places.next_first(low)
                end = high if following is None else min(high, following)
                found += [entry for entry in batch_entries(payload) if low <= entry.index < end]
                low = found[-1].index + 1
                if low >= high or (bytes_max is not None and data_bytes(found) >= bytes_max):
                    break
        return found

    def _files(self, number: int, path: str) -> Iterator[File]:
        """The file as it was opened for the last read of it, which may be before it has grown, and opened anew."""
        if self._reader is not None and self._reader[0] == number:
            yield self._reader[1]
        if self._reader is not None:
            self._reader[1].close()
            self._reader = None
        self._reader = (number, self._disk.open(path, create=False))
        yield self._reader[1]

    def _bytes_behind(self, index: int) -> int:
        """How large the files are that have entries behind an index."""
        place = self._places.find(index + 1) if index < self._terms.last else None
        return 0 if place is None else sum(size for number, size in self._writer.sizes.items() if number >= place[0])

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failed() from self._failure

    def _failed(self) -> StorageFailed:
        failure = str(self._failure) or type(self._failure).__name__
        return StorageFailed(
            f"{self._writer.path} cannot be used after: {failure}. Free space or replace the disk, then start the"
            " node again: it finds what is on disk"
        )
