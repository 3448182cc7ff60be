"""What is full refuses, and forgets nothing; what is not used is let go."""

import pytest
import trio

from meshnode.agents import service
from meshnode.agents import serving as serving_module
from meshnode.agents.config import RECORD_BYTES_MAX, AgentsConfig
from meshnode.agents.ledger import REQUEST_ID_S, Expired
from meshnode.agents.messages import Status
from meshnode.agents.origin import Origin
from meshnode.agents.service import SWEEP_INTERVAL_S, TICK_S
from meshnode.identity import Epoch
from tests.agents.world import PARTITION, Asked, World, serving, settle


def assert_overloaded(asked: Asked, complaint: str) -> None:
    assert (asked.status, asked.code) == (Status.TRY_AGAIN, "overloaded")
    assert complaint in asked.text


# ---- leases and room


async def test_without_a_lease_nothing_new_starts() -> None:
    async with serving() as world:
        world.log.has_lease = False
        for asked in (world.call("add", 1), world.call("total"), world.open()):
            assert (asked.status, asked.code) == (Status.TRY_AGAIN, "unavailable")
            assert "lease has run out" in asked.text
        await settle()
        assert len(world.log.records) == 1


async def test_without_a_lease_what_waits_in_a_mailbox_does_not_start_either() -> None:
    async with serving() as world:
        running = world.call("add_behind", "g", 5)
        waiting = world.call("add", 1)
        await settle()
        world.log.has_lease = False
        world.gates.gate("g").set()
        await settle()
        world.log.commit()
        assert running.result == 5
        assert (waiting.status, waiting.code) == (Status.TRY_AGAIN, "unavailable")
        world.log.has_lease = True
        assert await world.done("total") == 5


async def test_without_room_in_the_log_nothing_is_taken() -> None:
    async with serving() as world:
        world.log.room = 1
        first, waiting = world.call("add", 1), world.call("add", 1)
        await settle()
        assert_overloaded(waiting, "too much waits for its replicas")
        assert_overloaded(world.call("add", 1), "too much waits for its replicas")
        assert_overloaded(world.open(), "too much waits for its replicas")
        world.log.commit()
        assert first.result == 1
        assert await world.done("add", 1) == 2


async def test_small_records_that_wait_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "PENDING_MAX", 3)
    async with serving() as world:
        for key in "abc":
            world.call("add", 1, key=key)
        await settle()
        assert_overloaded(world.call("add", 1), "too much waits for its replicas")
        world.log.commit()
        assert await world.done("add", 1) == 2


# ---- calls under way


async def test_a_mailbox_has_a_bound() -> None:
    async with serving(AgentsConfig(mailbox_max=2)) as world:
        running = world.call("add_behind", "g")
        await settle()
        waiting = [world.call("add", 1) for _ in range(2)]
        assert_overloaded(world.call("add", 1), "tally/a has 2 calls waiting")
        world.gates.gate("g").set()
        await settle()
        world.log.commit()
        assert [asked.result for asked in (running, *waiting)] == [1, 2, 3]


async def test_the_mailboxes_together_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "RUNNING_MAX", 3)
    async with serving() as world:
        for key in "abc":
            world.call("add_behind", "g", key=key)
        assert_overloaded(world.call("add", 1, key="d"), "has 3 calls under way")
        world.gates.gate("g").set()
        await settle()
        world.log.commit()
        assert await world.done("add", 1, key="d") == 1
        assert world.agents._serving[PARTITION].running == {}


async def test_sessions_have_a_bound_and_those_being_opened_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "SESSIONS_MAX", 3)
    async with serving() as world:
        opening = [world.open(), world.open()]
        assert_overloaded(world.open(), "has 3 sessions already")
        world.log.commit()
        assert [asked.status for asked in opening] == [Status.DONE, Status.DONE]
        assert_overloaded(world.open(), "has 3 sessions already")


async def test_replies_of_one_session_have_a_bound_and_none_is_evicted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving_module, "OUTSTANDING_MAX", 2)
    async with serving() as world:
        await world.done("add", 1, request=1)
        await world.done("add", 1, request=2)
        assert_overloaded(world.call("add", 1, request=3), "2 replies that were not acknowledged")
        assert world.call("add", 1, request=1).result == 1
        assert await world.done("total") == 2


async def test_request_ids_have_a_bound_and_none_is_evicted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving_module, "REQUEST_IDS_MAX", 2)
    async with serving() as world:
        for request_id in ("a", "b"):
            await world.done("add", 1, request_id=request_id, keep_s=1e9)
        assert_overloaded(world.call("add", 1, request_id="c"), "keeps 2 request ids already")
        assert world.call("add", 1, request_id="a").result == 1
        assert await world.done("total") == 2


async def test_a_partition_whose_state_could_not_be_copied_any_more_takes_no_further_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with serving() as world:
        await world.done("add", 1, request=1)
        monkeypatch.setattr(serving_module, "PAYLOAD_BYTES_MAX", 4)
        assert_overloaded(world.call("add", 1, request=2), "a mesh of more partitions")
        assert world.call("add", 1, request=1).result == 1
        assert await world.done("total") == 1


def test_settings_out_of_range_are_refused() -> None:
    for name in ("call_timeout_s", "mailbox_max", "state_bytes_max", "idle_s", "session_s"):
        with pytest.raises(ValueError, match=f"{name} is 0: choose above 0"):
            AgentsConfig(**{name: 0})
    with pytest.raises(ValueError, match=f"choose up to {RECORD_BYTES_MAX}"):
        AgentsConfig(state_bytes_max=RECORD_BYTES_MAX + 1)


# ---- what is let go


def activations(world: World) -> set[str]:
    return {key for _type, key in world.agents._serving[PARTITION].activations}


async def test_an_idle_agent_is_let_go_and_comes_back_with_its_state() -> None:
    async with serving(AgentsConfig(idle_s=100.0)) as world:
        await world.done("add", 5)
        await trio.sleep(99.0)
        assert activations(world) == {"a"}
        await trio.sleep(2 * SWEEP_INTERVAL_S)
        assert activations(world) == set()
        assert await world.done("add", 1) == 6


async def test_an_agent_that_is_kept_for_a_moment_is_let_go_soon_after_it() -> None:
    async with serving(AgentsConfig(idle_s=1.0)) as world:
        await world.done("add", 5)
        assert activations(world) == {"a"}
        await trio.sleep(2.5)
        assert activations(world) == set()


async def test_an_agent_that_is_at_work_is_not_let_go() -> None:
    async with serving(AgentsConfig(idle_s=1.0, call_timeout_s=1e4)) as world:
        asked = world.call("add_behind", "g", 5, timeout_s=1e4)
        await trio.sleep(3 * SWEEP_INTERVAL_S)
        assert activations(world) == {"a"}
        world.gates.gate("g").set()
        await settle()
        world.log.commit()
        assert asked.result == 5


async def test_an_agent_whose_last_record_is_not_committed_is_not_let_go() -> None:
    async with serving(AgentsConfig(idle_s=1.0)) as world:
        await world.done("add", 1, key="committed")
        first = world.call("add", 5)
        await trio.sleep(3 * SWEEP_INTERVAL_S)
        assert activations(world) == {"a"}
        second = world.call("add", 1)
        await settle()
        world.log.commit()
        assert (first.result, second.result) == (5, 6)


async def test_an_agent_without_a_state_is_let_go_at_once() -> None:
    async with serving() as world:
        for key in "abc":
            world.call("total", key=key)
            world.call("change_and_raise", key=key)
        await settle()
        assert activations(world) == set()


# ---- what expires


async def elapse(world: World, seconds: float) -> None:
    """Let time pass, in which records are committed."""
    until_s = trio.current_time() + seconds
    while trio.current_time() < until_s:
        await trio.sleep(min(SWEEP_INTERVAL_S, until_s - trio.current_time()))
        world.log.commit()


async def test_a_session_without_calls_expires_by_a_record() -> None:
    async with serving(AgentsConfig(session_s=100.0)) as world:
        await world.done("add", 5)
        await trio.sleep(100.0 + SWEEP_INTERVAL_S)
        record = world.log.decoded()[-1]
        assert isinstance(record, Expired)
        assert record.sessions == (world.session,)
        refused = world.call("add", 1)
        assert (refused.status, refused.code) == (Status.REFUSED, "unknown_session"), "even before it is committed"
        world.log.commit()
        assert world.log.machine.sessions == {}
        assert world.call("add", 1).code == "unknown_session"
        assert await world.done("total") == 5


async def test_a_session_is_kept_by_any_call_in_it() -> None:
    async with serving(AgentsConfig(session_s=100.0)) as world:
        await world.done("add", 5, request=1)
        for _ in range(3):
            await trio.sleep(60.0)
            await world.done("total")
        for _ in range(3):
            await trio.sleep(60.0)
            assert world.call("add", 5, request=1).result == 5
        assert set(world.log.machine.sessions) == {world.session}


async def test_a_session_is_kept_while_a_call_in_it_is_under_way() -> None:
    async with serving(AgentsConfig(session_s=10.0, call_timeout_s=1000.0)) as world:
        running = world.call("add_behind", "g", 5, request=1, timeout_s=1000.0)
        waiting = world.call("add", 1, request=2, timeout_s=1000.0)
        await elapse(world, 100.0)
        world.gates.gate("g").set()
        await settle()
        world.log.commit()
        assert (running.result, waiting.result) == (5, 6)
        assert [world.call("add", 1, request=number).result for number in (1, 2)] == [5, 6]
        await elapse(world, 100.0)
        assert world.log.machine.sessions == {}


async def test_after_a_takeover_sessions_have_their_whole_time_again() -> None:
    async with serving(AgentsConfig(session_s=100.0)) as world:
        await trio.sleep(90.0)
        world.log.depose()
        await settle()
        world.log.serve()
        await trio.sleep(90.0)
        assert await world.done("add", 5) == 5
        await trio.sleep(200.0)
        assert isinstance(world.log.decoded()[-1], Expired)


async def test_an_expiry_that_was_lost_with_its_primary_is_made_again() -> None:
    async with serving(AgentsConfig(session_s=100.0)) as world:
        await trio.sleep(140.0)
        world.log.depose()
        await settle()
        world.log.serve()
        assert await world.done("add", 5) == 5
        await trio.sleep(140.0)
        world.log.commit()
        assert world.log.machine.sessions == {}


async def test_a_request_id_is_forgotten_after_its_time() -> None:
    async with serving() as world:
        await world.done("add", 1, request_id="short", keep_s=100.0)
        await world.done("add", 1, request_id="long", keep_s=1e9)
        await trio.sleep(90.0)
        assert world.call("add", 1, request_id="short").result == 1
        await elapse(world, 10.0 + 2 * SWEEP_INTERVAL_S)
        assert {key for _type, _agent, key in world.log.machine.request_ids} == {"long"}
        await elapse(world, REQUEST_ID_S + 2 * SWEEP_INTERVAL_S)
        assert world.log.machine.request_ids == {}


async def test_a_request_id_is_kept_for_its_whole_time_whatever_the_primaries_clocks_say() -> None:
    async with serving() as world:
        await world.done("add", 1, request_id="order", keep_s=1000.0)
        for leap_s in (2 * REQUEST_ID_S, -2 * REQUEST_ID_S):  # the wall clock of the next primary, and of the one after
            world.log.depose()
            world.host.wall_offset_s += leap_s
            await settle()
            world.log.serve()
            await trio.sleep(300.0)
            world.log.commit()
            assert world.call("add", 1, request_id="order").result == 1
        assert await world.done("total") == 1


async def test_a_clock_that_leaps_makes_nothing_expire() -> None:
    async with serving(AgentsConfig(session_s=1e9)) as world:
        await world.done("add", 1, request_id="order", keep_s=1000.0)
        for _ in range(5):
            world.host.leap_s += 1e6
            await trio.sleep(SWEEP_INTERVAL_S)
            world.log.commit()
        assert world.call("add", 1, request_id="order").result == 1
        await elapse(world, 1000.0)
        assert world.log.machine.request_ids == {}


async def test_a_reply_is_kept_from_when_it_was_made_not_from_the_last_look_at_the_clock() -> None:
    async with serving() as world:
        await trio.sleep(SWEEP_INTERVAL_S - 1.0)
        await world.done("add", 1, request_id="order", keep_s=SWEEP_INTERVAL_S / 2)
        await trio.sleep(2.0)
        world.log.commit()
        assert world.call("add", 1, request_id="order").result == 1


async def test_time_passes_for_a_partition_whose_primary_changes_often() -> None:
    async with serving() as world:
        await world.done("add", 1, request_id="order", keep_s=5 * TICK_S)
        changes = 0
        while world.log.machine.request_ids:
            await trio.sleep(1.5 * TICK_S)
            world.log.depose(keep=True)
            await settle()
            world.log.serve()
            changes += 1
        assert 5 <= changes + 1 <= 8, "of each primary's time at most a tick is lost"


async def test_what_is_kept_and_nothing_else_makes_ticks() -> None:
    async with serving(AgentsConfig(session_s=1e9)) as world:
        await trio.sleep(10 * TICK_S)
        assert len(world.log.records) == 1
        await world.done("add", 1, request_id="order", keep_s=1e9)
        records = len(world.log.records)
        for _ in range(20):
            await elapse(world, TICK_S / 2)
        assert 9 <= len(world.log.records) - records <= 10


async def test_a_reply_to_a_turn_that_was_cut_off_is_forgotten_after_its_time() -> None:
    async with serving() as world:
        origin = Origin(PARTITION, Epoch(1), 1, horizon=1)
        await world.done("add", 1, request_id="nested", keep_s=100.0, origin=origin)
        await trio.sleep(90.0)
        assert world.call("add", 1, request_id="nested", origin=origin).result == 1
        await trio.sleep(10.0 + 2 * SWEEP_INTERVAL_S)
        world.log.commit()
        assert world.log.machine.nested.replies == {}


async def test_while_a_record_of_what_has_expired_is_on_its_way_there_is_no_other() -> None:
    async with serving(AgentsConfig(session_s=100.0)) as world:
        await world.done("add", 1, request_id="order", keep_s=200.0)
        records = len(world.log.records)
        await trio.sleep(1000.0)
        assert len(world.log.records) == records + 1
        await elapse(world, 2 * SWEEP_INTERVAL_S)
        assert (world.log.machine.sessions, world.log.machine.request_ids) == ({}, {})


async def test_nothing_expires_into_a_log_without_room() -> None:
    async with serving(AgentsConfig(session_s=100.0)) as world:
        world.log.room = 0
        await trio.sleep(1000.0)
        assert len(world.log.records) == 1
        world.log.room = 1
        await trio.sleep(2 * SWEEP_INTERVAL_S)
        assert isinstance(world.log.decoded()[-1], Expired)


async def test_a_partition_that_is_deposed_during_a_sweep_is_left_alone() -> None:
    async with serving(AgentsConfig(session_s=100.0)) as world:
        world.log.depose()
        await trio.sleep(1000.0)
        assert len(world.log.records) == 1
