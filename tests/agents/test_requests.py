"""A request takes effect at most once, and what is told of it is true."""

import pytest

from meshnode import wire
from meshnode.agents.ledger import REQUEST_ID_CHARACTERS_MAX, SessionOpened
from meshnode.agents.messages import Answer, Call, OpenSession, Status
from meshnode.agents.origin import Origin
from meshnode.agents.request import CHAIN_MAX, JOINED_MAX, Request, recorded
from meshnode.identity import Epoch, PartitionId
from tests.agents.world import PARTITION, Asked, serving, settle


async def test_a_session_is_told_only_when_its_record_is_committed() -> None:
    async with serving() as world:
        asked = world.open()
        await settle()
        assert isinstance(world.log.decoded()[-1], SessionOpened)
        assert asked.answer is None
        world.log.commit()
        assert (asked.status, asked.session) == (Status.DONE, len(world.log.records))


async def test_a_duplicate_of_a_running_request_joins_it() -> None:
    async with serving() as world:
        first = world.call("add_behind", "g", 5, request=1)
        again = world.call("add_behind", "g", 5, request=1)
        await settle()
        world.gates.gate("g").set()
        await settle()
        third = world.call("add_behind", "g", 5, request=1)
        world.log.commit()
        assert (first.result, again.result, third.result) == (5, 5, 5)
        assert await world.done("total") == 5


async def test_a_duplicate_of_a_finished_request_gets_the_recorded_reply() -> None:
    async with serving() as world:
        await world.done("add", 5, request=1)
        await world.done("add", 2, request=2)
        again = world.call("add", 5, request=1)
        assert again.result == 5
        assert await world.done("total") == 7


async def test_a_recorded_error_is_the_reply_of_a_duplicate_too() -> None:
    async with serving() as world:
        world.call("change_and_raise", request=1)
        await settle()
        world.log.commit()
        again = world.call("change_and_raise", request=1)
        assert (again.status, again.text) == (Status.FAILED, "ValueError: no")


async def test_a_reply_that_the_caller_needs_no_more_is_forgotten_and_its_request_refused() -> None:
    async with serving() as world:
        await world.done("add", 5, request=1)
        await world.done("add", 2, request=2, lowest=2)
        again = world.call("add", 5, request=1)
        assert (again.status, again.code) == (Status.REFUSED, "unknown_session")
        assert "answered and forgotten" in again.text
        assert await world.done("total") == 7


async def test_a_request_id_takes_effect_once_whoever_asks() -> None:
    async with serving() as world:
        first = world.call("add_behind", "g", 5, request_id="order-1")
        again = world.call("add_behind", "g", 5, request_id="order-1")
        await settle()
        world.gates.gate("g").set()
        await settle()
        assert first.answer is None
        world.log.commit()
        later = world.call("add_behind", "g", 5, request_id="order-1")
        assert (first.result, again.result, later.result) == (5, 5, 5)
        assert await world.done("total") == 5


async def test_request_ids_of_two_agents_are_two() -> None:
    async with serving() as world:
        await world.done("add", 5, request_id="order-1")
        assert await world.done("add", 5, request_id="order-1", key="b") == 5
        assert await world.done("total", key="b") == 5


async def test_of_too_many_questions_for_one_request_the_oldest_is_told_to_ask_again() -> None:
    async with serving() as world:
        asked = [world.call("add_behind", "g", 5, request_id="popular") for _ in range(JOINED_MAX + 2)]
        await settle()
        assert [one.status for one in asked[:3]] == [Status.UNKNOWN, Status.UNKNOWN, None]
        world.gates.gate("g").set()
        await settle()
        world.log.commit()
        assert {one.result for one in asked[2:]} == {5}


async def test_each_question_gets_an_answer_with_its_own_number() -> None:
    answers: list[Answer] = []
    async with serving() as world:
        for number in (11, 12):
            call = Call(number, PARTITION, "tally", "a", "add", wire.dumps([[5], {}]), 30.0, world.session, 1, 1)
            world.agents.call(call, answers.append)
        await settle()
        world.log.commit()
        assert [(answer.number, answer.status) for answer in answers] == [(11, Status.DONE), (12, Status.DONE)]


async def test_what_is_known_of_a_request_is_told_before_anything_that_refuses_a_new_one() -> None:
    """Else its caller would be told that nothing was changed."""
    async with serving() as world:
        await world.done("add", 5, request=1)
        running = world.call("add_behind", "g", 1, request=2)
        await settle()
        world.log.has_lease = False
        world.log.room = 0
        assert world.call("add", 5, request=1).result == 5
        joined = world.call("add_behind", "g", 1, request=2)
        assert joined.answer is None
        assert world.call("no such handler", request=1).result == 5
        world.gates.gate("g").set()
        await settle()
        world.log.commit()
        assert (running.result, joined.result) == (6, 6)


# ---- what is refused, and changed nothing


@pytest.mark.parametrize(
    ("method", "fields", "code", "complaint"),
    [
        ("add", {"agent_type": "counter"}, "unknown_agent_type", "its application has: fragile, tags, tally"),
        ("subtract", {}, "unknown_method", "agent type 'tally' has no handler 'subtract'; it has: add, add_behind"),
        ("__init__", {}, "unknown_method", "no handler '__init__'"),
        ("add", {"session": 99}, "unknown_session", "session 99 of partition 0 has expired"),
        ("add", {"session": 0}, "unknown_session", "session 0: a call names one, or a request id"),
        ("total", {"session": 0}, "unknown_session", "session 0: a call names one, or a request id"),
        ("add", {"session": -1}, "unknown_session", "session -1"),
        ("add", {"is_read_only": True}, "invalid_argument", "tally.add is not read-only, and was called as if it were"),
        ("add", {"arguments": wire.dumps([["1"], {}])}, "invalid_argument", "argument 'n': Expected `int`, got `str`"),
        ("add", {"arguments": wire.dumps([[1, 2], {}])}, "invalid_argument", "too many positional arguments"),
        ("add", {"arguments": wire.dumps({"n": 1})}, "invalid_argument", "not a list and a map of names"),
        ("add", {"arguments": wire.dumps([[], {1: 1}])}, "invalid_argument", "not a list and a map of names"),
        ("add", {"arguments": b"\xff"}, "invalid_argument", "the arguments are unreadable"),
        ("add", {"key": ""}, "invalid_argument", "a key is a string of 1 to 512 characters"),
        ("add", {"key": "k" * 513}, "invalid_argument", "a key is a string of 1 to 512 characters"),
        (
            "add",
            {"request_id": "r" * (REQUEST_ID_CHARACTERS_MAX + 1)},
            "invalid_argument",
            f"at most {REQUEST_ID_CHARACTERS_MAX} characters",
        ),
        ("add", {"chain": ("x/1", "tally/a", "y/2")}, "invalid_argument", "x/1 → tally/a → y/2 → tally/a would wait"),
        (
            "add",
            {"chain": tuple(f"x/{n}" for n in range(CHAIN_MAX))},
            "invalid_argument",
            "32 turns wait for one another",
        ),
    ],
)
async def test_a_wrong_call_is_refused_without_a_record(
    method: str, fields: dict[str, object], code: str, complaint: str
) -> None:
    async with serving() as world:
        refused = world.call(method, **fields)  # type: ignore[arg-type]
        assert (refused.status, refused.code) == (Status.REFUSED, code)
        assert complaint in refused.text
        await settle()
        assert len(world.log.records) == 1
        assert await world.done("add", 1) == 1


async def test_a_call_for_a_partition_that_its_agent_is_not_in_is_refused() -> None:
    async with serving() as world:
        world.agents._partitions_total = lambda: 2
        keys = [f"k{n}" for n in range(20)]
        refused = [asked for asked in (world.call("add", key=key) for key in keys) if asked.answer is not None]
        assert 0 < len(refused) < len(keys)
        assert {asked.code for asked in refused} == {"invalid_argument"}
        assert "does not belong to partition 0" in refused[0].text


async def test_a_deep_chain_that_is_no_loop_is_served() -> None:
    async with serving() as world:
        chain = tuple(f"tally/{n}" for n in range(CHAIN_MAX - 1))
        assert await world.done("add", 1, chain=chain) == 1


async def test_a_node_that_is_not_the_primary_says_who_is() -> None:
    async with serving() as world:
        elsewhere, session = Asked(), Asked()
        world.agents.call(Call(3, PartitionId(5), "tally", "a", "add", b"", 1.0), elsewhere.respond)
        world.agents.open_session(OpenSession(4, PartitionId(5)), session.respond)
        for asked, number in ((elsewhere, 3), (session, 4)):
            assert asked.answer is not None
            assert (asked.answer.number, asked.status, asked.code) == (number, Status.TRY_AGAIN, "not_primary")
            assert asked.text == "this node is not the primary; node 0000000000000007 is"
        world.agents._primary_of = lambda _partition: None
        nobody = Asked()
        world.agents.open_session(OpenSession(4, PartitionId(5)), nobody.respond)
        assert nobody.text == "this node is not the primary"


async def test_no_time_that_a_peer_may_send_stops_a_node() -> None:
    for timeout_s in (float("nan"), -1.0):
        with pytest.raises(ValueError, match="timeout_s"):
            Call(1, PARTITION, "tally", "a", "add", b"", timeout_s)
    with pytest.raises(ValueError, match="keep_s"):
        Call(1, PARTITION, "tally", "a", "add", b"", 1.0, keep_s=float("nan"))
    with pytest.raises(ValueError, match="a call of a turn has a request id"):
        Call(1, PARTITION, "tally", "a", "add", b"", 1.0, origin=Origin(PARTITION, Epoch(1), 1, 1))
    fields = dict(enumerate((1, 0, "tally", "a", "add", b"", float("nan")), start=1))
    with pytest.raises(wire.WireError, match="timeout_s is nan"):
        wire.decode(wire.dumps([wire.VERSION, 0x55, fields]))


async def test_a_call_without_a_session_does_not_join_a_read_of_somebody_else() -> None:
    async with serving() as world:
        await world.done("add", 5, key="secret")
        reading = world.call("total_behind", "g", key="secret")
        await settle()
        tokens = [int(identity[1]) for identity in world.agents._serving[PARTITION].running]
        for token in tokens:
            stranger = world.call("total", session=0, request=token)
            assert (stranger.status, stranger.code) == (Status.REFUSED, "unknown_session")
        world.gates.gate("g").set()
        await settle()
        world.log.confirm()
        assert reading.result == 5


async def test_an_id_that_a_user_chose_is_another_than_the_same_one_of_a_turn() -> None:
    async with serving() as world:
        origin = Origin(PARTITION, Epoch(1), 1, horizon=1)
        of_a_turn = world.call("add_behind", "g", 1, request_id="same", origin=origin)
        of_a_user = world.call("add_behind", "g", 10, request_id="same")
        world.gates.gate("g").set()
        await settle()
        world.log.commit()
        assert (of_a_turn.result, of_a_user.result) == (1, 11)
        assert world.call("add_behind", "g", 1, request_id="same", origin=origin).result == 1
        assert world.call("add_behind", "g", 10, request_id="same").result == 11


async def test_a_request_answers_everybody_once() -> None:
    async with serving() as world:
        asked = world.call("add_behind", "g", request=1)
        await settle()
        (request,) = world.agents._serving[PARTITION].running.values()
        assert isinstance(request, Request)
        world.gates.gate("g").set()
        await settle()
        world.log.commit()
        request.respond(recorded(0, world.log.decoded()[-1].reply))
        assert asked.result == 1
