"""Whole drivers on trio: real journals on disks in memory, real rows; links and disks that take their time."""

import contextlib
import random
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar, TypeVarTuple, cast

import trio

from meshnode import wire
from meshnode.identity import Address, Boot, Epoch, MeshId, NodeId, PartitionId
from meshnode.links import Channel, Links
from meshnode.metadata.allocator import Move
from meshnode.metadata.commands import ChangeRows, Found, Register, RowChange, Step
from meshnode.metadata.rows import Phase, Row
from meshnode.metadata.state import Metadata
from meshnode.partitions.config import PartitionsConfig
from meshnode.partitions.driver import Partitions
from meshnode.partitions.journal import Journal
from tests.agents.fake_host import FakeHost
from tests.consensus.disks import MemoryDisk
from tests.partitions.oracle import ListMachine

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

LINK_S = 0.02
DISK_S = 0.01


class SlowDiskHost(FakeHost):
    """Each piece of blocking work takes `DISK_S`."""

    async def run_blocking(self, work: Callable[[*Ts], T], *arguments: *Ts) -> T:
        await trio.sleep(DISK_S)
        return work(*arguments)


class LastFew(ListMachine):
    """A state that is the last ``kept`` payloads; each snapshot is reported."""

    def __init__(self, kept: int, on_snapshot: Callable[[], None]) -> None:
        super().__init__()
        self._kept = kept
        self._on_snapshot = on_snapshot

    def apply(self, sequence: int, payload: bytes) -> None:
        super().apply(sequence, payload)
        del self.applied[: -self._kept]

    def snapshot(self) -> bytes:
        self._on_snapshot()
        return super().snapshot()


class CountingTenant:
    """Keeps what it is told."""

    def __init__(self, kept: int) -> None:
        self.through: dict[PartitionId, int] = {}
        self.epochs: dict[PartitionId, Epoch] = {}
        self.reads: list[int] = []
        self.snapshots_made = 0
        self._kept = kept

    def machine(self, partition: PartitionId) -> ListMachine:
        return LastFew(self._kept, self._count_snapshot)

    def _count_snapshot(self) -> None:
        self.snapshots_made += 1

    def serving(self, partition: PartitionId, epoch: Epoch, machine: object) -> None:
        assert isinstance(machine, ListMachine)
        self.epochs[partition] = epoch

    def deposed(self, partition: PartitionId, epoch: Epoch) -> None:
        assert self.epochs.pop(partition) == epoch

    def committed(self, partition: PartitionId, through: int) -> None:
        assert through > self.through.get(partition, 0)
        self.through[partition] = through

    def read_ready(self, partition: PartitionId, token: int) -> None:
        self.reads.append(token)


class Process:
    """One start of one node."""

    def __init__(self, mesh: "Mesh", node_id: NodeId, boot: Boot, disk: MemoryDisk) -> None:
        host = SlowDiskHost()
        self.node_id = node_id
        self.boot = boot
        self.disk = disk
        self.tenant = CountingTenant(mesh.kept)
        self.journal = Journal(host, disk, mesh.config, b"node %d" % node_id)
        self.partitions = Partitions(
            host,
            mesh.config,
            node_id=node_id,
            boot=boot,
            links=cast(Links, mesh.links_of(node_id)),
            journal=self.journal,
            tenant=self.tenant,
            propose=mesh.propose,
        )
        self.scope = trio.CancelScope()
        self.partitions.recover()

    async def run(self) -> None:
        with self.scope:
            await self.partitions.run()

    def state(self, partition: PartitionId) -> list[bytes]:
        """The payloads that were applied."""
        machine = self.partitions.partitions[partition].replica.machine
        assert isinstance(machine, ListMachine)
        return [payload for _, payload in machine.applied]

    async def write(self, partition: PartitionId, payload: bytes) -> int:
        """Propose, and wait until it is committed."""
        sequence = self.partitions.propose(partition, payload)
        await until(lambda: self.tenant.through.get(partition, 0) >= sequence)
        return sequence


class _End:
    """One node's `Links`."""

    def __init__(self, mesh: "Mesh", node_id: NodeId) -> None:
        self._mesh = mesh
        self._node_id = node_id

    def send(self, to: NodeId, channel: Channel, message: object) -> bool:
        assert channel is Channel.PARTITIONS
        return self._mesh.carry(self._node_id, to, message)


class Mesh:
    """Nodes 1 … ``nodes``; the Raft group is one list of commands that everybody follows.

    Attributes:
        cut: nodes that no message reaches or leaves, nor any row.
        proposals_lost: how many of the next proposals are lost.
        carried: how many messages of each class there were.
    """

    def __init__(self, nursery: trio.Nursery, nodes: int, config: PartitionsConfig, kept: int) -> None:
        self.config = config
        self.kept = kept
        self.cut: set[NodeId] = set()
        self.proposals_lost = 0
        self.carried: dict[type, int] = {}
        self.metadata = Metadata(on_row=self._row_changed)
        self.processes: dict[NodeId, Process] = {}
        self._nursery = nursery
        self._commands = 0
        self._rng = random.Random(5)
        self._outbox, self._under_way = trio.open_memory_channel[tuple[float, NodeId, NodeId, bytes]](10_000)
        nursery.start_soon(self._deliver)
        self.apply(Found(MeshId(bytes(16)), 64, 3))
        for number in range(1, nodes + 1):
            self.start(NodeId(number), MemoryDisk())

    # ---- nodes

    def start(self, node_id: NodeId, disk: MemoryDisk) -> Process:
        """A new process; it learns the rows that are there."""
        boot = Boot(self.metadata.boot_of(node_id) + 1)
        process = self.processes[node_id] = Process(self, node_id, boot, disk)
        self.apply(Register(node_id, boot, f"n{node_id}", Address("127.0.0.1", 1)))
        for partition, row in self.metadata.rows.items():
            process.partitions.row_changed(partition, row)
        self._nursery.start_soon(process.run)
        return process

    def power_failure(self, node_id: NodeId) -> MemoryDisk:
        """The process ends; what its disk still has."""
        process = self.processes.pop(node_id)
        process.scope.cancel()
        return process.disk.after_power_failure(self._rng)

    # ---- the Raft group

    async def propose(self, command: ChangeRows) -> None:
        await trio.lowlevel.checkpoint()
        if self.proposals_lost:
            self.proposals_lost -= 1
        else:
            self.apply(command)

    def apply(self, command: object) -> None:
        self._commands += 1
        self.metadata.apply(self._commands, wire.encode(command))

    def begin(self, partition: PartitionId, *replicas: NodeId) -> None:
        """The first of the replicas is to take the partition over."""
        row = self.metadata.rows.get(partition)
        epoch, phase = (Epoch(0), Phase.ACTIVE) if row is None else (row.epoch, row.phase)
        boot = self.metadata.boot_of(replicas[0])
        self.apply(ChangeRows((RowChange(partition, Step.BEGIN, epoch, phase, replicas[0], boot, replicas),)))

    async def serve(self, partition: PartitionId, *replicas: NodeId) -> Process:
        """Begin, and wait until the first of them serves and has its lease."""
        self.begin(partition, *replicas)
        process = self.processes[replicas[0]]
        await until(lambda: partition in process.tenant.epochs and process.partitions.holds_lease(partition))
        return process

    def move(self, partition: PartitionId, *replicas: NodeId) -> Move:
        row = self.metadata.rows[partition]
        return Move(partition, row.epoch, replicas[0], self.metadata.boot_of(replicas[0]), replicas, "")

    def _row_changed(self, partition: PartitionId, row: Row) -> None:
        for process in self.processes.values():
            if process.node_id not in self.cut:
                process.partitions.row_changed(partition, row)

    # ---- links

    def links_of(self, node_id: NodeId) -> _End:
        return _End(self, node_id)

    def carry(self, sender: NodeId, to: NodeId, message: object) -> bool:
        self.carried[type(message)] = self.carried.get(type(message), 0) + 1
        if {sender, to} & self.cut:
            return False
        self._outbox.send_nowait((trio.current_time() + LINK_S, sender, to, wire.encode(message)))
        return True

    async def _deliver(self) -> None:
        async for at_s, sender, to, data in self._under_way:
            await trio.sleep_until(at_s)
            process = self.processes.get(to)
            if process is not None and not {sender, to} & self.cut:
                process.partitions.receive(sender, wire.decode(data))


async def until(condition: Callable[[], Any]) -> None:
    """Wait, in virtual time, for something that happens within a minute."""
    with trio.fail_after(60.0):
        while not condition():
            await trio.sleep(0.001)


@contextlib.asynccontextmanager
async def mesh_of(nodes: int, config: PartitionsConfig | None = None, *, kept: int = 1000) -> AsyncIterator[Mesh]:
    """A mesh whose states are the last ``kept`` payloads of each partition."""
    async with trio.open_nursery() as nursery:
        yield Mesh(nursery, nodes, config or PartitionsConfig(), kept)
        nursery.cancel_scope.cancel()
