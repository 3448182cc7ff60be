"""Runs a node of a Raft group on trio: disk, messages, time and a state machine around the core.

The caller:

1. Opens the log (`consensus.storage.open_log`); a founder writes `consensus.founding.founding` to it if it is empty.
2. Makes a `RaftNode` and starts `run` in a nursery. The state machine starts empty: it is given the log's snapshot, if
   there is one, and what follows it in the log.
3. Hands every message from peers to `receive`. What the node gives to `send` may be lost, late or out of order, but a
   PROPOSE must not arrive twice, or the proposal may take effect twice: send it once, over a stream.
4. Closes the log when `run` has ended. If it ended with an error, this process is no member any longer.
"""

import contextlib
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final

import trio

from consensus.alarm import Alarm
from consensus.applier import Applier
from consensus.config import RaftConfig
from consensus.environment import Clock, RunBlocking, StateMachine
from consensus.errors import ConsensusError, MalformedMessage, NodeStopped, ProposalDropped, UnknownPeer
from consensus.forwarding import check_forwarded, propose_all
from consensus.inbox import Inbox
from consensus.loss import LossWatch
from consensus.messages import ConfChange, ConfChangeSet, Configuration, Message, MessageKind, Packet, Role
from consensus.outbox import Outbox
from consensus.proposals import Content, Envelopes, Proposal, Proposals
from consensus.raft import Raft
from consensus.readers import Readers
from consensus.ready import Appended, Ready, StorageAppend
from consensus.snapshots import Snapshots
from consensus.status import Status, status_of
from consensus.storage import DurableLog
from consensus.validation import check_message
from consensus.waiting import Waiter
from consensus.watching import Watch
from consensus.writer import Writer

WAITING_BYTES_MAX: Final = 64 << 20
"""Proposals of this process that are under way: as much as a leader takes on uncommitted."""
ALONE_TIMEOUTS: Final = 10
"""Election timeouts in which a damaged node that knows of no other voter waits for one to be heard."""
READ_RETRY_HEARTBEATS: Final = 2
"""Heartbeats in which a read is not confirmed, and asked again: a round goes out with each, and may be lost."""
READ_NUMBER_BITS: Final = 62
"""Of the number before the first question for a read: those of two starts never meet."""


class RaftNode:
    """One node of a group.

    Args:
        config: the core's settings; its times are seconds of `clock`.
        log: the node's log, opened.
        machine: see `StateMachine`.
        clock: the only source of time.
        run_blocking: runs the disk's work.
        run_sync: runs the syncs of the log, such as `QuickSyncs`; `run_blocking` if not given.
        rng: for election timeouts, and for telling this start of the node from any other.
        send: takes a message to `message.to`, without waiting. It may drop it.
        waiting_bytes_max: proposals of this process that may be under way, with what it takes to keep them. As much
            again waits behind them, in order.
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
        send: Callable[[Packet], None],
        run_sync: RunBlocking | None = None,
        waiting_bytes_max: int = WAITING_BYTES_MAX,
    ) -> None:
        self._config = replace(config, async_storage=True)
        self._clock = clock
        self._send = send
        self._log = log
        self._raft = Raft(self._config, log, now=clock.now(), rng=rng, applied=log.snapshot().index)
        self._proposals = Proposals(bytes_max=waiting_bytes_max)
        self._envelopes = Envelopes(config.id, rng.getrandbits(64))
        self._readers = Readers(
            retry_s=READ_RETRY_HEARTBEATS * config.heartbeat_interval_s, before=rng.getrandbits(READ_NUMBER_BITS)
        )
        self._writer = Writer(log, run_sync=run_sync or run_blocking, done=self._stored)
        self._applier = Applier(machine, raft=self._raft, proposals=self._proposals, envelopes=self._envelopes)
        self._snapshots = Snapshots(
            self._config,
            raft=self._raft,
            log=log,
            machine=machine,
            applier=self._applier,
            clock=clock,
            run_blocking=run_blocking,
            send=send,
            written=self._writer.sync_soon,
            arrived=self._snapshot_arrived,
            failed=self._snapshot_failed,
        )
        self._outbox = Outbox(log.initial_state()[0], send)
        self._inbox = Inbox()
        self._messages_refused = 0
        self._loss = LossWatch(
            log, self._raft, self._applier, alone_until=clock.now() + ALONE_TIMEOUTS * config.election_timeout_s
        )
        self._work = trio.Event()
        self._watch = Watch()
        # When the loop wants to be woken; None while it is at work and will look anyway.
        self._loop_deadline: float | None = None
        self._alarm = Alarm(clock, next_deadline=self._next_deadline, due=self._due)
        self._scope = trio.CancelScope()
        self._failure: ConsensusError | None = None
        self._stopped = False

    # For the application.

    async def propose(self, data: bytes, *, timeout_s: float) -> object:
        """Have `data` agreed on. Any member may ask: the proposal goes to the leader.

        Returns:
            What the state machine's `apply` returned for it, here.

        Raises:
            ProposalDropped: it is surely in no log. Proposing again is safe.
            Overloaded: so, because too much is waiting, or was until the time was over.
            NodeStopped: so, because the node does not run.
            OutcomeUnknown: the time was over, or the node stopped: it may be agreed on or not.
            ValueError: it is larger than one append may be.
            TypeError: it is not bytes.
        """
        self._check_data(data)
        return await self._submit(data, timeout_s=timeout_s)

    def propose_soon(self, data: bytes, *, timeout_s: float, settled: Callable[[Waiter], None]) -> None:
        """`propose` for who has many under way and wants no task for each.

        Args:
            data: what to propose.
            timeout_s: as for `propose`.
            settled: called once, within the node's own work: the argument's `outcome()` returns what `propose`
                returns, or raises what it raises. It must be quick, and must not raise itself.

        Raises:
            Overloaded, NodeStopped, ValueError, TypeError: as `propose`; then `settled` is never called.
        """
        self._check_data(data)
        self._enqueue(data, timeout_s, settled)

    def propose_batch(self, data: Sequence[bytes], *, timeout_s: float, settled: Callable[[Waiter], None]) -> None:
        """`propose_soon` for many that came together, at a fraction of its cost. They take their places in this order.

        Args:
            data: one or more pieces, each an entry of its own; together not more than one append may be.
            timeout_s: as for `propose`, for all.
            settled: as for `propose_soon`, once, for all: `outcome()` returns the list of what the state machine's
                `apply` returned for each, or raises what `propose` raises. `OutcomeUnknown` means that any number of
                them, from the first on, may be agreed on; all others that none is in any log.

        Raises:
            Overloaded, NodeStopped, ValueError, TypeError: as `propose`; then `settled` is never called.
        """
        if not data:
            raise ValueError("nothing is proposed: give at least one entry's data")
        self._check_data(*data)
        self._enqueue(tuple(data), timeout_s, settled)

    def _check_data(self, *data: bytes) -> None:
        for one in data:
            if type(one) is not bytes:
                raise TypeError(f"{one!r:.100} is not bytes, and nothing else is agreed on")
        size = sum(map(len, data))
        if size > self._config.append_bytes_max:
            raise ValueError(
                f"the proposal has {size} bytes and append_bytes_max is {self._config.append_bytes_max}: split it, or"
                " keep large data elsewhere and propose where it is"
            )

    async def read_index(self, *, timeout_s: float) -> int:
        """Wait until the state machine here has all that was agreed on, anywhere, before this call. Any member may ask.

        Whoever looks at it then, before anything else is awaited, reads linearizably. It costs no entry in the log, and
        one round of the leader answers all who wait.

        Returns:
            The index up to which the log is applied here.

        Raises:
            ProposalDropped: no leader confirmed it in time, or the entries did not come. Reading again is safe.
            Overloaded: so, because too many reads wait.
            NodeStopped: so, because the node does not run.
        """
        self._check_running()
        settled = trio.Event()
        deadline = self._clock.now() + timeout_s
        reader = self._readers.add(deadline=deadline, wake=lambda _: settled.set())
        self._work.set()
        self._alarm.ring_by(deadline)
        try:
            await settled.wait()
        finally:
            self._readers.withdraw(reader)
        index = reader.outcome()
        assert isinstance(index, int)
        return index

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
        settled = trio.Event()
        proposal = self._enqueue(content, timeout_s, lambda _: settled.set())
        try:
            await settled.wait()
        finally:
            if not proposal.settled:
                self._proposals.withdraw(proposal)
                self._work.set()  # there may be room for others now
        return proposal.outcome()

    def _enqueue(self, content: Content, timeout_s: float, settled: Callable[[Waiter], None]) -> Proposal:
        self._check_running()
        deadline = self._clock.now() + timeout_s
        proposal = self._proposals.add(content, deadline, settled)
        self._work.set()
        self._alarm.ring_by(deadline)
        return proposal

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
            messages_dropped=self._inbox.dropped,
            messages_refused=self._messages_refused,
            damage="" if self._log.damage is None else str(self._log.damage),
        )

    async def status_changed(self) -> Status:
        """Wait until the node has done something, and return its status. Look at `status` first.

        Raises:
            NodeStopped: nothing will change any more.
        """
        self._check_running()
        await self._watch.changed()
        self._check_running()
        return self.status()

    async def until_leader(self) -> None:
        """Wait until the node leads, which one that has stopped never does."""
        await self._watch.until_leader()

    def _check_running(self) -> None:
        if self._stopped:
            raise NodeStopped(f"node {self._raft.id} has stopped: ask another one, or start it again")

    # For the network.

    def receive(self, message: Packet) -> None:
        """Take a message from a peer, to be looked at soon. Dropped if too many wait."""
        if self._stopped:
            return
        if not isinstance(message, Message):
            self._snapshots.received(message)
        elif self._inbox.put(message):
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
            CorruptLog: entries can't be read, and no peer can give them back to this process.
            CorruptSnapshot: the log's snapshot can't be read.
            LostLog: the disk forgot what was acknowledged.
            ExceptionGroup: the state machine raised, or a bug.
        """
        self._check_running()
        snapshots = self._snapshots
        try:
            await snapshots.begin()
            async with trio.open_nursery() as nursery:
                self._scope = nursery.cancel_scope
                nursery.start_soon(self._alarm.run)
                for job in (self._writer.run, snapshots.take, snapshots.serve, snapshots.watch, snapshots.fetch):
                    nursery.start_soon(self._until_failure, job)
                task_status.started()
                try:
                    await self._until_failure(self._loop)
                finally:
                    self._stop()  # though the disk's work, which nothing interrupts, may go on for long
        finally:
            self._stop()
        if self._failure is not None:
            raise self._failure

    def _stop(self) -> None:
        """Nothing is taken any more, and nobody waits."""
        self._stopped = True
        self._proposals.stop()
        self._readers.stop()
        self._watch.stop()

    async def _until_failure(self, job: Callable[[], Awaitable[None]]) -> None:
        """Nothing goes on after a failure."""
        try:
            await job()
        except ConsensusError as error:
            self._failure = self._failure or error
            self._scope.cancel()

    async def _loop(self) -> None:
        """Take in what has come, hand out what is to be done, apply a part of what is agreed on; then wait for more."""
        while self._failure is None:
            self._take_in()
            while (ready := self._raft.ready()) is not None:
                self._hand_out(ready)
            now = self._clock.now()
            self._outbox.flush(now)
            applied = self._applier.apply_some(now)
            self._watch.announce()  # who waits hears of it also where there is always more to do
            if applied is not None:
                self._readers.applied(applied)
                self._snapshots.applied()
                if self._applier.has_more:
                    await trio.lowlevel.checkpoint()  # others have their turn
                continue
            self._loop_deadline = _earliest(
                self._raft.next_deadline, self._readers.next_question, self._loss.deadline, self._outbox.due
            )
            self._alarm.ring_by(self._loop_deadline)
            await self._work.wait()
            self._loop_deadline = None

    # What comes in.

    def _take_in(self) -> None:
        self._work = trio.Event()
        now = self._clock.now()
        self._loss.check(now)
        for message in self._inbox.take_all():
            self._take_message(message, now)
        # After the messages: a node that was held up hears first that its leader is alive.
        self._raft.wake(now)
        alone = self._raft.is_only_voter
        if alone and self._raft.role is Role.FOLLOWER:
            # There is nobody to wait for.
            self._raft.campaign(now)
        if not alone or self._raft.role is Role.LEADER:  # which it will be as soon as its own vote is on disk
            propose_all(self._proposals, self._raft, self._envelopes, bytes_max=self._config.append_bytes_max)
        self._ask_for_reads(now)

    def _take_message(self, message: Message, now: float) -> None:
        try:
            if message.kind is MessageKind.PROPOSE:
                check_forwarded(message, self._raft)
            if message.kind is MessageKind.SNAPSHOT:
                check_message(message, receiver=self._raft.id)
                if self._snapshots.offered(message):
                    return
            self._raft.receive(message, now)
            if message.kind is MessageKind.PROPOSE:
                self._outbox.await_commit(message.sender, self._raft.last_index)
            self._loss.heard()
        except (MalformedMessage, UnknownPeer, ProposalDropped):
            self._messages_refused += 1

    def _snapshot_arrived(self, message: Message) -> bool:
        """A snapshot is here: have the core take it in place of its log. Whether it does."""
        now = self._clock.now()
        # What is handed out has to be applied before: the core then goes on from the snapshot's configuration.
        while self._applier.apply_some(now) is not None:
            pass
        with contextlib.suppress(MalformedMessage, UnknownPeer):
            self._raft.receive(message, now)
        self._work.set()
        return message.snapshot == self._raft.pending_snapshot

    def _snapshot_failed(self, node: int) -> None:
        self._raft.report_snapshot(node, delivered=False)
        self._work.set()

    def _ask_for_reads(self, now: float) -> None:
        request = self._readers.ask(now)
        if request is not None:
            with contextlib.suppress(ProposalDropped):  # there is no leader yet: it is asked again
                self._raft.read(request, now)

    # What is to be done.

    def _hand_out(self, ready: Ready) -> None:
        if ready.soft_state is not None:
            self._watch.has_role(ready.soft_state.role)
            self._readers.ask_again()
            self._work.set()
        append = ready.append
        messages: Sequence[Message] = ready.messages
        if any(message.kind is MessageKind.SNAPSHOT for message in messages):
            messages = [one for one in messages if one.kind is not MessageKind.SNAPSHOT or self._snapshots.sends(one)]
        self._outbox.take(messages, append)
        for state in ready.read_states:
            self._readers.answered(state)
        if append is not None:
            self._writer.add(append)
        if ready.apply is not None:
            self._applier.add(ready.apply)
        if ready.read_states:
            self._readers.applied(self._raft.applied_index)
            self._work.set()  # those that came meanwhile are asked for now

    def _stored(self, work: StorageAppend) -> None:
        """Work is durable: what it promises may leave."""
        if self._failure is not None:
            return
        now = self._clock.now()
        if work.snapshot is not None:
            self._snapshots.install(work.snapshot)
        self._outbox.stored(work)
        for response in work.responses:
            if isinstance(response, Appended):
                self._raft.stored(response, now)
            elif response.to == self._raft.id:
                self._raft.receive_own(response, now)
            else:
                self._send(response)
        if work.snapshot is not None:
            self._readers.applied(self._raft.applied_index)
        self._work.set()

    # Time.

    def _next_deadline(self) -> float | None:
        return _earliest(self._loop_deadline, self._proposals.next_deadline, self._readers.next_deadline)

    def _due(self, now: float) -> None:
        expired = self._proposals.expire(now)
        self._readers.expire(now)
        is_due = self._loop_deadline is not None and self._loop_deadline <= now
        if is_due or expired:  # which may have made room for others
            self._loop_deadline = None
            self._work.set()


def _earliest(*deadlines: float | None) -> float | None:
    return min([at for at in deadlines if at is not None], default=None)
