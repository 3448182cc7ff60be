"""Machines' clocks: each has an offset and a rate, and nobody ever wakes too early by one."""

import functools
import math

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from simulations.hosts import SimHost
from simulations.hosts.machine import DEADLINES_MIN, EPOCH_S, ClockSkew
from tests.simulations.hosts.world import A, World

SKEWS = st.builds(
    ClockSkew,
    offset_s=st.floats(-1e6, 1e6),
    rate=st.floats(0.5, 2.0),
    wall_offset_s=st.floats(-1e9, 1e9),
)


@given(SKEWS, st.floats(0.0, 1e5), st.floats(0.0, 1e3))
def test_a_clock_runs_at_its_rate_from_its_offset(skew: ClockSkew, begun_s: float, passed_s: float) -> None:
    world = World(skew=skew)
    machine = world.machines[A]
    world.events.now = begun_s
    before = machine.now(), machine.wall_clock()
    world.events.now = begun_s + passed_s
    assert before[0] == pytest.approx(skew.offset_s + begun_s * skew.rate)
    assert machine.now() - before[0] == pytest.approx(passed_s * skew.rate, abs=1e-5)
    assert machine.wall_clock() - before[1] == pytest.approx(passed_s * skew.rate, abs=1e-5)
    assert machine.wall_clock() == pytest.approx(EPOCH_S + skew.wall_offset_s + world.events.now * skew.rate)


@given(SKEWS, st.floats(-1e6, 1e6))
def test_a_time_of_a_machine_is_the_first_moment_of_the_world_at_which_its_clock_shows_it(
    skew: ClockSkew, at: float
) -> None:
    world = World(skew=skew)
    machine = world.machines[A]
    world.events.now = machine.world_time(at)
    assert machine.now() >= at
    world.events.now -= 2e-9 * max(1.0, abs(world.events.now), abs(at), abs(skew.offset_s))
    assert machine.now() < at


@given(SKEWS, st.lists(st.floats(0.0, 100.0), min_size=1, max_size=5))
def test_nobody_wakes_before_the_time(skew: ClockSkew, delays_s: list[float]) -> None:
    world = World(skew=skew)
    host = world.process(A)

    async def sleep(at: float) -> None:
        await host.sleep_until(at)
        assert host.now() >= at
        assert host.now() == pytest.approx(at, abs=1e-5)

    async def time_out(at: float) -> None:
        with host.deadline(at) as scope:
            await trio.sleep_forever()
        assert scope.cancelled_caught
        assert host.now() >= at
        assert host.now() == pytest.approx(at, abs=1e-5)

    async def main() -> None:
        begun = host.now()
        async with trio.open_nursery() as nursery:
            for delay_s in delays_s:
                nursery.start_soon(sleep, begun + delay_s)
                nursery.start_soon(time_out, begun + delay_s)

    world.run(main)
    assert world.events.now == pytest.approx(max(delays_s) / skew.rate, abs=1e-5)


def test_times_at_infinity_are_never_and_always() -> None:
    host = World(skew=ClockSkew(offset_s=5.0, rate=1.5)).process(A)
    assert host.machine.world_time(math.inf) == math.inf
    assert host.machine.world_time(-math.inf) == -math.inf


@given(SKEWS, st.floats(-1e9, 1e9))
def test_a_jump_of_the_wall_clock_concerns_nothing_else(skew: ClockSkew, by_s: float) -> None:
    world = World(skew=skew)
    machine = world.machines[A]
    world.events.now = 10.0
    before, wall_before = machine.now(), machine.wall_clock()
    machine.jump(by_s)
    assert machine.now() == before
    assert machine.wall_clock() - wall_before == pytest.approx(by_s, abs=1e-5)
    assert machine.skew.rate == skew.rate


def test_a_jump_wakes_nobody() -> None:
    world = World()
    host = world.process(A)
    world.events.at(1.0, lambda: host.machine.jump(1e6))

    async def main() -> None:
        await host.sleep_until(host.now() + 5.0)

    world.run(main)
    assert world.events.now == 5.0


@pytest.mark.parametrize("rate", [0.0, 0.49, 2.01, -1.0])
def test_a_clock_that_no_machine_has_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match=f"{rate}.*0.5 to 2"):
        ClockSkew(rate=rate)


# ---- chance


def drawn(host: SimHost) -> list[float]:
    return [host.rng.random() for _ in range(3)] + [host.fresh_id(63) for _ in range(3)]


def test_each_life_of_each_machine_draws_numbers_of_its_own_that_depend_on_the_seed() -> None:
    sequences = []
    for seed in (1, 1, 2):
        world = World(seed=seed)
        sequences.append([drawn(world.process(host)) for host in (*world.machines, A)])
    assert sequences[0] == sequences[1]
    lives = [*sequences[0], *sequences[2]]
    assert len({tuple(life) for life in lives}) == len(lives)
    assert not set(sequences[0][0][:3]) & set(sequences[0][0][3:])


@given(SKEWS, st.lists(st.tuples(st.floats(0.01, 5.0), st.floats(0.5, 2.0)), min_size=1, max_size=6))
def test_a_clock_that_changes_its_rate_goes_on_from_where_it_is(
    skew: ClockSkew, changes: list[tuple[float, float]]
) -> None:
    world = World(skew=skew)
    machine = world.machines[A]
    for after_s, rate in changes:
        world.events.now += after_s
        before, wall_before = machine.now(), machine.wall_clock()
        machine.run_at(rate)
        assert machine.now() == before
        assert machine.wall_clock() == wall_before
        world.events.now += 1.0
        assert machine.now() - before == pytest.approx(rate, abs=1e-5)
        assert machine.wall_clock() - wall_before == pytest.approx(rate, abs=1e-5)


@given(
    st.lists(st.tuples(st.floats(0.0, 20.0), st.floats(0.5, 2.0)), max_size=6),
    st.lists(st.floats(0.0, 30.0), min_size=1, max_size=5),
)
def test_who_sleeps_while_the_clock_changes_its_rate_wakes_by_the_clock(
    changes: list[tuple[float, float]], delays_s: list[float]
) -> None:
    world = World()
    host = world.process(A)
    for at_s, rate in changes:
        world.events.at(at_s, functools.partial(host.machine.run_at, rate))

    async def sleep(at: float) -> None:
        await host.sleep_until(at)
        assert host.now() >= at
        assert host.now() == pytest.approx(at, abs=1e-5)

    async def time_out(at: float) -> None:
        with host.deadline(at) as scope:
            await trio.sleep_forever()
        assert scope.cancelled_caught
        assert host.now() == pytest.approx(at, abs=1e-5)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for delay_s in delays_s:
                nursery.start_soon(sleep, delay_s)
                nursery.start_soon(time_out, delay_s)

    world.run(main)


def test_deadlines_that_are_over_are_forgotten() -> None:
    world = World()
    host = world.process(A)

    async def main() -> None:
        for _ in range(5 * DEADLINES_MIN):
            with host.deadline(host.now() + 100.0):
                await trio.sleep(0.01)

    world.run(main)
    assert len(host.machine._deadlines) <= DEADLINES_MIN
