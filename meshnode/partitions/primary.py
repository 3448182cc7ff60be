"""The primary of one epoch: replication, commitment, confirmed reads, the lease (rules 5, 6, 8, 11, 12)."""

import math
from collections import deque
from dataclasses import dataclass, field

from meshnode.identity import Epoch, NodeId, PartitionId
from meshnode.partitions.config import PartitionsConfig
from meshnode.partitions.effects import AfterSync, Effect, ReadReady, Send, Write
from meshnode.partitions.messages import ORIGIN, Append, Appended, ChunkTaken, Claim, Log, Position, Record, Refused
from meshnode.partitions.replica import MESSAGE_BYTES, Replica

WINDOW_BYTES = 4 * 2**20
"""What may be under way to one replica: enough for the round trip of a wide network at a disk's speed."""

WINDOW_MESSAGES = 128
"""The same bound for small records."""

PATIENCE_MAX = 32
"""How many times longer than usual an answer about bulk is waited for, at most: what queues before it on
a link may take longer than itself, and to send it again makes the queue longer."""

TAIL_RECORDS = 64
"""A learner this close to the end has caught up: under steady writes it never has the very last record."""


def majority(members: int) -> int:
    """How many of ``members`` are more than half."""
    return members // 2 + 1


@dataclass(slots=True)
class Progress:
    """What the primary knows of one other replica or learner.

    Attributes:
        matched: everything up to here is on its disk.
        next: the sequence to send next.
        in_flight: first sequence, last sequence and bytes of each message under way.
        answered_at_s: when it was last heard, or last sent to after silence.
        probing: its log differs, or it is silent: one message at a time until it answers.
        snapshot_at: the position of the snapshot under way to it.
        snapshot_wanted: the byte of it that was asked for last; None before the first answer.
        patience: how many times `PartitionsConfig.resend_after_s` its answer may take; doubles with each silence while
            a snapshot is under way.
        confirmed_at_s, confirmed_round: of its newest confirmation of this epoch: when and in which round it was asked.
    """

    next: int
    answered_at_s: float
    matched: int = 0
    in_flight: deque[tuple[int, int, int]] = field(default_factory=deque)
    in_flight_bytes: int = 0
    probing: bool = True
    snapshot_at: Position | None = None
    snapshot_wanted: int | None = None
    patience: int = 1
    confirmed_at_s: float = float("-inf")
    confirmed_round: int = 0

    def sent(self, last: int, size: int) -> None:
        """A message up to ``last`` is under way."""
        self.in_flight.append((self.next, last, size))
        self.in_flight_bytes += size
        self.next = last + 1

    def acknowledged(self, sequence: int) -> None:
        """Everything up to ``sequence`` arrived and is on its disk."""
        self.matched = max(self.matched, sequence)
        self.next = max(self.next, self.matched + 1)
        while self.in_flight and self.in_flight[0][1] <= sequence:
            self.in_flight_bytes -= self.in_flight.popleft()[2]

    def awaits(self, previous: int) -> bool:
        """Whether a message whose records follow ``previous`` is under way."""
        return any(first == previous + 1 for first, _, _ in self.in_flight)

    def probe_from(self, sequence: int) -> None:
        """Send again from ``sequence`` on, one message at a time until it answers."""
        self.next = sequence
        self.in_flight.clear()
        self.in_flight_bytes = 0
        self.probing = True

    def stream(self, position: Position | None) -> None:
        """The snapshot at ``position`` is under way from its first byte on; with None, all of it has arrived."""
        self.snapshot_at = position
        self.snapshot_wanted = None
        self.patience = 1

    @property
    def is_waiting(self) -> bool:
        """Whether it owes an answer."""
        return bool(self.in_flight) or self.snapshot_at is not None

    @property
    def has_room(self) -> bool:
        """Whether another message may be sent now."""
        if self.snapshot_at is not None:
            return False
        if self.probing:
            return not self.in_flight
        return self.in_flight_bytes < WINDOW_BYTES and len(self.in_flight) < WINDOW_MESSAGES


class Primary:
    """Replicates the log of ``replica`` to ``replicas`` as the primary of ``epoch``.

    The first record is a barrier: nothing is committed by counting before it is (the schedule of Raft's figure 8), nor
    before the row is active: until then another primary may continue the log of the old set without asking this one's.
    """

    def __init__(
        self,
        replica: Replica,
        *,
        epoch: Epoch,
        node_id: NodeId,
        replicas: tuple[NodeId, ...],
        config: PartitionsConfig,
        now: float,
    ) -> None:
        assert node_id in replicas, (node_id, replicas)
        self.epoch = epoch
        self.replicas = replicas
        self.barrier = 0
        self.is_active = False
        self.learners: tuple[NodeId, ...] = ()
        self._replica = replica
        self._node_id = node_id
        self._config = config
        self._own_matched = 0
        self._reads: deque[tuple[int, int, int]] = deque()  # as many as there are callers: the room above bounds them
        self._uncommitted_bytes = sum(len(record.payload) for record in replica.log.after(replica.committed))
        following = replica.log.last.sequence + 1
        self._progress = {member: Progress(following, now) for member in replicas if member != node_id}

    @property
    def partition(self) -> PartitionId:
        """Whose primary this is."""
        return self._replica.partition

    # ---- writing

    def start(self, now: float) -> list[Effect]:
        """Append the barrier."""
        self.barrier, effects = self.propose(b"", now)
        return effects

    def propose(self, payload: bytes, now: float) -> tuple[int, list[Effect]]:
        """Append one record: its sequence, used once (rule 6), and what follows."""
        replica = self._replica
        record = Record(self.epoch, replica.log.last.sequence + 1, payload)
        replica.log.add(record)
        self._uncommitted_bytes += len(payload)
        own = Appended(replica.partition, self.epoch, record.sequence)
        effects: list[Effect] = [Write(Log(replica.partition, (record,))), AfterSync(Send(self._node_id, own))]
        made: dict[int, Append] = {}
        for member, progress in self._progress.items():
            self._feed(member, progress, now, effects, made)
        return record.sequence, effects

    @property
    def has_room(self) -> bool:
        """Whether another record may be proposed; bounds what waits for a majority."""
        return self._uncommitted_bytes < self._config.uncommitted_bytes_max

    @property
    def durable(self) -> int:
        """The last sequence that is on the disks of a majority of the replicas."""
        own, progress = self._node_id, self._progress
        matched = [self._own_matched if member == own else progress[member].matched for member in self.replicas]
        matched.sort()
        return matched[-majority(len(matched))]

    def activated(self) -> list[Effect]:
        """The row of the epoch is active, which took the barrier on a majority of the replicas."""
        self.is_active = True
        return self._commit(max(self.durable, self.barrier))

    # ---- what replicas answer

    def appended(self, sender: NodeId, message: Appended, now: float) -> list[Effect]:
        """A replica, or this node's own journal, has everything up to a sequence on disk."""
        effects: list[Effect] = []
        progress = self._progress.get(sender)
        if message.sequence > self._replica.log.last.sequence:
            return effects
        if sender == self._node_id:
            self._own_matched = max(self._own_matched, message.sequence)
        elif progress is not None:
            progress.answered_at_s = now
            progress.probing = False
            progress.acknowledged(message.sequence)
            if progress.next <= self._replica.log.last.sequence:
                self._feed(sender, progress, now, effects, {})
        durable = self.durable
        if self.is_active and durable > self._replica.committed:
            effects.extend(self._commit(durable))
        return effects

    def refused(self, sender: NodeId, message: Refused, now: float) -> list[Effect]:
        """The replica lacks the record before those that were sent: go back to the last one that may be common.

        That may be before what it had acknowledged: a learner that restarts may delete its copy by an older row.
        """
        effects: list[Effect] = []
        progress = self._progress.get(sender)
        if progress is None or not progress.awaits(message.previous):
            return effects
        last = Position(message.last.epoch, min(message.last.sequence, message.previous - 1))
        common = self._replica.log.last_common(last) or ORIGIN
        progress.matched = min(progress.matched, common.sequence)
        progress.answered_at_s = now
        progress.probe_from(common.sequence + 1)
        self._feed(sender, progress, now, effects, {})
        return effects

    def chunk_taken(self, sender: NodeId, message: ChunkTaken, now: float) -> list[Effect]:
        """The replica has a part of the snapshot: send the next one, or the records that follow it."""
        effects: list[Effect] = []
        progress = self._progress.get(sender)
        if progress is None or progress.snapshot_at != message.position:
            return effects
        progress.answered_at_s = now
        if progress.snapshot_wanted == message.offset:
            return effects  # it has been answered: another part for each part that came twice would never end
        progress.snapshot_wanted = message.offset  # a lower one if the replica lost what it had
        effects.extend(self._next_chunk(sender, progress, message.position, message.offset))
        if not effects:
            progress.stream(None)
            progress.acknowledged(message.position.sequence)
            progress.probe_from(progress.matched + 1)
            self._feed(sender, progress, now, effects, {})
        return effects

    def wake(self, now: float) -> list[Effect]:
        """Repeat what was not answered in time."""
        effects: list[Effect] = []
        for member, progress in self._progress.items():
            due_s = progress.answered_at_s + progress.patience * self._config.resend_after_s
            if now < due_s or not progress.is_waiting:
                continue
            progress.answered_at_s = now
            position = progress.snapshot_at
            if position is not None:
                progress.patience = min(2 * progress.patience, PATIENCE_MAX)
                effects.extend(self._next_chunk(member, progress, position, progress.snapshot_wanted or 0))
            else:
                progress.probe_from(max(progress.in_flight[0][0], progress.matched + 1))
                self._feed(member, progress, now, effects, {})
        return effects

    @property
    def next_deadline(self) -> float:
        """When `wake` has something to do."""
        earliest_s, resend_after_s = math.inf, self._config.resend_after_s
        for progress in self._progress.values():
            due_s = progress.answered_at_s + progress.patience * resend_after_s
            if due_s < earliest_s and progress.is_waiting:
                earliest_s = due_s
        return earliest_s

    # ---- learners

    def teach(self, learners: tuple[NodeId, ...], now: float) -> list[Effect]:
        """Bring ``learners``, and nobody else, to the log's tail: see `has_taught` (rule 8)."""
        assert not set(learners) & set(self.replicas), (learners, self.replicas)
        for former in self.learners:
            if former not in learners:
                del self._progress[former]
                self._replica.end_stream(former)
        effects: list[Effect] = []
        for learner in learners:
            if learner not in self._progress:
                progress = self._progress[learner] = Progress(self._replica.log.last.sequence, now)
                self._feed(learner, progress, now, effects, {})
        self.learners = learners
        return effects

    @property
    def has_taught(self) -> bool:
        """Whether all learners have the log's tail.

        They must have the barrier too: a log may be shorter than the tail, and who has the barrier has answered.
        """
        enough = max(self._replica.log.last.sequence - TAIL_RECORDS, self.barrier)
        return all(self._progress[learner].matched >= enough for learner in self.learners)

    # ---- confirmation: reads and the lease

    def read(self, token: int, round_number: int) -> list[Effect]:
        """Report ``token`` once what the log holds now is committed and round ``round_number`` confirmed the epoch."""
        self._reads.append((round_number, self._replica.log.last.sequence, token))
        return self._ready_reads()

    def confirmed(self, sender: NodeId, round_number: int, asked_at_s: float) -> list[Effect]:
        """The sender had promised nothing above this epoch when it answered."""
        progress = self._progress.get(sender)
        if progress is None:
            return []
        progress.confirmed_round = max(progress.confirmed_round, round_number)
        progress.confirmed_at_s = max(progress.confirmed_at_s, asked_at_s)
        return self._ready_reads()

    @property
    def lease_until(self) -> float:
        """Until when turns may start: a majority confirmed the epoch when asked at most ``lease_s`` before."""
        asked = (self._progress[member].confirmed_at_s for member in self.replicas if member != self._node_id)
        return sorted([float("inf"), *asked], reverse=True)[majority(len(self.replicas)) - 1] + self._config.lease_s

    @property
    def is_over(self) -> bool:
        """Whether this node promised a newer epoch: what the copy holds, and has committed, may be that one's."""
        return self._replica.promised > self.epoch

    def claim(self) -> Claim:
        """What this primary says of itself, unless it `is_over`."""
        return Claim(self._replica.partition, self.epoch, self._replica.committed)

    # ---- inside

    def _feed(
        self, member: NodeId, progress: Progress, now: float, effects: list[Effect], made: dict[int, Append]
    ) -> None:
        """Send what it lacks. ``made`` has the messages for others at this moment, by their first records."""
        replica = self._replica
        log = replica.log
        while progress.next <= log.last.sequence and progress.has_room:
            if not progress.is_waiting:
                progress.answered_at_s = now  # silence counts from the first message that awaits an answer
            if progress.next <= log.start.sequence:
                effects.extend(replica.snapshot_chunk(self.epoch, member))
                progress.stream(replica.committed_position)
                return
            message = made.get(progress.next)
            if message is None:
                message = made[progress.next] = self._append_from(progress.next)
            effects.append(Send(member, message))
            progress.sent(message.records[-1].sequence, sum(len(record.payload) for record in message.records))

    def _append_from(self, sequence: int) -> Append:
        log = self._replica.log
        epoch = log.epoch_at(sequence - 1)
        assert epoch is not None
        previous = Position(epoch, sequence - 1)
        records = log.after(previous.sequence, MESSAGE_BYTES)
        return Append(self._replica.partition, self.epoch, previous, records, self._replica.committed)

    def _next_chunk(self, member: NodeId, progress: Progress, position: Position, offset: int) -> list[Effect]:
        effects = self._replica.snapshot_chunk(self.epoch, member, position, offset)
        anew = self._replica.stream_position(member)
        if anew is not None and anew != position:  # the stream had ended, and another one has begun further on
            progress.stream(anew)
        return effects

    def _commit(self, through: int) -> list[Effect]:
        replica = self._replica
        newly = range(replica.committed + 1, through + 1)
        self._uncommitted_bytes -= sum(len(replica.log.record_at(sequence).payload) for sequence in newly)
        return [*replica.commit(through), *self._ready_reads()]

    def _ready_reads(self) -> list[Effect]:
        ready: list[Effect] = []
        if not self._reads:
            return ready
        rounds = (self._progress[member].confirmed_round for member in self.replicas if member != self._node_id)
        confirmed = sorted([2**63, *rounds], reverse=True)[majority(len(self.replicas)) - 1]
        while self._reads and self._reads[0][0] <= confirmed and self._reads[0][1] <= self._replica.committed:
            ready.append(ReadReady(self._replica.partition, self._reads.popleft()[2]))
        return ready
