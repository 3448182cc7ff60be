"""When a plan lets membership alone, so that what it finds out late is its own fault."""

from math import inf

import pytest

from simulations.cores.faults import ClockRate, Crash, Cut, LinkQuality, Pause, Slow
from simulations.faults import Faults, NewDisk, StuckLoop, WallJump
from simulations.mesh.beliefs import AFTERMATH_S, disturbances


@pytest.mark.parametrize(
    "faults",
    [
        Faults(),
        Faults(crashes=(Crash(0, 1.0, 2.0),), new_disks=(NewDisk(1, 1.0, 2.0),)),
        Faults(stuck_loops=(StuckLoop(0, 1.0, 2.0),), clocks=(ClockRate(0, 1.2),), wall_jumps=(WallJump(1, 9.0, 1.0),)),
    ],
)
def test_crashes_and_clocks_disturb_nothing(faults: Faults) -> None:
    assert list(disturbances(faults)) == []


def test_whatever_delays_or_drops_datagrams_disturbs_as_long_as_it_lasts_and_a_little_longer() -> None:
    faults = Faults(
        quality=LinkQuality(loss=0.1),
        calm_s=9.0,
        cuts=(Cut(frozenset({0}), frozenset({1}), 1.0, 2.0),),
        slow=(Slow(0, LinkQuality(), 4.0),),
        pauses=(Pause(0, 5.0, 1.0),),
    )
    assert sorted(disturbances(faults)) == [
        (0.0, 9.0 + AFTERMATH_S),
        (1.0, 3.0 + AFTERMATH_S),
        (4.0, inf),
        (5.0, 6.0 + AFTERMATH_S),
    ]
