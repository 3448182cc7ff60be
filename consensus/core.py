"""A node's state, and the transitions between its roles (Raft paper, figure 4).

                 starts an election            wins it
    follower ──▶ (pre-candidate ──▶) candidate ──────▶ leader
        ▲                │                │               │
        └────────────────┴────────────────┴───────────────┘
          hears of a leader or of a higher term, or loses its quorum

What the roles do with a message is in `election`, `following` and `replication`; `raft` puts it together.
"""

import math
import random
from collections.abc import Sequence
from typing import Final

from consensus.config import RaftConfig
from consensus.log import RaftLog, data_bytes
from consensus.memory import LogView
from consensus.messages import (
    APPEND_RESPONSE,
    FOLLOWER,
    LEADER,
    NO_NODE,
    NODE_ID_MAX,
    Entry,
    HardState,
    Message,
    MessageKind,
    ReadState,
    Role,
    SoftState,
)
from consensus.progress import Inflights
from consensus.reconfiguration import Reconfiguration
from consensus.rounds import Rounds
from consensus.tracker import Tracker

AFTER_SYNC: Final = frozenset({MessageKind.APPEND_RESPONSE, MessageKind.VOTE_RESPONSE, MessageKind.PRE_VOTE_RESPONSE})
"""Answers that say what is on this node's disk: they wait until it is."""


class Core:
    """One node's state.

    Attributes:
        messages: to be sent, in order.
        after_sync: to be sent, in order, once all that is unstable now is on disk. Those to the node itself are its own
            vote and its own acknowledgement.
        now: the latest time that the node was told.
        election_began: since when it waits for a leader, or as a leader since when it counts who is active.
        randomized_timeout: how long it waits this time.
        heard_leader: when it last heard of a leader, in this life or perhaps in the one before.
        heartbeat_sent: when a leader last sent heartbeats.
        transferee: to whom a leader is handing over; 0 for nobody.
        pending_change: the highest index at which a configuration change may be, as far as a leader knows.
        read_states: to be handed out: reads that may be answered.
        rounds: a leader's heartbeats in its term, and the reads that wait for them.
        reads_put_off: (node, request) that a leader was asked before it had committed anything in its term.
        candidacy: with asynchronous storage, a number drawn for the present candidacy; else 0.
        asked_to_take_over: whether a leader has asked another node, in its term, to pass over its lease.
        heirs_tried: how often a leader whose disk hangs has handed over to each, in its term, in vain.
        uncommitted_bytes: entry data that the leader took on in its term and that is not applied yet.
        lost: what the node's disk has lost of the log, until a leader has made it whole again. Meanwhile the node does
            not stand for election, and votes as it would with all that it had.
    """

    __slots__ = (
        "after_sync",
        "asked_to_take_over",
        "candidacy",
        "config",
        "election_began",
        "heard_leader",
        "heartbeat_sent",
        "heirs_tried",
        "id",
        "leader",
        "log",
        "lost",
        "messages",
        "now",
        "pending_change",
        "randomized_timeout",
        "read_states",
        "reads_put_off",
        "rng",
        "role",
        "rounds",
        "term",
        "tracker",
        "transferee",
        "uncommitted_bytes",
        "vote",
    )

    def __init__(self, config: RaftConfig, storage: LogView, *, applied: int, now: float, rng: random.Random) -> None:
        hard_state, configuration = storage.initial_state()
        self.config = config
        self.id = config.id
        self.rng = rng
        self.now = now
        self.log = RaftLog(
            storage,
            committed=hard_state.commit,
            applied=applied,
            apply_bytes_max=config.apply_bytes_max,
            applies_unstable=not config.async_storage,
        )
        self.lost = storage.lost()
        self.tracker = Tracker(self._window)
        self.tracker.switch(Reconfiguration(configuration), last_index=self.log.last)
        self.term = hard_state.term
        self.vote = hard_state.vote
        # Both are bounded by what one batch of work brings: whoever drives the core takes them with each batch.
        self.messages: list[Message] = []
        self.after_sync: list[Message] = []
        self.read_states: list[ReadState] = []
        self.candidacy = 0
        # It may have heard of one before it was started, unless it takes part in its first term.
        self.heard_leader = now if hard_state.term or config.async_storage else -math.inf
        self.role = Role.FOLLOWER
        self.leader = NO_NODE
        self.pending_change = 0
        self.election_began = self.randomized_timeout = 0.0
        self._reset(self.term)

    def _window(self) -> Inflights:
        return Inflights(messages_max=self.config.inflight_messages_max, bytes_max=self.config.inflight_bytes_max)

    @property
    def hard_state(self) -> HardState:
        return HardState(self.term, self.vote, self.log.committed)

    @property
    def soft_state(self) -> SoftState:
        return SoftState(self.leader, self.role)

    @property
    def is_leader(self) -> bool:
        return self.role is LEADER

    @property
    def is_promotable(self) -> bool:
        """Whether the node may stand for election: it is a voter, has its log, and is not about to become another."""
        progress = self.tracker.progress.get(self.id)
        return progress is not None and not progress.is_learner and self.log.snapshot is None and self.lost is None

    @property
    def holds_lease(self) -> bool:
        """Whether it heard of a leader within the minimum election timeout, and so grants no vote (thesis 4.2.3)."""
        if not self.config.check_quorum:
            return False
        if self.is_promised:
            return True
        if self.leader == NO_NODE:
            return False
        return self.now - self.election_began < self.config.election_timeout_s

    @property
    def is_promised(self) -> bool:
        """Whether a leader may rely on this node to elect nobody else, itself included, whatever it has forgotten."""
        return self.config.lease_reads and self.now - self.heard_leader < self.config.election_timeout_s

    # Roles.

    def become_follower(self, term: int, leader: int) -> None:
        assert term >= self.term, "a term never falls"
        waited_since, timeout = self.election_began, self.randomized_timeout
        only_waits = self.role is FOLLOWER and leader == NO_NODE
        self._reset(term)
        if only_waits:
            # A candidate that gets no vote here, and whose clock is fast, must not put off this node for ever
            # (Raft paper 5.2: only a leader's word and a vote that is granted do).
            self.election_began, self.randomized_timeout = waited_since, timeout
        self.leader = leader
        self.role = Role.FOLLOWER

    def become_pre_candidate(self) -> None:
        """Ask around. Neither term nor vote change, so that nobody else has to follow (thesis 9.6)."""
        assert self.role is not Role.LEADER
        self.tracker.votes = {}
        self.leader = NO_NODE
        self.role = Role.PRE_CANDIDATE

    def become_candidate(self) -> None:
        assert self.role is not Role.LEADER
        self._reset(self.term + 1)
        self.vote = self.id
        if self.config.async_storage:
            self.candidacy = self.rng.randint(1, NODE_ID_MAX)
        self.role = Role.CANDIDATE

    def become_leader(self) -> None:
        """Begin the term with an empty entry: only an entry of its own term lets a leader commit (Raft paper 5.4.2)."""
        assert self.role is not Role.FOLLOWER, "a leader was a candidate before"
        self._reset(self.term)
        self.leader = self.id
        self.role = Role.LEADER
        own = self.tracker.progress[self.id]
        own.become_replicate()
        own.recent_active = True
        # There may be a change among the entries not applied yet. To take all of them for one delays the next change
        # a little; to look for it could mean to read a long log.
        self.pending_change = self.log.last
        taken = self.take_on((Entry(self.term, self.log.last + 1),))
        assert taken, "an empty entry fits any bound"

    def _reset(self, term: int) -> None:
        if term != self.term:
            self.term = term
            self.vote = NO_NODE
        self.leader = NO_NODE
        self.election_began = self.now
        self.heartbeat_sent = self.now
        timeout_s = self.config.election_timeout_s
        # Different on every node and every time, or candidates would split the vote again and again (Raft paper 5.2).
        self.randomized_timeout = self.rng.uniform(timeout_s, 2 * timeout_s)
        self.transferee = NO_NODE
        self.asked_to_take_over = False
        self.heirs_tried: dict[int, int] = {}
        self.rounds = Rounds()
        self.reads_put_off: list[tuple[int, int]] = []
        self.pending_change = 0
        self.uncommitted_bytes = 0
        self.tracker.reset(own=self.id, last_index=self.log.last)

    def is_up_to_date(self, index: int, term: int) -> bool:
        """Whether a log that ends so is at least as up to date as this node's is, or was (Raft paper 5.4.1)."""
        if self.lost is not None and (term, index) < (self.lost.log_term, self.lost.index):
            return False
        return self.log.is_up_to_date(index, term)

    def note_growth(self) -> None:
        """The log has taken something from a leader: it may have regained what was lost."""
        if self.lost is not None and self.lost.is_regained(self.log.last, self.log.last_term()):
            self.lost = None

    # Effects.

    def send(self, message: Message) -> None:
        """Queue a message for its moment."""
        if message.kind in AFTER_SYNC:
            self.after_sync.append(message)
        else:
            assert message.to != self.id
            self.messages.append(message)

    def take(self) -> tuple[tuple[Message, ...], tuple[Message, ...], tuple[ReadState, ...]]:
        """Hand over what is queued: messages, those for after the sync, and reads."""
        messages: tuple[Message, ...] = ()
        after_sync: tuple[Message, ...] = ()
        reads: tuple[ReadState, ...] = ()
        if self.messages:
            messages = tuple(self.messages)
            self.messages.clear()
        if self.after_sync:
            after_sync = tuple(self.after_sync)
            self.after_sync.clear()
        if self.read_states:
            reads = tuple(self.read_states)
            self.read_states.clear()
        return messages, after_sync, reads

    def take_on(self, entries: Sequence[Entry]) -> bool:
        """As leader, append entries of this term at the end. False if too much is uncommitted already.

        One proposal of any size is taken when nothing is uncommitted, and an empty entry always: they end the wait.
        """
        size = data_bytes(entries)
        if self.uncommitted_bytes and size and self.uncommitted_bytes + size > self.config.uncommitted_bytes_max:
            return False
        self.uncommitted_bytes += size
        assert entries[0].index == self.log.last + 1
        self.log.append(entries)
        # The leader counts itself when its own disk has the entries, not before (thesis 10.2.1).
        self.send(Message(APPEND_RESPONSE, self.id, self.id, self.term, entries[-1].index))  # see `Message`
        return True

    def commit_by_quorum(self) -> bool:
        """As leader, raise the commit index to what a quorum has, if that is of this term. False if nothing changed.

        Entries of earlier terms are committed only together with one of this term (Raft paper 5.4.2, figure 8).
        """
        index = self.tracker.committed_index()
        return index > self.log.committed and self.log.matches(index, self.term) and self.log.commit_to(index)
