"""The calling side: the same request until there is an answer, and true errors when there is none."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import trio

from meshnode import wire
from meshnode.agents.caller import ARGUMENTS_BYTES_MAX, PAUSE_MAX_S, Caller
from meshnode.agents.definition import Agent, agent, handler
from meshnode.agents.ledger import OUTSTANDING_MAX, REQUEST_ID_CHARACTERS_MAX, REQUEST_ID_S
from meshnode.agents.messages import Answer, Call, OpenSession, Status
from meshnode.agents.reference import Reference
from meshnode.directory import ClientDirectory
from meshnode.errors import (
    AgentError,
    InvalidArgument,
    MeshError,
    OutcomeUnknown,
    Overloaded,
    TurnTimeout,
    Unavailable,
    UnknownMethod,
    UnknownSession,
)
from meshnode.identity import NodeId
from meshnode.links import LinkLost
from tests.agents.fake_host import FakeHost
from tests.agents.world import settle

A, B, NOBODY = NodeId(1), NodeId(2), NodeId(0)


@dataclass(frozen=True)
class Later:
    """Silence until an event, and then an answer."""

    event: trio.Event
    answer: Callable[[OpenSession | Call], Answer]


Step = Callable[[OpenSession | Call], Answer] | MeshError | Later
"""What becomes of one question: an answer, a lost link, or silence."""


def done(value: object = None) -> Callable[[OpenSession | Call], Answer]:
    return lambda _question: Answer(0, Status.DONE, payload=wire.dumps(value))


def ends(status: Status, code: str = "", text: str = "") -> Callable[[OpenSession | Call], Answer]:
    return lambda _question: Answer(0, status, code, text.encode())


def lost(*, was_sent: bool) -> MeshError:
    return LinkLost("the cable broke", was_sent=was_sent)


@dataclass
class Mesh:
    """One partition with a primary that does as the script says; sessions are opened as asked, numbered from 100."""

    host: FakeHost = field(default_factory=FakeHost)
    directory: ClientDirectory = field(default_factory=ClientDirectory)
    script: list[Step] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    asked: list[NodeId] = field(default_factory=list)
    openings: list[OpenSession] = field(default_factory=list)
    opening_steps: list[Step] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.caller = Caller(self.host, self.directory, self.exchange)
        self.name(A)

    def name(self, *primaries: NodeId) -> None:
        """The directory says so."""
        self.directory.update(self.directory.version + 1, primaries, {})

    async def exchange(self, primary: NodeId, question: Callable[[int], OpenSession | Call]) -> Answer:
        asking = question(1)
        match asking:
            case OpenSession():
                self.openings.append(asking)
                steps = self.opening_steps
                session = 99 + len(self.openings)
                step = steps.pop(0) if steps else lambda _: Answer(0, Status.DONE, session=session)
            case Call():
                self.asked.append(primary)
                self.calls.append(asking)
                step = self.script.pop(0)
        await trio.lowlevel.checkpoint()
        match step:
            case Later():
                await step.event.wait()
                return step.answer(asking)
            case MeshError():
                raise step
            case _:
                return step(asking)

    async def call(self, method: str = "add", *positional: Any, timeout_s: float = 10.0, **options: Any) -> Any:
        return await self.caller.call("tally", "a", method, positional, {}, timeout_s=timeout_s, **options)


def identity(call: Call) -> Call:
    """The call without what may differ when it is made again."""
    return replace(call, number=0, timeout_s=0.0)


# ---- answers


async def test_a_call_opens_a_session_and_returns_the_result() -> None:
    mesh = Mesh(script=[done(5)])
    assert await mesh.call("add", 5) == 5
    (call,) = mesh.calls
    assert (call.session, call.request, call.lowest, call.request_id, call.keep_s) == (100, 1, 1, "", 0.0)
    assert wire.loads(call.arguments) == [[5], {}]
    assert call.timeout_s == 10.0


async def test_a_session_is_opened_once_however_many_want_it() -> None:
    mesh = Mesh(script=[done(n) for n in range(20)])
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(mesh.call)
    assert len(mesh.openings) == 1
    assert sorted(call.request for call in mesh.calls) == list(range(1, 21))


async def test_each_call_says_which_requests_are_answered() -> None:
    slow = trio.Event()
    mesh = Mesh(script=[Later(slow, done()), done(), done(), done()])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mesh.call)
        await settle()
        await mesh.call()
        await mesh.call()
        slow.set()
    await mesh.call()
    assert [(call.request, call.lowest) for call in mesh.calls] == [(1, 1), (2, 1), (3, 1), (4, 4)]


@pytest.mark.parametrize(
    ("code", "text", "error"),
    [
        ("agent", "ValueError: no", AgentError),
        ("timeout", "too late", TurnTimeout),
        ("invalid_argument", "not so", InvalidArgument),
        ("unavailable", "said the handler", Unavailable),
        ("unknown_session", "said the handler", UnknownSession),
        ("code of a newer version", "said the handler", MeshError),
    ],
)
async def test_a_recorded_error_is_raised_even_when_an_earlier_answer_was_lost(
    code: str, text: str, error: type[MeshError]
) -> None:
    mesh = Mesh(script=[lost(was_sent=True), ends(Status.FAILED, code, text)])
    with pytest.raises(error) as caught:
        await mesh.call()
    assert type(caught.value) is error
    assert str(caught.value) == text
    assert len(mesh.openings) == 1


async def test_an_unreadable_result_is_an_error_of_this_package() -> None:
    mesh = Mesh(script=[lambda _question: Answer(0, Status.DONE, payload=b"\xff")])
    with pytest.raises(MeshError, match=r"tally/a\.add: the result is unreadable"):
        await mesh.call()


# ---- attempts


@pytest.mark.parametrize(
    "first",
    [
        lost(was_sent=False),
        lost(was_sent=True),
        ends(Status.TRY_AGAIN, "not_primary"),
        ends(Status.TRY_AGAIN, "overloaded"),
        ends(Status.UNKNOWN, "not_primary"),
    ],
)
async def test_a_call_is_made_again_under_the_same_identity(first: Step) -> None:
    mesh = Mesh(script=[first, first, done(5)])
    assert await mesh.call("add", 5) == 5
    assert len(mesh.calls) == 3
    assert len({identity(call) for call in mesh.calls}) == 1
    assert mesh.calls[0].timeout_s > mesh.calls[1].timeout_s > mesh.calls[2].timeout_s > 9.0


async def test_pauses_between_attempts_grow_to_a_bound() -> None:
    mesh = Mesh(script=[lost(was_sent=False)] * 1000)
    with pytest.raises(Unavailable):
        await mesh.call(timeout_s=20.0)
    assert 20.0 / PAUSE_MAX_S <= len(mesh.calls) <= 2 * 20.0 / PAUSE_MAX_S + 10


async def test_a_call_waits_until_it_is_known_how_the_mesh_is_partitioned() -> None:
    mesh = Mesh(script=[done(5)])
    mesh.name()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mesh.call)
        await trio.sleep(1.0)
        assert mesh.openings == []
        mesh.name(A)
    assert len(mesh.calls) == 1


async def test_a_call_waits_until_its_partition_has_a_primary() -> None:
    mesh = Mesh(script=[done(5)])
    mesh.name(NOBODY)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mesh.call)
        await trio.sleep(5.0)
        assert mesh.openings == []
        before = trio.current_time()
        mesh.name(B)
        await settle()
        assert mesh.asked == [B], "at once, not after a pause"
        assert trio.current_time() == before


async def test_a_wait_for_a_primary_ends_when_another_node_is_the_primary() -> None:
    mesh = Mesh(script=[Later(trio.Event(), done()), done(5)])
    before = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mesh.call)
        await settle()
        mesh.name(B)
    assert mesh.asked == [A, B]
    assert identity(mesh.calls[0]) == identity(mesh.calls[1])
    assert trio.current_time() == before, "no pause either"


async def test_a_wait_goes_on_when_another_partition_or_nothing_has_changed() -> None:
    answered = trio.Event()
    mesh = Mesh(script=[Later(answered, done())])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mesh.call)
        await settle()
        mesh.directory.changed(mesh.openings[0].partition)
        mesh.name(A)
        await settle()
        answered.set()
    assert mesh.asked == [A]


async def test_watches_are_gone_after_a_call() -> None:
    mesh = Mesh(script=[lost(was_sent=False), done(5)])
    await mesh.call()
    assert mesh.directory._actions == {}


# ---- no answer in time


@pytest.mark.parametrize(
    ("step", "error", "complaint"),
    [
        (lost(was_sent=False), Unavailable, "tally/a.add: no answer within 10 s. the cable broke"),
        (lost(was_sent=True), OutcomeUnknown, "it may take effect yet. the cable broke"),
        (ends(Status.TRY_AGAIN, "not_primary", "not me"), Unavailable, "no answer within 10 s. not me"),
        (ends(Status.TRY_AGAIN, "overloaded", "too much"), Overloaded, "tally/a.add: too much"),
        (ends(Status.UNKNOWN, "not_primary", "it moved"), OutcomeUnknown, "it may take effect yet. it moved"),
    ],
)
async def test_an_error_at_the_deadline_says_whether_anything_may_have_changed(
    step: Step, error: type[MeshError], complaint: str
) -> None:
    mesh = Mesh(script=[step] * 1000)
    began = trio.current_time()
    with pytest.raises(error) as caught:
        await mesh.call()
    assert type(caught.value) is error
    assert complaint in str(caught.value)
    assert trio.current_time() == began + 10.0


async def test_a_deadline_during_an_attempt_is_an_unknown_outcome() -> None:
    mesh = Mesh(script=[Later(trio.Event(), done())])
    with pytest.raises(OutcomeUnknown, match="node 0000000000000001 did not answer"):
        await mesh.call()


async def test_one_attempt_that_may_have_run_makes_the_outcome_unknown_whatever_follows() -> None:
    mesh = Mesh(script=[ends(Status.UNKNOWN), *[ends(Status.TRY_AGAIN, "overloaded", "too much")] * 1000])
    with pytest.raises(OutcomeUnknown, match="too much"):
        await mesh.call()


async def test_overloaded_is_told_only_when_that_was_the_last_reason() -> None:
    mesh = Mesh(script=[ends(Status.TRY_AGAIN, "overloaded", "too much"), *[lost(was_sent=False)] * 1000])
    with pytest.raises(Unavailable) as caught:
        await mesh.call()
    assert type(caught.value) is Unavailable


async def test_a_session_that_can_not_be_opened_changed_nothing() -> None:
    mesh = Mesh(opening_steps=[lost(was_sent=True)] * 1000)
    with pytest.raises(Unavailable, match="the cable broke"):
        await mesh.call()
    mesh = Mesh(opening_steps=[ends(Status.TRY_AGAIN, "overloaded", "too many sessions")] * 1000)
    with pytest.raises(Overloaded, match="too many sessions"):
        await mesh.call()


@pytest.mark.parametrize(
    ("primaries", "reason"),
    [((), "has not learned yet how the mesh is partitioned"), ((NOBODY,), "partition 0 has no active primary")],
)
async def test_a_mesh_that_is_not_there_is_unavailable(primaries: tuple[NodeId, ...], reason: str) -> None:
    mesh = Mesh()
    mesh.name(*primaries)
    with pytest.raises(Unavailable, match=reason):
        await mesh.call()


async def test_a_deadline_of_nothing_is_unavailable_at_once() -> None:
    mesh = Mesh()
    with pytest.raises(Unavailable):
        await mesh.call(timeout_s=0.0)


# ---- refusals


async def test_a_refusal_is_raised_as_it_is_when_nothing_was_tried_before() -> None:
    mesh = Mesh(script=[lost(was_sent=False), ends(Status.REFUSED, "unknown_method", "no such handler")])
    with pytest.raises(UnknownMethod, match="no such handler"):
        await mesh.call()


async def test_a_refusal_says_nothing_of_an_earlier_attempt_that_may_have_run() -> None:
    mesh = Mesh(script=[lost(was_sent=True), ends(Status.REFUSED, "unknown_method", "no such handler")])
    with pytest.raises(OutcomeUnknown, match=r"may have taken effect before; .*no such handler"):
        await mesh.call()


async def test_an_expired_session_is_replaced_unseen_when_the_request_surely_never_ran() -> None:
    expired = ends(Status.REFUSED, "unknown_session", "it has expired")
    mesh = Mesh(script=[done(1), done(2), lost(was_sent=False), expired, done(3)])
    assert [await mesh.call() for _ in range(3)] == [1, 2, 3]
    assert [(call.session, call.request) for call in mesh.calls] == [
        (100, 1), (100, 2), (100, 3), (100, 3), (101, 1),
    ]  # fmt: skip


async def test_an_expired_session_is_an_unknown_outcome_when_the_request_may_have_run() -> None:
    expired = ends(Status.REFUSED, "unknown_session", "it has expired")
    mesh = Mesh(script=[lost(was_sent=True), expired])
    with pytest.raises(OutcomeUnknown, match="it has expired"):
        await mesh.call()
    assert len(mesh.openings) == 1


async def test_calls_that_find_their_session_expired_together_open_one_new_session() -> None:
    expired = ends(Status.REFUSED, "unknown_session", "it has expired")
    mesh = Mesh(script=[done(), expired, expired, expired, done(), done(), done()])
    await mesh.call()
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(mesh.call)
    assert len(mesh.openings) == 2
    assert sorted((call.session, call.request) for call in mesh.calls[4:]) == [(101, 1), (101, 2), (101, 3)]


async def test_news_of_an_expired_session_that_come_late_do_not_end_the_new_one() -> None:
    expired = ends(Status.REFUSED, "unknown_session", "it has expired")
    late = trio.Event()
    mesh = Mesh(script=[done(), Later(late, expired), expired, done(), done(), done()])
    await mesh.call()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mesh.call)
        await settle()
        await mesh.call()
        late.set()
    await mesh.call()
    assert len(mesh.openings) == 2
    assert {call.session for call in mesh.calls[3:]} == {101}


async def test_too_many_calls_at_a_time_are_refused_here() -> None:
    hold = trio.Event()
    mesh = Mesh(script=[Later(hold, done())] * OUTSTANDING_MAX)
    async with trio.open_nursery() as nursery:
        for _ in range(OUTSTANDING_MAX // 2):
            nursery.start_soon(mesh.call)
        await settle()
        with pytest.raises(Overloaded, match="2048 calls to partition 0 are under way already"):
            await mesh.call()
        hold.set()
    assert len(mesh.calls) == OUTSTANDING_MAX // 2


async def test_calls_beside_a_very_slow_one_go_on_in_another_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshnode.agents.caller.OUTSTANDING_MAX", 8)
    hold = trio.Event()
    mesh = Mesh(script=[Later(hold, done("slow")), *[done()] * 10])
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def slow() -> None:
            assert await mesh.call() == "slow"

        await settle()
        for _ in range(10):
            await mesh.call()
        hold.set()
    assert [(call.session, call.request) for call in mesh.calls] == [
        *[(100, request) for request in range(1, 5)],
        *[(101, request) for request in range(1, 8)],
    ]


# ---- request ids


async def test_a_request_id_needs_no_session_and_says_how_long_its_reply_is_kept() -> None:
    mesh = Mesh(script=[lost(was_sent=True), done(5), done(6)])
    assert await mesh.call(request_id="order-1") == 5
    assert await mesh.call(request_id="order-2", keep_s=60.0, chain=("x/1",)) == 6
    assert mesh.openings == []
    first, again, second = mesh.calls
    assert identity(first) == identity(again)
    assert (first.session, first.request, first.request_id, first.keep_s) == (0, 0, "order-1", REQUEST_ID_S)
    assert (second.request_id, second.keep_s, second.chain) == ("order-2", 60.0, ("x/1",))


# ---- what is refused before anything is asked


@pytest.mark.parametrize(
    ("argument", "complaint"),
    [
        (object(), "an argument can't cross the mesh: .*object"),
        (2**64, "integers of 64 bits"),
        (b"x" * ARGUMENTS_BYTES_MAX, f"at most {ARGUMENTS_BYTES_MAX}"),
    ],
)
async def test_arguments_that_can_not_be_sent_are_refused(argument: object, complaint: str) -> None:
    mesh = Mesh()
    with pytest.raises(InvalidArgument, match=complaint):
        await mesh.call("add", argument)
    assert mesh.openings == []


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"timeout_s": -1.0}, "timeout_s is -1.0"),
        ({"timeout_s": float("nan")}, "timeout_s is nan"),
        ({"request_id": "r" * (REQUEST_ID_CHARACTERS_MAX + 1)}, "request id 'rrr"),
    ],
)
async def test_options_out_of_range_are_refused(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidArgument, match=complaint):
        await Mesh().call(**options)


async def test_a_key_out_of_range_is_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"^key ''"):
        await Mesh().caller.call("tally", "", "add", timeout_s=1.0)


# ---- references


@dataclass
class State:
    n: int = 0


@agent("typed", state=State)
class Typed(Agent[State]):
    @handler
    async def add(self, n: int) -> State:
        return State(n)


def reference(agent_type: Any, answer: object, key: Any = "k") -> tuple[Any, list[Any]]:
    calls: list[Any] = []

    async def invoke(*call: Any) -> Any:
        calls.append(call)
        return answer

    return Reference(agent_type, key, invoke), calls


async def test_a_typed_reference_gives_results_of_the_declared_types() -> None:
    ref, calls = reference(Typed, {"n": 3})
    assert await ref.add(3, m=4) == State(3)
    assert calls == [("typed", "k", "add", (3,), {"m": 4})]
    assert repr(ref) == "<reference to typed/k>"


async def test_a_reference_by_name_gives_plain_data() -> None:
    ref, calls = reference("typed", {"n": 3})
    assert await ref.whatever() == {"n": 3}
    assert calls == [("typed", "k", "whatever", (), {})]


async def test_a_result_of_another_type_is_a_clear_error() -> None:
    ref, _calls = reference(Typed, {"n": "3"})
    with pytest.raises(
        MeshError, match=r"typed/k.add returned something else .*Do both sides run the same application"
    ):
        await ref.add(3)


def test_a_reference_has_the_handlers_of_its_type_and_no_others() -> None:
    ref, _calls = reference(Typed, None)
    with pytest.raises(UnknownMethod, match="'typed' has no handler 'subtract'; it has: add"):
        _ = ref.subtract
    with pytest.raises(AttributeError):
        _ = ref._private
    for key in ("", 5):
        with pytest.raises(InvalidArgument, match="a key is a string"):
            reference(Typed, None, key)
    with pytest.raises(TypeError, match="decorate it with @agent"):
        reference(State, None)
