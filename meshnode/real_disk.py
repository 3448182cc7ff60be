"""A directory of this machine as a `consensus.disk.Disk`, locked for one process."""

import contextlib
import errno
import fcntl
import os
from typing import NoReturn

from meshnode.errors import DataDirectoryError

LOCK_NAME = "lock"


_ZEROS = memoryview(bytes(1 << 20))
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class RealFile:
    """An open file: appended at its end, read anywhere. Raises OSError as the kernel does, with the file's path."""

    def __init__(self, path: str, *, create: bool, read_only: bool = False) -> None:
        flags = (os.O_RDONLY if read_only else os.O_RDWR) | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        self._fd = os.open(path, flags, 0o600)
        self._path = path
        self._size = os.fstat(self._fd).st_size
        self._reserved = 0

    def size(self) -> int:
        return self._size

    def read(self, offset: int, size: int) -> bytes:
        parts = []
        if self._reserved:
            size = min(size, self._size - offset)
        try:
            while size > 0:
                part = os.pread(self._fd, size, offset)
                if not part:
                    break
                parts.append(part)
                offset += len(part)
                size -= len(part)
        except OSError as error:
            raise self._named(error) from None
        return b"".join(parts)

    def append(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                written = os.pwrite(self._fd, view, self._size)
                self._size += written
                view = view[written:]
        except OSError as error:
            raise self._named(error) from None

    def reserve(self, size: int) -> None:
        end = max(self._size, self._reserved)
        try:
            while end < size:
                end += os.pwrite(self._fd, _ZEROS[: size - end], end)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise self._named(error) from None
            os.ftruncate(self._fd, max(self._size, self._reserved))
        else:
            self._reserved = end

    def truncate(self, size: int) -> None:
        os.ftruncate(self._fd, size)
        self._size, self._reserved = size, 0

    def sync(self) -> None:
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            raise self._named(error) from None

    def drop_cache(self) -> None:
        """As `consensus.disk.File.drop_cache` says.

        Relies on Linux, which at POSIX_FADV_DONTNEED drops all pages of a file that are clean, not being written and
        mapped by nobody. After a sync all are, those that could not be written included. What the file system itself
        knows of the file, its size and where it lies, is not read anew; ext4 and XFS go down if they can't write that.
        File systems that live in memory, and some others, drop nothing.
        """
        self.sync()
        os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def close(self) -> None:
        if self._fd >= 0:
            if self._reserved > self._size:
                with contextlib.suppress(OSError):  # whoever opens the file will cut it
                    os.ftruncate(self._fd, self._size)
            os.close(self._fd)
            self._fd = -1

    def _named(self, error: OSError) -> OSError:
        """With the file that it is about, as only errors of names have it."""
        return OSError(error.errno, error.strerror, self._path)


class PlainDisk:
    """The directory ``root`` as it is, not locked: for files that are no node's. Paths may also be absolute."""

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(root)

    def _path(self, path: str) -> str:
        return os.path.join(self.root, path)

    def open(self, path: str, *, create: bool) -> RealFile:
        return RealFile(self._path(path), create=create)

    def exists(self, path: str) -> bool:
        return os.path.exists(self._path(path))

    def rename(self, old: str, new: str) -> None:
        os.replace(self._path(old), self._path(new))

    def remove(self, path: str) -> None:
        os.remove(self._path(path))

    def list(self, directory: str) -> list[str]:
        return sorted(os.listdir(self._path(directory)))

    def make_directory(self, path: str) -> None:
        os.makedirs(self._path(path), mode=0o700, exist_ok=True)

    def sync_directory(self, path: str) -> None:
        fd = os.open(self._path(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


class RealDisk(PlainDisk):
    """The directory ``root``, made if absent and locked until `close`.

    Raises:
        DataDirectoryError: it is locked by another process, not a directory, or not writable.
    """

    def __init__(self, root: str) -> None:
        super().__init__(root)
        try:
            os.makedirs(self.root, mode=0o700, exist_ok=True)
            self._lock = os.open(self._path(LOCK_NAME), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._unusable(error) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.access(self.root, os.W_OK | os.X_OK):  # the lock may be left from when it was writable
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except BlockingIOError as error:
            self.close()
            raise DataDirectoryError(
                f"data directory {self.root} is locked by a running node: stop it, or give another one with --data"
            ) from error
        except OSError as error:
            self.close()
            raise self._unusable(error) from error

    def _unusable(self, error: OSError) -> DataDirectoryError:
        return DataDirectoryError(
            f"can't use data directory {self.root}: {error.strerror}. Give a writable directory with --data"
        )

    def close(self) -> None:
        """Unlock. Files that are still open stay usable, which only a node that is going down may do."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


class ReadOnlyDisk(PlainDisk):
    """The directory ``root`` as it is, to be looked at. It is not locked, so a node may be running on it.

    Whatever would change it raises OSError (EROFS).
    """

    def _refuse(self, path: str) -> NoReturn:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), self._path(path))

    def open(self, path: str, *, create: bool) -> RealFile:
        if create:
            self._refuse(path)
        return RealFile(self._path(path), create=False, read_only=True)

    def rename(self, old: str, _new: str) -> None:
        self._refuse(old)

    def remove(self, path: str) -> None:
        self._refuse(path)

    def make_directory(self, path: str) -> None:
        self._refuse(path)

    def sync_directory(self, path: str) -> None:
        self._refuse(path)
