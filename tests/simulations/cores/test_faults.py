"""Faults are plain data that says when it is over, and refuses what makes no sense."""

import pytest

from simulations.cores.faults import FOREVER, NO_FAULTS, ClockRate, CoreFaults, Crash, Cut, LinkQuality, Pause


def test_the_last_fault_that_ends_is_the_end_of_all() -> None:
    crash, pause = Crash(1, 3.0, 4.0), Pause(2, 5.0, 1.0)
    assert NO_FAULTS.ends_s == 0.0
    assert CoreFaults(crashes=(crash,), pauses=(pause,)).ends_s == 7.0
    assert CoreFaults(crashes=(Crash(1, 3.0),), pauses=(pause,)).ends_s == 6.0
    assert CoreFaults(crashes=(crash,), calm_s=20.0).ends_s == 20.0
    assert CoreFaults(cuts=(Cut(frozenset([1]), frozenset([2]), 1.0, FOREVER),)).ends_s == 0.0


def test_only_a_plan_without_any_fault_is_quiet() -> None:
    assert NO_FAULTS.is_quiet
    assert not CoreFaults(pauses=(Pause(1, 0.0, 1.0),)).is_quiet
    assert not CoreFaults(quality=LinkQuality(loss=0.01)).is_quiet
    assert not CoreFaults(clocks=(ClockRate(1, 1.1),)).is_quiet


@pytest.mark.parametrize(
    ("field", "value"), [("loss", 1.1), ("duplicate", -0.1), ("late", 2.0), ("delay_s", -1.0), ("jitter_s", FOREVER)]
)
def test_a_link_quality_out_of_range_is_refused_by_name_and_value(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{field} = {value}"):
        LinkQuality(**{field: value})


def test_a_clock_that_is_none_and_a_sync_that_ends_before_it_begins_are_refused() -> None:
    with pytest.raises(ValueError, match=r"rate = 0\.0"):
        ClockRate(1, 0.0)
    with pytest.raises(ValueError, match="sync_s"):
        CoreFaults(sync_s=(0.2, 0.1))
