"""The replicated state as items of bytes, for the snapshots of the Raft log."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from meshnode import wire
from meshnode.coordination.commands import Entry
from meshnode.coordination.queues import Claim
from meshnode.coordination.sessions import KeptReply, SessionRecord
from meshnode.coordination.state import CoordinationState
from meshnode.coordination.store import Revision

ITEM_BYTES_MAX = 4 * 2**20
"""No item is larger: a reply has up to `FOUND_BYTES_MAX`, and of changes that came together, as where many keys end at
one tick, no more are kept than `HISTORY_BYTES_MAX`."""


@wire.message(0x90)
@dataclass(frozen=True, slots=True)
class Head:
    """The first item."""

    now_ms: int
    tick_term: int
    version: int
    seen: int
    revision: int
    compacted: int


for _kind, _cls in enumerate((SessionRecord, KeptReply, Claim, Entry, Revision), start=0x91):
    wire.register(_kind, _cls)


def items_of(state: CoordinationState) -> Iterator[bytes]:
    """The state, item by item."""
    yield wire.encode(Head(state.now_ms, state.tick_term, state.version, state.seen, state.revision, state.compacted))
    for item in (*state.sessions, *state.replies, *state.claims, *state.entries, *state.history):
        yield wire.encode(item)


def state_from(items: Iterable[bytes]) -> CoordinationState:
    """The state that the items were made of.

    Raises:
        WireError: they are none of this version.
    """
    head: Head | None = None
    sessions: dict[int, SessionRecord] = {}
    replies: list[KeptReply] = []
    claims: list[Claim] = []
    entries: list[Entry] = []
    history: list[Revision] = []
    for data in items:
        match wire.decode(data):
            case Head() as head:
                pass
            case SessionRecord() as session:
                sessions[session.session] = session
            case KeptReply() as reply if reply.session in sessions:
                replies.append(reply)
            case Claim() as claim if claim.session in sessions:
                claims.append(claim)
            case Entry() as entry:
                entries.append(entry)
            case Revision() as revision:
                history.append(revision)
            case other:
                raise wire.WireError(f"{type(other).__name__} is out of place in a snapshot of locks and keys")
    if head is None:
        raise wire.WireError("a snapshot of locks and keys has no head")
    return CoordinationState(
        head.now_ms,
        head.tick_term,
        head.version,
        head.seen,
        tuple(sessions.values()),
        tuple(replies),
        tuple(claims),
        tuple(entries),
        tuple(history),
        head.revision,
        head.compacted,
    )
