"""One node of a Raft group, without I/O: messages, time and proposals in, batches of work out.

The duties of whoever drives it are in the docstring of the package.
"""

import random
from collections.abc import Mapping
from typing import Final

from consensus import election, reads, replication, steps
from consensus.config import RaftConfig
from consensus.core import Core
from consensus.errors import ConfigurationRefused, ProposalDropped, UnknownPeer
from consensus.memory import LogView, Lost
from consensus.messages import (
    FOLLOWER,
    LEADER,
    NO_NODE,
    NORMAL,
    ConfChange,
    ConfChangeSet,
    Configuration,
    Entry,
    Message,
    MessageKind,
    Role,
    Snapshot,
)
from consensus.progress import Progress
from consensus.ready import Appended, Ready, StorageAppend, StorageApply
from consensus.reconfiguration import encode_change, reconfigure
from consensus.validation import check_message

_ANSWERS: Final = frozenset(
    {
        MessageKind.APPEND_RESPONSE,
        MessageKind.VOTE_RESPONSE,
        MessageKind.PRE_VOTE_RESPONSE,
        MessageKind.HEARTBEAT_RESPONSE,
    }
)


class Raft:
    """One node of a group.

    Args:
        config: the node's settings.
        storage: what is stored, for reading. Whatever a batch hands over must be readable there before `advance`.
        now: the present time, in the unit of the config's times. Time never goes back here: an earlier `now` counts
            as the latest one.
        rng: for election timeouts.
        applied: the index up to which the application has applied the log already.
    """

    def __init__(
        self, config: RaftConfig, storage: LogView, *, now: float, rng: random.Random, applied: int = 0
    ) -> None:
        self._core = Core(config, storage, applied=applied, now=now, rng=rng)
        self._soft_state = self._core.soft_state
        self._hard_state = self._core.hard_state
        self._outstanding: Ready | None = None
        self._is_asynchronous = config.async_storage
        # The node's own answers to the batch under way; see `Core.after_sync` for the bound.
        self._own_answers: tuple[Message, ...] = ()
        self._applying_bytes = 0

    # What can be asked.

    @property
    def id(self) -> int:
        return self._core.id

    @property
    def term(self) -> int:
        return self._core.term

    @property
    def role(self) -> Role:
        return self._core.role

    @property
    def leader(self) -> int:
        """The leader of the present term, as far as known; 0 for nobody."""
        return self._core.leader

    @property
    def commit_index(self) -> int:
        return self._core.log.committed

    @property
    def applied_index(self) -> int:
        return self._core.log.applied

    @property
    def last_index(self) -> int:
        return self._core.log.last

    @property
    def stored_index(self) -> int:
        """Up to which storage has the log as it is here; what it has behind that is about to be replaced."""
        return self._core.log.offset - 1

    @property
    def state(self) -> tuple[Role, int, int, int, int]:
        """Role, term, commit index, applied index and last index, for who looks at all of them often."""
        core, log = self._core, self._core.log
        return core.role, core.term, log.committed, log.applied, log.last

    @property
    def first_index(self) -> int:
        """The index of the first entry that is still in the log."""
        return self._core.log.first_index()

    @property
    def pending_snapshot(self) -> Snapshot | None:
        """The snapshot that replaces the log and is not stored yet."""
        return self._core.log.snapshot

    @property
    def snapshot_index(self) -> int:
        """The index of the latest snapshot; 0 for none."""
        return self._core.log.stored_snapshot().index

    @property
    def lost(self) -> Lost | None:
        """What the node's disk has lost of the log, until a leader has made it whole again."""
        return self._core.lost

    @property
    def is_only_voter(self) -> bool:
        """Whether this node is a quorum by itself, in the configuration in force."""
        return self.configuration.electorate == (self.id,)

    @property
    def configuration(self) -> Configuration:
        """The configuration in force: that of the last change applied."""
        return self._core.tracker.configuration

    @property
    def progress(self) -> Mapping[int, Progress]:
        """Each member's progress, by id. It means something on a leader only; look, but do not change it."""
        return self._core.tracker.progress

    @property
    def next_deadline(self) -> float | None:
        """When to call `wake` next; None if time alone will change nothing."""
        core = self._core
        if core.role is LEADER:
            heartbeat = core.heartbeat_sent + core.config.heartbeat_interval_s
            return min(heartbeat, core.election_began + core.config.election_timeout_s)
        return core.election_began + core.randomized_timeout if core.is_promotable else None

    def refusal(self, change: ConfChange | ConfChangeSet) -> ConfigurationRefused | None:
        """As leader, why the change would not be made if it were proposed now; None if it would be."""
        return replication.refusal(self._core, change)

    # What can be told.

    def receive(self, message: Message, now: float) -> None:
        """Take a message from a peer.

        Raises:
            MalformedMessage: no correct peer sends it. Nothing changed.
            UnknownPeer: an answer from a node outside the configuration. Nothing changed.
            ProposalDropped: a forwarded proposal that this node cannot take. Nothing changed.
            LostLog: the node's disk lost what it had acknowledged. The node must stop.
        """
        core = self._core
        check_message(message, receiver=core.id)
        if message.kind in _ANSWERS and message.sender not in core.tracker.progress:
            raise UnknownPeer(f"node {message.sender} is not in the configuration {self.configuration}")
        if now > core.now:
            core.now = now
        steps.step(core, message)

    def wake(self, now: float) -> None:
        """Do what is due: send heartbeats, check for a quorum, stand for election."""
        core = self._core
        self._tell(now)
        if core.is_leader and core.now >= core.election_began + core.config.election_timeout_s:
            core.election_began = core.now
            core.transferee = NO_NODE
            if core.config.check_quorum:
                replication.check_quorum(core)
            # Also what was put off during a transfer that came to nothing.
            replication.leave_joint_if_due(core)
        if core.is_leader:
            if core.now >= core.heartbeat_sent + core.config.heartbeat_interval_s:
                replication.broadcast_heartbeat(core)
        elif core.is_promotable and core.now >= core.election_began + core.randomized_timeout:
            core.election_began = core.now
            election.stand(core)

    def campaign(self, now: float) -> None:
        """Stand for election now.

        Without effect on a leader, on a learner, while a change waits to be applied, and, with `lease_reads`, within an
        election timeout of the last word from a leader, which may rely on that.
        """
        self._tell(now)
        election.stand(self._core)

    def propose(self, *data: bytes) -> None:
        """Propose entries, together and in this order. A follower forwards them to its leader, and they may be lost.

        Raises:
            ProposalDropped: no leader is known, or it takes nothing now. Nothing changed.
            Overloaded: too much is uncommitted. Nothing changed.
        """
        if not data:
            raise ValueError("nothing is proposed: give at least one entry's data")
        core = self._core
        if core.is_leader:
            replication.take_data(core, data)
        else:
            replication.propose(core, tuple([Entry(0, 0, NORMAL, one) for one in data]))

    def propose_change(self, change: ConfChange | ConfChangeSet) -> None:
        """Propose a change of the configuration; a follower forwards it to its leader.

        A leader that cannot make it now appends an empty entry in its place: ask `refusal` before.

        Raises:
            ProposalDropped: as in `propose`.
        """
        kind, data = encode_change(change)
        replication.propose(self._core, (Entry(0, 0, kind, data),))

    def read(self, request: int, now: float) -> None:
        """Ask for an index by which a read may be answered; it comes as a `ReadState`, or never: then ask again.

        Any member may ask. It never comes if the leader changes, or a message is lost.

        Args:
            request: a number for it, 1 … 2**63 - 1. It may be that of an earlier read that waits as well.

        Raises:
            ProposalDropped: no leader is known. Nothing changed.
        """
        core = self._core
        self._tell(now)
        if core.is_leader:
            reads.ask(core, core.id, request)
        elif core.leader == NO_NODE:
            raise ProposalDropped(f"no leader is known in term {core.term}: ask again later")
        else:
            core.send(Message(MessageKind.READ_INDEX, to=core.leader, sender=core.id, request=request))

    def transfer_leadership(self, to: int) -> None:
        """Have another voter take over; a follower passes the wish on. Given up after an election timeout."""
        replication.transfer(self._core, to)

    def hand_over(self, now: float) -> None:
        """As leader whose disk hangs, have a voter take over, if the others agree without this one.

        Given up after an election timeout; then ask again.
        """
        self._tell(now)
        replication.hand_over(self._core)

    def forget_leader(self) -> None:
        """As follower, count the leader as gone, so as to vote for another at once. It stays in its term.

        Without effect with `lease_reads`, which rely on followers that keep to their leader.
        """
        if self._core.role is FOLLOWER and not self._core.config.lease_reads:
            self._core.leader = NO_NODE

    def report_unreachable(self, node: int) -> None:
        """Messages to that node were lost for certain."""
        replication.report_unreachable(self._core, node)

    def report_snapshot(self, node: int, *, delivered: bool) -> None:
        """A snapshot has reached that node, or will not."""
        replication.report_snapshot(self._core, node, delivered=delivered)

    # Batches of work.

    def ready(self) -> Ready | None:
        """The next batch; None if there is nothing to do.

        The one before must have been advanced; with asynchronous storage, any number may be under way.
        """
        assert self._outstanding is None, "the last batch was not advanced"
        core, log = self._core, self._core.log
        # States are made only when they have changed: most calls find nothing to do at all.
        soft, hard = self._soft_state, self._hard_state
        leads_anew = core.leader != soft.leader or core.role is not soft.role
        promised = core.term != hard.term or core.vote != hard.vote
        is_written = not promised and log.committed == hard.commit
        has_messages = core.messages or core.after_sync or core.read_states
        is_silent = is_written and not leads_anew and not has_messages
        entries: tuple[Entry, ...] = ()
        committed: tuple[Entry, ...] = ()
        snapshot = None
        if not log.is_idle:
            entries, snapshot, committed = log.unwritten(), log.unwritten_snapshot(), tuple(log.unapplied())
        if is_silent and not (entries or snapshot or committed):
            return None
        soft_state = core.soft_state if leads_anew else None
        hard_state = None if is_written else core.hard_state
        must_sync = promised or bool(entries)
        early, after_sync, read_states = core.take()
        self._soft_state, self._hard_state = soft_state or soft, hard_state or hard
        late: tuple[Message, ...] = ()
        append = apply = None
        if self._is_asynchronous:
            done = self._append_done(snapshot)
            if hard_state or entries or snapshot or after_sync:
                responses: tuple[Message | Appended, ...] = (*after_sync, done) if done else after_sync
                append = StorageAppend(hard_state, entries, snapshot, must_sync, responses)
            if committed:
                apply = StorageApply(committed, log.begin_applying(committed))
        else:
            if after_sync:
                late = after_sync
                own = [message for message in after_sync if message.to == core.id]
                if own:
                    self._own_answers = tuple(own)
                    late = tuple([message for message in after_sync if message.to != core.id])
            if promised:
                late = early + late
                early = ()
            if committed:
                self._applying_bytes = log.begin_applying(committed)
        log.hand_out()
        ready = Ready(
            soft_state, hard_state, entries, snapshot, committed, early, late, must_sync, read_states, append, apply
        )
        if not self._is_asynchronous:
            self._outstanding = ready
        return ready

    def _append_done(self, snapshot: Snapshot | None) -> Appended | None:
        """What a `StorageAppend` handed out now says when it is durable; None if that is no news.

        It names the end of the log, also where the work itself has no entries: what was handed out before is durable
        then, too, and an earlier `Appended` may have come in a term that was over.
        """
        core, log = self._core, self._core.log
        if log.has_unstable:
            return Appended(core.term, log.last, log.last_term(), snapshot)
        return Appended(core.term, snapshot=snapshot) if snapshot else None

    def advance(self) -> None:
        """The batch is on disk, where it had to be, and applied. Not with asynchronous storage."""
        ready, answers = self._outstanding, self._own_answers
        assert ready is not None, "there is no batch under way"
        self._outstanding, self._own_answers = None, ()
        for message in answers:
            steps.step(self._core, message)
        if ready.snapshot:
            self._snapshot_stored(ready.snapshot)
        if ready.entries:
            self._core.log.stored(ready.entries[-1].index, ready.entries[-1].term)
        if ready.committed_entries:
            self._applied(ready.committed_entries, self._applying_bytes)

    # Asynchronous storage.

    def receive_own(self, message: Message, now: float) -> None:
        """Take a response of a `StorageAppend` to this node itself: its own vote, or its own acknowledgement."""
        assert message.sender == message.to == self.id, f"{message} is not of this node to itself"
        self._tell(now)
        steps.step(self._core, message)

    def stored(self, done: Appended, now: float) -> None:
        """A `StorageAppend` is durable."""
        self._tell(now)
        if done.index and done.term == self.term:
            self._core.log.stored(done.index, done.log_term)
        if done.snapshot:
            self._snapshot_stored(done.snapshot)

    def applied(self, work: StorageApply, now: float) -> None:
        """A `StorageApply` is applied."""
        self._tell(now)
        self._applied(work.entries, work.size_bytes)

    def _snapshot_stored(self, snapshot: Snapshot) -> None:
        log = self._core.log
        log.snapshot_stored(snapshot.index)
        log.applied_to(max(snapshot.index, log.applied))

    def _applied(self, entries: tuple[Entry, ...], size_bytes: int) -> None:
        core = self._core
        core.log.finish_applying(entries[-1].index, size_bytes)
        core.uncommitted_bytes = max(core.uncommitted_bytes - size_bytes, 0)
        replication.leave_joint_if_due(core)

    def apply_change(self, change: ConfChange | ConfChangeSet) -> Configuration:
        """Put a committed change in force, in its turn among the committed entries.

        Returns:
            The configuration from now on.

        Raises:
            ConfigurationRefused: it does not fit. A leader that checks changes never lets such a one into the log.
        """
        core = self._core
        core.tracker.switch(reconfigure(core.tracker.configuration, change), last_index=core.log.last)
        if core.is_leader:
            self._lead_on()
        return core.tracker.configuration

    def _lead_on(self) -> None:
        """As leader, act on a configuration just put in force."""
        core = self._core
        own = core.tracker.progress.get(core.id)
        if own is None or own.is_learner:
            if core.config.step_down_on_removal:
                core.become_follower(core.term, NO_NODE)
            elif core.commit_by_quorum():  # by those who stay: nothing more comes that would have it counted
                replication.broadcast_append(core)
            return
        reads.confirm(core)
        if core.commit_by_quorum():
            # Fewer voters may be enough for what was sent before.
            replication.broadcast_append(core)
        else:
            for node in core.tracker.progress:
                if node != core.id:
                    replication.send_append(core, node, if_empty=False)
        if core.transferee not in core.tracker.configuration.electorate:
            core.transferee = NO_NODE

    # Messages.

    def _tell(self, now: float) -> None:
        if now > self._core.now:
            self._core.now = now
