"""How long a disk takes, in virtual seconds."""

import math
from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskCosts:
    """The defaults are those of a solid-state disk behind a page cache.

    Attributes:
        call_s: any operation, before what it moves.
        transfer_s_per_kib: each KiB that is read or appended.
        sync_s_min: a sync of a file or a directory takes at least this,
        sync_s_max: and at most this, evenly spread.

    Raises:
        ValueError: a duration is negative or infinite, or the bounds are the wrong way round.
    """

    call_s: float = 2e-6
    transfer_s_per_kib: float = 0.5e-6
    sync_s_min: float = 0.5e-3
    sync_s_max: float = 2e-3

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 <= value < math.inf:
                raise ValueError(f"{field.name} = {value}: choose 0 seconds or more")
        if self.sync_s_min > self.sync_s_max:
            raise ValueError(f"sync_s_min = {self.sync_s_min} is above sync_s_max = {self.sync_s_max}: exchange them")
