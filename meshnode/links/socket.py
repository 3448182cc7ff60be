"""A WebSocket (RFC 6455) over a stream, as a sequence of whole frames, with one kind of error.

Each frame of a link is one unfragmented binary message. The protocol is trio-websocket's: its handshake, its signs of
life, its end. It gets the stream through a `GuardedStream`, which lets no bytes through that no node sends, and keeps
the frames with messages to itself: the library would look at each of them again, at ten times the cost.
"""

import contextlib
import re
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import trio
from trio_websocket import (
    ConnectionClosed,
    ConnectionRejected,
    WebSocketConnection,
    wrap_client_stream,
    wrap_server_stream,
)

from meshnode.links.heads import FrameHeads, frame_of
from meshnode.wire import WireError

T = TypeVar("T")
Stream = trio.abc.Stream
Clock = Callable[[], float]
Entropy = Callable[[int], int]
"""As `Host.fresh_id`."""

RECEIVE_BYTES = 64 * 2**10
"""What is read from the kernel at a time: bulk costs few wake-ups, and what is parsed without one stays small."""

HANDSHAKE_BYTES_MAX = 2 * RECEIVE_BYTES
"""What may come before the first frame. The library gives up on a head of 16 KiB, so this is more than that and one
more read; what it would collect without a bound is the body of an answer that is no WebSocket."""

_MASK_BYTES = 4
_MASKS_DRAWN = 32
"""At a time: they must come from where nobody can foresee them (RFC 6455, 10.3), which costs more than to keep some."""

RESOURCE = "/meshnode/1"

ABNORMAL_CLOSURE = 1006

_TLS_REQUIRED_STATUS = 426

TLS_REQUIRED = (
    b"HTTP/1.1 %d Upgrade Required\r\nUpgrade: TLS/1.3\r\nConnection: Upgrade, close\r\nContent-Length: 0\r\n\r\n"
) % _TLS_REQUIRED_STATUS
"""What a side that speaks TLS answers to plain HTTP (RFC 2817, 4.2)."""

TLS_ON_BOTH = "give both sides --tls-ca, --tls-cert and --tls-key, or neither"

_CLIENT_HELLO = b"\x16\x03"
"""How whoever dials with TLS begins (RFC 8446, 5.1)."""

_BLANK_LINE = re.compile(rb"\n\r?\n")
"""The end of a head, where the most tolerant reader of HTTP sees one (RFC 9112, 2.2)."""


class SocketClosed(Exception):
    """The connection ended, orderly or not."""


class TlsRefused(SocketClosed):
    """One side speaks TLS and the other does not, or not with a certificate that it believes: an operator must act."""


class GuardedStream(trio.abc.Stream):
    """The stream as the library sees it. What may not pass breaks it, and so does a send that was cut off.

    Once it expects frames, whoever asks for a `message` reads them, and hands the library those of control; nothing
    more is read while it answers these. With the last message the library reads for itself again.

    Attributes:
        heard_at: when bytes arrived last, in the time of ``now``.
        sent_at: when the sending of bytes began or ended last.
        end: why nothing comes any more; empty as long as something may.
    """

    def __init__(self, stream: Stream, now: Clock, heads: FrameHeads) -> None:
        self.heard_at = self.sent_at = now()
        self.end = ""
        # Locks of trio's would cost more than what they guard.
        self._is_sending = self._is_reading = False
        self._senders, self._readers = trio.lowlevel.ParkingLot(), trio.lowlevel.ParkingLot()
        self._messages: deque[bytes] = deque()
        self._has_ended = False
        # What came for the library in one read, and whether it has asked for more since.
        self._for_library = b""
        self._is_answering = False
        self._news = trio.Event()
        self._answered = trio.Event()
        self._stream = stream
        self._now = now
        self._heads = heads
        self._handshake: bytearray | None = bytearray()
        self._is_over = False
        self._failure: trio.BrokenResourceError | None = None
        self._is_whole = True

    def speaks_tls(self) -> bool:
        """Whether the handshake began as one of TLS does."""
        return self._handshake is not None and self._handshake.startswith(_CLIENT_HELLO)

    def expect_frames(self) -> None:
        """What arrives from now on are frames, for the library, too.

        Raises:
            SocketClosed: some came before. A node sends none before its handshake is answered, or before our first.
        """
        assert self._handshake is not None
        end_of_head = _BLANK_LINE.search(self._handshake)
        if end_of_head is None or end_of_head.end() < len(self._handshake):
            raise SocketClosed("the peer did not wait for the end of the handshake")
        self._handshake = None

    async def message(self) -> bytes | None:
        """The next message; None when there is none any more."""
        while not self._messages:
            if self._has_ended:
                return None
            if self._is_answering:
                self._answered = trio.Event()
                await self._answered.wait()
            else:
                await self._read()
        return self._messages.popleft()

    def end_messages(self) -> None:
        """No message comes any more after those that are here."""
        self._has_ended = True
        self._news.set()
        self._answered.set()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Raises BrokenResourceError, also for bytes that may not pass."""
        self._is_answering = bool(self._for_library)
        self._answered.set()
        while not self._for_library:
            if self._failure is not None:
                raise trio.BrokenResourceError(self.end) from self._failure
            if self._is_over:
                return b""
            if self._handshake is not None or self._has_ended:
                await self._read()
            else:
                self._news = trio.Event()
                await self._news.wait()
        data, self._for_library = self._for_library, b""
        return data

    async def _read(self) -> None:
        """Read what comes next, or wait until somebody has who does so already."""
        if self._is_reading:  # the library does, since before it expected frames
            await self._readers.park()
            return
        self._is_reading = True
        try:
            self._sort(bytes(await self._stream.receive_some(RECEIVE_BYTES)))
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError) as error:
            self._fail(f"the connection broke: {error}", error)
        except WireError as error:
            self._fail(str(error), error)
        finally:
            self._is_reading = False
            if self._readers:
                self._readers.unpark_all()

    def _sort(self, data: bytes) -> None:
        """Raises WireError for what may not pass; what came before it is kept."""
        if not data:
            self.end = self.end or "the connection ended"
            self._is_over = True
            self.end_messages()
            return
        self.heard_at = self._now()
        if self._handshake is not None:
            self._handshake += data
            if len(self._handshake) > HANDSHAKE_BYTES_MAX:
                raise WireError(f"a handshake of more than {HANDSHAKE_BYTES_MAX} bytes")
            self._for_library = data
            return
        messages, controls = self._heads.follow(data)
        if not self._has_ended:
            self._messages.extend(messages)
        if self._heads.fault:
            raise WireError(self._heads.fault)
        if controls:
            self._for_library = controls
            self._is_answering = True
            self._news.set()
        if self._heads.has_ended:
            self.end_messages()

    def _fail(self, reason: str, error: Exception) -> None:
        self._failure = self._broken(reason)
        self._failure.__cause__ = error
        self.end_messages()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Raises BrokenResourceError, also when the send before was cut off: this would become a part of its frame."""
        while self._is_sending:
            await self._senders.park()
        self._is_sending = True
        try:
            await self._send(data)
        finally:
            self._is_sending = False
            if self._senders:
                self._senders.unpark()

    async def _send(self, data: bytes | bytearray | memoryview) -> None:
        if not self._is_whole:
            raise self._broken("the connection broke: a frame was cut off")
        self.sent_at = self._now()
        self._is_whole = False
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError) as error:
            raise self._broken(f"the connection broke: {error}") from error
        self._is_whole = True
        self.sent_at = self._now()

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()

    def _broken(self, reason: str) -> trio.BrokenResourceError:
        self.end = self.end or reason
        return trio.BrokenResourceError(reason)


async def _of_foreign_bytes(step: Callable[[], Awaitable[T]]) -> T:
    """The result of a step of the library.

    Raises:
        SocketClosed: for an error of any type. The library lets those of its tools out, UnicodeError among them, when
            bytes from outside are not what it expects; no code of the rooms runs inside the step.
    """
    try:
        return await step()
    except Exception as error:
        raise _no_websocket(error) from error


def _no_websocket(error: Exception) -> SocketClosed:
    return SocketClosed(f"no WebSocket: {error!r:.200}")


class Reader:
    """The library's task, and the nursery that the library starts it in: `start_soon` is all that it asks of one.

    Whatever the task ends with is the end of this connection only.

    Attributes:
        ended: the task is over.
        failure: the error that it ended with, if any.
    """

    def __init__(self, nursery: trio.Nursery, stream: GuardedStream) -> None:
        self.ended = trio.Event()
        self.failure: SocketClosed | None = None
        self._nursery = nursery
        self._stream = stream
        self._awaiting = trio.CancelScope()

    def start_soon(self, task: Callable[[], Awaitable[None]]) -> None:
        """What the library calls, once."""
        self._nursery.start_soon(self._run, task)

    async def result_of(self, step: Callable[[], Awaitable[T]]) -> T:
        """The result of a step of the library; such a step may wait for the task, even after its end.

        Raises:
            SocketClosed: the step failed, or the task ended before it was done.
        """
        with trio.CancelScope() as self._awaiting:
            if self.ended.is_set():
                self._awaiting.cancel()
            return await _of_foreign_bytes(step)
        raise self.closed() from self.failure

    def closed(self) -> SocketClosed:
        """The error of whoever needs the task after its end."""
        if self.failure is not None:
            return SocketClosed(str(self.failure))
        return SocketClosed(self._stream.end or "no WebSocket")

    async def _run(self, task: Callable[[], Awaitable[None]]) -> None:
        try:
            await _of_foreign_bytes(task)
        except SocketClosed as error:
            self.failure = error
        finally:
            self.ended.set()
            self._stream.end_messages()
            self._awaiting.cancel()


class FrameSocket:
    """Sends and receives whole frames.

    Args:
        entropy: for the masks of the dialling side; None on the other one, which sends without.
    """

    def __init__(
        self, connection: WebSocketConnection, stream: GuardedStream, reader: Reader, *, entropy: Entropy | None = None
    ) -> None:
        self._connection = connection
        self._stream = stream
        self._reader = reader
        self._entropy = entropy
        self._masks = b""

    @property
    def heard_at(self) -> float:
        """When bytes arrived last, or were known to wait here."""
        return self._stream.heard_at

    @heard_at.setter
    def heard_at(self, at: float) -> None:
        self._stream.heard_at = at

    @property
    def sent_at(self) -> float:
        """When the sending of bytes began or ended last."""
        return self._stream.sent_at

    async def send(self, frame: bytes) -> None:
        """Raises SocketClosed."""
        if self._connection.closed is not None:
            raise await self._closed_by(ConnectionClosed(self._connection.closed))
        try:
            await self._stream.send_all(frame_of(frame, self._next_mask()))
        except trio.BrokenResourceError as error:
            raise SocketClosed(str(error)) from error

    async def beat(self) -> None:
        """Let the other side hear from us: an unsolicited pong (RFC 6455, 5.5.3). Raises SocketClosed."""
        try:
            await self._connection.pong()
        except Exception as error:
            raise await self._closed_by(error) from error

    async def receive(self) -> bytes:
        """The next frame.

        Raises:
            SocketClosed: also when the peer sends what is no frame: text, fragments, more than is allowed.
        """
        message = await self._stream.message()
        if message is not None:
            return message
        try:
            await self._connection.get_message()
        except Exception as error:
            raise await self._closed_by(error) from error
        raise AssertionError("the guarded stream lets no message through")

    def _next_mask(self) -> bytes:
        if self._entropy is None:
            return b""
        if not self._masks:
            size = _MASKS_DRAWN * _MASK_BYTES
            self._masks = self._entropy(8 * size).to_bytes(size)
        mask, self._masks = self._masks[:_MASK_BYTES], self._masks[_MASK_BYTES:]
        return mask

    async def aclose(self) -> None:
        """Close in order: what was sent before still arrives. Waits for the other side: bound it by a deadline."""
        self._stream.end_messages()
        try:
            with contextlib.suppress(SocketClosed):
                await self._reader.result_of(self._connection.aclose)
        finally:
            await self._stream.aclose()

    async def _closed_by(self, error: Exception) -> SocketClosed:
        """What an error of the library's says of the connection: see `_of_foreign_bytes`."""
        if not isinstance(error, ConnectionClosed):
            return _no_websocket(error)
        reason = error.reason
        if reason is None:
            await self._reader.ended.wait()  # the error that it is about to end with is the reason
        if reason is None or reason.code == ABNORMAL_CLOSURE:
            return self._reader.closed()
        return SocketClosed(f"closed with {int(reason.code)} {reason.reason or ''}".rstrip())


async def open_client(
    nursery: trio.Nursery,
    stream: Stream,
    *,
    authority: str,
    now: Clock,
    entropy: Entropy,
    first_bytes_max: int,
    frame_bytes_max: int,
) -> FrameSocket:
    """The dialling side; ``nursery`` gets a task that lasts as long as the connection.

    Raises:
        SocketClosed: the other side does not speak WebSocket; `TlsRefused` if it does over TLS only.
    """
    heads = FrameHeads(masked=False, first_bytes_max=first_bytes_max, frame_bytes_max=frame_bytes_max)
    guarded = GuardedStream(stream, now, heads)
    reader = Reader(nursery, guarded)
    wrap = partial(
        wrap_client_stream,
        reader,  # type: ignore[arg-type]  # of a nursery it uses what a Reader has
        guarded,  # type: ignore[arg-type]  # its annotation asks for a socket; any stream does
        authority,
        RESOURCE,
        message_queue_size=0,  # it sees no messages
        max_message_size=frame_bytes_max,
        receive_buffer_size=RECEIVE_BYTES,
    )
    try:
        connection = await reader.result_of(wrap)
    except SocketClosed as error:
        cause = None if reader.failure is None else reader.failure.__cause__
        if isinstance(cause, ConnectionRejected):
            if cause.status_code == _TLS_REQUIRED_STATUS:
                raise TlsRefused(f"{authority} speaks TLS, and this side does not: {TLS_ON_BOTH}") from error
            raise SocketClosed(f"{authority} answered with the HTTP status {cause.status_code}") from error
        raise
    guarded.expect_frames()
    return FrameSocket(connection, guarded, reader, entropy=entropy)


async def open_server(
    nursery: trio.Nursery, stream: Stream, *, now: Clock, first_bytes_max: int, frame_bytes_max: int
) -> FrameSocket:
    """The accepting side; ``nursery`` gets a task that lasts as long as the connection.

    Whoever speaks HTTP is told what is wrong with the request.

    Raises:
        SocketClosed: the other side does not speak WebSocket; `TlsRefused` if it speaks TLS.
    """
    heads = FrameHeads(masked=True, first_bytes_max=first_bytes_max, frame_bytes_max=frame_bytes_max)
    guarded = GuardedStream(stream, now, heads)
    reader = Reader(nursery, guarded)
    wrap = partial(
        wrap_server_stream,
        reader,  # type: ignore[arg-type]  # of a nursery it uses what a Reader has
        guarded,
        message_queue_size=0,  # it sees no messages
        max_message_size=frame_bytes_max,
        receive_buffer_size=RECEIVE_BYTES,
    )
    try:
        request = await reader.result_of(wrap)
    except SocketClosed as error:
        if guarded.speaks_tls():
            raise TlsRefused(f"the other side speaks TLS, and this side does not: {TLS_ON_BOTH}") from error
        raise
    if request.path != RESOURCE:
        await reader.result_of(partial(request.reject, 404))
        raise SocketClosed(f"asked for {request.path[:40]!r}")
    guarded.expect_frames()
    # Nothing is read between these two: the library takes bytes for frames from its first step here on.
    connection = await reader.result_of(request.accept)
    return FrameSocket(connection, guarded, reader)
