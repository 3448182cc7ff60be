"""One WebSocket, and what whoever is at its other end may send."""

import base64
import hashlib
from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from wsproto.events import CloseConnection, Ping, Pong, TextMessage

from meshnode import wire
from meshnode.identity import Address, Boot, MeshId, NodeId
from meshnode.links import Channel, Hello, LinkRefused, Role
from meshnode.links.handshake import INTRODUCTION_BYTES_MAX
from meshnode.links.socket import FrameSocket, SocketClosed, Stream, open_client, open_server
from tests.links.network import GUARD_S, MESH, Note, introduced, network

REQUEST = (
    b"GET /meshnode/1 HTTP/1.1\r\n%sConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
RESPONSE = b"HTTP/1.1 101 Fine\r\n%sConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n\r\n"
HOST = b"Host: x\r\n"

BAD_REQUESTS = [
    REQUEST % b"Host: \xff\xfe\r\n",
    REQUEST % b"Host: xn--99999999999999999999\r\n",
    REQUEST % (HOST + b"Sec-WebSocket-Protocol: \xe9\r\n"),
    REQUEST % (HOST + b"Sec-WebSocket-Extensions: \xe9\r\n"),
    REQUEST % (HOST + b"Connection: \xe9\r\n"),
    b"GET / HTTP/1.1\r\nHost: xn--99999999999999999999\r\n\r\n",
]
BAD_ANSWERS = [
    b"Sec-WebSocket-Protocol: \xe9\r\n",
    b"Sec-WebSocket-Protocol: unasked\r\n",
    b"Sec-WebSocket-Extensions: \xe9\r\n",
    b"Connection: \xe9\r\n",
]

header_names = st.sampled_from(
    [
        *(b"Host", b"Connection", b"Upgrade", b"Content-Length", b"Transfer-Encoding", b"X"),
        *(b"Sec-WebSocket-" + name for name in (b"Key", b"Version", b"Accept", b"Protocol", b"Extensions")),
    ]
)
header_values = st.binary(max_size=20) | st.sampled_from(
    [b"xn--a", b"xn--" + b"9" * 20, b"a" * 70, b"a..b", "straße".encode(), b", ,", b"permessage-deflate; x"]
)
headers = st.lists(st.tuples(header_names, header_values), max_size=4).map(
    lambda pairs: b"".join(b"%s: %s\r\n" % pair for pair in pairs)
)


def accept_token(request: bytes) -> bytes:
    """RFC 6455, 4.2.2."""
    key = request.lower().split(b"sec-websocket-key: ")[1].split(b"\r\n")[0]
    offset = request.lower().index(key)
    key = request[offset : offset + len(key)]
    return base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())


async def answer(stream: Stream, extra: bytes) -> None:
    """Accept a request, in bytes."""
    request = b""
    while b"\r\n\r\n" not in request:
        request += await stream.receive_some()
    await stream.send_all(RESPONSE % (extra, accept_token(request)))


def frame(payload: bytes = b"", *, opcode: int = 2, final: bool = True) -> bytes:
    """A masked frame, as clients send them."""
    assert len(payload) < 126
    return bytes([(0x80 if final else 0) | opcode, 0x80 | len(payload)]) + bytes(4) + payload


class Script(trio.abc.HalfCloseableStream):
    """A stream whose far side says these pieces, one at a time, and hears nothing."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = iter(pieces)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return next(self._pieces, b"")

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        pass

    async def wait_send_all_might_not_block(self) -> None:
        pass

    async def send_eof(self) -> None:
        pass

    async def aclose(self) -> None:
        pass


async def pair() -> tuple[FrameSocket, FrameSocket, Stream]:
    """The two ends of a WebSocket, and the stream under the client's."""
    here, there = trio.testing.memory_stream_pair()
    sockets: list[FrameSocket] = []

    async def dial() -> None:
        sockets.append(await open_client(here, authority="x", now=trio.current_time))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(dial)
        server = await open_server(there, now=trio.current_time)
    return sockets[0], server, here


# ---- who is not of ours


@pytest.mark.parametrize("request_bytes", BAD_REQUESTS)
async def test_a_request_that_the_library_stumbles_over_ends_its_own_connection_only(request_bytes: bytes) -> None:
    async with network() as net:
        one, two = await net.start(1), await net.start(2)
        async with await one.dialled() as stream:
            await stream.send_all(request_bytes)
            with trio.fail_after(GUARD_S):
                while await stream.receive_some():
                    pass
        assert one.links.counters.connections_failed == 1
        two.links.send(NodeId(1), Channel.CALLS, Note(1))
        await one.until(lambda: one.received)


@pytest.mark.parametrize("extra", BAD_ANSWERS)
async def test_an_answer_that_the_library_stumbles_over_refuses_the_dial_only(extra: bytes) -> None:
    async with network() as net:
        one, two = await net.start(1), await net.start(2)
        listener, address = await net.host.listen(Address("127.0.0.1", 0))
        async with listener, trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, partial(answer, extra=extra), [listener])
            with pytest.raises(LinkRefused):
                await one.links.connect(address)
            nursery.cancel_scope.cancel()
        await one.links.connect(two.address)


def meets(other_side: Callable[[Stream], Awaitable[None]], us: Callable[[Stream], Awaitable[FrameSocket]]) -> bool:
    """Whether a WebSocket comes about. Lets out what is neither that nor SocketClosed."""
    opened = False

    async def main() -> None:
        nonlocal opened
        here, there = trio.testing.memory_stream_pair()
        async with here, there, trio.open_nursery() as nursery:
            nursery.start_soon(other_side, there)
            try:
                await us(here)
                opened = True
            except SocketClosed:
                pass

    trio.run(main)
    return opened


@given(headers)
def test_any_headers_of_a_request_open_a_socket_or_close_it(extra: bytes) -> None:
    async def ask(stream: Stream) -> None:
        await stream.send_all(REQUEST % (HOST + extra))
        await stream.send_eof()

    meets(ask, partial(open_server, now=trio.current_time))


@given(headers)
def test_any_headers_of_an_answer_open_a_socket_or_close_it(extra: bytes) -> None:
    async def tell(stream: Stream) -> None:
        await answer(stream, extra)
        await stream.send_eof()

    meets(tell, partial(open_client, authority="x", now=trio.current_time))


def test_headers_as_they_should_be_open_a_socket() -> None:
    async def ask(stream: Stream) -> None:
        await stream.send_all(REQUEST % HOST)

    assert meets(ask, partial(open_server, now=trio.current_time))
    assert meets(partial(answer, extra=b""), partial(open_client, authority="x", now=trio.current_time))


@pytest.mark.parametrize(
    ("line", "status"), [(b"GET /metrics", b"404"), (b"POST /meshnode/1", b"400"), (b"GET /meshnode/1 x", b"400")]
)
async def test_whoever_speaks_http_gets_a_status(line: bytes, status: bytes) -> None:
    async with network() as net:
        one = await net.start(1)
        async with await one.dialled() as stream:
            await stream.send_all((REQUEST % HOST).replace(b"GET /meshnode/1", line))
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 " + status)


async def test_a_stranger_makes_a_node_take_no_more_than_an_introduction() -> None:
    async with network() as net:
        one = await net.start(1)
        async with await one.dialled() as stream:
            socket = await open_client(stream, authority="x", now=trio.current_time)
            # One that is well formed but for its size: unknown fields are passed over.
            hello = wire.loads(wire.encode(Hello(MESH, NodeId(9), Boot(1), Role.NODE, "stranger")))
            hello[2][99] = bytes(INTRODUCTION_BYTES_MAX)
            await socket.send(wire.dumps(hello))
            with pytest.raises(SocketClosed), trio.fail_after(GUARD_S):
                await socket.receive(2**16)
        assert not one.links.linked()


# ---- who was introduced


@pytest.mark.parametrize("payload", [b"", b"x"])
async def test_a_fragment_ends_the_connection(payload: bytes) -> None:
    async with network() as net:
        one = await net.start(1)
        async with introduced(one, Hello(MeshId(b""), NodeId(9), Boot(0), Role.GUEST, "g")) as socket:
            await socket._stream.send_all(frame(payload, final=False))
            await one.until(lambda: one.ended)
            assert one.links.counters.connections_silent == 0


async def test_a_frame_beyond_the_limit_closes_the_socket_before_all_of_it_is_there() -> None:
    _client, server, stream = await pair()
    async with trio.open_nursery() as nursery:
        # The head promises 8 GiB.
        nursery.start_soon(stream.send_all, b"\x82\xff" + (2**33).to_bytes(8, "big") + bytes(4) + bytes(2**20))
        with pytest.raises(SocketClosed, match="a frame of more than 1000000 bytes"):
            await server.receive(1_000_000)


@given(st.lists(st.binary(max_size=100), max_size=6), st.integers(1, 50))
def test_frames_arrive_whole_whatever_the_pieces_in_which_their_bytes_do(frames: list[bytes], piece: int) -> None:
    sent = b"".join(map(frame, frames))
    pieces = [REQUEST % HOST, *(sent[start : start + piece] for start in range(0, len(sent), piece))]

    async def main() -> None:
        socket = await open_server(Script(pieces), now=trio.current_time)
        assert [await socket.receive(100) for _ in frames] == frames
        with pytest.raises(SocketClosed, match="ended"):
            await socket.receive(100)

    trio.run(main)


async def test_text_is_no_frame() -> None:
    client, server, _ = await pair()
    await client.transmit(TextMessage("text"))
    with pytest.raises(SocketClosed, match="the peer sent text"):
        await server.receive(100)


async def test_a_server_of_another_kind_is_named_by_its_status() -> None:
    async def refuse(stream: Stream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

    here, there = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(refuse, there)
        with pytest.raises(SocketClosed, match="node:7000 answered with the HTTP status 403"):
            await open_client(here, authority="node:7000", now=trio.current_time)


async def test_a_stream_that_breaks_is_a_socket_that_closed() -> None:
    client, server, stream = await pair()
    await stream.aclose()
    with pytest.raises(SocketClosed, match="the connection broke"):
        await client.send(b"x")
    with pytest.raises(SocketClosed, match="the connection broke"):
        await client.receive(100)
    with pytest.raises(SocketClosed, match="the connection ended"):
        await server.receive(100)


async def test_a_ping_is_answered_and_a_close_too() -> None:
    client, server, _ = await pair()
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def serve() -> None:
            with pytest.raises(SocketClosed, match="closed with 1000 bye"):
                await server.receive(100)

        await client.transmit(Ping(b"are you there"))
        assert await client.next_event() == Pong(b"are you there")
        await client.transmit(CloseConnection(1000, "bye"))
        assert await client.next_event() == CloseConnection(1000, "bye")


async def test_a_beat_is_heard_and_is_no_frame() -> None:
    client, server, _ = await pair()
    with trio.fail_after(GUARD_S):
        heard_at = server.heard_at
        await client.beat()
        await client.send(b"frame")
        assert await server.receive(100) == b"frame"
        assert server.heard_at > heard_at


async def test_both_may_close_at_once_and_what_was_sent_before_arrives() -> None:
    client, server, _ = await pair()
    await client.send(b"last words")
    assert await server.receive(100) == b"last words"
    with trio.fail_after(GUARD_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.aclose)
            nursery.start_soon(server.aclose)
    with pytest.raises(SocketClosed):
        await client.send(b"x")


async def test_into_the_middle_of_a_frame_no_close_is_written() -> None:
    here, there = trio.testing.lockstep_stream_pair()
    sockets: list[FrameSocket] = []
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def dial() -> None:
            sockets.append(await open_client(here, authority="x", now=trio.current_time))

        await open_server(there, now=trio.current_time)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sockets[0].send, bytes(100))
            head = await there.receive_some(10)
            scope.cancel()
    assert head
    assert scope.cancelled_caught
    with trio.fail_after(GUARD_S):
        await sockets[0].aclose()
        rest = await there.receive_some(200)
        assert len(head) + len(rest) == len(frame(bytes(100)))
        assert await there.receive_some(100) == b""
