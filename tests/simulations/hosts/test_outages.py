"""Cuts and machines without power: what is held up, who gives up and when, and who is told."""

import math
from collections.abc import Callable

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from simulations.hosts.quality import LAN, Quality
from simulations.hosts.streams import GIVE_UP_S, WINDOW_BYTES
from tests.simulations.hosts.world import A, B, World, connect, read_all

SOON_S = 2.0
"""Within this time everything that needs no patience has happened."""


def both(world: World, change: Callable[[str, str], None]) -> None:
    for source, target in ((A, B), (B, A)):
        change(source, target)


async def fails_after_s(world: World, stream: trio.abc.Stream) -> float:
    """How long it takes until the connection is broken, as its reader sees it; infinity after a minute."""
    begun_s = world.events.now
    with trio.move_on_after(60.0):
        with pytest.raises(trio.BrokenResourceError):
            await read_all(stream)
        return world.events.now - begun_s
    return math.inf


# ---- cuts


@given(cut_s=st.floats(0.5, 8.0), sizes=st.lists(st.integers(1, 1000), min_size=1, max_size=5), seed=st.integers(0, 3))
def test_what_was_held_up_by_a_cut_arrives_in_order_when_it_is_mended(
    cut_s: float, sizes: list[int], seed: int
) -> None:
    world = World(seed=seed)
    sent = b"".join(bytes([number]) * size for number, size in enumerate(sizes))

    async def main() -> None:
        near, far = await connect(world)
        async with far:
            both(world, world.network.cut)
            for number, size in enumerate(sizes):
                await near.send_all(bytes([number]) * size)
            await near.aclose()
            with trio.move_on_after(cut_s) as scope:
                await far.receive_some()
            assert scope.cancelled_caught
            both(world, world.network.mend)
            with trio.fail_after(SOON_S):
                assert await read_all(far) == sent

    world.run(main)


def test_what_was_under_way_when_the_cut_came_arrives() -> None:
    world = World()

    async def main() -> None:
        near, far = await connect(world)
        async with near, far:
            await near.send_all(b"in time")
            both(world, world.network.cut)
            with trio.fail_after(SOON_S):
                assert await far.receive_some() == b"in time"
            both(world, world.network.mend)

    world.run(main)


@pytest.mark.parametrize("ways", [[(A, B)], [(B, A)], [(A, B), (B, A)]], ids=["there", "back", "both"])
def test_a_sender_that_is_not_acknowledged_gives_up_in_time(ways: list[tuple[str, str]]) -> None:
    times = []
    for seed in range(10):
        world = World(seed=seed)

        async def main(world: World = world) -> float:
            near, far = await connect(world)
            for way in ways:
                world.network.cut(*way)
            await near.send_all(b"x")
            time_s = await fails_after_s(world, near)
            with pytest.raises(trio.BrokenResourceError, match="acknowledge"):
                await near.send_all(b"y")
            with trio.move_on_after(0.0):
                await far.aclose()
            return time_s

        times.append(world.run(main))
    assert all(GIVE_UP_S[0] <= time_s <= GIVE_UP_S[1] for time_s in times)
    assert len(set(times)) > 5


def test_data_arrives_though_its_acknowledgement_does_not() -> None:
    world = World()

    async def main() -> None:
        near, far = await connect(world)
        world.network.cut(B, A)
        await near.send_all(b"x")
        with trio.fail_after(SOON_S):
            assert await far.receive_some() == b"x"
        assert await fails_after_s(world, near) <= GIVE_UP_S[1]
        await near.aclose()
        await far.aclose()

    world.run(main)


def test_a_direction_that_is_mended_carries_data_while_the_other_one_is_still_cut() -> None:
    world = World()

    async def main() -> None:
        near, far = await connect(world)
        both(world, world.network.cut)
        await near.send_all(b"x")
        world.network.mend(A, B)
        with trio.fail_after(SOON_S):
            assert await far.receive_some() == b"x"
        assert await fails_after_s(world, near) <= GIVE_UP_S[1]

    world.run(main)


def test_who_sends_nothing_gives_nothing_up() -> None:
    world = World()

    async def main() -> None:
        near, far = await connect(world)
        both(world, world.network.cut)
        assert await fails_after_s(world, near) == math.inf
        both(world, world.network.mend)
        async with near, far:
            await near.send_all(b"x")
            assert await far.receive_some() == b"x"

    world.run(main)


def test_patience_begins_anew_with_each_cut() -> None:
    world = World()

    async def main() -> None:
        near, far = await connect(world)
        for _ in range(4):
            world.network.cut(A, B)
            await near.send_all(b"x")
            await trio.sleep(GIVE_UP_S[0] - 1.0)
            world.network.mend(A, B)
            with trio.fail_after(SOON_S):
                assert await far.receive_some() == b"x"
        world.network.cut(A, B)
        await near.send_all(b"x")
        assert GIVE_UP_S[0] <= await fails_after_s(world, near) <= GIVE_UP_S[1]

    world.run(main)


def test_who_waits_for_room_gives_up_too_when_the_path_goes_dark() -> None:
    world = World()

    async def main() -> None:
        near, far = await connect(world)

        async def send() -> None:
            with pytest.raises(trio.BrokenResourceError, match="acknowledge"):
                await near.send_all(bytes(2 * WINDOW_BYTES))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await trio.sleep(SOON_S)
            both(world, world.network.cut)
            begun_s = world.events.now
        assert GIVE_UP_S[0] <= world.events.now - begun_s <= GIVE_UP_S[1]
        both(world, world.network.mend)
        assert len(await far.receive_some()) == WINDOW_BYTES
        await far.aclose()

    world.run(main)


def test_who_begins_to_wait_for_room_in_the_dark_gives_up_too() -> None:
    world = World()

    async def main() -> None:
        near, far = await connect(world)
        await near.send_all(bytes(WINDOW_BYTES))
        both(world, world.network.cut)
        begun_s = world.events.now
        with trio.fail_after(60.0), pytest.raises(trio.BrokenResourceError, match="acknowledge"):
            await near.wait_send_all_might_not_block()
        assert GIVE_UP_S[0] <= world.events.now - begun_s <= GIVE_UP_S[1]
        with trio.CancelScope(deadline=-math.inf):
            await far.aclose()

    world.run(main)


def test_a_connection_that_one_side_gave_up_is_reset_for_the_other_when_it_sends() -> None:
    world = World()

    async def main() -> None:
        near, far = await connect(world)
        both(world, world.network.cut)
        await near.send_all(b"x")
        await fails_after_s(world, near)
        both(world, world.network.mend)
        await far.send_all(b"are you there")
        assert await fails_after_s(world, far) <= SOON_S

    world.run(main)


@pytest.mark.parametrize("is_read", [True, False])
def test_an_end_that_is_closed_behind_a_cut_is_not_seen_before_it_is_mended(is_read: bool) -> None:
    world = World()

    async def main() -> None:
        near, far = await connect(world)
        if not is_read:
            await far.send_all(b"unread")
            await trio.sleep(1.0)
        both(world, world.network.cut)
        await near.aclose()
        with trio.move_on_after(5.0) as scope:
            await far.receive_some()
        assert scope.cancelled_caught
        both(world, world.network.mend)
        if is_read:
            with trio.fail_after(SOON_S):
                assert await far.receive_some() == b""
        else:  # the reset was lost, and is told to who sends
            await far.send_all(b"x")
            assert await fails_after_s(world, far) <= SOON_S
        await far.aclose()

    world.run(main)


def test_in_a_calm_everything_is_as_it_was_in_the_beginning() -> None:
    world = World()
    network = world.network

    async def main() -> None:
        near, far = await connect(world)
        network.paths.default = Quality(loss=1.0)
        network.paths.change(A, B, delay_s=50.0)
        both(world, network.cut)
        both(world, network.cut)
        network.hang_dials(B, hang=True)
        await near.send_all(b"x")
        network.calm()
        with trio.fail_after(SOON_S):
            assert await far.receive_some() == b"x"
            await connect(world)
        assert network.paths.quality(A, B) == network.paths.quality(B, A) == LAN

    world.run(main)


# ---- power


def test_nobody_is_told_of_a_power_cut() -> None:
    world = World()

    async def main() -> None:
        near, far = await connect(world)
        await far.send_all(b"last words")
        world.network.power_off(B)
        with trio.fail_after(SOON_S):
            assert await near.receive_some() == b"last words"
        assert await fails_after_s(world, near) == math.inf

    world.run(main)


def test_a_write_to_a_machine_without_power_stalls_and_is_given_up() -> None:
    world = World()

    async def main() -> None:
        near, _far = await connect(world)
        world.network.power_off(B)
        with trio.fail_after(SOON_S):
            await near.send_all(b"x")
        assert GIVE_UP_S[0] <= await fails_after_s(world, near) <= GIVE_UP_S[1]

    world.run(main)


def test_what_was_under_way_to_a_machine_that_lost_its_power_is_given_up_too() -> None:
    world = World()

    async def main() -> None:
        near, _far = await connect(world)
        await near.send_all(b"under way")
        world.network.power_off(B)
        assert GIVE_UP_S[0] <= await fails_after_s(world, near) <= GIVE_UP_S[1] + 1.0

    world.run(main)


@pytest.mark.parametrize("is_writing", [True, False])
def test_a_machine_that_is_back_resets_the_connections_of_its_former_life(is_writing: bool) -> None:
    world = World()

    async def main() -> None:
        near, far = await connect(world)
        world.network.power_off(B)
        if is_writing:
            await near.send_all(b"x")
        await trio.sleep(5.0)
        world.network.power_on(B)
        assert await fails_after_s(world, near) <= SOON_S
        with pytest.raises(trio.ClosedResourceError):
            await far.receive_some()
        again, other = await connect(world)
        async with again, other:
            await again.send_all(b"x")
            assert await other.receive_some() == b"x"

    world.run(main)


def test_a_machine_that_is_back_behind_a_cut_resets_when_it_is_written_to() -> None:
    world = World()

    async def main() -> None:
        near, _far = await connect(world)
        world.network.power_off(B)
        both(world, world.network.cut)
        world.network.power_on(B)
        await trio.sleep(1.0)
        both(world, world.network.mend)
        await near.send_all(b"x")
        assert await fails_after_s(world, near) <= SOON_S

    world.run(main)


def test_nothing_that_a_machine_had_not_sent_leaves_it_after_its_power_cut() -> None:
    world = World()

    async def main() -> None:
        near, far = await connect(world)
        both(world, world.network.cut)
        await near.send_all(b"never sent")
        world.network.power_off(A)
        both(world, world.network.mend)
        with trio.move_on_after(60.0) as scope:
            await far.receive_some()
        assert scope.cancelled_caught
        world.network.power_on(A)
        assert await fails_after_s(world, far) <= SOON_S

    world.run(main)
    assert world.events.next_at() == math.inf  # nothing goes on for the machine that is gone


def test_nothing_is_scheduled_any_more_when_all_is_over() -> None:
    world = World()

    async def main() -> None:
        for _ in range(3):
            near, far = await connect(world)
            both(world, world.network.cut)
            await near.send_all(b"x")
            await near.aclose()
            await trio.sleep(60.0)
            both(world, world.network.mend)
            await far.aclose()
        await trio.sleep(60.0)

    world.run(main)
    assert world.events.next_at() == math.inf
    assert world.network._watching == {}
