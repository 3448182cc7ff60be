"""Listens in on the disks: what nobody synced, or what a sync failed on, nobody may take for synced.

On a real disk a second sync may succeed though the data is gone, and what a killed process or a failed sync left in the
page cache is there for the next one to read. Whether it is lost shows only if the machine crashes at the right moment;
that somebody relies on it shows at once.
"""

from collections.abc import Callable

from consensus.storage import DurableLog
from meshnode.partitions.driver import Partitions
from simulations.checkers.violation import Violation
from simulations.disk import SimDisk
from simulations.disk.content import Content
from simulations.disk.device import Device
from simulations.disk.handle import SimFile
from simulations.mesh.listening import Listener, Method, Wrapping


class Storage(Listener):
    """Sees each sync of each file."""

    def __init__(self, clock: Callable[[], float], fail: Callable[[Violation], None]) -> None:
        super().__init__(clock, fail)
        # By disk, the files of which a sync failed in this life of the process that has it.
        self._failed: dict[Device, set[Content]] = {}

    def wrappings(self) -> tuple[Wrapping, ...]:
        return (
            (SimFile, "sync", self._sync_heard),
            (Partitions, "recover", self.after(lambda driver: self._check_opened(driver._journal._file))),
            (DurableLog, "__init__", self.after(lambda log, *_: self._check_opened(log._writer.file))),
            (SimDisk, "acquire", self.after(lambda disk: self._failed.pop(disk._device, None))),
        )

    def _sync_heard(self, original: Method) -> Method:
        def heard(file: SimFile) -> None:
            failed = self._failed.setdefault(file._device, set())
            if file._content in failed:
                self.tell(self._refuse, file)
            try:
                original(file)
            except OSError:
                failed.add(file._content)
                raise

        return heard

    def _refuse(self, file: SimFile) -> None:
        raise Violation(
            "disk-sync-again",
            virtual_s=self.clock(),
            message=f"{file._device.name}: {file._path} is synced again after a sync of it failed",
        )

    def _check_opened(self, file: SimFile) -> None:
        """A node that has read a file will answer for what it found there."""
        if file._content.first_dirty() is not None:
            raise Violation(
                "disk-found-unsynced",
                virtual_s=self.clock(),
                message=f"{file._device.name}: {file._path} is taken up from byte {file._content.durable_size} on,"
                " though nobody has synced that",
            )
        if file._content.dropped:
            raise Violation(
                "disk-found-dropped",
                virtual_s=self.clock(),
                message=f"{file._device.name}: {file._path} is taken up as the page cache shows it, and the medium has"
                " something else, as a sync of it failed",
            )
