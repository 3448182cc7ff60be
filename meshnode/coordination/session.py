"""The session of this process: requests that take effect at most once, and claims that are kept alive.

See `meshnode.coordination.sessions` for the rules that the replicated state keeps.
"""

import contextlib
import math
from collections.abc import AsyncIterator, Callable

import trio

from meshnode.coordination import bounds
from meshnode.coordination.commands import (
    Acquire,
    BeginSession,
    Claimed,
    Done,
    Opened,
    Refused,
    Release,
    Renew,
    Renewed,
    Reply,
    Requested,
    RequestId,
)
from meshnode.coordination.questions import AwaitClaim, ClaimIs
from meshnode.coordination.replica import Replica
from meshnode.errors import MeshError, OutcomeUnknown, SessionOver, Unavailable, error_from_code
from meshnode.host import Host

TRY_S = 5.0
"""Several elections: after it a request is made again."""

PAUSE_S = 0.2
"""Between two tries, as while there is no leader."""

RENEWALS_PER_TTL = 3
"""So that one that is lost costs no lock."""

CLOCK_ERROR = 0.1
"""By how much of its rate this process' clock may be slower than the leader's, while it still lets go of a lock before
others can get it. Beyond that the fencing token alone keeps two holders apart."""

RELEASE_S = 60.0
"""How long a release is tried for. The claim is not renewed any more, so it ends anyway."""


class Life:
    """One session, as long as it lasts."""

    def __init__(self, session: int) -> None:
        self.session = session
        self.is_over = False
        self._last = 0
        # Requests that have no answer yet: within `PENDING_MAX` numbers.
        self._open: set[int] = set()
        self._fewer = trio.Event()

    @property
    def answered(self) -> int:
        """See `RequestId`."""
        return min(self._open, default=self._last + 1)

    async def begin(self) -> int:
        """The number of a new request, once there is room for its reply."""
        while self._last + 1 >= self.answered + bounds.PENDING_MAX:
            await self._fewer.wait()
        self._last += 1
        self._open.add(self._last)
        return self._last

    def end(self, number: int) -> None:
        """Nobody waits for an answer any more."""
        self._open.discard(number)
        self._fewer.set()
        self._fewer = trio.Event()


class Claim:
    """A claim of this process.

    Attributes:
        token: of the grant; 0 while it waits.
        is_over: whether it is there no more.
        held_until_s: until when nobody else can have been granted it, by this process' clock; see `CLOCK_ERROR`.
        scope: what is cancelled when it is lost.
        attention: what is cancelled when nobody needs to attend to it any more.
    """

    def __init__(self, host: Host, life: Life, number: int, ttl_ms: int) -> None:
        self.life = life
        self.number = number
        self.ttl_s = ttl_ms / 1000
        self.made = 0
        self.token = 0
        self.is_over = False
        self.held_until_s = -math.inf
        self.scope = trio.CancelScope()
        self.attention = trio.CancelScope()
        self._is_lapsed = False
        self._host = host
        self._news = trio.Event()

    @property
    def is_held(self) -> bool:
        """Whether it is granted and surely lasts."""
        return self.token > 0 and not self.is_over and not self._is_lapsed and self._host.now() < self.held_until_s

    async def next_news(self) -> None:
        """Wait until something about it has changed. Look first."""
        await self._news.wait()

    def renewed(self, sent_at_s: float) -> None:
        """What was sent at that time, or later, has made it last a TTL anew."""
        self.held_until_s = max(self.held_until_s, sent_at_s + self.ttl_s * (1 - CLOCK_ERROR))
        self._tell()

    def granted(self, token: int) -> None:
        """It is held."""
        self.token = token
        self._tell()

    def let_go(self) -> None:
        """What it protected goes on without it."""
        self.scope = trio.CancelScope()

    def ended(self) -> None:
        """It is there no more."""
        self.is_over = True
        self.scope.cancel()
        self.attention.cancel()
        self._tell()

    async def lapse(self) -> None:
        """Have what it protects end once it is held and could not be renewed in time."""
        while not self._is_lapsed:
            if self._host.now() < self.held_until_s:
                await self._host.sleep_until(self.held_until_s)
            elif self.token:
                self._is_lapsed = True
                self.scope.cancel()
                self._tell()
            else:
                await self.next_news()

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()


class ProcessSession:
    """Of a node or a client.

    Args:
        name, node_id, boot: see `BeginSession`.
    """

    def __init__(self, host: Host, replica: Replica, opening: BeginSession) -> None:
        self._host = host
        self._replica = replica
        self._opening = opening
        self._life: Life | None = None
        self._one_opens = trio.Lock()
        self._claims: dict[tuple[int, int], Claim] = {}
        self._more_claims = trio.Event()
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled. Claims are lost then, since nobody renews them."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                task_status.started()
                try:
                    await self._keep_alive()
                finally:
                    self._nursery = None  # what others started in it is still there when it ends
        finally:
            for claim in self._claims.values():
                claim.ended()
            self._claims.clear()

    # ---- requests

    async def request(self, make: Callable[[RequestId], Requested], *, within_s: float) -> Reply:
        """Have a request carried out, at most once.

        Raises:
            Unavailable: nobody agreed in time. It had no effect, and never will.
            OutcomeUnknown: so; it may have had one.
            MeshError: it was refused, and had no effect.
        """
        until_s = self._host.now() + within_s
        while True:
            async with self._numbered(until_s) as (life, number):
                with contextlib.suppress(SessionOver):
                    return await self._propose(life, number, make, until_s)

    @contextlib.asynccontextmanager
    async def _numbered(self, until_s: float) -> AsyncIterator[tuple[Life, int]]:
        life = await self._opened(until_s)
        number = await life.begin()
        try:
            yield life, number
        finally:
            life.end(number)

    async def _opened(self, until_s: float) -> Life:
        async with self._one_opens:
            problem = "nobody was asked"
            while self._life is None or self._life.is_over:
                left_s = until_s - self._host.now()
                if left_s <= 0:
                    raise Unavailable(f"not agreed on in time: {problem}")
                try:
                    reply = await self._agree(self._opening, left_s)
                except (Unavailable, OutcomeUnknown) as error:  # one that was opened in vain ends by itself
                    problem = str(error)
                    await self._host.sleep_until(self._host.now() + PAUSE_S)
                else:
                    assert isinstance(reply, Opened)
                    self._life = Life(reply.session)
            return self._life

    async def _propose(self, life: Life, number: int, make: Callable[[RequestId], Requested], until_s: float) -> Reply:
        """Propose until the outcome is known.

        Raises:
            SessionOver: the session ended before, so it had no effect.
        """
        unknown: OutcomeUnknown | None = None
        problem: MeshError = Unavailable("the time was over before it could be proposed")
        while (left_s := until_s - self._host.now()) > 0:
            try:
                return await self._agree(make(RequestId(life.session, number, life.answered)), left_s)
            except SessionOver as error:
                self._over(life)
                if unknown is not None:
                    raise OutcomeUnknown("the session ended before the outcome of the request was known") from error
                raise
            except OutcomeUnknown as error:
                unknown = error
            except Unavailable as error:
                if error.code != Unavailable.code:
                    raise  # it was refused
                problem = error
            await self._host.sleep_until(self._host.now() + PAUSE_S)
        if unknown is not None:
            raise OutcomeUnknown(f"no word in time: {unknown}") from unknown
        raise Unavailable(f"not agreed on in time: {problem}") from problem

    async def _agree(self, command: BeginSession | Renew | Requested, left_s: float) -> Reply:
        reply = await self._replica.agree(command, timeout_s=min(left_s, TRY_S))
        if isinstance(reply, Refused):
            raise error_from_code(reply.code, reply.message)
        return reply

    def _over(self, life: Life) -> None:
        life.is_over = True
        for key, claim in list(self._claims.items()):
            if claim.life is life:
                del self._claims[key]
                claim.ended()

    # ---- claims

    async def claim(self, names: tuple[str, ...], ttl_ms: int, *, until_s: float) -> Claim:
        """Make a claim; it may have to wait. It is kept alive until it is given up.

        Raises:
            Unavailable: nobody agreed in time.
            MeshError: it was refused.
        """
        while True:
            async with self._numbered(until_s) as (life, number):
                claim = Claim(self._host, life, number, ttl_ms)
                begun_s = self._host.now()
                try:
                    reply = await self._propose(life, number, lambda request: Acquire(request, names, ttl_ms), until_s)
                except SessionOver:
                    continue
                except BaseException:  # also a cancellation: it may be made, now or later
                    self.give_up(claim)
                    raise
            assert isinstance(reply, Claimed)
            claim.made = reply.at
            claim.renewed(begun_s)
            if reply.token:
                claim.granted(reply.token)
            if self._nursery is None:
                raise Unavailable("this node or client has ended")
            self._claims[life.session, number] = claim
            self._more_claims.set()
            self._nursery.start_soon(self._attend, claim)
            return claim

    def give_up(self, claim: Claim) -> trio.Event:
        """Give a claim up in the background; the event is set when that is done, or needs not be done any more."""
        released = trio.Event()
        self._claims.pop((claim.life.session, claim.number), None)
        claim.ended()
        if self._nursery is None or claim.life.is_over:
            released.set()
        else:
            self._nursery.start_soon(self._release, claim, released)
        return released

    async def _release(self, claim: Claim, released: trio.Event) -> None:
        life = claim.life
        until_s = self._host.now() + RELEASE_S
        try:
            number = await life.begin()
            try:
                with contextlib.suppress(MeshError):  # it ends by itself then
                    done = await self._propose(life, number, lambda request: Release(request, claim.number), until_s)
                    assert isinstance(done, Done)
            finally:
                life.end(number)
        finally:  # also of this process: nobody else releases it
            released.set()

    async def _attend(self, claim: Claim) -> None:
        with claim.attention:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(claim.lapse)
                await self._follow(claim)

    async def _follow(self, claim: Claim) -> None:
        """Hear what becomes of a claim, until it is over."""
        while not claim.is_over:
            question = AwaitClaim(claim.life.session, claim.number, claim.token, claim.made)
            try:
                answer = await self._replica.ask(question)
            except MeshError:
                await self._host.sleep_until(self._host.now() + PAUSE_S)
                continue
            assert isinstance(answer, ClaimIs)
            if not answer.is_there:
                self._lost(claim)
            elif answer.token:
                claim.granted(answer.token)

    def _lost(self, claim: Claim) -> None:
        if not claim.is_over:
            self._claims.pop((claim.life.session, claim.number), None)
            claim.ended()

    async def _keep_alive(self) -> None:
        while True:
            self._more_claims = trio.Event()
            if not self._claims:
                await self._more_claims.wait()
                continue
            sent_at_s = self._host.now()
            interval_s = min(claim.ttl_s for claim in self._claims.values()) / RENEWALS_PER_TTL
            renewed = await self._renew(sent_at_s, interval_s)
            with self._host.deadline(sent_at_s + (interval_s if renewed else PAUSE_S)):
                await self._more_claims.wait()

    async def _renew(self, sent_at_s: float, interval_s: float) -> bool:
        """Renew all claims; whether they are."""
        life = next(iter(self._claims.values())).life
        claims = [claim for claim in self._claims.values() if claim.life is life]
        try:
            reply = await self._agree(Renew(life.session, tuple([claim.number for claim in claims])), interval_s)
        except SessionOver:
            self._over(life)
            return False
        except MeshError:
            return False
        assert isinstance(reply, Renewed)
        for claim in claims:
            if claim.number in reply.claims:
                claim.renewed(sent_at_s)
            else:
                self._lost(claim)
        return True
