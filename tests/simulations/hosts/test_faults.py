"""What a network does on purpose: clogs, bottlenecks, damage, and connections that end in odd ways."""

import functools

import pytest
import trio

from meshnode.identity import Address
from simulations.hosts.damage import damaged, flipped
from simulations.hosts.network import CLOG_DATAGRAMS_MAX, QUEUE_S, Network
from simulations.hosts.quality import Change, Paths, Quality
from simulations.hosts.streams import GIVE_UP_S, WINDOW_BYTES, SimStream
from tests.simulations.hosts.world import A, B, C, World, connect, read_all

STILL = Quality(delay_s=0.1, jitter_s=0.0)


def exchange(world: World, messages: list[bytes], *, apart_s: float = 0.0) -> list[tuple[float, bytes]]:
    """When which datagrams arrived, of these that were sent."""
    arrived: list[tuple[float, bytes]] = []

    async def main() -> None:
        async with (
            world.process(A).datagrams(Address(A, 7)) as sender,
            world.process(B).datagrams(Address(B, 7)) as receiver,
            trio.open_nursery() as nursery,
        ):

            async def receive() -> None:
                while True:
                    data, _source = await receiver.receive()
                    arrived.append((round(world.events.now, 3), data))

            nursery.start_soon(receive)
            for message in messages:
                await sender.send(message, receiver.address)
                await trio.sleep(apart_s)
            await trio.sleep(20.0)
            nursery.cancel_scope.cancel()

    world.run(main)
    return arrived


# ---- clogs


def test_datagrams_of_a_clogged_path_arrive_in_order_when_it_opens() -> None:
    world = World()
    world.network.paths.default = STILL
    world.events.at(1.5, functools.partial(world.network.clog, A, B))
    world.events.at(3.2, functools.partial(world.network.unclog, A, B))
    arrived = exchange(world, [b"%d" % number for number in range(5)], apart_s=1.0)
    assert arrived == [(0.1, b"0"), (1.1, b"1"), (3.3, b"2"), (3.3, b"3"), (4.1, b"4")]
    assert world.network.fired["clogged datagram"] == 2


def test_of_too_many_datagrams_in_a_clog_the_last_ones_are_kept() -> None:
    world = World()
    world.network.clog(A, B)
    world.events.at(5.0, world.network.calm)
    arrived = exchange(world, [b"%d" % number for number in range(CLOG_DATAGRAMS_MAX + 3)])
    assert len(arrived) <= CLOG_DATAGRAMS_MAX
    assert b"2" not in {data for _time_s, data in arrived}


def test_a_clogged_path_holds_up_one_direction_of_a_stream() -> None:
    world = World()
    world.network.paths.default = STILL

    async def main() -> None:
        near, far = await connect(world)
        async with near, far:
            world.network.clog(A, B)
            world.network.clog(A, B)  # once more makes no difference
            await near.send_all(b"there")
            await far.send_all(b"back")
            assert await near.receive_some() == b"back"
            world.events.after(3.0, functools.partial(world.network.unclog, A, B))
            assert await far.receive_some() == b"there"
            assert world.events.now > 3.0

    world.run(main)


# ---- bottlenecks


def test_all_that_goes_over_a_narrow_path_shares_it() -> None:
    world = World()
    world.network.paths.default = STILL
    world.network.paths.change(A, B, bytes_per_s=1000.0)

    async def main() -> None:
        near, far = await connect(world)
        other_near, other_far = await connect(world)
        async with (
            near,
            far,
            other_near,
            other_far,
            world.process(A).datagrams(Address(A, 7)) as endpoint,
            world.process(B).datagrams(Address(B, 7)) as receiver,
        ):
            begun_s = world.events.now
            await near.send_all(bytes(100))
            await endpoint.send(bytes(200), receiver.address)
            await other_near.send_all(bytes(100))
            await far.receive_some()
            times = [world.events.now]
            await receiver.receive()
            times.append(world.events.now)
            await other_far.receive_some()
            times.append(world.events.now)
            assert [time_s - begun_s for time_s in times] == pytest.approx([0.2, 0.4, 0.5], abs=0.001)

    world.run(main)


def test_a_datagram_that_would_wait_too_long_for_a_narrow_path_is_lost() -> None:
    world = World()
    world.network.paths.default = STILL
    world.network.paths.change(A, B, bytes_per_s=1000.0)
    size = round(QUEUE_S * 1000 / 4)
    arrived = exchange(world, [bytes(size)] * 6)
    assert len(arrived) == 4
    assert world.network.fired["datagram past a narrow link"] == 2


def test_changes_of_a_path_lie_on_each_other_and_go_in_any_order() -> None:
    paths = Paths(seed=1)
    paths.default = STILL
    slow = paths.change(A, B, delay_s=5.0, loss=0.5)
    narrow = paths.change(A, B, bytes_per_s=10.0)
    slower = paths.change(A, B, delay_s=9.0)
    assert paths.quality(A, B) == Quality(delay_s=9.0, jitter_s=0.0, loss=0.5, bytes_per_s=10.0)
    paths.change_back(slow)
    assert paths.quality(A, B) == Quality(delay_s=9.0, jitter_s=0.0, bytes_per_s=10.0)
    paths.default = Quality(duplicate=0.1)
    assert paths.quality(A, B).duplicate == 0.1
    for change in (slower, narrow, slow):
        paths.change_back(change)
    assert paths.quality(A, B) == paths.quality(B, A) == paths.default


# ---- damage


def test_a_damaged_datagram_arrives_as_something_else_and_not_as_something_believable() -> None:
    sent = [b"%05d" % number for number in range(300)]
    believed = [0]

    def believes(data: bytes) -> bool:
        believed[0] += data[:1] == b"0"
        return data[:1] == b"0"

    world = World()
    world.network = Network(world.events, world.trace, seed=1, believes=believes)
    for host in (A, B):
        world.network.add_machine(host)
    world.network.paths.default = STILL
    world.network.paths.change(A, B, damage=0.5)
    arrived = [data for _time_s, data in exchange(world, sent, apart_s=0.01)]
    strange = [data for data in arrived if data not in sent]
    assert 20 < len(strange) == world.network.fired["damaged datagram"]
    assert all(data[:1] != b"0" for data in strange)
    assert 20 < believed[0] == world.network.fired["damaged datagram, lost"]
    assert len(arrived) == 300 - believed[0]


@pytest.mark.parametrize("data", [b"", b"x", b"xy", b"some bytes more"])
def test_damage_takes_what_it_finds(data: bytes) -> None:
    kinds = {damaged(data, key) for key in range(100)}
    assert len(kinds) > 3
    if data:
        assert all(len(flipped(data, key)) == len(data) for key in range(10))


def test_the_first_thing_on_a_stream_may_be_damaged_anywhere_and_later_all_is_noise_from_where_something_begins() -> (
    None
):
    heard = []
    for seed in range(40):
        world = World(seed=seed)
        world.network.paths.default = STILL

        async def main(world: World = world) -> bytes:
            near, far = await connect(world)
            async with near, far:
                world.network.paths.change(A, B, damage=0.4)
                for _ in range(4):
                    await near.send_all(b"0123456789")
                await near.send_eof()
                return await read_all(far)

        heard.append(world.run(main))
    assert all(len(data) == 40 for data in heard)
    assert any(0 < sum(a != b for a, b in zip(data[:10], b"0123456789", strict=True)) < 9 for data in heard)
    for data in heard:
        later = data[10:]
        intact = 0
        while later[intact : intact + 10] == b"0123456789":
            intact += 10
        assert b"0123456789" not in later[intact:]
    assert len({data[10:] for data in heard}) > 10


def test_noise_on_one_stream_is_not_heard_on_another() -> None:
    world = World()
    world.network.paths.default = STILL

    async def main() -> None:
        near, far = await connect(world)
        other_near, other_far = await connect(world)
        async with near, far, other_near, other_far:
            change = world.network.paths.change(A, B, damage=1.0)
            await near.send_all(b"x" * 50)
            await near.send_all(b"x" * 50)
            world.network.paths.change_back(change)
            await near.send_all(b"x" * 50)
            await near.send_eof()
            await other_near.send_all(b"x" * 50)
            assert await other_far.receive_some() == b"x" * 50
            heard = await read_all(far)
            assert heard.count(b"x") < 100
            assert len(heard) == 150

    world.run(main)


# ---- connections that end in odd ways


def test_a_reset_in_a_frame_lets_a_beginning_through() -> None:
    beginnings = set()
    for seed in range(5):
        world = World(seed=seed)

        async def main(world: World = world) -> int:
            near, far = await connect(world)
            await near.send_all(b"before")
            assert await far.receive_some() == b"before"
            world.network.reset_in_frame(B, A)
            await trio.sleep(5.0)
            await near.send_all(b"x" * 1000)
            await near.send_all(b"never")
            with pytest.raises(trio.BrokenResourceError, match="reset"):
                await near.receive_some()
            heard = await far.receive_some()
            with pytest.raises(trio.BrokenResourceError, match="reset"):
                await far.receive_some()
            assert 1 <= len(heard) < 1000
            assert set(heard) == {ord("x")}
            await near.aclose()
            await far.aclose()
            return len(heard)

        beginnings.add(world.run(main))
        assert world.network.fired["reset in a frame"] == 1
    assert len(beginnings) > 2


@pytest.mark.parametrize("is_writing", [True, False])
def test_an_end_whose_other_side_has_lost_the_connection_notices_only_by_writing(is_writing: bool) -> None:
    world = World()

    async def main() -> None:
        near, far = await connect(world)
        world.network.half_open(B, A)
        with pytest.raises(trio.BrokenResourceError, match="reset"):
            await far.receive_some()
        begun_s = world.events.now
        if is_writing:
            await near.send_all(b"hello?")
            world.network.cut(A, B)
            world.network.mend(A, B)  # which is nothing to a connection that is no more
            with pytest.raises(trio.BrokenResourceError, match="acknowledge"):
                await near.receive_some()
            assert GIVE_UP_S[0] <= world.events.now - begun_s <= GIVE_UP_S[1]
        else:
            with trio.move_on_after(100.0) as scope:
                await near.receive_some()
            assert scope.cancelled_caught
        await near.aclose()
        await far.aclose()

    world.run(main)


def test_who_waits_for_room_on_a_connection_that_the_other_side_has_lost_gives_up() -> None:
    world = World()

    async def main() -> None:
        near, far = await connect(world)
        world.events.after(1.0, functools.partial(world.network.half_open, B, A))
        with trio.fail_after(GIVE_UP_S[1] + 5.0), pytest.raises(trio.BrokenResourceError, match="acknowledge"):
            await near.send_all(bytes(2 * WINDOW_BYTES))
        await near.aclose()
        await far.aclose()

    world.run(main)


def test_a_half_open_connection_concerns_two_machines_only() -> None:
    world = World()

    async def main() -> None:
        near, far = await connect(world, A, C)
        world.network.half_open(B, A)
        world.network.reset_in_frame(B, A)
        await near.send_all(b"x")
        assert await far.receive_some() == b"x"
        assert isinstance(near, SimStream)
        assert not near.is_orphan
        await near.aclose()
        await far.aclose()

    world.run(main)


# ---- each fault is drawn for itself


FAULTS = {
    "loss": {"loss": 0.3},
    "copies": {"duplicate": 0.3},
    "lateness": {"late": 0.3, "late_s": 2.0},
    "damage": {"damage": 0.3},
}


@pytest.mark.parametrize("gone", FAULTS)
def test_a_fault_that_is_taken_away_changes_nothing_of_what_the_others_do(gone: str) -> None:
    """The same datagrams are lost, late, copied and damaged in the same way, with and without one of these."""

    def fates(*names: str) -> list[dict[str, float | None]]:
        paths = Paths(seed=5)
        changes: list[Change] = [paths.change(A, B, **FAULTS[name]) for name in names]
        assert len(changes) == len(names)
        found = []
        for _ in range(200):
            fate = paths.draw(A, B, "datagram")
            found.append(
                {
                    "loss": fate.is_lost,
                    "copies": fate.copy_delay_s,
                    "lateness": fate.delay_s,
                    "damage": fate.damage,
                }
            )
        return found

    everything = fates(*FAULTS)
    without = fates(*(name for name in FAULTS if name != gone))
    for before, after in zip(everything, without, strict=True):
        assert {**before, gone: 0} == {**after, gone: 0}
    assert [fate[gone] for fate in everything] != [fate[gone] for fate in without]
