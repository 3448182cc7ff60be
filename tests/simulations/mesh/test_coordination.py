"""Locks, elections and the configuration on whole nodes, while things go wrong."""

import contextlib
import dataclasses
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio

from meshnode import Leader, LockLost, LockTimeout, Node
from meshnode.coordination.questions import LockStates, ReadLocks
from simulations.cores.faults import ClockRate, Crash, Cut, Pause
from simulations.faults import Faults
from simulations.mesh import Report, SimClient, World, run
from simulations.mesh import world as world_module
from simulations.mesh.workload import Workload
from simulations.plan import Plan
from tests.simulations.mesh.test_world import HARD

SMALL = Plan(nodes=3, clients=1, duration_s=20.0, recovery_s=60.0, partitions=1, tempo=0.5, workload="mine")

Program = Callable[[Node], Awaitable[None]]


@dataclass
class Scene:
    """What nodes and their programs did, by virtual time.

    Attributes:
        programs: what runs beside each node, by its name.
        events: time, node and what happened.
    """

    programs: dict[str, Program] = field(default_factory=dict)
    events: list[tuple[float, str, str]] = field(default_factory=list)
    world: World | None = None

    def note(self, node: Node, what: str) -> None:
        assert self.world is not None
        self.events.append((self.world.now, node.config.name, what))

    def beside(self, name: str) -> Callable[[Program], Program]:
        """What runs beside this node."""

        def register(program: Program) -> Program:
            self.programs[name] = program
            return program

        return register

    def at(self, name: str, what: str) -> float:
        """When it happened to that node, for the first time."""
        return next(at_s for at_s, node, told in self.events if (node, told) == (name, what))

    def told(self) -> list[str]:
        return [f"{name} {what}" for _, name, what in self.events]


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.fixture
def play(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Report]:
    """Let it happen, under these faults."""

    async def program(world: World) -> None:
        scene.world = world

        async def idle(client: SimClient) -> None:
            await trio.sleep(1.0)

        async def beside(node: Node) -> None:
            if node.config.name in scene.programs:
                await scene.programs[node.config.name](node)

        world.beside(beside)
        await world.under_faults(idle)

    def play(plan: Plan = SMALL, **faults: Any) -> Report:
        monkeypatch.setattr(world_module, "find_workload", lambda _name, _app: Workload((), program))
        report = run(dataclasses.replace(plan, faults=Faults(**faults)))
        assert report.violation is None, report.violation
        return report

    return play


Play = Callable[..., Report]


class Resource:
    """What the lock protects: it refuses lower tokens than it has seen."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.refused: list[int] = []

    def use(self, token: int) -> None:
        accepted = not self.tokens or token >= self.tokens[-1]
        (self.tokens if accepted else self.refused).append(token)


async def queued(node: Node, name: str, count: int) -> None:
    """Wait until so many hold a lock or wait for it."""
    while count:
        answer = await node.coordinator.replica.ask(ReadLocks(name, 1))
        assert isinstance(answer, LockStates)
        if any(len(lock.waiting) + (lock.holder is not None) >= count for lock in answer.locks):
            return
        await trio.sleep(0.05)


def test_a_holder_that_is_stopped_for_longer_than_its_ttl_is_refused_when_it_goes_on(scene: Scene, play: Play) -> None:
    resource = Resource()

    async def hold(node: Node) -> None:
        async with node.lock("a", ttl=2) as lock:
            scene.note(node, "holds")
            while True:
                resource.use(lock.token)
                try:
                    await trio.sleep(0.1)
                finally:
                    resource.use(lock.token)  # as code does that has no checkpoint before it

    @scene.beside("n1")
    async def paused(node: Node) -> None:
        with pytest.raises(LockLost, match=r"lock 'a' \(token \d+\) was lost: .* TTL of 2 s"):
            await hold(node)
        scene.note(node, "lost it")

    @scene.beside("n2")
    async def next_one(node: Node) -> None:
        await queued(node, "a", 1)
        async with node.lock("a") as lock:
            scene.note(node, "holds")
            resource.use(lock.token)
            await trio.sleep(12.0)
            resource.use(lock.token)

    play(pauses=(Pause(1, 3.0, 9.0),))
    assert scene.told() == ["n1 holds", "n2 holds", "n1 lost it"]
    paused_s = scene.at("n1", "holds")
    assert scene.at("n2", "holds") > paused_s + 2.0 * 2 / 3
    assert scene.at("n1", "lost it") > scene.at("n2", "holds")
    assert resource.tokens == sorted(resource.tokens)
    assert len(set(resource.tokens)) == 2
    assert set(resource.refused) == {resource.tokens[0]}


def test_a_holder_that_is_cut_off_lets_go_before_the_next_one_gets_it_though_clocks_differ(
    scene: Scene, play: Play
) -> None:
    @scene.beside("n1")
    async def cut_off(node: Node) -> None:
        with contextlib.suppress(LockLost):
            async with node.lock("a", ttl=3):
                scene.note(node, "holds")
                try:
                    await trio.sleep_forever()
                finally:
                    scene.note(node, "lets go")

    @scene.beside("n2")
    async def next_one(node: Node) -> None:
        await queued(node, "a", 1)
        async with node.lock("a"):
            scene.note(node, "holds")

    play(
        cuts=(Cut(frozenset({1}), frozenset({0, 2}), 3.0, 15.0),),
        clocks=(ClockRate(0, 1.05), ClockRate(1, 0.97), ClockRate(2, 1.05)),
    )
    assert scene.told() == ["n1 holds", "n1 lets go", "n2 holds"]


def test_a_lock_outlives_the_leader_and_every_node_but_its_holder(scene: Scene, play: Play) -> None:
    @scene.beside("n2")
    async def holder(node: Node) -> None:
        if scene.events:
            return
        async with node.lock("a", ttl=5) as lock:
            scene.note(node, "holds")
            await trio.sleep(16.0)
            assert lock.is_held
            scene.note(node, "still holds")

    @scene.beside("n1")
    async def waiter(node: Node) -> None:
        await queued(node, "a", 1)
        with contextlib.suppress(LockTimeout):
            async with node.lock("a", timeout=2.0):
                scene.note(node, "holds")

    play(crashes=(Crash(0, 3.0, 2.0, power=False), Crash(1, 8.0, 2.0, power=True)))
    assert [one for one in scene.told() if one.startswith("n2")] == ["n2 holds", "n2 still holds"]
    holds = [at_s for at_s, name, _ in scene.events if name == "n1"]
    assert all(at_s > scene.at("n2", "still holds") for at_s in holds)


def test_a_node_that_starts_again_frees_at_once_what_it_held(scene: Scene, play: Play) -> None:
    @scene.beside("n1")
    async def holder(node: Node) -> None:
        if not scene.events:
            async with node.lock("a", ttl=600):
                scene.note(node, "holds")
                await trio.sleep_forever()

    @scene.beside("n2")
    async def waiter(node: Node) -> None:
        await queued(node, "a", 1)
        async with node.lock("a", ttl=600):
            scene.note(node, "holds")

    play(crashes=(Crash(1, 3.0, 3.0, power=False),))
    assert scene.told() == ["n1 holds", "n2 holds"]


def test_waiters_are_served_in_the_order_in_which_they_asked_also_under_another_leader(
    scene: Scene, play: Play
) -> None:
    names = ("n1", "n2", "n3", "n4")

    def waiting(place: int) -> Program:
        async def wait(node: Node) -> None:
            await queued(node, "a", place)
            async with node.lock("a", ttl=20):
                scene.note(node, "holds")
                await trio.sleep(8.0 if place == 0 else 0.5)

        return wait

    for place, name in enumerate(reversed(names)):
        scene.programs[name] = waiting(place)
    play(dataclasses.replace(SMALL, nodes=5), crashes=(Crash(0, 4.0, 6.0, power=False),))
    assert scene.told() == ["n4 holds", "n3 holds", "n2 holds", "n1 holds"]


def test_several_names_are_taken_together_by_all_in_any_order(scene: Scene, play: Play) -> None:
    """Whoever takes them one after the other waits for ever."""

    def taking(*names: str) -> Program:
        async def take(node: Node) -> None:
            for _ in range(10):
                async with node.lock(*names, timeout=30.0):
                    await trio.sleep(0.1)
            scene.note(node, "done")

        return take

    scene.programs |= {"n0": taking("a", "b"), "n1": taking("b", "c", "a"), "n2": taking("c", "a")}
    play()
    assert sorted(scene.told()) == ["n0 done", "n1 done", "n2 done"]


def test_a_leader_that_dies_is_succeeded_in_a_higher_term_and_all_who_look_see_it(scene: Scene, play: Play) -> None:
    terms: dict[str, int] = {}
    seen: list[Leader | None] = []

    def standing(after_s: float) -> Program:
        async def stand(node: Node) -> None:
            if node.config.name in terms:
                return
            await trio.sleep(after_s)
            with contextlib.suppress(LockLost):
                async with node.election("boss", ttl=3).campaign() as leadership:
                    terms[node.config.name] = leadership.term
                    leader = await node.election("boss").leader()
                    assert leader == Leader(node.config.name, node.node_id, leadership.term)
                    scene.note(node, "leads")
                    await trio.sleep(9.0)
                    await leadership.resign()
                    assert not leadership.lasts
                    scene.note(node, "resigned")

        return stand

    async def look(node: Node) -> None:
        async for leader in node.election("boss").changes():
            seen.append(leader)

    scene.programs |= {"n1": standing(0.0), "n2": standing(0.5), "n0": look}
    play(crashes=(Crash(1, 3.0, 1.0, power=False),))
    assert scene.told() == ["n1 leads", "n2 leads", "n2 resigned"]
    assert terms["n2"] > terms["n1"]
    led = [leader.name for leader in seen if leader is not None]
    assert led == ["n1", "n2"]
    assert seen[-1] is None


@pytest.mark.parametrize("workload", ["locks", "config"])
def test_the_workloads_are_clean_under_faults_and_the_same_each_time(workload: str) -> None:
    plan = Plan(nodes=3, clients=2, duration_s=15.0, keys=3, partitions=1, tempo=0.5, workload=workload, faults=HARD)
    first = run(plan)
    assert first.violation is None, first.violation
    assert first.acknowledged > 2
    second = run(plan)
    assert (first.digest, first.history) == (second.digest, second.history)
