"""The metadata as bytes, for the snapshots of the Raft log.

An image is a row of items, `tag u8 · length u32 · CBOR`, numbers big-endian: a head, the nodes, the rows, what locks
and the configuration consist of, and an end that counts them.
"""

import enum
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from meshnode import wire
from meshnode.coordination import image as coordination_image
from meshnode.coordination.state import Coordination, CoordinationState
from meshnode.identity import NodeId, PartitionId
from meshnode.metadata.nodes import Founding, NodeRecord
from meshnode.metadata.rows import Row

FORMAT: Final = 1
ITEM_BYTES_MAX: Final = coordination_image.ITEM_BYTES_MAX
"""Larger than any record here; a length beyond it was not written by `pieces_of`."""

_PREFIX = struct.Struct(">BI")


class _Tag(enum.IntEnum):
    """What an item is. The numbers are the format."""

    HEAD = 1
    NODE = 2
    ROW = 3
    END = 4
    COORDINATION = 5


@dataclass(slots=True)
class MetadataState:
    """All that the commands have led to; see `meshnode.metadata.state.Metadata`."""

    founding: Founding | None = None
    generation: int = 0
    version: int = 0
    nodes: dict[NodeId, NodeRecord] = field(default_factory=dict)
    rows: dict[PartitionId, Row] = field(default_factory=dict)
    coordination: CoordinationState = field(default_factory=lambda: Coordination().freeze())


@dataclass(frozen=True, slots=True)
class _Head:
    format: int
    founding: Founding | None
    generation: int
    version: int


@dataclass(frozen=True, slots=True)
class _RowOf:
    partition: PartitionId
    row: Row


@dataclass(frozen=True, slots=True)
class _End:
    nodes: int
    rows: int
    coordination: int


def pieces_of(state: MetadataState) -> Iterator[bytes]:
    """The image of a state, in pieces."""
    yield _item(_Tag.HEAD, _Head(FORMAT, state.founding, state.generation, state.version))
    for record in state.nodes.values():
        yield _item(_Tag.NODE, record)
    for partition, row in state.rows.items():
        yield _item(_Tag.ROW, _RowOf(partition, row))
    count = 0
    for packed in coordination_image.items_of(state.coordination):
        yield _PREFIX.pack(_Tag.COORDINATION, len(packed)) + packed
        count += 1
    yield _item(_Tag.END, _End(len(state.nodes), len(state.rows), count))


def _item(tag: _Tag, content: object) -> bytes:
    packed = wire.pack(content)
    return _PREFIX.pack(tag, len(packed)) + packed


def state_from(pieces: Iterable[bytes]) -> MetadataState:
    """The state that an image, cut anywhere, was made of.

    Raises:
        WireError: it is no image of this version: damaged, from a newer version, or hostile.
    """
    state = MetadataState()
    has_head, end = False, None
    coordination: list[bytes] = []
    for tag, packed in _items(pieces):
        if end is not None or has_head == (tag == _Tag.HEAD):
            raise wire.WireError(f"item {tag} is out of place")
        match tag:
            case _Tag.HEAD:
                head = wire.unpack(_Head, packed)
                if head.format != FORMAT:
                    raise wire.WireError(f"format {head.format}; this version reads {FORMAT}: upgrade this node")
                has_head = True
                state.founding, state.generation, state.version = head.founding, head.generation, head.version
            case _Tag.NODE:
                record = wire.unpack(NodeRecord, packed)
                state.nodes[record.node_id] = record
            case _Tag.ROW:
                row = wire.unpack(_RowOf, packed)
                state.rows[row.partition] = row.row
            case _Tag.COORDINATION:
                coordination.append(packed)
            case _Tag.END:
                end = wire.unpack(_End, packed)
            case _:
                raise wire.WireError(f"item {tag} is unknown to this version: upgrade this node")
    found = _End(len(state.nodes), len(state.rows), len(coordination))
    if end != found:
        raise wire.WireError(f"{found} where {end} was announced")
    state.coordination = coordination_image.state_from(coordination)
    return state


def _items(pieces: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    waiting = bytearray()
    for piece in pieces:
        waiting += piece
        at = 0
        while len(waiting) - at >= _PREFIX.size:
            tag, length = _PREFIX.unpack_from(waiting, at)
            if length > ITEM_BYTES_MAX:
                raise wire.WireError(f"an item of {length} bytes")
            begin = at + _PREFIX.size
            if len(waiting) - begin < length:
                break
            yield tag, bytes(waiting[begin : begin + length])
            at = begin + length
        del waiting[:at]
    if waiting:
        raise wire.WireError(f"{len(waiting)} bytes are left at the end")
