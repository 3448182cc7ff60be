"""How long a link lasts: in memory, in a time that jumps."""

import pytest
import trio
import trio.testing

from meshnode.identity import Boot, NodeId
from meshnode.links import Channel, Hello, LinkLost, LinksConfig, Requests, Role
from meshnode.links.links import READ_MESSAGES
from tests.links.network import MESH, MemoryHost, Network, Note, in_virtual_time

CONFIG = LinksConfig()


def test_a_link_with_nothing_to_carry_stays() -> None:
    async def scenario(net: Network, _host: MemoryHost, _clock: trio.testing.MockClock) -> None:
        one, two = await net.start(1), await net.start(2)
        await one.links.connect(two.address)
        await trio.sleep(3600)
        assert not one.ended
        assert not two.ended
        assert one.links.send(NodeId(2), Channel.CALLS, Note(1))
        await two.until(lambda: two.received)

    in_virtual_time(scenario)


def test_a_link_that_one_side_uses_stays_though_the_other_has_nothing_to_say() -> None:
    async def scenario(net: Network, _host: MemoryHost, _clock: trio.testing.MockClock) -> None:
        one, two = await net.start(1), await net.start(2)
        for number in range(200):
            one.links.send(NodeId(2), Channel.CALLS, Note(number))
            await trio.sleep(0.7 * CONFIG.idle_s)
        assert len(two.received) == 200
        assert not one.ended
        assert not two.ended

    in_virtual_time(scenario)


def test_a_link_to_a_peer_that_falls_silent_ends_and_the_peer_is_dialled_anew() -> None:
    async def scenario(net: Network, host: MemoryHost, _clock: trio.testing.MockClock) -> None:
        one, two = await net.start(1), await net.start(2)
        asked = Requests[Note](one.links, Channel.CALLS)
        await one.links.connect(two.address)
        await trio.sleep(100)
        host.paths[0].cut()
        before = trio.current_time()
        with pytest.raises(LinkLost, match="ended before it answered") as caught:
            await asked.ask(NodeId(2), Note)
        assert caught.value.was_sent
        assert CONFIG.silent_s - CONFIG.idle_s <= trio.current_time() - before <= CONFIG.silent_s
        assert one.links.counters.connections_silent == 1
        await two.until(lambda: two.ended)
        assert one.links.send(NodeId(2), Channel.CALLS, Note(7))
        await two.until(lambda: two.received)
        assert two.received == [(1, Note(7))]

    in_virtual_time(scenario)


def test_a_frame_that_takes_longer_than_the_silence_is_no_silence() -> None:
    async def scenario(net: Network, host: MemoryHost, _clock: trio.testing.MockClock) -> None:
        one, two = await net.start(1), await net.start(2)
        await one.links.connect(two.address)
        await trio.testing.wait_all_tasks_blocked()
        host.paths[0].slow_down(bytes_per_s=2**16)
        before = trio.current_time()
        one.links.send(NodeId(2), Channel.CALLS, Note(1, bytes(6 * 2**20)))
        await two.until(lambda: two.received, guard_s=1000.0)
        assert trio.current_time() - before > 2 * CONFIG.silent_s
        assert not one.ended
        assert not two.ended

    in_virtual_time(scenario)


@pytest.mark.parametrize("_attempt", range(8))  # trio runs what is ready in a random order
def test_what_arrived_while_the_loop_was_held_up_is_heard_before_the_peer_is_given_up(_attempt: int) -> None:
    async def scenario(net: Network, host: MemoryHost, clock: trio.testing.MockClock) -> None:
        one, two = await net.start(1), await net.start(2)
        await one.links.connect(two.address)
        await trio.testing.wait_all_tasks_blocked()
        host.paths[0].hold()
        one.links.send(NodeId(2), Channel.CALLS, Note(1))
        two.links.send(NodeId(1), Channel.CALLS, Note(2))
        await trio.testing.wait_all_tasks_blocked()
        clock.jump(2 * CONFIG.silent_s)
        host.paths[0].pump()
        await trio.sleep(3 * CONFIG.silent_s)
        assert not one.ended
        assert not two.ended

    in_virtual_time(scenario)


def test_a_frame_that_takes_longer_to_read_than_the_silence_is_no_silence() -> None:
    async def scenario(net: Network, _host: MemoryHost, clock: trio.testing.MockClock) -> None:
        one, two = await net.start(1), await net.start(2)
        await one.links.connect(two.address)

        def work_slowly() -> None:
            if len(two.received) % READ_MESSAGES == 0:
                clock.jump(1.0)

        two.took = work_slowly
        before = trio.current_time()
        # Each of several frames takes longer, and what waits behind it keeps signs of life from being heard.
        for number in range(30_000):
            one.links.send(NodeId(2), Channel.CALLS, Note(number))
        await two.until(lambda: len(two.received) == 30_000, guard_s=1000.0)
        assert trio.current_time() - before > 3 * CONFIG.silent_s
        assert not two.ended
        assert not one.ended

    in_virtual_time(scenario)


def test_a_link_to_a_start_that_is_over_ends_when_a_later_one_is_known() -> None:
    async def scenario(net: Network, _host: MemoryHost, _clock: trio.testing.MockClock) -> None:
        one, two = await net.start(1), await net.start(2)
        await one.links.connect(two.address)
        two.links.introduce_as(Hello(MESH, NodeId(2), Boot(2), Role.NODE, "node-2"), net.addresses.get)
        await one.until(lambda: one.ended)
        await one.links.connect(two.address)
        net.boots[NodeId(2)] = Boot(2)
        await trio.sleep(2 * CONFIG.idle_s)
        assert one.ended == [2]
        net.boots[NodeId(2)] = Boot(3)
        await trio.sleep(2 * CONFIG.idle_s)
        assert one.ended == [2, 2]
        assert not one.links.is_linked(NodeId(2))

    in_virtual_time(scenario)


@pytest.mark.parametrize("times", [{"idle_s": 0.0}, {"idle_s": -1.0}, {"idle_s": 8.0}, {"silent_s": 9.0}])
def test_a_silence_leaves_time_for_two_signs_of_life(times: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="choose 2 × or more of idle_s"):
        LinksConfig(**times)  # type: ignore[arg-type]  # times are floats
