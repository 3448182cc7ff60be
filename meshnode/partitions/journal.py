"""The one journal of a node: what all its partitions must not forget, in one order, with one sync for all that waits.

    journal/00000001.log   owner and number, then batches of entries; each batch is one checksummed record
    journal/00000002.log   …

A batch is a sequence of `length (4 bytes, big-endian) | entry`. While one batch is being synced the next one fills. Old
files go once the partitions that still need them have been copied to the end (as in a log-structured store).
"""

import functools
import itertools
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import trio

from consensus.disk import Disk, File
from consensus.errors import StorageError
from consensus.records import PAYLOAD_BYTES_MAX, REMEDY, RecordScan, frame, room_for
from meshnode import wire
from meshnode.errors import DataDirectoryError, StorageFailed
from meshnode.host import Host
from meshnode.identity import PartitionId
from meshnode.partitions.config import PartitionsConfig
from meshnode.partitions.messages import Dropped, Entry, Log, Promise, Snapshot
from meshnode.partitions.retention import Retention

DIRECTORY = "journal"
BATCH_BYTES_MAX = 16 * 2**20
"""Of several entries in one record; a record is read as a whole when the node starts."""

COPIES_FACTOR = 2
"""The journal may be this many times as large as the copies of all partitions, whatever its bound: to keep it smaller,
more than a byte would have to be copied for each byte that is freed."""

WRITES_AT_ONCE_BYTES_MAX = 2**18
"""More than this is not written where the loop runs, however quick the disk is."""

_LENGTH = struct.Struct(">I")
_NAME = re.compile(r"[0-9]{8}\.log")

wire.register(0x3C, Promise)
wire.register(0x3D, Log)
wire.register(0x3E, Snapshot)
wire.register(0x3F, Dropped)


@wire.message(0x3B)
@dataclass(frozen=True, slots=True)
class Header:
    """The first record of each file: whose it is and which."""

    owner: bytes
    number: int


@dataclass(slots=True)
class _Segment:
    number: int
    size: int
    synced: int = 0
    room: int = 0


class Journal:
    """Opened once; `write` and `after_sync` on the loop, `run` as a task.

    Args:
        must_exist: whether one was opened here before: without it, one that is gone is taken for a new one.

    Raises:
        DataDirectoryError: a file is damaged or belongs to another owner, or there is none though there must be.
    """

    def __init__(
        self, host: Host, disk: Disk, config: PartitionsConfig, owner: bytes, *, must_exist: bool = False
    ) -> None:
        self._host = host
        self._run_sync = host.syncs()
        self._disk = disk
        self._config = config
        self._owner = owner
        self._must_exist = must_exist
        self._segments: list[_Segment] = []
        self._file: File | None = None
        self._retention = Retention()
        self._queue: list[bytes] = []
        self._waiting: list[Callable[[], None]] = []
        self._queued = trio.Event()
        self._grown = trio.Event()
        self.queued_bytes = 0
        """What was written and has not begun to go to the disk."""

    # ---- opening (blocks)

    def recover(self) -> Iterator[Entry]:
        """All entries, oldest first. To be exhausted before anything is written.

        A record that a crash cut off is removed; everything that was acknowledged stands before it.
        """
        self._disk.make_directory(DIRECTORY)
        self._disk.sync_directory("")
        names = [name for name in self._disk.list(DIRECTORY) if _NAME.fullmatch(name)]
        numbers = sorted(int(name.removesuffix(".log")) for name in names)
        for earlier, later in itertools.pairwise(numbers):
            if later != earlier + 1:  # only the oldest files are ever deleted
                missing = self._path(earlier + 1)
                raise DataDirectoryError(f"{missing} is missing. {REMEDY}")
        for number in numbers:
            try:
                yield from self._recover_segment(number, is_last=number == numbers[-1])
            except StorageError as error:
                raise DataDirectoryError(str(error)) from error
        if self._must_exist and not self._segments:
            raise DataDirectoryError(
                f"{DIRECTORY} is gone or empty, so what the node acknowledged is not here any more. {REMEDY}"
            )
        if self._file is None:
            self._start_segment(self._segments[-1].number + 1 if self._segments else 1)
        else:  # what was cut must not come back, nor names be lost that the last process had not synced
            self._sync()
            self._disk.sync_directory(DIRECTORY)

    def _recover_segment(self, number: int, *, is_last: bool) -> Iterator[Entry]:
        path = self._path(number)
        file = self._disk.open(path, create=False)
        file.drop_cache()  # what is read is answered for from now on
        scan = RecordScan(file, path)
        header: Header | None = None
        for offset, payload in scan:
            if header is None:
                header = self._checked_header(path, payload)
                continue
            try:
                for entry, size in _split_batch(payload):
                    self._retention.note(entry, file=number, size=size)
                    yield entry
            except wire.WireError as error:
                raise DataDirectoryError(
                    f"{path}: the record at byte {offset} is sound but unreadable: {error}. "
                    "Was it written by a newer version?"
                ) from error
        if not is_last:
            file.close()
            if scan.torn_bytes or header is None:
                # The next one is begun when this one is synced.
                raise DataDirectoryError(
                    f"{path} is damaged at byte {scan.end}: it is cut off there, and a newer file follows. {REMEDY}"
                )
        elif header is None:  # the crash came before its first record was written
            file.close()
            self._disk.remove(path)
            self._disk.sync_directory(DIRECTORY)
            return
        else:
            if scan.torn_bytes:
                file.truncate(scan.end)
            self._file = file
        self._segments.append(_Segment(number, scan.end))

    def _checked_header(self, path: str, payload: bytes) -> Header:
        try:
            header = wire.decode(payload)
        except wire.WireError as error:
            raise DataDirectoryError(f"{path} does not begin as a journal: {error}") from error
        if not isinstance(header, Header) or header.owner != self._owner:
            raise DataDirectoryError(f"{path} belongs to another mesh or node: give the node its own data directory")
        return header

    # ---- writing

    def write(self, entry: Entry) -> None:
        """Queue an entry."""
        data = wire.encode(entry)
        self._retention.note(entry, file=self._segments[-1].number, size=len(data))
        self._queue.append(_LENGTH.pack(len(data)) + data)
        self.queued_bytes += len(data)
        self._queued.set()

    def after_sync(self, action: Callable[[], None]) -> None:
        """Call ``action`` once everything queued so far is on disk, in the order of these calls."""
        self._waiting.append(action)
        self._queued.set()

    @property
    def size_bytes(self) -> int:
        """Of all files together."""
        return sum(segment.size for segment in self._segments)

    def partitions_to_copy(self) -> list[PartitionId]:
        """Partitions that hold up the deletion of the oldest file, while the journal is too large."""
        return self._retention.needing(self._segments[0].number) if self._is_too_large else []

    @property
    def _is_too_large(self) -> bool:
        bytes_max = max(self._config.journal_bytes_max, COPIES_FACTOR * self._retention.copies_bytes)
        return self.size_bytes > bytes_max and len(self._segments) > 1

    async def until_too_large(self) -> None:
        """Return when there are partitions to copy."""
        while not self.partitions_to_copy():
            self._grown = trio.Event()
            await self._grown.wait()

    async def until_synced(self) -> None:
        """Return when everything queued so far is on disk, and what nobody needs any more is deleted."""
        synced = trio.Event()
        self.after_sync(synced.set)
        await synced.wait()

    async def run(self) -> None:
        """Write and sync what is queued, until cancelled.

        Raises:
            StorageFailed: the disk refused; nothing that was not acknowledged before may be acknowledged any more.
        """
        while True:
            if not self._waiting and not self._queue:
                self._queued = trio.Event()
                await self._queued.wait()
            queue, self._queue = self._queue, []
            run = self._run_sync if self.queued_bytes <= WRITES_AT_ONCE_BYTES_MAX else self._host.run_blocking
            self.queued_bytes = 0
            waiting, self._waiting = self._waiting, []
            # All that is noted by now is on disk once this batch is; what is noted meanwhile is not.
            needed = self._retention.oldest_needed() or self._segments[-1].number
            if queue:
                try:
                    await run(functools.partial(self._write_and_sync, queue, needed))
                except OSError as error:
                    path = self._path(self._segments[-1].number)
                    raise StorageFailed(
                        f"{path}: {error.strerror or error}. This node stops acknowledging; nothing acknowledged is "
                        "lost. Free space or replace the disk, then start it again"
                    ) from error
            for action in waiting:
                action()
            if self._is_too_large:
                self._grown.set()

    def _write_and_sync(self, queue: list[bytes], needed: int) -> None:
        assert self._file is not None
        largest = max(map(len, queue))
        if largest > PAYLOAD_BYTES_MAX:  # the room above sees to it that states stay far below
            raise StorageFailed(
                f"{self._path(self._segments[-1].number)}: the copy of a partition takes {largest} bytes, and a record "
                f"holds {PAYLOAD_BYTES_MAX}. This node stops acknowledging; nothing acknowledged is lost. In a mesh of "
                "more partitions each would hold less"
            )
        batch: list[bytes] = []
        size = 0
        for entry in queue:
            if size + len(entry) > BATCH_BYTES_MAX and batch:
                self._append(b"".join(batch))
                batch, size = [], 0
            batch.append(entry)
            size += len(entry)
        self._append(b"".join(batch))
        self._sync()
        if self._segments[-1].size >= self._config.segment_bytes:
            self._file.truncate(self._segments[-1].size)  # zeros before a newer file are entries that were lost
            self._file.sync()
            self._file.close()
            self._start_segment(self._segments[-1].number + 1)
        while self._segments[0].number < needed:
            self._disk.remove(self._path(self._segments[0].number))
            self._disk.sync_directory(DIRECTORY)
            del self._segments[0]

    def _append(self, payload: bytes) -> None:
        assert self._file is not None
        segment = self._segments[-1]
        record = frame(payload, offset=segment.size, synced=segment.synced)
        if segment.size + len(record) > segment.room:
            segment.room = room_for(segment.size + len(record))
            self._file.reserve(segment.room)
        self._file.append(record)
        segment.size += len(record)

    def _sync(self) -> None:
        assert self._file is not None
        self._file.sync()
        self._segments[-1].synced = self._segments[-1].size

    def _start_segment(self, number: int) -> None:
        self._file = self._disk.open(self._path(number), create=True)
        self._segments.append(_Segment(number, 0))
        self._append(wire.encode(Header(self._owner, number)))
        self._sync()
        self._disk.sync_directory(DIRECTORY)

    def _path(self, number: int) -> str:
        return f"{DIRECTORY}/{number:08}.log"


def _split_batch(batch: bytes) -> Iterator[tuple[Entry, int]]:
    """Entries with their sizes."""
    offset = 0
    while offset < len(batch):
        if len(batch) - offset < _LENGTH.size:
            raise wire.WireError("a batch ends in the middle of a length")
        (length,) = _LENGTH.unpack_from(batch, offset)
        offset += _LENGTH.size
        entry = wire.decode(batch[offset : offset + length])
        if not isinstance(entry, Promise | Log | Snapshot | Dropped):
            raise wire.WireError(f"{type(entry).__name__} is no entry of a journal")
        yield entry, length
        offset += length
