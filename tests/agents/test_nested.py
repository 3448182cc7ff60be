"""What is kept for turns that may run again, and what is let go: nothing that anybody may still ask for."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.agents import nested
from meshnode.agents.nested import Nested
from meshnode.agents.origin import OPEN_MAX, Lineage, Origin
from meshnode.agents.reply import Reply
from meshnode.identity import Epoch, PartitionId
from tests.agents.world import PARTITION

TURNS = 3
CALLS = 1
DONE = Reply("", b"done")

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("call"), st.integers(0, TURNS - 1), st.integers(0, CALLS - 1)),
        st.tuples(st.just("call"), st.integers(0, TURNS - 1), st.integers(0, CALLS - 1)),
        st.tuples(st.just("old call"), st.integers(0, TURNS - 1), st.integers(0, CALLS - 1)),
        st.tuples(st.just("deliver"), st.integers(0, 99), st.just(0)),
        st.tuples(st.just("deliver"), st.integers(0, 99), st.just(0)),
        st.tuples(st.just("deliver"), st.integers(0, 99), st.just(0)),
        st.tuples(st.just("end"), st.integers(0, TURNS - 1), st.just(0)),
        st.tuples(st.just("take over"), st.just(0), st.just(0)),
        st.tuples(st.just("copy"), st.just(0), st.just(0)),
    ),
    max_size=60,
)


@dataclass
class Primary:
    """One epoch of the partition whose turns make the calls; it may go on after it was deposed."""

    lineage: Lineage
    numbers: dict[int, int] = field(default_factory=dict)

    def call(self, turn: int, call: int) -> tuple[str, Origin]:
        if turn not in self.numbers:
            self.numbers[turn] = self.lineage.begin()
        return (f"{turn}.{call}", self.lineage.origin(self.numbers[turn]))


def play(steps: list[tuple[str, int, int]]) -> None:
    primaries = [Primary(Lineage(PARTITION, Epoch(1)))]
    ended: set[int] = set()
    sent: list[tuple[str, Origin]] = []
    callee = Nested()
    effects: list[str] = []
    for step, first, second in steps:
        present = primaries[-1]
        match step:
            case "call" if first not in ended:
                sent.append(present.call(first, second))
            case "old call" if len(primaries) > 1:
                sent.append(primaries[-2].call(first, second))
            case "deliver" if sent:  # at any time, in any order, any number of times
                name, origin = sent[-1 - first % len(sent)]
                if ("x", "k", name) not in callee.replies and not callee.is_over(origin):
                    effects.append(name)
                    callee.keep(("x", "k", name), origin, until_s=1.0, reply=DONE)
            case "end" if first in present.numbers:
                present.lineage.end(present.numbers[first])
                ended.add(first)
            case "take over":
                primaries.append(Primary(Lineage(PARTITION, Epoch(len(primaries) + 1))))
            case "copy":
                copy = Nested()
                copy.restore(callee.snapshot())
                callee = copy
    assert len(effects) == len(set(effects)), "a call took effect twice"


@given(STEPS)
def test_whatever_is_sent_late_or_twice_or_by_an_old_primary_takes_effect_once(
    steps: list[tuple[str, int, int]],
) -> None:
    play(steps)


@given(st.lists(st.booleans(), max_size=3 * OPEN_MAX), st.integers(1, 200))
def test_an_origin_says_of_a_turn_that_it_has_ended_only_if_it_has(begins: list[bool], ahead: int) -> None:
    lineage = Lineage(PARTITION, Epoch(1))
    still_open: list[int] = []
    begun = 0
    before = lineage.origin(1)
    for step, is_begin in enumerate(begins):
        if is_begin or not still_open:
            begun += 1
            still_open.append(lineage.begin())
        else:
            lineage.end(still_open.pop(step * ahead % len(still_open)))
        origin = lineage.origin(1)
        assert origin.is_after(before)
        assert not before.is_after(origin)
        ended = [turn for turn in range(1, begun + 2) if origin.has_ended(turn)]
        assert not set(ended) & set(still_open)
        assert begun + 1 not in ended
        if len(still_open) <= OPEN_MAX:
            assert len(ended) == begun - len(still_open)
        before = origin


def test_an_origin_lists_no_more_open_turns_than_fit() -> None:
    lineage = Lineage(PARTITION, Epoch(1))
    for _ in range(2 * OPEN_MAX):
        lineage.begin()
    assert lineage.origin(1).open == tuple(range(1, OPEN_MAX + 1))
    assert lineage.origin(1).horizon == OPEN_MAX + 1
    with pytest.raises(ValueError, match="lists 65 open turns: at most 64"):
        Origin(PARTITION, Epoch(1), 1, 100, tuple(range(OPEN_MAX + 1)))


def origin(turn: int, *, horizon: int, epoch: int = 1, partition: int = 0) -> Origin:
    return Origin(PartitionId(partition), Epoch(epoch), turn, horizon)


def keep(kept: Nested, name: str, of: Origin) -> None:
    kept.keep(("x", "k", name), of, until_s=1.0, reply=DONE)


def test_news_of_one_partition_says_nothing_of_another() -> None:
    kept = Nested()
    keep(kept, "a", origin(1, horizon=1))
    keep(kept, "b", origin(2, horizon=2, partition=1))
    assert len(kept.replies) == 2
    assert not kept.is_over(origin(1, horizon=1))


def test_what_an_older_epoch_asked_for_is_kept_since_its_turns_may_run_again() -> None:
    kept = Nested()
    keep(kept, "a", origin(1, horizon=1))
    for horizon in (7, 8, 9):
        keep(kept, "b", origin(7, horizon=horizon, epoch=2))
        assert "a" in {name for _type, _key, name in kept.replies}
        if horizon == 8:
            kept.restore(kept.snapshot())
    kept.expire(1.0)
    assert {name for _type, _key, name in kept.replies} == {"a", "b"}
    kept.expire(1.1)
    assert kept.replies == {}


def test_what_was_let_go_is_not_asked_for_again() -> None:
    kept = Nested()
    keep(kept, "a", origin(1, horizon=1))
    keep(kept, "b", origin(2, horizon=2))
    assert {name for _type, _key, name in kept.replies} == {"b"}
    assert kept.is_over(origin(1, horizon=1)), "a late copy"
    assert not kept.is_over(origin(2, horizon=2))
    assert not kept.is_over(origin(1, horizon=1, epoch=2)), "a new epoch counts its turns anew"
    keep(kept, "c", origin(5, horizon=1, epoch=2))
    assert kept.is_over(origin(2, horizon=2)), "an old primary"
    assert kept.is_over(origin(9, horizon=2)), "an old primary, whatever it begins"
    assert not kept.is_over(origin(1, horizon=1, epoch=2))


def test_news_that_comes_late_takes_nothing_back() -> None:
    kept = Nested()
    keep(kept, "a", origin(1, horizon=1))
    keep(kept, "b", origin(3, horizon=3))
    keep(kept, "c", origin(4, horizon=1))
    assert kept.is_over(origin(1, horizon=1))


def test_there_is_room_again_for_a_call_that_lets_others_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nested, "NESTED_MAX", 2)
    kept = Nested()
    keep(kept, "a", origin(1, horizon=1))
    keep(kept, "b", origin(2, horizon=1))
    assert not kept.has_room(origin(3, horizon=1))
    assert not kept.has_room(origin(3, horizon=9, epoch=2))
    assert not kept.has_room(origin(3, horizon=9, partition=1))
    assert kept.has_room(origin(3, horizon=2))
    keep(kept, "c", origin(3, horizon=2))
    assert {name for _type, _key, name in kept.replies} == {"b", "c"}
