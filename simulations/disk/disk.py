"""A machine's data directory, in memory."""

import copy
from collections import Counter
from collections.abc import Callable
from typing import NewType

from meshnode.errors import DataDirectoryError
from simulations.disk.atlas import FaultAtlas
from simulations.disk.content import Content
from simulations.disk.costs import DiskCosts
from simulations.disk.device import Device
from simulations.disk.faults import DiskFaults
from simulations.disk.handle import SimFile
from simulations.disk.names import Names
from simulations.disk.operation import Operation
from simulations.disk.power_loss import lose_power

SECTOR_BYTES = 512
"""The smallest unit that a disk writes as a whole."""

Life = NewType("Life", int)
"""The process that has the disk."""


class SimDisk:
    """See the package. A `consensus.disk.Disk`; `list` is in the order of the names.

    Operations raise OSError as a kernel does, or by a fault, and ValueError for a path that is not made of plain names.

    Args:
        name: tells the disk from others: in messages, in what is drawn, to the atlas.
        seed: of everything that is drawn.
        faults: how it fails; may be exchanged at any time.
        costs: how long it takes.
        atlas: shared with the other disks of the mesh. Without one, every disk may lose what was synced.
        sector_bytes: what it writes as a whole.

    Attributes:
        name: as given.
        faults: as given or exchanged.
        on_operation: called with the operation's name and its path before each operation. It may raise: then nothing of
            that operation has happened.
        fired: how often each fault struck, by its name. `lost_sector` and `lost_name` are what power losses took of
            what was not synced; `shown_sector` is a stale, misdirected or dropped sector that came to light.
    """

    def __init__(
        self,
        name: str,
        *,
        seed: int,
        faults: DiskFaults | None = None,
        costs: DiskCosts | None = None,
        atlas: FaultAtlas | None = None,
        sector_bytes: int = SECTOR_BYTES,
    ) -> None:
        if sector_bytes < 2:
            raise ValueError(f"sectors of {sector_bytes} bytes can't be torn: take 2 or more")
        self._device = Device(name, seed=seed, faults=faults or DiskFaults(), costs=costs or DiskCosts(), atlas=atlas)
        self._names = Names()
        self._sector_bytes = sector_bytes
        self._holder: Life | None = None
        self._acquisitions = 0
        self._directory_syncs = 0
        # How often a file of each name was made, for keyed draws. As many names as the node ever made: dozens.
        self._births: Counter[str] = Counter()

    @property
    def name(self) -> str:
        return self._device.name

    @property
    def faults(self) -> DiskFaults:
        return self._device.faults

    @faults.setter
    def faults(self, faults: DiskFaults) -> None:
        self._device.faults = faults

    @property
    def on_operation(self) -> Callable[[str, str], None] | None:
        return self._device.on_operation

    @on_operation.setter
    def on_operation(self, hook: Callable[[str, str], None] | None) -> None:
        self._device.on_operation = hook

    @property
    def fired(self) -> Counter[str]:
        return self._device.fired

    @property
    def used_bytes(self) -> int:
        """Of all files that have a name or are open: what `DiskFaults.capacity_bytes` is compared with."""
        return self._device.used_bytes

    @property
    def elapsed_s(self) -> float:
        """What `take_elapsed` would return."""
        return self._device.elapsed_s

    def take_elapsed(self) -> float:
        """Virtual seconds that the operations since the last call took; `math.inf` if one of them is stuck."""
        elapsed_s, self._device.elapsed_s = self._device.elapsed_s, 0.0
        return elapsed_s

    # ---- what happens to the machine

    def acquire(self) -> Life:
        """Take the disk for a process.

        Raises:
            DataDirectoryError: another process has it. Nothing was changed.
        """
        if self._holder is not None:
            raise DataDirectoryError(
                f"data directory {self.name} is locked by a running node: stop it, or give another one with --data"
            )
        self._acquisitions += 1
        self._holder = Life(self._acquisitions)
        return self._holder

    def release(self, life: Life) -> None:
        """Give the disk back, at the orderly end of a process. Does nothing if it does not have it any more."""
        if self._holder == life:
            self._holder = None

    def crash(self, *, power_loss: bool = True) -> None:
        """End the process that has the disk: it is released, and files that are open are of no use any more.

        Whoever crashes a process also keeps it from this object: another process may have the disk by then.

        Args:
            power_loss: the machine goes as well. What was not synced is lost or kept, piece by piece, and what remains
                is durable. Without it, as by SIGKILL, the cache stays as it is.
        """
        device = self._device
        device.crashes += 1
        self._holder = None
        if power_loss:
            self._lose_power()
        device.used_bytes = 0
        for _path, content in self._names.files():
            if content.room or content.synced_room:
                content.show_room(content.synced_room if power_loss else content.room)
                if power_loss:
                    content.restart()
            content.handles = 0
            content.links = 1
            device.used_bytes += len(content.cached)

    def fork(self, name: str, *, seed: int) -> "SimDisk":
        """A copy as of now, cache and hidden damage included, with the same faults, for nobody yet.

        Crash it, if what was not synced is not to be taken along. The atlas knows it as another disk: whoever puts a
        copy of a broken disk into a mesh breaks one more.
        """
        device = self._device
        twin = SimDisk(
            name,
            seed=seed,
            faults=device.faults,
            costs=device.costs,
            atlas=device.atlas,
            sector_bytes=self._sector_bytes,
        )
        twin._names = copy.deepcopy(self._names)
        twin._births = Counter(self._births)
        twin._directory_syncs = self._directory_syncs
        for _path, content in twin._names.files():
            content.handles = 0
            twin._device.used_bytes += len(content.cached)
        return twin

    def _lose_power(self) -> None:
        device, faults = self._device, self._device.faults
        names = device.chance.generator("names", 0, device.crashes)
        device.count("lost_name", self._names.lose_power(names, in_order=faults.in_order))
        for _path, content in self._names.files():
            promised = content.confirmed
            if not content.is_clean:
                losses = lose_power(
                    content,
                    device.chance.generator("sectors", content.key, device.crashes),
                    in_order=faults.in_order,
                    torn_sector_rate=faults.torn_sector_rate,
                )
                device.count("lost_sector", losses.lost_sectors)
                device.count("torn_sector", losses.torn_sectors)
                device.count("shown_sector", losses.shown_sectors)
            if (
                promised
                and device.strikes("bit_rot", faults.bit_rot_rate, content.key, device.crashes)
                and device.may_destroy()
            ):
                rng = device.chance.generator("bit_rot", content.key, device.crashes)
                device.count("bit_rot", content.rot(rng, begin=0, end=promised))

    # ---- what processes ask for

    def open(self, path: str, *, create: bool) -> SimFile:
        """Open for reading and appending."""
        self._device.begin(Operation.OPEN, path)
        if create and self._names.find(path) is None:
            content = Content(self._device.chance.subject(path, self._births[path]), self._sector_bytes)
            self._names.add(path, content)
            content.links = 1
            self._births[path] += 1
        return SimFile(self._device, self._names.file(path), path)

    def exists(self, path: str) -> bool:
        """Whether the path is there."""
        self._device.begin(Operation.EXISTS, path)
        return self._names.find(path) is not None

    def rename(self, old: str, new: str) -> None:
        """Replace ``new`` by ``old`` in one step; durable after `sync_directory`."""
        self._device.begin(Operation.RENAME, old)
        replaced = self._names.rename(old, new)
        if replaced is not None:
            self._unlink(replaced)

    def remove(self, path: str) -> None:
        """Delete a file; durable after `sync_directory`. Who has it open keeps it."""
        self._device.begin(Operation.REMOVE, path)
        self._unlink(self._names.remove(path))

    def list(self, directory: str) -> list[str]:
        """The names in a directory, in order."""
        self._device.begin(Operation.LIST, directory)
        return sorted(self._names.directory(directory).entries)

    def make_directory(self, path: str) -> None:
        """Make a directory and its parents, unless they are there; durable after `sync_directory` of the parents."""
        self._device.begin(Operation.MAKE_DIRECTORY, path)
        self._names.make_directory(path)

    def sync_directory(self, path: str) -> None:
        """Make the names in the directory durable, though not its own name."""
        device = self._device
        device.begin(Operation.SYNC_DIRECTORY, path)
        self._names.sync(path)
        device.take_time_to_sync(device.chance.subject(path, 0), self._directory_syncs)
        self._directory_syncs += 1

    def _unlink(self, content: Content) -> None:
        content.links = 0
        if not content.handles:
            self._device.used_bytes -= len(content.cached)
