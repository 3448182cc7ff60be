"""The clock and the end of a process."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulations.cores.faults import FOREVER
from simulations.cores.heap import EventHeap
from simulations.cores.process import Fuse, LocalClock, ProcessKilled


@given(st.floats(0.1, 10.0), st.lists(st.floats(0.0, 100.0), min_size=1, max_size=20).map(sorted))
def test_an_event_planned_for_a_local_time_comes_at_that_time_and_the_clock_never_falls(
    rate: float, plans: list[float]
) -> None:
    heap = EventHeap()
    clock = LocalClock(heap)
    clock.rate = rate
    latest_s = 0.0
    for planned_s in plans:
        heap.run_until(clock.virtual_s(planned_s))
        assert clock.now_s() == pytest.approx(planned_s)
        clock.has_come(planned_s)
        assert clock.now_s() >= max(planned_s, latest_s)
        latest_s = clock.now_s()


def test_a_lit_fuse_lets_just_so_many_effects_pass() -> None:
    fuse = Fuse()
    for _ in range(100):
        fuse.burn()
    assert fuse.effects_left == FOREVER
    fuse.effects_left = 2
    assert fuse.is_lit
    fuse.burn()
    fuse.burn()
    with pytest.raises(ProcessKilled):
        fuse.burn()
