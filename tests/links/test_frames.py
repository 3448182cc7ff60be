import tracemalloc
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
        parts = list(split_frame(frame))
    except WireError:
        return
    assert sum(HEAD_BYTES + len(part) for _, part in parts) == len(frame)


@pytest.mark.parametrize("frame", [b"\x00", b"\x09\x00\x00\x00\x00", b"\x00\x00\x00\x00\x05abc"])
def test_a_frame_that_lies_about_its_parts_is_refused(frame: bytes) -> None:
    with pytest.raises(WireError):
        list(split_frame(frame))


def test_what_precedes_a_lie_in_a_frame_is_handed_out() -> None:
    parts = split_frame(b"\x02\x00\x00\x00\x01a" + b"\x09\x00\x00\x00\x00")
    channel, data = next(parts)
    assert (channel, bytes(data)) == (Channel.CALLS, b"a")
    with pytest.raises(WireError, match="channel 9"):
        next(parts)


def test_a_frame_of_empty_messages_costs_no_memory_for_each() -> None:
    frame = b"\x02\x00\x00\x00\x00" * 20_000
    tracemalloc.start()
    try:
        assert sum(1 for _ in split_frame(frame)) == 20_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10_000


puts = st.lists(st.tuples(st.sampled_from(Channel), st.sampled_from([0, 1, 40, 94, 95])), max_size=4)


@given(st.lists(puts, min_size=1, max_size=25), st.integers(1, 120))
def test_whatever_else_is_sent_each_message_leaves_soon_after_those_before_it(
    load: list[list[tuple[Channel, int]]], turn_bytes: int
) -> None:
    frame_bytes = 100  # the largest message fills a frame
    queue = SendQueue(bytes_max=10**6, turn_bytes=turn_bytes)
    due: dict[Channel, deque[int]] = {channel: deque() for channel in Channel}
    for number, more in enumerate([*load, *[[]] * 50]):
        for channel, size in more:
            assert queue.put(channel, bytes(size))
            # Four frames after the one before it in its channel, or four from now.
            due[channel].append((due[channel][-1] if due[channel] else number) + len(Channel))
        frame = queue.take_frame(frame_bytes)
        assert len(frame) <= frame_bytes
        for channel, _ in split_frame(frame):
            due[channel].popleft()
        assert all(waiting[0] > number + 1 for waiting in due.values() if waiting), "none is overdue"


@pytest.mark.parametrize("size", [9 * 2**20, 16 * 2**20 - HEAD_BYTES])
def test_a_large_message_leaves_though_other_channels_always_have_something(size: int) -> None:
    queue = SendQueue(32 * 2**20)
    queue.put(Channel.PARTITIONS, bytes(size))
    carried = []
    for _ in range(4):
        queue.put(Channel.RAFT, b"heartbeat")
        queue.put(Channel.CALLS, bytes(8 * 2**20))
        carried += [channel for channel, _ in split_frame(queue.take_frame(16 * 2**20))]
    assert Channel.PARTITIONS in carried
    assert carried.count(Channel.RAFT) >= 2
