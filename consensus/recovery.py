"""Reading a log back from its files, damaged or not.

What cannot be read leaves a hole: from the first entry that the damaged record may have brought or replaced. Behind it
the log is read on, for three reasons. A later batch may replace what is in the hole. A snapshot may cover it. And what
comes last says which term, which vote and which end the log had, so that the node keeps its promises although it has
lost entries (Alagappan et al., FAST 2018): the log then ends before the hole, and `Lost` says what it had.

Only where nothing behind the damage says that, it cannot be known: the last record is damaged in the part that gives
term and vote, or is cut off in a file that is also damaged. That ends in `CorruptLog`.
"""

import struct
from collections import OrderedDict
from dataclasses import dataclass, field, replace

from consensus.disk import Disk
from consensus.errors import CorruptLog, CorruptSnapshot, Damage, ForeignLog
from consensus.image import check_image
from consensus.index import Places, Terms
from consensus.memory import Lost
from consensus.messages import Entry, HardState, Snapshot
from consensus.records import REMEDY, RecordScan
from consensus.segments import Batch, Head, batch_entries, decode_batch, decode_head


@dataclass(frozen=True, slots=True)
class FileReport:
    """What one file of a log has.

    Attributes:
        size: in bytes.
        batches, entries: how many can be read; entries that were replaced later included.
        torn_bytes: at its end, never synced.
        is_room: whether these are room that was made ahead.
        end: where the next record belongs.
        head: None if it cannot be read.
    """

    number: int
    path: str
    size: int
    batches: int
    entries: int
    torn_bytes: int
    is_room: bool
    end: int
    head: Head | None

    @property
    def is_void(self) -> bool:
        """Whether the file's first record never got to the disk."""
        return self.end == 0 and self.head is None


@dataclass(slots=True)
class Recovered:
    """A log as it was read.

    Attributes:
        terms, places: of its entries.
        state: the hard state; its commit index within the log.
        lost: what it has lost and not regained.
        snapshot: the one whose state the log goes on from.
        snapshots: those whose images are sound, the latest last.
        is_cut: whether it does not end where its records say that it did.
        recent: the last entries, record by record.
    """

    terms: Terms
    places: Places
    state: HardState
    lost: Lost | None
    snapshot: Snapshot
    snapshots: tuple[Snapshot, ...]
    is_cut: bool
    recent: list[list[Entry]]


@dataclass(slots=True)
class _Run:
    """Entries without a hole among them."""

    terms: Terms = field(default_factory=Terms)
    places: Places = field(default_factory=Places)

    def has(self, index: int) -> bool:
        """Whether entries that follow the index can follow here."""
        return self.terms.start <= index <= self.terms.last

    def truncate(self, last: int) -> None:
        self.terms.truncate(last)
        self.places.truncate(last)

    def compact(self, start: int, start_term: int) -> None:
        self.terms.compact(start, start_term)
        self.places.compact(start)


class Replay:
    """Takes the files of one log, in their order.

    Attributes:
        head: the last that was read.
        damages: all that was found, also what no longer matters.
        files: what is in each.
    """

    def __init__(self, owner: bytes | None, *, cache_bytes: int) -> None:
        """For the log of that owner; None for anyone's. As much as `cache_bytes` of the entries is kept."""
        self._owner = owner
        self._cache_bytes = cache_bytes
        # The latest batches with entries, as they were read.
        self._recent: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._recent_bytes = 0
        self._run = _Run()
        # The entries before the hole and the first index in it, while there is one; `_run` is then what follows it.
        self._before: tuple[_Run, int] | None = None
        self._state = HardState()
        self._end = (0, 0)
        self._unknown: Damage | None = None
        # Where the log ended before a head that can't be read: it may have said that the end was cut off as damaged.
        # And the damage, if that is not known either.
        self._had: tuple[int, int] | None = None
        self._had_unknown: Damage | None = None
        self.head: Head | None = None
        self.damages: list[Damage] = []
        self.files: list[FileReport] = []

    # ---- files

    def read(self, disk: Disk, number: int, path: str, *, is_last: bool) -> None:
        """Read the next file.

        Raises:
            CorruptLog: a record is whole and of no kind that this version knows.
            ForeignLog: it is another owner's, or of another format.
            OSError: it cannot be read.
        """
        if self.files and number != self.files[-1].number + 1:
            self._damaged(Damage(path, 0, 0, f"the file with number {number - 1}, before it, is missing"))
        file = disk.open(path, create=False)
        try:
            scan = RecordScan(file, path, on_damage=self._damaged)
            head, batches, entries = None, 0, 0
            for offset, payload in scan:
                try:
                    if offset == 0:
                        head = self._take_head(decode_head(payload, path), path)
                    else:
                        entries += self._take_batch(payload, number, offset)
                        batches += 1
                except (struct.error, ValueError) as error:
                    raise CorruptLog(
                        f"the record at byte {offset} of {path} is whole but does not decode: {error}. Start the"
                        " version that wrote it"
                    ) from error
            if not is_last and (scan.torn_bytes or not scan.end):
                what = "it ends within a record, and a newer file follows, which is begun only when this one is on disk"
                self._damaged(Damage(path, scan.end, file.size(), what))
            torn_bytes, is_room, size = scan.torn_bytes, scan.is_room, file.size()
            self.files.append(FileReport(number, path, size, batches, entries, torn_bytes, is_room, scan.end, head))
        finally:
            file.close()

    # ---- records

    def _take_head(self, head: Head, path: str) -> Head:
        if self._owner is not None and head.owner != self._owner:
            raise ForeignLog(
                f"{path} belongs to {head.owner.hex()} and this node is {self._owner.hex()}: give the node its own data"
                " directory, and never a copy of another's"
            )
        if head.start >= head.end or (self.head is None and not self.damages):
            self._run, self._before = _Run(Terms(head.end, head.end_term)), None
        else:
            self._end_at(head)
            self._begin_at(head.start, head.start_term)
        self.head = head
        self._state, self._end, self._unknown = head.state, (head.end, head.end_term), None
        self._had = self._had_unknown = None  # whoever wrote this one knew
        return head

    def _end_at(self, head: Head) -> None:
        """Have the log end where a head says that it did: it may say that damage before it was cut off."""
        if self._before is not None and head.end < self._before[1]:
            self._run, self._before = self._before[0], None
        if self._before is None and head.end > self._run.terms.last:
            self._open_hole(self._run.terms.last + 1)
        if self._run.terms.start <= head.end:
            self._run.truncate(head.end)
        if self._run.terms.start == head.end:
            self._run.compact(head.end, head.end_term)

    def _begin_at(self, start: int, start_term: int) -> None:
        """Have the log begin where a head says that it does."""
        if self._before is not None and self._before[0].has(start):
            self._before[0].compact(start, start_term)
        if self._run.has(start):
            self._run.compact(start, start_term)
            self._before = None  # what is in the hole is not part of the log any more

    def _take_batch(self, payload: bytes, number: int, offset: int) -> int:
        batch = decode_batch(payload)
        self._state, self._end, self._unknown = batch.state, (batch.last, batch.last_term), None
        entries = batch_entries(payload, batch)
        if not entries:
            return 0
        if self._before is not None and batch.first <= self._before[1]:
            self._run, self._before = self._before[0], None  # it replaces all that is in the hole
        if batch.first > self._run.terms.last + 1 and self._before is None:
            self._open_hole(self._run.terms.last + 1)
        if not self._run.terms.start < batch.first <= self._run.terms.last + 1:
            self._run = _Run(Terms(batch.first - 1))
        for entry in entries:
            self._run.terms.append(entry.index, entry.term)
        self._run.places.append(batch.first, number, offset)
        self._recent[number, offset] = payload
        self._recent_bytes += len(payload)
        while self._recent_bytes > self._cache_bytes:
            self._recent_bytes -= len(self._recent.popitem(last=False)[1])
        return batch.count

    def _damaged(self, damage: Damage) -> None:
        self.damages.append(damage)
        # What is committed is never replaced, so at most what follows it is in doubt.
        first, batch = self._state.commit + 1, self._batch_in(damage.remains)
        if batch is None:
            is_of_head = damage.offset == 0 and bool(self.files)
            if is_of_head:
                self._had = max(self._had or self._end, self._end, key=lambda end: (end[1], end[0]))
                self._had_unknown = self._had_unknown or self._unknown
            # The head of a later file alone says nothing of term and vote that was not known before it.
            if not is_of_head or damage.remains is None:
                self._unknown = damage
        else:
            self._state, self._end, self._unknown = batch.state, (batch.last, batch.last_term), None
            if not batch.count:
                return
            first = batch.first
        self._open_hole(first)

    @staticmethod
    def _batch_in(remains: bytes | None) -> Batch | None:
        try:
            return None if remains is None else decode_batch(remains)
        except (struct.error, ValueError):
            return None

    def _open_hole(self, first: int) -> None:
        if self._before is None:
            before = self._run
        else:
            before, first = self._before[0], min(first, self._before[1])
        first = min(first, before.terms.last + 1)
        before.truncate(max(first - 1, before.terms.start))
        self._before = (before, first)
        self._run = _Run(Terms(1 << 62))  # nothing yet: the next batch begins it

    # ---- the whole

    def whole(self, disk: Disk, directory: str) -> Recovered:
        """What there is of the log, once all files are read.

        Raises:
            CorruptLog: what the node has promised cannot be known any more.
            OSError: a snapshot cannot be read.
        """
        unknown = self._unknown or self._had_unknown
        if unknown is not None or (self.damages and self.head is None):
            damage = unknown or self.damages[0]
            raise CorruptLog(
                f"{damage}. It may have said for whom the node voted, and no later record says it again, so it must not"
                f" vote any more. {REMEDY}"
            )
        self._check_end()
        sound = self._sound_snapshots(disk, directory)
        snapshot = sound[-1] if sound else Snapshot()
        run, state, lost = self._run_from(snapshot), self._state, self.head.lost if self.head else None
        last, last_term = run.terms.last, run.terms.last_term
        is_cut = (last, last_term) != self._end
        if is_cut:
            lost = _both(lost, Lost(*self._end, state.term))
        if self._had is not None:
            lost = _both(lost, Lost(*self._had, state.term))
        if lost is not None and lost.is_regained(last, last_term):
            lost = None
        # Its entries may be in the record behind it, and not have got to the disk: nobody was told of them.
        commit = min(max(state.commit, snapshot.index), last)
        state = replace(state, commit=commit)
        return Recovered(run.terms, run.places, state, lost, snapshot, sound, is_cut, self._recent_entries(run))

    def _check_end(self) -> None:
        """Pass unless the file that is damaged also ends within a record.

        A crash alone leaves such an end, of what was never synced. Beside damage it may as well be damage: what would
        tell, something behind it, may be what is damaged. Room that was made ahead is no such end.
        """
        last = next((report for report in reversed(self.files) if not report.is_void), None)
        damage = next((damage for damage in self.damages if last is not None and damage.path == last.path), None)
        if last is not None and damage is not None and last.torn_bytes and not last.is_room:
            raise CorruptLog(
                f"{damage}. It is also cut off at byte {last.end}, so nobody can tell how the node voted last. {REMEDY}"
            )

    def _recent_entries(self, run: _Run) -> list[list[Entry]]:
        recent: list[list[Entry]] = []
        end = run.terms.last + 1
        for first, number, offset in run.places.latest():
            payload = self._recent.get((number, offset))
            if payload is None:
                break
            recent.append([entry for entry in batch_entries(payload) if run.terms.start < entry.index < end])
            end = first
        return [entries for entries in reversed(recent) if entries]

    def _sound_snapshots(self, disk: Disk, directory: str) -> tuple[Snapshot, ...]:
        """The latest whose image is sound, with those before it."""
        found = self.head.snapshots if self.head else ()
        while found:
            try:
                check_image(disk, directory, found[-1])
            except CorruptSnapshot as error:
                self.damages.append(error.damage)
                found = found[:-1]
            else:
                break
        return found

    def _run_from(self, snapshot: Snapshot) -> _Run:
        """The entries that go on from a snapshot, as far as they do; and those before it that are still there."""
        run = self._run
        if self._before is not None and not run.has(snapshot.index):
            run = self._before[0]
        if not run.has(snapshot.index) or run.terms.term(snapshot.index) not in (None, snapshot.term):
            return _Run(Terms(snapshot.index, snapshot.term))
        if run.terms.start == snapshot.index:
            run.compact(snapshot.index, snapshot.term)
        return run


def _both(one: Lost | None, other: Lost) -> Lost:
    if one is None:
        return other
    return Lost(max(one.index, other.index), max(one.log_term, other.log_term), max(one.term, other.term))


def newest_head(disk: Disk, paths: dict[int, str]) -> Head | None:
    """The latest head that can be read: it says which files are part of the log; None if there is none."""
    for number in sorted(paths, reverse=True):
        file = disk.open(paths[number], create=False)
        try:
            scan = RecordScan(file, paths[number])
            for _, payload in scan:
                return decode_head(payload, paths[number])
        except (CorruptLog, struct.error, ValueError):
            pass
        finally:
            file.close()
    return None


def read_segments(disk: Disk, paths: dict[int, str], *, owner: bytes | None, cache_bytes: int = 0) -> Replay:
    """Read all files of a log.

    Args:
        paths: of the files, by their numbers, in order. Those that are no part of the log any more are left out.
        owner: whose log it has to be; None for anyone's.
        cache_bytes: how much of the latest entries to keep.

    Raises:
        As `Replay.read`.
    """
    replay = Replay(owner, cache_bytes=cache_bytes)
    newest = newest_head(disk, paths)
    found = [number for number in paths if newest is None or number >= newest.oldest]
    for number in found:
        replay.read(disk, number, paths[number], is_last=number == found[-1])
    return replay
