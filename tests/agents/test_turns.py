"""How a turn goes, from a call to its answer."""

from typing import Any

import pytest
import trio

from meshnode import wire
from meshnode.agents.config import RECORD_BYTES_MAX, AgentsConfig
from meshnode.agents.ledger import Turn
from meshnode.agents.messages import Status
from tests.agents.samples import FragileAgent, Tally
from tests.agents.world import serving, settle


async def test_an_answer_leaves_only_when_its_record_is_committed() -> None:
    async with serving() as world:
        asked = world.call("add", 5)
        await settle()
        assert isinstance(world.log.decoded()[-1], Turn)
        assert asked.answer is None
        world.log.commit()
        assert asked.result == 5


async def test_the_next_turn_starts_before_the_last_one_is_committed_and_sees_its_state() -> None:
    async with serving() as world:
        first, second = world.call("add", 5), world.call("add", 2)
        await settle()
        assert len(world.log.decoded()) == 3
        world.log.commit(2)
        assert first.result == 5
        assert second.answer is None
        world.log.commit()
        assert second.result == 7


async def test_one_turn_at_a_time_runs_on_an_agent() -> None:
    async with serving() as world:
        first = world.call("add_behind", "g1", 5)
        second = world.call("add_behind", "g2", 2)
        other = world.call("add", 1, key="b")
        await settle()
        assert world.gates.entered == ["g1"]
        assert len(world.log.decoded()) == 2, "another agent does not wait"
        world.gates.gate("g1").set()
        await settle()
        assert world.gates.entered == ["g1", "g2"]
        world.gates.gate("g2").set()
        await settle()
        world.log.commit()
        assert (first.result, second.result, other.result) == (5, 7, 1)


async def test_a_handler_that_raises_leaves_the_state_as_it_was_deep_inside_too() -> None:
    async with serving() as world:
        await world.done("add", 5)
        failed = world.call("change_and_raise", "out of paper")
        await settle()
        assert failed.answer is None, "an error is a record like any other reply"
        world.log.commit()
        assert (failed.status, failed.code, failed.text) == (Status.FAILED, "agent", "ValueError: out of paper")
        assert world.log.decoded()[-1].state is None
        assert await world.done("seen") == [5]
        assert await world.done("add", 1) == 6


async def test_the_state_is_new_again_when_the_first_turn_raises() -> None:
    async with serving() as world:
        world.call("change_and_raise")
        await settle()
        world.log.commit()
        assert await world.done("seen") == []
        assert world.log.machine.states == {}


async def test_an_error_of_this_package_keeps_its_kind() -> None:
    async with serving() as world:
        failed = world.call("refuse")
        await settle()
        world.log.commit()
        assert (failed.status, failed.code, failed.text) == (Status.FAILED, "invalid_argument", "not like this")
        assert await world.done("total") == 0


@pytest.mark.parametrize(
    ("method", "arguments", "complaint"),
    [
        ("return_the_unsayable", (), "the result of return_the_unsayable can't cross the mesh"),
        ("keep_text", (3,), "Expected `int`, got `str`"),
        ("keep_many", (20_000,), "at most 10000"),
        ("keep_deep", (40,), "maximum container nesting depth"),
        ("return_bytes", (RECORD_BYTES_MAX,), f"at most {RECORD_BYTES_MAX}"),
    ],
)
async def test_what_could_not_be_kept_is_an_error_and_changes_nothing(
    method: str, arguments: tuple[Any, ...], complaint: str
) -> None:
    async with serving(AgentsConfig(state_bytes_max=10_000)) as world:
        await world.done("add", 5)
        failed = world.call(method, *arguments)
        await settle()
        world.log.commit()
        assert failed.status is Status.FAILED
        assert failed.code == "invalid_argument"
        assert complaint in failed.text
        assert await world.done("seen") == [5]


async def test_an_exception_without_a_readable_message_is_an_answer_too() -> None:
    async with serving() as world:
        failed = world.call("raise_the_unreadable")
        await settle()
        world.log.commit()
        assert failed.text == "Unreadable: its message can't be read"


async def test_a_message_is_cut_and_may_hold_what_has_no_utf_8_form() -> None:
    async with serving() as world:
        agent = world.application.definition("tally").cls
        failed = world.call("change_and_raise", "x" * 10_000)
        await settle()
        world.log.commit()
        assert len(failed.text) < 5000

        async def raise_surrogate(_self: Any) -> None:
            raise ValueError("\udcff")

        original = agent.nothing  # type: ignore[attr-defined]
        agent.nothing = raise_surrogate  # type: ignore[attr-defined]
        try:
            failed = world.call("nothing")
            await settle()
        finally:
            agent.nothing = original  # type: ignore[attr-defined]
        world.log.commit()
        assert failed.text == "ValueError: \\udcff"


async def test_a_turn_past_its_deadline_is_stopped_recorded_and_leaves_the_agent_free() -> None:
    async with serving() as world:
        late = world.call("add_behind", "never", 5, timeout_s=3.0)
        began = trio.current_time()
        behind = world.call("add", 1)
        await trio.sleep(2.9)
        assert world.log.committed == len(world.log.records)
        await trio.sleep(0.2)
        world.log.commit()
        assert trio.current_time() < began + 4
        assert (late.status, late.code) == (Status.FAILED, "timeout")
        assert "tally/a.add_behind" in late.text
        assert behind.result == 1


async def test_a_turn_has_a_deadline_even_when_its_caller_waits_for_ever() -> None:
    async with serving(AgentsConfig(call_timeout_s=2.0)) as world:
        late = world.call("add_behind", "never", timeout_s=float("inf"))
        await trio.sleep(19.9)
        assert len(world.log.records) == 1
        await trio.sleep(0.2)
        world.log.commit()
        assert late.code == "timeout"


async def test_a_turn_that_goes_on_past_its_deadline_takes_effect_if_it_returns() -> None:
    async with serving() as world:
        late = world.call("swallow_cancellation", "never", timeout_s=3.0)
        await trio.sleep(3.1)
        world.log.commit()
        assert late.result == 1
        assert await world.done("total") == 1


async def test_a_call_whose_caller_is_gone_before_its_turn_is_not_run() -> None:
    async with serving() as world:
        holding = world.call("add_behind", "g", timeout_s=10.0)
        late = world.call("add", 5, timeout_s=1.0)
        await trio.sleep(2.0)
        assert late.answer is None
        world.gates.gate("g").set()
        await settle()
        world.log.commit()
        assert holding.result == 1
        assert (late.status, late.code) == (Status.TRY_AGAIN, "unavailable")
        assert await world.done("total") == 1


async def test_many_short_turns_let_others_run_between_them() -> None:
    async with serving() as world:
        for _ in range(100):
            world.call("add", 1)
        for _ in range(50):
            await trio.lowlevel.checkpoint()
        assert 1 < len(world.log.records) < 101


async def test_a_first_write_that_changes_nothing_keeps_the_new_state() -> None:
    async with serving() as world:
        at = await world.done("touch", agent_type="tags")
        assert wire.loads(world.log.machine.states["tags", "a"])["at"] == at


async def test_a_later_write_that_changes_nothing_writes_no_state() -> None:
    async with serving() as world:
        await world.done("add", 1)
        await world.done("nothing")
        assert world.log.decoded()[-1].state is None


async def test_an_agent_whose_class_fails_answers_with_that_and_works_again_when_it_does_not() -> None:
    async with serving() as world:
        FragileAgent.broken = True
        try:
            failed = world.call("put", 1, agent_type="fragile")
            await settle()
        finally:
            FragileAgent.broken = False
        world.log.commit()
        assert (failed.status, failed.code, failed.text) == (Status.FAILED, "agent", "OSError: no such sensor")
        assert await world.done("put", 2, agent_type="fragile") == 2


async def test_a_kept_state_that_fits_no_more_is_a_clear_error() -> None:
    async with serving() as world:
        world.log.machine.states["tally", "old"] = wire.dumps({"total": "three"})
        failed = world.call("add", 1, key="old")
        await settle()
        world.log.commit()
        assert failed.code == "invalid_argument"
        assert "give new fields a default" in failed.text
        assert "Expected `int`, got `str` - at `$.total`" in failed.text


# ---- reads


async def test_a_read_leaves_no_record_and_is_answered_once_the_primary_is_confirmed() -> None:
    async with serving() as world:
        await world.done("add", 5)
        records = len(world.log.records)
        asked = world.call("total")
        await settle()
        assert len(world.log.records) == records
        assert asked.answer is None
        world.log.confirm()
        assert asked.result == 5


async def test_a_read_waits_until_what_it_saw_is_committed() -> None:
    async with serving() as world:
        world.call("add", 5)
        asked = world.call("total")
        await settle()
        world.log.confirm()
        assert asked.answer is None
        world.log.commit()
        world.log.confirm()
        assert asked.result == 5


async def test_a_read_only_handler_that_changes_the_state_is_refused_and_the_change_is_gone() -> None:
    async with serving() as world:
        await world.done("add", 5)
        asked = world.call("change_in_a_read")
        await settle()
        world.log.confirm()
        assert (asked.status, asked.code) == (Status.FAILED, "invalid_argument")
        assert "change_in_a_read is read-only, but changed the state" in asked.text
        assert await world.done("seen") == [5]


async def test_a_read_of_an_agent_that_never_was_makes_none() -> None:
    async with serving() as world:
        assert await world.done("total", key="nobody") == 0
        assert world.log.machine.states == {}
        assert list(world.agents.agents()) == []


async def test_a_read_is_no_change_when_the_state_only_encodes_to_other_bytes() -> None:
    """As with a set in another process, a field that is newer than the record, or a default that is drawn."""
    async with serving() as world:
        names = ["eins", "zwei", "drei", "vier", "fünf"]
        assert await world.done("at", agent_type="tags", key="new")
        world.log.machine.states["tags", "set"] = wire.dumps({"names": names, "at": "2024-02-29T12:00:00"})
        world.log.machine.states["tags", "reversed"] = wire.dumps({"names": names[::-1], "at": "2024-02-29T12:00:00"})
        world.log.machine.states["tags", "older"] = wire.dumps({"names": names})
        for key in ("set", "reversed", "older"):
            assert await world.done("names", agent_type="tags", key=key) == sorted(names)


async def test_a_read_past_its_deadline_ends_too() -> None:
    async with serving() as world:
        late = world.call("total_behind", "never", timeout_s=3.0)
        await trio.sleep(3.1)
        world.log.confirm()
        assert (late.status, late.code) == (Status.FAILED, "timeout")
        assert len(world.log.records) == 1
        assert await world.done("total") == 0


async def test_the_surroundings_say_for_whom_and_until_when_a_turn_runs() -> None:
    async with serving() as world:
        await world.done("add", 5, timeout_s=7.0)
        await world.done("total", timeout_s=8.0)
        write, read = world.turns
        assert (write.epoch, write.is_read_only, write.deadline_s) == (1, False, trio.current_time() + 7.0)
        assert (read.epoch, read.is_read_only, read.deadline_s) == (1, True, trio.current_time() + 8.0)
        assert write.call.method == "add"


async def test_agents_with_a_state_are_listed() -> None:
    async with serving() as world:
        await world.done("add", 5, key="b")
        assert list(world.agents.agents()) == [(0, "tally", "b")]
        assert world.agents.turns_committed == 1
        assert wire.loads(world.log.machine.states["tally", "b"]) == {"total": Tally(5).total, "seen": [5]}
