"""A machine: what outlives the processes that run on it."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from simulations.disk import SimDisk
from simulations.kernel import Events

EPOCH_S = 1_700_000_000.0
"""The wall clock of a world that has just begun: some day in 2023."""


@dataclass(frozen=True, slots=True)
class ClockSkew:
    """How a machine's clocks differ from the world's.

    Attributes:
        offset_s: what the monotonic clock shows when the world begins; it counts from nowhere in particular.
        rate: how fast both clocks run: 1.01 gains a second in 100.
        wall_offset_s: by how much the wall clock is wrong.
    """

    offset_s: float = 0.0
    rate: float = 1.0
    wall_offset_s: float = 0.0

    def __post_init__(self) -> None:
        if not 0.5 <= self.rate <= 2.0:
            raise ValueError(f"rate is {self.rate}: choose 0.5 to 2")


class Machine:
    """One machine of the world.

    Args:
        host: its address.
        make_disk: makes the disk of a data directory when it is first used.
        step_s: virtual seconds that each step of a process takes; 0 for a fast machine.
    """

    def __init__(
        self,
        events: Events,
        host: str,
        *,
        seed: int,
        make_disk: Callable[[str], SimDisk],
        skew: ClockSkew | None = None,
        step_s: float = 0.0,
    ) -> None:
        self.events = events
        self.host = host
        self.seed = seed
        self.skew = skew or ClockSkew()
        self.step_s = step_s
        self.lives = 0
        """How many processes have been started here."""
        self.disks: dict[str, SimDisk] = {}
        self._make_disk = make_disk

    def disk(self, root: str) -> SimDisk:
        """The data directory ``root``, made if absent."""
        if root not in self.disks:
            self.disks[root] = self._make_disk(root)
        return self.disks[root]

    def jump(self, by_s: float) -> None:
        """Somebody sets the wall clock."""
        skew = self.skew
        self.skew = ClockSkew(skew.offset_s, skew.rate, skew.wall_offset_s + by_s)

    # ---- clocks

    def now(self) -> float:
        """Monotonic seconds."""
        return self.skew.offset_s + self.events.now * self.skew.rate

    def wall_clock(self) -> float:
        """What people read."""
        return EPOCH_S + self.skew.wall_offset_s + self.events.now * self.skew.rate

    def world_time(self, at: float) -> float:
        """The first moment of the world at which `now` shows ``at`` or more."""
        skew = self.skew
        time_s = (at - skew.offset_s) / skew.rate
        while skew.offset_s + time_s * skew.rate < at:  # it was rounded down
            time_s = math.nextafter(time_s, math.inf)
        return time_s
