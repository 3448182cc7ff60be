"""Datagrams: sixteen bytes that name the mesh, then one message.

    0                16
    +----------------+---------------------------+
    | mesh id        | message, see meshnode.wire |
    +----------------+---------------------------+

The header is checked before anything is decoded, so that another mesh on the same port range costs next to nothing.
"""

from typing import cast, get_args

from meshnode import wire
from meshnode.identity import MeshId
from meshnode.membership.config import HEADER_BYTES
from meshnode.membership.messages import Message

_MESSAGES = get_args(Message)


class OtherMesh(wire.WireError):
    """The datagram belongs to another mesh."""


def pack_datagram(mesh_id: MeshId, message: Message) -> bytes:
    """The datagram that carries ``message``."""
    assert len(mesh_id) == HEADER_BYTES, mesh_id
    return mesh_id + wire.encode(message)


def unpack_datagram(mesh_id: MeshId, data: bytes) -> Message:
    """The message in a datagram of this mesh.

    Raises:
        OtherMesh: it is of another mesh.
        UnknownKind: it has no kind of message that belongs here.
        WireError: it is malformed.
    """
    if len(data) < HEADER_BYTES:
        raise wire.WireError(f"{len(data)} bytes, shorter than the header of {HEADER_BYTES}")
    if data[:HEADER_BYTES] != mesh_id:
        raise OtherMesh(f"mesh {data[:HEADER_BYTES].hex()}, this node is of {mesh_id.hex()}")
    message = wire.decode(memoryview(data)[HEADER_BYTES:])
    if not isinstance(message, _MESSAGES):
        raise wire.UnknownKind(f"a {type(message).__name__} does not travel by datagram")
    return cast(Message, message)
