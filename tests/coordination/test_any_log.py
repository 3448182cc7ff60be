"""Any log of commands: the state is what its twin says, and what must hold of it does."""

from hypothesis import given
from hypothesis import strategies as st

from meshnode.coordination.commands import (
    Acquire,
    BeginSession,
    Command,
    Compare,
    Release,
    Renew,
    RequestId,
    Step,
    Tick,
    Transact,
)
from meshnode.coordination.image import items_of, state_from
from meshnode.coordination.questions import AwaitChanges
from meshnode.coordination.state import Coordination
from tests.coordination.twin import Twin

SESSIONS = st.sampled_from([1, 2, 3, 9])
NUMBERS = st.integers(1, 8)
NAMES = st.lists(st.sampled_from("abc"), min_size=1, max_size=3, unique=True).map(tuple)
KEYS = st.sampled_from(["k", "l", "m"])
TTLS_MS = st.sampled_from([1000, 5000, 60_000])


@st.composite
def requests(draw: st.DrawFn) -> RequestId:
    number = draw(NUMBERS)
    return RequestId(draw(SESSIONS), number, draw(st.integers(1, number)))


STEPS = st.one_of(
    st.builds(Step.put, KEYS, st.sampled_from(["1", "2"]), ttl=st.sampled_from([None, None, 1.0, 30.0])),
    st.builds(Step.delete, KEYS),
    st.builds(Step.get, KEYS),
)
BRANCHES = st.lists(STEPS, max_size=3, unique_by=lambda step: step.key).map(tuple)
COMPARES = st.lists(st.builds(Compare.exists, KEYS) | st.builds(Compare.is_absent, KEYS), max_size=1).map(tuple)
COMMANDS: st.SearchStrategy[Command] = st.one_of(
    st.builds(BeginSession, st.just("n")),
    st.builds(Acquire, requests(), NAMES, TTLS_MS),
    st.builds(Acquire, requests(), NAMES, TTLS_MS),
    st.builds(Release, requests(), NUMBERS),
    st.builds(Transact, requests(), COMPARES, BRANCHES, BRANCHES),
    st.builds(Renew, SESSIONS, st.lists(NUMBERS, max_size=4).map(tuple)),
    st.builds(Tick, st.sampled_from([1, 1, 1, 2]), st.integers(0, 2000)),
    st.builds(Tick, st.just(2), st.just(2000)),
)
LOGS = st.tuples(st.lists(COMMANDS, max_size=60), st.lists(st.sampled_from([0, 25]), max_size=3)).map(
    lambda drawn: [*[BeginSession("n")] * 3, *drawn[0], *[Tick(2, 2000)] * sum(drawn[1]), *drawn[0]]
)


def plain(state: Coordination) -> Twin:
    """The state as its twin keeps it, without what nobody can ask for any more."""
    return Twin(
        state.now_ms,
        state.tick_term,
        {one.session: {"deadline": one.deadline_ms, "answered": one.answered} for one in state.sessions},
        [
            {
                "session": claim.session,
                "number": claim.number,
                "names": claim.names,
                "ttl": claim.ttl_ms,
                "deadline": claim.deadline_ms,
                "token": claim.token,
            }
            for claim in state.queues
        ],
        {
            entry.key: {
                "value": entry.value,
                "created": entry.created,
                "modified": entry.modified,
                "version": entry.version,
                "deadline": entry.deadline_ms,
            }
            for entry in state.store.freeze()
        },
    )


@given(LOGS)
def test_every_log_leads_to_what_its_twin_says(commands: list[Command]) -> None:
    state, twin = Coordination(), Twin()
    highest: dict[str, int] = {}
    for stamp, command in enumerate(commands, start=1):
        state.apply(stamp, command)
        twin.apply(stamp, command)
        found = plain(state)
        found.done = twin.done
        assert found == twin
        for claim in state.queues:
            for name in claim.names:
                if claim.token == stamp:
                    assert stamp > highest.get(name, 0), "a name is granted once by one command"
                    highest[name] = stamp


@given(LOGS, st.integers(0, 60))
def test_a_state_from_a_snapshot_goes_on_as_the_one_that_it_was_made_of(commands: list[Command], place: int) -> None:
    state = Coordination()
    other = Coordination()
    for stamp, command in enumerate(commands, start=1):
        reply = state.apply(stamp, command)
        if stamp > place:
            assert other.apply(stamp, command) == reply
            assert other.freeze() == state.freeze()
        if stamp == place:
            frozen = state_from(items_of(state.freeze()))
            assert frozen == state.freeze()
            other.restore(frozen)
            assert other.freeze() == frozen
            assert (other.seen, other.version) == (state.seen, state.version)


@given(LOGS)
def test_whoever_watches_has_the_keys_in_the_end(commands: list[Command]) -> None:
    state = Coordination()
    keys: dict[str, bytes] = {}
    after = 0
    for stamp, command in enumerate(commands, start=1):
        state.apply(stamp, command)
        news = AwaitChanges("", after).look(state)
        for revision in () if news is None else news.revisions:
            assert after < revision.revision == stamp
            after = revision.revision
            for change in revision.changes:
                if change.entry is None:
                    del keys[change.key]
                else:
                    keys[change.key] = change.entry.value
        assert keys == {entry.key: entry.value for entry in state.store.freeze()}
