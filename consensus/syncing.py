"""Where syncs run: a hop to another thread and back takes longer than a sync of a disk that keeps what it is given.

Such disks, whose caches survive a loss of power, sync in some ten microseconds; others take milliseconds, in which the
loop has better things to do.
"""

from collections.abc import Callable
from typing import Final, Protocol

from consensus.environment import RunBlocking

QUICK_S: Final = 0.001
"""What a sync may hold up the loop, on average: about as long as a batch of messages does."""

WEIGHT: Final = 1 / 128
"""Of the latest one in the average of those that ran here. Some slow ones in a row, as while an image is written, are
no slow disk, nor is a stall now and then; one that becomes slow has held up the loop for some 150 ms until it is."""
FORGOTTEN: Final = 1 / 4096
"""Of the average, with each that runs elsewhere: a disk that takes five milliseconds is tried again after some hundred,
and holds up the loop for a hundredth of the time. What those elsewhere take says little: they wait for the loop too."""


class Syncs(Protocol):
    """Runs the syncs of one file, with the writes before them. What they raise comes out of it."""

    def at_once(self, call: Callable[[], None], /) -> bool:
        """Write and sync here. False, and nothing is done, if that may take long."""
        ...

    async def __call__(self, call: Callable[[], None], /) -> None:
        """Write and sync, wherever that takes less."""
        ...


class SlowSyncs:
    """Runs all syncs elsewhere.

    Args:
        run_blocking: runs a call elsewhere.
    """

    def __init__(self, run_blocking: RunBlocking) -> None:
        self._run_blocking = run_blocking

    def at_once(self, _call: Callable[[], None], /) -> bool:
        return False

    async def __call__(self, call: Callable[[], None], /) -> None:
        await self._run_blocking(call)


class QuickSyncs:
    """Runs the syncs of one file here as long as they are quick on average, and elsewhere otherwise.

    Args:
        run_blocking: runs a call elsewhere.
        now: seconds, of a clock that tells microseconds apart.
    """

    def __init__(self, run_blocking: RunBlocking, now: Callable[[], float]) -> None:
        self._run_blocking = run_blocking
        self._now = now
        self._mean_s = QUICK_S

    def at_once(self, call: Callable[[], None], /) -> bool:
        if self._mean_s > QUICK_S:
            return False
        began_s = self._now()
        call()
        self._mean_s += WEIGHT * (self._now() - began_s - self._mean_s)
        return True

    async def __call__(self, call: Callable[[], None], /) -> None:
        if not self.at_once(call):
            self._mean_s -= FORGOTTEN * self._mean_s
            await self._run_blocking(call)
