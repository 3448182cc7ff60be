"""The beginning and the end of links, and of who they are."""

import contextlib
from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

from meshnode import wire
from meshnode.errors import Unavailable
from meshnode.identity import Address, Boot, NodeId
from meshnode.links import Channel, Hello, LinkLost, LinkRefused, Links, LinksConfig, Requests, Role
from meshnode.links.socket import SocketClosed
from tests.links.network import GUARD_S, MESH, MemoryHost, Network, Note, in_virtual_time, network, stranger

ME = Hello(MESH, NodeId(1), Boot(1), Role.NODE, "me")
AGAIN = Hello(MESH, NodeId(1), Boot(2), Role.NODE, "me again")


@contextlib.asynccontextmanager
async def running(links: Links) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        await nursery.start(links.run, None)
        yield
        nursery.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def mute(net: Network) -> AsyncIterator[Address]:
    """An address where connections are accepted, and nothing is ever said."""
    listener, address = await net.host.listen(Address("127.0.0.1", 0))
    async with listener:
        yield address


async def test_outside_of_a_run_nothing_is_sent_and_nobody_is_dialled() -> None:
    async with network() as net:
        two = await net.start(2)
        links = Links(net.host, LinksConfig(), local=ME, address_of=net.addresses.get)

        async def nothing_leaves() -> None:
            assert not links.send(NodeId(2), Channel.CALLS, Note(1))
            with pytest.raises(LinkRefused, match="these links do not run") as caught:
                await links.connect(two.address)
            assert isinstance(caught.value, Unavailable)
            with pytest.raises(LinkLost, match="can't be reached"):
                await Requests[Note](links, Channel.CALLS).ask(NodeId(2), Note)

        await nothing_leaves()
        async with running(links):
            await links.connect(two.address)
        assert not links.linked()
        await nothing_leaves()


async def test_a_run_that_ends_in_the_middle_of_a_dial_is_forgotten_by_the_next() -> None:
    async with network() as net:
        two = await net.start(2)
        ends: list[tuple[NodeId, bool]] = []
        config = LinksConfig(backoff_min_s=60.0, backoff_max_s=60.0)
        links = Links(net.host, config, local=ME, address_of=net.addresses.get)
        links.on_end(lambda peer, was_linked: ends.append((peer, was_linked)))
        async with mute(net) as address:
            net.addresses[NodeId(2)] = address
            async with running(links):
                assert links.send(NodeId(2), Channel.CALLS, Note(1))
                await trio.testing.wait_all_tasks_blocked(0.01)
        assert ends == [(2, False)]
        assert links.counters.messages_dropped == 1
        async with running(links):  # nobody listens there any more: the peer is passed over for a minute
            assert links.send(NodeId(2), Channel.CALLS, Note(2))
            with trio.fail_after(GUARD_S):
                while len(ends) < 2:
                    await trio.sleep(0.001)
            assert not links.send(NodeId(2), Channel.CALLS, Note(3))
        assert len(ends) == 2, "its end was told already"
        net.addresses[NodeId(2)] = two.address
        async with running(links):
            assert links.send(NodeId(2), Channel.CALLS, Note(4))
            await two.until(lambda: two.received)
        assert two.received == [(1, Note(4))]
        assert ends[2:] == [(2, True)]


async def test_the_end_of_a_run_ends_what_others_wait_for() -> None:
    outcomes: list[str] = []
    async with network() as net, mute(net) as address:
        net.addresses[NodeId(2)] = address
        config = LinksConfig(handshake_timeout_s=3600.0, frame_bytes_max=2**16, queue_bytes_max=2**17)
        links = Links(net.host, config, local=ME, address_of=net.addresses.get)

        async def connect() -> None:
            with pytest.raises(LinkRefused, match=f"ended while {address} was dialled"):
                await links.connect(address)
            outcomes.append("connect")

        async def wait_for_room() -> None:
            for number in range(4):
                links.send(NodeId(2), Channel.CALLS, Note(number, bytes(2**15)))
            await links.wait_for_room(NodeId(2), Channel.CALLS)
            outcomes.append("room")

        async def ask() -> None:
            with pytest.raises(LinkLost, match="can't be reached"):
                await Requests[Note](links, Channel.RAFT).ask(NodeId(2), Note)
            outcomes.append("ask")

        with trio.fail_after(GUARD_S):
            async with trio.open_nursery() as nursery, running(links):
                for wait in (connect, wait_for_room, ask):
                    nursery.start_soon(wait)
                await trio.testing.wait_all_tasks_blocked(0.01)
                assert not outcomes
    assert sorted(outcomes) == ["ask", "connect", "room"]


def test_whoever_introduces_itself_anew_ends_its_links_and_says_so() -> None:
    woken: list[str] = []

    async def scenario(net: Network, host: MemoryHost, _clock: trio.testing.MockClock) -> None:
        config = LinksConfig(frame_bytes_max=2**16, queue_bytes_max=2**17)
        one, two = await net.start(1, config=config), await net.start(2)
        await one.links.connect(two.address)
        await trio.testing.wait_all_tasks_blocked()
        host.paths[0].slow_down(bytes_per_s=2**15)

        async def wait_for_room() -> None:
            await one.links.wait_for_room(NodeId(2), Channel.CALLS)
            woken.append("room")

        async with trio.open_nursery() as nursery:
            one.links.send(NodeId(2), Channel.CALLS, Note(0, bytes(2**15)))
            await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()
            for number in range(1, 4):
                assert one.links.send(NodeId(2), Channel.CALLS, Note(number, bytes(2**15)))
            nursery.start_soon(wait_for_room)
            await trio.testing.wait_all_tasks_blocked()
            assert not woken
            one.links.introduce_as(AGAIN, net.addresses.get)
            assert one.ended == [2]
            assert one.ended_linked == [True]
            assert not one.links.is_linked(NodeId(2))
            assert one.links.counters.messages_dropped == 3
            await trio.testing.wait_all_tasks_blocked()
            assert woken
        assert one.links.send(NodeId(2), Channel.CALLS, Note(9))
        await two.until(lambda: len(two.received) == 2)
        assert sorted(note.number for _, note in two.received) == [0, 9], "what was under way, and what came after"
        await trio.sleep(10)
        assert [hello.name for hello in two.links.linked()] == ["me again"]
        assert one.ended == [2], "once"

    in_virtual_time(scenario)


async def test_a_handshake_that_began_under_the_old_name_makes_no_link() -> None:
    async with network() as net:
        one = await net.start(1)
        async with stranger(one) as socket:
            one.links.introduce_as(AGAIN, net.addresses.get)
            await socket.send(wire.encode(Hello(MESH, NodeId(9), Boot(1), Role.NODE, "early")))
            with trio.fail_after(GUARD_S):
                await socket.receive()
                with pytest.raises(SocketClosed):
                    await socket.receive()
        assert not one.links.linked()
        assert not one.ended
