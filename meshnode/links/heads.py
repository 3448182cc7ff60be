"""The frames of a WebSocket: what whoever is there may put into one, and the messages in them.

A frame is `FIN, RSV, opcode (1 byte) | MASK, length (1 byte) | longer length (0, 2 or 8) | mask (0 or 4) | payload`, in
big-endian order (RFC 6455, 5.2). A node's message is one binary frame. The rest are frames of control, such as signs of
life and the end, which are left to the protocol library.
"""

import numpy as np

from meshnode.wire import WireError

CONTROLS_MAX = 1024
"""Frames of control, such as signs of life, that may arrive in one piece. The library reads them without giving other
tasks a turn, for some 10 ms at worst; from a node there are a few after this one was held up for a while."""

CONTROL_BYTES_MAX = 125
"""Their payload (RFC 6455, 5.5)."""

_FIN = 0x80
_CONTROL = 0x08
_OPCODE = 0x0F
_TEXT = 0x1
_BINARY = 0x2
_CLOSE = 0x8
_MESSAGE = _FIN | _BINARY
_KINDS = bytes(_FIN | opcode for opcode in (_BINARY, _CLOSE, 0x9, 0xA))
"""How frames begin: that of a message, the end, a ping and a pong."""

_MASK = 0x80
_LENGTH = 0x7F
_LONGER_BYTES = {126: 2, 127: 8}
_MASK_BYTES = 4

_BULK_BYTES = 1024
"""From here on numpy is faster; it is 50 times as fast where there is much."""


class FrameHeads:
    """Takes the messages out of a stream of bytes, however it is cut, and refuses what no node sends.

    The size of a message is told by its head, before anything of it is collected.

    Args:
        masked: whether the other side masks its frames, as whoever dials has to.
        first_bytes_max: the payload of the first message, from somebody who is still a stranger.
        frame_bytes_max: the payload of any later one.

    Attributes:
        has_ended: a frame said so that nothing follows it; what does is passed over.
        fault: why nothing that follows is read; empty as long as nothing was wrong.
    """

    def __init__(self, *, masked: bool, first_bytes_max: int, frame_bytes_max: int) -> None:
        self.has_ended = False
        self.fault = ""
        self._masked = _MASK if masked else 0
        self._bytes_max = first_bytes_max
        self._later_bytes_max = frame_bytes_max
        # A frame whose end is still to come, and the bytes that it has, if that is known: within the limits above.
        self._begun = bytearray()
        self._begun_bytes = 0

    def follow(self, data: bytes) -> tuple[list[bytes], bytes]:
        """Read what arrived next: the messages that are whole by now, and the frames of control among them.

        Raises:
            WireError: text, a fragment, another frame that no node sends, one of more bytes than is allowed, or too
                many frames of control. What came whole before it in ``data`` is returned first; `fault` says that this
                was the last.
        """
        if self.fault:
            raise WireError(self.fault)
        if self._begun:
            self._begun += data
            if len(self._begun) < self._begun_bytes:
                return [], b""
            data = bytes(self._begun)
            self._begun = bytearray()
        messages: list[bytes] = []
        controls: list[bytes] = []
        offset = self._begun_bytes = 0
        while offset + 2 <= len(data) and not self.has_ended:
            first, second = data[offset], data[offset + 1]
            length = second & _LENGTH
            longer = _LONGER_BYTES.get(length, 0)
            payload = offset + 2 + longer + (_MASK_BYTES if second & _MASK else 0)
            if payload > len(data):
                break
            if longer:
                length = int.from_bytes(data[offset + 2 : offset + 2 + longer])
            if first != _MESSAGE or second & _MASK != self._masked or length > self._bytes_max:
                try:
                    self._judge(first, second, length)
                except WireError as error:
                    self.fault = str(error)
                    if not messages and not controls:
                        raise
                    break
            end = payload + length
            if end > len(data):
                self._begun_bytes = end - offset
                break
            if first & _CONTROL:
                controls.append(data[offset:end])
                self.has_ended = first & _OPCODE == _CLOSE
            else:
                message = data[payload:end]
                messages.append(masked(message, data[payload - _MASK_BYTES : payload]) if self._masked else message)
                self._bytes_max = self._later_bytes_max
            offset = end
        if len(controls) > CONTROLS_MAX:
            self.fault = f"more than {CONTROLS_MAX} frames of control at once"
            raise WireError(self.fault)
        if offset < len(data) and not self.has_ended and not self.fault:
            self._begun += data[offset:]
        return messages, b"".join(controls)

    def _judge(self, first: int, second: int, length: int) -> None:
        """Those of control, too: the dialling side's library would read on after a false one."""
        if first & _OPCODE == _TEXT:
            raise WireError("the peer sent text")
        if not first & (_FIN | _CONTROL) or not first & _OPCODE:
            raise WireError("a fragmented message")
        if first not in _KINDS or second & _MASK != self._masked:
            raise WireError(f"a frame that begins with {first:#x}, {second:#x}")
        if first & _CONTROL:
            if second & _LENGTH > CONTROL_BYTES_MAX:  # in its shortest form, which is the only one here
                raise WireError(f"a frame of control of more than {CONTROL_BYTES_MAX} bytes")
        elif length > self._bytes_max:
            raise WireError(f"a frame of more than {self._bytes_max} bytes")


def frame_of(message: bytes, mask: bytes = b"") -> bytes:
    """A message as a frame, masked if there is a mask."""
    length = len(message)
    flag = _MASK if mask else 0
    if length < 126:
        head = bytes((_FIN | _BINARY, flag | length))
    elif length < 2**16:
        head = bytes((_FIN | _BINARY, flag | 126)) + length.to_bytes(2)
    else:
        head = bytes((_FIN | _BINARY, flag | 127)) + length.to_bytes(8)
    return head + mask + masked(message, mask) if mask else head + message


def masked(data: bytes, mask: bytes) -> bytes:
    """The data with the mask over it, or without it if it had one (RFC 6455, 5.3)."""
    size = len(data)
    if size >= _BULK_BYTES:
        rest = size % _MASK_BYTES
        words = np.frombuffer(data, np.uint32, size // _MASK_BYTES) ^ np.frombuffer(mask, np.uint32)
        return words.tobytes() + masked(data[size - rest :], mask)
    over = (mask * (size // _MASK_BYTES + 1))[:size]
    return (int.from_bytes(data, "little") ^ int.from_bytes(over, "little")).to_bytes(size, "little")
