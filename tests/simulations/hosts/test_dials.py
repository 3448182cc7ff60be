"""Connections in the making."""

import errno
import math

import pytest
import trio

from meshnode.errors import OperatorError
from meshnode.identity import Address
from simulations.hosts import SimHost
from simulations.hosts.network import DIAL_S, FIRST_FREE_PORT, KNOCK_AGAIN_S, STREAMS_MIN
from simulations.hosts.quality import Quality
from simulations.hosts.streams import ACCEPT_QUEUE_MAX
from tests.simulations.hosts.world import A, B, World, connect, read_all

PORT = Address(B, 80)


def test_a_dial_to_a_port_where_nobody_listens_is_refused_after_a_round_trip() -> None:
    world = World()
    world.network.paths.default = Quality(delay_s=1.0, jitter_s=0.0)

    async def main() -> None:
        with pytest.raises(ConnectionRefusedError, match=r"10\.0\.0\.2:80"):
            await world.process(A).dial(PORT)

    world.run(main)
    assert world.events.now == 2.0


def test_a_dial_past_the_queue_of_a_listener_is_refused() -> None:
    world = World()

    async def main() -> None:
        host = world.process(A)
        listener, address = await world.process(B).listen(PORT)
        streams = [await host.dial(address) for _ in range(ACCEPT_QUEUE_MAX)]
        with pytest.raises(ConnectionRefusedError):
            await host.dial(address)
        await listener.accept()
        streams.append(await host.dial(address))
        for stream in streams:
            await stream.aclose()
        await listener.aclose()

    world.run(main)


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_that_is_none_is_refused_at_once(port: int) -> None:
    world = World()

    async def main() -> None:
        with pytest.raises(OSError, match="from 1 to 65535") as raised:
            await world.process(A).dial(Address(B, port))
        assert raised.value.errno == errno.EINVAL

    world.run(main)
    assert world.events.now == 0.0


# ---- dials that hang


def darken(world: World, how: str) -> None:
    match how:
        case "hanging":
            world.network.hang_dials(B, hang=True)
        case "without power":
            world.network.power_off(B)
        case "cut there":
            world.network.cut(A, B)
        case _:
            world.network.cut(B, A)


def lighten(world: World, how: str) -> None:
    match how:
        case "hanging":
            world.network.hang_dials(B, hang=False)
        case "without power":
            world.network.power_on(B)
        case "cut there":
            world.network.mend(A, B)
        case _:
            world.network.mend(B, A)


every_darkness = pytest.mark.parametrize("how", ["hanging", "without power", "cut there", "cut back"])


@every_darkness
def test_a_dial_into_the_dark_succeeds_when_it_is_light_again(how: str) -> None:
    world = World()

    async def main() -> None:
        listener, address = await world.process(B).listen(PORT)
        darken(world, how)
        world.events.at(10.0, lambda: lighten(world, how))
        stream = await world.process(A).dial(address)
        assert 10.0 <= world.events.now <= 10.0 + KNOCK_AGAIN_S + 1.0
        accepted = await listener.accept()
        await stream.aclose()
        assert await read_all(accepted) == b""

    world.run(main)


@every_darkness
def test_a_dial_into_the_dark_times_out_in_the_end(how: str) -> None:
    world = World()

    async def main() -> None:
        darken(world, how)
        with pytest.raises(TimeoutError, match=r"10\.0\.0\.2:80"):
            await world.process(A).dial(PORT)

    world.run(main)
    assert DIAL_S <= world.events.now <= DIAL_S + 2 * KNOCK_AGAIN_S
    assert world.events.next_at() == math.inf


@every_darkness
def test_a_dial_into_the_dark_that_is_cancelled_leaves_nothing_behind(how: str) -> None:
    world = World()

    async def main() -> bool:
        listener, address = await world.process(B).listen(PORT)
        darken(world, how)
        with trio.move_on_after(5.0) as scope:
            await world.process(A).dial(address)
        assert scope.cancelled_caught
        lighten(world, how)
        with trio.move_on_after(10.0) as scope:
            await listener.accept()
        await listener.aclose()
        return scope.cancelled_caught

    assert world.run(main)
    assert world.events.next_at() == math.inf
    assert world.network._streams == {}


@pytest.mark.parametrize("after_s", [0.0, 0.5, 0.99, 1.01, 1.5, 1.99])
def test_a_dial_that_is_cancelled_at_any_moment_leaves_nothing_open(after_s: float) -> None:
    world = World()
    world.network.paths.default = Quality(delay_s=1.0, jitter_s=0.0)

    async def main() -> None:
        listener, address = await world.process(B).listen(PORT)
        with trio.move_on_after(after_s) as scope:
            await world.process(A).dial(address)
        assert scope.cancelled_caught
        with trio.move_on_after(20.0) as waiting:
            accepted = await listener.accept()
            assert await read_all(accepted) == b""
            await accepted.aclose()
        assert waiting.cancelled_caught is (after_s < 1.0)
        await listener.aclose()

    world.run(main)
    assert all(stream.is_over for stream in world.network._streams)
    assert world.network._dials == {}


@pytest.mark.parametrize("at_s", [0.5, 1.5])
def test_nothing_stays_open_when_the_process_that_dials_dies(at_s: float) -> None:
    world = World()
    world.network.paths.default = Quality(delay_s=1.0, jitter_s=0.0)
    received: list[bytes] = []

    async def main() -> None:
        listener, address = await world.process(B).listen(PORT)
        async with trio.open_nursery() as nursery:
            host = world.process(A)
            world.start(nursery, host, lambda: dial_and_stay(host, address))
            world.events.at(at_s, host.process.kill)
            with trio.move_on_after(20.0):
                while True:
                    accepted = await listener.accept()
                    received.append(b"something")
                    received[-1] = await read_all(accepted)

    world.run(main)
    assert received == ([] if at_s < 1.0 else [b""])
    assert world.network._dials == {}


def test_a_machine_that_loses_its_power_dials_no_more() -> None:
    world = World()
    world.network.paths.default = Quality(delay_s=1.0, jitter_s=0.0)

    async def main() -> None:
        listener, address = await world.process(B).listen(PORT)
        async with trio.open_nursery() as nursery:
            host = world.process(A)
            world.start(nursery, host, lambda: dial_and_stay(host, address))
            world.events.at(0.5, lambda: world.network.power_off(A))
            world.events.at(0.5, host.process.kill)
            with trio.move_on_after(20.0) as scope:
                await listener.accept()
            assert scope.cancelled_caught

    world.run(main)


async def dial_and_stay(host: SimHost, to: Address) -> None:
    stream = await host.dial(to)
    async with stream:
        await trio.sleep_forever()


# ---- listeners


def test_a_paused_process_has_its_connections_made_for_it() -> None:
    world = World()
    accepted_s: list[float] = []

    async def main() -> None:
        host = world.process(B)

        async def serve() -> None:
            listener, _address = await host.listen(PORT)
            for _ in range(2):
                stream = await listener.accept()
                accepted_s.append(world.events.now)
                await stream.aclose()

        async with trio.open_nursery() as nursery:
            world.start(nursery, host, serve)
            world.events.at(1.0, host.process.pause)
            world.events.at(9.0, host.process.resume)
            await trio.sleep(2.0)
            streams = [await world.process(A).dial(PORT) for _ in range(2)]
            assert world.events.now < 3.0
            for stream in streams:
                await stream.send_all(b"x")
        assert accepted_s == [9.0, 9.0]

    world.run(main)


def test_who_waits_to_be_accepted_is_cut_off_when_the_listener_closes() -> None:
    world = World()

    async def main() -> None:
        listener, address = await world.process(B).listen(PORT)
        stream = await world.process(A).dial(address)
        await listener.aclose()
        await listener.aclose()
        assert await read_all(stream) == b""
        with pytest.raises(ConnectionRefusedError):
            await world.process(A).dial(address)
        with pytest.raises(trio.ClosedResourceError):
            await listener.accept()

    world.run(main)


def test_to_close_a_listener_wakes_who_waits_at_it() -> None:
    world = World()

    async def main() -> None:
        listener, _address = await world.process(B).listen(PORT)

        async def accept() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await listener.accept()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept)
            await trio.sleep(1.0)
            await listener.aclose()

    world.run(main)


# ---- deaths


@pytest.mark.parametrize("has_read_all", [True, False])
def test_the_connections_of_a_killed_process_end_for_the_other_side(has_read_all: bool) -> None:
    world = World()
    seen: list[str] = []

    async def main() -> None:
        host = world.process(B)

        async def serve() -> None:
            listener, _address = await host.listen(PORT)
            stream = await listener.accept()
            if has_read_all:
                await stream.receive_some()
            await stream.send_all(b"hello")
            await trio.sleep_forever()

        async with trio.open_nursery() as nursery:
            world.start(nursery, host, serve)
            await trio.sleep(1.0)
            stream = await world.process(A).dial(PORT)
            await stream.send_all(b"x")
            world.events.after(1.0, host.process.kill)
            try:
                seen.append(f"{await read_all(stream)!r}")
            except trio.BrokenResourceError as error:
                seen.append(str(error))
            with pytest.raises(ConnectionRefusedError):
                await world.process(A).dial(PORT)

    world.run(main)
    assert seen == ["b'hello'" if has_read_all else "connection reset by peer"]


def test_the_addresses_of_a_killed_process_are_free_again() -> None:
    world = World()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                host = world.process(B)

                async def serve(host: SimHost = host) -> None:
                    async with host.datagrams(PORT):
                        await host.listen(PORT)
                        await trio.sleep_forever()

                world.start(nursery, host, serve)
                await trio.sleep(1.0)
                assert host.process.is_alive
                world.events.after(0.0, host.process.kill)
                await trio.sleep(1.0)

    world.run(main)


def test_connections_that_are_over_are_forgotten() -> None:
    world = World()

    async def main() -> None:
        for _ in range(2 * STREAMS_MIN):
            near, far = await connect(world)
            await near.aclose()
            await far.aclose()

    world.run(main)
    assert len(world.network._streams) <= STREAMS_MIN + 2


# ---- addresses


@pytest.mark.parametrize("address", [Address("10.9.9.9", 80), Address(B, -1), Address(B, 65536)], ids=str)
def test_what_is_no_address_of_the_machine_is_not_bound(address: Address) -> None:
    world = World()

    async def main() -> None:
        host = world.process(B)
        with pytest.raises(OperatorError, match=f"can't bind {address}"):
            await host.listen(address)
        with pytest.raises(OperatorError, match=f"can't bind {address}"):
            async with host.datagrams(address):
                pass

    world.run(main)


def test_a_free_port_is_none_that_somebody_has() -> None:
    world = World()

    async def main() -> None:
        host = world.process(B)
        async with host.datagrams(Address(B, FIRST_FREE_PORT)), host.datagrams(Address(B, FIRST_FREE_PORT + 1)):
            async with host.datagrams(Address(B, 0)) as endpoint:
                assert endpoint.address.port == FIRST_FREE_PORT + 2
            world.network._next_port[B] = 65535
            async with host.datagrams(Address(B, 0)) as last, host.datagrams(Address(B, 0)) as next_one:
                assert (last.address.port, next_one.address.port) == (65535, FIRST_FREE_PORT + 2)

    world.run(main)
