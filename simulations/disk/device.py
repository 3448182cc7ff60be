"""What all files of a disk have in common: how it fails, how long it takes, how much room is left."""

import math
from collections import Counter
from collections.abc import Callable

from simulations.disk.atlas import FaultAtlas
from simulations.disk.chance import Chance
from simulations.disk.costs import DiskCosts
from simulations.disk.faults import DiskFaults
from simulations.disk.operation import Operation


class Device:
    """See `simulations.disk.SimDisk`, which shows most of this to the outside.

    Attributes:
        crashes: how many there were; files that were open then are of no use any more.
        used_bytes: of all files that have a name or are open.
    """

    def __init__(
        self,
        name: str,
        *,
        seed: int,
        faults: DiskFaults,
        costs: DiskCosts,
        atlas: FaultAtlas | None,
    ) -> None:
        self.name = name
        self.faults = faults
        self.costs = costs
        self.atlas = atlas
        self.chance = Chance(seed, name)
        self.on_operation: Callable[[str, str], None] | None = None
        self.fired: Counter[str] = Counter()
        self.elapsed_s = 0.0
        self.used_bytes = 0
        self.crashes = 0

    def begin(self, operation: Operation, path: str) -> None:
        """Tell the hook of an operation, and count its time. Whatever the hook raises, nothing has happened yet."""
        if self.on_operation is not None:
            self.on_operation(operation, path)
        self.elapsed_s += self.costs.call_s

    def transfer(self, size: int) -> None:
        """Count the time that ``size`` bytes take."""
        self.elapsed_s += size * self.costs.transfer_s_per_kib / 1024

    def take_time_to_sync(self, subject: int, occasion: int) -> None:
        """Count the time that a sync takes, this one."""
        costs, faults = self.costs, self.faults
        duration_s = costs.sync_s_min
        if costs.sync_s_max > costs.sync_s_min:
            duration_s += (costs.sync_s_max - costs.sync_s_min) * self.chance.draw("sync_s", subject, occasion)
        if faults.slow_sync_rate and self.strikes("slow_sync", faults.slow_sync_rate, subject, occasion):
            duration_s *= faults.slow_sync_factor
            self.count("slow_sync")
        if faults.stuck_sync_rate and self.strikes("stuck_sync", faults.stuck_sync_rate, subject, occasion):
            duration_s = math.inf
            self.count("stuck_sync")
        self.elapsed_s += duration_s

    def count(self, fault: str, times: int = 1) -> None:
        """Note that a fault struck, if it did."""
        if times:
            self.fired[fault] += times

    def strikes(self, fault: str, rate: float, subject: int, occasion: int) -> bool:
        """Whether a fault happens on an occasion."""
        return rate > 0 and self.chance.draw(fault, subject, occasion) < rate

    def may_destroy(self) -> bool:
        """Whether synced data may be lost. Asked only where some is about to be."""
        return self.atlas is None or self.atlas.permits(self.name)

    def room(self, size: int) -> int:
        """How many of ``size`` bytes still fit."""
        if self.faults.capacity_bytes is None:
            return size
        return min(size, max(0, self.faults.capacity_bytes - self.used_bytes))
