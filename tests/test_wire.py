import contextlib
import dataclasses
import enum

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode import wire


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    x: int
    y: float = 0.5


@wire.message(65000)
@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    number: int
    name: str
    blob: bytes = b""
    colour: Colour = Colour.RED
    point: Point | None = None
    points: tuple[Point, ...] = ()
    pair: tuple[int, str] = (0, "")
    flag: bool = False


points = st.builds(Point, x=st.integers(-(2**63), 2**63 - 1), y=st.floats(allow_nan=False))
samples = st.builds(
    Sample,
    number=st.integers(-(2**63), 2**64 - 1),
    name=st.text(),
    blob=st.binary(),
    colour=st.sampled_from(Colour),
    point=st.none() | points,
    points=st.lists(points, max_size=4).map(tuple),
    pair=st.tuples(st.integers(0, 9), st.text(max_size=3)),
    flag=st.booleans(),
)


@given(samples)
def test_a_message_comes_back_as_it_was_sent(sample: Sample) -> None:
    assert wire.decode(wire.encode(sample)) == sample
    assert wire.unpack(Sample, wire.pack(sample)) == sample


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_wire_error_and_nothing_else(data: bytes) -> None:
    try:
        wire.decode(data)
    except wire.WireError:
        pass
    else:
        assert wire.encode(wire.decode(data))


@given(samples, st.data())
def test_a_damaged_message_raises_wire_error_and_nothing_else(sample: Sample, data: st.DataObject) -> None:
    encoded = bytearray(wire.encode(sample))
    position = data.draw(st.integers(0, len(encoded) - 1))
    encoded[position] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(wire.WireError):
        assert isinstance(wire.decode(encoded), Sample)


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.integers(0, 9), inner, max_size=4),
)


@given(st.dictionaries(st.integers(0, 9), json_like))
def test_fields_of_any_wrong_type_raise_wire_error(fields: dict[int, object]) -> None:
    with contextlib.suppress(wire.WireError):
        assert isinstance(wire.decode(cbor2.dumps([wire.VERSION, 65000, fields])), Sample)


def test_an_unknown_kind_is_told_apart_from_malformed_bytes() -> None:
    with pytest.raises(wire.UnknownKind, match="64999"):
        wire.decode(cbor2.dumps([wire.VERSION, 64999, {}]))


def test_unknown_fields_of_a_newer_version_are_ignored_and_missing_ones_take_their_default() -> None:
    assert wire.decode(cbor2.dumps([1, 65000, {1: 7, 2: "seven", 99: [1, 2]}])) == Sample(7, "seven")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (cbor2.dumps([2, 65000, {}]), "version 2"),
        (cbor2.dumps([1, 65000, {1: 7}]), "name is missing"),
        (cbor2.dumps([1, 65000, {1: -(2**63) - 1, 2: ""}]), "number: expected a 64-bit integer"),
        (cbor2.dumps([1, 65000, {1: 2**64, 2: ""}]), "malformed"),
        (cbor2.dumps([1, 65000, {1: True, 2: ""}]), "number: expected a 64-bit integer"),
        (cbor2.dumps([1, 65000, {1: 1, 2: "", 4: 9}]), "colour: 9 is not a Colour"),
        (cbor2.dumps([1, 65000, {1: 1, 2: "", 6: [{1: 1, 2: "y"}]}]), "y: expected a number"),
        (cbor2.dumps([1, 65000, {1: 1, 2: "", 7: [1]}]), "array of 2"),
        (cbor2.dumps([1, "x", {}]), "kind"),
        (b"\xc4\x82\x1b\x7f\xff\xff\xff\xff\xff\xff\xff\x01", "malformed"),
        (b"\xd8\x23\x65((a)+", "malformed"),
        (b"\x81" * 1000, "malformed"),
        (b"\x9f\xff", "malformed"),
        (b"\x9b\x00\x00\x00\x7f\xff\xff\xff\xff", "malformed"),
        (b"", "malformed"),
    ],
)
def test_what_is_wrong_is_named(data: bytes, says: str) -> None:
    with pytest.raises(wire.WireError, match=says):
        wire.decode(data)


def test_two_messages_cannot_share_a_kind() -> None:
    with pytest.raises(AssertionError, match="taken by Sample"):
        wire.message(65000)(Point)


def test_a_type_that_cannot_cross_is_refused_when_first_used() -> None:
    @wire.message(65001)
    @dataclasses.dataclass(frozen=True, slots=True)
    class Wrong:
        value: dict[str, int]

    with pytest.raises(TypeError, match="can't cross the wire"):
        wire.encode(Wrong({}))
