"""The one seam between a node and everything outside it.

A node opens sockets, touches the disk, reads clocks, draws random numbers and runs blocking work through its `Host` and
in no other way. `RealHost` is this machine. The simulator has a host made of events, and one suite of contract tests
runs against both.

Times are seconds. `Host.now` is monotonic, comparable between the loops of one node and with nothing else.
"""

import contextlib
import errno
import os
import random
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Generic, Protocol, TypeVar, TypeVarTuple

import trio

from consensus.disk import Disk
from consensus.syncing import QuickSyncs, Syncs
from meshnode.errors import AddressInUse, OperatorError
from meshnode.identity import Address
from meshnode.real_disk import RealDisk

T = TypeVar("T")
K = TypeVar("K")
Ts = TypeVarTuple("Ts")

DATAGRAM_BYTES_MAX = 65_507
"""The largest UDP payload over IPv4."""

BLOCKING_THREADS_MAX = 16
"""Journal, Raft log, device and agents' own blocking calls; more would only queue on the disk and the cores."""

CONNECTS_PENDING_MAX = 256
"""The kernel's queue of accepted connections: a whole mesh of a few hundred nodes may dial one that returns."""


STREAM_SILENCE_S = 15
"""A stream whose far side acknowledges nothing for this long is broken. Left alone, the kernel goes on for a quarter of
an hour with bytes under way, and for ever without any: too long for whoever waits for an answer. A switch that
restarts a port, or a burst of loss, is over in less."""

# Options of TCP, each where the platform has it: probe a stream on which nothing is under way after 5 s, then each 5 s,
# and give up after the second probe without an answer; for bytes under way the limit is in milliseconds (RFC 5482).
_STREAM_OPTIONS = (
    ("TCP_KEEPIDLE", STREAM_SILENCE_S // 3),
    ("TCP_KEEPALIVE", STREAM_SILENCE_S // 3),  # macOS' name of the first
    ("TCP_KEEPINTVL", STREAM_SILENCE_S // 3),
    ("TCP_KEEPCNT", 2),
    ("TCP_USER_TIMEOUT", STREAM_SILENCE_S * 1000),
)


class Datagrams(Protocol):
    """A bound datagram endpoint."""

    @property
    def address(self) -> Address:
        """Where it is bound, with the real port."""
        ...

    async def send(self, data: bytes, to: Address) -> None:
        """Send once, with no promise: what can't be sent now is lost, as on the network."""
        ...

    async def receive(self) -> tuple[bytes, Address]:
        """The next datagram and its sender."""
        ...


class Mailbox(Protocol[K, T]):
    """Carries events from any loop of the node to the one that receives.

    Events are keyed by their subject. A newer event replaces one of the same subject that was not yet received; past
    the bound an event of a new subject is dropped and counted.
    """

    @property
    def dropped(self) -> int:
        """How many events were dropped because the mailbox was full."""
        ...

    def put(self, key: K, event: T) -> None:
        """Never blocks; may be called from any loop of the node."""
        ...

    async def receive(self) -> dict[K, T]:
        """Wait until there is something, then take all of it, oldest subject first. One receiver at a time."""
        ...


class Host(Protocol):
    """What a node takes from outside. `RealHost` says how each is done on a machine."""

    @property
    def rng(self) -> random.Random:
        """The node's random generator: for jitter, probe order and election timeouts, not for secrets."""
        ...

    def now(self) -> float:
        """Monotonic seconds from an arbitrary origin."""
        ...

    def wall_clock(self) -> float:
        """Seconds since 1970-01-01 UTC; may jump. For people and log lines, and for nothing that must be right."""
        ...

    async def sleep_until(self, at: float) -> None:
        """Return when `now` is at least ``at``."""
        ...

    def deadline(self, at: float) -> trio.CancelScope:
        """A scope that is cancelled when `now` reaches ``at``."""
        ...

    def fresh_id(self, bits: int) -> int:
        """An unpredictable number from 1 to ``2**bits − 1``, never drawn twice in practice."""
        ...

    def datagrams(self, bind: Address) -> AbstractAsyncContextManager[Datagrams]:
        """A datagram endpoint at ``bind``; port 0 takes a free one.

        Raises:
            AddressInUse: another process has the address.
            OperatorError: it can't be bound for another reason.
        """
        ...

    async def listen(self, bind: Address) -> tuple[trio.abc.Listener[trio.abc.HalfCloseableStream], Address]:
        """Accept streams at ``bind``; also where that is, with the real port. Raises as `datagrams` does."""
        ...

    async def dial(self, to: Address) -> trio.abc.HalfCloseableStream:
        """Connect a stream.

        Raises:
            OSError: nobody answers there.
        """
        ...

    def disk(self, root: str) -> AbstractAsyncContextManager[Disk]:
        """Lock the directory ``root``, made if absent, and give access to it.

        The disk's own methods block: call them through `run_blocking`, except before the node serves.

        Raises:
            DataDirectoryError: it is locked by another process, not a directory, or not writable.
        """
        ...

    async def run_blocking(self, work: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """Run ``work`` where it does not hold up the loop; what it returns or raises comes out here.

        Work that has begun is not interrupted by a cancellation, and its result is not lost to one: the next checkpoint
        notices.
        """
        ...

    def syncs(self) -> Syncs:
        """What runs the syncs of one file, with small writes before them: as `run_blocking`, or at once if quicker.

        It learns from each sync of its file, so each file has its own.
        """
        ...

    async def own_loop(
        self,
        main: Callable[[Callable[[], None]], Awaitable[None]],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Run ``main`` on an event loop of its own until it returns, raises or this call is cancelled.

        ``main`` is given a function to call once, when it is ready: `nursery.start` of this method then returns. What
        ``main`` raises comes out here, as from a nursery: in exception groups.
        """
        ...

    def mailbox(self, bound: int) -> Mailbox[K, T]:
        """A mailbox of at most ``bound`` subjects.

        Raises:
            ValueError: the bound is below 1.
        """
        ...


class RealDatagrams:
    """UDP on this machine."""

    def __init__(self, socket: trio.socket.SocketType) -> None:
        self._socket = socket
        host, port = socket.getsockname()[:2]
        self.address = Address(host, port)

    async def send(self, data: bytes, to: Address) -> None:
        # A full buffer, an unreachable network, a datagram over the limit: lost, like any other. So is one to an
        # address that is none (a port out of range, a host that can't be a name): addresses come from other nodes.
        with contextlib.suppress(OSError, OverflowError, ValueError):
            await self._socket.sendto(data, (to.host, to.port))

    async def receive(self) -> tuple[bytes, Address]:
        while True:
            try:
                data, sender = await self._socket.recvfrom(DATAGRAM_BYTES_MAX)
            except OSError as error:
                if error.errno in (errno.EBADF, errno.ENOTSOCK):
                    raise
                continue  # an ICMP error for something that was sent earlier; it says nothing about what arrives
            return data, Address(sender[0], sender[1])


class RealMailbox(Generic[K, T]):
    """A mailbox between threads."""

    def __init__(self, bound: int) -> None:
        if bound < 1:
            raise ValueError(f"a mailbox of {bound} subjects would drop everything: give it room for at least one")
        self.dropped = 0
        self._bound = bound
        self._events: dict[K, T] = {}
        self._lock = threading.Lock()
        self._token: trio.lowlevel.TrioToken | None = None
        self._arrived = trio.Event()

    def put(self, key: K, event: T) -> None:
        with self._lock:
            if key not in self._events and len(self._events) >= self._bound:
                self.dropped += 1
                return
            self._events[key] = event
            token = self._token
        if token is not None:
            # The receiver's loop may be gone already, and then nobody is left to wake.
            with contextlib.suppress(trio.RunFinishedError):
                token.run_sync_soon(self._wake, idempotent=True)

    def _wake(self) -> None:
        self._arrived.set()

    async def receive(self) -> dict[K, T]:
        # Before anything is taken, so that a cancellation loses nothing and busy senders don't starve the loop.
        await trio.lowlevel.checkpoint()
        while True:
            with self._lock:
                self._token = trio.lowlevel.current_trio_token()
                self._arrived = trio.Event()
                events, self._events = self._events, {}
            if events:
                return events
            await self._arrived.wait()


class RealHost:
    """This machine: the kernel's sockets, files, clocks and randomness, and threads for what blocks."""

    def __init__(self) -> None:
        self.rng = random.Random(os.urandom(32))
        self._threads: trio.lowlevel.RunVar[trio.CapacityLimiter | None] = trio.lowlevel.RunVar("threads", None)

    def now(self) -> float:
        # Not trio's clock: each trio.run starts its own at a random offset, and the loops of a node compare times.
        return time.monotonic()

    def wall_clock(self) -> float:
        return time.time()

    async def sleep_until(self, at: float) -> None:
        while True:
            await trio.sleep(max(0.0, at - self.now()))
            if not self.now() < at:  # trio counts from another origin, and rounds differently
                return

    def deadline(self, at: float) -> trio.CancelScope:
        left = at - self.now()  # read first: a scope may be cancelled late, but not before the time
        return trio.CancelScope(deadline=trio.current_time() + left)

    def fresh_id(self, bits: int) -> int:
        return random.SystemRandom().randrange(1, 2**bits)

    @contextlib.asynccontextmanager
    async def datagrams(self, bind: Address) -> AsyncIterator[RealDatagrams]:
        family = trio.socket.AF_INET6 if ":" in bind.host else trio.socket.AF_INET
        with trio.socket.socket(family, trio.socket.SOCK_DGRAM) as socket:
            try:
                if family == trio.socket.AF_INET6:  # as the listeners are: an address has one form, not two
                    socket.setsockopt(trio.socket.IPPROTO_IPV6, trio.socket.IPV6_V6ONLY, 1)
                _check_port(bind.port)
                await socket.bind((bind.host, bind.port))
            except (OSError, ValueError) as error:
                raise _bind_error(error, bind) from error
            yield RealDatagrams(socket)

    async def listen(self, bind: Address) -> tuple[trio.abc.Listener[trio.abc.HalfCloseableStream], Address]:
        try:
            _check_port(bind.port)
            listeners = await trio.open_tcp_listeners(bind.port, host=bind.host, backlog=CONNECTS_PENDING_MAX)
        except (OSError, ValueError) as error:
            raise _bind_error(error, bind) from error
        for surplus in listeners[1:]:  # a name with several addresses: the first one counts, for datagrams too
            await surplus.aclose()
        _bound_silence(listeners[0].socket)  # accepted streams inherit the options of their listener
        return listeners[0], Address(bind.host, listeners[0].socket.getsockname()[1])

    async def dial(self, to: Address) -> trio.abc.HalfCloseableStream:
        try:
            _check_port(to.port)
            stream = await trio.open_tcp_stream(to.host, to.port)
        except ValueError as error:  # no address at all; it may have come from another node
            raise OSError(errno.EINVAL, f"{to} can't be dialled: {error}") from error
        _bound_silence(stream.socket)
        return stream

    @contextlib.asynccontextmanager
    async def disk(self, root: str) -> AsyncIterator[RealDisk]:
        disk = await self.run_blocking(RealDisk, root)
        try:
            yield disk
        finally:
            disk.close()

    async def run_blocking(self, work: Callable[[*Ts], T], *arguments: *Ts) -> T:
        return await trio.to_thread.run_sync(work, *arguments, limiter=self._limiter())

    def syncs(self) -> Syncs:
        return QuickSyncs(self.run_blocking, time.perf_counter)

    async def own_loop(
        self,
        main: Callable[[Callable[[], None]], Awaitable[None]],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        loop = _OwnLoop(main, task_status.started)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(loop.stop_when_cancelled)
            with trio.CancelScope(shield=True):
                # A thread that lasts as long as the node is no charge on the limit for blocking work.
                await trio.to_thread.run_sync(loop.run, limiter=trio.CapacityLimiter(1))
            nursery.cancel_scope.cancel()

    def mailbox(self, bound: int) -> RealMailbox[K, T]:
        return RealMailbox(bound)

    def _limiter(self) -> trio.CapacityLimiter:
        """One for each loop: a limiter wakes tasks of its own loop only."""
        limiter = self._threads.get()
        if limiter is None:
            limiter = trio.CapacityLimiter(BLOCKING_THREADS_MAX)
            self._threads.set(limiter)
        return limiter


class _OwnLoop:
    """A second ``trio.run`` in a thread, bound to a task of the first."""

    def __init__(self, main: Callable[[Callable[[], None]], Awaitable[None]], started: Callable[[], None]) -> None:
        self._main = main
        self._started = started
        self._parent = trio.lowlevel.current_trio_token()
        self._token: trio.lowlevel.TrioToken | None = None
        self._scope = trio.CancelScope()
        self._stopping = False
        self._is_ready = False

    def run(self) -> None:
        trio.run(self._inner)

    async def _inner(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        if self._stopping:  # set before or after the token was: one of the two sides sees the other
            self._scope.cancel()
        with self._scope:
            await self._main(self._ready)

    def _ready(self) -> None:
        # Here, where the caller gets the error: in the parent's loop a second start would end the whole run.
        assert not self._is_ready, "ready was called twice"
        self._is_ready = True
        self._parent.run_sync_soon(self._started)

    async def stop_when_cancelled(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            self._stopping = True
            if self._token is not None:
                with contextlib.suppress(trio.RunFinishedError):
                    self._token.run_sync_soon(self._scope.cancel)


def _check_port(port: int) -> None:
    # The resolver takes the last sixteen bits of any number, and so would lead somewhere else.
    if not 0 <= port <= 65535:
        raise ValueError(f"port {port} is not from 0 to 65535")


def _bound_silence(socket: trio.socket.SocketType) -> None:
    # Refused by a platform, or for a stream that broke meanwhile: links notice a silent peer by themselves, too.
    with contextlib.suppress(OSError):
        socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_KEEPALIVE, 1)
        for name, value in _STREAM_OPTIONS:
            if hasattr(trio.socket, name):
                socket.setsockopt(trio.socket.IPPROTO_TCP, getattr(trio.socket, name), value)


def _bind_error(error: OSError | ValueError, bind: Address) -> OperatorError:
    reason = str(error)
    if isinstance(error, OSError):
        if error.errno == errno.EADDRINUSE:
            return AddressInUse(f"{bind} is in use by another process: stop it, or choose another port with --bind")
        reason = error.strerror or reason
    return OperatorError(f"can't bind {bind}: {reason}. Give an address of this machine, and a port that it may use")
