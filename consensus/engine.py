"""What a node does, a turn at a time: messages, disk and state machine around the core. It waits for nothing itself."""

import contextlib
import random
from collections.abc import Callable, Sequence
from typing import Final

from consensus.applier import APPLIED_AT_ONCE, Applier
from consensus.config import RaftConfig
from consensus.environment import Clock, RunBlocking, StateMachine
from consensus.errors import MalformedMessage, ProposalDropped, UnknownPeer
from consensus.forwarding import check_forwarded, propose_all
from consensus.inbox import Inbox
from consensus.loss import LossWatch
from consensus.messages import FOLLOWER, LEADER, Message, MessageKind, Packet, Role
from consensus.outbox import Outbox
from consensus.proposals import Envelopes, Proposals
from consensus.raft import Raft
from consensus.readers import Readers
from consensus.ready import Appended, Ready, StorageAppend
from consensus.snapshots import Snapshots
from consensus.storage import DurableLog
from consensus.syncing import Syncs
from consensus.validation import check_message
from consensus.writer import Writer

ALONE_TIMEOUTS: Final = 10
"""Election timeouts in which a damaged node that knows of no other voter waits for one to be heard."""
HANG_TIMEOUTS: Final = 5
"""Election timeouts after which a sync counts as one that hangs. Slow ones take a second or two where much is written,
and not on the leader alone: to move on would help nobody then."""
READ_RETRY_HEARTBEATS: Final = 2
"""Heartbeats in which a read is not confirmed, and asked again: a round goes out with each, and may be lost."""
READ_NUMBER_BITS: Final = 62
"""Of the number before the first question for a read: those of two starts never meet."""


class Engine:
    """One node.

    Args:
        config, log, machine, clock, run_blocking, syncs, rng, send, waiting_bytes_max: see `consensus.driver.RaftNode`.
        soon: called when another turn is due.
        elsewhere: called when the log has to be synced elsewhere; `synced` follows.
        has_role: called with the node's role when it has another one.

    Attributes:
        deadline: when the next turn is due; None while one is under way or due anyway.
    """

    def __init__(
        self,
        config: RaftConfig,
        *,
        log: DurableLog,
        machine: StateMachine,
        clock: Clock,
        run_blocking: RunBlocking,
        syncs: Syncs,
        rng: random.Random,
        send: Callable[[Packet], None],
        waiting_bytes_max: int,
        soon: Callable[[], None],
        elsewhere: Callable[[], None],
        has_role: Callable[[Role], None],
    ) -> None:
        self._config = config
        self._clock = clock
        self._send = send
        self._soon = soon
        self._has_role = has_role
        self._log = log
        self.raft = raft = Raft(config, log, now=clock.now(), rng=rng, applied=log.snapshot().index)
        self.proposals = Proposals(bytes_max=waiting_bytes_max)
        self._envelopes = Envelopes(config.id, rng.getrandbits(64))
        self.readers = Readers(
            retry_s=READ_RETRY_HEARTBEATS * config.heartbeat_interval_s, before=rng.getrandbits(READ_NUMBER_BITS)
        )
        self._elsewhere = elsewhere
        self._writer = Writer(log, syncs=syncs, done=self._stored, elsewhere=self._sync_elsewhere)
        self._hang_s = HANG_TIMEOUTS * config.election_timeout_s
        self._syncing_since: float | None = None
        self._applier = Applier(machine, raft=raft, proposals=self.proposals, envelopes=self._envelopes)
        self.snapshots = Snapshots(
            config,
            raft=raft,
            log=log,
            machine=machine,
            applier=self._applier,
            clock=clock,
            run_blocking=run_blocking,
            send=send,
            written=self._sync_soon,
            arrived=self._snapshot_arrived,
            failed=self._snapshot_failed,
        )
        self._outbox = Outbox(log.initial_state()[0], send)
        self._inbox = Inbox()
        self.messages_refused = 0
        self._loss = LossWatch(log, raft, self._applier, patience_s=ALONE_TIMEOUTS * config.election_timeout_s)
        self._is_at_work = False
        self.deadline: float | None = None

    @property
    def messages_dropped(self) -> int:
        """How many messages found no room."""
        return self._inbox.dropped

    def receive(self, packet: Packet) -> None:
        """Take a message from a peer, for the next turn. Dropped if too many wait."""
        if isinstance(packet, Message):
            self._inbox.put(packet)
        else:
            self.snapshots.received(packet)

    def heard(self) -> None:
        """Another node is there."""
        self._loss.heard()

    def synced(self) -> None:
        """The log was synced elsewhere. A turn has to follow."""
        self._syncing_since = None
        self._writer.synced()

    def expire(self, now: float) -> bool:
        """Give up on those whose time is over. Whether a turn is due."""
        self._is_at_work = True  # who is told of it may propose something else
        try:
            expired = self.proposals.expire(now)
            self.readers.expire(now)
        finally:
            self._is_at_work = False
        if self.deadline is not None and self.deadline <= now:
            self.deadline = None
            return True
        return expired  # which may have made room for others

    def turn(self) -> bool:
        """Take in what has come, hand out what is to be done, write it, apply a part of what is agreed on.

        Returns:
            Whether there is more to do.

        Raises:
            StorageFailed, CorruptLog, LostLog, CorruptSnapshot: see `consensus.driver.RaftNode.run`.
        """
        if self._is_at_work:
            return True
        self._is_at_work = True
        try:
            now = self._clock.now()
            self.deadline = None
            self._take_in(now)
            has_more = self._work_through(now)
            if self._log.unreadable:  # as may have been found when nothing was applied
                self.snapshots.take_if_due()
            self._outbox.flush(now)
            if not has_more:
                self.deadline = earliest(
                    self.raft.next_deadline, self.readers.next_question, self._loss.deadline, self._outbox.due
                )
            return has_more
        finally:
            self._is_at_work = False

    def _work_through(self, now: float) -> bool:
        began = self._applier.index
        while True:
            while (ready := self.raft.ready()) is not None:
                self._hand_out(ready)
            if self.raft.role is LEADER:
                # Its clients wait for what is applied.
                has_applied = self._apply_some(now)
                has_written = self._writer.write()
            else:
                # Its leader waits for what is written.
                has_written = self._writer.write()
                has_applied = self._apply_some(now)
            if not has_applied and not has_written:
                return False
            if self._applier.index - began >= APPLIED_AT_ONCE:
                return True  # others have their turn

    def _apply_some(self, now: float) -> bool:
        applied = self._applier.apply_some(now)
        if applied is None:
            return False
        self.readers.applied(applied)
        self.snapshots.take_if_due()
        if self.proposals.are_held_back or (self.raft.role is FOLLOWER and self.raft.is_only_voter):
            self._soon()  # there may be room for them now; it may stand for election now
        return True

    # What comes in.

    def _take_in(self, now: float) -> None:
        for message in self._inbox.take_all():
            self._take_message(message, now)
        self._loss.check(now)
        # After the messages: a node that was held up hears first that its leader is alive.
        self.raft.wake(now)
        if self._syncing_since is not None and now >= self._syncing_since + self._hang_s:
            # If others agree without it, this node applies nothing of what it leads to.
            self.raft.hand_over(now)
        alone = self.raft.is_only_voter
        if alone and self.raft.role is FOLLOWER:
            # There is nobody to wait for.
            self.raft.campaign(now)
        # Alone, it will lead as soon as its own vote is on disk. And what would wait for the disk had better wait here.
        if (not alone or self.raft.role is LEADER) and not self._outbox.is_withholding:
            bytes_max = self._config.append_bytes_max
            if propose_all(self.proposals, self.raft, self._envelopes, bytes_max=bytes_max):
                self._soon()
        self._ask_for_reads(now)

    def _take_message(self, message: Message, now: float) -> None:
        try:
            if message.kind is MessageKind.PROPOSE:
                check_forwarded(message, self.raft)
            if message.kind is MessageKind.SNAPSHOT:
                check_message(message, receiver=self.raft.id)
                if self.snapshots.offered(message):
                    self.heard()
                    return
            self.raft.receive(message, now)
            if message.kind is MessageKind.PROPOSE:
                self._outbox.await_commit(message.sender, self.raft.last_index)
            self.heard()
        except (MalformedMessage, UnknownPeer, ProposalDropped):
            self.messages_refused += 1

    def _ask_for_reads(self, now: float) -> None:
        request = self.readers.ask(now)
        if request is not None:
            with contextlib.suppress(ProposalDropped):  # there is no leader yet: it is asked again
                self.raft.read(request, now)

    # What is to be done.

    def _hand_out(self, ready: Ready) -> None:
        if ready.soft_state is not None:
            self._has_role(ready.soft_state.role)
            self.readers.ask_again()
            self._soon()
        append = ready.append
        messages: Sequence[Message] = ready.messages
        if any(message.kind is MessageKind.SNAPSHOT for message in messages):
            messages = [one for one in messages if one.kind is not MessageKind.SNAPSHOT or self.snapshots.sends(one)]
        self._outbox.take(messages, append)
        for state in ready.read_states:
            self.readers.answered(state)
        if append is not None:
            self._writer.add(append)
        if ready.apply is not None:
            self._applier.add(ready.apply)
        if ready.read_states:
            self.readers.applied(self.raft.applied_index)
            self._soon()  # those that came meanwhile are asked for now

    def _stored(self, work: StorageAppend) -> None:
        """Work is durable: what it promises may leave."""
        now = self._clock.now()
        if work.snapshot is not None:
            self.snapshots.install(work.snapshot)
        if self._outbox.stored(work):
            self._soon()  # so did what was to be proposed
        for response in work.responses:
            if isinstance(response, Appended):
                self.raft.stored(response, now)
            elif response.to == self.raft.id:
                self.raft.receive_own(response, now)
            else:
                self._send(response)
        if work.snapshot is not None:
            self.readers.applied(self.raft.applied_index)
            self._soon()  # what it brought may be all that others waited for

    def _sync_elsewhere(self) -> None:
        self._syncing_since = self._clock.now()
        self._elsewhere()

    # Snapshots.

    def _sync_soon(self) -> None:
        """Have what the log has queued by itself made durable."""
        self._writer.add(StorageAppend(None, (), None, must_sync=True, responses=()))
        self._soon()

    def _snapshot_arrived(self, message: Message) -> bool:
        """A snapshot is here: have the core take it in place of its log. Whether it does."""
        assert not self._is_at_work
        self._is_at_work = True
        try:
            now = self._clock.now()
            # What is handed out has to be applied before: the core then goes on from the snapshot's configuration.
            while self._apply_some(now):
                pass
            with contextlib.suppress(MalformedMessage, UnknownPeer):
                self.raft.receive(message, now)
        finally:
            self._is_at_work = False
        self._soon()
        return message.snapshot == self.raft.pending_snapshot

    def _snapshot_failed(self, node: int) -> None:
        self.raft.report_snapshot(node, delivered=False)
        self._soon()


def earliest(*deadlines: float | None) -> float | None:
    """The first of several deadlines; None if there is none."""
    first = None
    for deadline in deadlines:
        if deadline is not None and (first is None or deadline < first):
            first = deadline
    return first
