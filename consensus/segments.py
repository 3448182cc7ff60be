"""The files of a log: what stands in them, and the one that is being written.

A log is a row of files, `<number>-<first>.log`: a serial number, and the index of the next entry when it was begun,
both in decimal. Each is made of records (`consensus.records`): a head, and then batches.

    head   0x01 · format u8 · number u32 · oldest u32 · term u64 · vote u64 · commit u64
           start u64 · start's term u64 · end u64 · end's term u64 · lost: index u64, log term u64, term u64
           count u8 · snapshots, each length u32 · bytes (`consensus.codec`) · owner bytes
    batch  0x02 · term u64 · vote u64 · commit u64 · first u64 · count u32 · last u64 · last's term u64 · CRC32C u32
           entries, as in `consensus.entries`                                                numbers big-endian

A head says all that one needs to go on without the files before it: `oldest` is the number of the first file that is
still part of the log; the log begins behind `start` and reached to `end` when the file was begun. Whatever changes the
log otherwise than by appending (a snapshot that is taken or installed, damage that is cut off) begins a new file, so
that its head is at the same time the marker of that change: it has happened once the head is on disk.

A batch gives the hard state, and the log's end, as they are after it. So both are known also where a record before the
last one cannot be read; and as that part of a batch has a checksum of its own, also where only its entries are damaged.

A file is begun only when all before it are on disk. It is written, synced and its directory synced before anything
relies on it; one whose head did not get to the disk is void.
"""

import posixpath
import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from crc32c import crc32c

from consensus.codec import decode_snapshot, encode_snapshot
from consensus.disk import Disk, File
from consensus.entries import decode_entries, encode_entries
from consensus.errors import ForeignLog
from consensus.image import image_path
from consensus.memory import Lost
from consensus.messages import Entry, HardState, Snapshot
from consensus.records import frame, room_for

FORMAT: Final = 2
RECORD_DATA_BYTES: Final = 1 << 20
"""Entry data in one record, unless one entry is larger. One that is read again, for a slow follower, is read whole."""
SNAPSHOTS_MAX: Final = 2
"""Images that are kept: the latest, and the one before for the case that it is damaged."""

_HEAD_KIND: Final = 0x01
_BATCH_KIND: Final = 0x02
_NAME: Final = re.compile(r"([0-9]{8})-([0-9]{20})\.log")
_OLD_NAME: Final = re.compile(r"[0-9]{20}\.log")

_HEAD = struct.Struct(">BBIIQQQQQQQQQQB")
_LENGTH = struct.Struct(">I")
_BATCH = struct.Struct(">BQQQQIQQ")
_CHECKSUM = struct.Struct(">I")


@dataclass(slots=True)
class Head:
    """The first record of a file; see the module."""

    owner: bytes
    number: int
    oldest: int
    state: HardState
    start: int = 0
    start_term: int = 0
    end: int = 0
    end_term: int = 0
    lost: Lost | None = None
    snapshots: tuple[Snapshot, ...] = ()


@dataclass(frozen=True, slots=True)
class Batch:
    """What a batch says beside its entries."""

    state: HardState
    first: int
    count: int
    last: int
    last_term: int


@dataclass(frozen=True, slots=True)
class Change:
    """A change of the log that begins a new file.

    Attributes:
        start, start_term: where the log begins from then on.
        oldest: the first file that is needed; None for the new one.
        snapshots: the images that are kept, the latest last.
        installed: whether the latest was received, and replaces the log.
    """

    start: int
    start_term: int
    oldest: int | None
    snapshots: tuple[Snapshot, ...]
    installed: bool = False


@dataclass(slots=True, init=False)
class Work:
    """Something to be written. Nobody changes one; see `consensus.messages` for why it is not frozen.

    Attributes:
        state: the hard state with it.
        entries: in place of any that begin at the first of them.
        size_bytes: of their data.
        last, last_term: the log's end after it.
        change: before all of it.
    """

    state: HardState
    entries: Sequence[Entry]
    size_bytes: int
    last: int
    last_term: int
    change: Change | None

    def __init__(
        self,
        state: HardState,
        entries: Sequence[Entry],
        size_bytes: int,
        last: int,
        last_term: int,
        change: Change | None = None,
    ) -> None:
        self.state = state
        self.entries = entries
        self.size_bytes = size_bytes
        self.last = last
        self.last_term = last_term
        self.change = change


class Placed(NamedTuple):
    """Where entries from `first` on were written; an `offset` of -1 says that everything before was replaced."""

    first: int
    number: int
    offset: int


# ---- bytes


def encode_head(head: Head) -> bytes:
    """The payload of a head."""
    state, lost = head.state, head.lost or Lost(0, 0, 0)
    parts = [
        _HEAD.pack(
            *(_HEAD_KIND, FORMAT, head.number, head.oldest, state.term, state.vote, state.commit),
            *(head.start, head.start_term, head.end, head.end_term, lost.index, lost.log_term, lost.term),
            len(head.snapshots),
        )
    ]
    for snapshot in head.snapshots:
        encoded = encode_snapshot(snapshot)
        parts += (_LENGTH.pack(len(encoded)), encoded)
    return b"".join([*parts, head.owner])


def decode_head(payload: bytes, path: str) -> Head:
    """What `encode_head` made.

    Raises:
        ForeignLog: it is none, or of another format.
        ValueError, struct.error: it is none of this version's making.
    """
    if len(payload) < 2 or payload[0] != _HEAD_KIND:
        raise ForeignLog(
            f"{path} is no Raft log: it begins with {payload[:16]!r}. Give the node a directory of its own"
        )
    if payload[1] != FORMAT:
        raise ForeignLog(
            f"{path} is of format {payload[1]} and this version reads {FORMAT}: start the version that wrote it"
        )
    _, _, number, oldest, term, vote, commit, start, start_term, end, end_term, *lost, count = _HEAD.unpack_from(
        payload
    )
    at = _HEAD.size
    snapshots = []
    for _ in range(count):
        (length,) = _LENGTH.unpack_from(payload, at)
        at += _LENGTH.size
        snapshot, behind = decode_snapshot(payload, at)
        if behind != at + length:
            raise ValueError(f"a snapshot has {length} bytes where {behind - at} are accounted for")
        snapshots.append(snapshot)
        at = behind
    return Head(
        payload[at:],
        number,
        oldest,
        HardState(term, vote, commit),
        start,
        start_term,
        end,
        end_term,
        Lost(*lost) if lost[0] else None,
        tuple(snapshots),
    )


def encode_batches(work: Work) -> Iterator[tuple[int, bytes]]:
    """The payloads of a piece of work, each with the index of its first entry, or 0: one, unless it is large."""
    state = work.state
    for group in (work.entries,) if work.size_bytes <= RECORD_DATA_BYTES else _groups(work.entries):
        first, last, last_term = 0, work.last, work.last_term
        if group:
            first, last, last_term = group[0].index, group[-1].index, group[-1].term
        commit = min(state.commit, last)  # what is in a later record must not count before it is there
        head = _BATCH.pack(_BATCH_KIND, state.term, state.vote, commit, first, len(group), last, last_term)
        yield first, encode_entries(head + _CHECKSUM.pack(crc32c(head)), group)


def _groups(entries: Sequence[Entry]) -> Sequence[Sequence[Entry]]:
    """Entries by the record in which they are."""
    groups: list[list[Entry]] = [[]]
    size = 0
    for entry in entries:
        if groups[-1] and size + len(entry.data) > RECORD_DATA_BYTES:
            groups.append([])
            size = 0
        groups[-1].append(entry)
        size += len(entry.data)
    return groups


def decode_batch(payload: bytes) -> Batch:
    """What a batch says beside its entries; its payload may be damaged behind that.

    Raises:
        ValueError, struct.error: it is none.
    """
    kind, term, vote, commit, first, count, last, last_term = _BATCH.unpack_from(payload)
    (checksum,) = _CHECKSUM.unpack_from(payload, _BATCH.size)
    if kind != _BATCH_KIND or checksum != crc32c(payload[: _BATCH.size]):
        raise ValueError(f"it begins with {payload[:2]!r}, and is no batch")
    return Batch(HardState(term, vote, commit), first, count, last, last_term)


def batch_entries(payload: bytes, batch: Batch | None = None) -> Sequence[Entry]:
    """The entries in the payload of a batch.

    Args:
        payload: all of it.
        batch: what `decode_batch` has made of it, if it is known.

    Raises:
        ValueError, struct.error: they are not what the batch says.
    """
    batch = batch or decode_batch(payload)
    entries, at = decode_entries(payload, _BATCH.size + _CHECKSUM.size, batch.count)
    if at != len(payload):
        raise ValueError(f"it has {len(payload)} bytes where {at} are accounted for")
    for index, entry in enumerate(entries, start=batch.first):
        if entry.index != index:
            raise ValueError(f"it has entry {entry.index} where {index} belongs")
    return entries


# ---- names


def segment_path(directory: str, number: int, first: int) -> str:
    """The path of a file of the log."""
    return posixpath.join(directory, f"{number:08}-{first:020}.log")


def find_segments(directory: str, names: Iterable[str]) -> dict[int, str]:
    """The paths of the files of a log, by their numbers, in order.

    Raises:
        ForeignLog: one is of an older format.
    """
    found = {}
    for name in sorted(names):
        if _OLD_NAME.fullmatch(name):
            raise ForeignLog(
                f"{posixpath.join(directory, name)} is of an older format: start the version that wrote it, or start"
                " this one with an empty data directory"
            )
        match = _NAME.fullmatch(name)
        if match is not None:
            found[int(match[1])] = posixpath.join(directory, name)
    return found


# ---- writing


class SegmentWriter:
    """Writes to the last file of a log, and begins others.

    Args:
        disk, directory: where the files are.
        now: what the head of a file would be that began here; the writer keeps it up to date.
        paths: of the files that are there, by their numbers.
        segment_bytes: how large a file may become before the next one begins.

    Attributes:
        sizes: of the files of the log, in bytes, by their numbers. Replaced when it changes, so that it may be read
            from another thread.
        file: the one that is written to.
    """

    def __init__(
        self, disk: Disk, directory: str, now: Head, *, paths: dict[int, str], segment_bytes: int, sizes: dict[int, int]
    ) -> None:
        self._disk = disk
        self._directory = directory
        self._now = now
        self._paths = paths
        self._segment_bytes = segment_bytes
        self._end = self._synced = self._room = 0
        self._buffer: list[bytes] = []
        self._names_changed = False
        self._stale: set[str] = set()
        self.sizes = sizes
        self.file: File | None = None

    @property
    def path(self) -> str:
        """Of the file that is written to."""
        return self._paths[self._now.number]

    @property
    def number(self) -> int:
        """Of the file that is written to."""
        return self._now.number

    def path_of(self, number: int) -> str:
        """The path of a file."""
        return self._paths[number]

    def resume(self, file: File, number: int) -> None:
        """Go on in the last file, all of which is on disk."""
        self.file = file
        self._now = replace(self._now, number=number)
        self._end = self._synced = file.size()

    def begin(self) -> None:
        """Begin a new file, durably."""
        self._begin(self._now)
        self._flush()

    def write(self, works: Sequence[Work]) -> list[Placed]:
        """Make work durable, in its order: one write and one sync, unless it changes the log or begins a file.

        Raises:
            OSError: nobody knows what of it is on disk.
        """
        placed: list[Placed] = []
        changed = False
        if self._end >= self._segment_bytes:
            self._begin(self._now)
        for place, work in enumerate(works):
            if work.change is not None:
                changed = True
                self._change(work, work.change, placed)
            elif not work.entries and place + 1 < len(works):
                continue  # the next one says the same, and later
            for first, payload in encode_batches(work):
                if first:
                    placed.append(Placed(first, self._now.number, self._end))
                self._append(payload)
            now = self._now
            now.state, now.end, now.end_term = work.state, work.last, work.last_term
        self._flush()
        if changed:
            self.clean_up()
        return placed

    def close(self) -> None:
        """Release the file."""
        if self.file is not None:
            self.file.close()

    def _change(self, work: Work, change: Change, placed: list[Placed]) -> None:
        self._flush()
        now = replace(
            self._now,
            oldest=self._now.oldest if change.oldest is None else change.oldest,
            start=change.start,
            start_term=change.start_term,
            snapshots=change.snapshots,
        )
        kept = [image_path(self._directory, snapshot) for snapshot in now.snapshots]
        before = [image_path(self._directory, snapshot) for snapshot in self._now.snapshots]
        self._stale.update(path for path in before if path not in kept)
        self._stale.difference_update(kept)  # what replaces a damaged image may have its name
        if change.installed:
            index, term = change.snapshots[-1].index, change.snapshots[-1].term
            # The state with the entries that follow comes with them, but term and vote have to be there at once.
            state = replace(work.state, commit=index)
            now = replace(now, oldest=now.number + 1, state=state, end=index, end_term=term)
            placed.append(Placed(index, now.number + 1, -1))
        self._begin(now)

    def _begin(self, now: Head) -> None:
        assert not self._buffer, "the file before must be on disk"
        if self.file is not None and self._room:
            self.file.truncate(self._end)  # zeros in a file that another one follows are records that were lost
            self.file.sync()
        self.close()
        lost = None if now.lost is None or now.lost.is_regained(now.end, now.end_term) else now.lost
        self._now = now = replace(now, number=max(self._paths, default=0) + 1, lost=lost)
        path = segment_path(self._directory, now.number, now.end + 1)
        self._paths[now.number] = path
        self.file = self._disk.open(path, create=True)
        self._end = self._synced = self._room = 0
        self._names_changed = True
        self._append(encode_head(now))

    def _append(self, payload: bytes) -> None:
        record = frame(payload, offset=self._end, synced=self._synced)
        self._buffer.append(record)
        self._end += len(record)

    def _flush(self) -> None:
        if not self._buffer:
            return
        assert self.file is not None
        if self._end > self._room:
            self._room = room_for(self._end)
            self.file.reserve(self._room)
        self.file.append(self._buffer[0] if len(self._buffer) == 1 else b"".join(self._buffer))
        self.file.sync()
        self._buffer = []
        self._synced = self._end
        if self._names_changed:
            self._disk.sync_directory(self._directory)
            self._names_changed = False
        self.sizes = {**self.sizes, self._now.number: self._end}

    def clean_up(self) -> None:
        """Remove the files that the log does not need any more, now that its last head, which says so, is on disk."""
        gone = [self._paths.pop(number) for number in list(self._paths) if number < self._now.oldest]
        self.sizes = {number: size for number, size in self.sizes.items() if number in self._paths}
        stale, self._stale = self._stale, set()
        for path in (*gone, *stale):
            if self._disk.exists(path):  # a head that was read in place of a later one, damaged, may name what is gone
                self._disk.remove(path)
        if gone or stale:
            self._disk.sync_directory(self._directory)
