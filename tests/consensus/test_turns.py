"""A node has its turns in its own task, or where something has come while that task rests."""

from collections.abc import AsyncIterator, Iterator

import pytest
import trio
import trio.testing

from consensus.turns import Turns


class Worker:
    """Notes in which task each turn is, and has more to do for as long as it is told."""

    def __init__(self) -> None:
        self.turns = Turns(self._turn)
        self.tasks: list[str] = []
        self.more: Iterator[bool] = iter(())
        self.within: list[str] = []

    def _turn(self) -> bool:
        self.tasks.append(trio.lowlevel.current_task().name.rpartition(".")[2])
        for what in self.within:
            getattr(self.turns, what)()
        self.within = []
        return next(self.more, False)

    async def run(self) -> None:
        await self.turns.run()


@pytest.fixture
async def worker() -> AsyncIterator[Worker]:
    here = Worker()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(here.run)
        await trio.testing.wait_all_tasks_blocked()
        assert here.tasks == ["run"], "one turn at the start"
        here.tasks.clear()
        yield here
        nursery.cancel_scope.cancel()


async def test_a_turn_at_once_is_in_the_task_that_asks(worker: Worker) -> None:
    worker.turns.at_once()
    assert len(worker.tasks) == 1
    await trio.testing.wait_all_tasks_blocked()
    assert worker.tasks != ["run"]
    assert len(worker.tasks) == 1


async def test_a_turn_soon_is_in_its_own_task_and_once(worker: Worker) -> None:
    worker.turns.soon()
    worker.turns.soon()
    assert worker.tasks == []
    await trio.testing.wait_all_tasks_blocked()
    assert worker.tasks == ["run"]


async def test_what_is_due_already_is_not_done_at_once_as_well(worker: Worker) -> None:
    worker.turns.soon()
    worker.turns.at_once()
    assert worker.tasks == []
    await trio.testing.wait_all_tasks_blocked()
    assert worker.tasks == ["run"]


async def test_what_is_left_is_done_in_its_own_task_and_others_have_their_turn(worker: Worker) -> None:
    worker.more = iter([True, True, False])
    worker.turns.at_once()
    assert len(worker.tasks) == 1
    for done in (1, 2, 3):
        assert len(worker.tasks) <= done + 1
        await trio.lowlevel.checkpoint()
    await trio.testing.wait_all_tasks_blocked()
    assert worker.tasks[1:] == ["run", "run"]


@pytest.mark.parametrize("what", ["soon", "at_once"])
async def test_what_comes_within_a_turn_is_not_lost(worker: Worker, what: str) -> None:
    worker.within = [what]
    worker.turns.soon()
    await trio.testing.wait_all_tasks_blocked()
    assert worker.tasks == ["run", "run"]


async def test_what_a_turn_at_once_raises_ends_the_task_and_not_whoever_asks() -> None:
    fails = False

    def turn() -> bool:
        if fails:
            raise RuntimeError("broken")
        return False

    turns = Turns(turn)
    with pytest.RaisesGroup(pytest.RaisesExc(RuntimeError, match="broken")):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(turns.run)
            await trio.testing.wait_all_tasks_blocked()
            fails = True
            turns.at_once()
            turns.at_once()
