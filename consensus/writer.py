"""Carries out what a core with asynchronous storage wants written."""

from collections.abc import Callable

from consensus.ready import StorageAppend
from consensus.storage import DurableLog
from consensus.syncing import Syncs


class Writer:
    """Writes work in its order. While one sync is under way the work for the next one gathers, and shares it.

    Args:
        log: to be written to by nobody else.
        syncs: runs its syncs.
        done: called by `write` for each piece of work, in order, once it is durable.
        elsewhere: called when the log is to be synced elsewhere. `synced` and another `write` have to follow.
    """

    def __init__(
        self,
        log: DurableLog,
        *,
        syncs: Syncs,
        done: Callable[[StorageAppend], None],
        elsewhere: Callable[[], None],
    ) -> None:
        self._log = log
        self._syncs = syncs
        self._done = done
        self._elsewhere = elsewhere
        # Bounded as the core bounds what it has under way: uncommitted_bytes_max, or what a leader may send ahead.
        self._waiting: list[StorageAppend] = []
        # What is being synced elsewhere, and whether that is over.
        self._batch: list[StorageAppend] = []
        self._is_synced = False

    def add(self, work: StorageAppend) -> None:
        """Have a piece of work done, by the next `write`."""
        self._waiting.append(work)

    def write(self) -> bool:
        """Do what waits; have it synced elsewhere if that may take long. Whether anything is done.

        Raises:
            StorageFailed: nothing that was not durable is reported as done, and nothing is any more.
        """
        if self._is_synced:
            batch, self._batch, self._is_synced = self._batch, [], False
        elif self._batch or not self._waiting:
            return False
        else:
            batch, self._waiting = self._waiting, []
            must_sync = False
            for work in batch:
                self._log.append(work.hard_state, work.entries, work.snapshot)
                must_sync = must_sync or work.must_sync or work.snapshot is not None
            if must_sync and not self._syncs.at_once(self._log.sync):
                self._batch = batch
                self._elsewhere()
                return False
        for work in batch:
            self._done(work)
        return True

    def synced(self) -> None:
        """The log was synced elsewhere."""
        self._is_synced = True
