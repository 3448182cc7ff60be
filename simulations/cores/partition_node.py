"""One node's partitions in their world: the core of the room, a journal that forgets, and what the room above does."""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, assert_never

from meshnode.identity import Boot, Epoch, NodeId, PartitionId
from meshnode.metadata.commands import RowChange
from meshnode.partitions.config import PartitionsConfig
from meshnode.partitions.core import PartitionsCore
from meshnode.partitions.effects import AfterSync, Committed, Deposed, Effect, Propose, ReadReady, Send, Serving, Write
from meshnode.partitions.messages import Append, Appended, Confirm, Confirmed, Entry, Log
from simulations.cores.faults import FOREVER
from simulations.cores.heap import EventHeap
from simulations.cores.leases import Leases
from simulations.cores.network import Network
from simulations.cores.partition_journal import Journal
from simulations.cores.partition_traffic import SERVICE, Pulse, Reply, Request, Rows
from simulations.cores.process import Fuse, LocalClock, ProcessKilled
from simulations.cores.requests import RequestsChecker, RequestSet
from simulations.cores.trace import Trace

WAITING_MAX = 256
"""Messages that wait for a process that stands still: its links' buffers hold no more."""

_STARTED, _ENDED, _WOKEN, _SYNCED, _COMMITTED, _SERVING, _DEPOSED, _READ, _RECEIVED = range(9)
NOTES = dict(enumerate(("started", "ended", "woken", "synced", "committed", "serves", "deposed", "read", "took of")))
"""What its notes in the trace mean, for people."""


_OF_NODES = (Confirm, Confirmed)
"""Messages about all partitions of a pair of nodes."""


class Surroundings(Protocol):
    """What a node finds in its world."""

    heap: EventHeap
    network: Network
    checks: RequestsChecker
    leases: Leases
    trace: Trace
    config: PartitionsConfig
    pulse_interval_s: float
    requires_lease: bool

    def sync_takes_s(self, node: int) -> float:
        """How long the next sync of this node takes."""
        ...

    def muted_s(self) -> float:
        """For how long a primary is not heard that is about to write its first record."""
        ...

    def survivors(self, node: int) -> int:
        """How many entries of a batch are on this node's disk when its process ends before the sync returns."""
        ...


@dataclass(slots=True)
class _Read:
    """A read that waits for its confirmation: whose, when it came, what it saw, and whether that was all it had to."""

    client: int
    attempt: int
    came_s: float
    seen: int
    sees_all: bool


class PartitionNode:
    """One node, over all of its starts.

    Attributes:
        number: its node id.
        core: None while no process runs.
        clock: of its machine.
        fuse: of its process.
    """

    def __init__(self, world: Surroundings, number: int) -> None:
        self.number = number
        self.node_id = NodeId(number)
        self.boot = Boot(0)
        self.core: PartitionsCore | None = None
        self.clock = LocalClock(world.heap)
        self.fuse = Fuse()
        self._world = world
        self._heap = world.heap
        self._trace = world.trace
        self._checks = world.checks
        self._journal = Journal()
        self._rows_known = 0
        self._paused_until_s = 0.0
        self._muted_until_s = 0.0
        self._begun: dict[PartitionId, Epoch] = {}
        self._wake_s = FOREVER
        self._waiting: deque[tuple[Any, int]] = deque(maxlen=WAITING_MAX)
        # Of the requests under way here: as many as there are clients, each of which has one.
        self._pending: dict[PartitionId, dict[bytes, tuple[int, list[tuple[int, int]]]]] = {}
        self._reads: dict[int, _Read] = {}
        self._tokens = 0
        # Copies that the effects under way are about, and those of them that were checked as they are now.
        self._touched: set[PartitionId] = set()
        self._checked: set[PartitionId] = set()

    # ---- its life

    def start(self) -> None:
        """A new process on the same disk."""
        assert self.core is None, f"node {self.number} runs already"
        world = self._world
        self.boot = Boot(self.boot + 1)
        core = self.core = PartitionsCore(
            world.config, node_id=self.node_id, boot=self.boot, machine=lambda _partition: RequestSet()
        )
        self._journal.reopen()
        core.recover(self._journal.durable)
        world.checks.recovered(core.partitions, self.node_id, self._journal.history)
        for copy in core.partitions.values():
            world.checks.check(copy, self.node_id)
            world.checks.check_whole_log(copy, self.node_id)
        self.fuse = Fuse()
        self._rows_known = 0
        self._wake_s = FOREVER
        self._paused_until_s = 0.0
        self._note(_STARTED, self.boot)
        self._pulse(self.boot)
        self._perform(())

    def end(self, *, surviving: int) -> None:
        """The process is gone. Of what its disk was at work on, the first ``surviving`` entries are there all the same.

        Nothing else is: the room writes and syncs one batch after the other.
        """
        if self.core is None:
            return
        journal = self._journal
        for item in list(journal.queue)[: min(surviving, journal.at_work)]:
            if not isinstance(item, Send):
                self._keep(item)
        self.core = None
        journal.queue.clear()
        journal.at_work = 0
        self._pending.clear()
        self._reads.clear()
        self._waiting.clear()
        self._note(_ENDED, self.boot)

    def pause(self, for_s: float) -> None:
        """The process stands still for a time."""
        self._paused_until_s = max(self._paused_until_s, self._world.heap.now + for_s)
        self._world.heap.at(self._paused_until_s, self._resume, self.boot)

    def _resume(self, boot: Boot) -> None:
        if self.core is None or boot != self.boot or self.is_paused:
            return
        self._wake_s = FOREVER
        self._perform(())
        waiting, self._waiting = self._waiting, deque(maxlen=WAITING_MAX)
        for envelope in waiting:
            self.receive(envelope)

    @property
    def is_paused(self) -> bool:
        """Whether its process stands still."""
        return self._heap.now < self._paused_until_s

    @property
    def can_act(self) -> bool:
        """Whether a process runs."""
        return self.core is not None and not self.is_paused

    def can_serve(self, partition: PartitionId) -> bool:
        """Whether a process runs that takes itself for the active primary."""
        core = self.core
        copy = None if core is None else core.partitions.get(partition)
        primary = None if copy is None else copy.primary
        return primary is not None and primary.is_active and not self.is_paused

    def is_serving(self, partition: PartitionId) -> bool:
        """Whether it takes itself for the active primary."""
        copy = None if self.core is None else self.core.partitions.get(partition)
        return copy is not None and copy.is_serving

    def is_idle(self, partition: PartitionId) -> bool:
        """Whether all that its copy holds is committed."""
        copy = None if self.core is None else self.core.partitions.get(partition)
        return copy is not None and copy.replica.log.last.sequence == copy.replica.committed

    # ---- events

    def receive(self, envelope: tuple[Any, int]) -> None:
        """A message arrives."""
        core, heap_now = self.core, self._heap.now
        if core is None:
            return
        if heap_now < self._paused_until_s:
            if len(self._waiting) < WAITING_MAX:
                self._waiting.append(envelope)
            return
        message, sender = envelope
        self._trace.note(heap_now, self.number, _RECEIVED, sender)
        self._checks.received(self.node_id, NodeId(sender), message)
        match message:
            case Appended():  # as a rule, and so are the next ones
                now_s = self.clock.now_s()
                self._perform(core.receive(NodeId(sender), message, now_s), now_s)
            case Append():
                self._append(core, message, sender)
            case Request():
                self._asked(core, message, sender)
            case Confirm():
                self._confirm(core, message, sender)
            case Rows():
                self._learn(core, message.after, message.changes)
            case _:
                if isinstance(message, Confirmed):
                    self._world.leases.answered(self.node_id, NodeId(sender), message)
                self._perform(core.receive(NodeId(sender), message, self.clock.now_s()))

    def _confirm(self, core: PartitionsCore, question: Confirm, sender: int) -> None:
        promised = {
            claim.partition: core.partitions[claim.partition].replica.promised
            for claim in question.claims
            if claim.partition in core.partitions
        }
        effects = core.receive(NodeId(sender), question, self.clock.now_s())
        for effect in effects:
            if isinstance(effect, Send) and isinstance(effect.message, Confirmed):
                self._world.leases.check_answer(self.node_id, question, promised, effect.message)
        self._perform(effects)

    def _append(self, core: PartitionsCore, message: Append, sender: int) -> None:
        """It commits no more than it has compared (rule 5), whatever else the log has."""
        before = core.partitions.get(message.partition)
        committed = 0 if before is None else before.replica.committed
        now_s = self.clock.now_s()
        effects = core.receive(NodeId(sender), message, now_s)
        compared = message.previous.sequence + len(message.records)
        if core.partitions[message.partition].replica.committed > max(committed, compared):
            raise self._checks.committed_unseen(message.partition, self.node_id, compared)
        self._perform(effects, now_s)

    def _learn(self, core: PartitionsCore, after: int, changes: tuple[Any, ...]) -> None:
        for partition, row in changes[max(self._rows_known - after, 0) :] if after <= self._rows_known else ():
            self._rows_known += 1
            self._perform(core.row_changed(partition, row, self.clock.now_s()))
            if self.core is not core:
                return

    def _pulse(self, boot: Boot) -> None:
        if self.core is None or boot != self.boot:
            return
        heap = self._world.heap
        heap.at(heap.now + self._world.pulse_interval_s, self._pulse, boot)
        if not self.is_paused:
            self._world.network.send(self.number, SERVICE, Pulse(boot, self._rows_known))

    def _wake(self, planned_s: float) -> None:
        if self.core is None or planned_s != self._wake_s or self.is_paused:
            return
        self._wake_s = FOREVER
        self.clock.has_come(planned_s)
        self._note(_WOKEN, 0)
        self._perform(())

    def _synced(self, planned: tuple[Boot, int]) -> None:
        boot, count = planned
        if self.core is None or boot != self.boot:
            return
        if self.is_paused:  # the disk is done, the process does not see it
            self._world.heap.at(self._paused_until_s, self._synced, planned)
            return
        journal = self._journal
        items = [journal.queue.popleft() for _ in range(count)]
        journal.at_work = 0
        self._note(_SYNCED, count)
        sends: list[Send] = []
        has_copies = False
        for item in items:
            if isinstance(item, Send):
                sends.append(item)
            else:
                self._keep(item)
                has_copies = has_copies or not isinstance(item, Log)
        if has_copies:  # only these let older files go
            journal.deleted = max(journal.deleted, min(journal.retention.oldest_needed() or 0, len(journal.history)))
        self._perform(sends)

    def copy_forward(self, partition: PartitionId) -> None:
        """The journal gets the whole copy once more, at its end, so that older files can go."""
        if self.core is not None and self.can_act and partition in self.core.partitions:
            self._perform([Write(self.core.whole_copy(partition))])

    # ---- what the room above does

    def _asked(self, core: PartitionsCore, request: Request, client: int) -> None:
        partition = request.partition
        copy = core.partitions.get(partition)
        holds_lease = core.holds_lease(partition, self.clock.now_s())
        if holds_lease and copy is not None and copy.primary is not None:
            self._world.leases.check_turn(self.node_id, copy.primary, self.clock.now_s())
        is_allowed = not self._world.requires_lease or holds_lease
        if copy is None or copy.primary is None or not copy.is_serving or not is_allowed:
            self._reply(client, Reply(request.attempt, is_done=False))
            return
        machine = copy.replica.machine
        assert isinstance(machine, RequestSet)
        if not request.key:
            self._tokens += 1
            seen, sees_all = copy.replica.log.last.sequence, self._checks.must_see(copy)
            self._reads[self._tokens] = _Read(client, request.attempt, self.clock.now_s(), seen, sees_all)
            self._perform(core.read(partition, self._tokens, self.clock.now_s()))
            return
        if request.key in machine.applied:
            self._reply(client, Reply(request.attempt, True, machine.applied[request.key]))
            return
        pending = self._pending.setdefault(partition, {})
        if request.key in pending:
            pending[request.key][1].append((client, request.attempt))
        elif copy.primary.has_room:
            sequence, effects = core.propose(partition, request.key, self.clock.now_s())
            pending[request.key] = (sequence, [(client, request.attempt)])
            self._perform(effects)

    def _acknowledge(self, core: PartitionsCore, partition: PartitionId, through: int) -> None:
        copy = core.partitions[partition]
        self._checks.check(copy, self.node_id)
        if copy.primary is None or not copy.is_serving:
            return
        pending = self._pending.get(partition)
        if not pending:
            return
        for key in [key for key, (sequence, _) in pending.items() if sequence <= through]:
            sequence, clients = pending.pop(key)
            self._checks.acknowledge(partition, copy.primary.epoch, sequence, key)
            for client, attempt in clients:
                self._reply(client, Reply(attempt, True, sequence))

    def _answer_read(self, core: PartitionsCore, partition: PartitionId, token: int) -> None:
        read = self._reads.pop(token)
        self._checks.answers_read(core.partitions[partition], self.node_id, read.seen, sees_all=read.sees_all)
        primary = core.primary(partition)
        if primary is not None:  # else it was deposed a moment ago, and what was confirmed before stays so
            self._world.leases.check_read(self.node_id, primary, read.came_s)
        self._note(_READ, read.seen)
        self._reply(read.client, Reply(read.attempt, True, read.seen))

    def _reply(self, client: int, reply: Reply) -> None:
        self._world.network.send(self.number, client, reply)

    # ---- effects

    def _perform(self, effects: Iterable[Effect], now_s: float | None = None) -> None:
        """Perform effects, those that they cause, and what is due by now, which the clock tells if nobody does."""
        core = self.core
        assert core is not None
        if now_s is None:
            now_s = self.clock.now_s()
        todo: list[Effect] = [*effects]
        touched, is_lit = self._touched, self.fuse.is_lit
        touched.clear()
        try:
            while True:
                for effect in todo:  # it grows meanwhile
                    if is_lit:
                        self.fuse.burn()
                    todo += self._perform_one(core, effect)
                deadline_s = core.next_deadline
                if deadline_s > now_s:
                    break
                self._checked.clear()
                todo = core.wake(now_s)
        except ProcessKilled:
            self.end(surviving=self._world.survivors(self.number))
            return
        if touched:
            # Those that nothing has happened to since they were checked are as they were then.
            for partition in sorted(touched - self._checked):
                if partition in core.partitions:
                    self._checks.check(core.partitions[partition], self.node_id)
            self._checked.clear()
        if self._journal.queue and not self._journal.at_work:
            self._start_sync()
        if deadline_s < self._wake_s:
            self._wake_s = deadline_s
            self._heap.at(self.clock.virtual_s(deadline_s), self._wake, deadline_s)

    def _perform_one(self, core: PartitionsCore, effect: Effect) -> Sequence[Effect]:
        match effect:
            case Send():
                self._checks.sent(self.node_id, effect.message)
                return self._send(core, effect)
            case AfterSync():
                self._journal.queue.append(effect.send)
            case Write():
                entry = effect.entry
                self._checks.wrote(self.node_id, entry)
                self._touched.add(entry.partition)
                self._mute(core, entry.partition)
                self._journal.queue.append(entry)
            case Committed(partition, through):
                self._touched.add(partition)
                self._checked.add(partition)
                self._note(_COMMITTED, partition << 32 ^ through)
                self._acknowledge(core, partition, through)
            case ReadReady(partition, token):
                self._answer_read(core, partition, token)
            case Serving(partition, epoch):
                self._note(_SERVING, partition << 32 ^ epoch)
                committed = core.partitions[partition].replica.committed
                self._checks.serving(partition, epoch, self.node_id, self.boot, committed)
            case Deposed(partition, epoch):
                self._deposed(partition, epoch)
            case Propose(change):
                self._propose(change)
            case _:
                assert_never(effect)
        return ()

    def _send(self, core: PartitionsCore, send: Send) -> Sequence[Effect]:
        message = send.message
        if isinstance(message, Confirm):
            self._world.leases.asked(message, self.clock.now_s())
        if send.to != self.node_id:
            if self._heap.now >= self._muted_until_s:
                self._world.network.send(self.number, send.to, message)
            return ()
        self._checked.clear()
        if not isinstance(message, _OF_NODES):
            self._touched.add(message.partition)
        self._checks.received(self.node_id, send.to, message)
        return core.receive(send.to, message, self.clock.now_s())

    def _mute(self, core: PartitionsCore, partition: PartitionId) -> None:
        """Something is written: perhaps the first record of an epoch."""
        primary = core.primary(partition)
        if primary is not None and self._begun.get(partition) != primary.epoch:
            self._begun[partition] = primary.epoch
            self._muted_until_s = max(self._muted_until_s, self._world.heap.now + self._world.muted_s())

    def _deposed(self, partition: PartitionId, epoch: Epoch) -> None:
        self._note(_DEPOSED, partition << 32 ^ epoch)
        for _, clients in self._pending.pop(partition, {}).values():
            for client, attempt in clients:
                self._reply(client, Reply(attempt, is_done=False))

    def _propose(self, change: RowChange) -> None:
        self._world.network.send(self.number, SERVICE, change)

    def _keep(self, entry: Entry) -> None:
        self._journal.keep(entry)
        self._checks.synced(self.node_id, entry)

    def _start_sync(self) -> None:
        journal, heap = self._journal, self._heap
        journal.at_work = len(journal.queue)
        heap.at(heap.now + self._world.sync_takes_s(self.number), self._synced, (self.boot, journal.at_work))

    def _note(self, kind: int, value: int) -> None:
        self._trace.note(self._heap.now, self.number, kind, value)
