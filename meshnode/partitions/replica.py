"""A replica's copy of one partition: promises, log, state (rules 3, 4, 5, 10 and the answering half of 7 and 11)."""

from typing import Protocol

from meshnode.identity import Epoch, NodeId, PartitionId
from meshnode.partitions.effects import AfterSync, Committed, Effect, Send, Write
from meshnode.partitions.log import PartitionLog, is_consecutive
from meshnode.partitions.messages import (
    ORIGIN,
    Append,
    Appended,
    Chunk,
    ChunkTaken,
    Claim,
    Dropped,
    Entry,
    Fetch,
    Fetched,
    Log,
    Position,
    Promise,
    Record,
    Refused,
    Seal,
    Sealed,
    Snapshot,
)

RECORDS_RETAINED = 4096
"""Applied records that stay in memory, so that a replica that was away for a moment needs no snapshot."""

RETAINED_BYTES_MAX = 4 * 2**20
"""The same bound in bytes: a node may hold a thousand partitions."""

PINNED_FACTOR = 16
"""How far both bounds stretch while a snapshot is on its way, whose receiver will ask for the records after it."""

MESSAGE_BYTES = 2**20
"""Records or snapshot bytes in one message: bulk must not hold up what queues behind it."""

SNAPSHOT_BYTES_MAX = 512 * 2**20
"""The largest snapshot that is assembled in memory."""


class Machine(Protocol):
    """The replicated state of one partition: what it is, is decided by the committed records alone."""

    def apply(self, sequence: int, payload: bytes) -> None:
        """Take one committed record, in order."""
        ...

    def snapshot(self) -> bytes:
        """The whole state."""
        ...

    def restore(self, state: bytes) -> None:
        """Replace the whole state; empty bytes are the state before any record."""
        ...


class Replica:
    """One partition's promise, log and state on this node. ``committed`` records are applied to ``machine``."""

    def __init__(self, partition: PartitionId, machine: Machine) -> None:
        self.partition = partition
        self.machine = machine
        self.promised = Epoch(0)
        self.log = PartitionLog()
        self.committed = 0
        self.attached = Epoch(0)
        """The epoch of the primary that last appended here; 0 if none did since the node started."""
        self._matched = 0
        self._incoming: _Incoming | None = None
        self._outgoing: dict[NodeId, tuple[Position, bytes]] = {}

    # ---- restart

    def recover(self, entry: Entry) -> None:
        """Take one entry of the journal, in order."""
        match entry:
            case Promise(_, epoch):
                self.promised = max(self.promised, epoch)
            case Log(_, records):
                # The files before may be gone: then a snapshot further on has what they had.
                if records[0].sequence <= self.log.last.sequence + 1:
                    self.log.replace(records)
                self.promised = max(self.promised, records[-1].epoch)
            case Snapshot(_, promised, position, state):
                self.promised = max(self.promised, promised)
                self._install(position, state)
            case Dropped(_, promised):
                self.promised = max(self.promised, promised)
                self._clear()

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing here but, perhaps, a promise."""
        return self.log.last == ORIGIN

    @property
    def receiving(self) -> tuple[Position, int] | None:
        """The position of the snapshot under way to this replica, and how many bytes of it have arrived."""
        return None if self._incoming is None else (self._incoming.position, self._incoming.size)

    @property
    def committed_position(self) -> Position:
        """What the state of ``machine`` is the state of."""
        epoch = self.log.epoch_at(self.committed)
        assert epoch is not None, (self.committed, self.log.start, self.log.last)
        return Position(epoch, self.committed)

    def entries(self) -> list[Entry]:
        """The whole copy as journal entries: what a new journal file needs so that older ones can go."""
        if self.is_empty:
            return [Dropped(self.partition, self.promised)]
        state = self.machine.snapshot() if self.committed else b""
        entries: list[Entry] = [Snapshot(self.partition, self.promised, self.committed_position, state)]
        records = self.log.after(self.committed)
        return [*entries, Log(self.partition, records)] if records else entries

    # ---- what a primary asks of a replica

    def seal(self, message: Seal, sender: NodeId) -> list[Effect]:
        """Rule 4: promise, and answer what the log holds once all of it is on disk."""
        if message.epoch < self.promised:
            return [self._refusal(message.epoch, sender)]
        sealed = Sealed(self.partition, message.epoch, self.log.last)
        return [*self._promise(message.epoch), AfterSync(Send(sender, sealed))]

    def append(self, message: Append, sender: NodeId) -> list[Effect]:
        """Rule 5: take the records if they follow what is here."""
        if message.epoch < self.promised:
            return [self._refusal(message.epoch, sender)]
        if not is_consecutive(message.previous, message.records):
            return []
        effects = self._promise(message.epoch)
        behind_start = message.previous.sequence < self.log.start.sequence
        if not behind_start and not self.log.contains(message.previous):
            return [*effects, self._lacks(message, sender)]
        matched = message.previous.sequence + len(message.records)
        self.attach(message.epoch, matched)
        effects.extend(self.adopt(message.records))
        appended = Appended(self.partition, message.epoch, matched)
        effects.append(AfterSync(Send(sender, appended)))
        effects.extend(self.commit(min(message.committed, matched)))
        return effects

    def fetch(self, message: Fetch, sender: NodeId) -> list[Effect]:
        """Rule 7: give the primary of the epoch that was sealed here what follows a point of the log."""
        if message.epoch != self.promised:
            return [self._refusal(message.epoch, sender)]
        previous = self.log.last_common(message.after)
        if previous is None:
            return self.snapshot_chunk(message.epoch, sender)
        records = self.log.after(previous.sequence, MESSAGE_BYTES)
        return [Send(sender, Fetched(self.partition, message.epoch, previous, records, self.log.last))]

    def snapshot_chunk(self, epoch: Epoch, to: NodeId, position: Position = ORIGIN, offset: int = 0) -> list[Effect]:
        """The part at ``offset`` of the snapshot at ``position``, or the first of a fresh one; nothing at its end."""
        if to not in self._outgoing or self._outgoing[to][0] != position:
            self._outgoing[to] = (self.committed_position, self.machine.snapshot())
            offset = 0
        elif offset >= len(self._outgoing[to][1]):
            self.end_stream(to)
            return []
        position, state = self._outgoing[to]
        data = state[offset : offset + MESSAGE_BYTES]
        return [Send(to, Chunk(self.partition, epoch, position, offset, len(state), data))]

    def end_stream(self, to: NodeId) -> None:
        """Nothing more of a snapshot is sent to that node."""
        self._outgoing.pop(to, None)

    def take_chunk(self, message: Chunk, sender: NodeId) -> list[Effect]:
        """Assemble a snapshot; install it when it is whole (rule 5)."""
        if message.epoch < self.promised:
            return [self._refusal(message.epoch, sender)]
        effects = self._promise(message.epoch)
        if message.position.sequence <= self.committed:
            return [*effects, self._taken(message, sender, message.total)]
        incoming = self._incoming
        if incoming is None or message.offset == 0 or not incoming.is_of(message):
            incoming = self._incoming = _Incoming(message.position, message.total)
        if incoming.take(message) and incoming.size == incoming.total:
            self._incoming = None
            state = b"".join(incoming.parts)
            self._install(message.position, state)
            self.attach(message.epoch, message.position.sequence)
            effects.append(Write(Snapshot(self.partition, self.promised, message.position, state)))
            effects.append(Committed(self.partition, self.committed))
        return [*effects, self._taken(message, sender, incoming.size)]

    def holds(self, claim: Claim) -> tuple[bool, list[Effect]]:
        """Rules 11 and 12: whether the claimed epoch is still the highest promised; learn what is committed."""
        if claim.epoch < self.promised:
            return False, []
        if claim.epoch != self.attached:
            return True, []
        return True, self.commit(min(claim.committed, self._matched))

    # ---- what both roles do

    def attach(self, epoch: Epoch, matched: int) -> None:
        """The log is that of the primary of ``epoch`` up to ``matched``."""
        if self.attached != epoch:
            self.attached = epoch
            self._matched = 0
        self._matched = max(self._matched, matched)

    def adopt(self, records: tuple[Record, ...]) -> list[Effect]:
        """Put records in the place of what differs; those that are here already stay, and what follows them."""
        news = self.log.news(records)
        if not news:
            return []
        assert news[0].sequence > self.committed, "a committed record would be replaced"
        self.log.replace(news)
        return [Write(Log(self.partition, news))]

    def commit(self, through: int) -> list[Effect]:
        """Apply everything up to ``through``, which is committed and in the log."""
        if through <= self.committed:
            return []
        for sequence in range(self.committed + 1, through + 1):
            record = self.log.record_at(sequence)
            if record.payload:
                self.machine.apply(sequence, record.payload)
        self.committed = through
        self._forget_old_records()
        return [Committed(self.partition, through)]

    def drop(self) -> list[Effect]:
        """Rule 10: delete the copy; the promise stays."""
        self._clear()
        return [Write(Dropped(self.partition, self.promised))]

    def _promise(self, epoch: Epoch) -> list[Effect]:
        if epoch == self.promised:
            return []
        assert epoch > self.promised
        self.promised = epoch
        self._incoming = None  # snapshots under way are of the epoch that ended
        self._outgoing = {}
        return [Write(Promise(self.partition, epoch))]

    def _refusal(self, epoch: Epoch, sender: NodeId) -> Effect:
        # After the sync, because a promise that is named here must not be forgotten.
        return AfterSync(Send(sender, Refused(self.partition, epoch, self.promised, self.log.last)))

    def _lacks(self, message: Append, sender: NodeId) -> Effect:
        previous = message.previous
        last = self.log.last_common(Position(previous.epoch, previous.sequence - 1)) or self.log.start
        refused = Refused(self.partition, message.epoch, self.promised, last, previous.sequence)
        return AfterSync(Send(sender, refused))

    def _taken(self, message: Chunk, sender: NodeId, offset: int) -> Effect:
        return AfterSync(Send(sender, ChunkTaken(self.partition, message.epoch, message.position, offset)))

    def _install(self, position: Position, state: bytes) -> None:
        self.machine.restore(state)
        self.log.restart(position)
        self.committed = position.sequence

    def _clear(self) -> None:
        self.machine.restore(b"")
        self.log = PartitionLog()
        self.committed = 0
        self.attached = Epoch(0)
        self._matched = 0
        self._incoming = None
        self._outgoing = {}

    def _forget_old_records(self) -> None:
        # At twice the bound, so that the cost of cutting is spread over many records.
        log = self.log
        excess = max(len(log) / RECORDS_RETAINED, log.payload_bytes / RETAINED_BYTES_MAX)
        if excess > 2:
            through = self.committed
            if excess < PINNED_FACTOR:
                through = min([through, *(position.sequence for position, _ in self._outgoing.values())])
            log.shrink(through, records_max=RECORDS_RETAINED, bytes_max=RETAINED_BYTES_MAX)


class _Incoming:
    """A snapshot that arrives in parts, in order."""

    def __init__(self, position: Position, total: int) -> None:
        self.position = position
        self.total = total
        self.size = 0
        self.parts: list[bytes] = []

    def is_of(self, chunk: Chunk) -> bool:
        """Whether the part belongs to this snapshot."""
        return chunk.position == self.position and chunk.total == self.total

    def take(self, chunk: Chunk) -> bool:
        """Keep the part if it is the next one; whether it was."""
        end = chunk.offset + len(chunk.data)
        if chunk.offset != self.size or not end <= self.total <= SNAPSHOT_BYTES_MAX:
            return False
        self.parts.append(chunk.data)
        self.size = end
        return True
