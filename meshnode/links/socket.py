"""A WebSocket as a stream of frames, with one kind of error."""

import trio
import trio_websocket
from trio_websocket import wrap_client_stream, wrap_server_stream

RECEIVE_BYTES = 64 * 2**10
"""What is read from the kernel at a time; the library's default of 4 KiB costs a wake-up for each 4 KiB of bulk."""

RESOURCE = "/meshnode/1"


class SocketClosed(Exception):
    """The connection ended, orderly or not."""


class FrameSocket:
    """Sends and receives whole frames."""

    def __init__(self, connection: trio_websocket.WebSocketConnection) -> None:
        self._connection = connection

    async def send(self, frame: bytes) -> None:
        """Raises SocketClosed."""
        try:
            await self._connection.send_message(frame)
        except trio_websocket.ConnectionClosed as error:
            raise SocketClosed(str(error)) from error

    async def receive(self) -> bytes:
        """Raises SocketClosed, also when the peer sends text instead of a frame."""
        try:
            message = await self._connection.get_message()
        except trio_websocket.ConnectionClosed as error:
            raise SocketClosed(str(error)) from error
        if isinstance(message, str):
            raise SocketClosed("the peer sent text")
        return message

    async def aclose(self) -> None:
        """Close in order: what was sent before still arrives."""
        await self._connection.aclose()


async def open_client(
    nursery: trio.Nursery, stream: trio.abc.HalfCloseableStream, *, authority: str, frame_bytes_max: int
) -> FrameSocket:
    """Raises SocketClosed when the other side does not speak WebSocket."""
    try:
        connection = await wrap_client_stream(
            nursery,
            stream,  # type: ignore[arg-type]  # its annotation asks for a socket; any stream does
            authority,
            RESOURCE,
            max_message_size=frame_bytes_max,
            receive_buffer_size=RECEIVE_BYTES,
        )
    except (trio_websocket.HandshakeError, trio_websocket.ConnectionClosed, OSError) as error:
        raise SocketClosed(f"WebSocket handshake failed: {error!r}") from error
    return FrameSocket(connection)


async def open_server(
    nursery: trio.Nursery, stream: trio.abc.HalfCloseableStream, *, frame_bytes_max: int
) -> FrameSocket:
    """Raises SocketClosed when the other side does not speak WebSocket."""
    try:
        request = await wrap_server_stream(
            nursery, stream, max_message_size=frame_bytes_max, receive_buffer_size=RECEIVE_BYTES
        )
        if request.path != RESOURCE:
            await request.reject(404)
            raise SocketClosed(f"asked for {request.path[:40]!r}")
        connection = await request.accept()
    except (trio_websocket.HandshakeError, trio_websocket.ConnectionClosed, OSError) as error:
        raise SocketClosed(f"WebSocket handshake failed: {error!r}") from error
    return FrameSocket(connection)
