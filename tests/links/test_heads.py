"""What the heads of frames tell, compared with what the protocol library makes of the same bytes."""

import contextlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.frame_protocol import FrameProtocol, Opcode, ParseFailed

from meshnode.links.heads import CONTROLS_MAX, FrameHeads, frame_of
from meshnode.wire import WireError
from tests.links.websocket import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame

FIRST_BYTES_MAX = 20
FRAME_BYTES_MAX = 300

payloads = st.binary(max_size=30) | st.integers(0, 400).map(bytes) | st.just(bytes(70_000))
sizes = st.integers(0, 10) | st.integers(120, 130) | st.integers(1020, 1030) | st.integers(65_530, 65_540)
opcodes = st.sampled_from([BINARY, BINARY, BINARY, PING, CONTINUATION, TEXT, CLOSE, 3, 11])
masks = st.binary(min_size=4, max_size=4)
finals = st.booleans() | st.just(True)


def some_frames(*, masked: bool) -> st.SearchStrategy[list[bytes]]:
    return st.lists(
        st.builds(frame, payloads, opcode=opcodes, final=finals, masked=st.just(masked), mask=masks), max_size=8
    )


either_sides = st.booleans().flatmap(lambda masked: st.tuples(some_frames(masked=masked), st.just(masked)))


def new_heads(*, masked: bool = True) -> FrameHeads:
    return FrameHeads(masked=masked, first_bytes_max=FIRST_BYTES_MAX, frame_bytes_max=FRAME_BYTES_MAX)


def verdict(pieces: list[bytes], *, masked: bool = True) -> tuple[str, list[bytes]]:
    """What is refused, and the messages before that."""
    heads = new_heads(masked=masked)
    found: list[bytes] = []
    with contextlib.suppress(WireError):
        for piece in pieces:
            found += heads.follow(piece)[0]
    return heads.fault, found


def verdict_of_the_library(data: bytes, *, masked: bool) -> tuple[str, list[bytes], bool]:
    """The first thing that is not allowed among the frames that the library reads, and the messages before it.

    Also whether it reads all that there is.
    """
    protocol = FrameProtocol(client=not masked, extensions=[])
    bytes_max = FIRST_BYTES_MAX
    message = b""
    found: list[bytes] = []
    protocol.receive_bytes(data)
    try:
        for part in protocol.received_frames():
            if part.opcode is Opcode.TEXT:
                return "the peer sent text", found, True
            if part.opcode is not Opcode.BINARY:
                if part.opcode is Opcode.CLOSE:
                    return "", found, False
                continue
            assert isinstance(part.payload, bytes)
            message += part.payload
            if part.frame_finished and not part.message_finished:
                return "a fragmented message", found, True
            if len(message) > bytes_max:
                return f"a frame of more than {bytes_max} bytes", found, True
            if part.message_finished:
                found.append(message)
                message = b""
                bytes_max = FRAME_BYTES_MAX
    except ParseFailed:
        return "", found, False
    return "", found, True


@given(either_sides, st.integers(1, 40))
def test_what_is_taken_and_what_is_refused_is_what_the_library_reads(
    sent: tuple[list[bytes], bool], piece: int
) -> None:
    frames, masked = sent
    data = b"".join(frames)
    # A byte at a time shows each message that stands before what is refused.
    refused, found = verdict([data[at : at + 1] for at in range(min(len(data), 2000))], masked=masked)
    refused_in_pieces, found_in_pieces = verdict(
        [data[start : start + piece] for start in range(0, len(data), piece)], masked=masked
    )
    expected, messages, is_read = verdict_of_the_library(data, masked=masked)
    assert found_in_pieces == messages[: len(found_in_pieces)]
    if len(data) <= 2000:
        assert found == messages
    if is_read:
        assert refused_in_pieces == expected
        assert len(data) > 2000 or refused == expected
    # Otherwise the library stops somewhere, and what stands behind does not matter.


@given(some_frames(masked=True), st.lists(st.integers(0, 500), max_size=10))
def test_how_the_bytes_are_cut_does_not_matter(sent: list[bytes], cuts: list[int]) -> None:
    data = b"".join(sent)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    assert verdict([data[start:end] for start, end in pairwise(edges)]) == verdict([data])


@given(sizes, st.none() | masks, st.integers(0, 255))
def test_the_library_reads_the_message_of_a_frame_of_ours(size: int, mask: bytes | None, first: int) -> None:
    message = bytes([(first + 7 * place) % 256 for place in range(size)])
    library = FrameProtocol(client=mask is None, extensions=[])
    library.receive_bytes(frame_of(message, mask or b""))
    parts = list(library.received_frames())
    assert b"".join(bytes(part.payload) for part in parts if isinstance(part.payload, bytearray | bytes)) == message
    assert [part.opcode for part in parts] == [Opcode.BINARY] * len(parts)
    assert parts[-1].message_finished
    assert frame_of(message, mask or b"") == frame(message, masked=mask is not None, mask=mask or bytes(4))


def test_a_frame_is_masked_for_who_accepts_and_only_for_them() -> None:
    for masked in (False, True):
        with pytest.raises(WireError, match="a frame that begins with"):
            new_heads(masked=masked).follow(frame(b"x", masked=not masked))


def test_what_stands_behind_the_end_is_passed_over() -> None:
    heads = new_heads()
    messages, controls = heads.follow(frame(b"a") + frame(opcode=PING) + frame(opcode=CLOSE) + frame(b"b"))
    assert (messages, controls) == ([b"a"], frame(opcode=PING) + frame(opcode=CLOSE))
    assert heads.has_ended
    assert heads.follow(frame(b"c")) == ([], b"")


def test_a_large_frame_of_control_is_refused_by_the_head_alone() -> None:
    with pytest.raises(WireError, match="a frame of control of more than 125 bytes"):
        new_heads().follow(b"\x8a\xff" + (2**62).to_bytes(8) + bytes(4))


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
