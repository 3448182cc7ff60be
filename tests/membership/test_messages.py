import dataclasses
from typing import Any

import pytest
from hypothesis import given

from meshnode import wire
from meshnode.identity import NODE_ID_MAX, Address, Boot, MeshId, NodeId
from meshnode.membership.config import HEADER_BYTES, SwimConfig
from meshnode.membership.datagram import OtherMesh, pack_datagram, unpack_datagram
from meshnode.membership.gossip import record_bytes
from meshnode.membership.messages import (
    BOOT_MAX,
    BUCKETS,
    DIGEST_BYTES,
    INCARNATION_LIMIT,
    SEQUENCE_MAX,
    UPDATES_OVERHEAD_BYTES,
    WEIGHT_MAX,
    Ack,
    Gossip,
    Member,
    Message,
    Ping,
    PingRequest,
    State,
    SyncPage,
    SyncPush,
    SyncRequest,
    first_incarnation,
)
from tests.membership.samples import member, messages

MESH = MeshId(bytes(range(16)))
LARGEST = Member(
    NodeId(NODE_ID_MAX),
    "é" * 127,
    Address("1234:1234:1234:1234:1234:1234:255.255.255.255", 65535),
    Boot(BOOT_MAX),
    INCARNATION_LIMIT - 1,
    State.LEFT,
    WEIGHT_MAX,
    "z" * 255,
)


@given(messages)
def test_a_message_comes_back_from_its_datagram_as_it_was_sent(message: Message) -> None:
    assert unpack_datagram(MESH, pack_datagram(MESH, message)) == message


@given(messages)
def test_a_message_takes_no_more_than_its_records_and_the_overhead(message: Message) -> None:
    match message:
        case SyncPage() | SyncPush():
            records: tuple[Member, ...] = message.members
        case SyncRequest():
            records = (message.source,)
        case _:
            records = message.updates
    extra = BUCKETS * DIGEST_BYTES if isinstance(message, SyncRequest) else 0
    size = len(wire.encode(message))
    assert size <= UPDATES_OVERHEAD_BYTES + extra + sum(record_bytes(record) for record in records)


def test_the_overhead_covers_the_largest_fields_with_a_full_list() -> None:
    many = tuple(member(number) for number in range(1, 400))
    for message in (
        Ping(SEQUENCE_MAX, NodeId(NODE_ID_MAX), NodeId(NODE_ID_MAX), many),
        PingRequest(SEQUENCE_MAX, NodeId(NODE_ID_MAX), NodeId(NODE_ID_MAX), many),
        Ack(SEQUENCE_MAX, NodeId(NODE_ID_MAX), many),
        SyncPage(SEQUENCE_MAX, NODE_ID_MAX, 2**BUCKETS - 1, many),
        SyncPush(many),
        Gossip(many),
    ):
        assert len(wire.encode(message)) <= UPDATES_OVERHEAD_BYTES + sum(record_bytes(record) for record in many)


def test_the_largest_record_fits_the_smallest_datagram_in_every_message() -> None:
    config = SwimConfig(datagram_bytes_max=1232)
    assert record_bytes(LARGEST) <= config.updates_bytes_max
    request = SyncRequest(SEQUENCE_MAX, LARGEST, bytes(BUCKETS * DIGEST_BYTES), NODE_ID_MAX)
    assert HEADER_BYTES + len(wire.encode(request)) <= config.datagram_bytes_max


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"node_id": 0}, "node id 0"),
        ({"node_id": 2**63}, "node id 9223372036854775808"),
        ({"name": "n" * 256}, "longer than 255 bytes"),
        ({"name": "é" * 128}, "longer than 255 bytes"),
        ({"zone": "z" * 256}, "zone 'zzzz"),
        ({"address": Address("10.0.0.1", 0)}, "port 0"),
        ({"address": Address("10.0.0.1", 65536)}, "port 65536"),
        ({"address": Address("node.example", 1)}, "resolve the name"),
        ({"address": Address("", 1)}, "literal IP address"),
        ({"address": Address("0.0.0.0", 1)}, "advertise an address"),
        ({"address": Address("224.0.0.1", 1)}, "advertise an address"),
        ({"address": Address("fe80::1%eth0", 1)}, "scope"),
        ({"address": Address("fe80::1%\0", 1)}, "scope"),
        ({"boot": 0}, "boot 0"),
        ({"boot": BOOT_MAX + 1}, "boot 1073741824"),
        ({"incarnation": INCARNATION_LIMIT}, "incarnation 4611686018427387904"),
        ({"incarnation": 5}, "incarnation 5"),
        ({"weight": -1}, "weight -1"),
        ({"weight": WEIGHT_MAX + 1}, "weight 65536"),
    ],
)
def test_a_member_out_of_bounds_is_refused_by_value(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        dataclasses.replace(member(1), **change)


def test_a_name_that_is_no_text_is_refused() -> None:
    with pytest.raises(ValueError, match="surrogates"):
        dataclasses.replace(member(1), name="\ud800")


def test_a_message_out_of_bounds_is_refused() -> None:
    one = NodeId(1)
    with pytest.raises(ValueError, match="sequence 4294967296"):
        Ping(SEQUENCE_MAX + 1, one, one)
    with pytest.raises(ValueError, match="sequence -1"):
        Ack(-1, one)
    with pytest.raises(ValueError, match="node id 0"):
        PingRequest(0, NodeId(0), one)
    with pytest.raises(ValueError, match="3 bytes of digests"):
        SyncRequest(0, member(1), b"abc")
    with pytest.raises(ValueError, match="cursor -1"):
        SyncPage(0, -1)
    with pytest.raises(ValueError, match="buckets"):
        SyncPage(0, 0, 2**BUCKETS)


def test_a_message_out_of_bounds_is_malformed_on_the_wire() -> None:
    body = wire.loads(wire.encode(Ping(1, NodeId(1), NodeId(2))))
    body[2][1] = 2**40
    with pytest.raises(wire.WireError, match="sequence"):
        unpack_datagram(MESH, MESH + wire.dumps(body))


@pytest.mark.parametrize("data", [b"", b"short", MESH, MESH + b"\xff", MESH + b"\x00" * 50])
def test_garbage_is_malformed(data: bytes) -> None:
    with pytest.raises(wire.WireError) as caught:
        unpack_datagram(MESH, data)
    assert type(caught.value) is wire.WireError


def test_another_mesh_and_another_kind_are_told_apart() -> None:
    message = Ack(1, NodeId(1))
    with pytest.raises(OtherMesh, match="0f0e"):
        unpack_datagram(MESH, pack_datagram(MeshId(MESH[::-1]), message))
    with pytest.raises(wire.UnknownKind):
        unpack_datagram(MESH, MESH + wire.dumps([wire.VERSION, 0x1F, {}]))


@wire.message(65020)
@dataclasses.dataclass(frozen=True, slots=True)
class Foreign:
    """Registered like any message, but of another room."""


def test_a_message_of_another_room_is_an_unknown_kind() -> None:
    with pytest.raises(wire.UnknownKind, match="Foreign"):
        unpack_datagram(MESH, MESH + wire.encode(Foreign()))


def test_each_boot_begins_above_every_refutation_of_the_one_before() -> None:
    assert first_incarnation(Boot(2)) > first_incarnation(Boot(1)) + 2**32 - 1
