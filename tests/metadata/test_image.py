"""The metadata in a snapshot of the Raft log."""

import contextlib
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode import wire
from meshnode.coordination.commands import Acquire, BeginSession, RequestId, Step, Tick, Transact, Transacted
from meshnode.coordination.commands import Command as CoordinationCommand
from meshnode.coordination.store import ChangeKind
from meshnode.identity import NodeId, PartitionId
from meshnode.metadata.commands import Command, Found, Register
from meshnode.metadata.nodes import NodeRecord
from meshnode.metadata.rows import Row
from meshnode.metadata.state import Metadata
from tests.metadata.test_state import ADDRESS, LOGS, MESH, A, B, Log, begin, register


def content(metadata: Metadata) -> tuple[Any, ...]:
    return (
        metadata.founding,
        metadata.generation,
        metadata.version,
        metadata.nodes,
        metadata.rows,
        metadata.coordination.freeze(),
    )


def image_of(metadata: Metadata) -> bytes:
    return b"".join(metadata.freeze()())


def grown() -> Log:
    log = Log()
    log.append(Found(MESH, 4, 3))
    log.append(register(A))
    log.append(register(B))
    log.change(begin(0, A, B))
    log.change(begin(1, B))
    return log


@given(LOGS, st.integers(1, 50), st.integers(0, 30))
def test_who_restores_an_image_goes_on_as_who_applied_everything(
    commands: list[Command], piece: int, place: int
) -> None:
    log = Log()
    for command in commands[:place]:
        log.append(command)
    image = image_of(log.metadata)
    restored = Metadata()
    restored.restore(image[begin : begin + piece] for begin in range(0, len(image), piece))()
    assert content(restored) == content(log.metadata)
    for index, command in enumerate(commands[place:], start=len(log.commands) + 1):
        encoded = wire.encode(command)
        assert restored.apply(index, encoded) == log.metadata.apply(index, encoded)
    assert content(restored) == content(log.metadata)


def test_an_image_is_of_the_moment_at_which_it_was_asked_for() -> None:
    log = grown()
    before = content(Log(log.metadata).metadata)[2]
    image = log.metadata.freeze()
    log.append(register(NodeId(9)))
    log.change(begin(2, A))
    restored = Metadata()
    restored.restore(image())()
    assert restored.version == before
    assert NodeId(9) not in restored.nodes
    assert PartitionId(2) not in restored.rows


def test_nothing_changes_before_the_state_is_put_in_place_and_those_who_listen_hear_what_did() -> None:
    nodes: list[tuple[NodeId, NodeRecord | None]] = []
    rows: list[tuple[PartitionId, Row]] = []
    metadata = Metadata(
        on_node=lambda node_id, record: nodes.append((node_id, record)),
        on_row=lambda partition, row: rows.append((partition, row)),
    )
    metadata.apply(1, wire.encode(Found(MESH, 4, 3)))
    metadata.apply(2, wire.encode(register(A)))
    metadata.apply(3, wire.encode(Register(NodeId(7), register(A).boot, "gone", ADDRESS)))
    nodes.clear()
    log = grown()
    put_in_place = metadata.restore([image_of(log.metadata)])
    assert not nodes
    put_in_place()
    assert nodes == [(NodeId(7), None), (B, log.metadata.nodes[B])]
    assert rows == list(log.metadata.rows.items())


@given(st.randoms(use_true_random=False))
def test_bytes_that_are_no_image_raise_one_error_and_change_nothing(rng: random.Random) -> None:
    log = grown()
    image = bytearray(image_of(log.metadata))
    match rng.randrange(3):
        case 0:
            del image[rng.randrange(len(image)) :]
        case 1:
            image[rng.randrange(len(image))] ^= 1 << rng.randrange(8)
        case _:
            image += rng.randbytes(rng.randint(1, 20))
    before = content(log.metadata)
    with contextlib.suppress(wire.WireError):
        log.metadata.restore([bytes(image)])
    assert content(log.metadata) == before


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (b"", "where None was announced"),
        (b"\x09\x00\x00\x00\x01\xa0", "item 9 is out of place"),
        (b"\x01\xff\xff\xff\xff", "an item of 4294967295 bytes"),
        (b"\x01\x00\x00\x00\x09" + wire.pack(register(A))[:2], "bytes are left"),
        (b"\x01\x00\x00\x00\x09\xa4\x01\x02\x02\xf6\x03\x00\x04\x00", "format 2; this version reads 1: upgrade"),
    ],
)
def test_why_bytes_are_no_image(image: bytes, reason: str) -> None:
    with pytest.raises(wire.WireError, match=reason):
        Metadata().restore([image])


def test_locks_and_keys_are_in_the_image_also_where_many_keys_ended_at_one_tick() -> None:
    metadata = Metadata()
    index = 0

    def apply(command: CoordinationCommand) -> Any:
        nonlocal index
        index += 1
        return metadata.apply(index, wire.encode(command))

    session = apply(BeginSession("client")).session
    apply(Acquire(RequestId(session, 1, 1), ("lock",), 30_000))
    for number in range(2, 66):
        keys = [f"{number:03d}-{place:02d}".ljust(440, "k") for place in range(64)]
        steps = tuple(Step.put(key, b"", ttl=1.0) for key in keys)
        assert isinstance(apply(Transact(RequestId(session, number, number), (), steps)), Transacted)
    for _ in range(4):
        apply(Tick(1, 2000))
    assert len(metadata.coordination.store) == 0
    (ended,) = [one for one in metadata.coordination.store.history if one.changes[0].kind is ChangeKind.EXPIRED]
    assert len(ended.changes) > 4000
    restored = Metadata()
    restored.restore(metadata.freeze()())()
    assert content(restored) == content(metadata)
