"""Datagrams: they may be lost, late, repeated and reordered, and are never changed."""

from collections import Counter
from collections.abc import Callable

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from meshnode.identity import Address
from simulations.hosts.datagrams import OVERHEAD_BYTES, RECEIVE_BYTES
from simulations.hosts.quality import Change, Fate, Quality
from tests.simulations.hosts.world import HOSTS, A, B, World

QUALITIES = st.builds(
    Quality,
    delay_s=st.sampled_from([0.0, 0.001, 0.1]),
    jitter_s=st.sampled_from([0.0, 0.01, 1.0]),
    loss=st.sampled_from([0.0, 0.3, 1.0]),
    duplicate=st.sampled_from([0.0, 0.3, 1.0]),
    late=st.sampled_from([0.0, 0.5]),
    late_s=st.sampled_from([0.0, 2.0]),
)


def exchange(world: World, count: int, *, apart_s: float = 0.0, listen_s: float = 10.0) -> list[tuple[float, int]]:
    """When which of so many numbered datagrams arrived; all have the same sender."""
    arrived: list[tuple[float, int]] = []

    async def main() -> None:
        one, other = world.process(A), world.process(B)
        async with (
            one.datagrams(Address(A, 7)) as sender,
            other.datagrams(Address(B, 7)) as receiver,
            trio.open_nursery() as nursery,
        ):

            async def receive() -> None:
                while True:
                    data, source = await receiver.receive()
                    assert source == Address(A, 7)
                    arrived.append((world.events.now, int(data)))

            nursery.start_soon(receive)
            for number in range(count):
                await sender.send(b"%d" % number, receiver.address)
                if apart_s:
                    await trio.sleep(apart_s)
            await trio.sleep(listen_s)
            nursery.cancel_scope.cancel()

    world.run(main)
    return arrived


@given(QUALITIES, st.integers(0, 3))
def test_datagrams_arrive_within_the_bounds_of_their_path(quality: Quality, seed: int) -> None:
    world = World(seed=seed)
    world.network.paths.default = quality
    arrived = exchange(world, 40)
    copies = Counter(number for _time_s, number in arrived)
    latest_s = quality.delay_s + quality.jitter_s + (quality.late_s if quality.late else 0.0)
    assert all(quality.delay_s <= time_s <= latest_s for time_s, _number in arrived)
    assert max(copies.values(), default=0) <= (2 if quality.duplicate else 1)
    if not quality.loss:
        assert len(copies) == 40
    if quality.loss == 1.0:
        assert arrived == []
    if quality.duplicate == 1.0:
        assert set(copies.values()) <= {2}
    assert world.network.datagrams_sent == 40
    assert world.network.datagrams_lost == 40 - len(copies)


def test_a_path_that_loses_a_third_loses_about_a_third() -> None:
    world = World()
    world.network.paths.default = Quality(loss=1 / 3)
    assert 240 <= len(exchange(world, 400)) <= 295


def test_jitter_reorders_and_its_absence_does_not() -> None:
    orders = []
    for jitter_s in (0.0, 0.5):
        world = World()
        world.network.paths.default = Quality(jitter_s=jitter_s)
        orders.append([number for _time_s, number in exchange(world, 40)])
    assert orders[0] == list(range(40))
    assert orders[1] != orders[0]
    assert sorted(orders[1]) == orders[0]


@pytest.mark.parametrize("size", [0, 1000])
def test_what_comes_while_the_buffer_is_full_is_lost(size: int) -> None:
    world = World()
    world.network.paths.default = Quality(jitter_s=0.0)
    fits = RECEIVE_BYTES // (size + OVERHEAD_BYTES)

    async def main() -> int:
        async with world.process(A).datagrams(Address(A, 7)) as one, world.process(B).datagrams(Address(B, 7)) as other:
            for _ in range(fits + 50):
                await one.send(bytes(size), other.address)
            await trio.sleep(1.0)
            received = 0
            with trio.move_on_after(1.0):
                while True:
                    await other.receive()
                    received += 1
            await one.send(b"again", other.address)
            assert await other.receive() == (b"again", one.address)
            return received

    assert world.run(main) == fits


def test_a_datagram_to_a_port_that_is_closed_by_its_arrival_is_lost() -> None:
    world = World()
    world.network.paths.default = Quality(delay_s=1.0)

    async def main() -> list[bytes]:
        host = world.process(B)
        async with world.process(A).datagrams(Address(A, 7)) as one:
            async with host.datagrams(Address(B, 7)) as other:
                await one.send(b"too late", other.address)
            await trio.sleep(2.0)
            async with host.datagrams(Address(B, 7)) as other:
                await one.send(b"in time", other.address)
                return [(await other.receive())[0]]

    assert world.run(main) == [b"in time"]


def test_nothing_goes_through_a_closed_endpoint() -> None:
    world = World()

    async def main() -> None:
        async with world.process(A).datagrams(Address(A, 7)) as endpoint:
            pass
        with pytest.raises(trio.ClosedResourceError):
            await endpoint.send(b"x", Address(B, 7))
        with pytest.raises(trio.ClosedResourceError):
            await endpoint.receive()

    world.run(main)
    assert world.network.datagrams_sent == 0


def test_to_close_an_endpoint_wakes_who_waits_there() -> None:
    world = World()

    async def main() -> None:
        async with trio.open_nursery() as nursery, world.process(A).datagrams(Address(A, 7)) as endpoint:

            async def receive() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await endpoint.receive()

            nursery.start_soon(receive)
            await trio.sleep(1.0)

    world.run(main)


@pytest.mark.parametrize("is_cut_there", [True, False])
def test_a_cut_stops_datagrams_of_its_direction_only(is_cut_there: bool) -> None:
    world = World()
    world.network.cut(*((A, B) if is_cut_there else (B, A)))
    assert bool(exchange(world, 5)) is not is_cut_there


def test_two_cuts_of_one_path_are_mended_one_by_one() -> None:
    world = World()
    network = world.network
    network.cut(A, B)
    network.cut(A, B)
    world.events.at(0.75, lambda: network.mend(A, B))
    world.events.at(1.75, lambda: network.mend(A, B))
    assert {number for _time_s, number in exchange(world, 6, apart_s=0.5)} == {4, 5}


def test_a_machine_without_power_neither_sends_nor_receives() -> None:
    for host in (A, B):
        world = World()
        world.network.power_off(host)
        world.events.at(2.25, lambda world=world, host=host: world.network.power_on(host))  # type: ignore[misc]
        assert {number for _time_s, number in exchange(world, 6, apart_s=0.5)} == {5}


@given(st.sets(st.integers(0, 19)), st.integers(0, 3))
def test_what_happens_to_a_message_does_not_depend_on_those_of_other_paths(others: set[int], seed: int) -> None:
    quality = Quality(jitter_s=0.5, loss=0.2, duplicate=0.2, late=0.2, late_s=1.0)
    fates: list[list[Fate]] = []
    for noise in (set[int](), others):
        world = World(seed=seed)
        paths = world.network.paths
        paths.default = quality
        fates.append([])
        for number in range(20):
            if number in noise:
                paths.draw(B, A, "datagram")
                paths.draw(A, HOSTS[2], "datagram")
                paths.draw(A, B, "stream")
                paths.share(A, B, "give up")
            fates[-1].append(paths.draw(A, B, "datagram"))
    assert fates[0] == fates[1]


JITTERY = Quality(jitter_s=0.5)


def exchange_under(*faults: tuple[float, Callable[[World], object]], quality: Quality = JITTERY) -> list[list[float]]:
    """When the copies of each of thirty datagrams arrived, while things happen to the path."""
    world = World()
    world.network.paths.default = quality
    for time_s, fault in faults:
        world.events.at(time_s, lambda fault=fault: fault(world))  # type: ignore[misc]
    arrived = exchange(world, 30, apart_s=0.1)
    return [[time_s for time_s, other in arrived if other == number] for number in range(30)]


def test_a_cut_that_is_taken_away_changes_nothing_for_the_other_datagrams() -> None:
    plain = exchange_under()
    cut = exchange_under(
        (0.95, lambda world: world.network.cut(A, B)),
        (1.95, lambda world: world.network.mend(A, B)),
    )
    assert cut == [[] if 10 <= number < 20 else copies for number, copies in enumerate(plain)]
    changes: list[Change] = []
    bad = exchange_under(
        (0.95, lambda world: changes.append(world.network.paths.change(A, B, loss=1.0))),
        (1.95, lambda world: world.network.paths.change_back(changes.pop())),
    )
    assert bad == cut


def test_losses_and_copies_that_are_taken_away_change_nothing_for_the_other_datagrams() -> None:
    plain = exchange_under()
    lossy = exchange_under(quality=Quality(jitter_s=0.5, loss=0.3))
    assert [] in lossy
    assert all(copies in ([], plain[number]) for number, copies in enumerate(lossy))
    copied = exchange_under(quality=Quality(jitter_s=0.5, duplicate=0.5))
    assert {len(copies) for copies in copied} == {1, 2}
    assert all(plain[number][0] in copies for number, copies in enumerate(copied))


def test_another_seed_gives_other_fates() -> None:
    quality = Quality(jitter_s=0.5)
    arrivals = []
    for seed in (1, 1, 2):
        world = World(seed=seed)
        world.network.paths.default = quality
        arrivals.append(exchange(world, 20))
    assert arrivals[0] == arrivals[1] != arrivals[2]


@pytest.mark.parametrize(
    ("name", "value"),
    [("loss", -0.1), ("loss", 1.1), ("duplicate", 2.0), ("late", -1.0), ("delay_s", -1.0), ("jitter_s", float("inf"))],
)
def test_a_quality_that_makes_no_sense_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        Quality(**{name: value})
