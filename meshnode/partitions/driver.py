"""The core of this room at work: what the journal, the links, the Raft group and the tenant have to do with it."""

import functools
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol, assert_never

import trio

from meshnode.host import Host
from meshnode.identity import Boot, Epoch, NodeId, PartitionId
from meshnode.links import Channel, Links
from meshnode.log import get_logger
from meshnode.metadata.allocator import Move
from meshnode.metadata.commands import CHANGES_MAX, ChangeRows, RowChange
from meshnode.metadata.rows import Row
from meshnode.partitions.config import PartitionsConfig
from meshnode.partitions.core import PartitionsCore
from meshnode.partitions.effects import AfterSync, Committed, Deposed, Effect, Propose, ReadReady, Send, Serving, Write
from meshnode.partitions.journal import Journal
from meshnode.partitions.partition import Partition
from meshnode.partitions.replica import Machine

COPY_BYTES = 16 * 2**20
"""What is copied to the journal's end between two syncs: what is written meanwhile waits no longer than that takes."""


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
    """Drives the core. Used on the node's main loop only.

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
        self._host = host
        self._node_id = node_id
        self._links = links
        self._journal = journal
        self._tenant = tenant
        self._propose_rows = propose
        self._core = PartitionsCore(config, node_id=node_id, boot=boot, machine=tenant.machine)
        self._changes: dict[PartitionId, RowChange] = {}
        self._changes_wanted = trio.Event()
        self._wake_at_s = float("inf")
        self._sleeping = trio.CancelScope()
        self._todo: deque[Effect] = deque()
        self._performing = False
        self._log = get_logger()

    # ---- the node's life

    def recover(self) -> None:
        """Read the journal (blocks); before anything else.

        Raises:
            DataDirectoryError: the journal is damaged.
        """
        self._core.recover(self._journal.recover())

    async def run(self) -> None:
        """Until cancelled; ends by StorageFailed when the journal can't be written."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._journal.run)
            nursery.start_soon(self._run_deadlines)
            nursery.start_soon(self._run_copying)
            nursery.start_soon(self._run_proposals)

    def row_changed(self, partition: PartitionId, row: Row) -> None:
        """A committed row."""
        self._perform(self._core.row_changed(partition, row, self._host.now()))

    def receive(self, sender: NodeId, message: Any) -> None:
        """A message of the channel PARTITIONS."""
        self._perform(self._core.receive(sender, message, self._host.now()))

    def move(self, move: Move) -> None:
        """The leader, on this node, asks to bring a partition to other replicas (rule 8)."""
        self.receive(self._node_id, move)

    # ---- what the tenant uses

    @property
    def partitions(self) -> dict[PartitionId, Partition]:
        """What this node has a copy of, to be looked at."""
        return self._core.partitions

    def is_serving(self, partition: PartitionId, epoch: Epoch) -> bool:
        """Whether this process is the active primary of that epoch."""
        primary = self._core.primary(partition)
        return primary is not None and primary.is_active and primary.epoch == epoch

    def holds_lease(self, partition: PartitionId) -> bool:
        """Whether a majority confirmed this process as primary of late: else turns should not start (rule 12)."""
        return self._core.holds_lease(partition, self._host.now())

    def has_room(self, partition: PartitionId) -> bool:
        """Whether another record may be proposed."""
        primary = self._core.primary(partition)
        return primary is not None and primary.has_room

    def propose(self, partition: PartitionId, payload: bytes) -> int:
        """Append a record as the serving primary; its sequence. `Tenant.committed` follows, or `deposed`."""
        sequence, effects = self._core.propose(partition, payload, self._host.now())
        self._perform(effects)
        return sequence

    def read(self, partition: PartitionId, token: int) -> None:
        """Report ``token`` by `Tenant.read_ready` once what the log holds now is committed and confirmed (rule 11)."""
        self._perform(self._core.read(partition, token, self._host.now()))

    # ---- performing effects

    def _perform(self, effects: Iterable[Effect]) -> None:
        """Perform effects in order, those that they cause after them."""
        self._todo.extend(effects)
        if not self._performing:
            self._performing = True
            try:
                while self._todo:
                    self._perform_one(self._todo.popleft())
            finally:
                self._performing = False
        if self._core.next_deadline < self._wake_at_s:
            self._sleeping.cancel()

    def _perform_one(self, effect: Effect) -> None:
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
            case Deposed():
                self._log.debug("deposed", partition=effect.partition, epoch=effect.epoch)
                self._tenant.deposed(effect.partition, effect.epoch)
            case Propose():
                self._changes[effect.change.partition] = effect.change
                self._changes_wanted.set()
            case _:
                assert_never(effect)

    def _send(self, send: Send) -> None:
        if send.to == self._node_id:
            self.receive(self._node_id, send.message)
        else:
            self._links.send(send.to, Channel.PARTITIONS, send.message)

    # ---- tasks

    async def _run_deadlines(self) -> None:
        while True:
            self._wake_at_s = self._core.next_deadline
            with self._host.deadline(self._wake_at_s) as self._sleeping:
                await trio.sleep_forever()
            self._perform(self._core.wake(self._host.now()))

    async def _run_copying(self) -> None:
        """Keep the journal at its size: copy what holds up the deletion of its oldest file, until it is right."""
        while True:
            await self._journal.until_too_large()
            for partition in self._journal.partitions_to_copy():
                self._journal.write(self._core.whole_copy(partition))
                if self._journal.queued_bytes >= COPY_BYTES:
                    await self._journal.until_synced()
                else:
                    await trio.lowlevel.checkpoint()  # a state may take a while to encode: one at a time
            await self._journal.until_synced()

    async def _run_proposals(self) -> None:
        """While one command is being agreed on, the next one fills. What is lost is wanted again in time."""
        while True:
            if not self._changes:
                self._changes_wanted = trio.Event()
                await self._changes_wanted.wait()
            taken = list(self._changes.values())[:CHANGES_MAX]
            for change in taken:
                del self._changes[change.partition]
            await self._propose_rows(ChangeRows(tuple(taken)))
