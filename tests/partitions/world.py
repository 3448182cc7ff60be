"""A world of partition replicas: a network that is a list, journals that are lists, and a row service for Raft.

Nothing happens by itself: a schedule calls the public methods, each of which is one event that the oracle checks.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import assert_never

from meshnode.identity import Boot, Epoch, NodeId, PartitionId
from meshnode.metadata.allocator import Move
from meshnode.metadata.commands import RowChange, Step
from meshnode.metadata.rows import Phase, Row
from meshnode.partitions.config import PartitionsConfig
from meshnode.partitions.core import PartitionsCore
from meshnode.partitions.effects import AfterSync, Committed, Deposed, Effect, Propose, ReadReady, Send, Serving, Write
from meshnode.partitions.messages import Confirm, Confirmed, Entry, Message, Position
from meshnode.partitions.partition import Partition
from meshnode.partitions.retention import Retention
from tests.partitions.oracle import ListMachine, Oracle

MESSAGES_MAX = 300
"""Messages under way before the oldest are lost: a schedule that seldom delivers must not slow down."""


@dataclass(slots=True)
class Node:
    """One node over all of its starts.

    Attributes:
        queue: what is written but not synced; `Send` marks what waits for that.
        history: everything that was ever synced.
        deleted: how much of the history is not on the disk any more; each entry counts as a file of the journal.
    """

    node_id: NodeId
    core: PartitionsCore
    boot: Boot = field(default=Boot(1))
    is_up: bool = True
    is_paused: bool = False
    queue: deque[Entry | Send] = field(default_factory=deque)
    history: list[Entry] = field(default_factory=list)
    deleted: int = 0
    retention: Retention = field(default_factory=Retention)
    rows_seen: dict[PartitionId, int] = field(default_factory=dict)
    pending: dict[PartitionId, dict[int, bytes]] = field(default_factory=dict)

    @property
    def can_act(self) -> bool:
        return self.is_up and not self.is_paused

    @property
    def partitions(self) -> dict[PartitionId, Partition]:
        return self.core.partitions

    @property
    def durable(self) -> list[Entry]:
        """What a restart finds."""
        return self.history[self.deleted :]


@dataclass(frozen=True, slots=True)
class Flight:
    """A message under way."""

    sender: NodeId
    to: NodeId
    message: Message | Confirm | Confirmed


class World:
    """Nodes 1 … ``nodes``; partitions 0 … ``partitions`` − 1."""

    def __init__(self, nodes: int, partitions: int = 1, *, config: PartitionsConfig | None = None) -> None:
        self.now = 0.0
        self.oracle = Oracle()
        self.config = config or PartitionsConfig()
        self.nodes = {
            node_id: Node(node_id, self._core(node_id, Boot(1))) for node_id in map(NodeId, range(1, nodes + 1))
        }
        self.partition_ids = [PartitionId(number) for number in range(partitions)]
        self.network: list[Flight] = []
        self.cut: set[tuple[NodeId, NodeId]] = set()
        self.uninformed: set[NodeId] = set()
        self.rows: dict[PartitionId, list[Row]] = {partition: [] for partition in self.partition_ids}
        self.proposals: list[RowChange] = []
        self.reads: dict[int, tuple[PartitionId, bool]] = {}
        self.reads_ready = 0
        self._payloads = 0

    # ---- the row service: what Raft agrees on

    def row(self, partition: PartitionId) -> Row | None:
        """The newest committed row."""
        rows = self.rows[partition]
        return rows[-1] if rows else None

    def begin(self, partition: PartitionId, primary: NodeId, replicas: Iterable[NodeId]) -> None:
        """A takeover or a move, agreed on at once, by the process of ``primary`` that is registered now."""
        row = self.row(partition)
        epoch, phase = (Epoch(0), Phase.ACTIVE) if row is None else (row.epoch, row.phase)
        boot = self.nodes[primary].boot
        self._agree(RowChange(partition, Step.BEGIN, epoch, phase, primary, boot, tuple(replicas)))

    def agree(self, index: int = 0) -> None:
        """One of the proposals is agreed on; it may have come too late."""
        self._agree(self.proposals.pop(index))

    def _agree(self, change: RowChange) -> None:
        row = self.row(change.partition)
        if (change.epoch, change.phase) != ((Epoch(0), Phase.ACTIVE) if row is None else (row.epoch, row.phase)):
            return
        rows = self.rows[change.partition]
        match change.step:
            case Step.ACTIVATE:
                assert row is not None
                rows.append(replace(row, phase=Phase.ACTIVE, base=row.replicas))
            case Step.BEGIN:
                primary, boot, replicas = change.primary, change.boot, change.replicas
                assert primary in replicas
                if boot == self.nodes[primary].boot:
                    base = () if row is None else row.base
                    rows.append(Row(Epoch(change.epoch + 1), primary, boot, replicas, Phase.SEALING, base))
            case _:
                assert_never(change.step)

    def learn_row(self, node_id: NodeId, partition: PartitionId, skip: int = 0) -> bool:
        """The node is told the next row that it does not know, or one ``skip`` further on; whether it was.

        The ``uninformed`` are not: Raft does not reach them.
        """
        node = self.nodes[node_id]
        rows = self.rows[partition]
        seen = node.rows_seen.get(partition, 0)
        if not node.can_act or seen >= len(rows) or node_id in self.uninformed:
            return False
        index = min(seen + skip, len(rows) - 1)
        node.rows_seen[partition] = index + 1
        self._perform(node, node.core.row_changed(partition, rows[index], self.now))
        return True

    # ---- nodes and their disks

    def sync(self, node_id: NodeId, most: int | None = None) -> None:
        """The oldest ``most`` items of the queue are on disk; what waited for them is sent."""
        node = self.nodes[node_id]
        for _ in range(len(node.queue) if most is None else min(most, len(node.queue))):
            if not node.can_act:
                return
            item = node.queue.popleft()
            if isinstance(item, Send):
                self._perform(node, [item])
            else:
                self._synced(node, item)

    def crash(self, node_id: NodeId, surviving: int = 0) -> None:
        """The process ends; of what was not synced, the first ``surviving`` items are on disk all the same."""
        node = self.nodes[node_id]
        for item in list(node.queue)[:surviving]:
            if not isinstance(item, Send):
                self._synced(node, item)
        node.queue.clear()
        node.core = self._core(node_id, Boot(node.boot + 1))
        node.pending = {}
        node.is_up = False
        node.is_paused = False

    def restart(self, node_id: NodeId, forgotten_rows: int = 0) -> None:
        """A new process on the same disk; it is told its last ``forgotten_rows`` rows once more."""
        node = self.nodes[node_id]
        assert not node.is_up
        node.is_up = True
        node.boot = Boot(node.boot + 1)
        for partition in self.partition_ids:
            node.rows_seen[partition] = max(0, node.rows_seen.get(partition, 0) - forgotten_rows)
        node.core.recover(node.durable)
        node.retention = Retention()
        for index, entry in enumerate(node.durable):
            node.retention.note(entry, file=node.deleted + index, size=1)
        self.oracle.recovered(node.partitions, node_id, node.history)
        for copy in node.partitions.values():
            self.oracle.check(copy, node_id)
            self.oracle.check_whole_log(copy, node_id)

    def copy_forward(self, node_id: NodeId, partition: PartitionId) -> None:
        """The journal gets the whole copy once more, at its end."""
        node = self.nodes[node_id]
        if node.can_act and partition in node.partitions:
            self._perform(node, [Write(node.core.whole_copy(partition))])

    def delete_old_files(self, node_id: NodeId) -> None:
        """What nobody needs any more, as the journal does it with each sync."""
        node = self.nodes[node_id]
        if node.can_act:
            node.deleted = node.retention.oldest_needed() or 0

    def _synced(self, node: Node, entry: Entry) -> None:
        node.retention.note(entry, file=len(node.history), size=1)
        node.history.append(entry)
        self.oracle.synced(node.node_id, entry)

    # ---- network and time

    def deliver(self, index: int = 0, *, keep: bool = False) -> None:
        """One message arrives; with ``keep`` it will arrive again. It is lost where a link is cut or a node is down."""
        flight = self.network[index] if keep else self.network.pop(index)
        node = self.nodes[flight.to]
        if node.can_act and (flight.sender, flight.to) not in self.cut:
            self.oracle.received(flight.to, flight.sender, flight.message)
            self._perform(node, node.core.receive(flight.sender, flight.message, self.now))

    def deliver_where(self, wanted: Callable[[Flight], bool]) -> int:
        """All such messages that are under way now arrive in order, not those that they cause; how many."""
        taken = self.lose_where(wanted)
        for flight in taken:
            self.network.insert(0, flight)
            self.deliver(0)
        return len(taken)

    def lose_where(self, wanted: Callable[[Flight], bool]) -> list[Flight]:
        """All such messages that are under way now are lost."""
        taken = [flight for flight in self.network if wanted(flight)]
        self.network = [flight for flight in self.network if not wanted(flight)]
        return taken

    def pass_time(self, seconds: float) -> None:
        """Time goes on, and everybody does what is due."""
        self.now += seconds
        for node in self.nodes.values():
            self._perform(node, [])

    def confirm(self, node_id: NodeId) -> None:
        """The node asks whether its epochs still hold."""
        node = self.nodes[node_id]
        if node.can_act:
            self._perform(node, node.core.confirm(self.now))

    # ---- callers

    def serving(self, partition: PartitionId) -> list[Node]:
        """Nodes that take themselves for the active primary."""
        nodes = (node for node in self.nodes.values() if node.can_act and partition in node.partitions)
        return [node for node in nodes if node.partitions[partition].is_serving]

    def propose(self, node_id: NodeId, partition: PartitionId, payload: bytes | None = None) -> int:
        """A write at a serving primary; its sequence."""
        node = self.nodes[node_id]
        self._payloads += 1
        payload = payload or b"write %d" % self._payloads
        sequence, effects = node.core.propose(partition, payload, self.now)
        node.pending.setdefault(partition, {})[sequence] = payload
        self._perform(node, effects)
        return sequence

    def read(self, node_id: NodeId, partition: PartitionId) -> int:
        """A read at a serving primary: it must see all that was acknowledged before it came."""
        node = self.nodes[node_id]
        last = max(self.oracle.acknowledged.get(partition, {}), default=0)
        log = node.partitions[partition].replica.log
        epoch = self.oracle.committed[partition][last - 1].epoch if last else Epoch(0)
        token = len(self.reads)
        self.reads[token] = (partition, last <= log.start.sequence or log.contains(Position(epoch, last)))
        self._perform(node, node.core.read(partition, token, self.now))
        return token

    def move(self, node_id: NodeId, partition: PartitionId, primary: NodeId, replicas: tuple[NodeId, ...]) -> None:
        """The serving primary is asked to bring the partition to other replicas (rules 8 and 9)."""
        node = self.nodes[node_id]
        serving = node.partitions[partition].primary
        assert serving is not None
        move = Move(partition, serving.epoch, primary, self.nodes[primary].boot, replicas, reason="")
        self._perform(node, node.core.receive(node_id, move, self.now))

    # ---- inside

    def _core(self, node_id: NodeId, boot: Boot) -> PartitionsCore:
        return PartitionsCore(self.config, node_id=node_id, boot=boot, machine=lambda _partition: ListMachine())

    def _perform(self, node: Node, effects: Iterable[Effect]) -> None:
        """Perform effects, those that they cause, and what is due by now."""
        todo = deque(effects)
        while node.can_act and (todo or node.core.next_deadline <= self.now):
            todo.extend(self._perform_one(node, todo.popleft()) if todo else node.core.wake(self.now))
        for copy in node.partitions.values():
            self.oracle.check(copy, node.node_id)
            self.oracle.check_whole_log(copy, node.node_id)

    def _perform_one(self, node: Node, effect: Effect) -> list[Effect]:
        match effect:
            case Write(entry):
                self.oracle.wrote(node.node_id, entry)
                node.queue.append(entry)
            case AfterSync(send):
                node.queue.append(send)
            case Send(to, message):
                self.oracle.sent(node.node_id, message)
                if to == node.node_id:
                    self.oracle.received(to, to, message)
                    return node.core.receive(to, message, self.now)
                self.network.append(Flight(node.node_id, to, message))
                del self.network[:-MESSAGES_MAX]
            case Committed(partition, through):
                self._acknowledge(node, partition, through)
            case ReadReady(partition, token):
                expected, is_fresh = self.reads[token]
                assert expected == partition
                assert is_fresh, "a read missed a write that was acknowledged before it"
                self.reads_ready += 1
            case Serving(partition, epoch):
                committed = node.partitions[partition].replica.committed
                self.oracle.serving(partition, epoch, node.node_id, node.boot, committed)
            case Deposed(partition, _):
                node.pending.pop(partition, None)
            case Propose(change):
                self.proposals.append(change)
            case _:
                assert_never(effect)
        return []

    def _acknowledge(self, node: Node, partition: PartitionId, through: int) -> None:
        copy = node.partitions[partition]
        self.oracle.check(copy, node.node_id)
        if copy.primary is None or not copy.is_serving:
            return
        pending = node.pending.get(partition, {})
        for sequence in [sequence for sequence in pending if sequence <= through]:
            self.oracle.acknowledge(partition, copy.primary.epoch, sequence, pending.pop(sequence))
