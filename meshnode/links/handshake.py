"""From a fresh stream to a WebSocket whose two ends know each other."""

from collections.abc import Callable

import trio

from meshnode import wire
from meshnode.errors import MeshError, Unavailable, error_from_code
from meshnode.links.hello import Hello, Refusal
from meshnode.links.socket import Clock, Entropy, FrameSocket, SocketClosed, Stream, open_client, open_server

Judge = Callable[[Hello], Refusal | None]
"""Why this side can't talk to the one that said hello; None when it can."""

INTRODUCTION_BYTES_MAX = 16 * 2**10
"""Names and reasons have a few hundred bytes; whoever may be there makes us decode no more before we know who it is."""


class LinkRefused(Unavailable):
    """The other side was reached, but there can be no link. Nothing was changed.

    Attributes:
        refusal: why.
        by_peer: it is the other side that does not want this one.
    """

    def __init__(self, refusal: MeshError, *, by_peer: bool = False) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal
        self.by_peer = by_peer


async def introduce(
    nursery: trio.Nursery,
    stream: Stream,
    *,
    local: Hello,
    judge: Judge,
    authority: str,
    now: Clock,
    entropy: Entropy,
    frame_bytes_max: int,
) -> tuple[FrameSocket, Hello]:
    """The dialling side: say who we are, learn who answers. ``nursery`` gets what the socket needs as long as it lasts.

    Raises:
        LinkRefused: one of the two sides does not want this link.
        SocketClosed, WireError: the other side is no node.
    """
    socket = await open_client(
        nursery,
        stream,
        authority=authority,
        now=now,
        entropy=entropy,
        first_bytes_max=INTRODUCTION_BYTES_MAX,
        frame_bytes_max=frame_bytes_max,
    )
    await socket.send(wire.encode(local))
    answer = wire.decode(await socket.receive())
    if isinstance(answer, Hello):
        refusal = judge(answer)
        if refusal is None:
            return socket, answer
        raise LinkRefused(error_from_code(refusal.code, refusal.reason))
    if isinstance(answer, Refusal):
        raise LinkRefused(error_from_code(answer.code, answer.reason), by_peer=True)
    raise SocketClosed(f"{authority} answered with a {type(answer).__name__}")


async def receive_introduction(
    nursery: trio.Nursery, stream: Stream, *, local: Hello, judge: Judge, now: Clock, frame_bytes_max: int
) -> tuple[FrameSocket, Hello]:
    """The accepting side: learn who dials, say who we are or why not. ``nursery`` as with `introduce`.

    Raises:
        SocketClosed, WireError: the other side was refused, or is no node.
    """
    socket = await open_server(
        nursery, stream, now=now, first_bytes_max=INTRODUCTION_BYTES_MAX, frame_bytes_max=frame_bytes_max
    )
    hello = wire.decode(await socket.receive())
    if not isinstance(hello, Hello):
        raise SocketClosed(f"the first message is a {type(hello).__name__}")
    refusal = judge(hello)
    await socket.send(wire.encode(refusal or local))
    if refusal is not None:
        await socket.aclose()
        raise SocketClosed(refusal.reason)
    return socket, hello
