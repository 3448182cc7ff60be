"""What the heads of frames tell, compared with what the protocol library makes of the same bytes."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.frame_protocol import FrameProtocol, Opcode, ParseFailed

from meshnode.links.heads import CONTROLS_MAX, FrameHeads
from meshnode.wire import WireError
from tests.links.websocket import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame

FIRST_BYTES_MAX = 20
FRAME_BYTES_MAX = 300

payloads = st.binary(max_size=30) | st.integers(0, 400).map(bytes) | st.just(bytes(70_000))
opcodes = st.sampled_from([BINARY, BINARY, BINARY, PING, CONTINUATION, TEXT, CLOSE, 3, 11])
finals = st.booleans() | st.just(True)


def some_frames(*, masked: bool) -> st.SearchStrategy[list[bytes]]:
    return st.lists(st.builds(frame, payloads, opcode=opcodes, final=finals, masked=st.just(masked)), max_size=8)


either_sides = st.booleans().flatmap(lambda masked: st.tuples(some_frames(masked=masked), st.just(masked)))


def new_heads() -> FrameHeads:
    return FrameHeads(first_bytes_max=FIRST_BYTES_MAX, frame_bytes_max=FRAME_BYTES_MAX)


def verdict(pieces: list[bytes]) -> str:
    heads = new_heads()
    try:
        for piece in pieces:
            heads.follow(piece)
    except WireError as error:
        return str(error)
    return ""


def verdict_of_the_library(data: bytes, *, masked: bool) -> tuple[str, bool]:
    """The first thing that is not allowed among the frames that the library reads; whether it reads all there is."""
    protocol = FrameProtocol(client=not masked, extensions=[])
    bytes_max = FIRST_BYTES_MAX
    message = b""
    protocol.receive_bytes(data)
    try:
        for part in protocol.received_frames():
            if part.opcode is Opcode.TEXT:
                return "the peer sent text", True
            if part.opcode is not Opcode.BINARY:
                if part.opcode is Opcode.CLOSE:
                    return "", False
                continue
            assert isinstance(part.payload, bytes)
            message += part.payload
            if part.frame_finished and not part.message_finished:
                return "a fragmented message", True
            if len(message) > bytes_max:
                return f"a frame of more than {bytes_max} bytes", True
            if part.message_finished:
                message = b""
                bytes_max = FRAME_BYTES_MAX
    except ParseFailed:
        return "", False
    return "", True


@given(either_sides, st.integers(1, 40))
def test_what_is_refused_is_what_the_library_would_have_delivered(sent: tuple[list[bytes], bool], piece: int) -> None:
    frames, masked = sent
    data = b"".join(frames)
    found = verdict([data[start : start + piece] for start in range(0, len(data), piece)])
    expected, is_read = verdict_of_the_library(data, masked=masked)
    if is_read:
        assert found == expected
    # Otherwise the library stops somewhere, and what stands behind does not matter.


@given(some_frames(masked=True), st.lists(st.integers(0, 500), max_size=10))
def test_how_the_bytes_are_cut_does_not_matter(sent: list[bytes], cuts: list[int]) -> None:
    data = b"".join(sent)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    assert verdict([data[start:end] for start, end in pairwise(edges)]) == verdict([data])


def test_a_size_is_refused_by_the_head_alone() -> None:
    heads = new_heads()
    heads.follow(frame(bytes(FIRST_BYTES_MAX)))
    heads.follow(frame(bytes(FRAME_BYTES_MAX)))
    promise = b"\x82\xff" + (2**62).to_bytes(8) + bytes(4)
    for byte in promise[:-1]:
        heads.follow(bytes([byte]))
    with pytest.raises(WireError, match=f"a frame of more than {FRAME_BYTES_MAX} bytes"):
        heads.follow(promise[-1:])


def test_what_gives_other_tasks_no_turn_is_not_much() -> None:
    heads = new_heads()
    beat = frame(opcode=PONG)
    for _ in range(3):
        heads.follow(CONTROLS_MAX * beat)
    with pytest.raises(WireError, match=f"more than {CONTROLS_MAX} frames of control"):
        heads.follow(CONTROLS_MAX * beat + frame() + beat)


def test_frames_of_control_do_not_count_as_the_first() -> None:
    heads = new_heads()
    heads.follow(frame(opcode=PING))
    with pytest.raises(WireError, match=f"a frame of more than {FIRST_BYTES_MAX} bytes"):
        heads.follow(frame(bytes(FIRST_BYTES_MAX + 1)))
