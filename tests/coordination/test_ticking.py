"""Counting time: what is counted has passed, on one leader's clock; and no TTL is shorter than it was said to be."""

from hypothesis import given
from hypothesis import strategies as st

from meshnode.coordination.bounds import TICK_MS_MAX
from meshnode.coordination.commands import Acquire, BeginSession, Renew, RequestId, Tick
from meshnode.coordination.state import Coordination
from meshnode.coordination.ticking import Ticker

TTL_MS = 5000


def test_the_first_tick_of_a_term_counts_nothing() -> None:
    ticker = Ticker()
    assert ticker.tick(3, 100.0) == Tick(3, 0)
    assert ticker.tick(3, 101.5) == Tick(3, 1500)
    assert ticker.tick(5, 102.0) == Tick(5, 0)


def test_a_pause_of_the_leader_is_not_counted_in_full() -> None:
    ticker = Ticker()
    ticker.tick(3, 100.0)
    assert ticker.tick(3, 160.0) == Tick(3, TICK_MS_MAX)
    assert ticker.tick(3, 161.0) == Tick(3, 1000)


def test_after_a_rest_it_begins_anew() -> None:
    ticker = Ticker()
    ticker.tick(3, 100.0)
    ticker.rest()
    assert ticker.tick(3, 101.0) == Tick(3, 0)
    assert ticker.tick(3, 102.0) == Tick(3, 1000)


@st.composite
def courses(draw: st.DrawFn) -> list[tuple[float, str]]:
    """What happens when, in real seconds: ticks of two nodes that lead in turn, some lost or late; renewals."""
    at_s = 0.0
    course = []
    for _ in range(draw(st.integers(5, 60))):
        at_s += draw(st.sampled_from([0.0, 0.01, 0.4, 1.0, 1.0, 1.7, 3.0]))
        course.append(
            (at_s, draw(st.sampled_from(["tick", "tick", "tick", "lost", "late", "change", "rest", "renew"])))
        )
    return course


@given(courses())
def test_a_claim_outlives_its_ttl_whatever_becomes_of_leaders_and_ticks(course: list[tuple[float, str]]) -> None:
    state = Coordination()
    state.apply(1, BeginSession("n"))
    state.apply(2, Acquire(RequestId(1, 1, 1), ("a",), TTL_MS))
    renewed_s, stamp, term = 0.0, 2, 1
    tickers = [Ticker(), Ticker()]
    late: list[Tick] = []
    for at_s, event in course:
        stamp += 1
        match event:
            case "tick":
                state.apply(stamp, tickers[term % 2].tick(term, at_s))
            case "lost":
                tickers[term % 2].tick(term, at_s)
            case "late":  # forwarded to the next leader, and applied somewhere before or after its first tick
                late.append(tickers[term % 2].tick(term, at_s))
                term += 1
            case "change":
                term += 1
                for tick in late[-1:]:
                    state.apply(stamp, tick)
                late.clear()
            case "rest":
                tickers[term % 2].rest()
            case "renew":
                state.apply(stamp, Renew(1, (1,)))
                if state.queues.get((1, 1)) is not None:
                    renewed_s = at_s
        if state.queues.get((1, 1)) is None:
            assert at_s - renewed_s >= TTL_MS / 1000
            return
