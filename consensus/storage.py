"""The log on disk: term, vote, commit index and entries, in the order in which they were handed over.

One file of records (`consensus.records`). The first names the owner, the others are batches:

    owner  0x01 · format u8 · owner bytes
    batch  0x02 · 1 or 0 · if 1: term u64, vote u64, commit u64 · count u32 · entries
    entry  as in `consensus.entries`                                    numbers big-endian

A later batch supersedes an earlier one: entries that begin at an index replace all from there on.

Within the file a commit index stands before any entry that was handed over after it was known. This is a matter of
safety. A configuration change is proposed only when the one before is applied, so a node that finds the later change
in its log also finds the earlier one committed, and never stands for election in a configuration two changes old,
whose majorities need not overlap with those of today.
"""

import posixpath
import struct
from collections.abc import Sequence
from typing import Final

from consensus.disk import Disk, File
from consensus.entries import decode_entries, encode_entries
from consensus.errors import CorruptLog, ForeignLog, StorageFailed
from consensus.log import data_bytes
from consensus.memory import MemoryLog
from consensus.messages import Configuration, Entry, HardState, Snapshot
from consensus.records import REMEDY, RecordScan, frame

_FORMAT: Final = 1
_OWNER: Final = 0x01
_BATCH: Final = 0x02
_RECORD_DATA_BYTES: Final = 16 << 20
"""Entry data in one record. More is split, so that a record stays well within what `frame` takes."""

_OWNER_HEAD = struct.Struct(">BB")
_BATCH_HEAD = struct.Struct(">BB")
_HARD_STATE = struct.Struct(">QQQ")
_COUNT = struct.Struct(">I")


class DurableLog:
    """One node's log. It also keeps all entries in memory, for the core to read.

    `append` may be called where the core runs; `sync` and `close` block, and belong elsewhere. Only one of the three
    may run at a time. Reads may go on meanwhile: they do not touch the file.
    """

    def __init__(self, file: File, path: str, memory: MemoryLog, *, synced: int) -> None:
        """Use `open_log`."""
        self._file = file
        self._path = path
        self._memory = memory
        self._synced = synced
        self._end = synced  # with what is queued
        # What `append` took and `sync` has not written: at most one batch of the core, and a commit index before it.
        self._queued: list[bytes] = []
        self._ends_in_state_alone = False
        self._failure: Exception | None = None

    # What the core reads.

    def initial_state(self) -> tuple[HardState, Configuration]:
        return self._memory.initial_state()

    def first_index(self) -> int:
        return self._memory.first_index()

    def last_index(self) -> int:
        return self._memory.last_index()

    def term(self, index: int) -> int | None:
        return self._memory.term(index)

    def entries(self, low: int, high: int) -> Sequence[Entry]:
        return self._memory.entries(low, high)

    def snapshot(self) -> Snapshot:
        return self._memory.snapshot()

    # What the driver does.

    def append(self, hard_state: HardState | None, entries: Sequence[Entry]) -> None:
        """Queue a batch for the next `sync`. It can be read at once, and is durable only after that.

        Raises:
            StorageFailed: a write or a sync failed before.
        """
        self._check()
        if hard_state is None and not entries:
            return
        if self._ends_in_state_alone and hard_state is not None:
            # Nothing was queued between the two, so only the later one matters.
            self._end -= len(self._queued.pop())
        if hard_state is not None:
            self._memory.set_hard_state(hard_state)
        self._memory.append(entries)
        for payload in _encode_batch(hard_state, entries):
            record = frame(payload, offset=self._end, synced=self._synced)
            self._queued.append(record)
            self._end += len(record)
        self._ends_in_state_alone = not entries

    def sync(self) -> None:
        """Return when everything that was appended is durable. One write and one sync, however much it is.

        Raises:
            StorageFailed: it could not be written or synced. Nobody knows how much of it is on disk, and a second try
                could report success for what is lost, so every later call raises as well.
        """
        self._check()
        queued, self._queued = self._queued, []
        self._ends_in_state_alone = False
        if not queued:
            return
        try:
            self._file.append(b"".join(queued))
            self._file.sync()
        except OSError as error:
            self._failure = error
            raise self._failed() from error
        self._synced = self._end

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
            self._file.close()

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failed() from self._failure

    def _failed(self) -> StorageFailed:
        return StorageFailed(
            f"{self._path} cannot be used after: {self._failure}. Free space or replace the disk, then start the node"
            " again: it finds what is on disk"
        )


def open_log(disk: Disk, directory: str, *, owner: bytes) -> DurableLog:
    """Open the log in a directory, or begin one there. What a crash cut off is removed.

    Args:
        disk: where.
        directory: the log's own; made if missing.
        owner: names whose log it is, such as a mesh's id and a node's.

    Raises:
        CorruptLog: what was synced is not what is read.
        ForeignLog: it is another owner's, or of a format that this version does not know.
        OSError: the disk refuses. Opening may be tried again.
    """
    path = posixpath.join(directory, f"{1:020d}.log")
    if not disk.exists(path):
        disk.make_directory(directory)
    file = disk.open(path, create=True)
    try:
        memory = _recover(file, path, owner)
        synced = file.size()
        # Also names may be lost in a crash, those of new parents included.
        for ancestor in _with_ancestors(directory):
            disk.sync_directory(ancestor)
    except BaseException:
        file.close()
        raise
    return DurableLog(file, path, memory, synced=synced)


def _with_ancestors(directory: str) -> list[str]:
    found = [directory]
    while found[-1]:
        found.append(posixpath.dirname(found[-1]))
    return found


def _recover(file: File, path: str, owner: bytes) -> MemoryLog:
    memory = MemoryLog()
    scan = RecordScan(file, path)
    for offset, payload in scan:
        if offset == 0:
            _check_owner(path, payload, owner)
        else:
            _replay(memory, path, offset, payload)
    if scan.torn_bytes:
        file.truncate(scan.end)
        file.sync()  # or a power loss might mix what is cut with what is appended next
    if scan.end == 0:
        file.append(frame(_OWNER_HEAD.pack(_OWNER, _FORMAT) + owner, offset=0, synced=0))
    # What was just read may be in the page cache only, if the process died before a sync. From here on it is counted
    # as durable.
    file.sync()
    hard_state, _ = memory.initial_state()
    if hard_state.commit > memory.last_index():
        # The commit index was written, the entries in the record behind it were not. Nobody was told of them.
        memory.set_hard_state(HardState(hard_state.term, hard_state.vote, memory.last_index()))
    return memory


def _check_owner(path: str, payload: bytes, owner: bytes) -> None:
    if len(payload) < _OWNER_HEAD.size or payload[0] != _OWNER:
        raise ForeignLog(
            f"{path} is no Raft log: it begins with {payload[:16]!r}. Give the node a directory of its own"
        )
    _, version = _OWNER_HEAD.unpack_from(payload)
    if version != _FORMAT:
        raise ForeignLog(
            f"{path} is of format {version} and this version reads {_FORMAT}: start the version that wrote it"
        )
    found = payload[_OWNER_HEAD.size :]
    if found != owner:
        raise ForeignLog(
            f"{path} belongs to {found.hex()} and this node is {owner.hex()}: give the node its own data directory,"
            " and never a copy of another's"
        )


def _encode_batch(hard_state: HardState | None, entries: Sequence[Entry]) -> list[bytes]:
    """The payloads of a batch: one, unless it is large. The hard state is in the first."""
    payloads = []
    head = _encode_head(hard_state)
    for group in _groups(entries):
        payloads.append(head + _COUNT.pack(len(group)) + encode_entries(group))
        head = _encode_head(None)
    return payloads


def _encode_head(hard_state: HardState | None) -> bytes:
    if hard_state is None:
        return _BATCH_HEAD.pack(_BATCH, 0)
    return _BATCH_HEAD.pack(_BATCH, 1) + _HARD_STATE.pack(hard_state.term, hard_state.vote, hard_state.commit)


def _groups(entries: Sequence[Entry]) -> list[Sequence[Entry]]:
    if data_bytes(entries) <= _RECORD_DATA_BYTES:
        return [entries]
    groups: list[Sequence[Entry]] = []
    group: list[Entry] = []
    size = 0
    for entry in entries:
        if group and size + len(entry.data) > _RECORD_DATA_BYTES:
            groups.append(group)
            group, size = [], 0
        group.append(entry)
        size += len(entry.data)
    return [*groups, group]


def _replay(memory: MemoryLog, path: str, offset: int, payload: bytes) -> None:
    """Take in one batch as it was appended."""
    try:
        hard_state, entries = _decode_batch(payload)
    except (struct.error, ValueError) as error:
        raise CorruptLog(
            f"the record at byte {offset} of {path} is whole but does not decode: {error}. Start the version that"
            " wrote it"
        ) from error
    if hard_state is not None:
        memory.set_hard_state(hard_state)
    if entries and entries[0].index > memory.last_index() + 1:
        raise CorruptLog(
            f"the record at byte {offset} of {path} begins at index {entries[0].index} and the log before it ends at"
            f" {memory.last_index()}: records are missing. {REMEDY}"
        )
    memory.append(entries)


def _decode_batch(payload: bytes) -> tuple[HardState | None, Sequence[Entry]]:
    kind, has_state = _BATCH_HEAD.unpack_from(payload)
    if kind != _BATCH or has_state not in (0, 1):
        raise ValueError(f"it begins with {payload[:2]!r}")
    at = _BATCH_HEAD.size
    hard_state = None
    if has_state:
        hard_state = HardState(*_HARD_STATE.unpack_from(payload, at))
        at += _HARD_STATE.size
    (count,) = _COUNT.unpack_from(payload, at)
    at += _COUNT.size
    entries, at = decode_entries(payload, at, count)
    if at != len(payload):
        raise ValueError(f"it has {len(payload)} bytes where {at} are accounted for")
    return hard_state, entries
