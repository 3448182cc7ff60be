"""The files of a log's snapshots: written, received, read and removed. All of it blocks."""

import errno
import posixpath
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from consensus.disk import Disk, File
from consensus.errors import CorruptSnapshot, Damage
from consensus.image import IMAGE_SUFFIX, check_image, image_name, image_path, read_image, write_image
from consensus.messages import Snapshot

_PARTIAL: Final = ".part"
"""Ends the name of a file that nothing relies on."""


class Images:
    """In the directory of a log, beside its files."""

    def __init__(self, disk: Disk, directory: str) -> None:
        self._disk = disk
        self._directory = directory

    def write(self, snapshot: Snapshot, pieces: Iterable[bytes]) -> Snapshot:
        """Write the image of a snapshot.

        Args:
            snapshot: index, term and configuration.
            pieces: the state.

        Returns:
            The snapshot with what identifies its image, for `record_snapshot`.

        Raises:
            OSError: it could not be written. Nothing relies on it.
        """
        partial = self.partial_path(snapshot)
        if self._disk.exists(partial):
            self._disk.remove(partial)
        file = self._disk.open(partial, create=True)
        try:
            written = write_image(file, snapshot, pieces)
        finally:
            file.close()
        self.keep(partial, written)
        return written

    def partial_path(self, snapshot: Snapshot, *, received: bool = False) -> str:
        """Where the image of a snapshot may be written before it counts, by this node or by one that receives it."""
        name = image_name(snapshot) if received else f"{snapshot.index:020}-{snapshot.term:020}"
        return posixpath.join(self._directory, name + _PARTIAL)

    def keep(self, partial: str, snapshot: Snapshot) -> None:
        """Give an image that is whole and synced its name, durably. Until the log names it, it may be lost."""
        self._disk.rename(partial, image_path(self._directory, snapshot))
        self._disk.sync_directory(self._directory)

    def remove(self, path: str) -> None:
        """Remove an image that nothing relies on."""
        if self._disk.exists(path):
            self._disk.remove(path)

    def remove_image(self, snapshot: Snapshot) -> None:
        """Remove an image that has its name, and on which no head relies."""
        self.remove(image_path(self._directory, snapshot))

    def remove_all_but(self, snapshots: Sequence[Snapshot]) -> None:
        """Remove the images that no head names, whole or not."""
        kept = [image_name(snapshot) for snapshot in snapshots]
        for name in self._disk.list(self._directory):
            if name.endswith((_PARTIAL, IMAGE_SUFFIX)) and name not in kept:
                self._disk.remove(posixpath.join(self._directory, name))
        self._disk.sync_directory(self._directory)

    def pieces(self, snapshot: Snapshot) -> Iterator[bytes]:
        """The state in the image of a snapshot, in pieces that are checked.

        Raises:
            CorruptSnapshot: it is damaged.
            OSError: it can't be read.
        """
        path = image_path(self._directory, snapshot)
        file = self._disk.open(path, create=False)
        try:
            yield from read_image(file, path, snapshot)
        finally:
            file.close()

    def read_part(self, snapshot: Snapshot, offset: int, size: int) -> bytes:
        """Bytes of the file with a snapshot's image. Raises OSError if it is not there any more."""
        file = self._disk.open(image_path(self._directory, snapshot), create=False)
        try:
            return file.read(offset, size)
        finally:
            file.close()

    def damage_of(self, snapshot: Snapshot) -> Damage | None:
        """Read the image of a snapshot from beginning to end, and say what is wrong with it."""
        try:
            check_image(self._disk, self._directory, snapshot)
        except CorruptSnapshot as corrupt:
            return corrupt.damage
        except OSError as error:
            if error.errno == errno.EIO:
                return Damage(image_path(self._directory, snapshot), 0, 0, f"it can't be read: {error.strerror}")
        return None

    def open_partial(self, path: str) -> File:
        """A file to receive an image in, made if it is not there."""
        return self._disk.open(path, create=True)
