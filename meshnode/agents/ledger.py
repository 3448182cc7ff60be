"""The replicated state of one partition: agents' states, and what became of requests.

A pure state machine over records. Replies are kept as long as a caller may ask for them again: within a session, those
from the lowest number on that the caller still waits for; under a request id, until a time that the record says; those
to a turn, while it may run again.

Such a time is of the partition's own: it passes only in records, by no more than a primary counted while it served. A
change of the primary, and a clock that is wrong, can only lengthen it.
"""

from dataclasses import dataclass

from meshnode import wire
from meshnode.agents.nested import NO_NESTED, Nested, NestedSnapshot
from meshnode.agents.origin import Origin
from meshnode.agents.reply import Reply, RequestId

REQUEST_ID_S = 24 * 3600.0
"""How long the reply to a request id that a user chose is kept."""

REQUEST_IDS_MAX = 65_536
"""Request ids kept in one partition: past it a call is refused, since forgetting one could run it twice."""

REQUEST_ID_CHARACTERS_MAX = 256
"""Of one request id; room for any form of a UUID with words around it."""

SESSIONS_MAX = 16_384
"""Sessions open in one partition at a time, for the same reason."""

OUTSTANDING_MAX = 4096
"""Replies kept for one session: a caller with more calls under way is refused further ones."""


@wire.message(0x50)
@dataclass(frozen=True, slots=True)
class Turn:
    """Record: one turn of one agent, its effects and its reply, all or nothing.

    Attributes:
        state: the agent's new state; None where the turn did not change it.
        session, number, lowest: who asked; session 0 for a request id.
        request_id, keep_until_s: the caller's own id, and until when its reply is kept.
        elapsed_s: when the turn ended. Both times are the partition's own.
        origin: the turn that made the call under ``request_id``; None if no turn did.
    """

    agent_type: str
    key: str
    state: bytes | None
    reply: Reply
    session: int = 0
    number: int = 0
    lowest: int = 0
    request_id: str = ""
    keep_until_s: float = 0.0
    elapsed_s: float = 0.0
    origin: Origin | None = None


@wire.message(0x51)
@dataclass(frozen=True, slots=True)
class SessionOpened:
    """Record: its sequence is the session's id."""


@wire.message(0x52)
@dataclass(frozen=True, slots=True)
class Expired:
    """Record: what time it is by the partition's own. These sessions, and what was kept until before, are forgotten."""

    sessions: tuple[int, ...] = ()
    elapsed_s: float = 0.0


@dataclass(slots=True)
class Session:
    """One caller in one partition."""

    lowest: int = 1
    replies: dict[int, Reply] | None = None

    def note(self, number: int, lowest: int, reply: Reply) -> int:
        """Keep a reply that may be asked for again; forget those below ``lowest``, which will not.

        Returns:
            By how many bytes what is kept has grown; below 0 where it has shrunk.
        """
        replies = self.replies = self.replies or {}
        growth = 0
        if lowest > self.lowest:
            # Callers move it in small steps; a step that skips more than there is was made by something else.
            is_step = lowest - self.lowest <= len(replies)
            for old in range(self.lowest, lowest) if is_step else [kept for kept in replies if kept < lowest]:
                growth -= _bytes_of(replies.pop(old, None))
            self.lowest = lowest
        if number >= self.lowest:
            growth += _bytes_of(reply) - _bytes_of(replies.get(number))
            replies[number] = reply
        return growth


def _bytes_of(reply: Reply | None) -> int:
    return 0 if reply is None else len(reply.payload)


AgentId = tuple[str, str]


# ---- the snapshot


@dataclass(frozen=True, slots=True)
class _SessionSnapshot:
    session: int
    lowest: int
    replies: tuple[tuple[int, Reply], ...]


@dataclass(frozen=True, slots=True)
class _LedgerSnapshot:
    states: tuple[tuple[str, str, bytes], ...]
    sessions: tuple[_SessionSnapshot, ...]
    request_ids: tuple[tuple[str, str, str, float, Reply], ...]
    elapsed_s: float = 0.0
    nested: NestedSnapshot = NO_NESTED


class Ledger:
    """Decided by the committed records alone; see `meshnode.partitions.replica.Machine`."""

    def __init__(self) -> None:
        self.states: dict[AgentId, bytes] = {}
        self.sessions: dict[int, Session] = {}
        self.request_ids: dict[RequestId, tuple[float, Reply]] = {}
        self.nested = Nested()
        self.elapsed_s = 0.0
        """The partition's own time."""
        self.payload_bytes = 0
        """Of all states and replies: what a snapshot takes, but for the little that is said about each."""

    def apply(self, sequence: int, payload: bytes) -> None:
        """Take one committed record.

        Raises:
            WireError: it is of a newer version than this node: upgrade it.
        """
        record = wire.decode(payload)
        match record:
            case Turn():
                self._apply_turn(record)
            case SessionOpened():
                self.sessions[sequence] = Session()
            case Expired():
                for session in record.sessions:
                    self.sessions.pop(session, None)
                self.elapsed_s = max(self.elapsed_s, record.elapsed_s)
                self.request_ids = {key: kept for key, kept in self.request_ids.items() if kept[0] >= self.elapsed_s}
                self.nested.expire(self.elapsed_s)
                self.payload_bytes = self._count_bytes()
            case _:
                raise wire.WireError(f"record {sequence} holds a {type(record).__name__}")

    def _apply_turn(self, turn: Turn) -> None:
        if turn.state is not None:
            agent_id = (turn.agent_type, turn.key)
            self.payload_bytes += len(turn.state) - len(self.states.get(agent_id, b""))
            self.states[agent_id] = turn.state
        self.elapsed_s = max(self.elapsed_s, turn.elapsed_s)
        request_id = (turn.agent_type, turn.key, turn.request_id)
        if turn.origin is not None:
            self.payload_bytes += self.nested.keep(request_id, turn.origin, until_s=turn.keep_until_s, reply=turn.reply)
        elif turn.request_id:
            before = self.request_ids.get(request_id)
            self.payload_bytes += _bytes_of(turn.reply) - (0 if before is None else _bytes_of(before[1]))
            self.request_ids[request_id] = (turn.keep_until_s, turn.reply)
        session = self.sessions.get(turn.session)
        if session is not None:
            self.payload_bytes += session.note(turn.number, turn.lowest, turn.reply)

    @property
    def keeps_by_time(self) -> bool:
        """Whether anything is kept until a time, so that time must pass."""
        return bool(self.request_ids or self.nested.replies)

    def has_expired(self, elapsed_s: float) -> bool:
        """Whether anything was to be kept until before a time."""
        return any(until_s < elapsed_s for until_s, _reply in self.request_ids.values()) or any(
            kept.until_s < elapsed_s for kept in self.nested.replies.values()
        )

    def _count_bytes(self) -> int:
        replies = [reply for _until_s, reply in self.request_ids.values()]
        replies.extend(kept.reply for kept in self.nested.replies.values())
        for session in self.sessions.values():
            replies.extend((session.replies or {}).values())
        return sum(map(len, self.states.values())) + sum(map(_bytes_of, replies))

    def snapshot(self) -> bytes:
        """The whole state, the same bytes on every replica."""
        return wire.pack(
            _LedgerSnapshot(
                tuple((agent_type, key, state) for (agent_type, key), state in self.states.items()),
                tuple(
                    _SessionSnapshot(number, session.lowest, tuple((session.replies or {}).items()))
                    for number, session in self.sessions.items()
                ),
                tuple((*request_id, until_s, reply) for request_id, (until_s, reply) in self.request_ids.items()),
                self.elapsed_s,
                self.nested.snapshot(),
            )
        )

    def restore(self, state: bytes) -> None:
        """Replace everything; empty bytes are the state before any record.

        Raises:
            WireError: not a snapshot of this version.
        """
        kept = wire.unpack(_LedgerSnapshot, state) if state else _LedgerSnapshot((), (), ())
        self.states = {(agent_type, key): data for agent_type, key, data in kept.states}
        self.sessions = {item.session: Session(item.lowest, dict(item.replies) or None) for item in kept.sessions}
        self.request_ids = {
            (agent_type, key, request_id): (until_s, reply)
            for agent_type, key, request_id, until_s, reply in kept.request_ids
        }
        self.nested.restore(kept.nested)
        self.elapsed_s = kept.elapsed_s
        self.payload_bytes = self._count_bytes()
