"""Streams: what TCP looks like from above, and how it ends."""

import functools
import random
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from meshnode.identity import Address
from simulations.hosts.damage import flipped
from simulations.kernel import Handle

if TYPE_CHECKING:
    from simulations.hosts.network import Network

WINDOW_BYTES = 256 * 2**10
"""What may be under way or unread in one direction: the kernels' buffers on both sides."""

RETRANSMIT_S = 0.2
"""What a segment that was lost costs: Linux's smallest retransmission timeout."""

GIVE_UP_S = (9.0, 16.0)
"""After how long, between these, the sender of what is not acknowledged gives the connection up."""

ACCEPT_QUEUE_MAX = 256
"""Connections that wait for `accept`; past it a dial is refused."""


class SimStream(trio.abc.HalfCloseableStream):
    """One end of a connection. One task may send and one may receive at a time, as with trio's own."""

    def __init__(self, network: "Network", local: Address, remote: Address, owner: object) -> None:
        """
        Attributes:
            is_orphan: the other side knows nothing of the connection any more, and does not say so.
            breaks_next: the connection ends in the middle of what this end sends next.
        """
        self.local = local
        self.remote = remote
        self.owner = owner
        self.peer: SimStream | None = None
        self._network = network
        self._is_closed = False
        self._error: str | None = None
        # What arrived and was not read: at most a window.
        self._arrived = bytearray()
        self._has_ended = False
        self._reader: trio.lowlevel.Task | None = None
        # What this end sent.
        self._unread_bytes = 0
        self._sender: trio.lowlevel.Task | None = None
        self._sent_end = False
        self._last_arrival_s = 0.0
        # What did not get through yet: at most a window, and the end.
        self._stalled: deque[bytes] = deque()
        self._giving_up: Handle | None = None
        self.is_orphan = False
        self.breaks_next = False
        self._is_cut_short = False
        # What arrives is noise from some moment on; before that, whether anything was sent.
        self._noise: random.Random | None = None
        self._has_sent = False
        self._subject = f"{local} → {remote}"

    # ---- what a program does

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        self._check_can_send()
        if 0 < len(data) <= WINDOW_BYTES - self._unread_bytes:
            self._unread_bytes += len(data)
            self._transmit(bytes(data), begins=True)
            return
        view = memoryview(bytes(data))
        begins = True
        while view:
            while self._unread_bytes >= WINDOW_BYTES:
                await self._wait_to_send()
                self._check_can_send()
            part = bytes(view[: WINDOW_BYTES - self._unread_bytes])
            view = view[len(part) :]
            self._unread_bytes += len(part)
            self._transmit(part, begins=begins)
            begins = False

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()
        self._check_can_send()
        while self._unread_bytes >= WINDOW_BYTES:
            await self._wait_to_send()
            self._check_can_send()

    async def send_eof(self) -> None:
        await trio.lowlevel.checkpoint()
        if self._is_closed:
            raise trio.ClosedResourceError("this stream was closed")
        if not self._sent_end:
            self._sent_end = True
            self._transmit(b"")

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if max_bytes is not None and max_bytes < 1:
            raise ValueError(f"max_bytes is {max_bytes}: choose 1 or more")
        if self._must_wait():
            await self._wait_to_receive()
        else:
            await trio.lowlevel.checkpoint()
        while self._must_wait():  # what had come was taken by another task, or was lost in a reset
            await self._wait_to_receive()
        if self._is_closed:
            raise trio.ClosedResourceError("this stream was closed")
        if self._arrived:
            return self._take(max_bytes or WINDOW_BYTES)
        if self._error is not None:
            raise trio.BrokenResourceError(self._error)
        return b""

    def _must_wait(self) -> bool:
        return not (self._arrived or self._has_ended or self._is_closed or self._error is not None)

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """Close as a process that ends does: in order, unless something that arrived was not read."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._error is None:
            if self._arrived:
                self._network.tell(self.local, self.remote, self._reset_peer)
            elif not self._sent_end:
                self._sent_end = True
                self._transmit(b"")
        self._arrived.clear()
        self._wake()

    # ---- what happens to it

    @property
    def is_over(self) -> bool:
        """Whether nobody at either end can do anything with it."""
        return self._is_closed and (self.peer is None or self.peer._is_closed)

    def break_off(self, reason: str) -> None:
        """The connection is no more, as this end sees it."""
        self._drop_unsent()
        if self._error is None and not self._is_closed:
            self._error = reason
            self._wake()

    def orphan(self) -> None:
        """The other side has lost the connection, and nothing that this end sends is answered any more."""
        self.is_orphan = True
        if self._unread_bytes or self._sender is not None:
            self._miss_acknowledgement()

    def vanish(self) -> None:
        """The machine of this end has lost its power: nobody is told."""
        self._drop_unsent()
        self._is_closed = True
        self.owner = None

    def path_darkens(self) -> None:
        """Whoever waits for room at the other side asks for it from time to time, and is not answered any more."""
        if self._sender is not None:
            self._miss_acknowledgement()

    def path_opens(self) -> None:
        """What could not be sent is sent again, though its acknowledgement may still be lost."""
        stalled, self._stalled = self._stalled, deque()
        if stalled:
            self._last_arrival_s = max(self._last_arrival_s, self._network.events.now + RETRANSMIT_S)
        for part in stalled:
            self._transmit(part)

    def acknowledge(self) -> None:
        """Nothing is missing any more."""
        if self._giving_up is not None:
            self._giving_up.cancel()
            self._giving_up = None

    def _transmit(self, part: bytes, *, begins: bool = False) -> None:
        """Put bytes on their way; none mean the end.

        Args:
            begins: something that was sent at once begins here.
        """
        network = self._network
        source, target = self.local.host, self.remote.host
        if self._is_cut_short:
            return
        if self.is_orphan:
            self._miss_acknowledgement()
            return
        if network.is_dark(source, target):
            self._miss_acknowledgement()
            if self._stalled or not network.can_reach(source, target):
                self._stalled.append(part)
                return
        fate = network.paths.draw(source, target, "stream")
        arrives_s = network.paths.leaves_at(source, target, len(part), network.events.now) + fate.delay_s
        if fate.damage and begins:
            part = self._damaged(part, fate.damage)
        elif self._noise is not None:
            part = self._noise.randbytes(len(part))
        self._has_sent = True
        if self.breaks_next and begins and len(part) > 1:
            self._break_in(part, arrives_s, fate.share)
            return
        if fate.is_lost:
            in_time = int(len(part) * fate.share)  # the segments before the one that was lost
            if in_time:
                self._arrive_at(arrives_s, part[:in_time])
            arrives_s += RETRANSMIT_S
            part = part[in_time:]
        self._arrive_at(arrives_s, part)

    def _damaged(self, part: bytes, key: int) -> bytes:
        """See `simulations.hosts.damage`."""
        self._network.fired["damaged send"] += 1
        if not self._has_sent and self._noise is None:
            return flipped(part, key)
        self._noise = self._noise or random.Random(key)
        return self._noise.randbytes(len(part))

    def _break_in(self, part: bytes, arrives_s: float, share: float) -> None:
        """A beginning arrives, and then neither end has the connection any more."""
        network = self._network
        network.fired["reset in a frame"] += 1
        self._is_cut_short = True
        self._arrive_at(arrives_s, part[: 1 + int((len(part) - 1) * share)])

        def end() -> None:
            for stream in (self, self.peer):
                if stream is not None:
                    stream.break_off("connection reset")

        network.events.at(self._last_arrival_s, end)

    def _arrive_at(self, time_s: float, part: bytes) -> None:
        self._last_arrival_s = max(time_s, self._last_arrival_s)
        self._network.events.at(self._last_arrival_s, functools.partial(self._deliver, part))

    def _deliver(self, part: bytes) -> None:
        peer, network = self.peer, self._network
        assert peer is not None
        if self.is_orphan or network.is_down(self.remote.host):
            self._miss_acknowledgement()
            return
        shown = bytes(len(part)) if network.is_private else part
        network.trace.note(network.events.now, "stream", self._subject, shown)
        if peer._is_closed or peer._error is not None:
            self._unread_bytes -= len(part)
            # Nobody is told that nobody wants to know that this is the end.
            if part or peer._error is not None or peer.owner is None:
                network.tell(self.remote, self.local, self._was_reset)
            return
        if part:
            peer._arrived += part
        else:
            peer._has_ended = True
        peer._wake_reader()

    def _miss_acknowledgement(self) -> None:
        """Give up, unless the path opens in time."""
        if self._giving_up is None and self.owner is not None:
            network = self._network
            low, high = GIVE_UP_S
            patience = network.paths.share(self.local.host, self.remote.host, "give up")
            self._giving_up = network.events.after(low + (high - low) * patience, self._give_up)
            network.watch(self)

    def _give_up(self) -> None:
        self.break_off("the other side did not acknowledge what was sent for too long")

    def _drop_unsent(self) -> None:
        self.acknowledge()
        self._stalled.clear()
        self._network.unwatch(self)

    def _reset_peer(self) -> None:
        if self.peer is not None:
            self.peer._was_reset()

    def _was_reset(self) -> None:
        self._arrived.clear()
        self.break_off("connection reset by peer")

    def _take(self, max_bytes: int) -> bytes:
        part = bytes(self._arrived) if len(self._arrived) <= max_bytes else bytes(self._arrived[:max_bytes])
        del self._arrived[: len(part)]
        peer = self.peer
        assert peer is not None
        was_full = peer._unread_bytes >= WINDOW_BYTES
        peer._unread_bytes -= len(part)
        if was_full:
            peer._wake_sender()
        return part

    # ---- waiting

    def _check_can_send(self) -> None:
        if self._is_closed or self._sent_end:
            raise trio.ClosedResourceError("this stream was closed for sending")
        if self._error is not None:
            raise trio.BrokenResourceError(self._error)

    async def _wait_to_receive(self) -> None:
        if self._reader is not None:
            raise trio.BusyResourceError("another task receives from this stream")

        def abort(_raise_cancel: object) -> trio.lowlevel.Abort:
            self._reader = None
            return trio.lowlevel.Abort.SUCCEEDED

        self._reader = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(abort)

    async def _wait_to_send(self) -> None:
        if self._sender is not None:
            raise trio.BusyResourceError("another task sends on this stream")

        def abort(_raise_cancel: object) -> trio.lowlevel.Abort:
            self._sender = None
            return trio.lowlevel.Abort.SUCCEEDED

        self._sender = trio.lowlevel.current_task()
        if self._network.is_dark(self.local.host, self.remote.host):
            self.path_darkens()
        await trio.lowlevel.wait_task_rescheduled(abort)

    def _wake_reader(self) -> None:
        if self._reader is not None:
            task, self._reader = self._reader, None
            trio.lowlevel.reschedule(task)

    def _wake_sender(self) -> None:
        if self._sender is not None:
            task, self._sender = self._sender, None
            trio.lowlevel.reschedule(task)

    def _wake(self) -> None:
        self._wake_reader()
        self._wake_sender()


class SimListener(trio.abc.Listener[trio.abc.HalfCloseableStream]):
    """Accepts connections at an address. They are made even while the process is stuck, as by a kernel."""

    def __init__(self, address: Address, owner: object, on_close: Callable[[], object]) -> None:
        self.address = address
        self.owner = owner
        self._on_close = on_close
        self._is_closed = False
        self._pending: deque[SimStream] = deque()
        self._lot = trio.lowlevel.ParkingLot()

    async def accept(self) -> SimStream:
        if self._pending or self._is_closed:
            await trio.lowlevel.checkpoint()
        while not self._pending:
            if self._is_closed:
                raise trio.ClosedResourceError("this listener was closed")
            await self._lot.park()
        return self._pending.popleft()

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """Refuse from now on; who waits to be accepted is cut off."""
        if not self._is_closed:
            self._is_closed = True
            self._on_close()
            for stream in self._pending:
                stream.close()
            self._pending.clear()
            self._lot.unpark_all()

    @property
    def has_room(self) -> bool:
        """Whether another connection may wait to be accepted."""
        return len(self._pending) < ACCEPT_QUEUE_MAX

    def offer(self, stream: SimStream) -> None:
        """A connection, where there is room for it."""
        assert self.has_room
        self._pending.append(stream)
        self._lot.unpark()
