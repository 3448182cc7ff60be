"""The forward pass in numpy: what the kernels are compared with, and what answers when there is no device.

Values that are not finite: a row of features with NaN, or with infinities that cancel, has NaN for every probability,
and class 0. No other row of the batch is touched by it. No warning is raised.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from kernels.errors import RowsError
from kernels.model import Floats, Mlp, element_type, is_float32

Classes = npt.NDArray[np.int32]

# A batch is one array here and at most as large on the device: more rows than this are several batches to the caller.
BATCH_ROWS_MAX: Final = 2**20
# A batch of at most this many floating-point operations is answered here even where there is a device: a launch and the
# wait for it take longer, 25 to 50 µs against 10 to 20 on one core.
HOST_FLOP_MAX: Final = 500_000


def checked(model: Mlp, rows: Floats) -> Floats:
    """The rows, C-contiguous.

    Raises RowsError unless rows are a float32 array of shape (n, model.inputs) with n <= BATCH_ROWS_MAX.
    """
    if not is_float32(rows):
        what = element_type(rows)
        raise RowsError(f"rows must be a float32 array, not {what}; use numpy.asarray(rows, numpy.float32)")
    if rows.ndim != 2 or rows.shape[1] != model.inputs:
        raise RowsError(f"rows must have shape (n, {model.inputs}) for a {model.shape} model, not {rows.shape}")
    if rows.shape[0] > BATCH_ROWS_MAX:
        raise RowsError(f"a batch has at most {BATCH_ROWS_MAX} rows, not {rows.shape[0]}; split it")
    return np.ascontiguousarray(rows)


def forward(model: Mlp, rows: Floats) -> Floats:
    """Probabilities, float32 of shape (n, model.outputs), for float32 rows of shape (n, model.inputs).

    Raises RowsError for rows of another dtype or shape.
    """
    values = checked(model, rows)
    with np.errstate(all="ignore"):
        for number, layer in enumerate(model.layers):
            values = values @ layer.weights
            values += layer.bias
            if number + 1 < len(model.layers):
                np.maximum(values, np.float32(0), out=values)
        return _softmax_in_place(values)


def classify(probabilities: Floats) -> Classes:
    """The class of each row: the first index of its largest probability, int32 of shape (n,); 0 for a row of NaN."""
    classes: Classes = probabilities.argmax(axis=1).astype(np.int32)
    return classes


def _softmax_in_place(logits: Floats) -> Floats:
    """Shifted by the row's maximum, so that no exponential overflows."""
    logits -= logits.max(axis=1, keepdims=True)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=1, keepdims=True)
    return logits
