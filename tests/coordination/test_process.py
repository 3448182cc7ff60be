"""What a process makes of a Raft group that does not always answer: once or not at all, and it says which."""

from collections.abc import Callable, Iterator

import pytest
import trio
import trio.testing

from meshnode.coordination import bounds
from meshnode.coordination.commands import Acquire, BeginSession, Command, Release, Renew, Tick, Transact
from meshnode.coordination.coordinator import Coordinator
from meshnode.errors import InvalidArgument, LockLost, LockTimeout, OutcomeUnknown, Unavailable
from tests.coordination.process import Group


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


@pytest.fixture
def group() -> Group:
    return Group()


def fates(kind: type, *fates: str, then: str = "applied") -> Callable[[Command], str]:
    """What becomes of the first commands of a kind; everything else is applied."""
    left: Iterator[str] = iter(fates)
    return lambda command: next(left, then) if isinstance(command, kind) else "applied"


@pytest.mark.parametrize("trouble", [("unknown",), ("unknown", "lost"), ("lost", "unknown", "refused"), ("refused",)])
async def test_a_write_that_is_tried_again_takes_effect_once(group: Group, trouble: tuple[str, ...]) -> None:
    group.fate = fates(Transact, *trouble)
    async with group.process() as process:
        revision = await process.configuration.put("k", "v")
    entry = group.state.store.get("k")
    assert entry is not None
    assert (entry.version, entry.modified) == (1, revision)


async def test_what_surely_had_no_effect_is_told_so(group: Group) -> None:
    group.fate = fates(Transact, then="refused")
    async with group.process() as process:
        with pytest.raises(Unavailable, match="not agreed on in time"):
            await process.configuration.put("k", "v", timeout=3.0)
    assert group.state.store.get("k") is None


@pytest.mark.parametrize("fate", ["unknown", "lost", "silent"])
async def test_what_may_have_had_one_is_told_so(group: Group, fate: str) -> None:
    group.fate = fates(Transact, fate, then="refused")
    async with group.process() as process:
        with pytest.raises(OutcomeUnknown):
            await process.configuration.put("k", "v", timeout=3.0)


async def test_a_late_copy_of_what_was_given_up_does_nothing(group: Group) -> None:
    lost: list[Command] = []

    def fate(command: Command) -> str:
        if isinstance(command, Transact) and not lost:
            lost.append(command)
        return "silent" if command in lost else "applied"

    group.fate = fate
    async with group.process() as process:
        with pytest.raises(OutcomeUnknown):
            await process.configuration.put("k", "old", timeout=3.0)
        await process.configuration.put("k", "new")
        group.apply(lost[0])
        entry = await process.configuration.get("k")
    assert entry is not None
    assert (entry.text, entry.version) == ("new", 1)


async def test_a_session_that_ended_is_replaced_without_a_word(group: Group) -> None:
    async with group.process() as process:
        await process.configuration.put("k", "1")
        for _ in range(100):
            group.apply(Tick(1, 2000))
        assert len(group.state.sessions) == 0
        await process.configuration.put("k", "2")
    assert sum(isinstance(command, BeginSession) for command in group.commands) == 2


async def test_nobody_guesses_what_became_of_a_request_whose_session_ended(group: Group) -> None:
    def fate(command: Command) -> str:
        if isinstance(command, Transact) and not group.state.store.get("k"):
            group.apply(command)
            for _ in range(100):
                group.apply(Tick(1, 2000))
            return "lost"
        return "applied"

    group.fate = fate
    async with group.process() as process:
        with pytest.raises(OutcomeUnknown, match="the session ended before"):
            await process.configuration.put("k", "1")
    entry = group.state.store.get("k")
    assert entry is not None
    assert entry.version == 1


async def test_more_requests_than_replies_are_kept_for_wait_their_turn(group: Group) -> None:
    many = 3 * bounds.PENDING_MAX
    async with group.process() as process, trio.open_nursery() as nursery:
        for number in range(many):
            nursery.start_soon(process.configuration.put, f"k{number}", "v")
    assert len(group.state.store) == many


# ---- locks


async def hold(process: Coordinator, *names: str, ttl: float = 30.0, timeout: float | None = None) -> None:
    async with process.locks.lock(*names, ttl=ttl, timeout=timeout):
        await trio.sleep_forever()


async def test_a_waiter_that_is_cancelled_leaves_the_queue(group: Group) -> None:
    async with group.process() as one, group.process() as other, one.locks.lock("a"):
        with trio.move_on_after(1.0):
            await hold(other, "a")
        await trio.sleep(0.1)
        assert len(group.state.queues) == 1


@pytest.mark.parametrize("fate", ["unknown", "lost", "silent"])
async def test_a_claim_of_unknown_outcome_that_is_given_up_is_not_left_behind(group: Group, fate: str) -> None:
    group.fate = fates(Acquire, then=fate)
    async with group.process() as process:
        with pytest.raises((OutcomeUnknown, LockTimeout)):
            await hold(process, "a", timeout=2.0)
        await trio.sleep(0.1)
        late = [command for command in group.commands if isinstance(command, Acquire)]
        for command in late:
            group.apply(command)
    assert len(group.state.queues) == 0


async def test_a_claim_that_comes_after_it_was_given_up_is_not_made(group: Group) -> None:
    seen: list[Command] = []

    def fate(command: Command) -> str:
        if isinstance(command, Acquire):
            seen.append(command)
            return "silent"
        return "applied"

    group.fate = fate
    async with group.process() as process:
        with trio.move_on_after(1.0):
            await hold(process, "a")
        await trio.sleep(0.1)
        group.apply(seen[0])
    assert len(group.state.queues) == 0


async def test_a_lock_is_kept_for_as_long_as_the_block_runs(group: Group) -> None:
    async with group.process() as process, trio.open_nursery() as nursery:
        nursery.start_soon(group.count)
        async with process.locks.lock("a", ttl=3) as lock:
            await trio.sleep(100.0)
            assert lock.is_held
        assert len(group.state.queues) == 0
        nursery.cancel_scope.cancel()
    renewals = sum(isinstance(command, Renew) for command in group.commands)
    assert 90 < renewals < 130, "three times in each TTL"


async def test_a_holder_that_can_not_renew_lets_go_before_its_ttl_is_over(group: Group) -> None:
    group.fate = fates(Renew, then="silent")
    async with group.process() as process:
        begun_s = trio.current_time()
        with pytest.raises(LockLost, match=r"lock 'a' \(token 2\) was lost: .* TTL of 10 s"):
            await hold(process, "a", ttl=10)
        assert 8.9 < trio.current_time() - begun_s < 9.1
        assert len(group.state.queues) == 0, "it says so, where it can"


async def test_a_holder_that_loses_its_lock_is_told_at_once(group: Group) -> None:
    async with group.process() as process, trio.open_nursery() as nursery:

        async def end() -> None:
            await trio.sleep(1.0)
            for _ in range(20):
                group.apply(Tick(1, 2000))

        nursery.start_soon(end)
        begun_s = trio.current_time()
        with pytest.raises(LockLost):
            await hold(process, "a", ttl=30)
        assert trio.current_time() - begun_s < 1.1


async def test_work_without_a_checkpoint_hears_of_it_at_the_end_or_when_it_asks(group: Group) -> None:
    async def work(process: Coordinator, *, asks: bool) -> None:
        async with process.locks.lock("a", ttl=30) as lock:
            group.host.leap_s += 28.0  # it computes
            if asks:
                lock.check()
                raise AssertionError("it is lost")

    async with group.process() as process:
        with pytest.raises(LockLost, match="is not held any more"):
            await work(process, asks=True)
        with pytest.raises(LockLost, match="was lost"):
            await work(process, asks=False)


async def test_what_the_block_raises_comes_out_as_it_is(group: Group) -> None:
    async with group.process() as process:
        with pytest.raises(ZeroDivisionError):
            async with process.locks.lock("a"):
                _ = 1 // 0
        assert len(group.state.queues) == 0


async def test_a_lock_that_is_released_early_lets_the_block_go_on(group: Group) -> None:
    async with group.process() as one, group.process() as other, one.locks.lock("a", ttl=2) as lock:
        await lock.release()
        assert not lock.is_held
        async with other.locks.lock("a", timeout=1.0) as second:
            assert second.token > lock.token
        await trio.sleep(10.0)
        await lock.release()


async def test_whoever_waits_in_vain_is_told_for_whom(group: Group) -> None:
    async with (
        group.process("one") as one,
        group.process("two") as two,
        group.process("three") as three,
        one.locks.lock("a"),
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(hold, two, "b", "a")
        await trio.sleep(0.1)
        with pytest.raises(LockTimeout, match=r"lock 'a' not got within 1 s: 'a' is held by one \(token 2\)"):
            await hold(three, "a", timeout=1)
        with pytest.raises(LockTimeout, match="'b' is kept for two, who waits for locks 'b', 'a'"):
            await hold(three, "b", timeout=1)
        nursery.cancel_scope.cancel()


async def test_a_release_that_is_not_heard_is_tried_again_and_the_block_does_not_wait_for_ever(group: Group) -> None:
    async with group.process() as process:
        group.fate = fates(Release, "lost", "lost", then="silent")
        begun_s = trio.current_time()
        async with process.locks.lock("a"):
            pass
        assert trio.current_time() - begun_s < 6.0
        assert len(group.state.queues) == 1
        group.fate = lambda _command: "applied"
        await trio.sleep(10.0)
        assert len(group.state.queues) == 0


async def test_a_block_that_ends_with_its_process_does_not_wait_for_a_release_that_nobody_makes(group: Group) -> None:
    group.fate = fates(Release, then="silent")
    async with trio.open_nursery() as nursery:
        released = trio.Event()

        async def work() -> None:
            async with group.process() as process:
                with trio.CancelScope(shield=True):
                    async with process.locks.lock("a") as lock:
                        nursery.start_soon(end)
                        await lock.release()
                    released.set()

        async def end() -> None:
            await trio.sleep(0.1)  # the release is under way
            nursery.cancel_scope.cancel()

        begun_s = trio.current_time()
        nursery.start_soon(work)
    assert released.is_set()
    assert trio.current_time() - begun_s < 1.0


async def test_a_waiter_that_was_cut_off_for_longer_than_its_ttl_queues_anew(group: Group) -> None:
    async with group.process() as one, group.process() as other, trio.open_nursery() as nursery:
        async with one.locks.lock("a", ttl=600):
            nursery.start_soon(hold, other, "a")
            await trio.sleep(0.1)
            for _ in range(20):
                group.apply(Tick(1, 2000))
            assert len(group.state.queues) == 1
            await trio.sleep(0.5)
            assert [len(group.state.queues.queue("a")), len(group.state.queues)] == [2, 2]
        await trio.sleep(0.5)
        (holder,) = group.state.queues.queue("a")
        assert holder.token
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("names", "options", "why"),
    [
        ((), {}, "a lock has no name"),
        (("a", "a"), {}, "not all different"),
        (("a",), {"ttl": 0.5}, "a TTL of 0.5 s: choose 1 to 86400 s"),
        (("a",), {"ttl": float("inf")}, "choose 1 to"),
        (("a",), {"timeout": 0}, "a timeout of 0 s: choose above 0, or None"),
    ],
)
async def test_what_is_out_of_bounds_is_said_before_anything_is_asked(
    group: Group, names: tuple[str, ...], options: dict[str, float], why: str
) -> None:
    async with group.process() as process:
        with pytest.raises(InvalidArgument, match=why):
            process.locks.lock(*names, **options)
    assert group.commands == []


async def test_a_process_that_has_ended_holds_nothing(group: Group) -> None:
    async with group.process() as process:
        pass
    with pytest.raises(Unavailable, match="has ended"):
        await hold(process, "a")
