"""Whatever happens in whatever order: at most once, no answer before its commit, and no false "nothing was changed"."""

from dataclasses import dataclass, field

import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from meshnode import wire
from meshnode.agents.config import AgentsConfig
from meshnode.agents.ledger import Turn
from meshnode.agents.messages import Answer, Call, Status
from tests.agents.world import PARTITION, World, serving, settle

REQUESTS = 6
TIMEOUT_S = 20.0

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("call"), st.integers(1, REQUESTS)),
        st.tuples(st.just("call"), st.integers(1, REQUESTS)),  # twice as often as anything else
        st.tuples(st.just("open gate"), st.integers(1, REQUESTS)),
        st.tuples(st.just("settle"), st.just(0)),
        st.tuples(st.just("commit"), st.integers(1, 3)),
        st.tuples(st.just("depose"), st.integers(0, 1)),
        st.tuples(st.just("serve"), st.just(0)),
        st.tuples(st.just("lease"), st.integers(0, 1)),
        st.tuples(st.just("elapse"), st.sampled_from([5, 50])),
    ),
    max_size=40,
)


def method_of(request: int) -> str:
    """Some requests wait in the middle of their turn, and one always fails."""
    return {1: "change_and_raise", 2: "add", 3: "add"}.get(request, "add_behind")


def key_of(request: int) -> str:
    return "ab"[request % 2]


@dataclass
class Watcher:
    """Asks, and checks each answer when it leaves."""

    world: World
    answered: dict[int, list[Answer]] = field(default_factory=dict)

    def call(self, request: int) -> None:
        arguments: list[object] = {
            "add": [request],
            "add_behind": [f"gate {request}", request],
            "change_and_raise": [],
        }[method_of(request)]  # type: ignore[assignment]
        call = Call(
            request, PARTITION, "tally", key_of(request), method_of(request), wire.dumps([arguments, {}]),
            TIMEOUT_S, self.world.session, request, 1,
        )  # fmt: skip
        self.world.agents.call(call, lambda answer: self.answer(request, answer))

    def answer(self, request: int, answer: Answer) -> None:
        self.answered.setdefault(request, []).append(answer)
        if answer.status in (Status.DONE, Status.FAILED):
            assert self.world.log.machine.sessions[self.world.session].replies is not None
            assert request in self.recorded(committed=True), "an answer left before its record was committed"
        if answer.status is Status.DONE:
            assert request in self.seen()

    def turns(self, *, committed: bool) -> list[Turn]:
        records = self.world.log.decoded()[: self.world.log.committed if committed else None]
        return [record for record in records if isinstance(record, Turn)]

    def recorded(self, *, committed: bool) -> list[int]:
        return [turn.number for turn in self.turns(committed=committed)]

    def seen(self) -> list[int]:
        """All additions in the committed states."""
        states = self.world.log.machine.states.values()
        return [number for state in states for number in wire.loads(state)["seen"]]


async def play(steps: list[tuple[str, int]]) -> None:
    async with serving(AgentsConfig(session_s=1e9)) as world:
        watcher = Watcher(world)
        is_serving = True
        ever_recorded: set[int] = set()
        for step, value in steps:
            match step:
                case "call":
                    watcher.call(value)
                case "open gate":
                    world.gates.gate(f"gate {value}").set()
                case "settle":
                    await settle()
                case "commit" if is_serving:
                    world.log.commit(min(len(world.log.records), world.log.committed + value))
                case "depose" if is_serving:
                    ever_recorded.update(watcher.recorded(committed=False))
                    world.log.depose(keep=bool(value))
                    is_serving = False
                case "serve" if not is_serving:
                    world.log.serve()
                    is_serving = True
                case "lease":
                    world.log.has_lease = bool(value)
                case "elapse":
                    await trio.sleep(value)
        for number in range(1, REQUESTS + 1):
            world.gates.gate(f"gate {number}").set()
        await settle()
        if is_serving:
            world.log.commit()
        ever_recorded.update(watcher.recorded(committed=False))
        check(watcher, ever_recorded)


def check(watcher: Watcher, ever_recorded: set[int]) -> None:
    seen = watcher.seen()
    assert len(seen) == len(set(seen)), "a request took effect twice"
    recorded = watcher.recorded(committed=True)
    assert len(recorded) == len(set(recorded)), "a request has two records"
    assert set(seen) == {turn.number for turn in watcher.turns(committed=True) if not turn.reply.code}
    for request, answers in watcher.answered.items():
        statuses = {answer.status for answer in answers}
        payloads = {answer.payload for answer in answers if answer.status in (Status.DONE, Status.FAILED)}
        assert len(payloads) <= 1, "a request had two ends"
        assert Status.DONE not in statuses or request in seen
        assert Status.FAILED not in statuses or request in recorded
        if statuses <= {Status.TRY_AGAIN, Status.REFUSED}:
            assert request not in ever_recorded, "a caller was told that nothing was changed"


@given(STEPS)
def test_a_request_takes_effect_at_most_once_and_its_callers_are_told_the_truth(steps: list[tuple[str, int]]) -> None:
    trio.run(play, steps, clock=trio.testing.MockClock(autojump_threshold=0))
