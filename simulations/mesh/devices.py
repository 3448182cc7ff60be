"""The devices on which nodes compute predictions, and their end in the middle of a batch."""

import contextlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import meshnode.prediction.backend as backend
from kernels import DeviceError
from kernels.engine import NumpyEngine
from kernels.model import Floats
from kernels.roster import ModelHandle

_OPENED_BY = "open_engine"
"""What a node's predictions ask for a device: the one place from which they get it."""


class SimDevice(NumpyEngine):
    """Computes as the reference path does, until it fails for good.

    Attributes:
        batches_left: how many it still computes; None for any number.
    """

    def __init__(self, name: str, failed: Counter[str]) -> None:
        super().__init__(f"the simulated device of {name}")
        self.batches_left: int | None = None
        self._name = name
        self._failed = failed

    @property
    def healthy(self) -> bool:
        return self.batches_left != 0

    def predict(self, handle: ModelHandle, rows: Floats) -> Floats:
        if self.batches_left is not None:
            if self.batches_left <= 1:
                self.batches_left = 0
                self._failed["device in a batch"] += 1
                raise DeviceError(f"the device of {self._name} fails in the middle of {len(rows)} rows")
            self.batches_left -= 1
        return super().predict(handle, rows)


class Devices:
    """One for each node, by the name under which the node asks for it; each process finds it whole.

    Args:
        failed: counts those that failed at work.
    """

    def __init__(self, failed: Counter[str]) -> None:
        self._failed = failed
        self._devices: dict[str, SimDevice] = {}

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """While this lasts, nodes that look for a device find these."""
        found = getattr(backend, _OPENED_BY)
        setattr(backend, _OPENED_BY, self._open)
        try:
            yield
        finally:
            setattr(backend, _OPENED_BY, found)

    def spoil(self, name: str, *, batches: int) -> None:
        """Have the device fail in the batch after so many more, if a process has it open."""
        device = self._devices.get(name)
        if device is not None and device.batches_left is None:
            device.batches_left = batches + 1

    def _open(self, *, preference: str, cache_dir: Path | None) -> SimDevice:
        device = self._devices[preference] = SimDevice(preference, self._failed)
        return device
