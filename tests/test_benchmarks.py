"""What the benchmark of consensus says and hears."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.consensus.protocol import Frames, framed
from benchmarks.consensus.speakers import EtcdSpeaker, Failed

DATA, HEADERS, PING, WINDOW_UPDATE = 0, 1, 6, 8
END_STREAM, ACK = 1, 1


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


@given(st.lists(st.binary(max_size=20), max_size=6), st.integers(1, 7))
def test_frames_come_out_whole_however_they_are_cut(bodies: list[bytes], size: int) -> None:
    stream = b"".join(map(framed, bodies))
    frames, found = Frames(), []
    for begin in range(0, len(stream), size):
        found += frames.feed(stream[begin : begin + size])
    assert found == bodies


def test_a_call_is_answered_when_its_stream_ends_after_a_message() -> None:
    speaker = EtcdSpeaker()
    (first, _), (second, _) = speaker.put(b"key", b"value"), speaker.get(b"key")
    answer = frame(HEADERS, 4, first) + frame(DATA, 0, first, b"\0" * 9) + frame(HEADERS, 4 | END_STREAM, first)
    assert speaker.feed(answer[:30]) == ([], b"")
    assert speaker.feed(answer[30:]) == ([first], b"")
    with pytest.raises(Failed):
        speaker.feed(frame(HEADERS, 4 | END_STREAM, second))


def test_no_more_is_sent_than_the_server_allows() -> None:
    speaker = EtcdSpeaker()
    sent = b""
    numbers = []
    for _ in range(300):
        number, request = speaker.put(b"key", bytes(250))
        numbers.append(number)
        sent += request
    assert sent.count(bytes(250)) == 65_535 // (5 + 5 + 253)
    _, held = speaker.feed(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1 << 20)))
    assert sent.count(bytes(250)) + held.count(bytes(250)) == len(numbers) == len(set(numbers))


def test_the_server_s_pings_are_answered() -> None:
    assert EtcdSpeaker().feed(frame(PING, 0, 0, b"12345678")) == ([], frame(PING, ACK, 0, b"12345678"))
