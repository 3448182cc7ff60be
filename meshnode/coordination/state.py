"""The replicated state of sessions, locks and the configuration, and its own time.

Time is what the leaders of the Raft group count and propose in ticks; see `meshnode.coordination.ticking`. Whatever has
a TTL ends at a tick, no sooner than its TTL after it began or was renewed, by the clocks of the leaders: the first tick
after that may count what passed before, `TICK_MS_MAX` at most, so a deadline is later by that.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

from meshnode.coordination import bounds
from meshnode.coordination.commands import (
    SESSION_OVER,
    Acquire,
    BeginSession,
    Claimed,
    Command,
    Done,
    Entry,
    Opened,
    Refused,
    Release,
    Renew,
    Renewed,
    Reply,
    Requested,
    Tick,
    Transact,
)
from meshnode.coordination.queues import Claim, Queues
from meshnode.coordination.sessions import KeptReply, Session, SessionRecord, Sessions
from meshnode.coordination.store import Revision, Store
from meshnode.identity import Boot, NodeId

WITHDRAWN = Refused("withdrawn", "the claim was given up before it was made")


@dataclass(frozen=True, slots=True)
class CoordinationState:
    """All of it, for a snapshot."""

    now_ms: int
    tick_term: int
    version: int
    seen: int
    sessions: tuple[SessionRecord, ...]
    replies: tuple[KeptReply, ...]
    claims: tuple[Claim, ...]
    entries: tuple[Entry, ...]
    history: tuple[Revision, ...]
    revision: int
    compacted: int


class Coordination:
    """Applies commands in the order of the log. Nothing here depends on anything but them and their stamps.

    A stamp is the log index of a command, with the recovery generation above it: it grows along the log.

    Attributes:
        now_ms: the state machine's own time.
        version: the stamp of the last command that changed anything but the time.
        seen: the stamp of the last command that was applied, of whatever kind.
        on_change: called after a command that changed something.
    """

    def __init__(self, on_change: Callable[[], None] = lambda: None) -> None:
        self.now_ms = 0
        self.tick_term = 0
        self.version = 0
        self.seen = 0
        self.sessions = Sessions()
        self.queues = Queues()
        self.store = Store()
        self.on_change = on_change
        # Nothing ends before this; derived, and never later than the first deadline.
        self._next_deadline_ms = 0

    @property
    def has_deadlines(self) -> bool:
        """Whether anything has a TTL, so that time must be counted."""
        return len(self.sessions) > 0 or bool(self.store.deadlines())

    def apply(self, stamp: int, command: Command) -> Reply:
        """Carry out the command with that stamp."""
        before = self.version
        reply = self._carry_out(stamp, command)
        self.passed(stamp)
        if self.version != before:
            self.on_change()
        return reply

    def passed(self, stamp: int) -> None:
        """All commands up to that stamp are applied, those of other parts of the metadata too."""
        self.seen = stamp

    def node_started(self, stamp: int, node_id: NodeId, boot: Boot) -> None:
        """A node has started, or started again: what it held in an earlier life is free, since one process has its data
        directory at a time. A node that leaves is no such case: it may go on for a while without hearing of it, so
        what it holds ends by its TTL.
        """
        self._end(stamp, [one for one in self.sessions if one.node_id == node_id and one.boot < boot])

    def recovered(self, stamp: int) -> None:
        """The Raft group was made anew, and may have lost what was agreed on last, renewals among it: all claims and
        sessions last their TTL anew, and who watches keys is told to list them anew, since some may be as they were.
        """
        for claim in self.queues:
            claim.deadline_ms = self._deadline(claim.ttl_ms)
        for session in self.sessions:
            session.deadline_ms = self._deadline(bounds.SESSION_TTL_MS)
        self.store.recovered(stamp)
        self.version = stamp
        self.on_change()

    # ---- commands

    def _carry_out(self, stamp: int, command: Command) -> Reply:
        match command:
            case BeginSession():
                opened = self.sessions.open(stamp, command, self._deadline(bounds.SESSION_TTL_MS))
                if isinstance(opened, Refused):
                    return opened
                self.version = stamp
                return Opened(stamp)
            case Renew():
                return self._renew(command)
            case Tick():
                self._tick(stamp, command)
                return Done()
            case Acquire() | Release() | Transact():
                return self._request(stamp, command)
            case _:
                assert_never(command)

    def _request(self, stamp: int, command: Requested) -> Reply:
        session = self.sessions.get(command.request.session)
        if session is None:
            return SESSION_OVER
        session.deadline_ms = self._deadline(bounds.SESSION_TTL_MS)
        known = self.sessions.known_reply(session, command.request)
        if known is not None:
            return known
        reply: Reply
        match command:
            case Acquire():
                reply = self._acquire(stamp, command)
            case Release():
                reply = self._release(stamp, session, command)
            case Transact():
                reply = self._transact(stamp, command)
        self.sessions.record(session, command.request.number, reply)
        return reply

    def _acquire(self, stamp: int, command: Acquire) -> Claimed | Refused:
        if problem := command.problem():
            return Refused("invalid_argument", problem)
        request = command.request
        deadline_ms = self._deadline(command.ttl_ms)
        claim = Claim(request.session, request.number, command.names, command.ttl_ms, deadline_ms)
        refused = self.queues.add(claim, stamp)
        if refused is not None:
            return refused
        self.version = stamp
        return Claimed(claim.token, stamp)

    def _release(self, stamp: int, session: Session, command: Release) -> Done:
        claim = self.queues.get((session.session, command.claim))
        if claim is not None:
            self.queues.remove([claim], stamp)
            self.version = stamp
        elif command.claim >= session.answered and command.claim not in session.replies:
            self.sessions.record(session, command.claim, WITHDRAWN)  # its request may be on its way yet
        return Done()

    def _transact(self, stamp: int, command: Transact) -> Reply:
        if problem := command.problem():
            return Refused("invalid_argument", problem)
        done = self.store.transact(stamp, self.now_ms, command.compares, command.then, command.otherwise)
        if self.store.revision == stamp:
            self.version = stamp
            for step in (*command.then, *command.otherwise):
                if step.ttl_ms:
                    self._deadline(step.ttl_ms)
        return done

    def _renew(self, command: Renew) -> Renewed | Refused:
        session = self.sessions.get(command.session)
        if session is None:
            return SESSION_OVER
        session.deadline_ms = self._deadline(bounds.SESSION_TTL_MS)
        there = []
        for number in command.claims:
            claim = self.queues.get((command.session, number))
            if claim is not None:
                claim.deadline_ms = self._deadline(claim.ttl_ms)
                there.append(number)
        return Renewed(tuple(there))

    # ---- time

    def _tick(self, stamp: int, tick: Tick) -> None:
        """Let time pass. Terms keep two leaders from counting the same time: one that is deposed may have a tick on its
        way, and the first one of a new leader counts nothing, since it measures what comes after it."""
        if tick.term < self.tick_term:
            return
        if tick.term > self.tick_term:
            self.tick_term = tick.term
            return
        self.now_ms += min(max(tick.elapsed_ms, 0), bounds.TICK_MS_MAX)
        if self.now_ms >= self._next_deadline_ms:
            self._expire(stamp)

    def _deadline(self, ttl_ms: int) -> int:
        deadline_ms = self.now_ms + ttl_ms + bounds.TICK_MS_MAX
        self._next_deadline_ms = min(self._next_deadline_ms, deadline_ms)
        return deadline_ms

    def _expire(self, stamp: int) -> None:
        over = [claim for claim in self.queues if claim.deadline_ms <= self.now_ms]
        if over:
            self.queues.remove(over, stamp)
            self.version = stamp
        if self.store.expire(stamp, self.now_ms):
            self.version = stamp
        claiming = {claim.session for claim in self.queues}
        idle = [one for one in self.sessions if one.deadline_ms <= self.now_ms and one.session not in claiming]
        if idle:
            self.sessions.end(idle)
            self.version = stamp
        self._next_deadline_ms = self._first_deadline()

    def _first_deadline(self) -> int:
        return min(
            (
                *(claim.deadline_ms for claim in self.queues),
                *(max(one.deadline_ms, self.now_ms + 1) for one in self.sessions),
                *self.store.deadlines(),
            ),
            default=0,
        )

    def _end(self, stamp: int, sessions: list[Session]) -> None:
        if not sessions:
            return
        ended = {one.session for one in sessions}
        self.queues.remove([claim for claim in self.queues if claim.session in ended], stamp)
        self.sessions.end(sessions)
        self.version = stamp
        self.on_change()

    # ---- snapshots

    def freeze(self) -> CoordinationState:
        """All of it, as values."""
        sessions, replies = self.sessions.freeze()
        return CoordinationState(
            self.now_ms,
            self.tick_term,
            self.version,
            self.seen,
            sessions,
            replies,
            self.queues.freeze(),
            self.store.freeze(),
            tuple(self.store.history),
            self.store.revision,
            self.store.compacted,
        )

    def restore(self, state: CoordinationState) -> None:
        """Become what was frozen."""
        self.now_ms, self.tick_term, self.version = state.now_ms, state.tick_term, state.version
        self.sessions.restore(state.sessions, state.replies)
        self.queues.restore(state.claims)
        self.store.restore(state.entries, state.history, revision=state.revision, compacted=state.compacted)
        self._next_deadline_ms = self._first_deadline()
        self.passed(state.seen)
        self.on_change()
