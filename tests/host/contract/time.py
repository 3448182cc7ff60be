"""Time, randomness and names."""

import random
from math import inf

import trio

from meshnode.host import Host

PAUSE_S = 0.01
"""Long enough for a clock to show it, short enough to wait for."""

DRAWS = 200


class TimeContract:
    """See `tests.host.contract`."""

    async def test_now_never_goes_back(self, host: Host) -> None:
        readings = [host.now()]
        for _ in range(DRAWS):
            await trio.lowlevel.checkpoint()
            readings.append(host.now())
        assert readings == sorted(readings)

    async def test_now_moves_on_while_a_task_sleeps(self, host: Host) -> None:
        before = host.now()
        await host.sleep_until(before + PAUSE_S)
        assert host.now() >= before + PAUSE_S

    async def test_sleepers_wake_in_the_order_of_their_times(self, host: Host) -> None:
        start = host.now()
        woken: list[int] = []

        async def sleep(order: int) -> None:
            await host.sleep_until(start + order * PAUSE_S)
            woken.append(order)

        async with trio.open_nursery() as nursery:
            for order in (3, 1, 2):
                nursery.start_soon(sleep, order)
        assert woken == [1, 2, 3]

    async def test_to_sleep_until_a_past_time_is_only_a_checkpoint(self, host: Host) -> None:
        for at in (host.now() - 1.0, -inf):
            others = 0

            async def run_meanwhile() -> None:
                nonlocal others
                others += 1

            async with trio.open_nursery() as nursery:
                nursery.start_soon(run_meanwhile)
                await host.sleep_until(at)
                await host.sleep_until(at)
            assert others == 1

    async def test_to_sleep_for_ever_ends_by_cancellation(self, host: Host) -> None:
        with host.deadline(host.now() + PAUSE_S) as scope:
            await host.sleep_until(inf)
        assert scope.cancelled_caught

    async def test_a_deadline_cancels_when_its_time_has_come_and_not_before(self, host: Host) -> None:
        at = host.now() + PAUSE_S
        with host.deadline(at) as scope:
            await trio.sleep_forever()
        assert scope.cancelled_caught
        assert host.now() >= at

    async def test_a_past_deadline_cancels_at_the_first_checkpoint(self, host: Host) -> None:
        for at in (host.now(), host.now() - 1.0, -inf):
            with host.deadline(at) as scope:
                await trio.lowlevel.checkpoint()
            assert scope.cancelled_caught

    async def test_a_deadline_at_infinity_never_cancels(self, host: Host) -> None:
        with host.deadline(inf) as scope:
            await host.sleep_until(host.now() + PAUSE_S)
        assert not scope.cancel_called

    async def test_what_ends_before_its_deadline_is_not_cancelled(self, host: Host) -> None:
        with host.deadline(host.now() + 3600.0) as scope:
            await trio.lowlevel.checkpoint()
        assert not scope.cancel_called

    async def test_the_wall_clock_shows_a_year_of_this_century(self, host: Host) -> None:
        assert 946_684_800.0 <= host.wall_clock() < 4_102_444_800.0

    async def test_fresh_ids_use_all_of_their_range_but_zero(self, host: Host) -> None:
        assert {host.fresh_id(2) for _ in range(DRAWS)} == {1, 2, 3}
        assert {host.fresh_id(1) for _ in range(10)} == {1}
        drawn = [host.fresh_id(63) for _ in range(DRAWS)]
        assert all(1 <= number < 2**63 for number in drawn)
        assert max(drawn) >= 2**62

    async def test_fresh_ids_do_not_repeat(self, host: Host) -> None:
        assert len({host.fresh_id(63) for _ in range(DRAWS)}) == DRAWS

    async def test_the_random_generator_is_one_and_the_same(self, host: Host) -> None:
        assert isinstance(host.rng, random.Random)
        assert host.rng is host.rng
        assert len({host.rng.random() for _ in range(DRAWS)}) == DRAWS
