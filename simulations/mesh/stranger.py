"""Somebody who is no node, and has found a node's port: what such a one may send, and a node must survive."""

import contextlib
import random

import trio

from meshnode.host import Host
from meshnode.identity import Address, MeshId

STRANGER = "10.0.2.1"
"""The machine of all strangers."""

PATIENCE_S = 20.0
"""How long a visit lasts at most: longer than any time within which a node wants to hear something."""

DATAGRAMS_MAX = 50
DATAGRAM_BYTES_MAX = 2000

_UPGRADE = (
    b"GET /meshnode/1 HTTP/1.1\r\nHost: mesh\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
_MASK = b"\0\0\0\0"


async def visit(host: Host, at: Address, mesh_id: MeshId, rng: random.Random) -> None:
    """One of all that a stranger may do to a node.

    Args:
        mesh_id: of the node's mesh: what is sent by datagram carries it, or is not even looked at.
    """
    chosen = rng.choice((_send_datagrams, _send_noise, _send_http, _send_frames, _send_nothing))
    with trio.move_on_after(PATIENCE_S), contextlib.suppress(OSError, trio.BrokenResourceError):
        await chosen(host, at, mesh_id, rng)


async def _send_datagrams(host: Host, at: Address, mesh_id: MeshId, rng: random.Random) -> None:
    async with host.datagrams(Address(STRANGER, 0)) as endpoint:
        for _ in range(rng.randint(1, DATAGRAMS_MAX)):
            head = mesh_id if rng.random() < 0.8 else b""
            await endpoint.send(head + rng.randbytes(rng.randrange(DATAGRAM_BYTES_MAX)), at)


async def _send_noise(host: Host, at: Address, _mesh_id: MeshId, rng: random.Random) -> None:
    await _say(host, at, rng.randbytes(rng.randint(1, 200_000)))


async def _send_http(host: Host, at: Address, _mesh_id: MeshId, rng: random.Random) -> None:
    said = (
        b"GET / HTTP/1.1\r\nHost: mesh\r\n\r\n",
        b"POST /meshnode/1 HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n",
        _UPGRADE.replace(b"/meshnode/1", b"/elsewhere"),
        _UPGRADE[: rng.randrange(len(_UPGRADE))],
        _UPGRADE.replace(b"\r\n\r\n", b"\r\nX: " + b"x" * 100_000),
    )
    await _say(host, at, rng.choice(said))


async def _send_frames(host: Host, at: Address, _mesh_id: MeshId, rng: random.Random) -> None:
    """Frames of which each is wrong in one way, after a handshake that is right."""
    noise = rng.randbytes(100)
    said = (
        b"\x82\xe4" + _MASK + noise,  # a frame, and nothing in it that anybody understands
        b"\x82\xe4" + _MASK + noise[: rng.randrange(100)],  # one that is cut off
        b"\x81\x84" + _MASK + b"text",
        b"\x02\xe4" + _MASK + noise,  # the first fragment of a message
        b"\x82\xff" + (2**40).to_bytes(8, "big") + _MASK + noise,  # one of a terabyte
        b"\x89\x80" + _MASK * 2000,
        noise,
    )
    await _say(host, at, _UPGRADE, rng.choice(said))


async def _send_nothing(host: Host, at: Address, _mesh_id: MeshId, _rng: random.Random) -> None:
    await _say(host, at)


async def _say(host: Host, at: Address, *parts: bytes) -> None:
    """Say these, each after an answer or none, and then listen until the other side ends the connection."""
    async with await host.dial(at) as stream:
        for part in parts:
            await stream.send_all(part)
            with trio.move_on_after(1.0):
                await stream.receive_some()
        while await stream.receive_some():
            pass
