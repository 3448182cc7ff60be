"""Disks for the tests: one in memory that crashes and fails on demand, and a directory of this machine."""

import errno
import os
import posixpath
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Content:
    """A file's bytes, and how many of them are on stable storage.

    Attributes:
        dropped: whether those that follow never will be: a sync of them failed.
    """

    data: bytearray = field(default_factory=bytearray)
    durable: int = 0
    dropped: bool = False


class MemoryFile:
    """An open file of a `MemoryDisk`."""

    def __init__(self, disk: "MemoryDisk", content: Content) -> None:
        self._disk = disk
        self._content = content
        self.closed = False

    def size(self) -> int:
        return len(self._content.data)

    def read(self, offset: int, size: int) -> bytes:
        assert not self.closed
        return bytes(self._content.data[offset : offset + size])

    def append(self, data: bytes) -> None:
        assert not self.closed
        if self._disk.space_left is not None:
            if len(data) > self._disk.space_left:
                self._content.data += data[: self._disk.space_left]
                self._disk.space_left = 0
                raise OSError(errno.ENOSPC, "no space left on device")
            self._disk.space_left -= len(data)
        self._content.data += data

    def reserve(self, size: int) -> None:
        assert not self.closed

    def truncate(self, size: int) -> None:
        assert not self.closed
        del self._content.data[size:]
        self._content.durable = min(self._content.durable, size)
        self._content.dropped = self._content.dropped and size > self._content.durable

    def sync(self) -> None:
        assert not self.closed
        self._disk.syncs += 1
        if self._disk.on_sync is not None:
            self._disk.on_sync()
        content = self._content
        if self._disk.fail_sync:
            content.dropped = len(content.data) > content.durable
            raise OSError(errno.EIO, "input/output error")
        if not content.dropped:
            content.durable = len(content.data)

    def drop_cache(self) -> None:
        self.sync()
        del self._content.data[self._content.durable :]
        self._content.dropped = False

    def close(self) -> None:
        self.closed = True


class MemoryDisk:
    """A disk whose power can fail: what was not synced is lost, from any byte on. Names last once they are synced.

    Attributes:
        space_left: bytes until ENOSPC; None for no end.
        fail_sync: whether syncs raise EIO. What they were to write is readable until the file's cache is dropped or the
            power fails, however often it is synced again.
        syncs: how many there were.
        on_sync: called at each sync of a file.
    """

    def __init__(self) -> None:
        self._files: dict[str, Content] = {}
        self._directories = {""}
        self._durable_names: dict[str, Content] = {}
        self._durable_directories = {""}
        self.space_left: int | None = None
        self.fail_sync = False
        self.syncs = 0
        self.on_sync: Callable[[], None] | None = None

    def open(self, path: str, *, create: bool) -> MemoryFile:
        if path not in self._files:
            if not create:
                raise FileNotFoundError(errno.ENOENT, "no such file", path)
            assert posixpath.dirname(path) in self._directories
            self._files[path] = Content()
        return MemoryFile(self, self._files[path])

    def exists(self, path: str) -> bool:
        return path in self._files or path in self._directories

    def rename(self, old: str, new: str) -> None:
        self._files[new] = self._files.pop(old)

    def remove(self, path: str) -> None:
        del self._files[path]

    def list(self, directory: str) -> list[str]:
        names = {*self._files, *self._directories} - {""}
        return sorted(posixpath.basename(name) for name in names if posixpath.dirname(name) == directory)

    def make_directory(self, path: str) -> None:
        while path not in self._directories:
            self._directories.add(path)
            path = posixpath.dirname(path)

    def sync_directory(self, path: str) -> None:
        assert path in self._directories
        self._durable_directories |= {name for name in self._directories if posixpath.dirname(name) == path}
        kept = {name: content for name, content in self._durable_names.items() if posixpath.dirname(name) != path}
        now = {name: content for name, content in self._files.items() if posixpath.dirname(name) == path}
        self._durable_names = kept | now

    def after_power_failure(self, rng: random.Random) -> "MemoryDisk":
        """What is there when the power is back: each file's durable part, and any part of what follows it."""
        disk = MemoryDisk()
        disk._directories = {name for name in self._directories if self._lasts(name)}
        for name, content in self._durable_names.items():
            if self._lasts(posixpath.dirname(name)):
                durable = min(content.durable, len(content.data))
                kept = durable if content.dropped else rng.randint(durable, len(content.data))
                disk._files[name] = Content(bytearray(content.data[:kept]), kept)
        disk._durable_directories = set(disk._directories)
        disk._durable_names = dict(disk._files)
        return disk

    def _lasts(self, directory: str) -> bool:
        while directory:
            if directory not in self._durable_directories:
                return False
            directory = posixpath.dirname(directory)
        return True

    def after_process_death(self) -> "MemoryDisk":
        """What the next process sees: everything, durable or not."""
        self.space_left, self.fail_sync = None, False
        return self

    def bytes_of(self, path: str) -> bytearray:
        """A file's bytes, to be looked at or damaged."""
        return self._files[path].data

    def turn_over(self, path: str, data: bytes) -> None:
        """Turn over a bit of data in a file."""
        content = self.bytes_of(path)
        assert content.count(data) == 1
        content[content.index(data)] ^= 1


class OsFile:
    """An open file of an `OsDisk`."""

    def __init__(self, path: Path, *, create: bool) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_APPEND | (os.O_CREAT if create else 0), 0o600)

    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def read(self, offset: int, size: int) -> bytes:
        return os.pread(self._fd, size, offset)

    def append(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._fd, data) :]

    def reserve(self, size: int) -> None:
        pass

    def truncate(self, size: int) -> None:
        os.ftruncate(self._fd, size)

    def sync(self) -> None:
        os.fdatasync(self._fd)

    def drop_cache(self) -> None:
        self.sync()
        os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def close(self) -> None:
        os.close(self._fd)


class OsDisk:
    """A directory of this machine."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def open(self, path: str, *, create: bool) -> OsFile:
        return OsFile(self._root / path, create=create)

    def exists(self, path: str) -> bool:
        return (self._root / path).exists()

    def rename(self, old: str, new: str) -> None:
        (self._root / old).rename(self._root / new)

    def remove(self, path: str) -> None:
        (self._root / path).unlink()

    def list(self, directory: str) -> list[str]:
        return sorted(path.name for path in (self._root / directory).iterdir())

    def make_directory(self, path: str) -> None:
        (self._root / path).mkdir(parents=True, exist_ok=True)

    def sync_directory(self, path: str) -> None:
        fd = os.open(self._root / path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
