"""Sessions: how a request takes effect at most once, though its outcome was unknown and it was proposed again.

1. A process opens a session, and numbers its requests in it.
2. The reply to a request is kept until the session says, with a later request, that it was received or is not wanted
   any more (`RequestId.answered`). A request that comes again meanwhile gets the same reply, and has no effect.
3. A request below ``answered`` is a late copy, for which nobody waits: it has no effect.
4. A session ends when it holds no claim and nothing was heard of it for `SESSION_TTL_MS` of the state machine's time,
   or when its node starts again. What is asked in a session that is over has no effect and says so.

Hence forgetting is safe: a reply is forgotten only together with the possibility that its request takes effect again.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from meshnode import wire
from meshnode.coordination import bounds
from meshnode.coordination.commands import BeginSession, Refused, Reply, RequestId
from meshnode.identity import Boot, NodeId

LATE = Refused("answered", "the request was answered before, or given up: nobody waits for it")


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """A session as a snapshot has it, but for its replies."""

    session: int
    name: str
    node_id: NodeId
    boot: Boot
    deadline_ms: int
    answered: int


@dataclass(frozen=True, slots=True)
class KeptReply:
    """The reply to a request, encoded."""

    session: int
    number: int
    reply: bytes


@dataclass(slots=True)
class Session:
    """One process that coordinates.

    Attributes:
        replies: encoded, by the number of the request; at most `PENDING_MAX`.
    """

    session: int
    name: str
    node_id: NodeId
    boot: Boot
    deadline_ms: int
    answered: int = 1
    replies: dict[int, bytes] = field(default_factory=dict)


class Sessions:
    """All sessions, in the order in which they were opened."""

    def __init__(self) -> None:
        self._sessions: dict[int, Session] = {}
        self._replies_bytes = 0

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[Session]:
        return iter(self._sessions.values())

    def get(self, session: int) -> Session | None:
        """None if it is over."""
        return self._sessions.get(session)

    def open(self, stamp: int, command: BeginSession, deadline_ms: int) -> Session | Refused:
        """Its id is the stamp of the command that opened it: no two have the same."""
        if len(self._sessions) >= bounds.SESSIONS_MAX:
            return Refused(
                "overloaded", f"{bounds.SESSIONS_MAX} processes use locks or the configuration already: retry later"
            )
        session = Session(stamp, command.name, command.node_id, command.boot, deadline_ms)
        self._sessions[stamp] = session
        return session

    def known_reply(self, session: Session, request: RequestId) -> Reply | None:
        """What a request that is not to be carried out is answered; None for one that is."""
        self._forget(session, request.answered)
        if request.number < session.answered:
            return LATE
        known = session.replies.get(request.number)
        if known is not None:
            reply: Reply = wire.decode(known)
            return reply
        if request.number >= session.answered + bounds.PENDING_MAX or self._replies_bytes > bounds.REPLIES_BYTES_MAX:
            return Refused("overloaded", "too many answers are kept for those who asked: retry later")
        return None

    def record(self, session: Session, number: int, reply: Reply) -> None:
        """The request is carried out."""
        encoded = wire.encode(reply)
        session.replies[number] = encoded
        self._replies_bytes += len(encoded)

    def end(self, ended: Iterable[Session]) -> None:
        """They are over."""
        for session in ended:
            self._replies_bytes -= sum(map(len, session.replies.values()))
            del self._sessions[session.session]

    def _forget(self, session: Session, answered: int) -> None:
        if answered > session.answered:
            session.answered = answered
            for number in [number for number in session.replies if number < answered]:
                self._replies_bytes -= len(session.replies.pop(number))

    # ---- snapshots

    def freeze(self) -> tuple[tuple[SessionRecord, ...], tuple[KeptReply, ...]]:
        """For a snapshot."""
        sessions = tuple(
            SessionRecord(one.session, one.name, one.node_id, one.boot, one.deadline_ms, one.answered)
            for one in self._sessions.values()
        )
        replies = tuple(
            KeptReply(one.session, number, reply)
            for one in self._sessions.values()
            for number, reply in one.replies.items()
        )
        return sessions, replies

    def restore(self, sessions: Iterable[SessionRecord], replies: Iterable[KeptReply]) -> None:
        """From a snapshot."""
        self._sessions = {
            one.session: Session(one.session, one.name, one.node_id, one.boot, one.deadline_ms, one.answered)
            for one in sessions
        }
        self._replies_bytes = 0
        for kept in replies:
            self._sessions[kept.session].replies[kept.number] = kept.reply
            self._replies_bytes += len(kept.reply)
