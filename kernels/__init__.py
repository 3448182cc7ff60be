"""Batched prediction on OpenCL, with a numpy reference. Imports nothing of the rest of this project, and neither
pyopencl nor any driver until an engine is opened.

1. Describe a network with `Mlp` and `Layer`, or read one with `Mlp.from_bytes`, which trusts no byte.
2. Open one engine with `open_engine(preference=..., cache_dir=...)`. It always succeeds; `engine.description` says what
   it runs on, and why not on something better. Say so to the operator.
3. `load` a model once, then `predict` (softmax) or `classify` (argmax) batches of rows with its handle, from one
   thread at a time. Both run on the device to their end.
4. A `DeviceError` costs the batch a rerun: `reference.forward(model, rows)` answers the same rows. The engine is no
   longer healthy; close it, which raises nothing, and open another.
5. `cache_dir` holds native code that the driver will run: give a directory that only this user can write.
"""

from kernels.description import Backend, Description
from kernels.device import DeviceInfo, Discovery, Kind, devices, discover
from kernels.engine import NUMPY, Engine, NumpyEngine, open_engine
from kernels.errors import DeviceError, ModelError, RowsError, TooManyModelsError, UnknownModelError
from kernels.model import LAYERS_MAX, MODEL_BYTES_MAX, WIDTH_MAX, Layer, Mlp
from kernels.roster import MODELS_MAX, ModelHandle

__all__ = [
    "LAYERS_MAX",
    "MODELS_MAX",
    "MODEL_BYTES_MAX",
    "NUMPY",
    "WIDTH_MAX",
    "Backend",
    "Description",
    "DeviceError",
    "DeviceInfo",
    "Discovery",
    "Engine",
    "Kind",
    "Layer",
    "Mlp",
    "ModelError",
    "ModelHandle",
    "NumpyEngine",
    "RowsError",
    "TooManyModelsError",
    "UnknownModelError",
    "devices",
    "discover",
    "open_engine",
]
