"""One interface to whatever answers predictions, and the choice of it."""

import logging
from pathlib import Path
from typing import Final, Protocol

from kernels import reference
from kernels.description import Backend, Description
from kernels.device import Discovery, discover, matching
from kernels.errors import DeviceError
from kernels.model import Floats, Mlp
from kernels.reference import Classes
from kernels.roster import ModelHandle, OneAtATime, Roster

logger: Final = logging.getLogger(__name__)

# The preference that asks for the reference path.
NUMPY: Final = "numpy"


class Engine(Protocol):
    """Models and their predictions.

    Not thread-safe: any thread may call, one at a time; an engine asserts it. Every call blocks until it is done.
    """

    @property
    def description(self) -> Description:
        """What computes, and why not something better."""
        ...

    @property
    def healthy(self) -> bool:
        """False once the device has failed; `predict` and `classify` then raise DeviceError until another is opened."""
        ...

    def load(self, model: Mlp) -> ModelHandle:
        """Make the model ready. Raises TooManyModelsError past MODELS_MAX models, and DeviceError when the device has
        no room for it; the models already loaded stay."""
        ...

    def predict(self, handle: ModelHandle, rows: Floats) -> Floats:
        """Probabilities, float32 (n, outputs), for float32 rows (n, inputs), n >= 0.

        Raises RowsError, UnknownModelError, and DeviceError when the device fails: then no row is answered, the engine
        is no longer healthy, and the batch can be rerun with `kernels.reference.forward`.
        """
        ...

    def classify(self, handle: ModelHandle, rows: Floats) -> Classes:
        """The first index of each row's largest probability, int32 (n,): four bytes a row leave the device, whatever
        the number of classes. Raises what `predict` does."""
        ...

    def unload(self, handle: ModelHandle) -> None:
        """Forget the model. Raises UnknownModelError."""
        ...

    def close(self) -> None:
        """Forget every model and give the memory back. The engine can be closed again, and load again.

        Raises nothing: memory that a failed device does not take back is lost together with the device.
        """
        ...


class NumpyEngine:
    """The reference path as an engine."""

    def __init__(self, reason: str) -> None:
        """`reason`: why not OpenCL."""
        self._description = Description(Backend.NUMPY, NUMPY, reason)
        self._roster: Roster[Mlp] = Roster()
        self._alone = OneAtATime()

    @property
    def description(self) -> Description:
        return self._description

    @property
    def healthy(self) -> bool:
        return True

    def load(self, model: Mlp) -> ModelHandle:
        with self._alone:
            return self._roster.add(model)

    def predict(self, handle: ModelHandle, rows: Floats) -> Floats:
        with self._alone:
            return reference.forward(self._roster.get(handle), rows)

    def classify(self, handle: ModelHandle, rows: Floats) -> Classes:
        return reference.classify(self.predict(handle, rows))

    def unload(self, handle: ModelHandle) -> None:
        with self._alone:
            self._roster.remove(handle)

    def close(self) -> None:
        with self._alone:
            self._roster.clear()


def open_engine(*, preference: str = "", cache_dir: Path | None = None, discovery: Discovery | None = None) -> Engine:
    """The best engine that this machine has: on its first device that builds the kernels and computes rightly, else on
    numpy. Which, and why not better, is in its `description`, and logged once.

    preference: "numpy", a kind ("gpu", "accelerator", "cpu"), or part of a device's, vendor's or platform's name; a
    device that does not match is not used. cache_dir: where compiled kernels are kept between processes; None compiles
    in each. discovery: what `kernels.device.discover` found, when it was called before.
    """
    engine = _choose(preference, cache_dir, discovery)
    logger.info("prediction runs on %s", engine.description)
    return engine


def _choose(preference: str, cache_dir: Path | None, discovery: Discovery | None) -> Engine:
    if preference.casefold() == NUMPY:
        return NumpyEngine("asked for")
    found = discovery or discover()
    problems = list(found.problems)
    candidates = matching(found.devices, preference)
    if found.devices and not candidates:
        names = ", ".join(str(device) for device in found.devices)
        problems.append(f"no device matches {preference!r}; there are: {names}")
    if candidates:
        from kernels.opencl import OpenClEngine  # needs pyopencl, which is known to be there once a device was found

        for device in candidates:
            try:
                return OpenClEngine(device, cache_dir=cache_dir, reason="; ".join(problems))
            except DeviceError as error:
                problems.append(str(error))
    return NumpyEngine("; ".join(problems))
