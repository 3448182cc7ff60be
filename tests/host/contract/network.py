"""Datagrams and streams."""

from collections.abc import Awaitable, Callable

import pytest
import trio

from meshnode.errors import AddressInUse
from meshnode.host import Host
from meshnode.identity import Address

BULK = bytes(range(256)) * 1024
"""More than a kernel takes in one piece."""


async def read_all(stream: trio.abc.ReceiveStream) -> bytes:
    parts = []
    while part := await stream.receive_some(2**16):
        parts.append(bytes(part))
    return b"".join(parts)


class NetworkContract:
    """See `tests.host.contract`."""

    # ---- datagrams

    async def test_datagrams_arrive_with_their_sender(self, host: Host, anywhere: Address) -> None:
        async with host.datagrams(anywhere) as one, host.datagrams(anywhere) as other:
            await one.send(b"ping", other.address)
            assert await other.receive() == (b"ping", one.address)
            await other.send(b"", one.address)
            assert await one.receive() == (b"", other.address)

    async def test_port_0_takes_a_free_port_and_tells_it(self, host: Host, anywhere: Address) -> None:
        async with host.datagrams(anywhere) as one, host.datagrams(anywhere) as other:
            assert one.address.host == anywhere.host
            assert 1 <= one.address.port <= 65535
            assert one.address != other.address

    async def test_an_address_is_for_one_datagram_endpoint(self, host: Host, anywhere: Address) -> None:
        async with host.datagrams(anywhere) as taken:
            with pytest.raises(AddressInUse, match=str(taken.address.port)):
                async with host.datagrams(taken.address):
                    pass
        async with host.datagrams(taken.address) as again:
            assert again.address == taken.address

    async def test_a_datagram_that_nobody_takes_is_lost_without_an_error(self, host: Host, anywhere: Address) -> None:
        async with host.datagrams(anywhere) as gone:
            pass
        async with host.datagrams(anywhere) as one, host.datagrams(anywhere) as other:
            for _ in range(3):
                await one.send(b"to nobody", gone.address)
            await one.send(b"to somebody", other.address)
            assert await other.receive() == (b"to somebody", one.address)
            await other.send(b"still here", one.address)
            assert await one.receive() == (b"still here", other.address)

    async def test_a_datagram_over_the_limit_is_lost_and_the_next_one_arrives(
        self, host: Host, anywhere: Address
    ) -> None:
        async with host.datagrams(anywhere) as one, host.datagrams(anywhere) as other:
            await one.send(bytes(65_508), other.address)
            await one.send(b"small", other.address)
            assert await other.receive() == (b"small", one.address)

    async def test_a_large_datagram_arrives_whole(self, host: Host, anywhere: Address) -> None:
        data = BULK[:16_000]
        async with host.datagrams(anywhere) as one, host.datagrams(anywhere) as other:
            await one.send(data, other.address)
            assert await other.receive() == (data, one.address)

    @pytest.mark.parametrize("port", [0, -1, 65536])
    async def test_a_datagram_to_a_port_that_is_none_is_lost(self, host: Host, anywhere: Address, port: int) -> None:
        async with host.datagrams(anywhere) as one:
            await one.send(b"x", Address(anywhere.host, port))
            await one.send(b"y", one.address)
            assert await one.receive() == (b"y", one.address)

    # ---- streams

    async def test_a_stream_carries_bytes_both_ways_until_its_end(self, host: Host, anywhere: Address) -> None:
        listener, address = await host.listen(anywhere)
        async with listener, trio.open_nursery() as nursery:

            async def echo(stream: trio.abc.HalfCloseableStream) -> None:
                async with stream:
                    await stream.send_all(await read_all(stream))
                    await stream.send_eof()

            nursery.start_soon(serve_one, listener, echo)
            stream = await host.dial(address)
            async with stream:
                nursery.start_soon(send_and_end, stream, BULK)
                assert await read_all(stream) == BULK

    async def test_a_listener_tells_the_port_that_it_took(self, host: Host, anywhere: Address) -> None:
        one, address = await host.listen(anywhere)
        other, other_address = await host.listen(anywhere)
        async with one, other:
            assert address.host == anywhere.host
            assert 1 <= address.port <= 65535
            assert address != other_address

    async def test_a_port_is_for_one_listener(self, host: Host, anywhere: Address) -> None:
        listener, address = await host.listen(anywhere)
        async with listener:
            with pytest.raises(AddressInUse, match=str(address.port)):
                await host.listen(address)

    async def test_a_port_can_be_listened_at_again_at_once(self, host: Host, anywhere: Address) -> None:
        listener, address = await host.listen(anywhere)
        stream = await host.dial(address)
        accepted = await listener.accept()
        await accepted.aclose()
        await stream.aclose()
        await listener.aclose()
        again, same = await host.listen(address)
        async with again:
            assert same == address

    async def test_datagrams_and_streams_may_share_a_port_number(self, host: Host, anywhere: Address) -> None:
        listener, address = await host.listen(anywhere)
        async with listener, host.datagrams(address) as endpoint:
            assert endpoint.address == address

    async def test_a_refused_dial_is_an_oserror(self, host: Host, anywhere: Address) -> None:
        listener, address = await host.listen(anywhere)
        await listener.aclose()
        with pytest.raises(OSError, match=str(address.port)):
            await host.dial(address)

    @pytest.mark.parametrize(
        "address",
        [Address("a..b", 80), Address("x" * 70, 80), Address("127.0.0.1", -1), Address("127.0.0.1", 65536)],
        ids=str,
    )
    async def test_to_dial_what_is_no_address_is_an_oserror(self, host: Host, address: Address) -> None:
        with pytest.raises(OSError, match=r"."):
            await host.dial(address)

    async def test_a_port_that_is_none_leads_to_no_other(self, host: Host, anywhere: Address) -> None:
        listener, address = await host.listen(anywhere)
        async with listener:
            with pytest.raises(OSError, match=str(address.port + 65536)):
                await host.dial(Address(address.host, address.port + 65536))

    async def test_many_dial_at_once_and_each_gets_its_own_stream(self, host: Host, anywhere: Address) -> None:
        listener, address = await host.listen(anywhere)
        count = 32
        answers: dict[int, bytes] = {}

        async def accept(nursery: trio.Nursery) -> None:
            for _ in range(count):
                nursery.start_soon(double, await listener.accept())

        async def double(stream: trio.abc.HalfCloseableStream) -> None:
            async with stream:
                await stream.send_all(2 * await read_all(stream))

        async def dial(number: int) -> None:
            stream = await host.dial(address)
            async with stream:
                await send_and_end(stream, b"%d," % number)
                answers[number] = await read_all(stream)

        async with listener, trio.open_nursery() as nursery:
            nursery.start_soon(accept, nursery)
            for number in range(count):
                nursery.start_soon(dial, number)
        assert answers == {number: b"%d,%d," % (number, number) for number in range(count)}

    async def test_an_accepted_stream_outlives_its_listener(self, host: Host, anywhere: Address) -> None:
        listener, address = await host.listen(anywhere)
        stream = await host.dial(address)
        accepted = await listener.accept()
        await listener.aclose()
        async with stream, accepted:
            await send_and_end(stream, b"late")
            assert await read_all(accepted) == b"late"


async def serve_one(
    listener: trio.abc.Listener[trio.abc.HalfCloseableStream],
    serve: Callable[[trio.abc.HalfCloseableStream], Awaitable[None]],
) -> None:
    await serve(await listener.accept())


async def send_and_end(stream: trio.abc.HalfCloseableStream, data: bytes) -> None:
    await stream.send_all(data)
    await stream.send_eof()
