"""Calls inside turns: made once, even when the turn runs again."""

from dataclasses import dataclass
from typing import Any, cast

import pytest
import trio

from meshnode.agents.caller import Caller
from meshnode.agents.config import AgentsConfig
from meshnode.agents.context import CLOCKS_APART_S, TURN_PREFIX, TurnContext
from meshnode.agents.definition import Agent, Application, agent, definition_of, handler
from meshnode.agents.ledger import REQUEST_ID_S
from meshnode.agents.messages import Answer, Call, OpenSession, Status
from meshnode.agents.service import TurnInfo
from meshnode.directory import ClientDirectory
from meshnode.identity import Epoch, NodeId
from tests.agents.fake_host import FakeHost
from tests.agents.world import GUARD_S, PARTITION, Asked, World, settle

A = NodeId(1)


class Calls:
    """Stands for the caller: notes each call, and answers with its ordinal."""

    def __init__(self) -> None:
        self.made: list[dict[str, Any]] = []

    async def call(
        self, agent_type: str, key: str, method: str, positional: tuple[Any, ...], named: dict[str, Any], **options: Any
    ) -> int:
        self.made.append({"to": f"{agent_type}/{key}.{method}", "positional": positional, "named": named, **options})
        return len(self.made)


def context(calls: Calls, *, is_read_only: bool = False, deadline_s: float = 100.0, **fields: Any) -> Any:
    values: dict[str, Any] = {"session": 5, "request": 3, "timeout_s": 30.0, **fields}
    call = Call(1, PARTITION, "outer", "o", "run", b"", **values)
    turn = TurnInfo(Epoch(9), call, deadline_s, is_read_only)

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
    assert all(one.startswith(TURN_PREFIX) for one in ids(first))


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
    assert [call["keep_s"] for call in calls.made] == [30.0 + CLOCKS_APART_S, REQUEST_ID_S]


async def test_a_call_inside_a_read_is_another_one_each_time() -> None:
    calls = Calls()
    await context(calls, is_read_only=True).ref("x", "a").add(1)
    assert ids(calls) == [""]


async def test_a_turn_has_a_fencing_token_and_predictions() -> None:
    turn = context(Calls())
    assert turn.fencing_token == 9
    assert await turn.predict("digits", [1.0]) == ["digits", [1.0]]


# ---- with the service: agents that call agents


@dataclass
class Balance:
    cents: int = 0


@agent("account", state=Balance)
class Account(Agent[Balance]):
    @handler
    async def put(self, cents: int) -> int:
        self.state.cents += cents
        return self.state.cents

    @handler
    async def pay(self, to: str, cents: int) -> int:
        self.state.cents -= cents
        return await self.node.ref(Account, to).put(cents)

    @handler
    async def pay_behind(self, to: str, cents: int, gate: str) -> int:
        paid = await self.pay(to, cents)
        await cast(Any, self.node).gates.wait(gate)
        return paid

    @handler(read_only=True)
    async def cents(self) -> int:
        return self.state.cents


class Gated(TurnContext):
    """The real surroundings, with gates for the test."""

    gates: Any


class Bank(World):
    """A world whose agents reach each other, and whose log commits at once."""

    def __init__(self) -> None:
        host = FakeHost()
        super().__init__(AgentsConfig(), Application([definition_of(Account)]), host)
        self.directory = ClientDirectory()
        self.directory.update(1, (A,), {})
        self.caller = Caller(host, self.directory, self.exchange)

    def surround(self, turn: TurnInfo) -> Gated:
        async def predict(_model: str, _rows: Any) -> Any:
            raise AssertionError("nobody predicts here")

        gated = Gated(self.host, self.caller, predict, turn)
        gated.gates = self.gates
        return gated

    async def exchange(self, _primary: NodeId, question: Any) -> Answer:
        asked = Asked()
        match question(0):
            case Call() as call:
                self.agents.call(call, asked.respond)
            case OpenSession() as opening:
                self.agents.open_session(opening, asked.respond)
        while asked.answer is None:
            await settle()
            self.log.commit()
            self.log.confirm()
            await trio.lowlevel.checkpoint()
        return asked.answer

    async def run(self, nursery: trio.Nursery) -> None:
        self.agents._surroundings = self.surround
        await nursery.start(self.agents.run)
        self.log.serve()

    async def ask_caller(self, key: str, method: str, *positional: Any, **options: Any) -> Any:
        return await self.caller.call("account", key, method, positional, timeout_s=30.0, **options)


async def test_a_turn_that_runs_again_after_a_crash_gets_the_answers_of_its_calls() -> None:
    with trio.fail_after(GUARD_S):
        async with trio.open_nursery() as nursery:
            bank = Bank()
            await bank.run(nursery)
            await bank.ask_caller("ann", "put", 100)
            outer = bank.call("pay_behind", "bob", 30, "g", key="ann", agent_type="account", request_id="order-1")
            while bank.gates.entered != ["g"]:
                await settle()
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
            nursery.cancel_scope.cancel()


async def test_a_turn_that_calls_back_whoever_waits_for_it_is_refused_with_the_way() -> None:
    with trio.fail_after(GUARD_S):
        async with trio.open_nursery() as nursery:
            bank = Bank()
            await bank.run(nursery)
            before = trio.current_time()
            with pytest.raises(Exception, match="account/ann → account/ann would wait for itself"):
                await bank.ask_caller("ann", "pay", "ann", 1)
            assert trio.current_time() < before + 1.0, "at once, not at a deadline"
            assert await bank.ask_caller("ann", "cents") == 0
            nursery.cancel_scope.cancel()
