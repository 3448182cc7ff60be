"""The engine on an OpenCL device. Importing this module needs pyopencl."""

import contextlib
import itertools
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyopencl as cl

from kernels import reference
from kernels.buffers import Pool
from kernels.description import Backend, Description
from kernels.device import DeviceInfo
from kernels.errors import DeviceError
from kernels.model import Floats, Layer, Mlp
from kernels.pipeline import Pipeline
from kernels.program import forget, program_for
from kernels.reference import HOST_FLOP_MAX, Classes
from kernels.roster import ModelHandle, OneAtATime, Roster
from kernels.tiling import Tiling, tiling_for

# A batch larger than this goes through in slices: enough rows to fill any device, and four blocks of it are in use at
# once (rows, two activations, probabilities).
BLOCK_BYTES_MAX: Final = 64 * 2**20
# What a pool keeps between batches: the two blocks of a largest batch.
_IDLE_BYTES_MAX: Final = 2 * BLOCK_BYTES_MAX
# Far above what float32 sums in another order differ by in the networks of the self-check, and far below what a
# device that miscompiles is off by.
_CHECK_TOLERANCE: Final = 1e-4


class OpenClEngine:
    """Prediction on one device. `kernels.engine.Engine` has the contract.

    A batch of so few operations that it is not worth a launch is answered by the reference path in the calling thread.
    """

    def __init__(
        self,
        device: DeviceInfo,
        *,
        cache_dir: Path | None,
        reason: str = "",
        tiling: Tiling | None = None,
        block_bytes_max: int = BLOCK_BYTES_MAX,
        host_flop_max: int = HOST_FLOP_MAX,
    ) -> None:
        """Builds the program and checks on two small networks that the device computes what it should.

        `reason` goes into the description; `tiling` overrides the one that suits the device; a batch of at most
        `host_flop_max` operations is not sent to the device. Raises DeviceError when the program cannot be built or
        the results are wrong.
        """
        program = program_for(device, tiling or tiling_for(device), cache_dir)
        self._description = Description(Backend.OPENCL, str(device), reason)
        self._healthy = True
        self._program = program
        self._roster: Roster[Pipeline] = Roster()
        self._alone = OneAtATime()
        self._block_bytes_max = min(block_bytes_max, device.allocation_bytes_max)
        self._host_flop_max = -1  # the check has to reach the device
        try:
            self._kernels = program.kernels()
            self._queue = cl.CommandQueue(program.context)
        except cl.Error as error:
            forget(program)
            raise DeviceError(f"{device} cannot be set up: {error}") from error
        self._staging = Pool(program.context, shared=device.shared_memory, idle_bytes_max=_IDLE_BYTES_MAX)
        self._scratch = Pool(program.context, shared=False, idle_bytes_max=_IDLE_BYTES_MAX)
        self._check()
        self._host_flop_max = host_flop_max

    @property
    def description(self) -> Description:
        return self._description

    @property
    def healthy(self) -> bool:
        return self._healthy

    def load(self, model: Mlp) -> ModelHandle:
        with self._alone:
            self._roster.check_room()
            try:
                pipeline = Pipeline(self._program, self._kernels, self._queue, model)
            except cl.Error as error:
                raise DeviceError(f"{self._description.device} cannot hold a {model.shape} model: {error}") from error
            return self._roster.add(pipeline)

    def predict(self, handle: ModelHandle, rows: Floats) -> Floats:
        with self._alone:
            pipeline = self._roster.get(handle)
            rows = reference.checked(pipeline.model, rows)
            self._check_health()
            if len(rows) * pipeline.flop_per_row <= self._host_flop_max:
                return reference.forward(pipeline.model, rows)
            probabilities = np.empty((len(rows), pipeline.outputs), np.float32)
            self._answer(pipeline, rows, probabilities, classes=False)
            return probabilities

    def classify(self, handle: ModelHandle, rows: Floats) -> Classes:
        with self._alone:
            pipeline = self._roster.get(handle)
            rows = reference.checked(pipeline.model, rows)
            self._check_health()
            if len(rows) * pipeline.flop_per_row <= self._host_flop_max:
                return reference.classify(reference.forward(pipeline.model, rows))
            classes = np.empty(len(rows), np.int32)
            self._answer(pipeline, rows, classes, classes=True)
            return classes

    def unload(self, handle: ModelHandle) -> None:
        with self._alone:
            self._roster.remove(handle).release()

    def close(self) -> None:
        with self._alone:
            for pipeline in self._roster.clear():
                pipeline.release()
            self._staging.clear()
            self._scratch.clear()

    def _check_health(self) -> None:
        if not self._healthy:
            raise DeviceError(f"{self._description.device} failed before; close this engine and open another")

    def _answer(self, pipeline: Pipeline, rows: Floats, out: np.ndarray[Any, Any], *, classes: bool) -> None:
        step = max(1, self._block_bytes_max // (4 * pipeline.floats_per_row))
        is_done = False
        try:
            for start in range(0, len(rows), step):
                self._slice(pipeline, rows[start : start + step], out[start : start + step], classes=classes)
            is_done = True
        except cl.Error as error:
            self._healthy = False
            forget(self._program)
            raise DeviceError(f"{self._description.device} failed on {len(rows)} rows: {error}") from error
        finally:
            if not is_done:
                # Commands already enqueued must not outlive the rows and blocks that they use, whatever went wrong.
                with contextlib.suppress(cl.Error):
                    self._queue.finish()

    def _slice(self, pipeline: Pipeline, rows: Floats, out: np.ndarray[Any, Any], *, classes: bool) -> None:
        count = len(rows)
        result = self._staging.take(4 * count * pipeline.outputs)
        borrowed = [(self._staging, result)]
        borrowed += pipeline.enqueue(rows, result, self._staging, self._scratch)
        if classes:
            chosen = self._staging.take(4 * count)
            borrowed.append((self._staging, chosen))
            pipeline.enqueue_argmax(result, chosen, count)
            result = chosen
        result.read(self._queue, out)
        for pool, block in borrowed:
            pool.give(block)

    def _check(self) -> None:
        """Drivers that compile and then compute nonsense exist. One network for each way through a pipeline, with
        widths that fill no tile."""
        rng = np.random.default_rng(0)
        for widths in ((5, 33, 3), (7, 300, 2)):
            layers = [
                Layer(rng.standard_normal((i, o), np.float32) / np.float32(i), rng.standard_normal(o, np.float32))
                for i, o in itertools.pairwise(widths)
            ]
            model = Mlp(tuple(layers))
            rows = rng.standard_normal((13, widths[0]), np.float32)
            handle = self.load(model)
            difference = np.abs(self.predict(handle, rows) - reference.forward(model, rows)).max()
            self.unload(handle)
            if not difference <= _CHECK_TOLERANCE:
                raise DeviceError(
                    f"{self._description.device} gives wrong results (off by {difference:.3g}); update its driver"
                )
