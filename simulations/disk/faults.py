"""What goes wrong with a disk, and how often: plain data, made by hand or drawn by a swarm."""

import math
from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskFaults:
    """Without arguments, a disk that only forgets what was not synced.

    The rates are probabilities, each asked on its own occasion. Plain numbers and switches: `dataclasses.asdict` of it
    is JSON.

    Attributes:
        in_order: a milder world: what survives a power loss is what came first, of each file's sectors and of the
            names, as from a file system that writes everything in the order in which it was asked.
        torn_sector_rate: per sector that was being written when the power failed: only its first bytes arrived.
        bit_rot_rate: per file and power loss: one bit of what was synced is another one afterwards.
        read_bit_rot_rate: per read: the same, of the bytes that are read.
        stale_rate: per sync of a file: one of the sectors to be written never gets to the medium. The cache hides it
            until it is dropped or the power fails.
        misdirected_rate: per sync of a file: one of the sectors to be written lands on another sector of the file.
            Hidden as before.
        sync_error_rate: per sync of a file: EIO. On a disk that may be broken, some of the data is then gone although
            the cache takes it for written: another sync succeeds, and this process and later ones read it, until the
            file's cache is dropped or the power fails. On any other disk the data stays to be written by the next sync.
        read_error_rate: per read: EIO, once.
        capacity_bytes: of all files together. An append that does not fit is cut off there: ENOSPC.
        slow_sync_rate: per sync of a file or directory: it takes `slow_sync_factor` times as long.
        slow_sync_factor: see there.
        stuck_sync_rate: per sync of a file or directory: it does its work and does not come back.
        silent: also damage that no reader can tell from a crash, such as the end of a file that never got to the medium
            though its sync returned. Nothing that relies on syncs survives that. Without it, a stale sector shows only
            if a later sync of the file has put more behind it, and a misdirected one lands on what was synced before:
            whoever reads the file can find out.

    Bit rot, stale and misdirected sectors and the data of a failed sync are the faults that destroy what was synced.

    Raises:
        ValueError: a rate is no probability, or another number makes no sense.
    """

    in_order: bool = False
    torn_sector_rate: float = 0.0
    bit_rot_rate: float = 0.0
    read_bit_rot_rate: float = 0.0
    stale_rate: float = 0.0
    misdirected_rate: float = 0.0
    sync_error_rate: float = 0.0
    read_error_rate: float = 0.0
    capacity_bytes: int | None = None
    slow_sync_rate: float = 0.0
    slow_sync_factor: float = 100.0
    stuck_sync_rate: float = 0.0
    silent: bool = False

    def __post_init__(self) -> None:
        for field in fields(self):
            if field.name.endswith("_rate") and not 0 <= getattr(self, field.name) <= 1:
                raise ValueError(f"{field.name} = {getattr(self, field.name)}: it is a probability, from 0 to 1")
        if self.capacity_bytes is not None and self.capacity_bytes < 0:
            raise ValueError(f"capacity_bytes = {self.capacity_bytes}: choose 0 bytes or more, or None for no end")
        if not 1 <= self.slow_sync_factor < math.inf:
            raise ValueError(
                f"slow_sync_factor = {self.slow_sync_factor}: choose 1 or more; stuck_sync_rate has no end"
            )
