"""One member of a Raft group in its world: what `consensus.driver.RaftNode` does for it in a node."""

import contextlib
import random
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from consensus.config import RaftConfig
from consensus.errors import CorruptLog, ProposalDropped, StorageFailed, UnknownPeer
from consensus.messages import ConfChange, ConfChangeSet, Entry, EntryKind, Message, MessageKind, Role
from consensus.raft import Raft
from consensus.ready import Ready
from consensus.reconfiguration import decode_change
from consensus.storage import DurableLog, open_log
from simulations.cores.faults import FOREVER
from simulations.cores.heap import EventHeap
from simulations.cores.network import Network
from simulations.cores.process import Fuse, LocalClock, ProcessKilled
from simulations.cores.raft_checks import RaftChecks
from simulations.cores.trace import Trace
from simulations.disk import Life, Operation, SimDisk

INBOX_MAX = 256
"""Messages that wait for a process that stands still or syncs: several round trips of a small group."""

DIRECTORY = "raft"

_STARTED, _ENDED, _WOKEN, _SYNCED, _APPLIED, _LED = range(6)
_MESSAGES = 16
NOTES = {
    **dict(enumerate(("started", "ended", "woken", "synced to", "applied", "led term"))),
    **{_MESSAGES + kind: f"took {kind.name.lower()} of" for kind in MessageKind},
}
"""What its notes in the trace mean, for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RaftSettings:
    """What the members of a group have in common. Fields of the same names are those of `RaftConfig`.

    Attributes:
        is_eager: whether a message is looked at while the disk is at work, or waits in the inbox as in the driver.
    """

    election_timeout_s: float = 1.0
    heartbeat_interval_s: float = 0.2
    pre_vote: bool = True
    check_quorum: bool = True
    append_bytes_max: int = 1 << 20
    inflight_messages_max: int = 256
    apply_bytes_max: int = 4 << 20
    is_eager: bool = False

    def config(self, node: int) -> RaftConfig:
        """For one member."""
        return RaftConfig(
            id=node,
            election_timeout_s=self.election_timeout_s,
            heartbeat_interval_s=self.heartbeat_interval_s,
            pre_vote=self.pre_vote,
            check_quorum=self.check_quorum,
            append_bytes_max=self.append_bytes_max,
            inflight_messages_max=self.inflight_messages_max,
            apply_bytes_max=self.apply_bytes_max,
        )


class Surroundings(Protocol):
    """What a member finds in its world."""

    settings: RaftSettings
    heap: EventHeap
    network: Network
    checks: RaftChecks
    trace: Trace

    def sync_takes_s(self, node: int) -> float:
        """How long the next sync of this node takes."""
        ...

    def failed(self, node: int) -> None:
        """The process of this node ended because its disk failed: whoever looks after it starts another one."""
        ...

    def leading(self) -> Mapping[int, Sequence[int]]:
        """Of each process that takes itself for a leader, the terms of its entries, by its own term."""
        ...


class RaftMember:
    """One member, over all of its lives.

    Attributes:
        number: its id in the group.
        raft: None while no process runs.
        is_corrupt: whether its log can't be opened any more.
        clock: of its machine.
        fuse: of its process.
        applied: the data that it has applied in this life.
    """

    __slots__ = (
        "_commit",
        "_inbox",
        "_life",
        "_lives",
        "_log",
        "_paused_until_s",
        "_ready",
        "_role",
        "_term",
        "_terms",
        "_wake_s",
        "_world",
        "applied",
        "clock",
        "disk",
        "fuse",
        "is_corrupt",
        "number",
        "raft",
    )

    def __init__(self, world: Surroundings, number: int, disk: SimDisk) -> None:
        self._world = world
        self.number = number
        self.disk = disk
        self.raft: Raft | None = None
        self.is_corrupt = False
        self.clock = LocalClock(world.heap)
        self.fuse = Fuse()
        self.applied: list[bytes] = []
        self._life: Life | None = None
        self._lives = 0
        self._log: DurableLog | None = None
        self._ready: Ready | None = None
        self._role = Role.FOLLOWER
        self._term = 0
        self._commit = 0
        self._terms: list[int] = []
        self._inbox: deque[Message] = deque(maxlen=INBOX_MAX)
        self._wake_s = FOREVER
        self._paused_until_s = 0.0

    # ---- its life

    def start(self, rng: random.Random) -> None:
        """A new process on the same disk. None runs if the log on it can't be opened."""
        assert self.raft is None, f"member {self.number} runs already"
        self._life = self.disk.acquire()
        self._lives += 1
        try:
            log = open_log(self.disk, DIRECTORY, owner=b"member %d" % self.number)
        except (CorruptLog, OSError) as error:
            self.is_corrupt = isinstance(error, CorruptLog)
            self.disk.crash(power_loss=False)
            if not self.is_corrupt:
                self._world.failed(self.number)
            return
        self._log = log
        entries = log.entries(1, log.last_index() + 1) if log.last_index() else ()
        self._terms = [entry.term for entry in entries]
        self.raft = Raft(self._world.settings.config(self.number), log, now=self.clock.now_s(), rng=rng)
        self._world.checks.started(self.number, self.raft.term, self._terms)
        self._world.checks.wrote(self.number, log.initial_state()[0])
        self._world.checks.synced(self.number)
        self._role, self._term, self._commit = Role.FOLLOWER, 0, 0
        self._ready = None
        self._wake_s = FOREVER
        self._paused_until_s = 0.0
        self.fuse = Fuse()
        self.applied = []
        self._note(_STARTED, self._lives)
        self.work()

    def end(self, *, power: bool) -> None:
        """The process is gone, and with `power` what its disk had not synced as well."""
        if self.raft is None:
            return
        # A process that is killed may have left its batch in the cache or not; where the power fails it often has.
        if self._ready is not None and self._ready.must_sync and (power or self._lives % 2):
            self._write_without_sync()
        self.disk.crash(power_loss=power)
        self.raft = None
        self._log = None
        self._ready = None
        self._inbox.clear()
        self._note(_ENDED, self._lives)

    def _write_without_sync(self) -> None:
        """The power fails while the disk is at work: the bytes are on their way, and the sync has not returned."""
        assert self._log is not None
        self.disk.on_operation = _die_at_sync
        with contextlib.suppress(ProcessKilled):
            self._log.sync()
        self.disk.on_operation = None

    def pause(self, for_s: float) -> None:
        """The process stands still for a time."""
        self._paused_until_s = max(self._paused_until_s, self._world.heap.now + for_s)
        self._world.heap.at(self._paused_until_s, self._resume, self._lives)

    def _resume(self, life: int) -> None:
        if self.raft is not None and life == self._lives and not self.is_paused:
            self._wake_s = FOREVER  # what was planned for the pause came to nothing
            self.work()

    @property
    def is_paused(self) -> bool:
        """Whether its process stands still."""
        return self._world.heap.now < self._paused_until_s

    @property
    def is_leader(self) -> bool:
        """Whether it takes itself for the leader."""
        return self.raft is not None and self.raft.role is Role.LEADER

    @property
    def terms(self) -> Sequence[int]:
        """Of the entries in its log, those not yet written included."""
        return self._terms

    # ---- events

    def receive(self, envelope: tuple[Message, int]) -> None:
        """A message arrives."""
        if self.raft is None:
            return
        message = envelope[0]
        self._note(_MESSAGES + message.kind, message.sender << 32 ^ message.index)
        if len(self._inbox) < INBOX_MAX:
            self._inbox.append(message)
        if not self.is_paused and (self._ready is None or self._world.settings.is_eager):
            self.work()

    def propose(self, content: bytes | ConfChange | ConfChangeSet) -> bool:
        """Propose through this member; whether it, or the leader that it knows, takes it."""
        assert self.raft is not None
        if isinstance(content, bytes):
            try:
                self.raft.propose(content)
            except ProposalDropped:
                return False
        elif self.raft.refusal(content) is not None or not self.is_leader:
            return False
        else:
            try:
                self.raft.propose_change(content)
            except ProposalDropped:
                return False
        self.work()
        return True

    def _wake(self, planned_s: float) -> None:
        if self.raft is None or planned_s != self._wake_s or self.is_paused:
            return
        self._wake_s = FOREVER
        self.clock.has_come(planned_s)
        if self._ready is None or self._world.settings.is_eager:
            self.work()

    def work(self) -> None:
        """Take in what has come, and carry out batches until the disk is at work or nothing is left."""
        try:
            self._take_in()
            while self._ready is None and self.raft is not None:
                ready = self.raft.ready()
                if ready is None:
                    break
                self._begin(self.raft, ready)
                if not ready.must_sync:
                    self._finish()
            self._plan()
        except ProcessKilled:
            self.end(power=True)

    def _take_in(self) -> None:
        raft = self.raft
        assert raft is not None
        now_s = self.clock.now_s()
        while self._inbox:
            message, before = self._inbox.popleft(), raft.commit_index
            try:
                raft.receive(message, now_s)
            except (UnknownPeer, ProposalDropped):
                continue
            if raft.commit_index != before:
                self._world.checks.took(self.number, message, before=before, commit=raft.commit_index)
            self._look()
        deadline_s = raft.next_deadline
        if deadline_s is not None and deadline_s <= now_s:
            self._note(_WOKEN, raft.term)
            raft.wake(now_s)
            self._look()
        if raft.role is Role.FOLLOWER and raft.configuration.electorate == (raft.id,):
            raft.campaign(now_s)  # there is nobody to wait for
            self._look()

    def _plan(self) -> None:
        if self.raft is None:
            return
        deadline_s = self.raft.next_deadline
        if deadline_s is not None and deadline_s < self._wake_s:
            self._wake_s = deadline_s
            self._world.heap.at(self.clock.virtual_s(deadline_s), self._wake, deadline_s)

    # ---- a batch

    def _begin(self, raft: Raft, ready: Ready) -> None:
        assert self._log is not None
        self._ready = ready
        self.fuse.burn()
        self._log.append(ready.hard_state, ready.entries)
        if ready.hard_state is not None:
            self._world.checks.wrote(self.number, ready.hard_state)
        if ready.entries:
            self._world.checks.appended(self.number, ready.entries)
            del self._terms[ready.entries[0].index - 1 :]
            self._terms += [entry.term for entry in ready.entries]
        self._send(raft, ready.messages)
        if ready.must_sync:
            takes_s = self._world.sync_takes_s(self.number)
            self._world.heap.at(self._world.heap.now + takes_s, self._synced, (self._lives, ready))

    def _synced(self, planned: tuple[int, Ready]) -> None:
        life, ready = planned
        if self.raft is None or life != self._lives or ready is not self._ready:
            return
        if self.is_paused:  # the disk is done, the process does not see it
            self._world.heap.at(self._paused_until_s, self._synced, planned)
            return
        try:
            self.fuse.burn()
            assert self._log is not None
            self._log.sync()
            self._world.checks.synced(self.number)
            self._note(_SYNCED, self._log.last_index())
            self._finish()
        except ProcessKilled:
            self.end(power=True)
            return
        except StorageFailed:
            self._ready = None  # the log is of no use any more
            self.end(power=False)
            self._world.failed(self.number)
            return
        self.work()

    def _finish(self) -> None:
        ready, raft = self._ready, self.raft
        assert ready is not None
        assert raft is not None
        self._send(raft, ready.messages_after_sync)
        for entry in ready.committed_entries:
            self.fuse.burn()
            self._apply(raft, entry)
        self._ready = None
        raft.advance()
        self._look()

    def _apply(self, raft: Raft, entry: Entry) -> None:
        self._note(_APPLIED, entry.term << 32 ^ entry.index)
        self._world.checks.applied(self.number, entry, self._world.leading)
        if entry.kind is not EntryKind.NORMAL:
            raft.apply_change(decode_change(entry))
        elif entry.data:
            self.applied.append(entry.data)

    def _send(self, raft: Raft, messages: Iterable[Message]) -> None:
        checks, network, term = self._world.checks, self._world.network, raft.term
        for message in messages:
            self.fuse.burn()
            checks.sent(message, term)
            network.send(self.number, message.to, message)

    # ---- what is looked at after each step

    def _look(self) -> None:
        raft = self.raft
        assert raft is not None
        checks, role, term, commit = self._world.checks, raft.role, raft.term, raft.commit_index
        if role is not self._role or term != self._term:
            self._role, self._term = role, term
            if role is Role.LEADER:
                self._note(_LED, term)
                checks.led(self.number, term, self._terms)
                checks.elected(self.number, term, raft.configuration)
        elif commit > self._commit and role is Role.LEADER:
            checks.committed(self.number, term, commit, raft.configuration)
        self._commit = commit
        checks.progressed(self.number, commit=commit, applied=raft.applied_index, last=raft.last_index)

    def _note(self, kind: int, value: int) -> None:
        self._world.trace.note(self._world.heap.now, self.number, kind, value)


def _die_at_sync(operation: str, _path: str) -> None:
    if operation == Operation.SYNC:
        raise ProcessKilled
