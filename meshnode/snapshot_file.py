"""A file with all that a mesh's Raft group has agreed on at one index: a backup, for operators. All of it blocks.

It is an image as `consensus.image` has it, with the metadata as `meshnode.metadata.history` freezes them: so the images
of a data directory, beside its Raft log, are such files too. Its own head has index, term and configuration; the mesh's
id and the recovery generation stand in the metadata. What agents' state is, is in no such file: it is in the journals
of the nodes.
"""

import contextlib
import posixpath
from collections.abc import Iterable
from dataclasses import dataclass, replace

from consensus.disk import Disk
from consensus.errors import CorruptSnapshot
from consensus.image import describe_image, read_image, write_image
from consensus.messages import Snapshot
from meshnode import wire
from meshnode.errors import DamagedSnapshot, OperatorError
from meshnode.metadata.history import History
from meshnode.metadata.nodes import Founding
from meshnode.metadata.state import Metadata

_REMEDY = (
    "Take another copy of it, or an earlier one; nodes of the group have some of their own, ….snapshot in raft in their"
    " data directories"
)


@dataclass(frozen=True, slots=True)
class SnapshotFile:
    """What a file has; all of it was read and is sound.

    Attributes:
        size: of the file, in bytes.
        snapshot: index, term and configuration; where it was taken on a node outside the group, as that knew them.
        position: up to which the metadata have everything, no less than the index.
        founding: of the mesh.
    """

    path: str
    size: int
    snapshot: Snapshot
    position: int
    metadata: Metadata
    founding: Founding


def read_snapshot(disk: Disk, path: str) -> SnapshotFile:
    """Read a file from beginning to end, and check all of it.

    Raises:
        DamagedSnapshot: it is damaged, no snapshot at all, or one of a newer version.
        OSError: it can't be read.
    """
    file = disk.open(path, create=False)
    try:
        snapshot = describe_image(file, path)
        metadata = Metadata()
        history = History(metadata)
        history.restore(read_image(file, path, snapshot))()
        size = file.size()
    except CorruptSnapshot as error:
        raise DamagedSnapshot(f"{error}. {_REMEDY}") from error
    except wire.WireError as error:
        raise DamagedSnapshot(f"{path} is whole, but can't be read: {error}") from error
    finally:
        file.close()
    if metadata.founding is None:
        raise DamagedSnapshot(f"{path} is of a mesh that was not founded yet: there is nothing in it")
    problem = metadata.problem()
    if problem:
        raise DamagedSnapshot(f"{path} is whole, but no mesh has agreed on what it says: {problem}")
    return SnapshotFile(path, size, snapshot, history.position, metadata, metadata.founding)


def check_target(disk: Disk, path: str, *, overwrite: bool) -> None:
    """Raises OperatorError for a file that is there and must not be replaced."""
    if not overwrite and disk.exists(path):
        raise OperatorError(f"{path} is there already: choose another name, or give --overwrite to replace it")


def save(
    disk: Disk, path: str, snapshot: Snapshot, pieces: Iterable[bytes], *, partial: str, overwrite: bool
) -> SnapshotFile:
    """Write a file, read it again, and only then give it its name, durably.

    Args:
        pieces: the metadata, cut anywhere.
        partial: where it is written; removed in the end, unless this process is killed.
        overwrite: whether a file of that name is replaced.

    Raises:
        OperatorError: there is one.
        DamagedSnapshot: what was written is not what is read.
        OSError: it can't be written.
        What `pieces` raises.
    """
    check_target(disk, path, overwrite=overwrite)
    try:
        file = disk.open(partial, create=True)
        try:
            write_image(file, snapshot, pieces)
        finally:
            file.close()
        found = read_snapshot(disk, partial)
        check_target(disk, path, overwrite=overwrite)
        disk.rename(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            disk.remove(partial)
        raise
    disk.sync_directory(posixpath.dirname(path))
    return replace(found, path=path)
