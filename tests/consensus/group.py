"""Cores with durable logs on disks that crash, and a list for a network."""

import contextlib
import random
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from consensus.config import RaftConfig
from consensus.errors import UnknownPeer
from consensus.founding import founding
from consensus.messages import (
    ChangeKind,
    ConfChange,
    ConfChangeSet,
    Entry,
    EntryKind,
    Message,
    MessageKind,
    ReadState,
    Role,
)
from consensus.opening import open_log
from consensus.raft import Raft
from consensus.ready import Appended, Ready, StorageAppend, StorageApply
from consensus.reconfiguration import decode_change
from consensus.storage import DurableLog
from tests.consensus.disks import MemoryDisk

ELECTION_S = 1.0
HEARTBEAT_S = 0.1


def add_voter(node: int) -> ConfChange:
    return ConfChange(ChangeKind.ADD_VOTER, node)


def add_learner(node: int) -> ConfChange:
    return ConfChange(ChangeKind.ADD_LEARNER, node)


def remove(node: int) -> ConfChange:
    return ConfChange(ChangeKind.REMOVE, node)


class Member:
    """One node: a core, a log, a disk, and what it has applied since it started."""

    def __init__(self, config: RaftConfig, disk: MemoryDisk, *, rng: random.Random, now: float) -> None:
        self.config = config
        self.disk = disk
        self.rng = rng
        self.log: DurableLog = open_log(disk, "raft", owner=b"test%d" % config.id)
        self.raft = Raft(config, self.log, now=now, rng=rng)
        self.applied: list[Entry] = []
        self.ready: Ready | None = None
        # With asynchronous storage: what is to be written, written and to be synced, and to be applied.
        self.to_write: deque[StorageAppend] = deque()
        self.to_sync: list[StorageAppend] = []
        self.to_apply: deque[StorageApply] = deque()

    @property
    def id(self) -> int:
        return self.config.id

    def entries(self) -> Sequence[Entry]:
        """All entries in the log, as the core sees it."""
        log = self.raft._core.log
        return log.entries(1, 1 << 60)

    def data(self) -> list[bytes]:
        """What was proposed and is applied."""
        return [entry.data for entry in self.applied if entry.kind is EntryKind.NORMAL and entry.data]


def role_of(raft: Raft) -> Role:
    """The role, asked for anew each time."""
    return raft.role


class Group:
    """Members with ids 1 … n, and their messages in flight.

    Args:
        voters: how many found the group together.
        settings: fields of `RaftConfig`.
    """

    def __init__(self, voters: int, *, seed: int = 0, found: bool = True, **settings: object) -> None:
        self.rng = random.Random(seed)
        self.now = 0.0
        self.settings = settings
        self.members: dict[int, Member] = {}
        self.in_flight: list[Message] = []
        self.on_send: Callable[[Message], None] = lambda message: None
        self.on_read: Callable[[ReadState], None] = lambda read: None
        for node in range(1, voters + 1):
            self.add(node, founders=range(1, voters + 1) if found else ())
        if found:
            self.settle()

    def config(self, node: int) -> RaftConfig:
        defaults: dict[str, object] = {
            "election_timeout_s": ELECTION_S,
            "heartbeat_interval_s": HEARTBEAT_S,
            "pre_vote": False,
            "check_quorum": False,
        }
        return RaftConfig(id=node, **(defaults | self.settings))  # type: ignore[arg-type]

    def add(self, node: int, *, founders: Iterable[int] = ()) -> Member:
        """A new node with an empty disk; with founders, one of a new group."""
        disk = MemoryDisk()
        founders = list(founders)
        if founders:
            log = open_log(disk, "raft", owner=b"test%d" % node)
            log.append(*founding(founders))
            log.close()
        self.members[node] = Member(self.config(node), disk, rng=random.Random(self.rng.random()), now=self.now)
        return self.members[node]

    def __getitem__(self, node: int) -> Member:
        return self.members[node]

    # A member's work.

    def begin(self, member: Member) -> bool:
        """Take a batch: hand it to the log, or to the storage threads, and send what may leave before the sync."""
        assert member.ready is None
        ready = member.raft.ready()
        if ready is None:
            return False
        for read in ready.read_states:
            self.on_read(read)
        if member.config.async_storage:
            member.to_write.extend([ready.append] if ready.append else [])
            member.to_apply.extend([ready.apply] if ready.apply else [])
            self.send(ready.messages)
            return True
        member.ready = ready
        member.log.append(ready.hard_state, ready.entries)
        self.send(ready.messages)
        return True

    def finish(self, member: Member) -> None:
        """Carry the batch through."""
        ready = member.ready
        assert ready is not None
        member.ready = None
        if ready.must_sync:
            member.log.sync()
        self.send(ready.messages_after_sync)
        apply_to(member, ready.committed_entries)
        member.raft.advance()

    def write(self, member: Member) -> bool:
        """The storage thread writes one piece of work."""
        if not member.to_write:
            return False
        work = member.to_write.popleft()
        member.log.append(work.hard_state, work.entries)
        member.to_sync.append(work)
        return True

    def sync(self, member: Member) -> bool:
        """The storage thread makes all that is written durable, and answers."""
        done, member.to_sync = member.to_sync, []
        if any(work.must_sync for work in done):
            member.log.sync()
        for response in [response for work in done for response in work.responses]:
            if isinstance(response, Appended):
                member.raft.stored(response, self.now)
            elif response.to == member.id:
                member.raft.receive_own(response, self.now)
            else:
                self.send([response])
        return bool(done)

    def apply(self, member: Member) -> bool:
        """The applying thread takes one piece of work."""
        if not member.to_apply:
            return False
        work = member.to_apply.popleft()
        apply_to(member, work.entries)
        member.raft.applied(work, self.now)
        return True

    def work(self, node: int) -> None:
        """Carry out batches until there are none."""
        member = self.members[node]
        if member.ready is not None:
            self.finish(member)
        if not member.config.async_storage:
            while self.begin(member):
                self.finish(member)
        while member.config.async_storage and any(
            step(member) for step in (self.begin, self.write, self.sync, self.apply)
        ):
            pass

    def send(self, messages: Sequence[Message]) -> None:
        for message in messages:
            self.on_send(message)
        self.in_flight += messages

    def deliver(self, message: Message) -> None:
        """Hand a message over, if there is somebody."""
        member = self.members.get(message.to)
        if member is not None:
            with contextlib.suppress(UnknownPeer):
                member.raft.receive(message, self.now)

    def take(self, which: Callable[[Message], bool] = lambda message: True) -> list[Message]:
        """Take messages out of what is in flight: they are lost, or slow and delivered later."""
        taken = [message for message in self.in_flight if which(message)]
        self.in_flight = [message for message in self.in_flight if not which(message)]
        return taken

    def deliver_all(self, messages: Sequence[Message]) -> None:
        for message in messages:
            self.deliver(message)

    def settle(self, *only: int, drop: Callable[[Message], bool] = lambda message: False) -> None:
        """Work and deliver until nothing is left, except what is dropped."""
        nodes = only or tuple(self.members)
        while True:
            for node in nodes:
                if node in self.members:
                    self.work(node)
            due = [message for message in self.in_flight if message.to in nodes]
            if not due:
                return
            self.in_flight = [message for message in self.in_flight if message.to not in nodes]
            for message in due:
                if not drop(message):
                    self.deliver(message)

    # Events.

    def pass_time(self, seconds: float, *nodes: int) -> None:
        """Let time pass, and the named nodes, or all, notice."""
        self.now += seconds
        for node in nodes or tuple(self.members):
            self.members[node].raft.wake(self.now)

    def elect(self, node: int) -> Member:
        """Have a node stand for election and win it."""
        self.members[node].raft.campaign(self.now)
        self.settle()
        assert self.members[node].raft.role is Role.LEADER
        return self.members[node]

    def propose(self, node: int, *data: bytes) -> None:
        self.members[node].raft.propose(*data)

    def change(self, node: int, change: ConfChange | ConfChangeSet) -> None:
        """Have a leader make a change, and everyone take note."""
        assert self.members[node].raft.refusal(change) is None
        self.members[node].raft.propose_change(change)
        self.settle()

    def crash(self, node: int, *, power: bool = True) -> None:
        """Restart a node from its disk, after a power failure or only the death of its process."""
        old = self.members[node]
        disk = old.disk.after_power_failure(self.rng) if power else old.disk.after_process_death()
        self.members[node] = Member(old.config, disk, rng=old.rng, now=self.now)


def apply_to(member: Member, entries: Iterable[Entry]) -> None:
    """What the state machine does."""
    for entry in entries:
        if entry.kind is not EntryKind.NORMAL:
            member.raft.apply_change(decode_change(entry))
        member.applied.append(entry)


def cut(*nodes: int) -> Callable[[Message], bool]:
    """Drops what goes to or from the nodes."""
    return lambda message: message.to in nodes or message.sender in nodes


def only(*kinds: MessageKind) -> Callable[[Message], bool]:
    """Drops everything but these kinds."""
    return lambda message: message.kind not in kinds
