"""Snapshots over a link that takes longer for what queues on it than anybody waits for an answer."""

import heapq
import itertools
from collections.abc import Iterable
from dataclasses import replace

from meshnode.identity import Boot, Epoch, NodeId, PartitionId
from meshnode.metadata.rows import Phase, Row
from meshnode.partitions import replica as replica_module
from meshnode.partitions.config import PartitionsConfig
from meshnode.partitions.core import PartitionsCore
from meshnode.partitions.effects import AfterSync, Effect, Propose, Send
from meshnode.partitions.messages import ORIGIN, Append, Chunk
from tests.partitions.copies import A, B, C, at, records
from tests.partitions.oracle import ListMachine

RESEND_S = PartitionsConfig().resend_after_s
NOBODY = NodeId(9)


class Congested:
    """Three nodes with the same partitions; each node's link takes ``part_s`` for a part of a snapshot, in order.

    Whatever else is sent takes no time, but waits its turn; a disk takes none. ``parts_sent`` counts by receiver.
    """

    def __init__(self, partitions: int, part_s: float) -> None:
        self.now = 0.0
        self.parts_sent = dict.fromkeys((A, B, C), 0)
        self.partitions = [PartitionId(number) for number in range(partitions)]
        self.nodes = {node: self._core(node) for node in (A, B, C)}
        self._part_s = part_s
        self._free_at_s = dict.fromkeys(self.nodes, 0.0)
        self._arrivals: list[tuple[float, int, NodeId, NodeId, object]] = []
        self._count = itertools.count()
        self._row = Row(Epoch(2), A, Boot(1), (A, B, C), Phase.SEALING, (A, B, C))

    def _core(self, node: NodeId) -> PartitionsCore:
        return PartitionsCore(PartitionsConfig(), node_id=node, boot=Boot(1), machine=lambda _: ListMachine())

    def fill(self, node: NodeId, count: int) -> None:
        """The node has that many records of each partition, all committed."""
        for partition in self.partitions:
            for sequence in range(1, count + 1):
                previous = at(1, sequence - 1) if sequence > 1 else ORIGIN
                message = Append(partition, Epoch(1), previous, records(sequence, 1), sequence)
                self.nodes[node].receive(NOBODY, message, 0.0)

    def committed(self, node: NodeId) -> list[int]:
        """What is committed there of each partition."""
        return [self.nodes[node].partitions[partition].replica.committed for partition in self.partitions]

    def parts(self, node: NodeId) -> int:
        """How many parts the snapshots of all partitions have together."""
        replicas = [self.nodes[node].partitions[partition].replica for partition in self.partitions]
        return sum(-(-len(each.machine.snapshot()) // replica_module.MESSAGE_BYTES) for each in replicas)

    def take_over(self) -> None:
        """Node A is to be the primary of all."""
        for partition in self.partitions:
            self._agree(partition, self._row)

    def run(self, until_s: float) -> None:
        """Everything that happens until then."""
        while self.now < until_s:
            due_s, node = min((core.next_deadline, node) for node, core in self.nodes.items())
            if self._arrivals and self._arrivals[0][0] <= due_s:
                self.now, _, sender, to, message = heapq.heappop(self._arrivals)
                self._perform(to, self.nodes[to].receive(sender, message, self.now))
            else:
                self.now = max(self.now, min(due_s, until_s))
                self._perform(node, self.nodes[node].wake(self.now))

    def _agree(self, partition: PartitionId, row: Row) -> None:
        for node in (B, C, A):
            self._perform(node, self.nodes[node].row_changed(partition, row, self.now))

    def _perform(self, node: NodeId, effects: Iterable[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Send | AfterSync):
                send = effect.send if isinstance(effect, AfterSync) else effect
                self._carry(node, send.to, send.message)
            elif isinstance(effect, Propose):
                self._agree(effect.change.partition, replace(self._row, phase=Phase.ACTIVE))

    def _carry(self, sender: NodeId, to: NodeId, message: object) -> None:
        at_s = self.now
        if sender != to:
            takes_s = self._part_s if isinstance(message, Chunk) else 0.0
            self.parts_sent[to] += isinstance(message, Chunk)
            at_s = self._free_at_s[to] = max(self._free_at_s[to], self.now) + takes_s
        heapq.heappush(self._arrivals, (at_s, next(self._count), sender, to, message))


def assert_crosses(mesh: Congested, *, source: NodeId, to: NodeId, part_s: float) -> None:
    """All that the source has arrives in twice the time that its parts need, and hardly any is sent twice."""
    mesh.take_over()
    needed = mesh.parts(source)
    mesh.run(until_s=2 * needed * part_s)
    assert min(mesh.committed(to)) >= 40
    assert mesh.parts_sent[to] < 1.5 * needed


def test_many_snapshots_on_one_link_cost_little_more_than_one_after_the_other() -> None:
    mesh = Congested(partitions=16, part_s=RESEND_S / 4)
    mesh.fill(A, 40)
    mesh.fill(B, 40)
    assert_crosses(mesh, source=A, to=C, part_s=RESEND_S / 4)


def test_a_snapshot_crosses_a_link_on_which_each_part_takes_longer_than_anybody_waits() -> None:
    mesh = Congested(partitions=1, part_s=4 * RESEND_S)
    mesh.fill(A, 40)
    mesh.fill(B, 40)
    assert_crosses(mesh, source=A, to=C, part_s=4 * RESEND_S)


def test_a_takeover_goes_on_with_a_source_whose_parts_take_longer_than_anybody_waits() -> None:
    mesh = Congested(partitions=1, part_s=4 * RESEND_S)
    mesh.fill(B, 40)
    mesh.fill(C, 39)
    assert_crosses(mesh, source=B, to=A, part_s=4 * RESEND_S)
