"""What computes batches, as the rest of the node sees it: asynchronous, so that it may live in another process."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import trio

from kernels import MODELS_MAX, DeviceError, Engine, Mlp, ModelHandle, NumpyEngine, open_engine
from kernels import reference as reference_path
from meshnode.log import get_logger

Rows = npt.NDArray[np.float32]


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
        # The models that were used last, the latest at the end; None for one that the device cannot hold. At most
        # MODELS_MAX, which is what an engine takes: the least recently used one makes room, and is loaded again when it
        # is asked for. By identity, since a digest of a model takes longer than a batch. The model is kept, so that no
        # other one gets its identity.
        self._handles: dict[int, tuple[Mlp, ModelHandle | None]] = {}
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
                    self._handles.clear()
                    await self._run_blocking(self._engine.close)

    def _open(self) -> None:
        self._engine = open_engine(preference=self._device, cache_dir=self._cache_dir)

    def _predict(self, model: Mlp, rows: Rows) -> Rows:
        assert self._engine is not None
        try:
            handle = self._handle(model)
            if handle is not None:
                return self._engine.predict(handle, rows)
        except DeviceError as error:
            self._go_on_with_numpy(error)
        return reference_path.forward(model, rows)

    def _go_on_with_numpy(self, error: DeviceError) -> None:
        assert self._engine is not None
        failed = self._engine
        self._log.error("device failed; predictions go on with numpy", device=self.description, error=str(error))
        # Before anything is asked of the failed engine again: whatever it does then, the next batch has another one.
        self._engine = NumpyEngine(f"{failed.description.device} failed: {error}")
        self._handles.clear()
        try:
            failed.close()
        except Exception:  # noqa: BLE001 - a bug, which the log shows: the batch has an answer all the same
            self._log.exception("a failed device could not be given back")

    def _handle(self, model: Mlp) -> ModelHandle | None:
        """The model on the device, None where that cannot hold it. Raises DeviceError when the device fails."""
        known = self._handles.pop(id(model), None)
        if known is None:
            if len(self._handles) >= MODELS_MAX:
                self._forget_least_used()
            known = (model, self._load(model))
        self._handles[id(model)] = known
        return known[1]

    def _load(self, model: Mlp) -> ModelHandle | None:
        assert self._engine is not None
        while True:
            try:
                return self._engine.load(model)
            except DeviceError as error:
                if not self._engine.healthy:
                    raise
                if not any(handle is not None for _model, handle in self._handles.values()):
                    self._log.warning("numpy answers for one model", model=model.shape, error=str(error))
                    return None
                self._forget_least_used()

    def _forget_least_used(self) -> None:
        assert self._engine is not None
        _model, handle = self._handles.pop(next(iter(self._handles)))
        if handle is not None:
            self._engine.unload(handle)
