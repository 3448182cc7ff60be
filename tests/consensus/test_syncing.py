"""Syncs run where the loop runs while they are quick, and elsewhere otherwise."""

from collections.abc import Callable

import pytest

from consensus.syncing import QUICK_S, QuickSyncs


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

    async def sync(self, *takes_s: float) -> list[bool]:
        """Whether each of some that take so long ran here."""
        self.here = []
        for self.takes_s in takes_s:
            await self.syncs(self._sync)
        return self.here


async def test_quick_syncs_run_here() -> None:
    assert all(await Disk().sync(*1000 * [QUICK_S / 2]))


async def test_one_slow_sync_among_many_does_not_change_that_for_long() -> None:
    disk = Disk()
    await disk.sync(*100 * [QUICK_S / 2])
    assert await disk.sync(0.1, *1000 * [QUICK_S / 2]) != 1001 * [True], "at first it is taken for a sign"
    await disk.sync(*2000 * [QUICK_S / 2])
    assert all(await disk.sync(*1000 * [QUICK_S / 2]))


@pytest.mark.parametrize(
    "takes_s",
    [(0.002,), (0.005,), (0.1,), (0.0002, 0.015), (*9 * [0.0001], 0.02)],
    ids=["always two ms", "always five", "always a hundred", "every other one", "one in ten"],
)
async def test_a_slow_disk_holds_up_the_loop_for_a_small_part_of_its_time(takes_s: tuple[float, ...]) -> None:
    disk = Disk()
    all_of_them = 20_000 // len(takes_s) * takes_s
    here = await disk.sync(*all_of_them)
    here_s = sum(took_s for took_s, was_here in zip(all_of_them, here, strict=True) if was_here)
    assert 0 < here_s < 0.05 * sum(all_of_them)


async def test_a_disk_that_is_quick_but_for_stalls_stays_here() -> None:
    disk = Disk()
    assert all(await disk.sync(*100 * [*31 * [QUICK_S / 50], 25 * QUICK_S]))


async def test_a_disk_that_becomes_slow_is_found_to_be() -> None:
    disk = Disk()
    await disk.sync(*1000 * [QUICK_S / 2])
    here = await disk.sync(*100 * [5 * QUICK_S])
    assert 5 * QUICK_S * sum(here) < 0.2
    assert not here[-1]


async def test_a_disk_that_becomes_quick_is_found_to_be() -> None:
    disk = Disk()
    await disk.sync(*5000 * [0.005])
    await disk.sync(*1000 * [QUICK_S / 2])
    assert all(await disk.sync(*1000 * [QUICK_S / 2]))


async def test_what_a_sync_raises_comes_out() -> None:
    disk = Disk()

    def refused() -> None:
        raise OSError(5, "refused")

    with pytest.raises(OSError, match="refused"):
        await disk.syncs(refused)
    await disk.sync(0.1)
    with pytest.raises(OSError, match="refused"):
        await disk.syncs(refused)
