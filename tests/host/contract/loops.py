"""Blocking work, loops of their own, and the mailboxes between them."""

from collections.abc import Callable
from math import inf

import pytest
import trio

from meshnode.host import Host, Mailbox


class LoopContract:
    """See `tests.host.contract`."""

    # ---- blocking work

    async def test_blocking_work_returns_its_result(self, host: Host) -> None:
        assert await host.run_blocking(divmod, 17, 5) == (3, 2)

    async def test_an_error_of_blocking_work_comes_out(self, host: Host) -> None:
        with pytest.raises(ValueError, match="not a number"):
            await host.run_blocking(int, "not a number")

    async def test_blocking_work_runs_from_any_loop(self, host: Host) -> None:
        found = []

        async def main(ready: Callable[[], None]) -> None:
            ready()
            found.append(await host.run_blocking(divmod, 17, 5))

        async with trio.open_nursery() as nursery:
            await nursery.start(host.own_loop, main)
            found.append(await host.run_blocking(divmod, 17, 5))
        assert found == [(3, 2), (3, 2)]

    # ---- a loop of its own

    async def test_a_loop_is_started_when_it_says_that_it_is_ready(self, host: Host) -> None:
        steps: list[str] = []
        go_on: Mailbox[str, str] = host.mailbox(1)

        async def main(ready: Callable[[], None]) -> None:
            steps.append("begun")
            ready()
            await go_on.receive()
            steps.append("over")

        async with trio.open_nursery() as nursery:
            await nursery.start(host.own_loop, main)
            assert steps == ["begun"]
            go_on.put("go", "on")
        assert steps == ["begun", "over"]

    async def test_a_loop_may_run_without_anybody_who_waits_for_its_start(self, host: Host) -> None:
        steps: list[str] = []

        async def main(ready: Callable[[], None]) -> None:
            steps.append("ready")
            ready()

        await host.own_loop(main)
        assert steps == ["ready"]

    @pytest.mark.parametrize("is_ready_first", [True, False])
    async def test_an_error_of_the_loop_comes_out_at_its_parent(self, host: Host, is_ready_first: bool) -> None:
        async def main(ready: Callable[[], None]) -> None:
            if is_ready_first:
                ready()
                await trio.lowlevel.checkpoint()
            raise LookupError("of the loop")

        with pytest.RaisesGroup(pytest.RaisesExc(LookupError, match="of the loop"), flatten_subgroups=True):
            async with trio.open_nursery() as nursery:
                await nursery.start(host.own_loop, main)
                await trio.sleep_forever()

    async def test_a_cancelled_parent_stops_the_loop_and_waits_for_it(self, host: Host) -> None:
        steps: list[str] = []

        async def main(ready: Callable[[], None]) -> None:
            try:
                ready()
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await trio.lowlevel.checkpoint()
                steps.append("cleaned up")

        async with trio.open_nursery() as nursery:
            await nursery.start(host.own_loop, main)
            nursery.cancel_scope.cancel()
        assert steps == ["cleaned up"]

    async def test_a_loop_cancelled_before_it_is_ready_stops_too(self, host: Host) -> None:
        begun: Mailbox[str, bool] = host.mailbox(1)
        steps: list[str] = []

        async def main(_ready: Callable[[], None]) -> None:
            begun.put("begun", True)
            try:
                await trio.sleep_forever()
            finally:
                steps.append("stopped")

        async with trio.open_nursery() as nursery:

            async def cancel_when_begun() -> None:
                await begun.receive()
                nursery.cancel_scope.cancel()

            nursery.start_soon(cancel_when_begun)
            await nursery.start(host.own_loop, main)
        assert steps == ["stopped"]

    @pytest.mark.parametrize("moments", range(6))
    async def test_a_loop_cancelled_while_it_starts_stops_too(self, host: Host, moments: int) -> None:
        async def main(_ready: Callable[[], None]) -> None:
            await trio.sleep_forever()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(host.own_loop, main)
            for _ in range(moments):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()

    async def test_a_parent_that_is_cancelled_already_starts_no_loop(self, host: Host) -> None:
        begun: list[bool] = []

        async def main(_ready: Callable[[], None]) -> None:
            begun.append(True)

        with trio.CancelScope() as scope:
            scope.cancel()
            await host.own_loop(main)
        assert scope.cancelled_caught
        assert begun == []

    async def test_the_loop_that_is_done_ends_its_call(self, host: Host) -> None:
        with host.deadline(inf) as scope:
            await host.own_loop(nothing)
        assert not scope.cancel_called

    async def test_times_are_comparable_between_loops(self, host: Host) -> None:
        readings: list[float] = []

        async def main(ready: Callable[[], None]) -> None:
            readings.append(host.now())
            at = host.now() + 0.01
            await host.sleep_until(at)
            with host.deadline(at) as scope:
                await trio.sleep_forever()
            assert scope.cancelled_caught
            readings.append(host.now())
            ready()

        for _ in range(3):  # each time the other loop is a new one
            readings.append(host.now())
            await host.own_loop(main)
            readings.append(host.now())
        assert readings == sorted(readings)
        assert readings[-1] - readings[0] < 60.0

    # ---- mailboxes

    async def test_events_of_one_subject_coalesce_to_the_newest_in_the_place_of_the_first(self, host: Host) -> None:
        mailbox: Mailbox[str, int] = host.mailbox(10)
        for key, event in (("a", 1), ("b", 2), ("a", 3), ("c", 4), ("b", 5)):
            mailbox.put(key, event)
        assert list((await mailbox.receive()).items()) == [("a", 3), ("b", 5), ("c", 4)]

    async def test_what_was_received_is_not_received_again(self, host: Host) -> None:
        mailbox: Mailbox[str, int] = host.mailbox(10)
        mailbox.put("a", 1)
        assert await mailbox.receive() == {"a": 1}
        mailbox.put("b", 2)
        assert await mailbox.receive() == {"b": 2}

    async def test_a_full_mailbox_drops_new_subjects_and_counts_them(self, host: Host) -> None:
        mailbox: Mailbox[int, str] = host.mailbox(2)
        for key in (1, 2, 3, 4):
            mailbox.put(key, "first")
        mailbox.put(1, "newest")
        assert mailbox.dropped == 2
        assert await mailbox.receive() == {1: "newest", 2: "first"}
        mailbox.put(3, "there is room again")
        assert await mailbox.receive() == {3: "there is room again"}
        assert mailbox.dropped == 2

    @pytest.mark.parametrize("bound", [0, -1])
    async def test_a_mailbox_without_room_is_refused(self, host: Host, bound: int) -> None:
        with pytest.raises(ValueError, match=f"{bound}"):
            host.mailbox(bound)

    async def test_a_receiver_waits_for_the_first_event(self, host: Host) -> None:
        mailbox: Mailbox[str, int] = host.mailbox(1)
        received: list[dict[str, int]] = []

        async def receive() -> None:
            received.append(await mailbox.receive())

        for number in range(2):  # the second time, what woke the first receiver wakes nobody
            received.clear()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(receive)
                await trio.testing.wait_all_tasks_blocked()
                assert received == []
                mailbox.put("a", number)
            assert received == [{"a": number}]

    async def test_a_cancelled_receiver_loses_nothing(self, host: Host) -> None:
        mailbox: Mailbox[str, int] = host.mailbox(10)
        mailbox.put("a", 1)
        with trio.CancelScope() as scope:
            scope.cancel()
            await mailbox.receive()
        assert scope.cancelled_caught
        assert await mailbox.receive() == {"a": 1}

    async def test_a_receiver_lets_others_run_however_many_events_there_are(self, host: Host) -> None:
        mailbox: Mailbox[int, int] = host.mailbox(10)
        others = 0

        async def run_meanwhile() -> None:
            nonlocal others
            others += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_meanwhile)
            for number in range(10):
                mailbox.put(number, number)
                await mailbox.receive()
            assert others == 1

    async def test_an_event_of_another_loop_wakes_the_receiver(self, host: Host) -> None:
        there: Mailbox[str, int] = host.mailbox(1)
        back: Mailbox[str, int] = host.mailbox(1)

        async def answer(ready: Callable[[], None]) -> None:
            ready()
            for _ in range(20):
                back.put("answer", (await there.receive())["question"] + 1)

        async with trio.open_nursery() as nursery:
            await nursery.start(host.own_loop, answer)
            for number in range(20):
                there.put("question", number)
                assert await back.receive() == {"answer": number + 1}

    async def test_an_event_whose_receiver_is_gone_waits_for_the_next_one(self, host: Host) -> None:
        mailbox: Mailbox[str, int] = host.mailbox(2)

        async def receive_once(ready: Callable[[], None]) -> None:
            ready()
            assert await mailbox.receive() == {"a": 1}

        async with trio.open_nursery() as nursery:
            await nursery.start(host.own_loop, receive_once)
            mailbox.put("a", 1)
        mailbox.put("b", 2)
        assert await mailbox.receive() == {"b": 2}


async def nothing(_ready: Callable[[], None]) -> None:
    """A loop that is done at once."""
