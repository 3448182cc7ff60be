"""Another node becomes the primary, at every moment of a request: nothing leaves, and whoever asks again is served."""

from meshnode.agents.messages import Status
from tests.agents.world import PARTITION, Asked, World, serving, settle


def assert_unknown(asked: Asked) -> None:
    assert (asked.status, asked.code) == (Status.UNKNOWN, "not_primary")


def assert_unchanged(asked: Asked) -> None:
    assert (asked.status, asked.code) == (Status.TRY_AGAIN, "not_primary")


async def again(world: World, *, total: int) -> None:
    """This node, or another, is the primary of the next epoch, and what was committed is all that happened."""
    await settle()
    world.log.serve()
    assert await world.done("total") == total
    assert await world.done("add", 1, request=77) == total + 1


async def test_while_a_turn_runs() -> None:
    async with serving() as world:
        asked = world.call("add_behind", "g", 5)
        await settle()
        world.log.depose()
        assert_unknown(asked)
        assert world.gates.left == []
        await settle()
        assert world.gates.left == ["g"], "it is stopped"
        await again(world, total=0)


async def test_while_a_call_is_in_the_mailbox_it_surely_changed_nothing() -> None:
    async with serving() as world:
        running = world.call("add_behind", "g", 5)
        waiting = world.call("add", 1)
        await settle()
        world.log.depose()
        assert_unknown(running)
        assert_unchanged(waiting)
        await again(world, total=0)


async def test_before_a_turn_began() -> None:
    async with serving() as world:
        asked = world.call("add", 5)
        world.log.depose()
        assert_unchanged(asked)
        await settle()
        assert world.turns == []
        await again(world, total=0)


async def test_while_a_record_waits_for_its_majority_and_it_is_lost() -> None:
    async with serving() as world:
        asked = world.call("add", 5, request=1)
        await settle()
        world.log.depose()
        assert_unknown(asked)
        await settle()
        world.log.serve()
        repeated = world.call("add", 5, request=1)
        await settle()
        world.log.commit()
        assert repeated.result == 5
        await again_total(world, 5)


async def test_while_a_record_waits_for_its_majority_and_the_next_primary_adopts_it() -> None:
    async with serving() as world:
        asked = world.call("add", 5, request=1)
        await settle()
        world.log.depose(keep=True)
        assert_unknown(asked)
        await settle()
        world.log.serve()
        assert world.call("add", 5, request=1).result == 5
        await again_total(world, 5)


async def again_total(world: World, total: int) -> None:
    assert await world.done("total") == total


async def test_while_a_session_is_being_opened() -> None:
    async with serving() as world:
        asked = world.open()
        world.log.depose()
        assert_unchanged(asked)
        await again(world, total=0)


async def test_while_a_read_waits_for_its_confirmation() -> None:
    async with serving() as world:
        await world.done("add", 5)
        asked = world.call("total")
        await settle()
        token = world.log.reads[0][1]
        world.log.depose()
        assert_unknown(asked)
        world.agents.read_ready(PARTITION, token)
        await again(world, total=5)
        world.agents.read_ready(PARTITION, token)


async def test_and_a_turn_that_swallows_its_cancellation_writes_nothing() -> None:
    async with serving() as world:
        for method in ("swallow_cancellation", "raise_when_cancelled"):
            asked = world.call(method, "g")
            await settle()
            records = len(world.log.records)
            world.log.depose()
            assert_unknown(asked)
            await settle()
            assert len(world.log.records) == records
            world.log.serve()
        assert await world.done("total") == 0


async def test_and_a_turn_of_an_old_epoch_does_not_touch_the_new_one() -> None:
    """Deposed and serving again before the old turn has noticed."""
    async with serving() as world:
        world.call("swallow_cancellation", "g")
        await settle()
        records = len(world.log.records)
        world.log.depose()
        world.log.serve()
        fresh = world.call("add", 10)
        await settle()
        assert len(world.log.records) == records + 1
        world.log.commit()
        assert fresh.result == 10
        assert await world.done("total") == 10


async def test_news_of_a_partition_that_is_not_served_any_more_is_ignored() -> None:
    async with serving() as world:
        world.log.depose()
        world.agents.committed(PARTITION, 10)
        world.agents.read_ready(PARTITION, 1)
        asked = world.call("add", 5)
        assert_unchanged(asked)


async def test_what_was_never_committed_is_not_in_the_next_activation() -> None:
    async with serving() as world:
        await world.done("add", 1)
        world.call("add", 100)
        await settle()
        world.log.depose()
        await again(world, total=1)


# ---- the end of the node


async def test_when_the_node_ends_whoever_waits_is_told_whether_it_may_have_had_an_effect() -> None:
    async with serving() as world:
        opening = world.open()
        pending = world.call("add", 1, key="b")
        read = world.call("total", key="c")
        running = world.call("add_behind", "g", 5)
        waiting = world.call("add", 1)
        await settle()
        assert (len(world.log.decoded()), len(world.log.reads)) == (3, 1)
    for asked in (pending, read, running):
        assert (asked.status, asked.code) == (Status.UNKNOWN, "outcome_unknown")
    for asked in (opening, waiting):
        assert (asked.status, asked.code) == (Status.TRY_AGAIN, "unavailable")


async def test_a_call_in_the_moment_in_which_the_node_ends_is_answered() -> None:
    async with serving() as world:
        asked = world.call("add_behind", "g", 5)
    assert asked.status in (Status.TRY_AGAIN, Status.UNKNOWN)


async def test_once_the_node_has_ended_it_refuses_and_changes_nothing() -> None:
    async with serving() as world:
        await world.done("add", 1, request=1)
    world.log.serve()  # news may come yet
    for asked in (world.call("add", 1), world.call("add", 1, request=1), world.call("total"), world.open()):
        assert (asked.status, asked.code) == (Status.TRY_AGAIN, "unavailable")
        assert "call through another one" in asked.text
    assert len(world.log.records) == 2
    world.log.commit()
    world.log.depose()
