"""All partitions of a node at work: messages and rows in, effects out, time, and the journal."""

import functools
import heapq
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol

import trio

from meshnode.host import Host
from meshnode.identity import Boot, Epoch, NodeId, PartitionId
from meshnode.links import Channel, Links
from meshnode.log import get_logger
from meshnode.metadata.allocator import Move
from meshnode.metadata.commands import ChangeRows, RowChange, Step
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
from meshnode.partitions.journal import Journal
from meshnode.partitions.messages import ORIGIN, Confirm, Confirmed, Denial, Refused
from meshnode.partitions.partition import Partition
from meshnode.partitions.primary import Primary
from meshnode.partitions.replica import Machine
from meshnode.placement import PARTITIONS_MAX

COPIES_AT_ONCE = 8
"""Partitions copied to the journal's end between two syncs: a bound on how long the loop is held up."""

CHANGES_MAX = 256
"""Changes of rows in one command: about 16 KiB in the Raft log."""


class Tenant(Protocol):
    """What lives in partitions: the room above, told of everything that concerns it."""

    def machine(self, partition: PartitionId) -> Machine:
        """A fresh state for a partition."""
        ...

    def serving(self, partition: PartitionId, epoch: Epoch, machine: Machine) -> None:
        """This process may take turns from now on."""
        ...

    def deposed(self, partition: PartitionId, epoch: Epoch) -> None:
        """It may not any more; the outcome of what was not committed is unknown."""
        ...

    def committed(self, partition: PartitionId, through: int) -> None:
        """Records up to ``through`` are committed and applied."""
        ...

    def read_ready(self, partition: PartitionId, token: int) -> None:
        """The read may be answered."""
        ...


class Partitions:
    """Drives the cores of this room. Used on the node's main loop only.

    Args:
        propose: hands a command to the Raft group and returns when it is applied or given up; may be lost.
    """

    def __init__(
        self,
        host: Host,
        config: PartitionsConfig,
        *,
        node_id: NodeId,
        boot: Boot,
        links: Links,
        journal: Journal,
        tenant: Tenant,
        propose: Callable[[ChangeRows], Awaitable[None]],
    ) -> None:
        self.partitions: dict[PartitionId, Partition] = {}
        self._host = host
        self._config = config
        self._node_id = node_id
        self._boot = boot
        self._links = links
        self._journal = journal
        self._tenant = tenant
        self._propose = propose
        self._rounds = Rounds(node_id)
        self._reading: dict[PartitionId, None] = {}
        self._moves: dict[PartitionId, Move] = {}
        self._changes: dict[PartitionId, RowChange] = {}
        self._changes_wanted = trio.Event()
        self._reads_wait = trio.Event()
        self._deadlines: list[tuple[float, PartitionId]] = []
        self._armed: dict[PartitionId, float] = {}
        self._sleeping = trio.CancelScope()
        self._todo: deque[Effect] = deque()
        self._performing = False
        self._log = get_logger()

    # ---- the node's life

    def recover(self) -> None:
        """Read the journal (blocks); before anything else."""
        for entry in self._journal.recover():
            self._partition(entry.partition).replica.recover(entry)

    async def run(self) -> None:
        """Until cancelled; ends by StorageFailed when the journal can't be written."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._journal.run)
            nursery.start_soon(self._run_deadlines)
            nursery.start_soon(self._run_confirmation)
            nursery.start_soon(self._run_proposals)

    def row_changed(self, partition: PartitionId, row: Row) -> None:
        """A committed row."""
        present = self.partitions.get(partition)
        if present is None and row.primary != self._node_id:
            return  # nothing is kept here; a primary's first message makes the copy
        if row.phase is Phase.SEALING:
            self._moves.pop(partition, None)
        self._step(partition, self._partition(partition).row_changed(row, self._host.now()))

    def receive(self, sender: NodeId, message: Any) -> None:
        """A message of the channel PARTITIONS."""
        match message:
            case Confirm():
                self._confirm(sender, message)
            case Confirmed():
                self._confirmed(sender, message)
            case Move():
                self.move(message)
            case _ if 0 <= getattr(message, "partition", -1) < PARTITIONS_MAX:
                partition = PartitionId(message.partition)
                effects = self._partition(partition).receive(message, sender, self._host.now())
                self._step(partition, effects)
            case _:
                pass  # well-formed, of this mesh, and not for this room: a newer version's

    def move(self, move: Move) -> None:
        """The leader asks to bring a partition to other replicas (rule 8)."""
        partition = self.partitions.get(move.partition)
        if partition is None or partition.primary is None or not partition.is_serving:
            return
        primary = partition.primary
        if primary.epoch != move.epoch:
            return
        self._moves[move.partition] = move
        learners = tuple(member for member in move.replicas if member not in primary.replicas)
        self._step(move.partition, primary.teach(learners, self._host.now()))
        if not learners:
            self._begin_move(move)

    # ---- what the tenant uses

    def is_serving(self, partition: PartitionId, epoch: Epoch) -> bool:
        """Whether this process is the active primary of that epoch."""
        present = self.partitions.get(partition)
        return (
            present is not None
            and present.is_serving
            and present.primary is not None
            and present.primary.epoch == epoch
        )

    def holds_lease(self, partition: PartitionId) -> bool:
        """Whether a majority confirmed this process as primary of late: else turns should not start (rule 12)."""
        primary = self.partitions[partition].primary
        return primary is not None and primary.lease_until > self._host.now()

    def has_room(self, partition: PartitionId) -> bool:
        """Whether another record may be proposed."""
        primary = self.partitions[partition].primary
        return primary is not None and primary.has_room

    def propose(self, partition: PartitionId, payload: bytes) -> int:
        """Append a record as the serving primary; its sequence. `Tenant.committed` follows, or `deposed`."""
        primary = self.partitions[partition].primary
        assert primary is not None
        sequence, effects = primary.propose(payload, self._host.now())
        self._step(partition, effects)
        return sequence

    def read(self, partition: PartitionId, token: int) -> None:
        """Report ``token`` by `Tenant.read_ready` once what the log holds now is committed and confirmed (rule 11)."""
        primary = self.partitions[partition].primary
        assert primary is not None
        self._reading[partition] = None
        self._reads_wait.set()
        self._step(partition, primary.read(token, self._rounds.next_round))

    # ---- performing effects

    def _partition(self, partition: PartitionId) -> Partition:
        present = self.partitions.get(partition)
        if present is None:
            machine = self._tenant.machine(partition)
            present = Partition(partition, machine, node_id=self._node_id, boot=self._boot, config=self._config)
            self.partitions[partition] = present
        return present

    def _step(self, partition: PartitionId, effects: Iterable[Effect]) -> None:
        """Perform effects in order, those that they cause after them."""
        self._todo.extend(effects)
        if not self._performing:
            self._performing = True
            try:
                while self._todo:
                    self._perform(self._todo.popleft())
            finally:
                self._performing = False
        self._arm(partition)

    def _perform(self, effect: Effect) -> None:
        match effect:
            case Write():
                self._journal.write(effect.entry)
            case AfterSync():
                self._journal.after_sync(functools.partial(self._send, effect.send))
            case Send():
                self._send(effect)
            case Committed():
                self._tenant.committed(effect.partition, effect.through)
            case ReadReady():
                self._tenant.read_ready(effect.partition, effect.token)
            case Serving():
                self._log.debug("serving", partition=effect.partition, epoch=effect.epoch)
                self._tenant.serving(effect.partition, effect.epoch, self.partitions[effect.partition].replica.machine)
                self._reading[effect.partition] = None  # the lease starts with a confirmation
                self._reads_wait.set()
            case Deposed():
                self._log.debug("deposed", partition=effect.partition, epoch=effect.epoch)
                self._moves.pop(effect.partition, None)
                self._tenant.deposed(effect.partition, effect.epoch)
            case Activate():
                self._want(RowChange(effect.partition, Step.ACTIVATE, effect.epoch, Phase.SEALING))
            case CaughtUp():
                move = self._moves.get(effect.partition)
                if move is not None and move.epoch == effect.epoch:
                    self._begin_move(move)

    def _send(self, send: Send) -> None:
        if send.to == self._node_id:
            self.receive(self._node_id, send.message)
        else:
            self._links.send(send.to, Channel.PARTITIONS, send.message)

    def _primaries(self, partitions: Iterable[PartitionId]) -> list[Primary]:
        present = (self.partitions[partition].primary for partition in partitions)
        return [primary for primary in present if primary is not None]

    # ---- confirmation: the lease and reads

    def _confirm(self, sender: NodeId, message: Confirm) -> None:
        denied = []
        for claim in message.claims:
            partition = self.partitions.get(claim.partition)
            if partition is None:
                continue  # nothing was ever promised here
            holds, effects = partition.replica.holds(claim)
            if holds:
                self._step(claim.partition, effects)
            else:
                denied.append(Denial(claim.partition, partition.replica.promised))
        self._send(Send(sender, Confirmed(message.round, tuple(denied))))

    def _confirmed(self, sender: NodeId, message: Confirmed) -> None:
        now = self._host.now()
        for answer in self._rounds.answered(sender, message):
            partition = self.partitions[answer.partition]
            if answer.promised is not None:
                refusal = Refused(answer.partition, answer.epoch, answer.promised, ORIGIN)
                self._step(answer.partition, partition.receive(refusal, sender, now))
            elif partition.primary is not None and partition.primary.epoch == answer.epoch:
                effects = partition.primary.confirmed(sender, answer.round, answer.asked_at_s)
                self._step(answer.partition, effects)

    async def _run_confirmation(self) -> None:
        """Ask for all primaries at each interval, and at once for those with reads that wait."""
        all_at = self._host.now()
        while True:
            with self._host.deadline(all_at):
                await self._reads_wait.wait()
            now = self._host.now()
            asking: Iterable[PartitionId] = self._reading
            if now >= all_at:
                asking = list(self.partitions)
                all_at = now + self._config.confirm_interval_s
                self._copy_forward()
            asked = self._rounds.ask(self._primaries(asking), now)
            self._reading = {}
            self._reads_wait = trio.Event()
            for send in asked:
                self._send(send)

    def _copy_forward(self) -> None:
        """Free the oldest file of a journal that has grown too large."""
        for partition in self._journal.partitions_to_copy(COPIES_AT_ONCE):
            for entry in self.partitions[partition].replica.entries():
                self._journal.write(entry)

    # ---- time

    def _arm(self, partition: PartitionId) -> None:
        """Make sure to wake no later than the partition's next deadline."""
        deadline = self.partitions[partition].next_deadline
        if deadline < self._armed.get(partition, float("inf")):
            self._armed[partition] = deadline
            heapq.heappush(self._deadlines, (deadline, partition))
            if deadline == self._deadlines[0][0]:
                self._sleeping.cancel()

    async def _run_deadlines(self) -> None:
        while True:
            with self._host.deadline(self._deadlines[0][0] if self._deadlines else float("inf")) as self._sleeping:
                await trio.sleep_forever()
            now = self._host.now()
            while self._deadlines and self._deadlines[0][0] <= now:
                deadline, partition = heapq.heappop(self._deadlines)
                if self._armed.get(partition) == deadline:
                    del self._armed[partition]
                    if self.partitions[partition].next_deadline <= now:
                        self._step(partition, self.partitions[partition].wake(now))
                    self._arm(partition)

    # ---- proposals to the Raft group

    def _want(self, change: RowChange) -> None:
        self._changes[change.partition] = change
        self._changes_wanted.set()

    def _begin_move(self, move: Move) -> None:
        self._want(
            RowChange(
                move.partition,
                Step.BEGIN,
                epoch=move.epoch,
                phase=Phase.ACTIVE,
                primary=move.primary,
                boot=move.boot,
                replicas=move.replicas,
                reason=move.reason,
            )
        )

    async def _run_proposals(self) -> None:
        """While one command is being agreed on, the next one fills. What is lost is wanted again in time."""
        while True:
            if not self._changes:
                self._changes_wanted = trio.Event()
                await self._changes_wanted.wait()
            taken = list(self._changes.values())[:CHANGES_MAX]
            for change in taken:
                del self._changes[change.partition]
            await self._propose(ChangeRows(tuple(taken)))
