"""Where syncs run: a hop to another thread and back takes longer than a sync of a disk that keeps what it is given.

Such disks, whose caches survive a loss of power, sync in some ten microseconds; others take milliseconds, in which the
loop has better things to do.
"""

from collections.abc import Callable
from typing import Final

from consensus.environment import RunBlocking

QUICK_S: Final = 0.001
"""What a sync may hold up the loop: about as long as a batch of messages does."""

ELSEWHERE_MIN: Final = 8
ELSEWHERE_MAX: Final = 4096
"""After a slow sync so many run elsewhere, and twice as many each time that the next one here is slow at once again."""


class QuickSyncs:
    """Runs syncs here while they are quick, and elsewhere otherwise: a slow disk holds up one in some thousand.

    Args:
        run_blocking: runs a call elsewhere.
        now: seconds, of a clock that tells microseconds apart.
    """

    def __init__(self, run_blocking: RunBlocking, now: Callable[[], float]) -> None:
        self._run_blocking = run_blocking
        self._now = now
        self._elsewhere = self._next = ELSEWHERE_MIN
        self._was_quick = False

    async def __call__(self, call: Callable[[], None], /) -> None:
        """Write and sync; what the call raises comes out here."""
        if self._elsewhere:
            self._elsewhere -= 1
            await self._run_blocking(call)
            return
        began_s = self._now()
        call()
        if self._now() - began_s <= QUICK_S:
            self._was_quick = True
            return
        self._next = ELSEWHERE_MIN if self._was_quick else min(2 * self._next, ELSEWHERE_MAX)
        self._elsewhere = self._next
        self._was_quick = False
