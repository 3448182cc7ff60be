"""Multi-layer perceptrons: values, checked once, and their bytes.

The bytes of a model, all little-endian:

    offset  0       4            8                       8 + 8 * layers
            "KMLP"  layers u32   (inputs u32,            per layer: weights f32 (inputs, outputs) row by row,
                                  outputs u32) each                 then bias f32 (outputs,)

Nothing follows. The bytes carry no checksum: whoever keeps or sends them compares `Mlp.digest()`.
"""

import hashlib
import itertools
import struct
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from kernels.errors import ModelError

Floats = npt.NDArray[np.float32]

# Deeper and wider networks than these are outside what dense layers are used for, and a hostile header must not be
# able to ask for more.
LAYERS_MAX: Final = 64
WIDTH_MAX: Final = 65_536
# One model in memory, several times over (host, packed, device), has to fit beside everything else of a node.
MODEL_BYTES_MAX: Final = 256 * 2**20

_MAGIC: Final = b"KMLP"
_HEADER: Final = struct.Struct("<4sI")
_SHAPE: Final = struct.Struct("<II")


def is_float32(array: object) -> bool:
    """Whether it is an array of float32 in the machine's byte order."""
    return isinstance(array, np.ndarray) and array.dtype == np.float32


def element_type(array: object) -> str:
    """What an array is made of, or what it is instead of an array, for an error message."""
    return str(array.dtype) if isinstance(array, np.ndarray) else type(array).__name__


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One dense layer, y = x @ weights + bias.

    weights: float32, shape (inputs, outputs); bias: float32, shape (outputs,). Both are copied and made read-only.
    Raises ModelError for another dtype or shape, for widths outside 1..WIDTH_MAX and for values that are not finite.
    """

    weights: Floats
    bias: Floats

    def __post_init__(self) -> None:
        for name, array, dimensions in (("weights", self.weights, 2), ("bias", self.bias, 1)):
            if not is_float32(array):
                what = element_type(array)
                raise ModelError(f"{name} must be a float32 array, not {what}; use numpy.asarray(..., numpy.float32)")
            if array.ndim != dimensions:
                raise ModelError(f"{name} must have {dimensions} dimension(s), not shape {array.shape}")
        if self.weights.shape[1] != self.bias.shape[0]:
            raise ModelError(
                f"weights of shape {self.weights.shape} need a bias of shape ({self.weights.shape[1]},), "
                f"not {self.bias.shape}; weights are (inputs, outputs)"
            )
        for side, width in (("inputs", self.inputs), ("outputs", self.outputs)):
            if not 1 <= width <= WIDTH_MAX:
                raise ModelError(f"a layer has 1 to {WIDTH_MAX} {side}, not {width}")
        for name, array in (("weights", self.weights), ("bias", self.bias)):
            if not np.isfinite(array).all():
                raise ModelError(f"{name} of a {self.inputs}→{self.outputs} layer hold NaN or infinity; train it again")
            kept = np.array(array, dtype=np.float32, order="C", copy=True)
            kept.flags.writeable = False
            object.__setattr__(self, name, kept)

    @property
    def inputs(self) -> int:
        """Columns of a row that goes in."""
        return int(self.weights.shape[0])

    @property
    def outputs(self) -> int:
        """Columns of a row that comes out."""
        return int(self.weights.shape[1])

    @property
    def nbytes(self) -> int:
        """Bytes of the weights and the bias."""
        return self.weights.nbytes + self.bias.nbytes


@dataclass(frozen=True, slots=True, eq=False)
class Mlp:
    """A multi-layer perceptron: ReLU between the layers, softmax after the last.

    Equal when the digests are. Raises ModelError when there is no layer or more than LAYERS_MAX, when a layer's inputs
    are not the outputs of the one before, and when the whole is larger than MODEL_BYTES_MAX.
    """

    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        if not 1 <= len(self.layers) <= LAYERS_MAX:
            raise ModelError(f"a network has 1 to {LAYERS_MAX} layers, not {len(self.layers)}")
        for number, (before, after) in enumerate(itertools.pairwise(self.layers), start=1):
            if before.outputs != after.inputs:
                raise ModelError(
                    f"layer {number} takes {after.inputs} inputs but layer {number - 1} has {before.outputs} outputs"
                )
        if self.nbytes > MODEL_BYTES_MAX:
            raise ModelError(f"a network has at most {MODEL_BYTES_MAX} bytes of parameters, not {self.nbytes}")

    def __eq__(self, other: object) -> bool:
        return self.digest() == other.digest() if isinstance(other, Mlp) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.digest())

    @property
    def inputs(self) -> int:
        """Columns of a row of features."""
        return self.layers[0].inputs

    @property
    def outputs(self) -> int:
        """Number of classes."""
        return self.layers[-1].outputs

    @property
    def nbytes(self) -> int:
        """Bytes of all weights and biases."""
        return sum(layer.nbytes for layer in self.layers)

    @property
    def shape(self) -> str:
        """The widths, for people: 784-512-10."""
        return "-".join(str(width) for width in (self.inputs, *(layer.outputs for layer in self.layers)))

    def digest(self) -> bytes:
        """SHA-256 of `to_bytes()`, 32 bytes: the same for the same network on every machine."""
        digest = hashlib.sha256()
        for part in self._parts():
            digest.update(part)
        return digest.digest()

    def to_bytes(self) -> bytes:
        """The network in the format at the head of this module."""
        return b"".join(self._parts())

    def _parts(self) -> list[bytes]:
        parts = [_HEADER.pack(_MAGIC, len(self.layers))]
        parts += [_SHAPE.pack(layer.inputs, layer.outputs) for layer in self.layers]
        for layer in self.layers:
            parts += [layer.weights.astype("<f4", copy=False).tobytes(), layer.bias.astype("<f4", copy=False).tobytes()]
        return parts

    @classmethod
    def from_bytes(cls, data: bytes | bytearray | memoryview) -> "Mlp":
        """The network that `to_bytes` made the bytes of.

        The bytes may come from anyone: what they claim is checked against their length before memory is taken. Raises
        ModelError, and nothing else, for bytes that are not a model.
        """
        view = memoryview(data).cast("B")
        shapes = _shapes(view)
        layers = []
        offset = _HEADER.size + _SHAPE.size * len(shapes)
        for inputs, outputs in shapes:
            weights = np.frombuffer(view, "<f4", inputs * outputs, offset).reshape(inputs, outputs)
            bias = np.frombuffer(view, "<f4", outputs, offset + weights.nbytes)
            offset += weights.nbytes + bias.nbytes
            layers.append(Layer(weights.astype(np.float32, copy=False), bias.astype(np.float32, copy=False)))
        assert offset == len(view)
        return cls(tuple(layers))


def _shapes(view: memoryview) -> list[tuple[int, int]]:
    """The (inputs, outputs) of each layer, once they are known to be allowed and to fill the bytes exactly."""
    if len(view) < _HEADER.size:
        raise ModelError(f"{len(view)} bytes are too few for a model")
    magic, count = _HEADER.unpack_from(view)
    if magic != _MAGIC:
        raise ModelError(f"a model starts with {_MAGIC!r}, not {magic!r}")
    if not 1 <= count <= LAYERS_MAX:
        raise ModelError(f"a network has 1 to {LAYERS_MAX} layers, not {count}")
    body = _HEADER.size + _SHAPE.size * count
    if len(view) < body:
        raise ModelError(f"the shapes of {count} layers need {body} bytes, but there are {len(view)}")
    shapes: list[tuple[int, int]] = list(_SHAPE.iter_unpack(view[_HEADER.size : body]))
    for inputs, outputs in shapes:
        if not (1 <= inputs <= WIDTH_MAX and 1 <= outputs <= WIDTH_MAX):
            raise ModelError(f"a layer has 1 to {WIDTH_MAX} inputs and outputs, not {inputs} and {outputs}")
    parameters = sum(4 * (inputs + 1) * outputs for inputs, outputs in shapes)
    if parameters > MODEL_BYTES_MAX:
        raise ModelError(f"a network has at most {MODEL_BYTES_MAX} bytes of parameters, not {parameters}")
    if len(view) != body + parameters:
        raise ModelError(f"these shapes take {body + parameters} bytes, but there are {len(view)}")
    return shapes
