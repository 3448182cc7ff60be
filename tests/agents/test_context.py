"""Calls inside turns: made once, even when the turn runs again."""

from dataclasses import replace
from typing import Any, cast

import pytest
import trio

from meshnode.agents import nested
from meshnode.agents.caller import Caller
from meshnode.agents.context import RERUN_S, TurnContext
from meshnode.agents.footprint import Footprint
from meshnode.agents.ledger import REQUEST_ID_S
from meshnode.agents.messages import Call, Status
from meshnode.agents.origin import Lineage, Origin
from meshnode.agents.service import TurnInfo
from meshnode.errors import AgentError, InvalidArgument, NotFound, Overloaded, Unavailable
from meshnode.identity import Epoch, PartitionId
from tests.agents.bank import Account, open_bank
from tests.agents.fake_host import FakeHost
from tests.agents.world import PARTITION, settle


class Calls:
    """Stands for the caller: notes each call, and answers with its ordinal."""

    def __init__(self) -> None:
        self.made: list[dict[str, Any]] = []

    async def call(
        self, agent_type: str, key: str, method: str, positional: tuple[Any, ...], named: dict[str, Any], **options: Any
    ) -> int:
        self.made.append({"to": f"{agent_type}/{key}.{method}", "positional": positional, "named": named, **options})
        return len(self.made)


def context(
    calls: Calls,
    *,
    is_read_only: bool = False,
    deadline_s: float = 100.0,
    footprint: Footprint | None = None,
    **fields: Any,
) -> Any:
    values: dict[str, Any] = {"session": 5, "request": 3, "timeout_s": 30.0, **fields}
    call = Call(1, PARTITION, "outer", "o", "run", b"", **values)
    turn = TurnInfo(Epoch(9), call, deadline_s, is_read_only, footprint or Footprint(Lineage(PARTITION, Epoch(9))))

    async def predict(model: str, rows: Any) -> Any:
        return [model, rows]

    return TurnContext(FakeHost(), cast(Caller, calls), predict, turn)


def ids(calls: Calls) -> list[str]:
    return [call["request_id"] for call in calls.made]


async def test_a_rerun_of_a_turn_makes_its_calls_under_the_same_ids() -> None:
    first, again = Calls(), Calls()
    for calls in (first, again):
        turn = context(calls)
        await turn.ref("x", "a").add(1)
        await turn.ref("x", "a").add(1)
        await turn.ref("y", "b").add(1)
    assert ids(first) == ids(again)
    assert len(set(ids(first))) == 3


async def test_only_the_order_of_calls_to_one_agent_matters() -> None:
    first, again = Calls(), Calls()
    turn = context(first)
    await turn.ref("x", "a").add(1)
    await turn.ref("y", "b").add(1)
    turn = context(again)
    await turn.ref("y", "b").add(1)
    await turn.ref("x", "a").add(1)
    assert ids(first) == ids(again)[::-1]


@pytest.mark.parametrize(
    "fields", [{"session": 6}, {"request": 4}, {"session": 0, "request": 0, "request_id": "5.3"}, {"request_id": "5.3"}]
)
async def test_another_turn_makes_its_calls_under_other_ids(fields: dict[str, Any]) -> None:
    calls = Calls()
    await context(calls).ref("x", "a").add(1)
    await context(calls, **fields).ref("x", "a").add(1)
    first, second = ids(calls)
    assert first != second


async def test_a_call_carries_the_chain_and_what_is_left_of_the_deadline() -> None:
    calls = Calls()
    deadline_s = trio.current_time() + 5.0
    turn = context(calls, deadline_s=deadline_s, chain=("first/f",))
    await trio.sleep(2.0)
    assert await turn.ref("x", "a").add(1, by="me") == 1
    await trio.sleep(10.0)
    await turn.ref("x", "a").add(2)
    assert calls.made[0]["to"] == "x/a.add"
    assert (calls.made[0]["positional"], calls.made[0]["named"]) == ((1,), {"by": "me"})
    assert calls.made[0]["chain"] == ("first/f", "outer/o")
    assert calls.made[0]["timeout_s"] == pytest.approx(3.0)
    assert calls.made[1]["timeout_s"] == 0.0


async def test_a_reply_is_kept_as_long_as_the_turn_may_run_again() -> None:
    calls = Calls()
    await context(calls, timeout_s=30.0).ref("x", "a").add(1)
    await context(calls, request_id="order", keep_s=REQUEST_ID_S).ref("x", "a").add(1)
    assert [call["keep_s"] for call in calls.made] == [30.0 + RERUN_S, REQUEST_ID_S]


async def test_a_call_inside_a_read_is_another_one_each_time() -> None:
    calls = Calls()
    await context(calls, is_read_only=True).ref("x", "a").add(1)
    (made,) = calls.made
    assert made["is_read_only"]
    assert not {"request_id", "origin"} & made.keys()


async def test_a_call_of_a_handler_known_to_be_read_only_is_another_one_each_time_too() -> None:
    calls = Calls()
    turn = context(calls)
    await turn.ref(Account, "a").cents()
    await turn.ref("account", "a").cents()
    typed, by_name = calls.made
    assert typed["is_read_only"]
    assert "request_id" not in typed
    assert by_name["request_id"]
    assert "is_read_only" not in by_name


async def test_a_call_says_of_which_turn_it_is_and_all_calls_of_a_turn_are_of_one() -> None:
    calls = Calls()
    lineage = Lineage(PARTITION, Epoch(9))
    for turn in (1, 2):
        footprint = Footprint(lineage)
        surroundings = context(calls, footprint=footprint)
        await surroundings.ref("x", "a").add(1)
        await surroundings.ref("x", "b").add(1)
        for made in calls.made[-2:]:
            assert made["origin"]() == Origin(PARTITION, Epoch(9), turn, horizon=3 if turn == 2 else 2, open=(turn,))
        footprint.end()


async def test_a_turn_has_a_fencing_token_and_predictions() -> None:
    turn = context(Calls())
    assert turn.fencing_token == 9
    assert await turn.predict("digits", [1.0]) == ["digits", [1.0]]


async def test_a_turn_reads_the_clocks_of_its_node_and_draws_from_its_generator() -> None:
    turn = context(Calls())
    began_s = turn.now()
    turn._host.leap_s = 5.0
    turn._host.wall_offset_s = 1e9
    assert turn.now() - began_s >= 5.0
    assert 1e9 <= turn.wall_clock() < 2e9
    assert turn.rng is turn._host.rng


# ---- with the service: agents that call agents


async def test_a_turn_that_runs_again_after_a_crash_gets_the_answers_of_its_calls() -> None:
    async with open_bank() as bank:
        await bank.ask_caller("ann", "put", 100)
        outer = bank.call("pay_behind", "bob", 30, "g", key="ann", agent_type="account", request_id="order-1")
        await settle()
        assert bank.gates.entered == ["g"]
        assert not outer.event.is_set()
        bank.log.depose()
        assert outer.status is Status.UNKNOWN
        await settle()
        bank.log.serve()
        bank.gates.gate("g").set()
        assert await bank.ask_caller("ann", "pay_behind", "bob", 30, "g", request_id="order-1") == 30
        assert bank.gates.entered == ["g", "g"], "the turn did run twice"
        assert await bank.ask_caller("bob", "cents") == 30
        assert await bank.ask_caller("ann", "cents") == 70


async def test_a_turn_that_calls_back_whoever_waits_for_it_is_refused_with_the_way() -> None:
    async with open_bank() as bank:
        before = trio.current_time()
        with pytest.raises(AgentError, match="account/ann → account/ann would wait for itself"):
            await bank.ask_caller("ann", "pay", "ann", 1)
        assert trio.current_time() < before + 1.0, "at once, not at a deadline"
        assert await bank.ask_caller("ann", "cents") == 0


# ---- how long the answers are kept


async def test_the_answers_to_turns_that_have_ended_are_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nested, "NESTED_MAX", 2)
    async with open_bank() as bank:
        for number in range(1, 21):
            assert await bank.ask_caller(f"payer-{number}", "pay", "bob", 1) == number
        assert len(bank.log.machine.nested.replies) == 1
        assert bank.log.machine.request_ids == {}


async def test_a_long_turn_holds_back_nobody_elses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nested, "NESTED_MAX", 3)
    async with open_bank() as bank:
        long = bank.call("pay_behind", "bob", 1, "g", key="slow", agent_type="account", request_id="order-1")
        await settle()
        assert bank.gates.entered == ["g"]
        for number in range(2, 21):
            assert await bank.ask_caller(f"payer-{number}", "pay", "bob", 1) == number
        assert len(bank.log.machine.nested.replies) == 2
        bank.gates.gate("g").set()
        await settle()
        assert long.result == 1


async def test_an_answer_is_kept_until_the_record_of_its_turn_is_committed() -> None:
    async with open_bank() as bank:
        outer = bank.call("pay_behind", "bob", 30, "g", key="ann", agent_type="account", request_id="order-1")
        await settle()
        assert bank.gates.entered == ["g"]
        bank.log.is_eager = False
        bank.gates.gate("g").set()
        await settle()
        lineage = bank.agents._serving[PARTITION].lineage
        assert outer.answer is None
        assert not lineage.origin(99).has_ended(1), "its record is on its way, and may be lost"
        bank.log.commit()
        assert outer.result == 30
        assert lineage.origin(99).has_ended(1)


async def test_a_turn_of_a_primary_that_was_deposed_calls_nobody_any_more() -> None:
    """The answer may have been let go of, since the turn has run again and ended."""
    async with open_bank() as bank:
        await bank.ask_caller("ann", "pay", "bob", 30)
        stale = bank.calls_to("bob")[-1]
        bank.log.depose()
        await settle()
        bank.log.serve()
        await bank.ask_caller("cleo", "pay", "bob", 1)
        bank.log.machine.nested.replies.clear()
        asked = bank.ask(stale)
        assert (asked.status, asked.code) == (Status.TRY_AGAIN, "unavailable")
        assert "turn 1 of partition 0, epoch 1, is over" in asked.text
        assert await bank.ask_caller("bob", "cents") == 31


async def test_a_late_copy_of_a_call_of_a_turn_that_has_ended_is_refused() -> None:
    async with open_bank() as bank:
        await bank.ask_caller("ann", "pay", "bob", 30)
        stale = bank.calls_to("bob")[-1]
        assert bank.ask(stale).result == 30
        await bank.ask_caller("cleo", "pay", "bob", 1)
        asked = bank.ask(stale)
        assert (asked.status, asked.code) == (Status.TRY_AGAIN, "unavailable")
        assert "turn 1 of partition 0, epoch 1, is over" in asked.text
        assert await bank.ask_caller("bob", "cents") == 31


async def test_when_too_many_answers_are_kept_a_turn_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nested, "NESTED_MAX", 1)
    async with open_bank() as bank:
        bank.call("pay_behind", "bob", 1, "g", key="slow", agent_type="account", request_id="order-1")
        await settle()
        assert bank.gates.entered == ["g"]
        made = bank.calls_to("bob")[-1]
        assert made.origin is not None
        asked = bank.ask(replace(made, request_id="another", origin=replace(made.origin, turn=2)))
        assert (asked.status, asked.code) == (Status.TRY_AGAIN, "overloaded")
        assert "partition 0 keeps 65536 replies to turns already" in asked.text
        assert await bank.ask_caller("bob", "put", 1, request_id="chosen") == 2, "ids that users choose have a table"
        bank.gates.gate("g").set()
        await settle()
        assert await bank.ask_caller("ann", "pay", "bob", 1) == 3


async def test_a_call_from_a_partition_that_is_none_is_refused() -> None:
    async with open_bank() as bank:
        await bank.ask_caller("ann", "pay", "bob", 30)
        made = bank.calls_to("bob")[-1]
        assert made.origin is not None
        forged = replace(made, request_id="other", origin=replace(made.origin, partition=PartitionId(1)))
        asked = bank.ask(forged)
        assert (asked.status, asked.code, asked.text) == (Status.REFUSED, "invalid_argument", "there is no partition 1")


# ---- how a turn ends that meets errors


async def test_an_error_that_passes_leaves_no_record_and_the_call_is_tried_again() -> None:
    async with open_bank() as bank:
        for problem in (Overloaded("the queue is full"), Unavailable("no device")):
            bank.problem = problem
            with pytest.raises(type(problem), match=str(problem)):
                await bank.ask_caller("ann", "predict", request_id="order-1", timeout_s=5.0)
            assert bank.log.machine.request_ids == {}
        bank.problem = None
        assert await bank.ask_caller("ann", "predict", request_id="order-1") == ["digits", [1.0]]


async def test_so_it_is_when_the_handler_raises_it_itself_and_within_nurseries_of_its_own() -> None:
    async with open_bank() as bank:
        bank.problem = Overloaded("closed for lunch")
        with pytest.raises(Overloaded, match="closed for lunch"):
            await bank.ask_caller("ann", "be_away", request_id="order-1", timeout_s=5.0)
        for tasks in (1, 3):
            with pytest.raises(Overloaded, match="closed for lunch"):
                await bank.ask_caller("ann", "be_away_in_a_nursery", tasks, request_id="order-2", timeout_s=5.0)
        bank.problem = None
        assert await bank.ask_caller("ann", "be_away", request_id="order-1") == bank.turns_of_be_away
        assert await bank.ask_caller("ann", "be_away_in_a_nursery", 2, request_id="order-2") == 1


async def test_so_it_is_in_a_read_and_after_a_read_of_another_agent() -> None:
    async with open_bank() as bank:
        bank.problem = Overloaded("closed for lunch")
        for method, positional in (("predict_in_a_read", ()), ("look_and_be_away", ("bob",))):
            with pytest.raises(Overloaded, match="closed for lunch"):
                await bank.ask_caller("ann", method, *positional, timeout_s=5.0)
        assert bank.turns_of_be_away > 1


async def test_no_caller_is_told_that_nothing_was_changed_after_a_call_that_changed_something() -> None:
    problems = [Overloaded("full"), Unavailable("away"), InvalidArgument("wrong"), NotFound("no such thing")]
    async with open_bank() as bank:
        for number, bank.problem in enumerate(problems, start=1):
            name = type(bank.problem).__name__
            for method in ("predict", "be_away"):
                with pytest.raises(AgentError, match=f"^{name}: {bank.problem}$") as caught:
                    await bank.ask_caller("ann", method, named={"first": "bob"}, request_id=f"{method}-{number}")
                assert caught.value.error_type == name
        assert await bank.ask_caller("bob", "cents") == 5 * 2 * len(problems)
        assert await bank.ask_caller("ann", "cents") == 0


async def test_what_another_agent_refuses_is_not_the_callers_mistake() -> None:
    async with open_bank() as bank:
        bank.problem = NotFound("no model 'digits' was published")
        for method, positional, complaint in (
            ("predict", (), "NotFound: no model 'digits' was published"),
            ("call_wrongly", (), "InvalidArgument: put.*Expected `int`, got `str`"),
            ("have", ("refuse",), "InvalidArgument: this account takes nothing"),
            ("have", ("fail",), "AgentError: ValueError: broken"),
            ("have", ("nothing_of_that_name",), "UnknownMethod: agent type 'account' has no handler"),
        ):
            with pytest.raises(AgentError, match=complaint):
                await bank.ask_caller("ann", method, *positional)
        with pytest.raises(AgentError, match="InvalidArgument: key ''"):
            await bank.ask_caller("ann", "pay", "", 1)


async def test_a_handler_that_refuses_in_its_own_words_is_a_refusal() -> None:
    async with open_bank() as bank:
        with pytest.raises(InvalidArgument, match=r"^not today: this account takes nothing$"):
            await bank.ask_caller("ann", "have", "refuse", named={"then_refuse": True})


async def test_a_call_that_may_have_changed_something_counts_as_one_that_did() -> None:
    """The other agent failed, and perhaps it had called others."""
    async with open_bank() as bank:
        with pytest.raises(AgentError, match="InvalidArgument: not today: ValueError: broken"):
            await bank.ask_caller("ann", "have", "fail", named={"then_refuse": True})


# ---- reads


async def test_a_read_only_handler_may_read_others() -> None:
    async with open_bank() as bank:
        await bank.ask_caller("bob", "put", 5)
        assert await bank.ask_caller("ann", "look", "bob") == 5


async def test_a_read_only_handler_that_calls_one_that_is_not_is_told_why_not() -> None:
    async with open_bank() as bank:
        with pytest.raises(AgentError, match=r"account.put is not read-only.*may call read-only ones alone"):
            await bank.ask_caller("ann", "pay_in_a_read", "bob")
        assert await bank.ask_caller("bob", "cents") == 0
