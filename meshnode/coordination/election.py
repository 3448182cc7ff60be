"""Leader election for roles of a program's own: a lock with that name, whose holder leads.

The lock is named `PREFIX` and the role, so ``meshnode locks`` shows it. The term of a leader is the fencing token.
"""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from meshnode.coordination.lock import Lock, Locks
from meshnode.coordination.questions import UNKNOWN, AwaitHolder, Leads
from meshnode.coordination.replica import Replica
from meshnode.identity import NodeId

PREFIX = "election/"


@dataclass(frozen=True, slots=True)
class Leader:
    """Who leads.

    Attributes:
        name: of the node, or "client".
        node_id: 0 for a client.
        term: greater than that of each leader before.
    """

    name: str
    node_id: NodeId
    term: int


class Leadership:
    """Of this process, as long as it lasts."""

    def __init__(self, lock: Lock) -> None:
        self._lock = lock

    @property
    def term(self) -> int:
        """The fencing token: hand it to whatever only the leader may change."""
        return self._lock.token

    @property
    def lasts(self) -> bool:
        """Whether this process leads, as far as can be known here."""
        return self._lock.is_held

    async def resign(self) -> None:
        """Lead no more; the block goes on."""
        await self._lock.release()


class Election:
    """Of one role."""

    def __init__(self, locks: Locks, replica: Replica, role: str, ttl: float) -> None:
        self.role = role
        self._locks = locks
        self._replica = replica
        self._ttl = ttl

    @contextlib.asynccontextmanager
    async def campaign(self, *, timeout: float | None = None) -> AsyncIterator[Leadership]:
        """Stand, wait until this process is elected, and lead as long as the block lasts.

        Raises:
            LockTimeout: it was not elected within ``timeout`` seconds.
            LockLost: it does not lead any more; the block was cancelled.
            Unavailable: the Raft group did not answer within ``timeout`` seconds.
        """
        async with self._locks.lock(PREFIX + self.role, ttl=self._ttl, timeout=timeout) as lock:
            yield Leadership(lock)

    async def leader(self) -> Leader | None:
        """Who leads; nobody for None. As a linearizable read: it misses nothing that happened before the call.

        Raises:
            Unavailable: the Raft group did not answer.
        """
        return await self._next(UNKNOWN, fresh=True)

    def changes(self) -> "Leaders":
        """Who leads, and then who leads each time that this changes: ``async for leader in election.changes(): …``

        One that led for a moment only may be missed.
        """
        return Leaders(self)

    async def next_leader(self, term: int) -> Leader | None:
        """Who leads, once that is not the leader of this term; 0 for nobody."""
        return await self._next(term, fresh=False)

    async def _next(self, term: int, *, fresh: bool) -> Leader | None:
        answer = await self._replica.ask(AwaitHolder(PREFIX + self.role, term), fresh=fresh)
        assert isinstance(answer, Leads)
        holder = answer.holder
        return None if holder is None else Leader(holder.name, holder.node_id, holder.token)


class Leaders:
    """An iterator over leaders, None where nobody leads; see `Election.changes`."""

    def __init__(self, election: Election) -> None:
        self._election = election
        self._term = UNKNOWN

    def __aiter__(self) -> "Leaders":
        return self

    async def __anext__(self) -> Leader | None:
        leader = await self._election.next_leader(self._term)
        self._term = 0 if leader is None else leader.term
        return leader
