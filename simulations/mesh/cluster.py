"""The nodes of a run: machines, and processes that come and go on them."""

import contextlib
import functools
import random
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import outcome
import trio

from meshnode import Agent, MeshError, Node, NodeConfig, OperatorError, Tls
from meshnode.errors import DataDirectoryError, StorageFailed
from meshnode.host import Host
from meshnode.identity import Address, MeshId
from meshnode.wire import WireError, decode
from simulations.checkers.violation import Violation
from simulations.disk import DiskFaults, FaultAtlas, SimDisk
from simulations.hosts import Machine, Network, SimHost, Trace
from simulations.hosts.machine import ClockSkew
from simulations.kernel import Events, Process
from simulations.mesh.devices import Devices
from simulations.mesh.settings import DATA, HEADER_BYTES, PORT, host_of, settings_of
from simulations.mesh.stranger import STRANGER, visit
from simulations.plan import Plan

RESTART_S = 1.0
"""How soon whoever looks after a node starts it again when it has ended by itself."""

LEAVE_AGAIN_S = 1.0
"""How soon a node is asked again to leave, when nobody could agree to it."""

REFUSALS = frozenset({"sync_error", "read_error", "no_space"})
"""Faults of a disk for which a node may say that its storage failed."""

DESTRUCTIONS = frozenset({"bit_rot", "read_bit_rot", "stale", "misdirected", "dropped_sector"})
"""Faults of a disk for which a node may say that its data directory is damaged. A power loss is none of them."""


class Cluster:
    """All nodes of a run, by number.

    Args:
        agents: the agent types that the nodes offer.
        fail: told of a violation.
        tls: what makes their links private, if they are.
    """

    def __init__(
        self,
        plan: Plan,
        events: Events,
        trace: Trace,
        nursery: trio.Nursery,
        *,
        agents: tuple[type[Agent[Any]], ...],
        fail: Callable[[Violation], None],
        tls: Tls | None = None,
    ) -> None:
        self.plan = plan
        self.events = events
        self.trace = trace
        self.network = Network(events, trace, seed=plan.seed, believes=_would_be_believed)
        self.network.is_private = tls is not None
        self.fired: Counter[str] = self.network.fired
        """How often each fault struck, by its name."""
        self.devices = Devices(self.fired)
        self.nodes: dict[int, Node] = {}
        """Those that belong to a mesh and run."""
        self.processes: dict[int, Process] = {}
        self.machines: dict[int, Machine] = {}
        self.disks: list[SimDisk] = []
        """All that there ever were, but for copies."""
        self.down: set[int] = set()
        """Nodes that are to stay down until `start`."""
        self.absent: set[int] = {late.node for late in plan.faults.late_starts}
        """Nodes that are not there yet, or for good."""
        self.is_over = False
        self._programs: list[Callable[[Node], Awaitable[None]]] = []
        self._nursery = nursery
        self._agents = agents
        self._fail = fail
        self._tls = tls
        self._atlas = FaultAtlas(copies=plan.nodes, replication=plan.replication) if plan.atlas else None
        # Of the last process of each node: what ends it in order, and what runs beside its node.
        self._stopping: dict[int, trio.CancelScope] = {}
        self._beside: dict[int, trio.Nursery] = {}
        self._has_left: set[int] = set()
        self._spares = 0
        self._stranger: Machine | None = None
        self._strangers: list[Process] = []
        # Machines whose own disks are put aside while they run on copies of others.
        self._put_aside: dict[int, dict[str, SimDisk]] = {}
        skews = {clock.node: clock.rate for clock in plan.faults.clocks}
        for number in range(plan.nodes):
            self.add_machine(number, ClockSkew(1000.0 * number, skews.get(number, 1.0), 0.0))

    def add_machine(self, number: int, skew: ClockSkew) -> None:
        """A machine with an empty disk in the place of the node."""
        host = host_of(number)
        self._spares += 1
        spare = self._spares
        self._put_aside.pop(number, None)

        def make_disk(root: str) -> SimDisk:
            disk = SimDisk(f"{host} {root} {spare}", seed=self.plan.seed, atlas=self._atlas)
            self.disks.append(disk)
            return disk

        self.network.add_machine(host)
        self.machines[number] = Machine(self.events, host, seed=self.plan.seed + spare, make_disk=make_disk, skew=skew)

    # ---- processes

    def start(self, number: int) -> None:
        """Start the node's process, unless it runs."""
        if self.is_over or number in self.absent:
            return
        self.down.discard(number)
        present = self.processes.get(number)
        if present is not None and present.is_alive:
            return
        machine = self.machines[number]
        process = Process(
            self.events,
            name=f"n{number}",
            step_s=machine.step_s,
            on_end=functools.partial(self._ended, number),
        )
        process.is_stray = number in self._put_aside
        self.processes[number] = process
        host = SimHost(machine, self.network, process)
        self.trace.note(self.events.now, "start", f"n{number}")
        process.start(self._nursery, functools.partial(self._run, number, host))

    def kill(self, number: int, *, power: bool = False) -> None:
        """End the process from one step to the next; with ``power``, its whole machine."""
        self.down.add(number)
        self.nodes.pop(number, None)
        self.trace.note(self.events.now, "power off" if power else "kill", f"n{number}")
        if power:
            self.network.power_off(host_of(number))
        process = self.processes.get(number)
        if process is not None:
            process.kill()
        if power:
            for disk in self.machines[number].disks.values():
                disk.crash(power_loss=True)

    def stop(self, number: int) -> None:
        """Ask the process to end, as by SIGTERM."""
        self.down.add(number)
        self.trace.note(self.events.now, "stop", f"n{number}")
        scope = self._stopping.get(number)
        if scope is not None and self.processes[number].is_alive:
            scope.cancel()

    def leave(self, number: int) -> None:
        """Let the node leave the mesh for good, if it runs; a new one takes its machine afterwards."""
        node = self.nodes.get(number)
        if node is not None:
            self.fired["leave for good"] += 1
            self.trace.note(self.events.now, "leave", f"n{number}")
            program = functools.partial(_leave, node)
            self.processes[number].main.spawn(self._beside[number], program, f"n{number} leaves")

    def beside(self, program: Callable[[Node], Awaitable[None]]) -> None:
        """Run the program in the process of each node, from now or from its start on, as one that embeds the node."""
        self._programs.append(program)
        for number, node in sorted(self.nodes.items()):
            run = functools.partial(program, node)
            self.processes[number].main.spawn(self._beside[number], run, f"n{number} program")

    def visit(self, number: int, *, seed: str) -> None:
        """A stranger comes to the node."""
        if self._stranger is None:
            self.network.add_machine(STRANGER)
            self._stranger = Machine(self.events, STRANGER, seed=self.plan.seed, make_disk=_no_disk)
        known = sorted(self.nodes.items())
        mesh_id = known[0][1].identity.mesh_id if known else MeshId(bytes(HEADER_BYTES))
        process = Process(self.events, name="stranger")
        self._strangers.append(process)
        host = SimHost(self._stranger, self.network, process)
        at = Address(host_of(number), PORT)
        process.start(self._nursery, functools.partial(visit, host, at, mesh_id, random.Random(seed)))

    def end_visits(self) -> None:
        """No stranger is anywhere any more."""
        for process in self._strangers:
            process.kill()

    def end(self) -> None:
        """The world ends, without a word to anybody."""
        self.is_over = True
        for process in [*self.processes.values(), *self._strangers]:
            process.kill()

    # ---- disks

    def disk(self, number: int) -> SimDisk:
        """The node's disk."""
        return self.machines[number].disk(DATA)

    def mend(self, disk: SimDisk) -> None:
        """The disk fails no more, whichever machine it is in by now."""
        disk.faults = DiskFaults()
        for machine in self.machines.values():
            if disk in machine.disks.values():
                machine.unstick()

    def exchange_disks(self, one: int, other: int) -> None:
        """The disks of two machines, on which nothing runs, are exchanged."""
        self.put_back(one)
        self.put_back(other)
        first, second = self.machines[one], self.machines[other]
        first.disks, second.disks = second.disks, first.disks

    def put_copy(self, number: int, copy: SimDisk) -> None:
        """The machine, on which nothing runs, has this disk instead of its own until `put_back`."""
        machine = self.machines[number]
        self._put_aside[number] = machine.disks
        machine.disks = {DATA: copy}

    def has_copy(self, number: int) -> bool:
        """Whether the machine has a disk that is not its own."""
        return number in self._put_aside

    def put_back(self, number: int) -> None:
        """The machine, on which nothing runs, has its own disk again."""
        own = self._put_aside.pop(number, None)
        if own is not None:
            self.machines[number].disks = own

    # ---- what becomes of processes

    async def _run(self, number: int, host: Host) -> None:
        node = Node(self.config(number), agents=self._agents, host=host, tls=self._tls)
        with trio.CancelScope() as scope:
            self._stopping[number] = scope
            async with node, trio.open_nursery() as beside:
                self._beside[number] = beside
                if not self.processes[number].is_stray:
                    self.nodes[number] = node
                    for program in self._programs:
                        beside.start_soon(program, node)
                try:
                    await node.left.wait()
                    self._has_left.add(number)
                    beside.cancel_scope.cancel()
                finally:
                    self.nodes.pop(number, None)

    def _ended(self, number: int, ended: outcome.Outcome[object]) -> None:
        self.nodes.pop(number, None)
        process = self.processes[number]
        self.network.close_all(process)
        if self.is_over:
            return
        self.trace.note(self.events.now, "end", f"n{number} {ended!r:.60}")
        if isinstance(ended, outcome.Error):
            for error in leaves(ended.error):
                self._judge(number, error)
        if process.is_stray:
            self.put_back(number)
        elif number in self._has_left:
            self._has_left.discard(number)
            self.fired["left for good"] += 1
            self.add_machine(number, self.machines[number].skew)
        if number not in self.down:
            self.events.after(RESTART_S, functools.partial(self._restart, number))

    def _restart(self, number: int) -> None:
        if number not in self.down and not self.is_over:
            self.start(number)

    def _judge(self, number: int, error: BaseException) -> None:
        """An operator's errors are for operators, where there is a reason for them; any other is a bug."""
        if isinstance(error, trio.Cancelled):
            return
        self.fired[type(error).__name__] += 1
        if self.processes[number].is_stray and isinstance(error, OperatorError):
            return
        struck = set(self.disk(number).fired)
        match error:
            case DataDirectoryError() if struck & DESTRUCTIONS:
                if self.plan.atlas:  # its operator does as the message says
                    self.add_machine(number, self.machines[number].skew)
                else:  # it may be the last copy
                    self.absent.add(number)
            case DataDirectoryError():
                self._bug(number, error)
            case StorageFailed() if struck & (REFUSALS | DESTRUCTIONS):
                pass
            case StorageFailed():
                self._bug(number, error)
            case OperatorError():
                pass
            case _:
                self._bug(number, error)

    def _bug(self, number: int, error: BaseException) -> None:
        where = "".join(traceback.format_exception(error)[-3:])
        self._fail(
            Violation(
                "node-crash",
                virtual_s=self.events.now,
                message=f"n{number} ended by {type(error).__name__}: {error}\n{where}",
                nodes=(number,),
            )
        )

    def config(self, number: int) -> NodeConfig:
        """How a node is set up."""
        is_replacement = self._spares > self.plan.nodes  # one that takes a burnt machine's place joins
        return settings_of(self.plan, number, found=number == 0 and not is_replacement)


async def _leave(node: Node) -> None:
    while not node.left.is_set():
        with contextlib.suppress(MeshError):
            await node.leave()
        await trio.sleep(LEAVE_AGAIN_S)


def _no_disk(root: str) -> SimDisk:
    raise AssertionError(f"a stranger has no disk {root}")


def _would_be_believed(datagram: bytes) -> bool:
    """Whether a node of any mesh would take it for a message."""
    try:
        decode(memoryview(datagram)[HEADER_BYTES:])
    except WireError:
        return False
    return True


def leaves(error: BaseException) -> list[BaseException]:
    """What is in a group of errors; the error itself if it is none."""
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    return [leaf for inner in error.exceptions for leaf in leaves(inner)]
