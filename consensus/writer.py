"""Carries out what a core with asynchronous storage wants written."""

from collections.abc import Callable
from typing import Final

from consensus.ready import Appended, StorageAppend
from consensus.storage import DurableLog
from consensus.syncing import Syncs

ANSWERS_MAX: Final = 1024
"""Answers in a row, with nothing to be written between, that are kept when twice as many wait for the disk: if it
hangs, each heartbeat of a leader brings another one. The oldest of those to peers are lost."""


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
        # Bounded as the core bounds what it has under way: uncommitted_bytes_max, or what a leader may send ahead. What
        # has only answers is put together.
        self._waiting: list[StorageAppend] = []
        # What is being synced elsewhere, and whether that is over.
        self._batch: list[StorageAppend] = []
        self._is_synced = False

    def add(self, work: StorageAppend) -> None:
        """Have a piece of work done, by the next `write`."""
        waiting = self._waiting
        if _only_answers(work) and waiting and _only_answers(waiting[-1]):
            waiting[-1] = _put_together(waiting[-1], work)
        else:
            waiting.append(work)

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


def _only_answers(work: StorageAppend) -> bool:
    """Whether there is nothing to be written, but for what was before."""
    return not work.must_sync and work.hard_state is None and work.snapshot is None


def _put_together(earlier: StorageAppend, later: StorageAppend) -> StorageAppend:
    """The answers of both. Once there are too many, each that came again at its latest place, and the latest of all.

    What is for the node itself is kept, however much else there is.
    """
    responses = earlier.responses + later.responses
    if len(responses) > 2 * ANSWERS_MAX:
        latest_first = dict.fromkeys(reversed(responses))
        kept = [
            one
            for place, one in enumerate(latest_first)
            if place < ANSWERS_MAX or isinstance(one, Appended) or one.to == one.sender
        ]
        responses = tuple(reversed(kept))
    return StorageAppend(None, (), None, must_sync=False, responses=responses)
