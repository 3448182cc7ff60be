"""Several partitions on nodes that crash, stand still and do not hear each other, and clients that try again."""

import io
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from meshnode.identity import NodeId, PartitionId
from meshnode.metadata.commands import RowChange, Step
from meshnode.metadata.config import AllocatorConfig
from meshnode.metadata.rows import Phase
from meshnode.partitions import primary, replica
from meshnode.partitions.config import PartitionsConfig
from simulations.checkers.history import History
from simulations.checkers.rows import RowsChecker
from simulations.checkers.violation import Violation
from simulations.cores.collector import resting_collector
from simulations.cores.faults import FOREVER, CoreFaults, Crash, Cut, Pause
from simulations.cores.heap import Action, EventHeap
from simulations.cores.leases import Leases
from simulations.cores.metadata_service import MetadataService
from simulations.cores.network import Network
from simulations.cores.partition_client import PartitionClient
from simulations.cores.partition_echoes import NODES, Echo
from simulations.cores.partition_node import PartitionNode
from simulations.cores.partition_traffic import SERVICE
from simulations.cores.report import CORE_ERRORS, Report, core_error
from simulations.cores.requests import RequestsChecker
from simulations.cores.trace import Trace

FIRST_CLIENT = 1000
"""Clients have the numbers from here on; a world has fewer nodes."""

LOOK_INTERVAL_S = 0.5
"""How often it is looked at whether partitions without faults are all served."""

RECOVERY_S = 240.0
"""Until when partitions without faults are all served. What takes longest is an allocator that has seen takeovers
stall: it waits up to a minute before it names another node, and as long before it moves what stalled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionSettings:
    """What the nodes of a mesh have in common.

    Attributes:
        partitions: of the room.
        allocator: of the leader.
        pulse_interval_s: how often a node tells the leader that it is there.
        failed_after_s: how long a node is silent before it counts as failed.
        agreement_s: how long a proposal takes at most.
        requires_lease: whether requests are taken only by a primary with a lease, as by the room above.
        has_small_bounds: whether a few records already need snapshots, windows and copies.
        message_bytes: then, of records or of a snapshot in one message.
        records_retained: then, in memory, so that who lacks more gets a snapshot.
    """

    partitions: PartitionsConfig = field(default_factory=PartitionsConfig)
    allocator: AllocatorConfig = field(default_factory=AllocatorConfig)
    pulse_interval_s: float = 0.5
    failed_after_s: float = 1.5
    agreement_s: float = 0.02
    requires_lease: bool = False
    has_small_bounds: bool = False
    message_bytes: int = 24
    records_retained: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionWorkload:
    """What is asked of a mesh until the faults end.

    Attributes:
        nodes: how many there are, with the ids 1, 2, …
        partitions: a power of two.
        replication: of each partition.
        clients: each has one request under way.
        pause_s: of a client between two requests, on average.
        read_share: of the requests.
        meddling_per_s: rows that begin anew for no reason, with another primary or set: what an allocator with an old
            view proposes.
        copies_per_s: copies at the end of a journal, so that older files of it are deleted.
        isolations_per_s: primaries that neither nodes nor the metadata service hear for a while, though clients do.
        readers: so many of the clients only read, and an isolated primary often has no others on its side.
        restarts_per_s: primaries whose process ends and starts again at once.
        muted: the share of takeovers whose primary is heard by no other node for a while, from its first record on.
        muted_s: for how long, at most.
        echoes_per_s: primaries that are told what was acknowledged in an earlier epoch of their own.
    """

    nodes: int = 3
    partitions: int = 2
    replication: int = 3
    clients: int = 4
    pause_s: float = 0.2
    read_share: float = 0.3
    meddling_per_s: float = 0.0
    copies_per_s: float = 0.0
    isolations_per_s: float = 0.0
    readers: int = 0
    restarts_per_s: float = 0.0
    muted: float = 0.0
    muted_s: float = 0.0
    echoes_per_s: float = 0.0


class PartitionWorld:
    """Nodes 1 … ``workload.nodes`` that start at once; `run_for` lets virtual time pass.

    Args:
        seed: of everything random.
        faults: they begin and end by themselves. A pause of node 0 is the metadata service's: nothing is agreed on.
        settings: of all nodes.
        workload: what is asked of them.
    """

    def __init__(
        self, seed: int, *, faults: CoreFaults, settings: PartitionSettings, workload: PartitionWorkload
    ) -> None:
        self.seed = seed
        self.faults = faults
        self.workload = workload
        self.config = settings.partitions
        self.pulse_interval_s = settings.pulse_interval_s
        self.failed_after_s = settings.failed_after_s
        self.requires_lease = settings.requires_lease
        self.heap = EventHeap()
        self.trace = Trace()
        self.rows = RowsChecker(lambda: self.heap.now)
        self.checks = RequestsChecker(lambda: self.heap.now, row_of=self.rows.begun)
        self.history = History(max(workload.clients, 1))
        self.leases = Leases(lambda: self.heap.now, self.config.lease_s)
        self._rng = random.Random(f"partitions {seed}")
        self._is_calm = False
        numbers = range(1, workload.nodes + 1)
        self._disk_rngs = {number: random.Random(f"disk {seed} {number}") for number in numbers}
        self.nodes = {number: PartitionNode(self, number) for number in numbers}
        receivers = {number: node.receive for number, node in self.nodes.items()}
        self.network = Network(self.heap, seed, receivers, faults)
        self.service = MetadataService(
            self,
            settings.allocator,
            partitions=workload.partitions,
            replication=workload.replication,
            look_interval_s=settings.pulse_interval_s / 2,
            failed_after_s=settings.failed_after_s,
            agreement_s=settings.agreement_s,
            rng=random.Random(f"service {seed}"),
        )
        self.clients = {
            number: PartitionClient(
                self,
                number,
                process=number - FIRST_CLIENT,
                partitions=workload.partitions,
                pause_s=workload.pause_s,
                patience_s=4 * settings.partitions.resend_after_s,
                read_share=1.0 if number < FIRST_CLIENT + workload.readers else workload.read_share,
                rng=random.Random(f"client {seed} {number}"),
            )
            for number in range(FIRST_CLIENT, FIRST_CLIENT + workload.clients)
        }
        receivers[SERVICE] = self.service.receive
        receivers.update({number: client.receive for number, client in self.clients.items()})
        self._plan(faults)
        for node in self.nodes.values():
            node.start()

    def _plan(self, faults: CoreFaults) -> None:
        for clock in faults.clocks:
            if clock.node in self.nodes:
                self.nodes[clock.node].clock.rate = clock.rate
        for crash in faults.crashes:
            self.heap.at(crash.at_s, self._crash, crash)
        for pause in faults.pauses:
            self.heap.at(pause.at_s, self._pause, pause)
        for rate, action in (
            (self.workload.meddling_per_s, self._meddle),
            (self.workload.copies_per_s, self._copy_forward),
            (self.workload.isolations_per_s, self._isolate),
            (self.workload.restarts_per_s, self._restart_primary),
            (self.workload.echoes_per_s, self._echo),
        ):
            if rate:
                self.heap.at(self._rng.expovariate(rate), action, rate)

    # ---- what nodes and clients find here

    def sync_takes_s(self, node: int) -> float:
        """How long the next sync of this node takes."""
        shortest_s, longest_s = self.faults.sync_s
        if self.heap.now >= self.faults.calm_s:
            return shortest_s
        return self._disk_rngs[node].uniform(shortest_s, longest_s)

    def survivors(self, node: int) -> int:
        """How many entries of a batch are on this node's disk when its process ends before the sync returns."""
        return self._disk_rngs[node].choice((0, 1, 2, 4, 8, 1 << 20))

    def muted_s(self) -> float:
        """For how long a primary is not heard that is about to write its first record."""
        share = 0.0 if self._is_calm or self.heap.now >= self.faults.calm_s else self.workload.muted
        return self._rng.uniform(0.0, self.workload.muted_s) if share and self._rng.random() < share else 0.0

    def target(self, partition: PartitionId, rng: random.Random) -> NodeId | None:
        """Where a request may go: to who serves, or thinks so, or to the primary of the newest row."""
        serving = [node.node_id for node in self.nodes.values() if node.can_serve(partition)]
        if serving:
            return rng.choice(serving)
        row = self.service.metadata.rows.get(partition)
        return None if row is None else row.primary

    # ---- planned faults

    def _crash(self, crash: Crash) -> None:
        node = self.nodes.get(crash.node)
        if node is None or node.core is None:
            return
        if crash.effects:
            node.fuse.effects_left = crash.effects
        else:
            node.end(surviving=self.survivors(crash.node))
        if crash.for_s != FOREVER:
            self.heap.at(crash.at_s + crash.for_s, self._restart, crash)

    def _restart(self, crash: Crash) -> None:
        node = self.nodes[crash.node]
        if node.fuse.is_lit:
            node.end(surviving=self.survivors(crash.node))
        if node.core is None:
            node.start()

    def _pause(self, pause: Pause) -> None:
        if pause.node == SERVICE:
            self.service.pause(pause.for_s)
        elif self.nodes[pause.node].core is not None:
            self.nodes[pause.node].pause(pause.for_s)

    # ---- what happens for no reason

    def _goes_on(self, action: Action, rate: float) -> bool:
        if self._is_calm:
            return False
        self.heap.at(self.heap.now + self._rng.expovariate(rate), action, rate)
        return True

    def _meddle(self, rate: float) -> None:
        if not self._goes_on(self._meddle, rate):
            return
        rng, metadata = self._rng, self.service.metadata
        partition = PartitionId(rng.randrange(self.workload.partitions))
        row = metadata.rows.get(partition)
        if row is None:
            return
        replicas = row.replicas
        if rng.random() < 0.3:
            known = sorted(metadata.nodes)
            replicas = tuple(rng.sample(known, rng.randint(1, min(len(known), 3))))
        named = rng.choice(replicas)
        if rng.random() < 0.4:  # back to the one before, to whom answers may be under way
            earlier = [past.primary for changed, past in self.service.changes[-40:] if changed == partition]
            named = next((one for one in reversed(earlier) if one != row.primary and one in replicas), named)
        boot = metadata.boot_of(named)
        self.service.propose(RowChange(partition, Step.BEGIN, row.epoch, row.phase, named, boot, replicas))

    def _copy_forward(self, rate: float) -> None:
        if self._goes_on(self._copy_forward, rate):
            node = self.nodes[self._rng.randint(1, self.workload.nodes)]
            node.copy_forward(PartitionId(self._rng.randrange(self.workload.partitions)))

    def _restart_primary(self, rate: float) -> None:
        if self._goes_on(self._restart_primary, rate) and self.heap.now < self.faults.calm_s:
            partition = PartitionId(self._rng.randrange(self.workload.partitions))
            serving = [node for node in self.nodes.values() if node.can_serve(partition)]
            if serving:
                node = self._rng.choice(serving)
                node.end(surviving=self.survivors(node.number))
                node.start()

    def _isolate(self, rate: float) -> None:
        if not self._goes_on(self._isolate, rate) or self.heap.now >= self.faults.calm_s:
            return
        partition = PartitionId(self._rng.randrange(self.workload.partitions))
        serving = [node for node in self.nodes.values() if node.can_serve(partition)]
        if self.workload.readers:
            # What one of these holds uncommitted would keep every read waiting that comes to it.
            serving = [node for node in serving if node.is_idle(partition)]
        if not serving:
            return
        alone = self._rng.choice(serving).number
        others = [number for number in self.nodes if number != alone]
        is_large = self.workload.nodes > 4  # then one friend is no majority, and gets what is never committed
        friends = self._rng.choice((0, 1) if self.workload.readers or is_large else (0, 0, 1))
        unheard = self._rng.sample(others, max(0, len(others) - friends))
        for_s = self.failed_after_s * self._rng.choice((self._rng.uniform(0.5, 3.0), self._rng.uniform(2.0, 8.0)))
        if self.workload.readers and self._rng.random() < 0.7:
            unheard += [number for number in self.clients if number >= FIRST_CLIENT + self.workload.readers]
        senders, receivers = frozenset([alone]), frozenset([SERVICE, *unheard])
        if is_large and friends and self._rng.random() < 0.7:
            senders = frozenset(self.nodes) - receivers  # they are cut off together
        self.network.plan(Cut(senders, receivers, self.heap.now, min(for_s, self.faults.calm_s - self.heap.now)))

    def _echo(self, rate: float) -> None:
        if self._goes_on(self._echo, rate) and self.heap.now < self.faults.calm_s:
            partition = PartitionId(self._rng.randrange(self.workload.partitions))
            serving = [number for number, node in self.nodes.items() if node.can_serve(partition)]
            if len(serving) == 1 and len(self.nodes) == NODES:
                Echo(self, self._rng, partition, serving[0])

    def summary(self) -> tuple[str, ...]:
        """A line a node."""
        lines = []
        for number, node in self.nodes.items():
            if node.core is None:
                lines.append(f"n{number}: down")
                continue
            copies = [
                f"partition {partition} {'primary' if copy.is_serving else 'replica'}, promised"
                f" {copy.replica.promised}, {copy.replica.committed} committed of {copy.replica.log.last.sequence}"
                for partition, copy in sorted(node.core.partitions.items())
            ]
            lines.append(f"n{number}: boot {node.boot}; {'; '.join(copies) or 'no partition'}")
        return tuple(lines)

    # ---- time

    def run_for(self, seconds: float) -> None:
        """Let time pass."""
        self.heap.run_until(self.heap.now + seconds)

    def recover(self) -> None:
        """Without any further fault, every request is answered, and each partition takes a write and a read.

        Raises:
            Violation: not in time, although all nodes run.
        """
        self._is_calm = True
        for client in self.clients.values():
            client.stop()
        end_s = self.heap.now + RECOVERY_S
        self._until(lambda: all(client.partition is None for client in self.clients.values()), end_s)
        asking = next(iter(self.clients.values()))
        for partition in map(PartitionId, range(self.workload.partitions)):
            for is_read in (False, True):
                asking.ask(partition, is_read=is_read)
                self._until(lambda: asking.partition is None, end_s)
        self._until(lambda: not self._behind(), end_s)
        for node in self.nodes.values():
            for copy in () if node.core is None else node.core.partitions.values():
                self.checks.check_whole_log(copy, node.node_id)

    def _until(self, condition: Callable[[], bool], end_s: float) -> None:
        while not condition():
            if self.heap.now >= end_s:
                waiting = [number for number, client in self.clients.items() if client.partition is not None]
                rows = "; ".join(f"{partition}: {row}" for partition, row in self.service.metadata.rows.items())
                message = f"{RECOVERY_S} s after the last fault, clients {waiting} wait, {self._behind()}; {rows}"
                raise Violation("liveness", virtual_s=self.heap.now, message=message)
            self.run_for(LOOK_INTERVAL_S)

    def _behind(self) -> str:
        """Which partition's row is not active, or which replica lacks committed records; empty if none."""
        for partition, row in self.service.metadata.rows.items():
            if row.phase is not Phase.ACTIVE:
                return f"partition {partition} is being taken over"
            committed = len(self.checks.committed.get(partition, ()))
            for member in row.replicas:
                core = self.nodes[member].core
                copy = None if core is None else core.partitions.get(partition)
                if copy is None or copy.replica.committed < committed:
                    return f"replica {member} of partition {partition} is behind {committed}"
        return ""


@contextmanager
def small_bounds(message_bytes: int, records_retained: int) -> Iterator[None]:
    """Bounds of the room so small that a few records already need snapshots, windows and copies."""
    bounds = [
        (replica, "RECORDS_RETAINED", records_retained),
        (replica, "RETAINED_BYTES_MAX", 33 * records_retained),
        (replica, "MESSAGE_BYTES", message_bytes),
        (primary, "MESSAGE_BYTES", message_bytes),
        (primary, "WINDOW_MESSAGES", 4),
        (primary, "TAIL_RECORDS", 2),
    ]
    usual = [(module, name, getattr(module, name)) for module, name, _ in bounds]
    try:
        for module, name, value in bounds:
            setattr(module, name, value)
        yield
    finally:
        for module, name, value in usual:
            setattr(module, name, value)


@resting_collector()
def run(
    seed: int,
    faults: CoreFaults,
    duration_s: float,
    *,
    settings: PartitionSettings | None = None,
    workload: PartitionWorkload | None = None,
) -> Report:
    """Let partitions be founded, used, taken over and moved, and recover.

    Args:
        seed: of everything random.
        faults: what goes wrong.
        duration_s: how long at least, before the partitions have their time to recover.
        settings: of all nodes.
        workload: what is asked of them.
    """
    settings = settings or PartitionSettings()
    if settings.has_small_bounds:
        with small_bounds(settings.message_bytes, settings.records_retained):
            return _run(seed, faults, duration_s, settings, workload or PartitionWorkload())
    return _run(seed, faults, duration_s, settings, workload or PartitionWorkload())


def _run(
    seed: int, faults: CoreFaults, duration_s: float, settings: PartitionSettings, workload: PartitionWorkload
) -> Report:
    world = PartitionWorld(seed, faults=faults, settings=settings, workload=workload)
    violations: list[Violation] = []
    try:
        world.run_for(max(duration_s, faults.ends_s))
        world.recover()
    except Violation as violation:
        violations.append(violation)
    except CORE_ERRORS as error:
        violations.append(core_error(error, world.heap.now))
    counters = {
        "messages": world.network.sent,
        "messages_lost": world.network.lost + world.network.cut,
        "rows_changed": len(world.service.changes),
        "records_committed": sum(map(len, world.checks.committed.values())),
        "requests_answered": sum(client.done for client in world.clients.values()),
        "requests_refused": sum(client.refused for client in world.clients.values()),
    }
    history = io.StringIO()
    world.history.write(history)
    return Report(
        seed,
        world.heap.events,
        world.heap.now,
        tuple(violations),
        counters,
        world.trace.hexdigest(),
        nodes=world.summary() if violations else (),
        history=history.getvalue(),
    )
