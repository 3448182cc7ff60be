"""How the client speaks to a system: requests as bytes, and what of the answers it needs to know."""

import struct
from typing import Final, Protocol

from benchmarks.consensus.protocol import ANSWER, FRAMED_REQUEST, KEY_BYTES, Frames, Kind

_REQUEST_BYTES: Final = FRAMED_REQUEST.size - 4


class Failed(Exception):
    """A request was not carried out."""


class Speaker(Protocol):
    """Of one connection."""

    def greeting(self) -> bytes:
        """What is sent first."""
        ...

    def put(self, key: bytes, value: bytes) -> tuple[int, bytes]:
        """A write: its number on this connection, and its bytes."""
        ...

    def get(self, key: bytes) -> tuple[int, bytes]:
        """A linearizable read: as `put`."""
        ...

    def feed(self, data: bytes) -> tuple[list[int], bytes]:
        """What was received: the numbers of the requests that are answered by it, and what has to be sent at once.

        Raises:
            Failed: one was not carried out.
        """
        ...


class OwnSpeaker:
    """The protocol of this benchmark's node."""

    def __init__(self) -> None:
        self._frames = Frames()
        self._number = 0

    def greeting(self) -> bytes:
        return b""

    def put(self, key: bytes, value: bytes) -> tuple[int, bytes]:
        self._number += 1
        return self._number, FRAMED_REQUEST.pack(_REQUEST_BYTES + len(value), self._number, Kind.PUT, key) + value

    def get(self, key: bytes) -> tuple[int, bytes]:
        self._number += 1
        return self._number, FRAMED_REQUEST.pack(_REQUEST_BYTES, self._number, Kind.GET, key)

    def status(self) -> tuple[int, bytes]:
        """What the node says of itself."""
        self._number += 1
        return self._number, FRAMED_REQUEST.pack(_REQUEST_BYTES, self._number, Kind.STATUS, bytes(KEY_BYTES))

    def feed(self, data: bytes) -> tuple[list[int], bytes]:
        numbers = []
        for body in self._frames.feed(data):
            number, went_well = ANSWER.unpack_from(body)
            if not went_well:
                raise Failed(f"request {number}")
            numbers.append(number)
        return numbers, b""


# HTTP/2 (RFC 9113), as far as a gRPC client needs it that knows what it will hear.

_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1
_WINDOW_MAX: Final = (1 << 31) - 1
_WINDOW_AT_FIRST: Final = 65_535
_FRAME_HEAD = struct.Struct(">HBBBI")
"""Length (its upper 16 bits, then the lower 8), type, flags, stream."""


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return _FRAME_HEAD.pack(len(payload) >> 8, len(payload) & 0xFF, kind, flags, stream) + payload


def _literal(name: bytes, value: bytes) -> bytes:
    """A header that no table needs to know (RFC 7541, 6.2.2)."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


def _headers(path: bytes, scheme: bytes) -> bytes:
    return b"".join(
        _literal(name, value)
        for name, value in (
            (b":method", b"POST"),
            (b":scheme", scheme),
            (b":path", path),
            (b":authority", b"localhost"),
            (b"content-type", b"application/grpc"),
            (b"te", b"trailers"),
        )
    )


def _field(number: int, value: bytes) -> bytes:
    """A field of bytes in a protobuf message, of up to 16 KiB."""
    size = len(value)
    length = bytes([size]) if size < 0x80 else bytes([size & 0x7F | 0x80, size >> 7])
    return bytes([number << 3 | 2]) + length + value


class EtcdSpeaker:
    """etcd's gRPC API, `KV.Put` and `KV.Range`.

    A call has failed if its stream ends without a message. The headers of the answers are not looked into.
    """

    def __init__(self, scheme: bytes = b"http") -> None:
        self._put_headers = _headers(b"/etcdserverpb.KV/Put", scheme)
        self._range_headers = _headers(b"/etcdserverpb.KV/Range", scheme)
        self._rest = b""
        self._stream = -1
        self._may_send = _WINDOW_AT_FIRST
        self._held: list[bytes] = []
        self._received = 0
        self._answered: set[int] = set()

    def greeting(self) -> bytes:
        no_table_and_no_push = struct.pack(">HIHIHI", 1, 0, 2, 0, 4, _WINDOW_MAX)
        window = struct.pack(">I", _WINDOW_MAX - _WINDOW_AT_FIRST)
        return (
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
            + _frame(_SETTINGS, 0, 0, no_table_and_no_push)
            + _frame(_WINDOW_UPDATE, 0, 0, window)
        )

    def put(self, key: bytes, value: bytes) -> tuple[int, bytes]:
        return self._call(self._put_headers, _field(1, key) + _field(2, value))

    def get(self, key: bytes) -> tuple[int, bytes]:
        return self._call(self._range_headers, _field(1, key))

    def _call(self, headers: bytes, message: bytes) -> tuple[int, bytes]:
        self._stream += 2
        request = _frame(_HEADERS, _END_HEADERS, self._stream, headers) + _frame(
            _DATA, _END_STREAM, self._stream, struct.pack(">BI", 0, len(message)) + message
        )
        self._may_send -= 5 + len(message)
        if self._may_send < 0 or self._held:
            self._held.append(request)
            return self._stream, b""
        return self._stream, request

    def feed(self, data: bytes) -> tuple[list[int], bytes]:
        data = self._rest + data if self._rest else data
        numbers: list[int] = []
        replies = b""
        at, size = 0, len(data)
        while at + 9 <= size:
            upper, lower, kind, flags, stream = _FRAME_HEAD.unpack_from(data, at)
            end = at + 9 + (upper << 8 | lower)
            if end > size:
                break
            if kind == _DATA:
                self._answered.add(stream)
                self._received += end - at - 9
            elif kind == _HEADERS:
                if flags & _END_STREAM:
                    if stream not in self._answered:
                        raise Failed(f"the call on stream {stream}")
                    self._answered.discard(stream)
                    numbers.append(stream)
            else:
                replies += self._control(kind, flags, data[at + 9 : end])
            at = end
        self._rest = data[at:]
        if self._received > _WINDOW_MAX // 2:
            replies += _frame(_WINDOW_UPDATE, 0, 0, struct.pack(">I", self._received))
            self._received = 0
        return numbers, replies

    def _control(self, kind: int, flags: int, payload: bytes) -> bytes:
        if kind == _WINDOW_UPDATE:
            # Only the connection's window matters: a stream's is far larger than one request.
            self._may_send += struct.unpack(">I", payload)[0]
            if self._may_send >= 0:
                held, self._held = self._held, []
                return b"".join(held)
        elif kind == _PING and not flags & _ACK:
            return _frame(_PING, _ACK, 0, payload)
        elif kind == _SETTINGS and not flags & _ACK:
            return _frame(_SETTINGS, _ACK, 0)
        elif kind in (_RST_STREAM, _GOAWAY):
            raise Failed(f"a frame of type {kind}: {payload!r}")
        return b""
