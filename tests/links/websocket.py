"""WebSocket by hand: the bytes of a far side that is not of ours."""

import base64
import hashlib

import trio

from meshnode.links.socket import Stream

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

REQUEST = (
    b"GET /meshnode/1 HTTP/1.1\r\n%sConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
RESPONSE = b"HTTP/1.1 101 Fine\r\n%sConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n\r\n"
HOST = b"Host: x\r\n"


def frame(
    payload: bytes = b"", *, opcode: int = BINARY, final: bool = True, masked: bool = True, mask: bytes = bytes(4)
) -> bytes:
    """A frame, as clients send them; or a server's, which is not masked."""
    length = len(payload)
    if length < 126:
        size = bytes([length])
    else:
        size = b"\x7e" + length.to_bytes(2) if length < 2**16 else b"\x7f" + length.to_bytes(8)
    if masked:
        size = bytes([0x80 | size[0]]) + size[1:] + mask
        payload = bytes([byte ^ mask[place % 4] for place, byte in enumerate(payload)])
    return bytes([(0x80 if final else 0) | opcode]) + size + payload


def accept_token(request: bytes) -> bytes:
    """RFC 6455, 4.2.2."""
    key = request.lower().split(b"sec-websocket-key: ")[1].split(b"\r\n")[0]
    offset = request.lower().index(key)
    key = request[offset : offset + len(key)]
    return base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())


async def head(stream: Stream) -> bytes:
    """What comes up to the blank line."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = await stream.receive_some()
        if not more:
            raise trio.EndOfChannel
        data += more
    return data


async def ask(stream: Stream, extra: bytes = HOST) -> None:
    """Say a request, and wait for the answer."""
    await stream.send_all(REQUEST % extra)
    await head(stream)


async def answer(stream: Stream, extra: bytes = b"") -> None:
    """Accept a request."""
    request = await head(stream)
    await stream.send_all(RESPONSE % (extra, accept_token(request)))
