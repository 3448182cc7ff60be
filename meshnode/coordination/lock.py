"""Locks as programs use them."""

import contextlib
import math
from collections.abc import AsyncIterator

import trio

from meshnode.coordination import bounds
from meshnode.coordination.commands import milliseconds
from meshnode.coordination.questions import LockState, LockStates, ReadLocks
from meshnode.coordination.replica import Replica
from meshnode.coordination.session import Claim, ProcessSession
from meshnode.errors import InvalidArgument, LockLost, LockTimeout, MeshError
from meshnode.host import Host

TTL_DEFAULT_S = 30.0

RELEASE_PATIENCE_S = 5.0
"""How long the end of a block waits until others can have the lock. The release goes on in the background."""

EXPLANATION_S = 1.0
"""How long whoever waited in vain waits to hear for whom."""


class Lock:
    """A lock that is held, or was.

    Attributes:
        names: what it is on.
        token: the fencing token: greater than that of everyone who held any of the names before. Hand it to whatever
            the lock protects, and have that refuse lower ones.
    """

    def __init__(self, session: ProcessSession, claim: Claim, names: tuple[str, ...], host: Host) -> None:
        self.names = names
        self.token = claim.token
        self._session = session
        self._claim = claim
        self._host = host
        self._is_released = False

    @property
    def is_held(self) -> bool:
        """Whether it is held, as far as can be known here. A process that is stopped for a while right after this looks
        can't know better, hence the token."""
        return not self._is_released and self._claim.is_held

    def check(self) -> None:
        """For work without a checkpoint, which no cancellation ends.

        Raises:
            LockLost: it is not held any more.
        """
        if not self.is_held:
            raise LockLost(f"{told(self.names)} (token {self.token}) is not held any more")

    async def release(self) -> None:
        """Release it before the block ends. Others can have it once this returns; where the Raft group does not answer,
        a moment later."""
        if self._is_released:
            await trio.lowlevel.checkpoint()
            return
        self._is_released = True
        self._claim.let_go()
        released = self._session.give_up(self._claim)
        with self._host.deadline(self._host.now() + RELEASE_PATIENCE_S):
            await released.wait()

    @property
    def is_released(self) -> bool:
        """Whether `release` was called."""
        return self._is_released


class Locks:
    """Takes locks for this process."""

    def __init__(self, host: Host, replica: Replica, session: ProcessSession) -> None:
        self._host = host
        self._replica = replica
        self._session = session

    def lock(
        self, *names: str, ttl: float = TTL_DEFAULT_S, timeout: float | None = None
    ) -> contextlib.AbstractAsyncContextManager[Lock]:
        """See `meshnode.access.Access.lock`."""
        ttl_ms = milliseconds(ttl)
        if problem := bounds.problem_of_names(names):
            raise InvalidArgument(problem)
        if timeout is not None and not timeout > 0:
            raise InvalidArgument(f"a timeout of {timeout} s: choose above 0, or None to wait as long as it takes")
        return self._hold(names, ttl_ms, math.inf if timeout is None else timeout)

    @contextlib.asynccontextmanager
    async def _hold(self, names: tuple[str, ...], ttl_ms: int, timeout_s: float) -> AsyncIterator[Lock]:
        claim = await self._granted(names, ttl_ms, timeout_s)
        lock = Lock(self._session, claim, names, self._host)
        try:
            with claim.scope:
                yield lock
        finally:
            # Where the task is being cancelled this does not wait, and the release goes on in the background.
            was_lost = not lock.is_released and not claim.is_held
            await lock.release()
        if was_lost:
            raise LockLost(
                f"{told(names)} (token {lock.token}) was lost: it was not renewed within its TTL of {claim.ttl_s:g} s,"
                " or this node was started again. Whoever came next may have it already"
            )

    async def _granted(self, names: tuple[str, ...], ttl_ms: int, timeout_s: float) -> Claim:
        until_s = self._host.now() + timeout_s
        while True:
            claim = await self._session.claim(names, ttl_ms, until_s=until_s)
            try:
                with self._host.deadline(until_s):
                    while not claim.is_held and not claim.is_over:
                        await claim.next_news()
                if claim.is_held:
                    return claim
            except BaseException:
                self._session.give_up(claim)
                raise
            if not claim.is_over:
                self._session.give_up(claim)
                raise LockTimeout(f"{told(names)} not got within {timeout_s:g} s: {await self._why(names)}")
            # This process was cut off for longer than the TTL while it waited: it queues anew.

    async def _why(self, names: tuple[str, ...]) -> str:
        """Who holds or wants the names; they may be others by now."""
        found: dict[str, LockState] = {}
        with self._host.deadline(self._host.now() + EXPLANATION_S), contextlib.suppress(MeshError):
            for name in names:
                answer = await self._replica.ask(ReadLocks(name, 1))
                assert isinstance(answer, LockStates)
                found |= {lock.name: lock for lock in answer.locks if lock.name == name}
        reasons = []
        for name, lock in found.items():
            if lock.holder is not None:
                by = f"{name!r} is held by {lock.holder.name} (token {lock.holder.token})"
                reasons.append(f"{by}, {len(lock.waiting)} in the queue")
            elif lock.waiting:
                reasons.append(
                    f"{name!r} is kept for {lock.waiting[0].name}, who waits for {told(lock.waiting[0].names)}"
                )
        return "; ".join(reasons) or "nobody holds it by now, so another try may do"


def told(names: tuple[str, ...]) -> str:
    """Locks, for people."""
    return ("lock " if len(names) == 1 else "locks ") + ", ".join(map(repr, names))
