"""Services outside of the mesh, and how requests reach them."""

import functools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from simulations.hosts import Trace
from simulations.hosts.quality import Paths, Quality
from simulations.kernel import Events, Process, simulate
from simulations.mesh.outside import Outside


class Counter:
    """A service."""

    def __init__(self) -> None:
        self.taken: list[int] = []

    def add(self, number: int, *, by: object = None) -> int:
        if number < 0:
            raise ValueError(f"{number} is below 0")
        self.taken.append(number)
        return sum(self.taken)


class Scene:
    """A service, and the way to it."""

    def __init__(self, **quality: float) -> None:
        self.events = Events()
        self.trace = Trace()
        self.paths = Paths(1)
        self.paths.default = Quality(**quality)
        self.counter = Counter()
        self.outside: Any = Outside(self.counter, "Counter", events=self.events, trace=self.trace, paths=self.paths)

    def run(self, main: Callable[[], Awaitable[None]]) -> None:
        simulate(main, events=self.events, seed=1)


def test_a_request_takes_a_while_and_so_does_its_answer() -> None:
    scene = Scene(delay_s=1.0, jitter_s=0.0)

    async def main() -> None:
        assert await scene.outside.add(3) == 3
        assert scene.events.now == 2.0
        with pytest.raises(ValueError, match="-1 is below 0"):
            await scene.outside.add(-1)
        assert scene.events.now == 4.0

    scene.run(main)


def test_a_request_whose_caller_waits_no_longer_arrives_all_the_same() -> None:
    scene = Scene(delay_s=1.0, jitter_s=0.0)

    async def main() -> None:
        for given_up_after_s in (0.5, 1.5):  # on its way, and on its way back
            with trio.move_on_after(given_up_after_s) as scope:
                await scene.outside.add(1)
            assert scope.cancelled_caught
        await trio.sleep(5.0)

    scene.run(main)
    assert scene.counter.taken == [1, 1]


def test_a_request_of_a_process_that_is_killed_arrives_all_the_same() -> None:
    scene = Scene(delay_s=1.0, jitter_s=0.0)
    process = Process(scene.events, name="n1")

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            process.start(nursery, functools.partial(scene.outside.add, 7))
            scene.events.after(0.5, process.kill)
            await trio.sleep(5.0)

    scene.run(main)
    assert scene.counter.taken == [7]
    assert [line.subject for line in scene.trace.lines()] == ["n1: Counter.add(7), sent 1.000 s ago"]


def test_a_later_request_may_overtake_an_earlier_one() -> None:
    scene = Scene(late=0.5, late_s=10.0)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(scene.outside.add, number)
                await trio.sleep(0.1)

    scene.run(main)
    assert sorted(scene.counter.taken) == list(range(20)) != scene.counter.taken


def test_what_the_trace_shows_of_a_request_is_the_same_in_every_process() -> None:
    scene = Scene(delay_s=1.0, jitter_s=0.0)

    async def main() -> None:
        await scene.outside.add(1, by=object())

    scene.run(main)
    (line,) = scene.trace.lines()
    assert line.subject == "workload: Counter.add(1, by=object), sent 1.000 s ago"


def test_a_service_offers_its_public_methods_alone() -> None:
    scene = Scene()
    with pytest.raises(AttributeError, match="_secret"):
        _ = scene.outside._secret
    with pytest.raises(AttributeError, match="subtract"):
        _ = scene.outside.subtract
