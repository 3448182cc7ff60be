"""What is asked of the replicated state, by this process or by a client elsewhere, and the answers.

A question looks at the state and answers, or returns None: then it is asked again at each change, until it answers.
"""

from dataclasses import dataclass

from meshnode import wire
from meshnode.coordination import bounds
from meshnode.coordination.commands import Entry
from meshnode.coordination.queues import Claim
from meshnode.coordination.state import Coordination
from meshnode.coordination.store import Revision
from meshnode.identity import NodeId

PROGRESS_CHANGES = 64
"""After so many changes that a watcher does not want it is told how far it has come, so that they can be forgotten."""

PROGRESS_BYTES = bounds.HISTORY_BYTES_MAX // 8

ANSWER_BYTES_MAX = 2**20
"""Of changes in one answer, roughly."""

UNKNOWN = -1
"""The token of a leader about whom nothing is known, so that any answer is news."""


@wire.message(0x80)
@dataclass(frozen=True, slots=True)
class Entries:
    """Keys as they were at ``revision``, that of the last change of any key."""

    revision: int
    entries: tuple[Entry, ...]


@wire.message(0x81)
@dataclass(frozen=True, slots=True)
class Changes:
    """The next changes.

    Attributes:
        after: there are no others up to and including this revision.
        compacted: set where changes that were asked for are not kept any more: those up to this revision.
    """

    revisions: tuple[Revision, ...]
    after: int
    compacted: int = 0


@wire.message(0x82)
@dataclass(frozen=True, slots=True)
class ClaimIs:
    """What a claim has come to.

    Attributes:
        is_there: whether it holds or waits; if not, it was given up or its TTL is over.
    """

    is_there: bool
    token: int = 0


@dataclass(frozen=True, slots=True)
class Claimant:
    """Who holds a lock, or waits for it.

    Attributes:
        node_id: 0 for a client.
        token: 0 for one who waits.
        names: all names of its claim.
        left_ms: of its TTL, in the state machine's own time; `TICK_MS_MAX` is added to each TTL.
    """

    name: str
    node_id: NodeId
    token: int
    names: tuple[str, ...]
    left_ms: int


@wire.message(0x83)
@dataclass(frozen=True, slots=True)
class Leads:
    """Who holds one lock; None for nobody."""

    holder: Claimant | None


@dataclass(frozen=True, slots=True)
class LockState:
    """One name: who holds it, and who waits for it, in order."""

    name: str
    holder: Claimant | None
    waiting: tuple[Claimant, ...]


@wire.message(0x84)
@dataclass(frozen=True, slots=True)
class LockStates:
    """Names in the order of the alphabet.

    Attributes:
        total: how many there are; the answer has the first ones.
    """

    total: int
    locks: tuple[LockState, ...]


@wire.message(0x88)
@dataclass(frozen=True, slots=True)
class ReadKey:
    """One key."""

    key: str

    def look(self, state: Coordination) -> Entries | None:
        entry = state.store.get(self.key)
        return Entries(state.store.revision, () if entry is None else (entry,))


@wire.message(0x89)
@dataclass(frozen=True, slots=True)
class ReadKeys:
    """All keys with a prefix."""

    prefix: str

    def look(self, state: Coordination) -> Entries | None:
        return Entries(state.store.revision, state.store.matching(self.prefix))


@wire.message(0x8A)
@dataclass(frozen=True, slots=True)
class AwaitChanges:
    """The changes after a revision, of keys with a prefix."""

    prefix: str
    after: int

    def look(self, state: Coordination) -> Changes | None:
        store = state.store
        if self.after < store.compacted:
            return Changes((), self.after, store.compacted)
        wanted: list[Revision] = []
        size = passed = passed_bytes = 0
        after = self.after
        for revision in store.since(self.after):
            changes = tuple([change for change in revision.changes if change.key.startswith(self.prefix)])
            after = revision.revision
            if changes:
                wanted.append(Revision(revision.revision, changes))
                size += wanted[-1].cost_bytes
                if size >= ANSWER_BYTES_MAX:
                    break
            else:
                passed += 1
                passed_bytes += revision.cost_bytes
        if wanted or passed >= PROGRESS_CHANGES or passed_bytes >= PROGRESS_BYTES:
            return Changes(tuple(wanted), after)
        return None


@wire.message(0x8B)
@dataclass(frozen=True, slots=True)
class AwaitClaim:
    """News of a claim whose token was ``token`` so far, from who has applied the command with the stamp ``made``."""

    session: int
    number: int
    token: int
    made: int

    def look(self, state: Coordination) -> ClaimIs | None:
        if state.seen < self.made:
            return None
        claim = state.queues.get((self.session, self.number))
        if claim is None:
            return ClaimIs(False)
        return ClaimIs(True, claim.token) if claim.token != self.token else None


@wire.message(0x8C)
@dataclass(frozen=True, slots=True)
class AwaitHolder:
    """Who holds a lock, once it is another one than that with this token; 0 for nobody, `UNKNOWN` for an answer now."""

    name: str
    token: int

    def look(self, state: Coordination) -> Leads | None:
        holder = _holder(state, self.name)
        token = 0 if holder is None else holder.token
        return None if token == self.token else Leads(holder)


@wire.message(0x8D)
@dataclass(frozen=True, slots=True)
class ReadLocks:
    """All locks with a prefix, of which the answer has up to ``limit``, after a name."""

    prefix: str
    limit: int
    after: str = ""

    def look(self, state: Coordination) -> LockStates | None:
        names = [name for name in state.queues.names() if name.startswith(self.prefix)]
        page = [name for name in names if name > self.after][: max(0, self.limit)]
        return LockStates(len(names), tuple([_lock(state, name) for name in page]))


Question = ReadKey | ReadKeys | AwaitChanges | AwaitClaim | AwaitHolder | ReadLocks
Answer = Entries | Changes | ClaimIs | Leads | LockStates


def _holder(state: Coordination, name: str) -> Claimant | None:
    queue = state.queues.queue(name)
    return _claimant(state, queue[0]) if queue and queue[0].token else None


def _lock(state: Coordination, name: str) -> LockState:
    queue = [_claimant(state, claim) for claim in state.queues.queue(name)]
    is_held = bool(queue) and queue[0].token > 0
    return LockState(name, queue[0] if is_held else None, tuple(queue[1:] if is_held else queue))


def _claimant(state: Coordination, claim: Claim) -> Claimant:
    session = state.sessions.get(claim.session)
    assert session is not None, "a session outlives its claims"
    left_ms = max(0, claim.deadline_ms - state.now_ms)
    return Claimant(session.name, session.node_id, claim.token, claim.names, left_ms)
