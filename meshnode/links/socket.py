"""A WebSocket (RFC 6455) over a stream, as a sequence of whole frames, with one kind of error.

Each frame of a link is one unfragmented binary message. The protocol itself is wsproto's, which does no I/O.
"""

import contextlib
from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

import trio
from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Pong,
    RejectConnection,
    Request,
    TextMessage,
)
from wsproto.utilities import RemoteProtocolError

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
Stream = trio.abc.HalfCloseableStream
Clock = Callable[[], float]

RECEIVE_BYTES = 64 * 2**10
"""What is read from the kernel at a time: bulk costs few wake-ups, and what is parsed without one stays small."""

RESOURCE = "/meshnode/1"

NORMAL_CLOSURE = 1000


class SocketClosed(Exception):
    """The connection ended, orderly or not."""


class FrameSocket:
    """Sends and receives whole frames.

    Attributes:
        heard_at: when bytes arrived last, in the time of ``now``.
        sent_at: when the sending of bytes began or ended last.
    """

    def __init__(self, stream: Stream, role: ConnectionType, now: Clock) -> None:
        self.heard_at = self.sent_at = now()
        self._stream = stream
        self._now = now
        self._protocol = WSConnection(role)
        self._sending = trio.Lock()
        self._is_whole = True
        self._partial = bytearray()

    async def send(self, frame: bytes) -> None:
        """Raises SocketClosed."""
        await self.transmit(BytesMessage(data=frame))

    async def beat(self) -> None:
        """Let the other side hear from us: an unsolicited pong (RFC 6455, 5.5.3). Raises SocketClosed."""
        await self.transmit(Pong())

    async def receive(self, frame_bytes_max: int) -> bytes:
        """The next frame.

        Raises:
            SocketClosed: also when the peer sends what is no frame: text, fragments, more than ``frame_bytes_max``.
        """
        while True:
            event = await self.next_event()
            match event:
                case BytesMessage():
                    frame = self._collect(event, frame_bytes_max)
                    if frame is not None:
                        return frame
                case Ping():
                    await self.transmit(event.response())
                case Pong():
                    pass
                case CloseConnection():
                    if self._protocol.state is ConnectionState.REMOTE_CLOSING:
                        await self.transmit(event.response())
                    raise SocketClosed(f"closed with {int(event.code)} {event.reason or ''}".rstrip())
                case TextMessage():
                    raise SocketClosed("the peer sent text")
                case _:
                    raise SocketClosed(f"an unexpected {type(event).__name__}")

    async def aclose(self) -> None:
        """Close in order: what was sent before still arrives. Waits for the other side: bound it by a deadline."""
        try:
            # Into the middle of a frame that was cut off, a close would be written as a part of it.
            if self._is_whole and self._protocol.state is ConnectionState.OPEN:
                with contextlib.suppress(SocketClosed):
                    await self.transmit(CloseConnection(code=NORMAL_CLOSURE))
                    while not isinstance(await self.next_event(), CloseConnection):
                        pass
        finally:
            await self._stream.aclose()

    async def next_event(self) -> Event:
        """What the other side says next, in terms of the protocol. Raises SocketClosed."""
        while True:
            event = _of_foreign_bytes(next, self._protocol.events(), None)
            if event is not None:
                return event
            try:
                data = await self._stream.receive_some(RECEIVE_BYTES)
            except (trio.BrokenResourceError, trio.ClosedResourceError, OSError) as error:
                raise SocketClosed(f"the connection broke: {error}") from error
            if not data:
                raise SocketClosed("the connection ended")
            self.heard_at = self._now()
            _of_foreign_bytes(self._protocol.receive_data, bytes(data))

    async def transmit(self, event: Event) -> None:
        """Say it in bytes. Raises SocketClosed."""
        async with self._sending:
            data = _of_foreign_bytes(self._protocol.send, event)
            self.sent_at = self._now()
            self._is_whole = False
            try:
                await self._stream.send_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError, OSError) as error:
                raise SocketClosed(f"the connection broke: {error}") from error
            self._is_whole = True
            self.sent_at = self._now()

    def _collect(self, event: BytesMessage, frame_bytes_max: int) -> bytes | None:
        """The frame that ends with these bytes; None when it goes on."""
        if len(self._partial) + len(event.data) > frame_bytes_max:
            raise SocketClosed(f"a frame of more than {frame_bytes_max} bytes")
        if event.message_finished and not self._partial:
            return bytes(event.data)
        if event.frame_finished and not event.message_finished:
            # Nobody of ours sends fragments, and empty ones would never reach the limit above.
            raise SocketClosed("a fragmented message")
        self._partial += event.data
        if not event.message_finished:
            return None
        frame = bytes(self._partial)
        self._partial = bytearray()
        return frame


def _of_foreign_bytes(work: Callable[[*Ts], T], *arguments: *Ts) -> T:
    """The result of a step of the protocol library.

    Raises:
        SocketClosed: for an error of any type. The library lets those of its tools out, UnicodeError among them, when
            bytes from outside are not what it expects; no code of ours runs inside the step.
    """
    try:
        return work(*arguments)
    except Exception as error:
        raise SocketClosed(f"no WebSocket: {error!r:.200}") from error


async def open_client(stream: Stream, *, authority: str, now: Clock) -> FrameSocket:
    """Raises SocketClosed when the other side does not speak WebSocket."""
    socket = FrameSocket(stream, ConnectionType.CLIENT, now)
    await socket.transmit(Request(host=authority, target=RESOURCE))
    answer = await socket.next_event()
    match answer:
        case AcceptConnection():
            return socket
        case RejectConnection():
            raise SocketClosed(f"{authority} answered with the HTTP status {answer.status_code}")
        case _:
            raise SocketClosed(f"{authority} answered with a {type(answer).__name__}")


async def open_server(stream: Stream, *, now: Clock) -> FrameSocket:
    """Raises SocketClosed when the other side does not speak WebSocket."""
    socket = FrameSocket(stream, ConnectionType.SERVER, now)
    try:
        request = await socket.next_event()
    except SocketClosed as error:
        # Somebody who speaks HTTP is told what was wrong with the request.
        if isinstance(error.__cause__, RemoteProtocolError) and error.__cause__.event_hint is not None:
            await socket.transmit(error.__cause__.event_hint)
        raise
    if not isinstance(request, Request):
        raise SocketClosed(f"the first event is a {type(request).__name__}")
    if request.target != RESOURCE:
        await socket.transmit(RejectConnection(status_code=404))
        raise SocketClosed(f"asked for {request.target[:40]!r}")
    await socket.transmit(AcceptConnection())
    return socket
