"""One WebSocket, and what whoever is at its other end may send."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import pytest
import trio
import trio.testing
import wsproto
from hypothesis import given
from hypothesis import strategies as st

from meshnode import wire
from meshnode.host import RealHost
from meshnode.identity import Address, Boot, MeshId, NodeId
from meshnode.links import Channel, Hello, LinkRefused, Role
from meshnode.links.handshake import INTRODUCTION_BYTES_MAX
from meshnode.links.socket import (
    HANDSHAKE_BYTES_MAX,
    FrameSocket,
    SocketClosed,
    Stream,
    open_client,
    open_server,
)
from tests.links.network import GUARD_S, MESH, Note, introduced, network, stranger
from tests.links.websocket import (
    CLOSE,
    CONTINUATION,
    HOST,
    PING,
    REQUEST,
    RESPONSE,
    TEXT,
    accept_token,
    answer,
    ask,
    frame,
    head,
)

FIRST_BYTES_MAX = 1000
FRAME_BYTES_MAX = 1_000_000

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
some_frames = st.builds(
    frame,
    st.binary(max_size=10) | st.sampled_from([b"\x03\xe8bye", b"\x03", bytes(200), bytes(70_000)]),
    opcode=st.integers(0, 15),
    final=st.booleans(),
    masked=st.booleans(),
)


async def dial(nursery: trio.Nursery, stream: Stream) -> FrameSocket:
    return await open_client(
        nursery,
        stream,
        authority="node:7000",
        now=trio.current_time,
        entropy=RealHost().fresh_id,
        first_bytes_max=FIRST_BYTES_MAX,
        frame_bytes_max=FRAME_BYTES_MAX,
    )


async def accept(nursery: trio.Nursery, stream: Stream) -> FrameSocket:
    return await open_server(
        nursery, stream, now=trio.current_time, first_bytes_max=FIRST_BYTES_MAX, frame_bytes_max=FRAME_BYTES_MAX
    )


Side = tuple[Callable[[trio.Nursery, Stream], Awaitable[FrameSocket]], Callable[[Stream], Awaitable[None]], bool]

SIDES: list[Side] = [(accept, ask, True), (dial, answer, False)]
"""Our side, the far side's handshake by hand, and whether the far side's frames are masked."""


@contextlib.asynccontextmanager
async def against(
    side: Side, streams: tuple[Stream, Stream] | None = None
) -> AsyncIterator[tuple[FrameSocket, Stream]]:
    """Our end of a WebSocket, and the bare stream at the other end."""
    us, them, _ = side
    here, there = streams or trio.testing.memory_stream_pair()
    with trio.fail_after(GUARD_S):
        async with here, there, trio.open_nursery() as nursery:
            async with trio.open_nursery() as handshake:
                handshake.start_soon(them, there)
                socket = await us(nursery, here)
            yield socket, there
            nursery.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def pair() -> AsyncIterator[tuple[FrameSocket, FrameSocket, Stream]]:
    """The two ends of a WebSocket, the dialling one first, and the stream under that one."""
    here, there = trio.testing.memory_stream_pair()
    with trio.fail_after(GUARD_S):
        async with here, there, trio.open_nursery() as nursery:
            servers: list[FrameSocket] = []

            async def serve() -> None:
                servers.append(await accept(nursery, there))

            async with trio.open_nursery() as handshake:
                handshake.start_soon(serve)
                client = await dial(nursery, here)
            yield client, servers[0], here
            nursery.cancel_scope.cancel()


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


def meets(side: Side, script: Callable[[Stream], Awaitable[None]]) -> bool:
    """Whether a WebSocket comes about; it is read to its end. Lets out what is neither that nor SocketClosed."""
    us, _, _ = side
    opened = False

    async def main() -> None:
        nonlocal opened
        here, there = trio.testing.memory_stream_pair()
        with trio.fail_after(GUARD_S):
            async with here, there, trio.open_nursery() as nursery:

                @nursery.start_soon
                async def speak() -> None:
                    with contextlib.suppress(trio.EndOfChannel, trio.BrokenResourceError):
                        await script(there)
                        await there.send_eof()

                with contextlib.suppress(SocketClosed):
                    socket = await us(nursery, here)
                    opened = True
                    while True:
                        await socket.receive()
                nursery.cancel_scope.cancel()

    trio.run(main)
    return opened


@given(headers)
def test_any_headers_of_a_request_open_a_socket_or_close_it(extra: bytes) -> None:
    meets(SIDES[0], partial(ask, extra=HOST + extra))


@given(headers)
def test_any_headers_of_an_answer_open_a_socket_or_close_it(extra: bytes) -> None:
    meets(SIDES[1], partial(answer, extra=extra))


@pytest.mark.parametrize("side", SIDES)
@given(sent=st.lists(some_frames | st.binary(max_size=50), max_size=8).map(b"".join))
def test_any_bytes_after_the_handshake_are_frames_or_close_the_socket(side: Side, sent: bytes) -> None:
    _, them, _ = side

    async def speak(stream: Stream) -> None:
        await them(stream)
        await trio.testing.wait_all_tasks_blocked()
        await stream.send_all(sent)

    assert meets(side, speak)


@pytest.mark.parametrize("side", SIDES)
def test_headers_as_they_should_be_open_a_socket(side: Side) -> None:
    _, them, _ = side
    assert meets(side, them)


@pytest.mark.parametrize("side", SIDES)
async def test_who_hangs_up_in_the_handshake_is_not_waited_for(side: Side) -> None:
    us, _, _ = side
    here, there = trio.testing.memory_stream_pair()
    async with here, trio.open_nursery() as nursery:
        await there.send_all(b"HTTP")
        await there.aclose()
        with trio.fail_after(GUARD_S), pytest.raises(SocketClosed, match="the connection"):
            await us(nursery, here)


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
        async with stranger(one) as socket:
            # One that is well formed but for its size: unknown fields are passed over.
            hello = wire.loads(wire.encode(Hello(MESH, NodeId(9), Boot(1), Role.NODE, "stranger")))
            hello[2][99] = bytes(INTRODUCTION_BYTES_MAX)
            await socket.send(wire.dumps(hello))
            with pytest.raises(SocketClosed), trio.fail_after(GUARD_S):
                await socket.receive()
        assert not one.links.linked()


async def test_frames_that_do_not_wait_for_the_handshake_are_refused() -> None:
    # The library and `FrameHeads` could take different bytes for the first head.
    for end_of_head in (b"\r\n\r\n", b"\n\n", b"\n\r\n"):
        here, there = trio.testing.memory_stream_pair()
        async with here, there, trio.open_nursery() as nursery:
            await there.send_all((REQUEST % HOST).removesuffix(b"\r\n\r\n") + end_of_head + frame(b"\r\n\r\n"))
            with pytest.raises(SocketClosed, match="did not wait for the end of the handshake"):
                await accept(nursery, here)
            nursery.cancel_scope.cancel()


async def test_an_answer_with_frames_behind_it_is_refused() -> None:
    async def hurry(stream: Stream) -> None:
        request = await head(stream)
        await stream.send_all(RESPONSE % (b"", accept_token(request)) + frame(b"x", masked=False))

    with pytest.raises(SocketClosed, match="did not wait for the end of the handshake"):
        await refused_dial(hurry)


async def refused_dial(other_side: Callable[[Stream], Awaitable[None]]) -> None:
    here, there = trio.testing.memory_stream_pair()
    refusal: SocketClosed | None = None
    with trio.fail_after(GUARD_S):
        async with here, there, trio.open_nursery() as nursery:
            nursery.start_soon(other_side, there)
            try:
                await dial(nursery, here)
            except SocketClosed as error:
                refusal = error
            nursery.cancel_scope.cancel()
    assert refusal is not None
    raise refusal


async def test_a_server_of_another_kind_is_named_by_its_status() -> None:
    async def refuse(stream: Stream) -> None:
        await head(stream)
        await stream.send_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

    with pytest.raises(SocketClosed, match="node:7000 answered with the HTTP status 403"):
        await refused_dial(refuse)


async def test_a_page_without_end_is_not_collected() -> None:
    sent = 0

    async def go_on(stream: Stream) -> None:
        nonlocal sent
        await head(stream)
        await stream.send_all(b"HTTP/1.1 200 Fine\r\n\r\n")
        while True:
            await trio.testing.wait_all_tasks_blocked()
            await stream.send_all(bytes(1000))
            sent += 1000

    with pytest.raises(SocketClosed, match=f"a handshake of more than {HANDSHAKE_BYTES_MAX} bytes"):
        await refused_dial(go_on)
    assert HANDSHAKE_BYTES_MAX - 1000 <= sent <= HANDSHAKE_BYTES_MAX + 1000


# ---- who was introduced


@pytest.mark.parametrize("payload", [b"", b"x"])
async def test_a_fragment_ends_the_connection(payload: bytes) -> None:
    async with network() as net:
        one = await net.start(1)
        async with introduced(one, Hello(MeshId(b""), NodeId(9), Boot(0), Role.GUEST, "g")) as (_, stream):
            await stream.send_all(frame(payload, final=False))
            await one.until(lambda: one.ended)
            assert one.links.counters.connections_silent == 0


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(
    ("first", "length"), [(0x8B, 0), (0x8F, 0), (0x09, 0), (0x08, 0), (0x48, 0), (0xC9, 0), (0x9A, 0), (0x8A, 126)]
)
async def test_a_false_frame_of_control_closes_the_socket(side: Side, first: int, length: int) -> None:
    async with against(side) as (socket, stream):
        mask = bytes(4) if side[2] else b""
        await stream.send_all(bytes((first, length | 0x80 * side[2])) + bytes(2 * (length == 126)) + mask)
        with pytest.raises(SocketClosed):
            await socket.receive()


@pytest.mark.parametrize("side", SIDES)
async def test_a_frame_of_control_is_masked_as_the_others_are(side: Side) -> None:
    async with against(side) as (socket, stream):
        await stream.send_all(frame(opcode=PING, masked=not side[2]))
        with pytest.raises(SocketClosed, match="a frame that begins with"):
            await socket.receive()


@pytest.mark.parametrize("side", SIDES)
async def test_of_a_flood_of_fragments_the_first_one_closes_the_socket(side: Side) -> None:
    async with against(side) as (socket, stream):
        await stream.send_all(frame(final=False, masked=side[2]))
        with pytest.raises(SocketClosed, match="a fragmented message"):
            await socket.receive()
        heard_at = socket.heard_at
        await stream.send_all(100 * frame(opcode=CONTINUATION, final=False, masked=side[2]))
        await trio.testing.wait_all_tasks_blocked()
        assert socket.heard_at == heard_at, "nothing of it is taken from the stream"


@pytest.mark.parametrize("side", SIDES)
async def test_a_frame_beyond_the_limit_closes_the_socket_before_any_of_it_is_there(side: Side) -> None:
    promises_8_gib = b"\x82" + (b"\xff" if side[2] else b"\x7f") + (2**33).to_bytes(8) + (bytes(4) if side[2] else b"")
    async with against(side) as (socket, stream):
        await stream.send_all(frame(b"first", masked=side[2]))
        assert await socket.receive() == b"first"
        await stream.send_all(promises_8_gib)
        with pytest.raises(SocketClosed, match=f"a frame of more than {FRAME_BYTES_MAX} bytes"):
            await socket.receive()


async def test_a_later_frame_may_be_larger_than_the_first() -> None:
    async with pair() as (client, server, _), trio.open_nursery() as nursery:
        await client.send(bytes(FIRST_BYTES_MAX))
        assert len(await server.receive()) == FIRST_BYTES_MAX
        nursery.start_soon(client.send, bytes(FRAME_BYTES_MAX))
        assert len(await server.receive()) == FRAME_BYTES_MAX
        nursery.start_soon(server.send, bytes(FIRST_BYTES_MAX + 1))
        with pytest.raises(SocketClosed, match=f"a frame of more than {FIRST_BYTES_MAX} bytes"):
            await client.receive()


class Script(trio.abc.HalfCloseableStream):
    """A stream whose far side asks, waits for the answer, and says these pieces, one at a time."""

    def __init__(self, request: bytes, pieces: list[bytes]) -> None:
        self._request = request
        self._pieces = iter(pieces)
        self._answered = trio.Event()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        if self._request:
            request, self._request = self._request, b""
            return request
        await self._answered.wait()
        return next(self._pieces, b"")

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self._answered.set()

    async def wait_send_all_might_not_block(self) -> None:
        pass

    async def send_eof(self) -> None:
        pass

    async def aclose(self) -> None:
        pass


@given(st.lists(st.binary(max_size=100), max_size=6), st.integers(1, 50))
def test_frames_arrive_whole_whatever_the_pieces_in_which_their_bytes_do(frames: list[bytes], piece: int) -> None:
    sent = b"".join(map(frame, frames))
    pieces = [sent[start : start + piece] for start in range(0, len(sent), piece)]

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            socket = await accept(nursery, Script(REQUEST % HOST, pieces))
            assert [await socket.receive() for _ in frames] == frames
            with pytest.raises(SocketClosed, match="ended"):
                await socket.receive()

    trio.run(main)


@pytest.mark.parametrize("side", SIDES)
async def test_text_is_no_frame(side: Side) -> None:
    async with against(side) as (socket, stream):
        await stream.send_all(frame(b"text", opcode=TEXT, masked=side[2]))
        with pytest.raises(SocketClosed, match="the peer sent text"):
            await socket.receive()


@pytest.mark.parametrize("side", SIDES)
async def test_an_error_of_the_library_that_nobody_foresaw_closes_the_socket(
    side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumble(_connection: wsproto.WSConnection, data: bytes) -> None:
        raise LookupError(f"over {data[-3:]!r}")

    async with against(side) as (socket, stream):
        monkeypatch.setattr(wsproto.WSConnection, "receive_data", stumble)
        await stream.send_all(frame(b"abc", opcode=PING, masked=side[2]))
        with pytest.raises(SocketClosed, match=r"no WebSocket: LookupError.*over b'abc'"):
            await socket.receive()
        await socket.aclose()


async def test_a_stream_that_breaks_is_a_socket_that_closed() -> None:
    async with pair() as (client, server, stream):
        await stream.aclose()
        with pytest.raises(SocketClosed, match="the connection broke"):
            await client.send(b"x")
        with pytest.raises(SocketClosed, match="the connection broke"):
            await client.receive()
        with pytest.raises(SocketClosed, match="the connection ended"):
            await server.receive()


@pytest.mark.parametrize("side", SIDES)
async def test_a_ping_is_answered_and_a_close_too(side: Side) -> None:
    async with against(side) as (socket, stream), trio.open_nursery() as nursery:
        nursery.start_soon(expect_end, socket, "closed with 1000 bye")
        masked = side[2]
        await stream.send_all(frame(b"are you there", opcode=PING, masked=masked))
        answers = await stream.receive_some()
        assert answers[0] == 0x8A
        assert len(answers) == len(frame(b"are you there", masked=not masked))
        await stream.send_all(frame((1000).to_bytes(2) + b"bye", opcode=CLOSE, masked=masked))
        answers = await stream.receive_some()
        assert answers[0] == 0x88
        assert len(answers) == len(frame(bytes(5), masked=not masked))
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(SocketClosed, match="closed with 1000 bye"):
            await socket.send(b"x")
        await socket.aclose()
        assert await stream.receive_some() == b""


async def expect_end(socket: FrameSocket, reason: str) -> None:
    """Receive nothing before the end."""
    with pytest.raises(SocketClosed, match=reason):
        await socket.receive()


@pytest.mark.parametrize("side", SIDES)
async def test_a_side_that_closes_reads_for_itself_what_the_other_one_still_says(side: Side) -> None:
    async with against(side) as (socket, stream), trio.open_nursery() as nursery:
        nursery.start_soon(socket.aclose)
        assert (await stream.receive_some())[0] == 0x88
        masked = side[2]
        await stream.send_all(frame(b"on its way", masked=masked))
        await stream.send_all(frame((1000).to_bytes(2), opcode=CLOSE, masked=masked))
        assert await stream.receive_some() == b""


@pytest.mark.parametrize("side", SIDES)
async def test_no_more_is_read_while_a_ping_can_not_be_answered(side: Side) -> None:
    """Else whoever sends pings without reading the answers would have them kept here without a bound."""
    here, there = trio.testing.memory_stream_pair()
    async with against(side, (here, there)) as (socket, stream), trio.open_nursery() as nursery:
        nursery.start_soon(expect_end, socket, "the connection ended")
        has_room, hand_over = trio.Event(), here.send_stream.send_all_hook

        async def when_there_is_room() -> None:
            await has_room.wait()
            assert hand_over is not None
            await hand_over()

        here.send_stream.send_all_hook = when_there_is_room
        heard_at = []
        for _ in range(4):
            await stream.send_all(frame(opcode=PING, masked=side[2]))
            await trio.testing.wait_all_tasks_blocked()
            heard_at.append(socket.heard_at)
        assert len(set(heard_at)) == 1, "the first one is being answered"
        has_room.set()
        await trio.testing.wait_all_tasks_blocked()
        answers = await stream.receive_some()
        assert answers[:: len(answers) // 4] == bytes([0x8A]) * 4  # a mask between them may have that byte as well
        await there.send_stream.aclose()


async def test_nothing_is_read_before_it_is_asked_for() -> None:
    async with against(SIDES[0]) as (socket, stream):
        sent = [b"first", *(bytes([number]) * 10_000 for number in range(100))]
        for payload in sent:  # one at a time: what arrives in one piece is taken as a whole
            await stream.send_all(frame(payload))
            await trio.testing.wait_all_tasks_blocked()
        heard_at = socket.heard_at
        await stream.send_all(frame(b"last"))
        await trio.testing.wait_all_tasks_blocked()
        assert socket.heard_at == heard_at
        assert [await socket.receive() for _ in sent] == sent
        assert await socket.receive() == b"last"


async def test_a_beat_is_heard_and_is_no_frame() -> None:
    async with pair() as (client, server, _):
        await trio.testing.wait_all_tasks_blocked()
        heard_at, sent_at = server.heard_at, client.sent_at
        await client.beat()
        await trio.testing.wait_all_tasks_blocked()
        assert server.heard_at > heard_at, "though nobody receives"
        assert client.sent_at > sent_at
        await client.send(b"frame")
        assert await server.receive() == b"frame"


async def test_a_send_is_heard_from_its_beginning_to_its_end() -> None:
    async with against(SIDES[1], trio.testing.lockstep_stream_pair()) as (socket, stream):
        opened_at = socket.sent_at
        async with trio.open_nursery() as nursery:
            nursery.start_soon(socket.send, bytes(100))
            await stream.receive_some(10)
            begun_at = socket.sent_at
            await stream.receive_some(200)
        assert opened_at < begun_at < socket.sent_at


async def test_both_may_close_at_once_and_what_was_sent_before_arrives() -> None:
    async with pair() as (client, server, _):
        await client.send(b"last words")
        assert await server.receive() == b"last words"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.aclose)
            nursery.start_soon(server.aclose)
        with pytest.raises(SocketClosed):
            await client.send(b"x")


async def test_what_was_sent_before_a_close_is_received_after_it() -> None:
    async with pair() as (client, server, _), trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(server.send, b"%d" % number)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(server.aclose)
        await trio.testing.wait_all_tasks_blocked()
        assert sorted([await client.receive() for _ in range(5)]) == [b"0", b"1", b"2", b"3", b"4"]
        with pytest.raises(SocketClosed, match="closed with 1000"):
            await client.receive()


@pytest.mark.parametrize("side", SIDES)
async def test_a_close_is_over_when_the_other_side_errs_in_the_middle_of_it(side: Side) -> None:
    async with against(side) as (socket, stream):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(socket.aclose)
            assert (await stream.receive_some())[0] == 0x88
            await stream.send_all(frame(b"still there?", opcode=PING, masked=side[2]))
        assert await stream.receive_some() == b""


async def test_into_the_middle_of_a_frame_no_close_is_written() -> None:
    async with against(SIDES[1], trio.testing.lockstep_stream_pair()) as (socket, stream):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(socket.send, bytes(100))
                begun = await stream.receive_some(10)
                scope.cancel()
        assert begun
        assert scope.cancelled_caught
        async with trio.open_nursery() as nursery:
            nursery.start_soon(socket.aclose)
            rest = await stream.receive_some(200)
            assert len(begun) + len(rest) == len(frame(bytes(100)))
            assert await stream.receive_some(100) == b""
