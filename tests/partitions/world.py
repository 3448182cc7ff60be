"""A world of partition replicas: a network that is a list, journals that are lists, and a row service for Raft.

Nothing happens by itself: a schedule calls the public methods, each of which is one event that the oracle checks.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from meshnode.identity import Boot, Epoch, NodeId, PartitionId
from meshnode.metadata.rows import Phase, Row
from meshnode.partitions.config import PartitionsConfig
from meshnode.partitions.confirmation import Rounds
from meshnode.partitions.effects import (
    Activate,
    AfterSync,
    CaughtUp,
    Committed,
    Deposed,
    Effect,
    ReadReady,
    Send,
    Serving,
    Write,
)
from meshnode.partitions.messages import (
    ORIGIN,
    Confirm,
    Confirmed,
    Denial,
    Dropped,
    Entry,
    Message,
    Position,
    Refused,
    Snapshot,
)
from meshnode.partitions.partition import Partition
from tests.partitions.oracle import ListMachine, Oracle

MESSAGES_MAX = 300
"""Messages under way before the oldest are lost: a schedule that seldom delivers must not slow down."""


@dataclass(slots=True)
class Node:
    """One node over all of its starts. ``queue`` is written but not synced; `Send` marks what waits for that."""

    node_id: NodeId
    boot: Boot = field(default=Boot(1))
    is_up: bool = True
    is_paused: bool = False
    partitions: dict[PartitionId, Partition] = field(default_factory=dict)
    queue: deque[Entry | Send] = field(default_factory=deque)
    durable: list[Entry] = field(default_factory=list)
    rows_seen: dict[PartitionId, int] = field(default_factory=dict)
    rounds: Rounds = field(default_factory=lambda: Rounds(NodeId(0)))
    pending: dict[PartitionId, dict[int, bytes]] = field(default_factory=dict)

    @property
    def can_act(self) -> bool:
        return self.is_up and not self.is_paused


@dataclass(frozen=True, slots=True)
class Flight:
    """A message under way."""

    sender: NodeId
    to: NodeId
    message: Message | Confirm | Confirmed


@dataclass(frozen=True, slots=True)
class Begin:
    """A proposal to the row service: compare-and-set on (epoch, phase)."""

    partition: PartitionId
    epoch: Epoch
    phase: Phase
    primary: NodeId
    boot: Boot
    replicas: tuple[NodeId, ...]


class World:
    """Nodes 1 … ``nodes``; partitions 0 … ``partitions`` − 1."""

    def __init__(self, nodes: int, partitions: int = 1, *, config: PartitionsConfig | None = None) -> None:
        self.now = 0.0
        self.oracle = Oracle()
        self.config = config or PartitionsConfig()
        self.nodes = {NodeId(number): Node(NodeId(number)) for number in range(1, nodes + 1)}
        for node in self.nodes.values():
            node.rounds = Rounds(node.node_id)
        self.partition_ids = [PartitionId(number) for number in range(partitions)]
        self.network: list[Flight] = []
        self.cut: set[tuple[NodeId, NodeId]] = set()
        self.uninformed: set[NodeId] = set()
        self.rows: dict[PartitionId, list[Row]] = {partition: [] for partition in self.partition_ids}
        self.proposals: list[Activate | Begin] = []
        self.targets: dict[PartitionId, Begin] = {}
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
        self._agree(Begin(partition, epoch, phase, primary, self.nodes[primary].boot, tuple(replicas)))

    def agree(self, index: int = 0) -> None:
        """One of the proposals is agreed on; it may have come too late."""
        self._agree(self.proposals.pop(index))

    def _agree(self, proposal: Activate | Begin) -> None:
        partition = proposal.partition
        row = self.row(partition)
        match proposal:
            case Activate(_, epoch):
                if row is not None and row.epoch == epoch and row.phase is Phase.SEALING:
                    self.rows[partition].append(replace(row, phase=Phase.ACTIVE, base=row.replicas))
            case Begin(_, epoch, phase, primary, boot, replicas):
                assert primary in replicas
                now = (Epoch(0), Phase.ACTIVE) if row is None else (row.epoch, row.phase)
                if (epoch, phase) == now and boot == self.nodes[primary].boot:
                    base = () if row is None else row.base
                    self.rows[partition].append(Row(Epoch(epoch + 1), primary, boot, replicas, Phase.SEALING, base))

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
        row = rows[index]
        if partition in node.partitions or row.primary == node_id:
            self._perform(node, self._partition(node, partition).row_changed(row, self.now))
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
        node.partitions = {}
        node.pending = {}
        node.is_up = False
        node.is_paused = False

    def restart(self, node_id: NodeId, forgotten_rows: int = 0) -> None:
        """A new process on the same disk; it is told its last ``forgotten_rows`` rows once more."""
        node = self.nodes[node_id]
        assert not node.is_up
        node.is_up = True
        node.boot = Boot(node.boot + 1)
        node.rounds = Rounds(node_id)
        for partition in self.partition_ids:
            node.rows_seen[partition] = max(0, node.rows_seen.get(partition, 0) - forgotten_rows)
        for entry in node.durable:
            self._partition(node, entry.partition).replica.recover(entry)
        self.oracle.recovered(node.partitions, node_id, node.durable)
        for copy in node.partitions.values():
            self.oracle.check(copy, node_id)
            self.oracle.check_whole_log(copy, node_id)

    def copy_forward(self, node_id: NodeId, partition: PartitionId) -> None:
        """The journal gets the whole copy once more, at its end; files that nobody needs any more are deleted."""
        node = self.nodes[node_id]
        if not node.can_act or partition not in node.partitions:
            return
        for entry in node.partitions[partition].replica.entries():
            self._perform(node, [Write(entry)])
        self.sync(node_id)
        needed: dict[PartitionId, int] = {}
        for index, entry in enumerate(node.durable):
            if isinstance(entry, Snapshot | Dropped):
                needed[entry.partition] = index
            else:
                needed.setdefault(entry.partition, index)
        del node.durable[: min(needed.values())]

    def _synced(self, node: Node, entry: Entry) -> None:
        node.durable.append(entry)
        self.oracle.synced(node.node_id, entry)

    # ---- network and time

    def deliver(self, index: int = 0, *, keep: bool = False) -> None:
        """One message arrives; with ``keep`` it will arrive again. It is lost where a link is cut or a node is down."""
        flight = self.network[index] if keep else self.network.pop(index)
        node = self.nodes[flight.to]
        if node.can_act and (flight.sender, flight.to) not in self.cut:
            self._perform(node, self._receive(node, flight.sender, flight.message))

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
            for partition in list(node.partitions) if node.can_act else ():
                copy = node.partitions[partition]
                if copy.next_deadline <= self.now:
                    self._perform(node, copy.wake(self.now))

    def confirm(self, node_id: NodeId) -> None:
        """The node asks whether its epochs still hold."""
        node = self.nodes[node_id]
        if node.can_act:
            primaries = [copy.primary for copy in node.partitions.values() if copy.primary is not None]
            self._perform(node, node.rounds.ask(primaries, self.now))

    # ---- callers

    def serving(self, partition: PartitionId) -> list[Node]:
        """Nodes that take themselves for the active primary."""
        nodes = (node for node in self.nodes.values() if node.can_act and partition in node.partitions)
        return [node for node in nodes if node.partitions[partition].is_serving]

    def propose(self, node_id: NodeId, partition: PartitionId, payload: bytes | None = None) -> int:
        """A write at a serving primary; its sequence."""
        node = self.nodes[node_id]
        primary = node.partitions[partition].primary
        assert primary is not None
        assert primary.is_active
        self._payloads += 1
        payload = payload or b"write %d" % self._payloads
        sequence, effects = primary.propose(payload, self.now)
        node.pending.setdefault(partition, {})[sequence] = payload
        self._perform(node, effects)
        return sequence

    def read(self, node_id: NodeId, partition: PartitionId) -> int:
        """A read at a serving primary: it must see all that was acknowledged before it came."""
        node = self.nodes[node_id]
        copy = node.partitions[partition]
        assert copy.primary is not None
        last = max(self.oracle.acknowledged.get(partition, {}), default=0)
        log = copy.replica.log
        epoch = self.oracle.committed[partition][last - 1].epoch if last else Epoch(0)
        token = len(self.reads)
        self.reads[token] = (partition, last <= log.start.sequence or log.contains(Position(epoch, last)))
        self._perform(node, copy.primary.read(token, node.rounds.next_round))
        return token

    def move(self, node_id: NodeId, partition: PartitionId, primary: NodeId, replicas: tuple[NodeId, ...]) -> None:
        """The serving primary is asked to bring the partition to other replicas (rules 8 and 9)."""
        node = self.nodes[node_id]
        serving = node.partitions[partition].primary
        assert serving is not None
        boot = self.nodes[primary].boot
        target = Begin(partition, serving.epoch, Phase.ACTIVE, primary, boot, replicas)
        learners = tuple(member for member in replicas if member not in serving.replicas)
        self.targets[partition] = target
        self._perform(node, serving.teach(learners, self.now))
        if not learners:
            self.proposals.append(target)

    # ---- inside

    def _partition(self, node: Node, partition: PartitionId) -> Partition:
        if partition not in node.partitions:
            node.partitions[partition] = Partition(
                partition, ListMachine(), node_id=node.node_id, boot=node.boot, config=self.config
            )
        return node.partitions[partition]

    def _receive(self, node: Node, sender: NodeId, message: Message | Confirm | Confirmed) -> list[Effect]:
        match message:
            case Confirm():
                return self._answer_confirm(node, sender, message)
            case Confirmed():
                return self._confirmed(node, sender, message)
            case _:
                return self._partition(node, message.partition).receive(message, sender, self.now)

    def _answer_confirm(self, node: Node, sender: NodeId, message: Confirm) -> list[Effect]:
        effects: list[Effect] = []
        denied = []
        for claim in message.claims:
            copy = node.partitions.get(claim.partition)
            if copy is None:
                continue
            holds, learned = copy.replica.holds(claim)
            effects.extend(learned)
            if not holds:
                denied.append(Denial(claim.partition, copy.replica.promised))
        return [*effects, Send(sender, Confirmed(message.round, tuple(denied)))]

    def _confirmed(self, node: Node, sender: NodeId, message: Confirmed) -> list[Effect]:
        effects: list[Effect] = []
        for answer in node.rounds.answered(sender, message):
            copy = node.partitions.get(answer.partition)
            if copy is None:
                continue
            if answer.promised is not None:
                refusal = Refused(answer.partition, answer.epoch, answer.promised, ORIGIN)
                effects.extend(copy.receive(refusal, sender, self.now))
            elif copy.primary is not None and copy.primary.epoch == answer.epoch:
                effects.extend(copy.primary.confirmed(sender, answer.round, answer.asked_at_s))
        return effects

    def _perform(self, node: Node, effects: Iterable[Effect]) -> None:
        todo = deque(effects)
        while todo:
            todo.extend(self._perform_one(node, todo.popleft()))
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
                    return self._receive(node, to, message)
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
            case Activate():
                self.proposals.append(effect)
            case CaughtUp(partition, epoch, _):
                target = self.targets.get(partition)
                if target is not None and target.epoch == epoch:
                    self.proposals.append(target)
        return []

    def _acknowledge(self, node: Node, partition: PartitionId, through: int) -> None:
        copy = node.partitions[partition]
        self.oracle.check(copy, node.node_id)
        if copy.primary is None or not copy.is_serving:
            return
        pending = node.pending.get(partition, {})
        for sequence in [sequence for sequence in pending if sequence <= through]:
            self.oracle.acknowledge(partition, copy.primary.epoch, sequence, pending.pop(sequence))
