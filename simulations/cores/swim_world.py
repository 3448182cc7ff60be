"""A mesh of SWIM cores: thousands of nodes that come, go, stand still and do not hear each other."""

import random
from collections import Counter
from collections.abc import Callable, Iterable

from meshnode.identity import Address, Boot, NodeId
from meshnode.membership.config import SwimConfig
from meshnode.membership.effects import Counters
from meshnode.membership.messages import Member, State
from simulations.checkers.swim import SwimChecker, View
from simulations.checkers.swim_bounds import SwimBounds, swim_bounds
from simulations.checkers.violation import Violation
from simulations.cores import swim_watch
from simulations.cores.collector import resting_collector
from simulations.cores.converged import graft
from simulations.cores.faults import FOREVER, NO_FAULTS, CoreFaults, Crash, Leave, LinkQuality, Pause
from simulations.cores.heap import EventHeap
from simulations.cores.network import Network
from simulations.cores.report import CORE_ERRORS, Report, core_error
from simulations.cores.swim_node import SwimNode
from simulations.cores.trace import Trace

PORT = 7946


class SwimWorld:
    """Nodes 0 … ``nodes`` - 1, none of which is started yet; `run_for` and `run_until` let virtual time pass.

    Args:
        seed: of everything random.
        nodes: how many there are.
        config: the same for all.
        faults: they begin and end by themselves.
        is_measured: check that each message fits in its datagram.
    """

    def __init__(
        self,
        seed: int,
        nodes: int,
        *,
        config: SwimConfig | None = None,
        faults: CoreFaults = NO_FAULTS,
        is_measured: bool = False,
    ) -> None:
        self.seed = seed
        self.config = config or SwimConfig()
        self.faults = faults
        self.heap = EventHeap()
        self.trace = Trace()
        fastest = max([1.0, *[clock.rate for clock in faults.clocks]])
        slowest = min([1.0, *[clock.rate for clock in faults.clocks]])
        self.checks = SwimChecker(
            self.config, bounds=None, clock=lambda: self.heap.now, fastest=fastest, slowest=slowest
        )
        self.false_deaths = 0
        self.is_measured = is_measured
        self.past_lives: list[Counters] = []
        rng = random.Random(f"swim {seed}")
        self.addresses = [Address(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", PORT) for n in range(1, nodes + 1)]
        self.numbers = {address: number for number, address in enumerate(self.addresses)}
        self.numbers_by_object = {id(address): number for number, address in enumerate(self.addresses)}
        self.nodes = [
            SwimNode(self, number, NodeId(rng.getrandbits(62) + 1), address)
            for number, address in enumerate(self.addresses)
        ]
        self.network = Network(self.heap, seed, {node.number: node.receive for node in self.nodes}, faults)
        self._by_id = {node.node_id: node for node in self.nodes}
        self._seeds: dict[int, list[int]] = {}
        self._plan(faults)

    def _plan(self, faults: CoreFaults) -> None:
        self._may_blame = not faults.is_quiet
        for clock in faults.clocks:
            self.nodes[clock.node].rate = clock.rate
        for crash in faults.crashes:
            self.heap.at(crash.at_s, self._crash_as_planned, crash)
        for leave in faults.leaves:
            self.heap.at(leave.at_s, self._leave_as_planned, leave)
        for pause in faults.pauses:
            self.heap.at(pause.at_s, self._pause_as_planned, pause)

    # ---- what happens to nodes

    def start(self, number: int, seeds: Iterable[int] = ()) -> None:
        """A new life of the node, on the same data directory as the ones before."""
        node = self.nodes[number]
        self._seeds[number] = list(seeds)
        node.start(random.Random(f"{self.seed}/{number}/{node.boot + 1}"))
        node.join([self.addresses[seed] for seed in self._seeds[number]])

    def start_all(self, *, spread_s: float = 0.0) -> None:
        """Node 0 founds the mesh, and the others join it during the next ``spread_s`` seconds."""
        self.start(0)
        for node in self.nodes[1:]:
            self.run_for(spread_s / len(self.nodes))
            self.start(node.number, [0])

    def start_converged(self) -> None:
        """All nodes run and know each other, as if they had for long."""
        cores = []
        for node in self.nodes:
            self._seeds[node.number] = [0]
            cores.append(node.start(random.Random(f"{self.seed}/{node.number}/1")))
        graft(cores, random.Random(f"converged {self.seed}"), self.now)
        for node in self.nodes:
            node.plan()

    def crash(self, number: int) -> None:
        """The process is gone, without a word."""
        self._bury(number)
        self.nodes[number].end()

    def leave(self, number: int) -> None:
        """The node says good-bye, and its process ends."""
        self._bury(number)
        self.nodes[number].leave()

    def pause(self, number: int, for_s: float) -> None:
        """Stop the process for a time."""
        node = self.nodes[number]
        self._may_blame = True
        self.checks.paused(node.node_id)
        node.pause(for_s)
        # After the node's own event of the same time: what waited for it is read by then.
        self.heap.at(self.heap.now + for_s, self._resumed, (node, node.boot))

    def partition(self, *groups: Iterable[int]) -> None:
        """Only nodes of one group reach each other."""
        self._may_blame = True
        self.network.isolate(*map(frozenset, groups))

    def set_quality(self, quality: LinkQuality) -> None:
        """All links are like this from now on."""
        self._may_blame = self._may_blame or quality.loss > 0
        self.network.set_quality(quality)

    def heal(self) -> None:
        """Everyone reaches everyone again."""
        self.network.heal()

    def _bury(self, number: int) -> None:
        node = self.nodes[number]
        assert node.core is not None, f"node {number} is down"
        self.past_lives.append(node.core.counters)
        self.checks.crashed(node.node_id)

    def believes(self, node: SwimNode, member: Member, *, is_own: bool) -> None:
        """A node holds something else of another one than before: unless ``is_own``, because others said so."""
        if is_own and member.state is State.SUSPECT:
            self.checks.suspects(node.node_id, member)
        self.checks.believes(node.node_id, member)
        if member.state is State.DEAD:
            subject = self._by_id[member.node_id]
            if subject.is_responsive:
                self.false_deaths += 1
                if not self._may_blame:
                    message = f"without faults, node {node.number} holds {member.name} dead"
                    raise Violation("swim-no-blame", virtual_s=self.now, message=message, nodes=[member.node_id])

    # ---- planned faults

    def _crash_as_planned(self, crash: Crash) -> None:
        node = self.nodes[crash.node]
        if node.core is None:
            return
        self._bury(crash.node)
        if crash.effects:
            node.effects_left = crash.effects
        else:
            node.end()
        if crash.for_s != FOREVER:
            self.heap.at(crash.at_s + crash.for_s, self._restart, (node, node.boot))

    def _leave_as_planned(self, leave: Leave) -> None:
        node = self.nodes[leave.node]
        if node.core is None:
            return
        self.leave(leave.node)
        if leave.for_s != FOREVER:
            self.heap.at(leave.at_s + leave.for_s, self._restart, (node, node.boot))

    def _pause_as_planned(self, pause: Pause) -> None:
        if self.nodes[pause.node].core is not None:
            self.pause(pause.node, pause.for_s)

    def _restart(self, planned: tuple[SwimNode, Boot]) -> None:
        node, boot = planned
        if node.boot != boot:
            return
        if node.core is not None:
            node.end()  # it had effects left to die of, and none to perform
        self.start(node.number, self._seeds.get(node.number, ()))

    def _resumed(self, planned: tuple[SwimNode, Boot]) -> None:
        node, boot = planned
        if node.boot == boot and node.is_responsive:
            self.checks.resumed(node.node_id)

    # ---- what is seen

    @property
    def now(self) -> float:
        """Virtual seconds since the world began."""
        return self.heap.now

    @property
    def running(self) -> list[SwimNode]:
        """Nodes with a process."""
        return [node for node in self.nodes if node.core is not None]

    def state(self, seen_by: int, number: int) -> State | None:
        """What one node believes of another; None if it does not know it."""
        core = self.nodes[seen_by].core
        assert core is not None, f"node {seen_by} is down"
        member = core.members.get(self.nodes[number].node_id)
        return None if member is None else member.state

    def unconverged(self) -> str:
        """What the first node that is wrong is wrong about; empty once everyone sees just those who run as alive."""
        truth = {node.node_id: node.core.me for node in self.running if node.core is not None}
        for node in self.running:
            assert node.core is not None
            seen = {member.node_id: member for member in node.core.members.values() if member.is_live}
            if seen != truth:
                lacking = [truth[node_id].name for node_id in truth if seen.get(node_id) != truth[node_id]]
                ghosts = [seen[node_id].name for node_id in seen if node_id not in truth]
                return f"node {node.number} is wrong about {lacking}, and sees {ghosts} which are gone"
        return ""

    def look(self) -> None:
        """All that everyone believes, against all that was ever claimed."""
        for node in self.running:
            assert node.core is not None
            self.checks.look(View(node.node_id, node.core.members))

    def converged(self) -> bool:
        """Whether everyone who runs sees exactly those who run as alive, each at its newest claim."""
        return not self.unconverged()

    def total(self, counter: str) -> int:
        """The sum of one of the `Counters`, over all lives of all nodes."""
        return self.totals()[counter]

    def totals(self) -> dict[str, int]:
        """All sums of the `Counters`."""
        lives = [node.core.counters for node in self.nodes if node.core is not None]
        sums = dict.fromkeys(Counters.__slots__, 0)
        # One that is to die between two effects is in both lists.
        for life in {id(life): life for life in [*self.past_lives, *lives]}.values():
            for name in sums:
                sums[name] += getattr(life, name)
        return sums

    def summary(self) -> tuple[str, ...]:
        """A line a node."""
        lines = []
        for node in self.nodes:
            if node.core is None:
                lines.append(f"n{node.number}: down")
                continue
            counts = Counter(member.state for member in node.core.members.values())
            seen = ", ".join(f"{counts[state]} {state.name.lower()}" for state in State if counts[state])
            incarnation = node.core.me.incarnation
            lines.append(f"n{node.number}: boot {node.boot}, incarnation {incarnation}, sees {seen or 'nobody'}")
        return tuple(lines)

    # ---- time

    def run_for(self, seconds: float) -> None:
        """Let time pass."""
        self.heap.run_until(self.heap.now + seconds)

    def run_until(self, condition: Callable[[], bool], *, within_s: float, every_s: float = 0.05) -> float:
        """Let time pass until the condition holds, looked at now and then. Returns how long it took.

        Raises:
            Violation: it took longer than ``within_s``.
        """
        began_s = self.now
        while not condition():
            if self.now >= began_s + within_s:
                message = f"seed {self.seed}: not so after {within_s:.1f} s: {self.unconverged()}"
                raise Violation("liveness", virtual_s=self.now, message=message)
            self.run_for(every_s)
        return self.now - began_s


def bounds_of(world: SwimWorld) -> SwimBounds:
    """How long beliefs may take to become true in this world, as it is now."""
    live = len(world.running)
    slowest = min(1.0, *[node.rate for node in world.nodes])
    return swim_bounds(world.config, live=max(live, 1), gone=len(world.nodes) - live, slowest=slowest)


@resting_collector()
def run(
    seed: int,
    faults: CoreFaults,
    duration_s: float,
    *,
    nodes: int = 12,
    config: SwimConfig | None = None,
) -> Report:
    """Let a mesh form, suffer and heal, and lose one more node.

    Args:
        seed: of everything random.
        faults: what goes wrong.
        duration_s: how long at least, before the mesh has its time to heal.
        nodes: how many; node 0 founds the mesh.
        config: the same for all.
    """
    world = SwimWorld(seed, nodes, config=config, faults=faults)
    violations: list[Violation] = []
    try:
        world.start_all(spread_s=1.0)
        world.run_for(max(duration_s - world.now, faults.ends_s - world.now, 0.0))
        bounds = bounds_of(world)
        world.run_until(world.converged, within_s=bounds.healing_s + bounds.known_to_all_s, every_s=0.25)
        world.look()
        swim_watch.watch_a_broken_path(world, lambda: bounds_of(world))
        swim_watch.watch_a_crash(world, lambda: bounds_of(world))
    except Violation as violation:
        violations.append(violation)
    except CORE_ERRORS as error:
        violations.append(core_error(error, world.now))
    counters = world.totals() | {
        "messages": world.network.sent,
        "messages_lost": world.network.lost + world.network.cut,
        "false_deaths": world.false_deaths,
    }
    return Report(
        seed,
        world.heap.events,
        world.now,
        tuple(violations),
        counters,
        world.trace.hexdigest(),
        nodes=world.summary() if violations else (),
    )
