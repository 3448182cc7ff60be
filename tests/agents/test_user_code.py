"""Whatever an agent's code raises, the node goes on, and what stops a node stops it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import pytest
import trio

from meshnode.agents.definition import Agent, Application, agent, definition_of, handler
from meshnode.agents.messages import Status
from meshnode.errors import CallerError, InvalidArgument, Overloaded, UnknownSession
from tests.agents.samples import Counter, Gates, Tally
from tests.agents.world import serving, settle


class Unspeakable(InvalidArgument):
    code = cast(Any, 5)


class Nameless(CallerError):
    code = ""


class SoldOut(CallerError):
    """An error of the user's, which crosses the mesh under its own name."""

    code = "sold_out"


class Exiting(RuntimeError):
    def __str__(self) -> str:
        raise SystemExit


class Unsayable(Overloaded):
    code = cast(Any, 5)

    def __str__(self) -> str:
        raise SystemExit


@dataclass
class Touchy:
    """Can be made only with a positive number."""

    number: int

    def __post_init__(self) -> None:
        if self.number < 0:
            raise SystemExit("below zero")
        if self.number == 0:
            raise Exiting


stale: list[trio.Cancelled] = []

RAISED: dict[str, Callable[[], BaseException]] = {
    "SystemExit": lambda: SystemExit(3),
    "GeneratorExit": GeneratorExit,
    "CancelledError": asyncio.CancelledError,
    "BaseException": lambda: BaseException("as plain as can be"),
    "BaseExceptionGroup": lambda: BaseExceptionGroup("", [SystemExit(), ValueError()]),
    "Exiting": Exiting,
    "Unspeakable": Unspeakable,
    "Nameless": Nameless,
    "UnknownSession": UnknownSession,
    "Cancelled": lambda: stale[0],
}


@agent("unruly", state=Tally)
class Unruly(Agent[Tally]):
    @property
    def gates(self) -> Gates:
        return cast(Gates, self.node)

    @handler
    async def raise_a(self, name: str) -> None:
        self.state.total = -1
        raise RAISED[name]()

    @handler
    async def clean_up_badly(self, gate: str, name: str = "ValueError") -> None:
        self.state.total = -1
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._wait_and_raise, gate, name)
            await trio.sleep_forever()

    async def _wait_and_raise(self, gate: str, name: str) -> None:
        try:
            await self.gates.wait(gate)
        finally:
            raise RAISED[name]() if name in RAISED else ValueError("close failed")

    @handler
    async def keep_a_cancelled(self) -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.lowlevel.checkpoint()
            except trio.Cancelled as error:
                stale.append(error)

    @handler
    async def sell_out(self) -> None:
        raise SoldOut("no more")

    @handler
    async def be_unsayable(self) -> None:
        raise Unsayable

    @handler
    async def take(self, touchy: Touchy) -> int:
        return touchy.number

    @handler
    async def interrupt(self) -> None:
        raise KeyboardInterrupt

    @handler
    async def interrupt_in_a_nursery(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.interrupt)
            nursery.start_soon(self.raise_a, "SystemExit")

    @handler(read_only=True)
    async def total(self) -> int:
        return self.state.total


def offers() -> Application:
    return Application(definition_of(cls) for cls in (Counter, Unruly))


@pytest.mark.parametrize("name", RAISED)
async def test_whatever_a_handler_raises_is_the_end_of_its_call_and_of_nothing_else(name: str) -> None:
    async with serving(offers=offers()) as world:
        await world.done("keep_a_cancelled", agent_type="unruly", key="keeper")
        failed = world.call("raise_a", name, agent_type="unruly")
        await settle()
        world.log.commit()
        assert (failed.status, failed.code) == (Status.FAILED, "agent")
        assert failed.text.startswith(f"{name}: ")
        assert await world.done("total", agent_type="unruly") == 0
        assert await world.done("add", 1) == 1


async def test_an_error_in_the_cleanup_at_the_deadline_is_the_end_of_the_call() -> None:
    async with serving(offers=offers()) as world:
        failed = world.call("clean_up_badly", "never", agent_type="unruly", timeout_s=3.0)
        await trio.sleep(3.1)
        world.log.commit()
        assert (failed.status, failed.code, failed.text) == (Status.FAILED, "agent", "ValueError: close failed")
        assert await world.done("total", agent_type="unruly") == 0


@pytest.mark.parametrize("name", ["ValueError", "SystemExit"])
async def test_an_error_in_the_cleanup_when_the_partition_moves_leaves_nothing(name: str) -> None:
    async with serving(offers=offers()) as world:
        asked = world.call("clean_up_badly", "never", name, agent_type="unruly")
        await settle()
        world.log.depose()
        await settle()
        assert world.gates.left == ["never"]
        assert asked.status is Status.UNKNOWN
        assert len(world.log.records) == 1
        world.log.serve()
        assert await world.done("add", 1) == 1


async def test_an_error_in_the_cleanup_when_the_node_ends_leaves_nothing() -> None:
    async with serving(offers=offers()) as world:
        world.call("clean_up_badly", "never", agent_type="unruly")
        await settle()
    assert world.gates.left == ["never"]
    assert len(world.log.records) == 1


@pytest.mark.parametrize("method", ["interrupt", "interrupt_in_a_nursery"])
async def test_the_operators_interrupt_is_not_taken_for_an_answer(method: str) -> None:
    async def run() -> None:
        async with serving(offers=offers()) as world:
            world.call(method, agent_type="unruly")
            await trio.sleep(1.0)

    with pytest.raises(BaseExceptionGroup) as caught:
        await run()
    stopped_by, others = caught.value.split(KeyboardInterrupt)
    assert stopped_by is not None
    assert others is None


async def test_an_error_of_the_users_that_refuses_keeps_its_name() -> None:
    async with serving(offers=offers()) as world:
        failed = world.call("sell_out", agent_type="unruly")
        await settle()
        world.log.commit()
        assert (failed.status, failed.code, failed.text) == (Status.FAILED, "sold_out", "no more")


async def test_an_error_of_the_users_that_passes_is_told_in_this_packages_words() -> None:
    async with serving(offers=offers()) as world:
        postponed = world.call("be_unsayable", agent_type="unruly")
        await settle()
        assert (postponed.status, postponed.code) == (Status.TRY_AGAIN, "overloaded")
        assert postponed.text == "its message can't be read"


@pytest.mark.parametrize(("number", "complaint"), [(-1, "below zero"), (0, "its message can't be read")])
async def test_an_argument_whose_type_does_not_want_it_is_refused(number: int, complaint: str) -> None:
    async with serving(offers=offers()) as world:
        refused = world.call("take", {"number": number}, agent_type="unruly")
        assert (refused.status, refused.code) == (Status.REFUSED, "invalid_argument")
        assert complaint in refused.text
        assert await world.done("take", {"number": 1}, agent_type="unruly") == 1
