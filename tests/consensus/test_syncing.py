"""Syncs run where the loop runs while they are quick, and elsewhere otherwise."""

from collections.abc import Callable

import pytest

from consensus.syncing import ELSEWHERE_MAX, ELSEWHERE_MIN, QUICK_S, QuickSyncs


class Disk:
    """Each sync takes ``takes_s``."""

    def __init__(self) -> None:
        self.takes_s = 0.0
        self.now_s = 100.0
        self.here: list[bool] = []
        self.syncs = QuickSyncs(self._run_blocking, lambda: self.now_s)
        self._is_elsewhere = False

    async def _run_blocking(self, call: Callable[[], None], /) -> None:
        self._is_elsewhere = True
        call()
        self._is_elsewhere = False

    def _sync(self) -> None:
        self.now_s += self.takes_s
        self.here.append(not self._is_elsewhere)

    async def sync(self, times: int = 1) -> list[bool]:
        """Whether each of them ran here."""
        self.here = []
        for _ in range(times):
            await self.syncs(self._sync)
        return self.here


async def test_quick_syncs_run_here_after_a_few_elsewhere() -> None:
    disk = Disk()
    assert await disk.sync(ELSEWHERE_MIN) == ELSEWHERE_MIN * [False]
    assert await disk.sync(1000) == 1000 * [True]


async def test_after_a_slow_sync_the_next_run_elsewhere_for_a_while() -> None:
    disk = Disk()
    await disk.sync(1000)
    disk.takes_s = 2 * QUICK_S
    assert await disk.sync() == [True]
    disk.takes_s = QUICK_S / 2
    assert await disk.sync(ELSEWHERE_MIN) == ELSEWHERE_MIN * [False]
    assert await disk.sync(100) == 100 * [True]


async def test_a_slow_disk_holds_up_hardly_any() -> None:
    disk = Disk()
    disk.takes_s = 0.005
    await disk.sync(2 * ELSEWHERE_MAX)
    assert sum(disk.here) <= 10
    assert sum(await disk.sync(10 * ELSEWHERE_MAX)) in (9, 10)


async def test_a_disk_that_becomes_quick_is_found_to_be() -> None:
    disk = Disk()
    disk.takes_s = 0.005
    await disk.sync(4 * ELSEWHERE_MAX)
    disk.takes_s = 0.0
    await disk.sync(ELSEWHERE_MAX)
    assert all(await disk.sync(1000))
    disk.takes_s = 0.005
    assert sum(await disk.sync(ELSEWHERE_MIN)) == 1
    disk.takes_s = 0.0
    assert sum(await disk.sync(2 * ELSEWHERE_MIN)) > 1, "one slow sync among many quick ones is soon forgotten"


async def test_what_a_sync_raises_comes_out() -> None:
    disk = Disk()

    def refused() -> None:
        raise OSError(5, "refused")

    for _ in range(ELSEWHERE_MIN + 1):
        with pytest.raises(OSError, match="refused"):
            await disk.syncs(refused)
