"""The workloads of locks and of the replicated configuration."""

import contextlib
import random
from collections.abc import Callable, Iterator

import trio

from meshnode import Compare, Node, Step
from meshnode.access import Access
from meshnode.coordination.election import PREFIX
from meshnode.coordination.questions import LockStates, ReadLocks
from meshnode.errors import Compacted, LockLost, LockTimeout, MeshError, OutcomeUnknown, TurnTimeout
from simulations.checkers.exactly_once import ExactlyOnce
from simulations.checkers.locks import LocksChecker, Section
from simulations.checkers.models import REGISTER
from simulations.checkers.violation import Violation
from simulations.checkers.watches import WatchesChecker
from simulations.kernel.process import current_process
from simulations.mesh.client import CAUSED_BY_FAULTS, TIMEOUTS_S, SimClient
from simulations.mesh.workload import World
from simulations.plan import Faults

ENDED = (LockTimeout, LockLost, *CAUSED_BY_FAULTS)
"""How a section may end while things go wrong."""

TTLS_S = (1.0, 2.0, 5.0)
"""As short as TTLS may be, so that they often end."""

LEFT_BEHIND_S = 60.0
"""In calm, the claims of processes that are gone have ended by then: ten times the longest TTL."""

CLINGING = 0.07
"""The share of sections that last for several TTLs: who is cut off in one of them has to let go."""

TASKS = 2
"""Beside each node."""

ROLE = "boss"


class Resource:
    """What the locks protect: outside of the mesh, it refuses a token that is lower than one it has seen."""

    def __init__(self, world: World, checker: LocksChecker) -> None:
        self._world = world
        self._checker = checker

    def use(self, section: Section, name: str) -> bool:
        """Whether it did as it was told."""
        try:
            return self._checker.use(section, name)
        except Violation as violation:  # here, since who asked may have gone
            self._world.violated(violation.invariant, violation.message)
            return False


def keeps_time(faults: Faults) -> bool:
    """Whether no process is stopped and no clock is off, so that a TTL is one."""
    return not (faults.clocks or faults.drifts or faults.pauses or faults.stuck_loops or faults.slow_cpus)


def is_exclusive(faults: Faults) -> bool:
    """Whether a lock ends where it is held before it passes on: it passes on early, too, when a copy of its node's data
    directory starts elsewhere."""
    return keeps_time(faults) and not (faults.mixups or faults.old_images)


async def locks(world: World) -> None:
    """Sections under locks, beside nodes and in clients: no resource sees two of them interleave."""
    checker = LocksChecker(lambda: world.now, exclusive=is_exclusive(world.plan.faults))
    resource = world.outside(Resource(world, checker))
    names = [f"k{number}" for number in range(min(world.plan.keys, 4))]
    is_over = False

    async def section(access: Access, who: str, rng: random.Random) -> None:
        wanted = rng.sample(names, rng.randint(1, min(2, len(names))))
        ttl_s, timeout_s = rng.choice(TTLS_S), rng.choice((2.0, 10.0, 30.0))
        process = current_process()
        is_there: Callable[[], bool] = (lambda: True) if process is None else (lambda: process.is_alive)
        if rng.random() < 0.2:
            mine = checker.asked(who, [PREFIX + ROLE], is_there)
            async with access.election(ROLE, ttl=ttl_s).campaign(timeout=timeout_s) as leadership:
                await inside(mine, leadership.term, rng)
        else:
            mine = checker.asked(who, wanted, is_there)
            async with access.lock(*wanted, ttl=ttl_s, timeout=timeout_s) as lock:
                await inside(mine, lock.token, rng)

    async def inside(mine: Section, token: int, rng: random.Random) -> None:
        checker.granted(mine, token)
        turns, pause_s = rng.randint(1, 3), rng.choice((0.1, 0.1, 0.5, 1.5))
        if rng.random() < CLINGING:
            turns, pause_s = 20, 0.5
        try:
            for _ in range(turns):
                await trio.sleep(rng.expovariate(1.0) * pause_s)
                for name in mine.names:
                    await resource.use(mine, name)
        finally:
            checker.left(mine)

    async def beside(node: Node) -> None:
        async with trio.open_nursery() as nursery:
            for number in range(TASKS):
                nursery.start_soon(sections, node, number)

    async def sections(node: Node, number: int) -> None:
        rng = random.Random(f"{node.node_id} {node.identity.boot} {number} of {world.plan.seed}")
        while not is_over:
            with judged(world), contextlib.suppress(*ENDED):
                await section(node, f"{node.config.name}.{number}", rng)
            await trio.sleep(rng.expovariate(1.0))

    async def step(client: SimClient) -> None:
        with contextlib.suppress(LockTimeout, LockLost):
            await section(client, f"c{client.number}", client.rng)

    world.beside(beside)
    await world.under_faults(step)
    is_over = True
    try:
        async with world.client.lock(*names, PREFIX + ROLE, timeout=world.plan.recovery_s) as lock:
            checker.granted(checker.asked("the end", lock.names, lambda: False), lock.token)
    except LockTimeout as error:
        world.violated("locks-left-behind", f"in calm, {error}")
    with trio.move_on_after(LEFT_BEHIND_S):
        while await _claimed(world.client):
            await trio.sleep(1.0)
    claimed = await _claimed(world.client)
    if claimed:
        world.violated("locks-left-behind", f"{LEFT_BEHIND_S:g} s after all have ended, {claimed} locks are claimed")
    world.check(checker.sections > 1, "no-sections", "no section ever had its lock")


async def _claimed(client: SimClient) -> int:
    """How many locks are held or waited for."""
    with contextlib.suppress(MeshError):
        answer = await client.coordinator.replica.ask(ReadLocks("", 1), fresh=True)
        assert isinstance(answer, LockStates)
        return answer.total
    return -1


async def config(world: World) -> None:
    """Keys that are linearizable, each write once, and watches that miss nothing."""
    world.model = REGISTER
    watches = WatchesChecker(lambda: world.now)
    puts = ExactlyOnce(lambda: world.now)
    acknowledged: dict[int, str] = {}
    tries = 0

    async def step(client: SimClient) -> None:
        rng, configuration = client.rng, client.configuration
        key, timeout_s = f"k{rng.randrange(world.plan.keys)}", rng.choice(TIMEOUTS_S)
        chance, value, expected = rng.random(), rng.randint(0, 4), rng.randint(0, 4)

        async def get() -> int | None:
            entry = await configuration.get(key, timeout=timeout_s)
            return None if entry is None else int(entry.text)

        async def put() -> None:
            acknowledged[await configuration.put(key, str(value), timeout=timeout_s)] = key

        async def delete() -> None:
            await configuration.delete(key, timeout=timeout_s)

        if chance < 0.3:
            await client.operation("get", key, None, get())
        elif chance < 0.5:
            await client.operation("put", key, value, put())
        elif chance < 0.55:
            await client.operation("delete", key, None, delete())
        elif chance < 0.75:
            both = configuration.compare_and_set(key, str(expected), str(value), timeout=timeout_s)
            await client.operation("compare_and_set", key, [expected, value], both)
        elif chance < 0.85:
            await count(client, timeout_s)
        elif chance < 0.9:
            await put_for_a_while(client, timeout_s)
        else:
            await pair(client, timeout_s)

    async def count(client: SimClient, timeout_s: float) -> None:
        """A put that counts: the version of its key says how often it took effect."""
        nonlocal tries
        tries += 1
        name = str(tries)
        puts.tried("count", name, 1)
        try:
            acknowledged[await client.configuration.put("count", name, timeout=timeout_s)] = "count"
        except (OutcomeUnknown, TurnTimeout):
            raise
        except MeshError:
            puts.refused("count", name)
            raise
        puts.acknowledged("count", name)

    async def pair(client: SimClient, timeout_s: float) -> None:
        """Two keys that are only ever set together."""
        configuration, value = client.configuration, str(client.rng.getrandbits(32))
        if client.rng.random() < 0.5:
            both = [Step.put("pair/left", value), Step.put("pair/right", value)]
            await configuration.transact([Compare.is_absent("never")], both, timeout=timeout_s)
        else:
            found = (await configuration.list("pair/", local=client.rng.random() < 0.5, timeout=timeout_s)).entries
            if len({entry.value for entry in found}) > 1 or len(found) == 1:
                world.violated("config-torn", f"two keys that are set together differ: {found}")

    async def put_for_a_while(client: SimClient, timeout_s: float) -> None:
        """A key of this client's own, with a TTL."""
        configuration, key, ttl_s = client.configuration, f"ttl/c{client.number}", client.rng.choice((1.0, 3.0))
        begun_s = world.now
        acknowledged[await configuration.put(key, "v", ttl=ttl_s, timeout=timeout_s)] = key
        await trio.sleep(ttl_s * client.rng.uniform(0.2, 0.9))
        entry = await configuration.get(key, timeout=timeout_s)
        if entry is None and world.now - begun_s < ttl_s and keeps_time(world.plan.faults):
            world.violated("config-ttl", f"{key} is gone {world.now - begun_s:.3f} s after it was put for {ttl_s} s")

    async def beside(node: Node) -> None:
        with judged(world):
            while True:
                with contextlib.suppress(Compacted):
                    await watch(node, node.config.name)

    async def watch(access: Access, who: str) -> None:
        after = 0
        async for revision in access.configuration.watch(after=after):
            watches.seen(who, revision, after)
            after = revision.revision

    world.beside(beside)
    await world.under_faults(step)
    listing = await world.client.configuration.list(timeout=world.plan.recovery_s)
    with trio.move_on_after(world.plan.recovery_s) as patience:
        last = 0
        async for revision in world.client.configuration.watch(after=0):
            watches.seen("the end", revision, last)
            last = revision.revision
            if last >= listing.revision:
                break
    if patience.cancelled_caught:
        world.violated("liveness-agents", f"a watch came to revision {last}, and not to {listing.revision}")
    watches.check_complete({entry.key: entry.value for entry in listing.entries}, acknowledged)
    puts.check_total("count", next((entry.version for entry in listing.entries if entry.key == "count"), 0))
    for key in (f"k{number}" for number in range(world.plan.keys)):
        found = next((int(entry.text) for entry in listing.entries if entry.key == key), None)
        await world.client.operation("get", key, None, _constant(found))


@contextlib.contextmanager
def judged(world: World) -> Iterator[None]:
    """What a checker finds in a program beside a node ends the run, and not the node."""
    try:
        yield
    except Violation as violation:
        world.violated(violation.invariant, violation.message)


async def _constant(value: int | None) -> int | None:
    return value
