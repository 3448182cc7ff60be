"""One life of a member of a Raft group: the production core, its log and its inbox, and what of it the checks see.

The process dies between any two effects that it performs: a record written, a message sent, an entry applied.
"""

import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from consensus.config import LogConfig, RaftConfig
from consensus.errors import ProposalDropped, UnknownPeer
from consensus.messages import (
    APPEND,
    FOLLOWER,
    HEARTBEAT_RESPONSE,
    LEADER,
    NORMAL,
    READ_INDEX,
    SNAPSHOT,
    ConfChange,
    ConfChangeSet,
    Configuration,
    Entry,
    HardState,
    Message,
    MessageKind,
    ReadState,
    Role,
    Snapshot,
)
from consensus.raft import Raft
from consensus.reconfiguration import decode_change
from consensus.storage import DurableLog
from simulations.cores.faults import FOREVER
from simulations.cores.heap import EventHeap
from simulations.cores.network import Network
from simulations.cores.process import Fuse, LocalClock, ProcessKilled
from simulations.cores.raft_checks import RaftChecks
from simulations.cores.raft_read_checks import CONCERN_READS
from simulations.cores.trace import Trace

INBOX_MAX = 256
"""Messages that wait for a process that stands still or syncs: several round trips of a small group."""

STARTED, ENDED, _WOKEN, _SYNCED, _APPLIED, _LED, _ANSWERED = range(7)
_MESSAGES = 16
NOTES = {
    **dict(enumerate(("started", "ended", "woken", "synced to", "applied", "led term", "answered read"))),
    **{_MESSAGES + kind: f"took {kind.name.lower()} of" for kind in MessageKind},
}
"""What its notes in the trace mean, for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RaftSettings:
    """What the members of a group have in common. Fields of the same names are those of `RaftConfig`.

    Attributes:
        is_eager: whether a message is looked at while the disk is at work, or waits in the inbox as in the driver.
            With asynchronous storage it always is.
        thread_s: with asynchronous storage, how long a thread takes to get to its next piece of work, from … to; the
            former once the faults are over.
        segment_bytes, snapshot_log_bytes, kept_log_bytes: as in `LogConfig`.
    """

    election_timeout_s: float = 1.0
    heartbeat_interval_s: float = 0.2
    pre_vote: bool = True
    check_quorum: bool = True
    lease_reads: bool = False
    clock_error_max: float = 0.05
    async_storage: bool = False
    append_bytes_max: int = 1 << 20
    inflight_messages_max: int = 256
    apply_bytes_max: int = 4 << 20
    is_eager: bool = False
    thread_s: tuple[float, float] = (0.0, 0.0)
    segment_bytes: int = 64 << 20
    snapshot_log_bytes: int = 16 << 20
    kept_log_bytes: int = 0

    @property
    def lease_s(self) -> float:
        """How long a leader may rely on a round (thesis 6.4.1): its clock may be slow, and the voters' fast."""
        slow, fast = 1 - self.clock_error_max, 1 + self.clock_error_max
        return self.election_timeout_s * slow / fast if self.lease_reads else 0.0

    @property
    def log_config(self) -> LogConfig:
        """Of all members' logs."""
        return LogConfig(
            segment_bytes=self.segment_bytes,
            cache_bytes=1 << 20,
            snapshot_log_bytes=self.snapshot_log_bytes,
            kept_log_bytes=self.kept_log_bytes,
        )

    def config(self, node: int) -> RaftConfig:
        """For one member."""
        return RaftConfig(
            id=node,
            election_timeout_s=self.election_timeout_s,
            heartbeat_interval_s=self.heartbeat_interval_s,
            pre_vote=self.pre_vote,
            check_quorum=self.check_quorum,
            lease_reads=self.lease_reads,
            clock_error_max=self.clock_error_max,
            async_storage=self.async_storage,
            append_bytes_max=self.append_bytes_max,
            inflight_messages_max=self.inflight_messages_max,
            apply_bytes_max=self.apply_bytes_max,
        )


Images: TypeAlias = dict[tuple[int, bytes], tuple[bytes, ...]]
"""What is in snapshots, by their index and identity."""


class Surroundings(Protocol):
    """What a member finds in its world."""

    settings: RaftSettings
    images: Images
    heap: EventHeap
    network: Network
    checks: RaftChecks
    trace: Trace

    def sync_takes_s(self, node: int) -> float:
        """How long the next sync of this node takes."""
        ...

    def thread_takes_s(self, node: int) -> float:
        """How long a storage thread of this node takes to get to its next piece of work; 0 for no time at all."""
        ...

    def failed(self, node: int) -> None:
        """The process of this node ended because its disk failed: whoever looks after it starts another one."""
        ...


class Storage(Protocol):
    """Carries out what the core hands out: see `simulations.cores.raft_storage`."""

    @property
    def is_at_work(self) -> bool:
        """Whether a driver without storage threads would leave the core alone now."""
        ...

    @property
    def is_writing(self) -> bool:
        """Whether something is on its way to the disk."""
        ...

    def carry_out(self) -> None:
        """Do all that can be done now."""
        ...

    def finish_applying(self) -> None:
        """Apply all that was handed out, at once."""
        ...


class Snapshots(Protocol):
    """The process's snapshots: see `simulations.cores.raft_snapshots`."""

    def applied(self) -> None:
        """More of the log is applied."""
        ...

    def sends(self, message: Message) -> bool:
        """Whether a leader may send this SNAPSHOT."""
        ...

    def receive(self, message: Message) -> bool:
        """Get what a SNAPSHOT offers. Whether the core may have the message now."""
        ...

    def install(self, snapshot: Snapshot) -> list[bytes]:
        """The state in the snapshot that has replaced the log."""
        ...


class RaftProcess:
    """Give it a `storage`, then let it `work`.

    Attributes:
        number: of its node.
        raft, log: the production code that runs.
        storage: carries out what the core hands out.
        is_alive: whether it has not ended yet.
        resumes_s: until when it stands still; in the past if it does not.
        terms: of the entries in its log, those not yet written included.
        applied: the data that it has applied.
        answered: the highest number of a read that it could answer.
    """

    __slots__ = (
        *("_checks", "_commit", "_configuration", "_deadline_s", "_end", "_inbox", "_is_alone", "_is_eager", "_looked"),
        *("_network", "_role", "_term", "_trace"),
        *("_wake_s", "_world", "answered", "applied", "clock", "fuse", "heap", "is_alive", "log", "number", "raft"),
        *("resumes_s", "snapshots", "storage", "terms"),
    )

    storage: Storage
    snapshots: Snapshots

    def __init__(
        self,
        world: Surroundings,
        number: int,
        log: DurableLog,
        *,
        clock: LocalClock,
        rng: random.Random,
        applied: list[bytes],
        end: Callable[[bool], None],
    ) -> None:
        """Take over what the log has.

        Args:
            applied: what the log's snapshot says was applied.
            end: ends this process, with the whole machine if true.
        """
        self._world = world
        self._checks = world.checks
        self._network = world.network
        self._trace = world.trace
        self._end = end
        self.number = number
        self.log = log
        self.clock = clock
        self.heap = world.heap
        self.fuse = Fuse()
        self.is_alive = True
        self.resumes_s = 0.0
        begin, snapshot = log.first_index(), log.snapshot().index
        self.terms = self._checks.chosen_terms(begin - 1)
        self.terms += [log.term(index) or 0 for index in range(begin, log.last_index() + 1)]
        self.raft = Raft(world.settings.config(number), log, now=clock.now_s(), rng=rng, applied=snapshot)
        self._configured(self.raft.configuration)
        self._checks.started(number, self.raft.term, self.terms, log.lost())
        self._checks.loaded(number, snapshot, applied)
        self._checks.wrote(number, log.initial_state()[0])
        self._checks.synced(number, is_whole=log.lost() is None)
        self._role, self._term, self._commit = Role.FOLLOWER, 0, self.raft.commit_index
        self._looked: tuple[Role, int, int, int, int] | None = None
        self._configuration = Configuration()
        self._is_alone = False
        self._deadline_s = 0.0
        self._is_eager = world.settings.is_eager
        self._inbox: deque[Message] = deque(maxlen=INBOX_MAX)
        self._wake_s = FOREVER
        self.applied = applied
        self.answered = 0

    # ---- what happens to it

    def receive(self, message: Message) -> None:
        """A message arrives."""
        now_s = self.heap.now
        self._trace.note(now_s, self.number, _MESSAGES + message.kind, message.sender << 32 ^ message.index)
        inbox = self._inbox
        if len(inbox) < INBOX_MAX:
            inbox.append(message)
        if self.resumes_s <= now_s and (self._is_eager or not self.storage.is_at_work):
            self.work()

    def propose(self, content: bytes | ConfChange | ConfChangeSet) -> bool:
        """Propose through this member; whether it, or the leader that it knows, takes it."""
        raft = self.raft
        try:
            if isinstance(content, bytes):
                raft.propose(content)
            elif raft.role is not LEADER or raft.refusal(content) is not None:
                return False
            else:
                raft.propose_change(content)
        except ProposalDropped:
            return False
        self.work()
        return True

    def ask(self, request: int) -> bool:
        """Ask for a read under this number; whether it, or the leader that it knows, takes it."""
        self._checks.asked(request)
        now_s = self.clock.now_s()
        if self.raft.role is LEADER:
            self._checks.reads.asked(self.number, self.raft.term, self.number, request, now_s)
        try:
            self.raft.read(request, now_s)
        except ProposalDropped:
            return False
        self.work()
        return True

    def campaign(self) -> None:
        """Stand for election."""
        self.raft.campaign(self.clock.now_s())
        self.look()
        self.work()

    def resume(self) -> None:
        """It stands still no longer."""
        self._wake_s = FOREVER  # what was planned for the pause came to nothing
        self.work()

    def _wake(self, planned_s: float) -> None:
        if not self.is_alive or planned_s != self._wake_s or self.resumes_s > self.heap.now:
            return
        self._wake_s = FOREVER
        self.clock.has_come(planned_s)
        if self._is_eager or not self.storage.is_at_work:
            self.work()

    def work(self) -> None:
        """Take in what has come, and do what is to be done until the disk is at work or nothing is left."""
        try:
            self._take_in()
            self.storage.carry_out()
        except ProcessKilled:
            self.end(power=True)
        if self.is_alive and (self._wake_s == FOREVER or self._deadline_s == FOREVER or not self._deadline_s):
            self._plan()

    def _plan(self) -> None:
        deadline_s = self.raft.next_deadline
        self._deadline_s = FOREVER if deadline_s is None else deadline_s
        if deadline_s is not None and deadline_s < self._wake_s:
            self._wake_s = deadline_s
            self.heap.at(self.clock.virtual_s(deadline_s), self._wake, deadline_s)

    def end(self, *, power: bool) -> None:
        """It is gone."""
        self._end(power)

    def fail(self) -> None:
        """Its disk has failed."""
        self._end(False)
        self._world.failed(self.number)

    def _take_in(self) -> None:
        raft, inbox = self.raft, self._inbox
        now_s = self.clock.now_s()
        while inbox:
            message, before = inbox.popleft(), self._commit
            if message.kind is SNAPSHOT and not self.snapshots.receive(message):
                continue
            if message.kind is READ_INDEX:
                self._checks.reads.asked(self.number, raft.term, message.sender, message.request, now_s)
            elif message.kind is HEARTBEAT_RESPONSE:
                self._checks.reads.heard(self.number, message)
            try:
                raft.receive(message, now_s)
            except (UnknownPeer, ProposalDropped):
                continue
            self.look()
            if self._commit != before:
                self._checks.took(self.number, message, before=before, commit=self._commit)
        if self._deadline_s <= now_s:  # what changes neither its part nor the configuration only puts it off
            deadline_s = raft.next_deadline
            if deadline_s is not None and deadline_s <= now_s:
                self.note(_WOKEN, raft.term)
                raft.wake(now_s)
                self.look()
        if raft.configuration is not self._configuration:
            self._configuration = raft.configuration
            self._is_alone = self._configuration.electorate == (self.number,)
        if self._is_alone and raft.role is FOLLOWER:
            raft.campaign(now_s)  # there is nobody to wait for
            self.look()

    # ---- what its storage does

    def sync_takes_s(self) -> float:
        """How long the next sync takes."""
        return self._world.sync_takes_s(self.number)

    def thread_takes_s(self) -> float:
        """How long a storage thread takes to get to its next piece of work."""
        return self._world.thread_takes_s(self.number)

    def write(self, hard_state: HardState | None, entries: Sequence[Entry], snapshot: Snapshot | None) -> None:
        """Hand something to the log, to be durable with the next sync."""
        self.fuse.burn()
        if hard_state is None and not entries and snapshot is None:
            return
        self.log.append(hard_state, entries, snapshot)
        if snapshot is not None:
            self._checks.replaced(self.number, snapshot)
        if hard_state is not None:
            self._checks.wrote(self.number, hard_state)
        if entries:
            self._checks.appended(self.number, entries)

    def note_synced(self) -> None:
        """All of that is durable."""
        self._checks.synced(self.number, is_whole=self.raft.lost is None)
        self._trace.note(self.heap.now, self.number, _SYNCED, self.log.last_index())

    def handed_out(self, entries: Sequence[Entry], snapshot: Snapshot | None) -> None:
        """The core has handed out entries to be written, or a snapshot before them."""
        if snapshot is not None:
            self.terms = self._checks.chosen_terms(snapshot.index)
        if entries:
            del self.terms[entries[0].index - 1 :]
            self.terms += [entry.term for entry in entries]

    def install(self, snapshot: Snapshot) -> None:
        """A snapshot has replaced the log, durably."""
        self.fuse.burn()
        self.applied = self.snapshots.install(snapshot)
        self._checks.loaded(self.number, snapshot.index, self.applied)
        self._configured(self.raft.configuration)

    def send(self, messages: Sequence[Message]) -> None:
        """Messages leave."""
        burn, number, term = self.fuse.burn, self.number, self.raft.term
        checks, network = self._checks, self._network
        is_lit = self.fuse.is_lit
        for message in messages:
            if is_lit:
                burn()
            kind = message.kind
            if kind is SNAPSHOT and not self.snapshots.sends(message):
                continue
            checks.sent(message, term)
            if kind is not APPEND and kind in CONCERN_READS:
                checks.reads.sent(message, self.clock.now_s())
            network.send(number, message.to, message)

    def promise(self, message: Message) -> None:
        """The core takes its own vote, or its own acknowledgement, for given."""
        self.fuse.burn()
        self._checks.sent(message, self.raft.term)
        self.raft.receive_own(message, self.clock.now_s())
        self.look()

    def apply(self, entries: Sequence[Entry]) -> None:
        """The state machine takes entries."""
        is_lit, now_s, number, checks = self.fuse.is_lit, self.heap.now, self.number, self._checks
        for entry in entries:
            if is_lit:
                self.fuse.burn()
            self._trace.note(now_s, number, _APPLIED, entry.term << 32 ^ entry.index)
            checks.applied(number, entry)
            if entry.kind is not NORMAL:
                self._configured(self.raft.apply_change(decode_change(entry)))
                self._deadline_s = 0.0
            elif entry.data:
                self.applied.append(entry.data)
        self.snapshots.applied()

    def answer(self, reads: Sequence[ReadState]) -> None:
        """Reads may be answered, once their index is applied."""
        for read in reads:
            self.fuse.burn()
            self.note(_ANSWERED, read.request)
            self._checks.answered(self.number, read)
            self._checks.reads.answered(self.number, self.raft.term, read)
            self.answered = max(self.answered, read.request)

    def _configured(self, configuration: Configuration) -> None:
        self._checks.reads.configured(self.number, self.raft.term, configuration, self.clock.now_s())

    # ---- what is looked at after each step

    def look(self) -> None:
        """The core has taken a step: whatever changed by it is checked."""
        state = self.raft.state
        if state == self._looked:
            return
        self._looked = state
        raft, checks = self.raft, self._checks
        role, term, commit, applied, last = state
        if role is not self._role or term != self._term:
            checks.deposed(self.number)
            self._role, self._term = role, term
            self._deadline_s = 0.0
            if role is LEADER:
                self.note(_LED, term)
                checks.led(self.number, term, self.terms)
                checks.elected(self.number, term, raft.configuration)
                checks.reads.led(self.number, term, self.clock)
        elif commit > self._commit and role is LEADER:
            checks.committed(self.number, term, commit, raft.configuration, self.terms)
        self._commit = commit
        checks.progressed(self.number, commit=commit, applied=applied, last=last)

    def note(self, kind: int, value: int) -> None:
        """Add to the trace."""
        self._trace.note(self.heap.now, self.number, kind, value)
