"""Streams: what they deliver they deliver in order, whatever the network does, and how they end."""

import math
from collections.abc import Callable

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from simulations.hosts.quality import Quality
from simulations.hosts.streams import RETRANSMIT_S, WINDOW_BYTES
from tests.simulations.hosts.world import A, B, World, connect, read_all

QUALITIES = st.builds(
    Quality,
    delay_s=st.sampled_from([0.0, 0.001, 0.1]),
    jitter_s=st.sampled_from([0.0, 0.01, 1.0]),
    loss=st.sampled_from([0.0, 0.3, 1.0]),
    duplicate=st.sampled_from([0.0, 1.0]),
    late=st.sampled_from([0.0, 0.5]),
    late_s=st.sampled_from([0.0, 2.0]),
    bytes_per_s=st.sampled_from([0.0, 1e5]),
)

SMALL = st.tuples(st.lists(st.integers(0, 100), max_size=12), st.integers(1, 60) | st.none())
LARGE = st.tuples(
    st.lists(st.sampled_from([1, 5000, WINDOW_BYTES, 3 * WINDOW_BYTES // 2]), max_size=5),
    st.sampled_from([50_000, None]),
)


def pattern(size: int, start: int) -> bytes:
    """Bytes that show where they come from."""
    return bytes((start + offset * 7) % 251 for offset in range(size)) if size < 5000 else bytes([start % 251]) * size


@given(QUALITIES, SMALL | LARGE, st.integers(0, 3))
def test_bytes_arrive_complete_and_in_order(quality: Quality, sizes: tuple[list[int], int | None], seed: int) -> None:
    part_bytes, read_bytes = sizes
    world = World(seed=seed)
    world.network.paths.default = quality
    parts = [pattern(size, number) for number, size in enumerate(part_bytes)]
    received: list[bytes] = []

    async def main() -> None:
        near, far = await connect(world)

        async def send() -> None:
            for part in parts:
                await near.send_all(part)
            await near.send_eof()

        async with near, far, trio.open_nursery() as nursery:
            nursery.start_soon(send)
            while part := await far.receive_some(read_bytes):
                assert len(part) <= (read_bytes or WINDOW_BYTES)
                received.append(bytes(part))
            assert await far.receive_some() == b""

    world.run(main)
    assert b"".join(received) == b"".join(parts)


def test_both_directions_are_independent() -> None:
    world = World()
    world.network.paths.change(A, B, delay_s=5.0)

    async def main() -> None:
        near, far = await connect(world)
        async with near, far:
            begun_s = world.events.now
            await near.send_all(b"slow")
            await far.send_all(b"fast")
            assert await near.receive_some() == b"fast"
            assert world.events.now < begun_s + 1.0
            assert await far.receive_some() == b"slow"
            assert world.events.now >= begun_s + 5.0

    world.run(main)


def test_what_was_lost_holds_up_what_comes_behind_it() -> None:
    arrivals: list[list[float]] = []
    for loss in (0.0, 1.0):
        world = World()
        world.network.paths.default = Quality(jitter_s=0.0, loss=loss)
        arrivals.append(receive_in_time(world, [b"abcdefgh", b"x"]))
    plain_s, lossy_s = arrivals
    assert len(plain_s) == 2
    assert lossy_s[-1] == pytest.approx(plain_s[-1] + RETRANSMIT_S)


def receive_in_time(world: World, parts: list[bytes]) -> list[float]:
    """When something arrived, from when the first part was sent."""
    times: list[float] = []

    async def main() -> None:
        near, far = await connect(world)
        begun_s = world.events.now
        async with near, far, trio.open_nursery() as nursery:

            async def receive() -> None:
                while await far.receive_some():
                    times.append(world.events.now - begun_s)

            nursery.start_soon(receive)
            for part in parts:
                await near.send_all(part)
                await trio.sleep(0.00001)
            await near.send_eof()

    world.run(main)
    return times


def test_some_of_what_was_sent_at_once_arrives_before_a_loss_and_the_rest_behind_it() -> None:
    splits = set()
    for seed in range(10):
        world = World(seed=seed)
        world.network.paths.default = Quality(jitter_s=0.0, loss=1.0)

        async def main(world: World = world) -> list[bytes]:
            near, far = await connect(world)
            async with near, far:
                await near.send_all(b"0123456789")
                parts: list[bytes] = []
                while len(b"".join(parts)) < 10:
                    parts.append(bytes(await far.receive_some()))
            return parts

        parts = world.run(main)
        assert b"".join(parts) == b"0123456789"
        splits.add(len(parts[0]))
    assert len(splits) > 3


def test_what_has_arrived_is_read_at_once() -> None:
    world = World()

    async def main() -> None:
        near, far = await connect(world)
        async with near, far:
            for part in (b"ab", b"cd", b"ef"):
                await near.send_all(part)
            await trio.sleep(1.0)
            assert await far.receive_some(5) == b"abcde"
            assert await far.receive_some(5) == b"f"

    world.run(main)


def test_bandwidth_bounds_how_soon_bytes_arrive() -> None:
    world = World()
    world.network.paths.default = Quality(jitter_s=0.0, bytes_per_s=1000.0)
    times = receive_in_time(world, [bytes(500), bytes(500), bytes(1000)])
    assert times == pytest.approx([0.5, 1.0, 2.0], abs=0.01)


# ---- windows


def test_no_more_is_under_way_than_a_window() -> None:
    world = World()
    taken: list[int] = []

    async def main() -> None:
        near, far = await connect(world)
        sent = trio.Event()

        async def send() -> None:
            await near.send_all(bytes(2 * WINDOW_BYTES))
            sent.set()

        async with near, far, trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await trio.sleep(60.0)
            assert not sent.is_set()
            taken.append(len(await far.receive_some(WINDOW_BYTES)))
            with trio.move_on_after(0.0):
                await far.receive_some()
            await trio.sleep(60.0)
            assert sent.is_set()
            taken.append(len(await far.receive_some(WINDOW_BYTES)))

    world.run(main)
    assert taken == [WINDOW_BYTES, WINDOW_BYTES]


def test_to_wait_for_room_ends_when_there_is_some() -> None:
    world = World()

    async def main() -> None:
        near, far = await connect(world)
        async with near, far, trio.open_nursery() as nursery:
            with trio.fail_after(1.0):
                await near.wait_send_all_might_not_block()
            await near.send_all(bytes(WINDOW_BYTES))
            with trio.move_on_after(10.0) as scope:
                await near.wait_send_all_might_not_block()
            assert scope.cancelled_caught
            nursery.start_soon(far.receive_some, 1)
            with trio.fail_after(1.0):
                await near.wait_send_all_might_not_block()

    world.run(main)


def test_a_cancelled_send_has_sent_a_beginning() -> None:
    world = World()

    async def main() -> bytes:
        near, far = await connect(world)
        async with far:
            with trio.move_on_after(1.0):
                await near.send_all(bytes(WINDOW_BYTES) + b"never sent")
            await near.aclose()
            return await read_all(far)

    assert world.run(main) == bytes(WINDOW_BYTES)


# ---- two tasks at one end


def test_one_task_receives_and_one_sends_at_a_time() -> None:
    world = World()

    async def main() -> None:
        near, far = await connect(world)
        async with near, far, trio.open_nursery() as nursery:
            nursery.start_soon(near.receive_some)
            nursery.start_soon(near.send_all, bytes(2 * WINDOW_BYTES))
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(trio.BusyResourceError, match="receives"):
                await near.receive_some()
            with pytest.raises(trio.BusyResourceError, match="sends"):
                await near.send_all(b"x")
            nursery.cancel_scope.cancel()
        with pytest.raises(trio.ClosedResourceError):
            await near.receive_some()

    world.run(main)


def test_a_cancelled_receiver_makes_room_for_another_one() -> None:
    world = World()

    async def main() -> None:
        near, far = await connect(world)
        async with near, far:
            with trio.move_on_after(1.0):
                await far.receive_some()
            await near.send_all(b"x")
            assert await far.receive_some() == b"x"

    world.run(main)


@pytest.mark.parametrize("size", [0, -1])
def test_to_receive_nothing_is_refused(size: int) -> None:
    world = World()

    async def main() -> None:
        near, far = await connect(world)
        async with near, far:
            with pytest.raises(ValueError, match=f"{size}"):
                await far.receive_some(size)

    world.run(main)


# ---- ends


def test_an_end_that_has_said_all_still_listens() -> None:
    world = World()

    async def main() -> None:
        near, far = await connect(world)
        async with near, far:
            await near.send_all(b"question")
            await near.send_eof()
            await near.send_eof()
            with pytest.raises(trio.ClosedResourceError):
                await near.send_all(b"more")
            assert await read_all(far) == b"question"
            await far.send_all(b"answer")
            assert await near.receive_some() == b"answer"

    world.run(main)


def test_to_close_with_everything_read_is_an_end_for_the_other_side() -> None:
    world = World()

    async def main() -> None:
        near, far = await connect(world)
        await near.send_all(b"last words")
        await near.aclose()
        await near.aclose()
        assert await read_all(far) == b"last words"
        assert await far.receive_some() == b""
        await far.aclose()

    world.run(main)


def test_to_close_with_something_unread_is_a_reset_for_the_other_side() -> None:
    world = World()

    async def main() -> None:
        near, far = await connect(world)
        await far.send_all(b"unread")
        await trio.sleep(1.0)
        await near.aclose()
        with pytest.raises(trio.BrokenResourceError, match="reset"):
            await far.receive_some()
        with pytest.raises(trio.BrokenResourceError, match="reset"):
            await far.send_all(b"x")
        await far.aclose()

    world.run(main)


def test_what_is_sent_to_a_closed_end_comes_back_as_a_reset() -> None:
    world = World()

    async def main() -> None:
        near, far = await connect(world)
        await near.aclose()
        await far.send_all(b"nobody reads this")
        await trio.sleep(1.0)
        with pytest.raises(trio.BrokenResourceError, match="reset"):
            await far.send_all(b"nor this")
        await far.aclose()

    world.run(main)


@pytest.mark.parametrize("use", ["receive", "send", "wait"])
def test_to_close_an_end_wakes_who_waits_at_it(use: str) -> None:
    world = World()

    async def main() -> None:
        near, far = await connect(world)
        uses: dict[str, Callable[[], object]] = {
            "receive": near.receive_some,
            "send": lambda: near.send_all(bytes(2 * WINDOW_BYTES)),
            "wait": near.wait_send_all_might_not_block,
        }

        async def wait() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await uses[use]()  # type: ignore[misc]

        async with far, trio.open_nursery() as nursery:
            if use == "wait":
                await near.send_all(bytes(WINDOW_BYTES))
            nursery.start_soon(wait)
            await trio.sleep(1.0)
            await near.aclose()

    world.run(main)


def test_nothing_goes_through_a_closed_end() -> None:
    world = World()

    async def main() -> None:
        near, far = await connect(world)
        await near.aclose()
        for use in (near.receive_some, lambda: near.send_all(b"x"), near.send_eof, near.wait_send_all_might_not_block):
            with pytest.raises(trio.ClosedResourceError):
                await use()
        await far.aclose()

    world.run(main)


def test_a_reset_by_the_network_breaks_both_ends_in_the_middle_of_what_they_carry() -> None:
    world = World()
    world.network.paths.default = Quality(delay_s=1.0)

    async def main() -> None:
        near, far = await connect(world)
        outcomes: list[str] = []

        async def receive(stream: trio.abc.ReceiveStream) -> None:
            try:
                outcomes.append(f"{await stream.receive_some()!r}")
            except trio.BrokenResourceError as error:
                outcomes.append(str(error))

        async with near, far, trio.open_nursery() as nursery:
            nursery.start_soon(receive, near)
            nursery.start_soon(receive, far)
            await near.send_all(b"under way")
            world.events.after(0.5, lambda: world.network.reset_streams(A, B))
        assert outcomes == ["connection reset", "connection reset"]

    world.run(main)


def test_a_reset_concerns_the_connections_between_two_machines_only() -> None:
    world = World()

    async def main() -> None:
        near, far = await connect(world)
        other_near, other_far = await connect(world, A, "10.0.0.3")
        async with near, far, other_near, other_far:
            world.network.reset_streams(A, B)
            await other_near.send_all(b"x")
            assert await other_far.receive_some() == b"x"
            with pytest.raises(trio.BrokenResourceError):
                await near.send_all(b"x")

    world.run(main)


def test_a_broken_end_tells_the_other_one_that_goes_on_sending() -> None:
    world = World()

    async def main() -> None:
        near, far = await connect(world)
        near.break_off("for a reason of its own")  # type: ignore[attr-defined]
        await far.send_all(b"x")
        with trio.fail_after(1.0), pytest.raises(trio.BrokenResourceError, match="reset"):
            await far.receive_some()
        with trio.CancelScope(deadline=-math.inf):
            await near.aclose()
            await far.aclose()

    world.run(main)
