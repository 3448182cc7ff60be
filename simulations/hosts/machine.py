"""A machine: what outlives the processes that run on it."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import trio

from simulations.disk import SimDisk
from simulations.kernel import Events

DEADLINES_MIN = 256
"""So many scopes are kept before those that are over are looked for."""

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
        # Where the clock stood when its rate changed last: its own time, and the world's.
        self._local_s = self.skew.offset_s
        self._world_s = 0.0
        # Deadlines that follow the clock, with their times on it; those that are over are dropped as others come.
        self._deadlines: dict[trio.CancelScope, float] = {}
        self._deadlines_max = DEADLINES_MIN
        # What waits for a disk that does not answer.
        self._stuck: list[Callable[[], object]] = []

    def disk(self, root: str) -> SimDisk:
        """The data directory ``root``, made if absent."""
        if root not in self.disks:
            self.disks[root] = self._make_disk(root)
        return self.disks[root]

    def stick(self, wake: Callable[[], object]) -> None:
        """A disk does not answer: ``wake`` is called by `unstick`."""
        self._stuck.append(wake)

    def unstick(self) -> None:
        """The disks answer again."""
        stuck, self._stuck = self._stuck, []
        for wake in stuck:
            wake()

    def jump(self, by_s: float) -> None:
        """Somebody sets the wall clock."""
        self.skew = replace(self.skew, wall_offset_s=self.skew.wall_offset_s + by_s)

    def run_at(self, rate: float) -> None:
        """The clocks go on from where they are at another rate."""
        self._local_s, self._world_s = self.now(), self.events.now
        self.skew = replace(self.skew, rate=rate)
        self._drop_deadlines()
        for scope, at in self._deadlines.items():
            scope.deadline = self.world_time(at)

    # ---- clocks

    def now(self) -> float:
        """Monotonic seconds."""
        return self._local_s + (self.events.now - self._world_s) * self.skew.rate

    def wall_clock(self) -> float:
        """What people read."""
        return EPOCH_S + self.skew.wall_offset_s + self.now() - self.skew.offset_s

    def world_time(self, at: float) -> float:
        """The first moment of the world at which `now` shows ``at`` or more."""
        local_s, world_s, rate = self._local_s, self._world_s, self.skew.rate
        time_s = world_s + (at - local_s) / rate
        while local_s + (time_s - world_s) * rate < at:  # it was rounded down
            time_s = math.nextafter(time_s, math.inf)
        return time_s

    def deadline(self, at: float) -> trio.CancelScope:
        """A scope that is cancelled when `now` shows ``at``, however fast the clock runs until then."""
        if math.isinf(at):
            return trio.CancelScope(deadline=at)
        scope = trio.CancelScope(deadline=self.world_time(at))
        if len(self._deadlines) >= self._deadlines_max:
            self._drop_deadlines()
            self._deadlines_max = max(DEADLINES_MIN, 2 * len(self._deadlines))
        self._deadlines[scope] = at
        return scope

    def forget_deadlines(self) -> None:
        """The process that had them is no more."""
        self._deadlines.clear()

    def _drop_deadlines(self) -> None:
        """Forget the scopes that were left."""
        self._deadlines = {
            scope: at
            for scope, at in self._deadlines.items()
            if scope._cancel_status is not None or not scope._has_been_entered
        }
