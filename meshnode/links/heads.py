"""The heads of WebSocket frames: what whoever is there may put into one.

A head is `FIN, RSV, opcode (1 byte) | MASK, length (1 byte) | longer length (0, 2 or 8) | mask (0 or 4)`, in big-endian
order (RFC 6455, 5.2), and the payload follows it.
"""

from meshnode.wire import WireError

CONTROLS_MAX = 1024
"""Frames of control, such as signs of life, that may arrive in one piece. The library reads them without giving other
tasks a turn, for some 10 ms at worst; from a node there are a few after this one was held up for a while."""

_FIN = 0x80
_CONTROL = 0x08
_OPCODE = 0x0F
_TEXT = 0x1

_MASK = 0x80
_LENGTH = 0x7F
_LONGER_BYTES = {126: 2, 127: 8}
_MASK_BYTES = 4


class FrameHeads:
    """Follows the heads through a stream of bytes, however it is cut, and refuses what no node sends.

    A node's frame is one binary message, so the sizes of messages are told by their heads, before anything of them is
    collected. What else is wrong with a frame is for the protocol library to find: up to there both read alike.

    Args:
        first_bytes_max: the payload of the first frame, from somebody who is still a stranger.
        frame_bytes_max: the payload of any later one.
    """

    def __init__(self, *, first_bytes_max: int, frame_bytes_max: int) -> None:
        self._bytes_max = first_bytes_max
        self._later_bytes_max = frame_bytes_max
        self._begun = b""  # of a head whose rest is still to come: 13 bytes at most
        self._skip = 0  # bytes of payload before the next head

    def follow(self, data: bytes) -> None:
        """Read what arrived next.

        Raises:
            WireError: text, a fragment, more in a frame than is allowed, or too many frames of control.
        """
        data = self._begun + data
        offset = self._skip
        controls = 0
        while offset + 2 <= len(data):
            length = data[offset + 1] & _LENGTH
            longer = _LONGER_BYTES.get(length, 0)
            payload = offset + 2 + longer + (_MASK_BYTES if data[offset + 1] & _MASK else 0)
            if payload > len(data):
                break
            if longer:
                length = int.from_bytes(data[offset + 2 : offset + 2 + longer])
            if data[offset] & _CONTROL:
                controls += 1
                if controls > CONTROLS_MAX:
                    raise WireError(f"more than {CONTROLS_MAX} frames of control at once")
            else:
                self._judge(data[offset], length)
            offset = payload + length
        self._begun = data[offset:]
        self._skip = max(0, offset - len(data))

    def _judge(self, first: int, length: int) -> None:
        if first & _OPCODE == _TEXT:
            raise WireError("the peer sent text")
        if not first & _FIN:
            raise WireError("a fragmented message")
        if length > self._bytes_max:
            raise WireError(f"a frame of more than {self._bytes_max} bytes")
        self._bytes_max = self._later_bytes_max
