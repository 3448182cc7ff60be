"""Runs a node of a Raft group on trio: disk, messages, time and a state machine around the core.

The caller:

1. Opens the log (`consensus.opening.open_log`); a founder writes `consensus.founding.founding` to it if it is empty.
2. Makes a `RaftNode` and starts `run` in a nursery. The state machine starts empty: it is given the log's snapshot, if
   there is one, and what follows it in the log.
3. Hands every message from peers to `receive`. What the node gives to `send` may be lost, late or out of order, but a
   PROPOSE must not arrive twice, or the proposal may take effect twice: send it once, over a stream.
4. Closes the log when `run` has ended. If it ended with an error, this process is no member any longer.
"""

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final

import trio

from consensus.alarm import Alarm
from consensus.config import RaftConfig
from consensus.engine import Engine, earliest
from consensus.environment import Clock, RunBlocking, StateMachine
from consensus.errors import ConsensusError, NodeStopped, ProposalDropped
from consensus.messages import ConfChange, ConfChangeSet, Configuration, Packet, Role
from consensus.proposals import Content, Proposal
from consensus.status import Status, status_of
from consensus.storage import DurableLog
from consensus.syncing import SlowSyncs, Syncs
from consensus.turns import Turns
from consensus.waiting import Waiter
from consensus.watching import Watch

WAITING_BYTES_MAX: Final = 64 << 20
"""Proposals of this process that are under way: as much as a leader takes on uncommitted."""


class RaftNode:
    """One node of a group.

    Args:
        config: the core's settings; its times are seconds of `clock`.
        log: the node's log, opened.
        machine: see `StateMachine`.
        clock: the only source of time.
        run_blocking: runs the disk's work.
        syncs: runs the syncs of the log, such as `QuickSyncs`; all of them by `run_blocking` if not given.
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
        syncs: Syncs | None = None,
        waiting_bytes_max: int = WAITING_BYTES_MAX,
    ) -> None:
        self._config = config
        self._clock = clock
        self._log = log
        self._syncs = syncs or SlowSyncs(run_blocking)
        self._slow = trio.Event()
        self._watch = Watch()
        self._turns = Turns(self._turn)
        self._engine = engine = Engine(
            replace(config, async_storage=True),
            log=log,
            machine=machine,
            clock=clock,
            run_blocking=run_blocking,
            syncs=self._syncs,
            rng=rng,
            send=send,
            waiting_bytes_max=waiting_bytes_max,
            soon=self._turns.soon,
            elsewhere=self._sync_elsewhere,
            has_role=self._watch.has_role,
        )
        self._raft, self._proposals, self._readers = engine.raft, engine.proposals, engine.readers
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
            ProposalDropped: it is surely in no log. Proposing again is safe. At once, as long as no leader is known, as
                right after the start: `status_changed` tells when there is one.
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
            settled: called once, within the node's own work, which may be before this returns: the argument's
                `outcome()` returns what `propose` returns, or raises what it raises. It must be quick, and must not
                raise itself.

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
        self._turns.soon()
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
                self._turns.soon()  # there may be room for others now
        return proposal.outcome()

    def _enqueue(self, content: Content, timeout_s: float, settled: Callable[[Waiter], None]) -> Proposal:
        self._check_running()
        deadline = self._clock.now() + timeout_s
        is_first = not self._proposals
        proposal = self._proposals.add(content, deadline, settled)
        self._alarm.ring_by(deadline)
        if is_first and len(proposal.data) == 1:
            self._turns.at_once()
        else:
            self._turns.soon()  # together with what others propose meanwhile
        return proposal

    def transfer_leadership(self, to: int) -> None:
        """As leader, have a voter take over. Whether it does shows in `status`."""
        self._check_running()
        if self._raft.role is not Role.LEADER:
            raise ProposalDropped(f"node {self._raft.id} does not lead: ask node {self._raft.leader}")
        self._raft.transfer_leadership(to)
        self._turns.soon()

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
            messages_dropped=self._engine.messages_dropped,
            messages_refused=self._engine.messages_refused,
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

    def receive(self, *messages: Packet) -> None:
        """Take messages from peers, those that came together at once. Dropped if too many wait.

        They are looked at here if the node rests, which may take as long as a quick sync.
        """
        if self._stopped:
            return
        for message in messages:
            self._engine.receive(message)
        self._turns.at_once()

    def report_unreachable(self, node: int) -> None:
        """Messages to that node were lost for certain, as when its link broke."""
        if not self._stopped:
            self._raft.report_unreachable(node)

    def report_others(self) -> None:
        """Others lead the group, though none of them sends anything here: it has been heard of them in another way.

        So a node that is no member any more needs nothing of what its disk has lost.
        """
        self._engine.heard()

    # Its turns.

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until cancelled, once.

        Raises:
            StorageFailed: the disk failed. Nothing that was not durable has been acknowledged.
            CorruptLog: entries can't be read, and no peer can give them back to this process.
            CorruptSnapshot: the log's snapshot can't be read.
            LostLog: the disk forgot what was acknowledged.
            MalformedMessage, ConfigurationRefused: something is agreed on that no correct node proposes.
            ExceptionGroup: the state machine raised, or a bug.
        """
        self._check_running()
        snapshots = self._engine.snapshots
        try:
            await snapshots.begin()
            async with trio.open_nursery() as nursery:
                self._scope = nursery.cancel_scope
                nursery.start_soon(self._alarm.run)
                for job in (self._sync, snapshots.take, snapshots.serve, snapshots.watch, snapshots.fetch):
                    nursery.start_soon(self._until_failure, job)
                task_status.started()
                try:
                    await self._until_failure(self._turns.run)
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

    def _turn(self) -> bool:
        if self._failure is not None or self._stopped:
            return False
        has_more = self._engine.turn()
        self._watch.announce()
        self._alarm.ring_by(self._engine.deadline)
        return has_more

    def _sync_elsewhere(self) -> None:
        self._slow.set()

    async def _sync(self) -> None:
        """Run the syncs that may take long."""
        while True:
            await self._slow.wait()
            self._slow = trio.Event()
            await self._syncs(self._log.sync)
            self._engine.synced()
            self._turns.at_once()

    # Time.

    def _next_deadline(self) -> float | None:
        return earliest(self._engine.deadline, self._proposals.next_deadline, self._readers.next_deadline)

    def _due(self, now: float) -> None:
        if self._engine.expire(now):
            self._turns.at_once()
