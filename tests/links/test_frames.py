from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.links.frames import HEAD_BYTES, Channel, SendQueue, split_frame
from meshnode.wire import WireError

messages = st.lists(st.tuples(st.sampled_from(Channel), st.binary(max_size=40)), max_size=30)


@given(messages, st.integers(60, 400))
def test_each_channel_arrives_complete_and_in_order(queued: list[tuple[Channel, bytes]], frame_bytes: int) -> None:
    queue = SendQueue(bytes_max=10**6, turn_bytes=50)
    expected: dict[Channel, deque[bytes]] = {channel: deque() for channel in Channel}
    for channel, data in queued:
        assert queue.put(channel, data)
        expected[channel].append(data)
    while queue:
        frame = queue.take_frame(frame_bytes)
        assert 0 < len(frame) <= frame_bytes
        for channel, part in split_frame(frame):
            assert part == expected[channel].popleft()
    assert not any(expected.values())


def test_a_bulk_channel_leaves_room_for_the_others_in_every_frame() -> None:
    queue = SendQueue(bytes_max=10**6, turn_bytes=1000)
    for _ in range(100):
        queue.put(Channel.PARTITIONS, bytes(100))
        queue.put(Channel.CALLS, bytes(100))
    counted = [channel for channel, _ in split_frame(queue.take_frame(10**6))]
    assert counted.count(Channel.CALLS) == counted.count(Channel.PARTITIONS) == 1000 // (100 + HEAD_BYTES)


def test_a_full_channel_refuses_and_the_others_go_on() -> None:
    queue = SendQueue(bytes_max=100)
    assert queue.put(Channel.CALLS, bytes(500)), "one message always fits into an empty channel"
    assert not queue.put(Channel.CALLS, b"x")
    assert not queue.has_room(Channel.CALLS)
    assert queue.put(Channel.RAFT, b"x")
    assert queue.clear() == 2
    assert queue.has_room(Channel.CALLS)
    assert not queue


@given(st.binary(max_size=60))
def test_arbitrary_bytes_raise_wire_error_and_nothing_else(frame: bytes) -> None:
    try:
        parts = split_frame(frame)
    except WireError:
        return
    assert sum(HEAD_BYTES + len(part) for _, part in parts) == len(frame)


@pytest.mark.parametrize("frame", [b"\x00", b"\x09\x00\x00\x00\x00", b"\x00\x00\x00\x00\x05abc"])
def test_a_frame_that_lies_about_its_parts_is_refused(frame: bytes) -> None:
    with pytest.raises(WireError):
        split_frame(frame)
