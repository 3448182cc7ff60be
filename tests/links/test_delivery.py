"""What becomes of messages that arrive."""

from dataclasses import dataclass
from typing import Any

import pytest
import trio
import trio.testing

from meshnode import wire
from meshnode.identity import NodeId
from meshnode.links import Channel, Role
from meshnode.links.delivery import GUEST_ITEMS_MAX, Delivery, LinkCounters
from meshnode.links.links import READ_BYTES, READ_MESSAGES
from tests.links.network import Note, network


@wire.message(65012)
@dataclass(frozen=True, slots=True)
class Numbers:
    numbers: tuple[int, ...]


@pytest.mark.parametrize(("role", "arrives"), [(Role.NODE, True), (Role.GUEST, False)])
def test_a_guest_can_not_make_a_node_build_very_much(role: Role, arrives: bool) -> None:
    counters = LinkCounters()
    delivery = Delivery(counters)
    received: list[Any] = []
    delivery.on(Channel.CALLS, lambda _peer, message: received.append(message))
    delivery.deliver(NodeId(1), role, Channel.CALLS, memoryview(wire.encode(Numbers((7,) * GUEST_ITEMS_MAX))))
    assert bool(received) == arrives
    assert counters.malformed == (not arrives)
    delivery.deliver(NodeId(1), role, Channel.CALLS, memoryview(wire.encode(Note(1, bytes(2**20)))))
    assert received[-1] == Note(1, bytes(2**20)), "many bytes in one piece are welcome"


@pytest.mark.parametrize(("count", "size"), [(5000, 0), (40, 16 * 2**10)])
async def test_other_tasks_have_their_turn_while_a_long_frame_is_read(count: int, size: int) -> None:
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with network() as net:
        one, two = await net.start(1), await net.start(2)
        await one.links.connect(two.address)
        at: list[int] = []
        two.took = lambda: at.append(turns)
        for number in range(count):
            assert one.links.send(NodeId(2), Channel.CALLS, Note(number, bytes(size)))
        net.nursery.start_soon(take_turns)
        await two.until(lambda: len(two.received) == count)
        # Of two tasks that are ready trio may take one last and then first: so the reader goes twice at most.
        longest = max(at.count(turn) for turn in set(at))
        assert longest <= 2 * READ_MESSAGES
        assert longest * size <= 2 * READ_BYTES
