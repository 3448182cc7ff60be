"""Opening a log: read what is there, remove what a crash cut off, and go on where it ends."""

import posixpath

from consensus.config import LogConfig
from consensus.disk import Disk
from consensus.errors import CorruptLog
from consensus.images import Images
from consensus.records import REMEDY
from consensus.recovery import Recovered, Replay, read_segments
from consensus.segments import Head, SegmentWriter, find_segments
from consensus.storage import DurableLog


def open_log(
    disk: Disk, directory: str, *, owner: bytes, config: LogConfig | None = None, must_exist: bool = False
) -> DurableLog:
    """Open the log in a directory, or begin one there. What a crash cut off is removed. Never open one twice at a time.

    Damage that has cost entries is cut off, in a new file: the damaged ones stay as they are until they are not needed
    any more. The log then says what it has lost (`DurableLog.lost`).

    Args:
        disk: where.
        directory: the log's own; made if missing.
        owner: names whose log it is, such as a mesh's id and a node's.
        config: sizes.
        must_exist: whether one was opened here before. Without it, a log that is gone is taken for a new one, and the
            node votes again where it has voted.

    Raises:
        CorruptLog: what was synced is not what is read, or not there, and nobody can tell what the node has promised.
        ForeignLog: it is another owner's, or of a format that this version does not know.
        OSError: the disk refuses. Opening may be tried again.
    """
    config = config or LogConfig()
    disk.make_directory(directory)
    # Also names may be lost in a crash, those of new parents included.
    for ancestor in _with_ancestors(directory):
        disk.sync_directory(ancestor)
    paths = find_segments(directory, disk.list(directory))
    # What is read is counted as durable. It may be in the page cache only, if the process before died before a sync, or
    # at one that failed.
    for path in paths.values():
        _drop_cache(disk, path)
    replay = read_segments(disk, paths, owner=owner, cache_bytes=config.cache_bytes)
    if must_exist and replay.head is None and not replay.damages:
        raise CorruptLog(
            f"{directory} has no log any more, so nobody can tell for whom the node voted and what it acknowledged. "
            f"{REMEDY}"
        )
    found = replay.whole(disk, directory)
    head = Head(
        owner,
        number=0,
        oldest=replay.head.oldest if replay.head else 1,
        state=found.state,
        start=found.terms.start,
        start_term=found.terms.start_term,
        end=found.terms.last,
        end_term=found.terms.last_term,
        lost=found.lost,
        snapshots=found.snapshots,
    )
    if replay.files and replay.files[-1].is_void:
        disk.remove(paths.pop(replay.files.pop().number))  # only the last: one before it is damaged, and may be known
    sizes = {report.number: report.end for report in replay.files}
    writer = SegmentWriter(disk, directory, head, paths=paths, segment_bytes=config.segment_bytes, sizes=sizes)
    try:
        _go_on(disk, writer, replay, found)
        writer.clean_up()
        Images(disk, directory).remove_all_but(found.snapshots)
    except BaseException:
        writer.close()
        raise
    damage = replay.damages[-1] if found.lost is not None and replay.damages else None
    return DurableLog(disk, directory, found, writer, config, damage)


def _go_on(disk: Disk, writer: SegmentWriter, replay: Replay, found: Recovered) -> None:
    """Have the writer go on where the log ends."""
    if replay.files:
        last = replay.files[-1]
        file = disk.open(last.path, create=False)
        try:
            if last.torn_bytes:
                file.truncate(last.end)
                file.sync()  # what was cut must not mix with what is appended next if the power fails
        except BaseException:
            file.close()
            raise
        is_damaged = any(damage.path == last.path for damage in replay.damages)
        if not found.is_cut and not is_damaged:
            writer.resume(file, last.number)
            return
        file.close()
    writer.begin()


def _drop_cache(disk: Disk, path: str) -> None:
    file = disk.open(path, create=False)
    try:
        file.drop_cache()
    finally:
        file.close()


def _with_ancestors(directory: str) -> list[str]:
    found = [directory]
    while found[-1]:
        found.append(posixpath.dirname(found[-1]))
    return found
