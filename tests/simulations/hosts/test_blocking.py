"""Disks and blocking work of simulated hosts: how long they take, and what a death leaves."""

import functools
import math

import pytest
import trio

from consensus.disk import Disk
from meshnode.errors import DataDirectoryError
from simulations.disk import DiskFaults
from simulations.hosts import SimHost
from simulations.hosts.host import BLOCKING_BEGINS_S
from simulations.kernel import Killed
from tests.simulations.hosts.world import A, B, World

ROOT = "data"
SYNC_S = 0.25


def write(disk: Disk, path: str, syncs: int = 1) -> None:
    """A file whose every sync is noted in it."""
    file = disk.open(path, create=True)
    for number in range(syncs):
        file.append(b"%d" % number)
        file.sync()
    file.close()


def content(disk: Disk, path: str) -> bytes:
    file = disk.open(path, create=False)
    try:
        return file.read(0, 100)
    finally:
        file.close()


# ---- time


def test_blocking_work_takes_as_long_as_its_disk_operations() -> None:
    world = World()
    host = world.process(A)

    async def main() -> None:
        async with host.disk(ROOT) as disk:
            for syncs in (0, 1, 3):
                begun_s = world.events.now
                await host.run_blocking(write, disk, f"file {syncs}", syncs)
                assert world.events.now - begun_s == pytest.approx(BLOCKING_BEGINS_S + syncs * SYNC_S)

    world.run(main)


def test_blocking_work_of_several_tasks_goes_on_at_once() -> None:
    world = World()
    host = world.process(A)

    async def main() -> None:
        async with host.disk(ROOT) as disk, trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(host.run_blocking, functools.partial(write, disk, f"{number}"))
        assert world.events.now == pytest.approx(SYNC_S, rel=0.01)

    world.run(main)


def test_a_cancellation_waits_for_the_work_that_has_begun_and_does_not_lose_its_result() -> None:
    world = World()
    host = world.process(A)
    results: list[object] = []

    async def main() -> None:
        async with host.disk(ROOT) as disk:
            with trio.move_on_after(0.1) as scope:
                results.append(await host.run_blocking(write, disk, "file"))
                await trio.lowlevel.checkpoint()
            assert scope.cancelled_caught
        assert world.events.now >= SYNC_S

    world.run(main)
    assert results == [None]


def test_work_that_is_cancelled_before_it_begins_does_not_begin() -> None:
    world = World()
    host = world.process(A)
    begun: list[bool] = []

    async def main() -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            await host.run_blocking(begun.append, True)
        assert scope.cancelled_caught

    world.run(main)
    assert begun == []


def test_a_stuck_sync_holds_up_its_own_work_alone() -> None:
    world = World()
    host = world.process(A)
    done: list[str] = []

    async def program() -> None:
        async with host.disk(ROOT) as disk, trio.open_nursery() as nursery:

            async def work(name: str) -> None:
                await host.run_blocking(write, disk, name)
                done.append(name)

            world.machines[A].disk(ROOT).faults = DiskFaults(stuck_sync_rate=1.0)
            nursery.start_soon(work, "stuck")
            await trio.sleep(1.0)
            world.machines[A].disk(ROOT).faults = DiskFaults()
            nursery.start_soon(work, "later")
            await trio.sleep(1.0)
            done.append("main")
            nursery.cancel_scope.cancel()
        done.append("never")

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            world.start(nursery, host, program)
            await trio.sleep(60.0)
            assert host.process.is_alive
            world.events.after(0.0, host.process.kill)

    world.run(main)
    assert done == ["later", "main"]


def test_a_disk_that_answers_again_lets_the_work_go_on_that_was_stuck() -> None:
    world = World()
    host = world.process(A)
    done: list[float] = []

    async def program() -> None:
        async with host.disk(ROOT) as disk:
            world.machines[A].disk(ROOT).faults = DiskFaults(stuck_sync_rate=1.0)
            await host.run_blocking(write, disk, "stuck")
            done.append(world.events.now)

    world.events.at(50.0, world.machines[A].unstick)
    world.run_as_process(host, program)
    assert done == [50.0]


def test_the_result_of_work_waits_while_its_process_is_paused() -> None:
    world = World()
    host = world.process(A)
    done_s: list[float] = []

    async def program() -> None:
        async with host.disk(ROOT) as disk:
            await host.run_blocking(write, disk, "file")
            done_s.append(world.events.now)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            world.start(nursery, host, program)
            world.events.at(0.1, host.process.pause)
            world.events.at(5.0, host.process.resume)

    world.run(main)
    assert done_s == [5.0]


# ---- deaths


@pytest.mark.parametrize("operations", range(8))
def test_a_process_that_dies_at_a_disk_operation_has_done_what_was_before_it(operations: int) -> None:
    world = World()
    host = world.process(A)
    disk = world.machines[A].disk(ROOT)
    left = operations
    notes: list[str] = []

    def count(_operation: str, _path: str) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            disk.on_operation = None
            raise Killed

    disk.on_operation = count  # one to open the file, and two for each byte

    async def program() -> None:
        try:
            async with host.disk(ROOT) as opened:
                await host.run_blocking(write, opened, "file", 10)
                notes.append("done")
        finally:
            notes.append("finally")

    async def main() -> bytes:
        async with trio.open_nursery() as nursery:
            world.start(nursery, host, program)
            await trio.sleep(60.0)
            assert not host.process.is_alive
            assert notes == []
        heir = world.process(A)
        async with heir.disk(ROOT) as opened:
            return content(opened, "file") if operations else b""

    assert world.run(main) == b"0123"[: operations // 2]


def test_a_death_at_an_operation_that_holds_up_the_loop_itself_is_a_death_too() -> None:
    world = World()
    host = world.process(A)
    disk = world.machines[A].disk(ROOT)

    def die(_operation: str, path: str) -> None:
        if path == "last":
            raise Killed

    disk.on_operation = die

    async def program() -> None:
        async with host.disk(ROOT) as opened:
            opened.open("first", create=True).close()
            opened.open("last", create=True).close()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            world.start(nursery, host, program)
        assert not host.process.is_alive
        disk.on_operation = None
        async with world.process(A).disk(ROOT) as opened:
            assert opened.list("") == ["first"]

    world.run(main)


def test_two_processes_can_not_hold_one_disk_and_a_new_one_can_after_a_death() -> None:
    world = World()
    first, second, third = (world.process(A) for _ in range(3))

    async def hold(host: SimHost) -> None:
        async with host.disk(ROOT) as disk:
            disk.open(f"{host.rng.random()}", create=True).close()
            await trio.sleep_forever()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            world.start(nursery, first, lambda: hold(first))
            await trio.sleep(1.0)
            with pytest.raises(DataDirectoryError, match="locked"):
                await hold(second)
            async with world.process(B).disk(ROOT):  # a machine has disks of its own
                pass
            world.events.after(0.0, first.process.kill)
            await trio.sleep(1.0)
            async with third.disk(ROOT) as disk:
                assert len(disk.list("")) == 1

    world.run(main)


def test_the_dead_do_not_give_back_the_disk_that_another_process_has_by_now() -> None:
    world = World()
    host = world.process(A)
    disk = world.machines[A].disk(ROOT)

    async def hold() -> None:
        async with host.disk(ROOT):
            await trio.sleep_forever()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            world.start(nursery, host, hold)
            world.events.at(1.0, host.process.kill)
        disk.acquire()

    world.run(main)  # at whose end the coroutines of the dead are closed
    with pytest.raises(DataDirectoryError, match="locked"):
        disk.acquire()


def test_blocking_work_of_the_dead_is_not_begun_and_its_result_reaches_nobody() -> None:
    world = World()
    begun: list[str] = []

    def work(disk: Disk, name: str) -> None:
        begun.append(name)
        write(disk, name)

    async def program(host: SimHost) -> None:
        async with host.disk(ROOT) as disk:
            await host.run_blocking(work, disk, "first")
            await host.run_blocking(work, disk, "second")

    async def main() -> None:
        for delay_s in (0.00001, 0.1):  # before the work begins, and while it goes on
            async with trio.open_nursery() as nursery:
                host = world.process(A)
                world.start(nursery, host, functools.partial(program, host))
                world.events.after(delay_s, host.process.kill)
                await trio.sleep(5.0)

    world.run(main)
    assert begun == ["first"]
    assert world.events.next_at() == math.inf
