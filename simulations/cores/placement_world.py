"""The table of a mesh whose nodes come, go, return and change, and the allocator that walks to it.

Nodes are only processes here, of a weight and in a zone: they seal, activate and copy what they are asked to after a
moment, if they live so long. The metadata is the real state machine, on two nodes; the allocator and all tables are
real.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass

from meshnode import wire
from meshnode.identity import Address, Boot, Epoch, MeshId, NodeId, PartitionId
from meshnode.metadata.allocator import MOVE_TIMEOUT_S, Allocator, Health, Move
from meshnode.metadata.commands import (
    NEVER,
    ChangeRows,
    Command,
    Forget,
    Found,
    Leaving,
    Register,
    RowChange,
    Step,
)
from meshnode.metadata.rows import Phase, Row
from meshnode.metadata.state import Metadata, Outcome
from meshnode.placement import MemberSpec
from simulations.checkers.violation import Violation
from simulations.cores.collector import resting_collector
from simulations.cores.faults import FOREVER, CoreFaults, Crash, Leave, Pause
from simulations.cores.heap import EventHeap
from simulations.cores.placement_checks import PlacementChecks, digest, specs, table_of
from simulations.cores.placement_settings import PlacementSettings, PlacementWorkload
from simulations.cores.report import CORE_ERRORS, Report, core_error
from simulations.cores.trace import Trace

RECOVERY_S = 600.0
"""Within which the rows are those of the table once the faults are over: an allocator that saw takeovers or moves stall
leaves their partitions alone for a minute, more than once perhaps, and a failed node is given a minute to return. To it
comes the time of copies that are lost where few partitions move at a time."""

_COMMITTED, _TABLE, _UP, _DOWN = range(4)
NOTES = dict(enumerate(("(entries) committed", "(members) get a table", "up", "down")))
"""What its notes in the trace mean, for people; the first two are not of a node but of so many entries or members."""

_PORT = 7946


@dataclass(slots=True)
class _Node:
    """One node, over all of its lives."""

    node_id: NodeId
    weight: int
    zone: str
    boot: Boot = NEVER
    is_up: bool = False
    paused_until_s: float = 0.0
    failed_since_s: float | None = None  # as the present leader has seen it


class PlacementWorld:
    """A mesh whose founders are about to get their first table; `run_for` lets virtual time pass.

    Args:
        seed: of everything random.
        faults: crashes, pauses and leaves are taken from it. Who does not answer counts as failed at once.
        settings: how the mesh works.
        workload: who there is.
    """

    def __init__(
        self, seed: int, *, faults: CoreFaults, settings: PlacementSettings, workload: PlacementWorkload
    ) -> None:
        self.settings = settings
        self.workload = workload
        self.heap = EventHeap()
        self.trace = Trace()
        self.copies_begun = 0
        self.proposed = 0
        self.handed_over = 0
        self._rng = random.Random(f"placement {seed}")
        self.checks = PlacementChecks(self.heap, random.Random(f"placement checks {seed}"))
        self.metadata = Metadata(on_row=self._on_row)
        self.follower = Metadata()
        self._log: list[bytes] = []
        self._followed = 0
        self._is_calm = False
        self._settled: frozenset[tuple[NodeId, Boot]] = frozenset()
        self.nodes = {
            number: _Node(NodeId(self._rng.getrandbits(62) + 1), *self._drawn_spec())
            for number in range(1, workload.nodes + 1)
        }
        self.commit(Found(MeshId(bytes(16)), workload.partitions, workload.replication))
        for number in range(1, workload.founders + 1):
            self.start(number)
        self._allocator = Allocator(self.metadata, settings.allocator, 0.0)
        self.heap.at(settings.look_interval_s, self._look)
        self._plan(faults)

    def _plan(self, faults: CoreFaults) -> None:
        for crash in faults.crashes:
            self.heap.at(crash.at_s, self._crash, crash)
        for pause in faults.pauses:
            self.heap.at(pause.at_s, self._pause, pause)
        for leave in faults.leaves:
            self.heap.at(leave.at_s, self._leave, leave)
        for rate, action in (
            (self.workload.joins_per_s, self._join),
            (self.workload.changes_per_s, self._change),
            (self.workload.elections_per_s, self._elect),
        ):
            if rate:
                self.heap.at(self._rng.expovariate(rate), self._ask, (rate, action))

    def _drawn_spec(self) -> tuple[int, str]:
        zone = f"zone {self._rng.randrange(self.workload.zones)}" if self.workload.zones else ""
        return self._rng.choice(self.workload.weights), zone

    # ---- commands

    def commit(self, command: Command) -> Outcome:
        """The group agrees on a command."""
        data = wire.encode(command)
        self._log.append(data)
        outcome = self.metadata.apply(len(self._log), data)
        assert isinstance(outcome, Outcome)
        self.trace.note(self.heap.now, len(self._log), _COMMITTED, len(data) << 8 | list(Outcome).index(outcome))
        return outcome

    def _follow(self) -> None:
        """The other node applies what it has not yet, and comes to the same."""
        for index in range(self._followed, len(self._log)):
            self.follower.apply(index + 1, self._log[index])
        self._followed = len(self._log)
        self.checks.same(self.metadata, self.follower)

    def _on_row(self, partition: PartitionId, row: Row) -> None:
        """A row has changed: whoever is to serve it is at work."""
        if row.phase is Phase.SEALING:
            self.copies_begun += len(set(row.replicas) - set(row.base))
            takes_s = self._rng.uniform(0.0, self.settings.seal_s)
            self.heap.at(self.heap.now + takes_s, self._seal, (partition, row.epoch))

    # ---- what happens to nodes

    def start(self, number: int) -> None:
        """A new life of the node, with the weight and the zone that it has now."""
        node = self.nodes[number]
        node.boot = Boot(node.boot + 1)
        node.is_up = True
        node.paused_until_s = 0.0
        address = Address(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", _PORT)
        register = Register(node.node_id, node.boot, f"n{number}", address, node.weight, node.zone)
        assert self.commit(register) is Outcome.DONE, register
        self.trace.note(self.heap.now, number, _UP, node.boot)

    def end(self, number: int) -> None:
        """The process is gone."""
        self.nodes[number].is_up = False
        self.trace.note(self.heap.now, number, _DOWN, self.nodes[number].boot)

    def _crash(self, crash: Crash) -> None:
        if self.nodes[crash.node].is_up:
            self.end(crash.node)
            if crash.for_s != FOREVER:
                self.heap.at(crash.at_s + crash.for_s, self._return, crash.node)

    def _return(self, number: int) -> None:
        if not self.nodes[number].is_up:
            self.start(number)

    def _pause(self, pause: Pause) -> None:
        node = self.nodes[pause.node]
        node.paused_until_s = max(node.paused_until_s, self.heap.now + pause.for_s)

    def _leave(self, leave: Leave) -> None:
        node = self.nodes[leave.node]
        if node.is_up and self.commit(Leaving(node.node_id)) is Outcome.DONE and leave.for_s != FOREVER:
            self.heap.at(leave.at_s + leave.for_s, self._stay, leave.node)

    def _stay(self, number: int) -> None:
        """It comes back, or has not got away yet and is started again."""
        self.end(number)
        self.start(number)

    def _let_go(self) -> None:
        """Who wanted to leave and holds nothing any more is gone."""
        named = {node for row in self.metadata.rows.values() for node in (*row.replicas, *row.base)}
        for number, node in self.nodes.items():
            record = self.metadata.nodes.get(node.node_id)
            if record is not None and record.is_leaving and node.node_id not in named and self.is_live(node):
                self.commit(Forget(node.node_id))
                self.end(number)

    def is_live(self, node: _Node) -> bool:
        """Whether its process runs, and not only stands there."""
        return node.is_up and node.paused_until_s <= self.heap.now

    # ---- what is drawn while it runs

    def _ask(self, asked: tuple[float, object]) -> None:
        rate, action = asked
        if self._is_calm:
            return
        self.heap.at(self.heap.now + self._rng.expovariate(rate), self._ask, asked)
        assert callable(action)
        action()

    def _join(self) -> None:
        fresh = [number for number, node in self.nodes.items() if not node.boot]
        if fresh:
            self.start(fresh[0])

    def _change(self) -> None:
        up = [number for number, node in self.nodes.items() if node.is_up]
        if up:
            number = self._rng.choice(up)
            self.nodes[number].weight, self.nodes[number].zone = self._drawn_spec()
            self.end(number)
            self.start(number)

    def _elect(self) -> None:
        self._allocator = Allocator(self.metadata, self.settings.allocator, self.heap.now)
        self.checks.forget_goal()
        for node in self.nodes.values():
            node.failed_since_s = None

    # ---- what nodes do

    def _processes(self) -> dict[NodeId, Boot]:
        return {node.node_id: node.boot for node in self.nodes.values() if self.is_live(node)}

    def _seal(self, begun: tuple[PartitionId, Epoch]) -> None:
        """The new primary activates once majorities of those who have the data and of those who will have it live."""
        partition, epoch = begun
        row = self.metadata.rows[partition]
        if row.epoch != epoch or row.phase is not Phase.SEALING:
            return
        live = self._processes()
        sides = [side for side in (row.base, row.replicas) if side]
        if live.get(row.primary) == row.boot and all(
            2 * sum(node in live for node in side) > len(side) for side in sides
        ):
            self.commit(ChangeRows((RowChange(partition, Step.ACTIVATE, row.epoch, row.phase),)))
        elif self.metadata.nodes[row.primary].boot == row.boot:
            self.heap.at(self.heap.now + self.settings.look_interval_s, self._seal, begun)

    def _moved(self, move: Move) -> None:
        """The primary has copied the partition to those who are to have it, unless something came in between."""
        row, live = self.metadata.rows[move.partition], self._processes()
        is_served = row.epoch == move.epoch and row.phase is Phase.ACTIVE and live.get(row.primary) == row.boot
        if is_served and live.keys() >= set(move.replicas):
            self.handed_over += move.primary != row.primary
            begin = RowChange(
                move.partition, Step.BEGIN, row.epoch, row.phase, move.primary, move.boot, move.replicas, move.reason
            )
            self.commit(ChangeRows((begin,)))

    # ---- the leader

    def _look(self, _: object) -> None:
        self.heap.at(self.heap.now + self.settings.look_interval_s, self._look)
        self._let_go()
        self._follow()
        health = {}
        for node in self.nodes.values():
            live = self.is_live(node)
            node.failed_since_s = (
                None if live else self.heap.now if node.failed_since_s is None else node.failed_since_s
            )
            if node.node_id in self.metadata.nodes:
                health[node.node_id] = Health.LIVE if live else Health.FAILED
        plan = self._allocator.plan(health, self.heap.now)
        self._judge()
        self.checks.plan(self.metadata, plan, self._processes(), self.members())
        if plan.changes:
            self.proposed += len(plan.changes)
            self.commit(ChangeRows(plan.changes))
        for move in plan.moves:
            if self._rng.random() >= self.workload.lost:
                self.heap.at(self.heap.now + self._rng.uniform(0.0, self.settings.copy_s), self._moved, move)

    def _judge(self) -> None:
        """Where other members are there than before, look at the table that they make."""
        live = self._processes()
        staying = frozenset(
            (node_id, boot)
            for node_id, boot in live.items()
            if node_id in self.metadata.nodes and not self.metadata.nodes[node_id].is_leaving
        )
        if staying == self._settled:
            return
        self._settled = staying
        members = self.members()
        if members:
            failed = self.metadata.nodes.keys() - live.keys()
            table = self.checks.table(self.metadata, self.follower, members, failed)
            self.trace.note(self.heap.now, len(members), _TABLE, digest(table))

    def members(self) -> dict[NodeId, MemberSpec]:
        """Who is to hold replicas: who stays, and failed ones until they are given up, which needs somebody else."""
        founding = self.metadata.founding
        assert founding is not None
        lost_at_s = self.heap.now - self.settings.allocator.replacement_delay_s
        by_id = {node.node_id: node for node in self.nodes.values()}
        staying = {node_id: record for node_id, record in self.metadata.nodes.items() if not record.is_leaving}
        kept = {
            node_id: record
            for node_id, record in staying.items()
            if (since_s := by_id[node_id].failed_since_s) is None or since_s > lost_at_s
        }
        is_anyone_leaving = any(
            record.is_leaving and self.is_live(by_id[node_id]) for node_id, record in self.metadata.nodes.items()
        )
        counted = kept if len(kept) >= founding.replication or is_anyone_leaving else staying
        return specs(counted.values())

    # ---- time

    def summary(self) -> tuple[str, ...]:
        """A line a node."""
        return tuple(
            f"n{number}: {'up' if node.is_up else 'down'}, boot {node.boot}, weight {node.weight}"
            + (f", {node.zone}" if node.zone else "")
            for number, node in self.nodes.items()
        )

    def run_for(self, seconds: float) -> None:
        """Let time pass."""
        self.heap.run_until(self.heap.now + seconds)

    def recover(self) -> None:
        """Without any further fault, the rows become those of the table.

        Raises:
            Violation: not in time, although somebody is there for each of them.
        """
        self._is_calm = True
        config = self.settings.allocator
        lost_s = 2 * self.workload.lost * MOVE_TIMEOUT_S * self.workload.partitions / config.moves_max
        end_s = self.heap.now + RECOVERY_S + 2 * config.replacement_delay_s + lost_s
        while left := self.unfinished():
            if self.heap.now >= end_s:
                raise Violation("liveness", virtual_s=self.heap.now, message=f"after the last fault, {left}")
            self.run_for(self.settings.look_interval_s)

    def unfinished(self) -> str:
        """What keeps the rows from being those of the table; empty if nothing does, or nobody could do it."""
        live, rows, members = self._processes(), self.metadata.rows, self.members()
        if not members.keys() & live.keys():
            return ""
        lost = 0
        for partition in map(PartitionId, range(self.workload.partitions)):
            row = rows.get(partition)
            if row is None:
                return f"partition {partition} has no row"
            if not self._can_be_served(row, live):
                lost += 1
            elif row.phase is not Phase.ACTIVE or live.get(row.primary) != row.boot:
                return f"partition {partition} is not served: {row}"
        if lost or not members.keys() <= live.keys():
            # Who is away may return; then it is given up, unless there would be too few without it.
            return "some are away, and may return" if self._may_return(members) else ""
        leaving = [record.name for record in self.metadata.nodes.values() if record.is_leaving]
        if leaving:
            return f"{leaving} have not got away"
        self._follow()
        current = table_of(self.metadata)
        table = self.checks.table(self.metadata, self.follower, members, ())
        for place, (held, wanted) in enumerate(zip(current.rows, table.rows, strict=True)):
            if held[0] != wanted[0] or set(held) != set(wanted):
                return f"partition {place} is on {held} and should be on {wanted}"
        return ""

    def _may_return(self, members: Mapping[NodeId, MemberSpec]) -> bool:
        lost_at_s = self.heap.now - self.settings.allocator.replacement_delay_s
        away = [node.failed_since_s for node in self.nodes.values() if node.node_id in members]
        return any(since_s is not None and since_s > lost_at_s for since_s in away)

    @staticmethod
    def _can_be_served(row: Row, live: Mapping[NodeId, Boot]) -> bool:
        return 2 * sum(node in live for node in (row.base or row.replicas)) > len(row.base or row.replicas)


@resting_collector()
def run(
    seed: int,
    faults: CoreFaults,
    duration_s: float,
    *,
    settings: PlacementSettings | None = None,
    workload: PlacementWorkload | None = None,
) -> Report:
    """Let members come and go, and then be.

    Args:
        seed: of everything random.
        faults: what goes wrong.
        duration_s: how long at least, before the rows have their time to become those of the table.
        settings: how the mesh works.
        workload: who there is.
    """
    world = PlacementWorld(
        seed, faults=faults, settings=settings or PlacementSettings(), workload=workload or PlacementWorkload()
    )
    violations: list[Violation] = []
    try:
        world.run_for(max(duration_s, faults.ends_s))
        world.recover()
    except Violation as violation:
        violations.append(violation)
    except CORE_ERRORS as error:
        violations.append(core_error(error, world.heap.now))
    counters = {
        "tables": world.checks.tables,
        "copies_begun": world.copies_begun,
        "rows_proposed": world.proposed,
        "handed_over": world.handed_over,
        "nodes_registered": sum(node.boot for node in world.nodes.values()),
    }
    return Report(
        seed,
        world.heap.events,
        world.heap.now,
        tuple(violations),
        counters,
        world.trace.hexdigest(),
        nodes=world.summary() if violations else (),
    )
