"""A replica's copy of one partition: promises, log, state (rules 3, 4, 5, 10 and the answering half of 7 and 11)."""

from dataclasses import dataclass, field
from typing import Protocol

from xxhash import xxh3_64_intdigest

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
        """The whole state; the same bytes after the same records."""
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
        self.is_whole = True
        """Whether what was recovered so far has no gap."""
        self._matched = 0
        # A snapshot is of committed records: what has arrived of one stays good in every later epoch.
        self._incoming: _Incoming | None = None
        self._outgoing: dict[NodeId, _Outgoing] = {}

    # ---- restart

    def recover(self, entry: Entry) -> None:
        """Take one entry of the journal, in order."""
        match entry:
            case Promise(_, epoch):
                self.promised = max(self.promised, epoch)
            case Log(_, records):
                # The files before may be gone: then a snapshot further on must have what they had.
                if records[0].sequence <= self.log.last.sequence + 1:
                    self.log.replace(records)
                else:
                    self.is_whole = False
                self.promised = max(self.promised, records[-1].epoch)
            case Snapshot(_, promised, position, state, records):
                self.promised = max(self.promised, promised)
                self.machine.restore(state)
                self.log = PartitionLog(position)
                self.log.replace(records)
                self.committed = position.sequence
                self.is_whole = True
            case Dropped(_, promised):
                self.promised = max(self.promised, promised)
                self._clear()
                self.is_whole = True

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

    def whole_copy(self) -> Entry:
        """All that is here as one journal entry: what a new journal file needs so that older ones can go."""
        if self.is_empty:
            return Dropped(self.partition, self.promised)
        return self._copy_with(self.machine.snapshot() if self.committed else b"")

    def _copy_with(self, state: bytes) -> Snapshot:
        records = self.log.after(self.committed)
        return Snapshot(self.partition, self.promised, self.committed_position, state, records)

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
        if self._outgoing:
            self._outgoing.clear()  # who appends has taken over, and needs no source any more
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
        if message.epoch == self.attached:
            return []  # late: that primary appends already
        previous = self.log.last_common(message.after) if message.position == ORIGIN else None
        if previous is None:
            part = self.snapshot_chunk(message.epoch, sender, message.position, message.offset)
            # What it has is of another encoding, longer than this one: who has all of a snapshot does not ask for more.
            return part or self.snapshot_chunk(message.epoch, sender)
        self.end_stream(sender)
        records = self.log.after(previous.sequence, MESSAGE_BYTES)
        return [Send(sender, Fetched(self.partition, message.epoch, previous, records, self.log.last))]

    def snapshot_chunk(self, epoch: Epoch, to: NodeId, position: Position = ORIGIN, offset: int = 0) -> list[Effect]:
        """The part at ``offset`` of the snapshot at ``position``, or the first of a fresh one; nothing at its end."""
        stream = self._outgoing.get(to)
        is_under_way = stream is not None and stream.position == position
        if stream is None or not is_under_way:
            stream = self._outgoing[to] = _Outgoing(self.committed_position, self.machine.snapshot())
            offset = offset if stream.position == position else 0
        total = len(stream.state)
        if offset >= total and (is_under_way or offset):
            self.end_stream(to)
            return []
        data = stream.state[offset : offset + MESSAGE_BYTES]
        return [Send(to, Chunk(self.partition, epoch, stream.position, offset, total, data, stream.digest))]

    def stream_position(self, to: NodeId) -> Position | None:
        """The position of the snapshot that is sent to that node; None while there is none."""
        stream = self._outgoing.get(to)
        return None if stream is None else stream.position

    def forget_incoming(self) -> None:
        """What has arrived of a snapshot is of no use any more."""
        self._incoming = None

    def end_stream(self, to: NodeId) -> None:
        """Nothing more of a snapshot is sent to that node."""
        self._outgoing.pop(to, None)

    def take_chunk(self, message: Chunk, sender: NodeId) -> list[Effect]:
        """`assemble` what the primary sends, and tell it how far that has come (rule 5)."""
        if message.epoch < self.promised:
            return [self._refusal(message.epoch, sender)]
        effects = self.assemble(message)
        is_here = message.position.sequence <= self.committed
        offset = 0 if self._incoming is None else self._incoming.size
        taken = ChunkTaken(self.partition, message.epoch, message.position, message.total if is_here else offset)
        return [*effects, AfterSync(Send(sender, taken))]

    def assemble(self, message: Chunk) -> list[Effect]:
        """Put a snapshot together; install it when it is whole."""
        effects = self._promise(message.epoch)
        if message.position.sequence <= self.committed:
            return effects
        incoming = self._incoming
        if incoming is None or not incoming.is_of(message):
            incoming = self._incoming = _Incoming(message.position, message.total, message.digest, message.epoch)
        incoming.epoch = message.epoch
        if incoming.take(message) and incoming.size == incoming.total:
            self._incoming = None
            state = b"".join(incoming.parts)
            self.machine.restore(state)
            self.log.restart(message.position)
            self.committed = message.position.sequence
            self.attach(message.epoch, message.position.sequence)
            effects.append(Write(self._copy_with(state)))
            effects.append(Committed(self.partition, self.committed))
        return effects

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
        self._forget_incoming(self.log.last.sequence)
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
        self._forget_incoming(through)
        self._forget_old_records()
        return [Committed(self.partition, through)]

    def stop_receiving(self, epoch: Epoch) -> None:
        """Let go of what has arrived of a snapshot, unless it was sent in ``epoch`` or later."""
        if self._incoming is not None and self._incoming.epoch < epoch:
            self._incoming = None

    def drop(self) -> list[Effect]:
        """Rule 10: delete the copy; the promise stays."""
        self._clear()
        return [Write(Dropped(self.partition, self.promised))]

    def _promise(self, epoch: Epoch) -> list[Effect]:
        if epoch == self.promised:
            return []
        assert epoch > self.promised
        self.promised = epoch
        self._outgoing = {}  # to whom a snapshot is on its way may have changed; who still wants it says how far it got
        return [Write(Promise(self.partition, epoch))]

    def _refusal(self, epoch: Epoch, sender: NodeId) -> Effect:
        # After the sync, because a promise that is named here must not be forgotten.
        return AfterSync(Send(sender, Refused(self.partition, epoch, self.promised, self.log.last)))

    def _lacks(self, message: Append, sender: NodeId) -> Effect:
        previous = message.previous
        last = self.log.last_common(Position(previous.epoch, previous.sequence - 1)) or self.log.start
        refused = Refused(self.partition, message.epoch, self.promised, last, previous.sequence)
        return AfterSync(Send(sender, refused))

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
                through = min([through, *(stream.position.sequence for stream in self._outgoing.values())])
            log.shrink(through, records_max=RECORDS_RETAINED, bytes_max=RETAINED_BYTES_MAX)

    def _forget_incoming(self, sequence: int) -> None:
        """Records up to ``sequence`` came another way."""
        if self._incoming is not None and self._incoming.position.sequence <= sequence:
            self._incoming = None


class _Outgoing:
    """A snapshot that leaves in parts."""

    def __init__(self, position: Position, state: bytes) -> None:
        self.position = position
        self.state = state
        self.digest = xxh3_64_intdigest(state)


@dataclass(slots=True)
class _Incoming:
    """A snapshot that arrives in parts, in order; ``epoch`` is that of the last one."""

    position: Position
    total: int
    digest: int
    epoch: Epoch
    size: int = 0
    parts: list[bytes] = field(default_factory=list)

    def is_of(self, chunk: Chunk) -> bool:
        """Whether the part belongs to this snapshot."""
        return (chunk.position, chunk.total, chunk.digest) == (self.position, self.total, self.digest)

    def take(self, chunk: Chunk) -> bool:
        """Keep the part if it is the next one; whether it was."""
        end = chunk.offset + len(chunk.data)
        if chunk.offset != self.size or not end <= self.total <= SNAPSHOT_BYTES_MAX:
            return False
        self.parts.append(chunk.data)
        self.size = end
        return True
