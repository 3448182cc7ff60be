"""What one process takes from outside, in the simulated world."""

import contextlib
import functools
import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar, TypeVarTuple

import outcome
import trio
from xxhash import xxh3_64_intdigest

from consensus.disk import Disk
from consensus.syncing import SlowSyncs, Syncs
from meshnode.identity import Address
from simulations.disk import SimDisk
from simulations.hosts.datagrams import SimDatagrams
from simulations.hosts.machine import Machine
from simulations.hosts.mailbox import SimMailbox
from simulations.hosts.network import Network
from simulations.kernel import Killed, Process

T = TypeVar("T")
K = TypeVar("K")
Ts = TypeVarTuple("Ts")

BLOCKING_BEGINS_S = 0.00002
"""What it takes until a thread begins with blocking work."""
QUICK_RATE = 0.5
"""How many processes find their disks quick enough to sync where their loop runs."""
ELSEWHERE_RATE = 0.1
"""How many of their syncs run elsewhere nevertheless, as when a disk was slow for a while."""


class SimHost:
    """A `meshnode.host.Host` for one life of one process on a machine."""

    def __init__(self, machine: Machine, network: Network, process: Process) -> None:
        machine.lives += 1
        self.machine = machine
        self.process = process
        self.now = machine.now
        self.wall_clock = machine.wall_clock
        self.deadline = machine.deadline
        seed = xxh3_64_intdigest(f"{machine.host} life {machine.lives}".encode(), machine.seed & (1 << 64) - 1)
        self.rng = random.Random(seed)
        self._ids = random.Random(seed + 1)
        self._is_quick = random.Random(seed + 2).random() < QUICK_RATE
        self._network = network
        self._loops = 0
        self._disks: list[SimDisk] = []
        process.on_kill(self._fence)

    def _fence(self) -> None:
        """The process is no more: what it had is released, and nothing it still does has an effect."""
        for disk in self._disks:
            disk.crash(power_loss=False)
        self.machine.forget_deadlines()
        self._network.close_all(self.process)

    # ---- time

    async def sleep_until(self, at: float) -> None:
        if math.isinf(at):
            if at > 0:
                await trio.sleep_forever()
            await trio.lowlevel.checkpoint()
            return
        while True:
            with self.machine.deadline(at):
                await trio.sleep_forever()
            if not self.machine.now() < at:  # the clock may have become slower in the last moment
                return

    # ---- chance

    def fresh_id(self, bits: int) -> int:
        return self._ids.randrange(1, 2**bits)

    # ---- network

    @contextlib.asynccontextmanager
    async def datagrams(self, bind: Address) -> AsyncIterator[SimDatagrams]:
        await trio.lowlevel.checkpoint()
        endpoint = self._network.open_datagrams(bind, self.process)
        try:
            yield endpoint
        finally:
            self._network.close_datagrams(endpoint)

    async def listen(self, bind: Address) -> tuple[trio.abc.Listener[trio.abc.HalfCloseableStream], Address]:
        await trio.lowlevel.checkpoint()
        listener = self._network.listen(bind, self.process)
        return listener, listener.address

    async def dial(self, to: Address) -> trio.abc.HalfCloseableStream:
        return await self._network.dial(self.machine.host, to, self.process)

    # ---- disk and blocking work

    @contextlib.asynccontextmanager
    async def disk(self, root: str) -> AsyncIterator[Disk]:
        await trio.lowlevel.checkpoint()
        disk = self.machine.disk(root)
        life = disk.acquire()
        self._disks.append(disk)
        try:
            yield disk
        finally:
            if self.process.is_alive or disk in self._disks:
                disk.release(life)

    def syncs(self) -> Syncs:
        return SimSyncs(self, self._ids.getrandbits(64)) if self._is_quick else SlowSyncs(self.run_blocking)

    @property
    def are_disks_harmless(self) -> bool:
        """Whether none of them may kill the process, or let it wait for ever, in the next operation."""
        return not any(disk.on_operation or disk.faults.stuck_sync_rate for disk in self._disks)

    def forget_elapsed(self) -> None:
        """What the disks have done took no time."""
        for disk in self._disks:
            disk.take_elapsed()

    async def run_blocking(self, work: Callable[[*Ts], T], *arguments: *Ts) -> T:
        await trio.lowlevel.checkpoint_if_cancelled()
        task = trio.lowlevel.current_task()
        events = self.machine.events
        process = self.process

        def begin() -> None:
            if not process.is_alive:
                return
            result: outcome.Outcome[T] = outcome.capture(work, *arguments)
            if isinstance(result, outcome.Error) and isinstance(result.error, Killed):
                process.kill()
                return
            elapsed_s = sum(disk.take_elapsed() for disk in self._disks)
            wake = functools.partial(trio.lowlevel.reschedule, task, result)
            if elapsed_s == math.inf:
                self.machine.stick(wake)
            else:
                events.after(elapsed_s, wake)

        events.after(BLOCKING_BEGINS_S, begin)

        def abort(_raise_cancel: Any) -> trio.lowlevel.Abort:
            return trio.lowlevel.Abort.FAILED  # work that has begun is not interrupted

        result: T = await trio.lowlevel.wait_task_rescheduled(abort)
        return result

    # ---- loops

    async def own_loop(
        self,
        main: Callable[[Callable[[], None]], Awaitable[None]],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        self._loops += 1
        loop = self.process.open_loop(f"loop {self._loops}")
        async with trio.open_nursery() as nursery:
            loop.spawn(nursery, functools.partial(main, task_status.started), loop.name)

    def mailbox(self, bound: int) -> SimMailbox[K, T]:
        return SimMailbox(bound)


class SimSyncs:
    """Runs the syncs of a file where the loop runs, most of the time.

    They take no time there. One in which the process may be killed, or which may never return, runs elsewhere.
    """

    def __init__(self, host: SimHost, seed: int) -> None:
        self._host = host
        self._rng = random.Random(seed)

    def at_once(self, call: Callable[[], None], /) -> bool:
        if self._rng.random() < ELSEWHERE_RATE or not self._host.are_disks_harmless:
            return False
        try:
            call()
        finally:
            self._host.forget_elapsed()
        return True

    async def __call__(self, call: Callable[[], None], /) -> None:
        if not self.at_once(call):
            await self._host.run_blocking(call)
