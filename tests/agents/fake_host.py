"""A host whose time is trio's, which a test makes virtual, and which has no outside."""

import random
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Never, TypeVar, TypeVarTuple

import trio

from consensus.disk import Disk
from consensus.syncing import SlowSyncs, Syncs
from meshnode.host import Datagrams, Mailbox
from meshnode.identity import Address

T = TypeVar("T")
K = TypeVar("K")
Ts = TypeVarTuple("Ts")


class FakeHost:
    """Satisfies `meshnode.host.Host`.

    Attributes:
        wall_offset_s: how far the wall clock is from `now`.
        leap_s: how far `now` is from the test's time: more is a clock that has leapt.
    """

    def __init__(self) -> None:
        self.rng = random.Random(1)
        self.wall_offset_s = 1e9
        self.leap_s = 0.0

    def now(self) -> float:
        return trio.current_time() + self.leap_s

    def wall_clock(self) -> float:
        return trio.current_time() + self.wall_offset_s

    async def sleep_until(self, at: float) -> None:
        await trio.sleep_until(at - self.leap_s)

    def deadline(self, at: float) -> trio.CancelScope:
        return trio.CancelScope(deadline=at - self.leap_s)

    def fresh_id(self, bits: int) -> int:
        return self.rng.randrange(1, 2**bits)

    def syncs(self) -> Syncs:
        return SlowSyncs(self.run_blocking)

    async def run_blocking(self, work: Callable[[*Ts], T], *arguments: *Ts) -> T:
        await trio.lowlevel.checkpoint()
        return work(*arguments)

    def datagrams(self, bind: Address) -> AbstractAsyncContextManager[Datagrams]:
        self._refuse(bind)

    async def listen(self, bind: Address) -> tuple[trio.abc.Listener[trio.abc.HalfCloseableStream], Address]:
        self._refuse(bind)

    async def dial(self, to: Address) -> trio.abc.HalfCloseableStream:
        self._refuse(to)

    def disk(self, root: str) -> AbstractAsyncContextManager[Disk]:
        self._refuse(root)

    async def own_loop(
        self,
        main: Callable[[Callable[[], None]], Awaitable[None]],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        self._refuse(main)

    def mailbox(self, bound: int) -> Mailbox[K, T]:
        self._refuse(bound)

    def _refuse(self, subject: object) -> Never:
        raise AssertionError(f"this host has no outside, and no {subject}")
