"""What is queued for a peer, and how it is put into frames.

A frame is a sequence of messages, each `channel (1 byte) | length (4 bytes, big-endian) | message`.
"""

import enum
import struct
from collections import deque
from collections.abc import Iterator

from meshnode.wire import WireError

_HEAD = struct.Struct(">BI")
HEAD_BYTES = _HEAD.size


class Channel(enum.IntEnum):
    """Streams of messages that don't wait for each other, most urgent first."""

    RAFT = 0
    CONTROL = 1
    CALLS = 2
    PARTITIONS = 3


CHANNELS = tuple(Channel)


class SendQueue:
    """Messages for one peer, in order within each channel.

    Args:
        bytes_max: the bound of each channel. One message is always accepted into an empty channel.
        turn_bytes: how much one channel may put into a frame while others wait.
    """

    def __init__(self, bytes_max: int, turn_bytes: int = 256 * 2**10) -> None:
        self._bytes_max = bytes_max
        self._turn_bytes = turn_bytes
        self._queues: tuple[deque[bytes], ...] = tuple(deque() for _ in CHANNELS)
        self._bytes = [0] * len(CHANNELS)
        self._messages = 0
        # Channels whose next message had no room in a frame of late, the one that waits longest first.
        self._passed_over: list[Channel] = []

    def __bool__(self) -> bool:
        return self._messages > 0

    def has_room(self, channel: Channel) -> bool:
        """Whether the channel is less than half full: who waits for room is not woken for each single message."""
        return self._bytes[channel] * 2 < self._bytes_max

    def put(self, channel: Channel, data: bytes) -> bool:
        """Queue a message; False when the channel is full."""
        queued = self._bytes[channel]
        if queued and queued + len(data) > self._bytes_max:
            return False
        self._queues[channel].append(data)
        self._bytes[channel] = queued + len(data)
        self._messages += 1
        return True

    def take_frame(self, bytes_max: int) -> bytes:
        """The next frame, at most ``bytes_max``: in turn from each channel at least the first message, if it fits.

        A channel whose first message finds no room comes before the others in the next frame. So the first message of
        a channel leaves in one of the next four frames, whatever the other channels have to send.

        Args:
            bytes_max: room for any single message that was put, with its head.
        """
        if self._messages == 1:
            return self._take_only()
        parts: list[bytes] = []
        left = bytes_max
        waiting = self._passed_over
        passed_over: list[Channel] = []
        queues = self._queues
        for channel in (*waiting, *[channel for channel in CHANNELS if queues[channel] and channel not in waiting]):
            taken = self._take(channel, parts, left)
            left -= taken
            if not taken:
                passed_over.append(channel)
        self._passed_over = passed_over
        assert parts or not self, f"the first message of {passed_over} has no room in a frame of {bytes_max} bytes"
        return b"".join(parts)

    def _take_only(self) -> bytes:
        """The frame of the only message, which most have."""
        channel = next(channel for channel in CHANNELS if self._queues[channel])
        data = self._queues[channel].popleft()
        self._bytes[channel] = self._messages = 0
        self._passed_over = []
        return _HEAD.pack(channel, len(data)) + data

    def _take(self, channel: Channel, parts: list[bytes], left: int) -> int:
        """Move a channel's share of a frame to ``parts``; its bytes, heads included."""
        queue = self._queues[channel]
        turn = min(left, self._turn_bytes)
        taken = 0
        while queue:
            size = len(queue[0]) + HEAD_BYTES
            if size > left - taken or (taken and taken + size > turn):
                break
            data = queue.popleft()
            parts.append(_HEAD.pack(channel, len(data)))
            parts.append(data)
            taken += size
            self._bytes[channel] -= len(data)
            self._messages -= 1
        return taken

    def clear(self) -> int:
        """Drop everything; how many messages that were."""
        dropped, self._messages = self._messages, 0
        for channel in CHANNELS:
            self._queues[channel].clear()
            self._bytes[channel] = 0
        self._passed_over = []
        return dropped


def split_frame(frame: bytes) -> Iterator[tuple[Channel, memoryview]]:
    """The messages of a frame, one at a time: a frame of empty ones must cost no more memory than it has bytes.

    Raises:
        WireError: while iterating, once all before the fault was handed out: the bytes are no sequence of messages.
    """
    view = memoryview(frame)
    offset = 0
    while offset < len(frame):
        if len(frame) - offset < HEAD_BYTES:
            raise WireError("a frame ends in the middle of a message's head")
        number, length = _HEAD.unpack_from(frame, offset)
        offset += HEAD_BYTES
        if number >= len(CHANNELS) or length > len(frame) - offset:
            raise WireError(f"channel {number}, length {length} with {len(frame) - offset} bytes left in the frame")
        yield CHANNELS[number], view[offset : offset + length]
        offset += length
