"""Whoever reaches the port and is no node."""

import contextlib
import random
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio_websocket

from meshnode import Address, wire
from meshnode.identity import Boot, MeshId, NodeId
from meshnode.links import Hello, Role
from simulations.certificates import Authority
from tests.process.cluster import Cluster
from tests.process.counters import Counter

pytestmark = [pytest.mark.process, pytest.mark.timeout(60)]

DATAGRAMS = 200

PATIENCE_S = 2.0
"""How long a stranger waits to be thrown out; a node that does not do so yet has others to serve meanwhile."""


@pytest.mark.parametrize("with_tls", [False, True])
async def test_garbage_of_every_kind_leaves_a_node_serving(
    clusters: Callable[..., Cluster], tmp_path: Path, with_tls: bool
) -> None:
    cluster = clusters(authority=Authority(tmp_path) if with_tls else None)
    await cluster.form(1)
    node = cluster.nodes[0]
    rng = random.Random(0)
    async with cluster.client() as client:
        counter = client.ref(Counter, "42")
        await counter.add(1)
        _send_datagrams(node.address, rng)
        await _send_streams(node.address, rng)
        await _send_frames(node.address, rng)
        assert await counter.add(1) == 2
    await cluster.settled()
    assert "Traceback" not in node.log()


def _send_datagrams(to: Address, rng: random.Random) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as endpoint:
        for size in [0, 1, 15, 16, 17, 1400, 1401, 60_000, *(rng.randrange(1400) for _ in range(DATAGRAMS))]:
            endpoint.sendto(rng.randbytes(size), (to.host, to.port))


async def _send_streams(to: Address, rng: random.Random) -> None:
    """Bytes that are no WebSocket; some connections stay open."""
    upgrade = f"GET /meshnode/1 HTTP/1.1\r\nHost: {to}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n".encode()
    openings = [b"", b"\0", b"\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", upgrade, upgrade + b"\r\n", b"A" * 100_000]
    openings += [rng.randbytes(rng.randrange(1, 2000)) for _ in range(20)]
    async with trio.open_nursery() as nursery:
        for data in openings:
            nursery.start_soon(_send_stream, to, data)


async def _send_stream(to: Address, data: bytes) -> None:
    async with await trio.open_tcp_stream(to.host, to.port) as stream:
        with trio.move_on_after(PATIENCE_S), contextlib.suppress(trio.BrokenResourceError):
            await stream.send_all(data)
            await stream.send_eof()
            while await stream.receive_some():
                pass


async def _send_frames(to: Address, rng: random.Random) -> None:
    """A WebSocket, and then anything but what belongs on it."""
    hello = wire.encode(Hello(MeshId(b""), NodeId(rng.randrange(1, 2**62)), Boot(0), Role.GUEST, "stranger"))
    first_frames: list[str | bytes] = ["text", b"", b"\xff", hello[:-1], hello + b"\0", hello]
    first_frames += [rng.randbytes(rng.randrange(1, 300)) for _ in range(10)]
    conversations = [[frame] for frame in first_frames]
    for _ in range(10):  # introduced in order, and then garbage
        conversations.append([hello, *(rng.randbytes(rng.randrange(1, 300)) for _ in range(5))])
    conversations.append([hello, bytes(20 * 2**20)])  # beyond the largest frame
    async with trio.open_nursery() as nursery:
        for frames in conversations:
            nursery.start_soon(_converse, to, frames)


async def _converse(to: Address, frames: list[str | bytes]) -> None:
    async with await trio.open_tcp_stream(to.host, to.port) as stream:
        with trio.move_on_after(PATIENCE_S):
            try:
                async with trio.open_nursery() as nursery:
                    connection = await trio_websocket.wrap_client_stream(nursery, stream, str(to), "/meshnode/1")
                    for frame in frames:
                        await connection.send_message(frame)
                    while True:  # until the node hangs up
                        await connection.get_message()
            except* (trio_websocket.ConnectionClosed, trio_websocket.HandshakeError, trio.BrokenResourceError):
                pass
