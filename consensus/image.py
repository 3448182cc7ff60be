"""The file of a snapshot: an image of the application's state, in checked chunks of one size.

    head     magic 8 B │ format u8 │ length u32 │ encoded snapshot, without data │ CRC32C u32
    chunk    CHUNK_BYTES of the image, fewer in the last │ CRC32C u32, begun with the checksum before it
    end      image bytes u64 │ the last checksum u32 │ CRC32C of the two u32 │ magic 4 B          numbers big-endian

The last checksum is of all that stands before it: size and checksum tell the file from any other, and are what
`Snapshot.data` holds wherever the state itself is in a file. The same snapshot taken by two nodes need not have the
same bytes.

A file is written under a temporary name, synced and renamed, and its directory synced, before a head in the log names
it (`consensus.segments`). What no head names is removed.
"""

import posixpath
import struct
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from crc32c import crc32c

from consensus.codec import decode_snapshot, encode_snapshot
from consensus.disk import Disk, File
from consensus.errors import CorruptSnapshot, Damage
from consensus.messages import Snapshot

CHUNK_BYTES: Final = 60 << 10
"""Held at a time, by who writes, reads or sends an image. One goes into a frame of 64 KiB."""

IMAGE_SUFFIX: Final = ".snapshot"

_MAGIC: Final = b"\xabRaftImg"
_END_MAGIC: Final = b"\xabEnd"
_FORMAT: Final = 1
_HEAD_BYTES_MAX: Final = 1 << 20
"""Of an encoded snapshot: room for a hundred thousand members."""

_HEAD = struct.Struct(">8sBI")
_CHECKSUM = struct.Struct(">I")
_END = struct.Struct(">QII4s")
_IDENTITY = struct.Struct(">QI")


class Identity(NamedTuple):
    """What tells an image from any other of the same index: the `data` of a snapshot that is kept in a file."""

    size: int
    checksum: int

    @classmethod
    def of(cls, snapshot: Snapshot) -> "Identity":
        """That of a snapshot.

        Raises:
            ValueError: its data is no identity.
        """
        if len(snapshot.data) != _IDENTITY.size:
            raise ValueError(f"the snapshot of index {snapshot.index} does not say which image it has")
        return cls(*_IDENTITY.unpack(snapshot.data))

    def encode(self) -> bytes:
        return _IDENTITY.pack(*self)


def image_name(snapshot: Snapshot) -> str:
    """The name of the file with the image of a snapshot."""
    return f"{snapshot.index:020}-{snapshot.term:020}-{Identity.of(snapshot).checksum:08x}{IMAGE_SUFFIX}"


def image_path(directory: str, snapshot: Snapshot) -> str:
    """Where the image of a snapshot is kept."""
    return posixpath.join(directory, image_name(snapshot))


def image_head(snapshot: Snapshot) -> bytes:
    """How the image of a snapshot begins."""
    encoded = encode_snapshot(Snapshot(snapshot.index, snapshot.term, snapshot.configuration))
    head = _HEAD.pack(_MAGIC, _FORMAT, len(encoded)) + encoded
    return head + _CHECKSUM.pack(crc32c(head))


def write_image(file: File, snapshot: Snapshot, pieces: Iterable[bytes]) -> Snapshot:
    """Write an image to an empty file, and sync it.

    Args:
        snapshot: index, term and configuration.
        pieces: the state, cut anywhere.

    Returns:
        The snapshot with its image's identity as data.

    Raises:
        OSError: it is not there, or not whole.
    """
    head = image_head(snapshot)
    file.append(head)
    checksum, size = crc32c(head), 0
    for chunk in _in_chunks(pieces):
        checksum = crc32c(chunk, checksum)
        size += len(chunk)
        file.append(chunk + _CHECKSUM.pack(checksum))
    end = _IDENTITY.pack(size, checksum)
    file.append(_END.pack(size, checksum, crc32c(end), _END_MAGIC))
    file.sync()
    return Snapshot(snapshot.index, snapshot.term, snapshot.configuration, end)


def _in_chunks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    waiting = bytearray()
    for piece in pieces:
        view = memoryview(piece)
        while view:
            room = CHUNK_BYTES - len(waiting)
            waiting += view[:room]
            view = view[room:]
            if len(waiting) == CHUNK_BYTES:
                yield bytes(waiting)
                waiting.clear()
    if waiting:
        yield bytes(waiting)


def image_file_bytes(snapshot: Snapshot) -> int:
    """How large the file of a snapshot's image is."""
    size = Identity.of(snapshot).size
    return len(image_head(snapshot)) + size + -(-size // CHUNK_BYTES) * _CHECKSUM.size + _END.size


def read_image(file: File, path: str, snapshot: Snapshot) -> Iterator[bytes]:
    """The state in an image, in pieces, each of them checked before it is given out.

    Args:
        snapshot: whose image it has to be.

    Raises:
        CorruptSnapshot: it is damaged, or the image of another snapshot.
        OSError: it cannot be read.
    """
    wanted = Identity.of(snapshot)
    head = image_head(snapshot)
    if file.read(0, len(head)) != head:
        raise CorruptSnapshot(Damage(path, 0, file.size(), f"it does not begin as the image of {_name(snapshot)}"))
    checksum, offset, left = crc32c(head), len(head), wanted.size
    while left:
        size = min(left, CHUNK_BYTES)
        found = file.read(offset, size + _CHECKSUM.size)
        checksum = crc32c(found[:size], checksum)
        if found[size:] != _CHECKSUM.pack(checksum):
            raise CorruptSnapshot(Damage(path, offset, file.size(), "a chunk does not match its checksum"))
        yield found[:size]
        offset += len(found)
        left -= size
    end = _IDENTITY.pack(wanted.size, checksum)
    found = file.read(offset, _END.size + 1)
    if checksum != wanted.checksum or found != end + _CHECKSUM.pack(crc32c(end)) + _END_MAGIC:
        raise CorruptSnapshot(Damage(path, offset, file.size(), f"it does not end as the image of {_name(snapshot)}"))


def check_image(disk: Disk, directory: str, snapshot: Snapshot) -> None:
    """Read the image of a snapshot from beginning to end.

    Raises:
        CorruptSnapshot: it is missing, damaged, or another one.
        OSError: it cannot be read.
    """
    path = image_path(directory, snapshot)
    if not disk.exists(path):
        raise CorruptSnapshot(Damage(path, 0, 0, "it is missing, and the log names it as its snapshot"))
    file = disk.open(path, create=False)
    try:
        for _ in read_image(file, path, snapshot):
            pass
    finally:
        file.close()


def describe_image(file: File, path: str) -> Snapshot:
    """Which snapshot a file has the image of, by what the file itself says.

    Raises:
        CorruptSnapshot: it says none.
        OSError: it cannot be read.
    """
    try:
        magic, version, length = _HEAD.unpack(file.read(0, _HEAD.size))
        if magic != _MAGIC or version != _FORMAT or length > _HEAD_BYTES_MAX:
            raise ValueError("its head is none of this version's")
        snapshot, _ = decode_snapshot(file.read(_HEAD.size, length), 0)
        size, checksum, _, _ = _END.unpack(file.read(file.size() - _END.size, _END.size))
    except (ValueError, struct.error) as error:
        raise CorruptSnapshot(Damage(path, 0, file.size(), f"it is no image of a snapshot: {error}")) from error
    return Snapshot(snapshot.index, snapshot.term, snapshot.configuration, Identity(size, checksum).encode())


def _name(snapshot: Snapshot) -> str:
    return f"index {snapshot.index} and term {snapshot.term}"
