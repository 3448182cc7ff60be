"""Listens in on the disks: what a sync failed on, nobody may take for synced later.

On a real disk a second sync may succeed though the data is gone. Whether it is, shows only if the machine crashes at
the right moment; that somebody tried again, shows at once.
"""

from collections.abc import Callable

from simulations.checkers.violation import Violation
from simulations.disk.content import Content
from simulations.disk.handle import SimFile
from simulations.mesh.listening import Listener, Method, Wrapping


class Storage(Listener):
    """Sees each sync of each file."""

    def __init__(self, clock: Callable[[], float], fail: Callable[[Violation], None]) -> None:
        super().__init__(clock, fail)
        # Files with the number of the crash that ends the process on which a sync failed: one entry a failure.
        self._failed: set[tuple[Content, int]] = set()

    def wrappings(self) -> tuple[Wrapping, ...]:
        return ((SimFile, "sync", self._sync_heard),)

    def _sync_heard(self, original: Method) -> Method:
        def heard(file: SimFile) -> None:
            key = (file._content, file._crashes)
            if key in self._failed:
                self.tell(self._refuse, file)
            try:
                original(file)
            except OSError:
                self._failed.add(key)
                raise

        return heard

    def _refuse(self, file: SimFile) -> None:
        raise Violation(
            "disk-sync-again",
            virtual_s=self.clock(),
            message=f"{file._device.name}: {file._path} is synced again after a sync of it failed",
        )
