"""What the library needs of a disk: synchronous, since the driver decides where it runs (`consensus.syncing`)."""

from typing import Protocol


class File(Protocol):
    """An open file. Every method may raise OSError."""

    def size(self) -> int:
        """Bytes in the file."""
        ...

    def read(self, offset: int, size: int) -> bytes:
        """Up to ``size`` bytes from ``offset``; fewer only at the end of the file."""
        ...

    def append(self, data: bytes) -> None:
        """Add all of ``data`` at the end. After an error any part of it may be there."""
        ...

    def reserve(self, size: int) -> None:
        """Have room for so many bytes in all, written as zeros behind the end, where that can be had.

        What is appended there does not change the file's size any more, which a sync would have to write as well: with
        most file systems in a journal, where it waits for those of all others. `size` and `read` pass over the room;
        but whoever opens the file after a crash finds the zeros.
        """
        ...

    def truncate(self, size: int) -> None:
        """Cut the file to ``size`` bytes, and give back the room behind them."""
        ...

    def sync(self) -> None:
        """Return when everything appended is on stable storage (fdatasync)."""
        ...

    def drop_cache(self) -> None:
        """Have what is read from now on come from the medium; what was written is synced first.

        After a failed sync a kernel may take for written what is not, and go on showing it to whoever reads the file,
        until it forgets it: so it has to be made to, before anybody relies on what it reads.
        """
        ...

    def close(self) -> None:
        """Release the file, and the room behind its end."""
        ...


class Disk(Protocol):
    """A directory tree. Paths are separated by '/' and relative to its root. Every method may raise OSError."""

    def open(self, path: str, *, create: bool) -> File:
        """Open for reading and appending."""
        ...

    def exists(self, path: str) -> bool:
        """Whether the path is there."""
        ...

    def rename(self, old: str, new: str) -> None:
        """Replace ``new`` by ``old`` in one step; durable after `sync_directory`."""
        ...

    def remove(self, path: str) -> None:
        """Delete a file; durable after `sync_directory`."""
        ...

    def list(self, directory: str) -> list[str]:
        """The names in a directory."""
        ...

    def make_directory(self, path: str) -> None:
        """Make a directory and its parents, unless they are there."""
        ...

    def sync_directory(self, path: str) -> None:
        """Return when the names in the directory are on stable storage."""
        ...
