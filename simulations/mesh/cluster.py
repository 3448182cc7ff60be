"""The nodes of a run: machines, and processes that come and go on them."""

import functools
import traceback
from collections import Counter
from collections.abc import Callable
from typing import Any

import outcome
import trio

from meshnode import Agent, Node, NodeConfig, OperatorError, Tls
from meshnode.errors import DataDirectoryError, StorageFailed
from meshnode.host import Host
from meshnode.identity import Address
from meshnode.links import LinksConfig
from meshnode.membership.config import SwimConfig
from meshnode.metadata.config import AllocatorConfig
from meshnode.partitions.config import PartitionsConfig
from meshnode.prediction import PredictionConfig
from simulations.checkers.violation import Violation
from simulations.disk import DiskFaults, FaultAtlas, SimDisk
from simulations.hosts import Machine, Network, SimHost, Trace
from simulations.hosts.machine import ClockSkew
from simulations.kernel import Events, Process
from simulations.mesh.devices import Devices
from simulations.plan import Plan

PORT = 7946

RESTART_S = 1.0
"""How soon whoever looks after a node starts it again when it has ended by itself."""

DATA = "data"


def host_of(number: int) -> str:
    """The address of a node's machine."""
    return f"10.0.0.{number + 1}"


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
        self.network = Network(events, trace, seed=plan.seed)
        self.network.is_private = tls is not None
        self.fired: Counter[str] = Counter()
        self.devices = Devices(self.fired)
        self.nodes: dict[int, Node] = {}
        """Those that belong to a mesh and run."""
        self.processes: dict[int, Process] = {}
        self.machines: dict[int, Machine] = {}
        self.may_fail: set[int] = set()
        """Nodes that may end by an error, because their disks were told to fail."""
        self.down: set[int] = set()
        """Nodes that are to stay down until `start`."""
        self.is_over = False
        self._nursery = nursery
        self._agents = agents
        self._fail = fail
        self._tls = tls
        self._atlas = FaultAtlas(copies=plan.nodes, replication=plan.replication) if plan.atlas else None
        self._spares = 0
        skews = {clock.node: clock.rate for clock in plan.faults.clocks}
        for number in range(plan.nodes):
            self.add_machine(number, ClockSkew(1000.0 * number, skews.get(number, 1.0), 0.0))

    def add_machine(self, number: int, skew: ClockSkew) -> None:
        """A machine with an empty disk in the place of the node."""
        host = host_of(number)
        self._spares += 1
        spare = self._spares

        def make_disk(root: str) -> SimDisk:
            return SimDisk(f"{host} {root} {spare}", seed=self.plan.seed, atlas=self._atlas)

        self.network.add_machine(host)
        self.machines[number] = Machine(self.events, host, seed=self.plan.seed + spare, make_disk=make_disk, skew=skew)

    # ---- processes

    def start(self, number: int) -> None:
        """Start the node's process, unless it runs."""
        if self.is_over:
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

    def end(self) -> None:
        """The world ends, without a word to anybody."""
        self.is_over = True
        for process in self.processes.values():
            process.kill()

    def disk(self, number: int) -> SimDisk:
        """The node's disk."""
        return self.machines[number].disk(DATA)

    def set_disk_faults(self, number: int, faults: DiskFaults) -> None:
        """How the node's disk fails from now on."""
        if faults != DiskFaults():
            self.may_fail.add(number)
        self.disk(number).faults = faults

    async def _run(self, number: int, host: Host) -> None:
        node = Node(self.config(number), agents=self._agents, host=host, tls=self._tls)
        async with node:
            self.nodes[number] = node
            await node.left.wait()

    def _ended(self, number: int, ended: outcome.Outcome[object]) -> None:
        self.nodes.pop(number, None)
        self.network.close_all(self.processes[number])
        if self.is_over:
            return
        if isinstance(ended, outcome.Error):
            for error in leaves(ended.error):
                self._judge(number, error)
        self.trace.note(self.events.now, "end", f"n{number} {ended!r:.60}")
        if number not in self.down:
            self.events.after(RESTART_S, functools.partial(self._restart, number))

    def _restart(self, number: int) -> None:
        if number not in self.down and not self.is_over:
            self.start(number)

    def _judge(self, number: int, error: BaseException) -> None:
        """An operator's errors are for operators; any other is a bug."""
        if isinstance(error, trio.Cancelled):
            return
        self.fired[type(error).__name__] += 1
        if isinstance(error, StorageFailed | DataDirectoryError) and number in self.may_fail:
            if isinstance(error, DataDirectoryError):  # its operator does as the message says
                self.add_machine(number, self.machines[number].skew)
            return
        if isinstance(error, OperatorError) and not isinstance(error, StorageFailed | DataDirectoryError):
            return
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
        plan, tempo = self.plan, self.plan.tempo
        return NodeConfig(
            name=f"n{number}",
            data=DATA,
            bind=Address(host_of(number), PORT),
            insecure=True,
            found=number == 0 and self._spares == plan.nodes,  # one that takes a burnt machine's place joins
            join=tuple(Address(host_of(other), PORT) for other in range(plan.nodes) if other != number),
            partitions=plan.partitions,
            replication=plan.replication,
            election_timeout_s=1.0 * tempo,
            links=LinksConfig(),
            swim=SwimConfig(probe_interval_s=1.0 * tempo, probe_timeout_s=0.5 * tempo, gossip_interval_s=0.2 * tempo),
            allocator=AllocatorConfig(replacement_delay_s=15.0 * tempo),
            partition=PartitionsConfig(confirm_interval_s=1.0 * tempo, lease_s=3.0 * tempo, resend_after_s=0.5 * tempo),
            prediction=PredictionConfig(device=f"n{number}"),
        )


def leaves(error: BaseException) -> list[BaseException]:
    """What is in a group of errors; the error itself if it is none."""
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    return [leaf for inner in error.exceptions for leaf in leaves(inner)]
