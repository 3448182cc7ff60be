"""The metadata of a mesh without its Raft group: one log, the real state machine on it, and the real allocator.

It stands for a group that has a leader. While it is paused, the group has none.
"""

import random
from typing import Protocol

from meshnode import wire
from meshnode.identity import Address, Boot, MeshId, NodeId, PartitionId
from meshnode.metadata.allocator import Allocator, Health
from meshnode.metadata.commands import ChangeRows, Command, Found, Register, RowChange
from meshnode.metadata.config import AllocatorConfig
from meshnode.metadata.rows import Row
from meshnode.metadata.state import Metadata
from simulations.checkers.rows import RowsChecker
from simulations.cores.heap import EventHeap
from simulations.cores.network import Network
from simulations.cores.partition_traffic import SERVICE, Pulse, Rows

PORT = 7946
CHANGES_AT_ONCE = 64
"""Changes of rows in one message: who is far behind asks again."""


class Surroundings(Protocol):
    """What the service finds in its world."""

    heap: EventHeap
    network: Network
    rows: RowsChecker


class MetadataService:
    """Takes pulses and proposals, commits after a moment, and tells everybody.

    Args:
        world: where it is.
        config: of the allocator.
        partitions, replication: of the mesh.
        look_interval_s: how often the allocator looks.
        failed_after_s: how long a node is silent before it counts as failed.
        agreement_s: how long a proposal takes to be committed, at most; two may overtake each other.
        rng: its own.

    Attributes:
        changes: all changes of rows, in order.
    """

    def __init__(
        self,
        world: Surroundings,
        config: AllocatorConfig,
        *,
        partitions: int,
        replication: int,
        look_interval_s: float,
        failed_after_s: float,
        agreement_s: float,
        rng: random.Random,
    ) -> None:
        self.changes: list[tuple[PartitionId, Row]] = []
        self.metadata = Metadata(on_row=self._row_changed)
        self._world = world
        self._config = config
        self._look_interval_s = look_interval_s
        self._failed_after_s = failed_after_s
        self._agreement_s = agreement_s
        self._rng = rng
        self._heard_s: dict[NodeId, float] = {}
        self._paused_until_s = 0.0
        self._index = 0
        self._commit(Found(MeshId(bytes(16)), partitions, replication))
        self._allocator = Allocator(self.metadata, config, 0.0)
        world.heap.at(look_interval_s, self._look)

    def _row_changed(self, partition: PartitionId, row: Row) -> None:
        self._world.rows.changed(NodeId(SERVICE), partition, row)
        self.changes.append((partition, row))

    def pause(self, for_s: float) -> None:
        """The group has no leader for a time; the next one knows nothing of what the last one was about."""
        self._paused_until_s = max(self._paused_until_s, self._world.heap.now + for_s)
        self._allocator = Allocator(self.metadata, self._config, self._paused_until_s)
        self._heard_s = dict.fromkeys(self._heard_s, self._paused_until_s)

    @property
    def is_paused(self) -> bool:
        """Whether nothing is agreed on at present."""
        return self._world.heap.now < self._paused_until_s

    def receive(self, envelope: tuple[Pulse | RowChange, int]) -> None:
        """A pulse or a proposal of a node."""
        if self.is_paused:
            return
        message, sender = envelope
        match message:
            case Pulse(boot, known):
                self._heard(NodeId(sender), boot)
                self._tell(sender, known)
            case RowChange():
                self.propose(message)

    def propose(self, change: RowChange) -> None:
        """Commit it in a moment, unless the group has no leader by then."""
        heap = self._world.heap
        heap.at(heap.now + self._rng.uniform(0.0, self._agreement_s), self._agree, change)

    def _agree(self, change: RowChange) -> None:
        if self.is_paused:
            return
        before = len(self.changes)
        self._commit(ChangeRows((change,)))
        if len(self.changes) > before:
            for node_id in self.metadata.nodes:
                self._tell(node_id, before)

    def _commit(self, command: Command) -> None:
        self._index += 1
        self.metadata.apply(self._index, wire.encode(command))

    def _heard(self, node_id: NodeId, boot: Boot) -> None:
        if boot < self.metadata.boot_of(node_id):
            return  # the last words of a process that is gone
        self._heard_s[node_id] = self._world.heap.now
        if boot > self.metadata.boot_of(node_id):
            self._commit(Register(node_id, boot, f"n{node_id}", Address(f"10.0.0.{node_id}", PORT)))

    def _tell(self, to: int, known: int) -> None:
        news = tuple(self.changes[known : known + CHANGES_AT_ONCE])
        if news:
            self._world.network.send(SERVICE, to, Rows(known, news))

    def _look(self, _: object) -> None:
        heap = self._world.heap
        heap.at(heap.now + self._look_interval_s, self._look)
        if self.is_paused:
            return
        silent_since_s = heap.now - self._failed_after_s
        health = {
            node_id: Health.LIVE if self._heard_s[node_id] >= silent_since_s else Health.FAILED
            for node_id in self.metadata.nodes
        }
        plan = self._allocator.plan(health, heap.now)
        for change in plan.changes:
            self.propose(change)
        for move in plan.moves:
            row = self.metadata.rows.get(move.partition)
            if row is not None:
                self._world.network.send(SERVICE, row.primary, move)
