"""An open file of a simulated disk."""

import errno

from simulations.disk.content import Content
from simulations.disk.device import Device
from simulations.disk.operation import APPEND, SYNC, Operation


class SimFile:
    """A `consensus.disk.File`: appended at its end, read anywhere.

    Once it is closed, or the process that opened it has crashed, everything raises OSError (EBADF) and does nothing.
    Only `close` may be called at any time, because a process may still get there while it is being killed.
    """

    __slots__ = ("_content", "_crashes", "_device", "_is_open", "_path", "_seen")

    def __init__(self, device: Device, content: Content, path: str) -> None:
        """Use `SimDisk.open`."""
        self._device = device
        self._content = content
        self._path = path
        self._crashes = device.crashes
        self._is_open = True
        # The file's size where another handle has made room in it, as of this moment, until this handle writes itself.
        self._seen = max(len(content.cached), content.room) if content.room else None
        content.handles += 1

    def size(self) -> int:
        """Bytes in the file."""
        self._check()
        return len(self._content.cached) if self._seen is None else self._seen

    def read(self, offset: int, size: int) -> bytes:
        """Up to ``size`` bytes from ``offset``; fewer only at the end of the file.

        Raises:
            OSError: EIO, by a fault. Nothing was changed.
            ValueError: a number is negative.
        """
        self._begin(Operation.READ)
        if offset < 0 or size < 0:
            raise ValueError(f"{size} bytes from {offset} of {self._path}: both are 0 or more")
        content, device = self._content, self._device
        occasion = content.reads
        content.reads += 1
        faults = device.faults
        if faults.read_error_rate and device.strikes("read_error", faults.read_error_rate, content.key, occasion):
            device.count("read_error")
            raise OSError(errno.EIO, "input/output error", self._path)
        if faults.read_bit_rot_rate and device.strikes("read_bit_rot", faults.read_bit_rot_rate, content.key, occasion):
            end = min(offset + size, content.confirmed)
            if offset < end and device.may_destroy():
                rng = device.chance.generator("read_bit_rot", content.key, occasion)
                device.count("read_bit_rot", content.rot(rng, begin=offset, end=end))
        with memoryview(content.cached) as view:
            data = bytes(view[offset : offset + size])
        if self._seen is not None and len(data) < size:
            data += bytes(max(0, min(offset + size, content.room) - max(offset, len(content.cached))))
        device.transfer(len(data))
        return data

    def append(self, data: bytes) -> None:
        """Add all of ``data`` at the end.

        Raises:
            OSError: ENOSPC; as much of it as had room is there.
        """
        self._begin(APPEND)
        self._seen = None
        content, device = self._content, self._device
        size = len(data)
        room = device.room(size)
        content.append(data if room == size else data[:room])
        device.used_bytes += room
        device.transfer(room)
        if room < size:
            device.count("no_space")
            raise OSError(errno.ENOSPC, "no space left on device", self._path)

    def reserve(self, size: int) -> None:
        """Have room for so many bytes in all, unless the disk is about to be full."""
        self._begin(Operation.RESERVE)
        self._seen = None
        if self._device.faults.capacity_bytes is None:
            self._content.room = max(self._content.room, size)

    def truncate(self, size: int) -> None:
        """Cut the file to ``size`` bytes.

        Raises:
            ValueError: it has fewer.
        """
        self._begin(Operation.TRUNCATE)
        self._seen = None
        before = len(self._content.cached)
        if not 0 <= size <= before:
            raise ValueError(f"{self._path} has {before} bytes and can't be cut to {size}")
        self._content.truncate(size)
        self._device.used_bytes -= before - size

    def sync(self) -> None:
        """Make the file durable: its bytes and its size, not its name.

        Raises:
            OSError: EIO, by a fault; see `DiskFaults.sync_error_rate` for what has happened then.
        """
        self._begin(SYNC)
        content, device = self._content, self._device
        occasion = content.syncs
        content.syncs += 1
        device.take_time_to_sync(content.key, occasion)
        faults = device.faults
        if faults.sync_error_rate and device.strikes("sync_error", faults.sync_error_rate, content.key, occasion):
            self._fail_to_sync(occasion)
        if not (faults.stale_rate or faults.misdirected_rate) or not self._sync_badly(occasion):
            content.sync()

    def drop_cache(self) -> None:
        """Have what is read from now on come from the medium; what was written is synced first.

        Raises:
            OSError: the sync failed, and the cache stays as it is.
        """
        content, promised = self._content, self._content.confirmed
        self.sync()
        # Whoever reads it may find that it ends in what nobody has promised, and cut it.
        content.confirmed = promised
        self._device.count("shown_sector", content.drop_cache())

    def close(self) -> None:
        """Release the file; once more does nothing."""
        if self._is_open:
            self._is_open = False
            content = self._content
            if self._crashes == self._device.crashes:
                content.handles -= 1
                if not content.handles:
                    content.room = 0
                if not content.handles and not content.links:
                    self._device.used_bytes -= len(content.cached)

    def _begin(self, operation: Operation) -> None:
        self._check()
        device = self._device
        device.begin(operation, self._path)
        if device.on_operation is not None:
            self._check()  # the hook may have ended the process

    def _check(self) -> None:
        if not self._is_open:
            raise OSError(errno.EBADF, "the file is closed", self._path)
        if self._crashes != self._device.crashes:
            raise OSError(errno.EBADF, "the process that opened the file has crashed", self._path)

    def _fail_to_sync(self, occasion: int) -> None:
        content, device = self._content, self._device
        device.count("sync_error")
        if content.can_break() and device.may_destroy():
            rng = device.chance.generator("sync_error", content.key, occasion)
            device.count("dropped_sector", content.fail_to_sync(rng))
        raise OSError(errno.EIO, "input/output error", self._path)

    def _sync_badly(self, occasion: int) -> bool:
        """Sync with a sector that does not get where it belongs, if one is to. Whether the sync was done so."""
        content, device, faults = self._content, self._device, self._device.faults
        for fault, rate, sync in (
            ("stale", faults.stale_rate, content.sync_leaving_one_stale),
            ("misdirected", faults.misdirected_rate, content.sync_misdirecting_one),
        ):
            if (
                device.strikes(fault, rate, content.key, occasion)
                and content.can_break()
                and device.may_destroy()
                and sync(device.chance.generator(fault, content.key, occasion), silent=faults.silent)
            ):
                device.count(fault)
                return True
        return False
