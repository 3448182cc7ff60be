"""A model on a device, and the launches that take a batch through it.

A small network runs in one launch (`chain`), a larger one layer by layer (`dense`, then `softmax`). Nothing waits until
the result is read.
"""

import contextlib
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyopencl as cl

from kernels.buffers import Block, Pool
from kernels.model import Floats, Layer, Mlp
from kernels.program import Program
from kernels.tiling import CHAIN_BYTES_MAX, CHAIN_WIDTH_MAX, Tiling, row_tile

# Rows that lie a multiple of this apart fall into the same sets of a first-level cache, and evict each other.
_ALIAS_BYTES: Final = 4096


def packed_weights(layer: Layer, panel: int) -> Floats:
    """Weights as the kernels read them: (panels, inputs, panel), zero past the last column."""
    panels = -(-layer.outputs // panel)
    packed = np.zeros((panels * panel, layer.inputs), np.float32)
    packed[: layer.outputs] = layer.weights.T
    return np.ascontiguousarray(packed.reshape(panels, panel, layer.inputs).transpose(0, 2, 1))


def packed_bias(layer: Layer, panel: int) -> Floats:
    """The bias, zero up to a whole panel."""
    packed = np.zeros(-(-layer.outputs // panel) * panel, np.float32)
    packed[: layer.outputs] = layer.bias
    return packed


def row_stride(width: int) -> int:
    """The width, or a little more where rows would otherwise alias."""
    return width + 16 if 4 * width % _ALIAS_BYTES == 0 else width


def runs_as_chain(model: Mlp, tiling: Tiling) -> bool:
    """Whether one launch can take a row through the whole network."""
    widths = [tiling.padded(width) for width in (model.inputs, *(layer.outputs for layer in model.layers))]
    return max(widths) <= CHAIN_WIDTH_MAX and model.nbytes <= CHAIN_BYTES_MAX


@dataclass(frozen=True, slots=True)
class _Dense:
    """One layer on the device. `stride` is the distance in floats between the rows that it writes."""

    weights: Any
    bias: Any
    inputs: int
    panels: int
    stride: int
    rectify: int


class Pipeline:
    """One model, resident. `floats_per_row`: what a row takes in the widest block of a batch. Not thread-safe."""

    def __init__(self, program: Program, kernels: dict[str, Any], queue: Any, model: Mlp) -> None:
        """Raises pyopencl.Error when the device has no memory for the model."""
        self.model = model
        self._tiling = program.tiling
        self._units = program.device.compute_units
        self._kernels = kernels
        self._queue = queue
        self._context = program.context
        self._resident: list[Any] = []
        self._layers: list[_Dense] = []
        self._chain: tuple[Any, Any, int] | None = None
        self.outputs = model.outputs
        # A row costs two floating-point operations for each weight.
        self.flop_per_row = 2 * sum(layer.weights.size for layer in model.layers)
        try:
            if runs_as_chain(model, program.tiling):
                self._chain = self._load_chain()
            else:
                self._layers = [self._load_dense(number) for number in range(len(model.layers))]
        except cl.Error:
            self.release()
            raise
        strides = [row_stride(model.inputs), self.outputs, *(layer.stride for layer in self._layers)]
        self.floats_per_row = max(strides)

    def enqueue(self, rows: Floats, probabilities: Block, staging: Pool, scratch: Pool) -> list[tuple[Pool, Block]]:
        """Enqueue a batch. Gives back what it borrowed, to be returned to the pools once the queue is done.

        rows: (n, inputs), n >= 1, untouched until then; probabilities: room for n * outputs floats.
        """
        count, width = rows.shape
        stride = row_stride(width) if staging.shared else width
        entry = staging.take(4 * count * stride)
        borrowed = [(staging, entry)]
        entry.write(self._queue, rows, stride)
        if self._chain is not None:
            self._launch_chain(entry.argument, stride, probabilities.argument, count)
            return borrowed
        widest = 4 * count * max(layer.stride for layer in self._layers)
        source, target, other = entry, scratch.take(widest), scratch.take(widest)
        borrowed += [(scratch, target), (scratch, other)]
        for layer in self._layers:
            self._launch_dense(layer, source.argument, stride, target.argument, count)
            source, stride = target, layer.stride
            target, other = other, target
        self._launch_softmax(source.argument, probabilities.argument, count, stride)
        return borrowed

    def enqueue_argmax(self, probabilities: Block, classes: Block, count: int) -> None:
        """Enqueue the step from probabilities to classes, int32."""
        self._kernels["argmax"](
            self._queue, (count,), None, probabilities.argument, classes.argument, count, self.outputs
        )

    def release(self) -> None:
        """Give the model's memory back to the driver. What it does not take keeps nothing else from being released."""
        while self._resident:
            with contextlib.suppress(cl.Error):
                self._resident.pop().release()

    def _send(self, array: Floats | np.ndarray[Any, np.dtype[np.uint32]]) -> Any:
        flags = cl.mem_flags.READ_ONLY | cl.mem_flags.COPY_HOST_PTR
        self._resident.append(cl.Buffer(self._context, flags, hostbuf=array))
        return self._resident[-1]

    def _load_dense(self, number: int) -> _Dense:
        layer = self.model.layers[number]
        padded = self._tiling.padded(layer.outputs)
        return _Dense(
            weights=self._send(packed_weights(layer, self._tiling.panel)),
            bias=self._send(packed_bias(layer, self._tiling.panel)),
            inputs=layer.inputs,
            panels=padded // self._tiling.panel,
            stride=row_stride(padded),
            rectify=int(number + 1 < len(self.model.layers)),
        )

    def _load_chain(self) -> tuple[Any, Any, int]:
        panel = self._tiling.panel
        parts: list[Floats] = []
        plan: list[int] = []
        offset = 0
        for layer in self.model.layers:
            weights, bias = packed_weights(layer, panel).ravel(), packed_bias(layer, panel)
            plan += [layer.inputs, len(bias) // panel, offset, offset + len(weights)]
            parts += [weights, bias]
            offset += len(weights) + len(bias)
        width = max(self._tiling.padded(w) for w in (self.model.inputs, *(d.outputs for d in self.model.layers)))
        return self._send(np.concatenate(parts)), self._send(np.array(plan, np.uint32)), width

    def _launch_chain(self, rows: Any, stride: int, probabilities: Any, count: int) -> None:
        assert self._chain is not None
        parameters, plan, width = self._chain
        tiling = self._tiling
        tile = row_tile(tiling.chain_rows, rows=count, panels=1, compute_units=self._units)
        self._kernels[f"chain_{tile}"](
            self._queue,
            (-(-count // tile) * tiling.chain_items,),
            (tiling.chain_items,),
            rows,
            parameters,
            plan,
            probabilities,
            count,
            stride,
            len(self.model.layers),
            self.outputs,
            width,
            cl.LocalMemory(4 * 2 * tile * width),
        )

    def _launch_dense(self, layer: _Dense, rows: Any, stride: int, result: Any, count: int) -> None:
        tiling = self._tiling
        tile = row_tile(tiling.dense_rows, rows=count, panels=layer.panels, compute_units=self._units)
        self._kernels[f"dense_{tile}"](
            self._queue,
            (-(-count // tile) * layer.panels * tiling.dense_items,),
            (tiling.dense_items,),
            rows,
            layer.weights,
            layer.bias,
            result,
            count,
            layer.inputs,
            layer.panels,
            stride,
            layer.stride,
            layer.rectify,
        )

    def _launch_softmax(self, logits: Any, probabilities: Any, count: int, stride: int) -> None:
        tiling = self._tiling
        self._kernels["softmax"](
            self._queue,
            (-(-count // tiling.softmax_rows) * tiling.softmax_items,),
            (tiling.softmax_items,),
            logits,
            probabilities,
            count,
            self.outputs,
            stride,
        )
