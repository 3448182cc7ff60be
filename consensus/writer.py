"""Carries out what a core with asynchronous storage wants written."""

from collections.abc import Callable

import trio

from consensus.environment import RunBlocking
from consensus.ready import StorageAppend
from consensus.storage import DurableLog


class Writer:
    """Writes work in its order. While one sync is under way the work for the next one gathers, and shares it.

    Args:
        log: to be written to by nobody else.
        run_sync: runs a sync.
        done: called for each piece of work, in order, once it is durable.
    """

    def __init__(self, log: DurableLog, *, run_sync: RunBlocking, done: Callable[[StorageAppend], None]) -> None:
        self._log = log
        self._run_sync = run_sync
        self._done = done
        # Bounded as the core bounds what it has under way: uncommitted_bytes_max, or what a leader may send ahead.
        self._waiting: list[StorageAppend] = []
        self._is_at_work = False
        self._wake = trio.Event()

    def add(self, work: StorageAppend) -> None:
        """Have a piece of work done; at once, if there is nothing to sync and nothing before it."""
        if self._is_at_work or self._waiting or _must_sync(work):
            self._waiting.append(work)
            self._wake.set()
        else:
            self._log.append(work.hard_state, work.entries)
            self._done(work)

    def sync_soon(self) -> None:
        """Have what the log has queued by itself made durable."""
        self.add(StorageAppend(None, (), None, must_sync=True, responses=()))

    async def run(self) -> None:
        """Until cancelled.

        Raises:
            StorageFailed: nothing that was not durable is reported as done, and nothing is any more.
        """
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            self._is_at_work = True
            while self._waiting:
                batch, self._waiting = self._waiting, []
                for work in batch:
                    self._log.append(work.hard_state, work.entries, work.snapshot)
                if any(map(_must_sync, batch)):
                    await self._run_sync(self._log.sync)
                for work in batch:
                    self._done(work)
            self._is_at_work = False


def _must_sync(work: StorageAppend) -> bool:
    return work.must_sync or work.snapshot is not None
