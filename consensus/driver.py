"""Runs a node of a Raft group on trio: disk, messages, time and a state machine around the core.

The caller:

1. Opens the log (`consensus.storage.open_log`); a founder writes `consensus.founding.founding` to it if it is empty.
2. Makes a `RaftNode` and starts `run` in a nursery. The state machine starts empty: the whole log is applied to it.
3. Hands every message from peers to `receive`. What the node gives to `send` may be lost, late or out of order, but a
   PROPOSE must not arrive twice, or the proposal may take effect twice: send it once, over a stream.
4. Closes the log when `run` has ended. If it ended with an error, this process is no member any longer.
"""

import random
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final, Protocol

import trio

from consensus.config import RaftConfig
from consensus.errors import (
    ConsensusError,
    MalformedMessage,
    NodeStopped,
    ProposalDropped,
    UnknownPeer,
)
from consensus.log import data_bytes
from consensus.messages import (
    ConfChange,
    ConfChangeSet,
    Configuration,
    Entry,
    EntryKind,
    Message,
    MessageKind,
    Role,
)
from consensus.proposals import Envelope, Proposal, Proposals, unwrap, wrap
from consensus.raft import Raft
from consensus.ready import Ready
from consensus.reconfiguration import decode_change
from consensus.status import Status, status_of
from consensus.storage import DurableLog

INBOX_MESSAGES_MAX: Final = 4096
"""Several round trips of a busy group. What does not fit is dropped, and Raft sends it again."""
INBOX_BYTES_MAX: Final = 64 << 20
"""Entry data in the inbox: what one leader may send ahead of this node's answers, and more."""
WAITING_BYTES_MAX: Final = 64 << 20
"""Proposals of this process that wait: as much as a leader takes on uncommitted."""


class Clock(Protocol):
    """Time, as the node sees it: monotonic seconds."""

    def now(self) -> float: ...

    async def sleep_until(self, deadline: float) -> None:
        """Return at `deadline` or later; at once, after a checkpoint, if it is past."""
        ...


class StateMachine(Protocol):
    """What the log is applied to, on every member in the same order."""

    def apply(self, index: int, data: bytes) -> object:
        """Apply an entry that was proposed. The result goes to its proposer, and depends on the entries alone.

        It blocks the node, so it must be quick. An exception ends the node: the entry cannot be skipped.
        """
        ...


class RunBlocking(Protocol):
    """Runs a blocking call elsewhere, such as `trio.to_thread.run_sync`."""

    def __call__(self, call: Callable[[], None], /) -> Awaitable[None]: ...


class RaftNode:
    """One node of a group.

    Args:
        config: the core's settings; its times are seconds of `clock`.
        log: the node's log, opened.
        machine: see `StateMachine`.
        clock: the only source of time.
        run_blocking: runs the disk's work.
        rng: for election timeouts, and for telling this start of the node from any other.
        send: takes a message to `message.to`, without waiting. It may drop it.
        waiting_bytes_max: proposals of this process that may wait, with what it takes to keep them.
    """

    def __init__(
        self,
        config: RaftConfig,
        *,
        log: DurableLog,
        machine: StateMachine,
        clock: Clock,
        run_blocking: RunBlocking,
        rng: random.Random,
        send: Callable[[Message], None],
        waiting_bytes_max: int = WAITING_BYTES_MAX,
    ) -> None:
        self._config = config
        self._log = log
        self._machine = machine
        self._clock = clock
        self._run_blocking = run_blocking
        self._send = send
        self._raft = Raft(config, log, now=clock.now(), rng=rng)
        self._incarnation = rng.getrandbits(64)
        self._proposals = Proposals(bytes_max=waiting_bytes_max)
        self._inbox: deque[Message] = deque()
        self._inbox_bytes = 0
        self._messages_dropped = 0
        self._messages_refused = 0
        self._work = trio.Event()
        self._changed = trio.Event()
        self._leads = trio.Event()
        # When the core wants to be woken; None while the loop is at work and will ask it anyway.
        self._core_deadline: float | None = None
        self._alarm_at: float | None = None
        self._alarm = trio.CancelScope()
        self._stopped = False

    # For the application.

    async def propose(self, data: bytes, *, timeout_s: float) -> object:
        """Have `data` agreed on. Any member may ask: the proposal goes to the leader.

        Returns:
            What the state machine's `apply` returned for it, here.

        Raises:
            ProposalDropped: it is surely in no log. Proposing again is safe.
            Overloaded: so, because too much is waiting.
            NodeStopped: so, because the node does not run.
            OutcomeUnknown: the time was over, or the node stopped: it may be agreed on or not.
            ValueError: it is larger than one append may be.
        """
        size = len(data)
        if size > self._config.append_bytes_max:
            raise ValueError(
                f"the proposal has {size} bytes and append_bytes_max is {self._config.append_bytes_max}: split it, or"
                " keep large data elsewhere and propose where it is"
            )
        return await self._submit(data, timeout_s=timeout_s)

    async def change_configuration(self, change: ConfChange | ConfChangeSet, *, timeout_s: float) -> Configuration:
        """Have a change of the configuration agreed on and put in force. Its context is the driver's own.

        Returns:
            The configuration in force after it.

        Raises:
            ConfigurationRefused: on the leader: it does not fit, or another change is under way.
            ProposalDropped, Overloaded, NodeStopped, OutcomeUnknown: as in `propose`. A leader that refuses a change
                which was forwarded to it does not answer.
        """
        configuration = await self._submit(change, timeout_s=timeout_s)
        assert isinstance(configuration, Configuration)
        return configuration

    async def _submit(self, content: bytes | ConfChange | ConfChangeSet, *, timeout_s: float) -> object:
        self._check_running()
        settled = trio.Event()
        deadline = self._clock.now() + timeout_s
        proposal = self._proposals.add(content, deadline=deadline, wake=settled.set)
        self._work.set()
        self._ring_by(deadline)
        try:
            await settled.wait()
        finally:
            self._proposals.withdraw(proposal)
        return proposal.outcome()

    def transfer_leadership(self, to: int) -> None:
        """As leader, have a voter take over. Whether it does shows in `status`."""
        self._check_running()
        if self._raft.role is not Role.LEADER:
            raise ProposalDropped(f"node {self._raft.id} does not lead: ask node {self._raft.leader}")
        self._raft.transfer_leadership(to)
        self._work.set()

    @property
    def role(self) -> Role:
        """What the node is at this moment; `status` says it with all else."""
        return self._raft.role

    @property
    def leader(self) -> int:
        """The leader of the present term, as far as the node knows; 0 for nobody."""
        return self._raft.leader

    def status(self) -> Status:
        """The node at this moment."""
        return status_of(
            self._raft,
            running=not self._stopped,
            messages_dropped=self._messages_dropped,
            messages_refused=self._messages_refused,
        )

    async def status_changed(self) -> Status:
        """Wait until the node has done something, and return its status. Look at `status` first.

        Raises:
            NodeStopped: nothing will change any more.
        """
        self._check_running()
        await self._changed.wait()
        self._check_running()
        return self.status()

    async def until_leader(self) -> None:
        """Wait until the node leads, which one that has stopped never does."""
        await self._leads.wait()

    def _check_running(self) -> None:
        if self._stopped:
            raise NodeStopped(f"node {self._raft.id} has stopped: ask another one, or start it again")

    # For the network.

    def receive(self, message: Message) -> None:
        """Take a message from a peer, to be looked at soon. Dropped if too many wait."""
        size = data_bytes(message.entries)
        # Snapshots are never sent as long as no log is compacted, so whoever sends one is no peer of this kind.
        refused = message.kind is MessageKind.SNAPSHOT
        if refused or self._stopped:
            self._messages_refused += refused
        elif len(self._inbox) >= INBOX_MESSAGES_MAX or self._inbox_bytes + size > INBOX_BYTES_MAX:
            self._messages_dropped += 1
        else:
            self._inbox.append(message)
            self._inbox_bytes += size
            self._work.set()

    def report_unreachable(self, node: int) -> None:
        """Messages to that node were lost for certain, as when its link broke."""
        if not self._stopped:
            self._raft.report_unreachable(node)

    # The loop.

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until cancelled, once.

        Raises:
            StorageFailed: the disk failed. Nothing that was not durable has been acknowledged.
            LostLog: the disk forgot what was acknowledged.
            ExceptionGroup: the state machine raised, or a bug.
        """
        self._check_running()
        failure: ConsensusError | None = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_time)
                task_status.started()
                try:
                    while True:
                        await self._turn()
                except ConsensusError as error:
                    failure = error
                    nursery.cancel_scope.cancel()
        finally:
            self._stopped = True
            self._proposals.stop()
            self._changed.set()
            self._note_role(Role.FOLLOWER)
        if failure is not None:
            raise failure

    async def _turn(self) -> None:
        """Take in what has come, carry out batches until nothing is left to do, and wait."""
        self._take_in()
        while (ready := self._raft.ready()) is not None:
            await self._carry_out(ready)
            self._announce()  # who waits hears of it also where there is always more to do
            if self._work.is_set() or ready.committed_entries:  # which may have left this node alone
                self._take_in()
        self._announce()
        self._core_deadline = self._raft.next_deadline
        self._ring_by(self._core_deadline)
        await self._work.wait()
        self._core_deadline = None

    def _take_in(self) -> None:
        self._work = trio.Event()
        now = self._clock.now()
        while self._inbox:
            self._take_message(self._inbox.popleft(), now)
        self._inbox_bytes = 0
        self._take_proposals()
        # After the messages: a node that was held up hears first that its leader is alive.
        self._raft.wake(now)
        alone = self._raft.configuration.electorate == (self._raft.id,)
        if alone and self._raft.role is Role.FOLLOWER:
            # There is nobody to wait for.
            self._raft.campaign(now)

    def _take_message(self, message: Message, now: float) -> None:
        try:
            if message.kind is MessageKind.PROPOSE:
                self._check_forwarded(message)
            self._raft.receive(message, now)
        except (MalformedMessage, UnknownPeer, ProposalDropped):
            self._messages_refused += 1

    def _check_forwarded(self, message: Message) -> None:
        """Let a proposal pass that this node may append as the leader that its proposer took it for."""
        if self._raft.role is not Role.LEADER:
            raise ProposalDropped(f"node {self._raft.id} does not lead")
        for entry in message.entries:
            if entry.kind is EntryKind.NORMAL:
                envelope, _ = unwrap(entry.data)
            else:
                change = decode_change(entry)
                envelope, _ = unwrap(change.context)
                refused = self._raft.refusal(change)
                if refused is not None:
                    raise refused
            if envelope.term != self._raft.term:
                raise ProposalDropped(f"it was meant for the leader of term {envelope.term}")
            if envelope.proposer != message.sender:
                raise MalformedMessage(f"node {message.sender} forwards in the name of node {envelope.proposer}")

    def _take_proposals(self) -> None:
        """Propose all that waits, much of it together: one append and one sync for the whole."""
        while batch := self._proposals.next_batch(self._config.append_bytes_max):
            term = self._raft.term
            try:
                self._propose(batch, term)
            except ProposalDropped as dropped:
                for proposal in batch:
                    self._proposals.refuse(proposal, dropped)
            else:
                for proposal in batch:
                    self._proposals.mark_sent(proposal, term=term)

    def _propose(self, batch: list[Proposal], term: int) -> None:
        data = []
        for proposal in batch:
            envelope = Envelope(self._raft.id, self._incarnation, proposal.sequence, term)
            if isinstance(proposal.content, bytes):
                data.append(wrap(envelope, proposal.content))
                continue
            assert len(batch) == 1, "a change goes alone"
            change = replace(proposal.content, context=wrap(envelope, b""))
            refused = self._raft.refusal(change) if self._raft.role is Role.LEADER else None
            if refused is not None:
                raise refused
            self._raft.propose_change(change)
        if data:
            self._raft.propose(*data)

    async def _carry_out(self, ready: Ready) -> None:
        """The duties 3 to 7 of the package's docstring."""
        assert ready.snapshot is None
        if ready.soft_state is not None:
            self._note_role(ready.soft_state.role)
        self._log.append(ready.hard_state, ready.entries)
        for message in ready.messages:
            self._send(message)
        if ready.must_sync:
            # Meanwhile messages and proposals gather for the next batch.
            await self._run_blocking(self._log.sync)
        elif ready.committed_entries:
            await trio.lowlevel.checkpoint()  # others have their turn, though a long log is applied
        for message in ready.messages_after_sync:
            self._send(message)
        for entry in ready.committed_entries:
            self._apply(entry)
        self._raft.advance()

    def _note_role(self, role: Role) -> None:
        if role is Role.LEADER:
            self._leads.set()
        elif self._leads.is_set():
            self._leads = trio.Event()

    def _apply(self, entry: Entry) -> None:
        if entry.kind is not EntryKind.NORMAL:
            change = decode_change(entry)
            configuration = self._raft.apply_change(change)
            # A founder's change has no envelope: nobody waits for it.
            if change.context:
                self._settle(unwrap(change.context)[0], configuration)
        elif entry.data:
            envelope, data = unwrap(entry.data)
            self._settle(envelope, self._machine.apply(entry.index, data))
        self._proposals.term_applied(entry.term)

    def _settle(self, envelope: Envelope, result: object) -> None:
        if envelope.proposer == self._raft.id and envelope.incarnation == self._incarnation:
            self._proposals.applied(envelope.sequence, result)

    def _announce(self) -> None:
        if self._changed.statistics().tasks_waiting:
            self._changed.set()
            self._changed = trio.Event()

    # Time.

    async def _keep_time(self) -> None:
        """One sleep for the core and for all that wait. Only a deadline that moves forward cuts it short."""
        while True:
            deadlines = [at for at in (self._core_deadline, self._proposals.next_deadline) if at is not None]
            at = min(deadlines, default=None)
            now = self._clock.now()
            if at is not None and at <= now:
                self._proposals.expire(now)
                if self._core_deadline is not None and self._core_deadline <= now:
                    self._core_deadline = None
                    self._work.set()
                continue
            self._alarm_at = at
            with trio.CancelScope() as self._alarm:
                if at is None:
                    await trio.sleep_forever()
                else:
                    await self._clock.sleep_until(at)
            self._alarm_at = None

    def _ring_by(self, deadline: float | None) -> None:
        """See to it that the alarm does not sleep past a deadline."""
        if deadline is not None and (self._alarm_at is None or deadline < self._alarm_at):
            self._alarm.cancel()
