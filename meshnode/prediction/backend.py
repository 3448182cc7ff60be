"""What computes batches, as the rest of the node sees it: asynchronous, so that it may live in another process."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import trio

from kernels import DeviceError, Engine, Mlp, ModelHandle, NumpyEngine, open_engine
from kernels import reference as reference_path
from meshnode.log import get_logger

Rows = npt.NDArray[np.float32]

MODELS_LOADED_MAX = 16
"""Models on the device at a time: the oldest one makes room, and is loaded again when it is asked for."""


class Backend(Protocol):
    """Computes one batch at a time."""

    @property
    def description(self) -> str:
        """The device, or "numpy" with the reason why no device is used; "opening" before `open` is done."""
        ...

    async def open(self) -> None:
        """Find the device and build what it needs. May take seconds the first time."""
        ...

    async def predict(self, model: Mlp, rows: Rows) -> Rows:
        """Probabilities, float32 (n, outputs), for float32 rows (n, inputs)."""
        ...

    async def aclose(self) -> None:
        """Give the device back."""
        ...


class EngineBackend:
    """An engine of `kernels` in this process, its work in a thread.

    Args:
        run_blocking: `Host.run_blocking`.
    """

    def __init__(
        self, run_blocking: Callable[[Callable[[], object]], Awaitable[object]], *, device: str, cache_dir: str
    ) -> None:
        self._run_blocking = run_blocking
        self._device = device
        self._cache_dir = Path(cache_dir) if cache_dir else None
        self._engine: Engine | None = None
        # By identity, since a digest of a model takes longer than a batch. The model is kept, so that no other one gets
        # its identity.
        self._handles: dict[int, tuple[Mlp, ModelHandle]] = {}
        self._alone = trio.Lock()
        self._log = get_logger()

    @property
    def description(self) -> str:
        return "opening" if self._engine is None else str(self._engine.description)

    async def open(self) -> None:
        async with self._alone:
            if self._engine is None:
                await self._run_blocking(self._open)
                self._log.info("prediction", device=self.description)

    async def predict(self, model: Mlp, rows: Rows) -> Rows:
        await self.open()
        async with self._alone:
            answers = await self._run_blocking(lambda: self._predict(model, rows))
        assert isinstance(answers, np.ndarray)
        return answers

    async def aclose(self) -> None:
        with trio.CancelScope(shield=True):
            async with self._alone:
                if self._engine is not None:
                    await self._run_blocking(self._engine.close)

    def _open(self) -> None:
        self._engine = open_engine(preference=self._device, cache_dir=self._cache_dir)

    def _predict(self, model: Mlp, rows: Rows) -> Rows:
        assert self._engine is not None
        try:
            return self._engine.predict(self._handle(model), rows)
        except DeviceError as error:
            self._log.error("device failed; predictions go on with numpy", device=self.description, error=str(error))
            self._engine.close()
            self._handles.clear()
            self._engine = NumpyEngine(f"{self._engine.description.device} failed: {error}")
            return reference_path.forward(model, rows)

    def _handle(self, model: Mlp) -> ModelHandle:
        if id(model) not in self._handles:
            if len(self._handles) >= MODELS_LOADED_MAX:
                self._unload_oldest()
            self._handles[id(model)] = (model, self._load(model))
        return self._handles[id(model)][1]

    def _load(self, model: Mlp) -> ModelHandle:
        """Raises DeviceError when the device has no room for this model alone."""
        assert self._engine is not None
        while True:
            try:
                return self._engine.load(model)
            except DeviceError:
                if not self._handles or not self._engine.healthy:
                    raise
                self._unload_oldest()

    def _unload_oldest(self) -> None:
        assert self._engine is not None
        _model, handle = self._handles.pop(next(iter(self._handles)))
        self._engine.unload(handle)
