"""What callers hand in for rows, as float32: only numbers that float32 holds, and no copy of what is fine as it is."""

import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from kernels import Mlp
from meshnode.errors import InvalidArgument
from meshnode.prediction.backend import Rows

_LARGEST: Final = float(np.finfo(np.float32).max)
_LARGEST_DOUBLE: Final = float(np.finfo(np.float64).max)

_NUMBERS: Final[Any] = (int, float, np.integer, np.floating)

_NUMBER_KINDS: Final = "biuf"
"""Of numpy's kinds of types: truth values, integers with and without a sign, floats."""


def as_array(name: str, rows: npt.ArrayLike, model: Mlp) -> npt.NDArray[Any]:
    """The rows as an array of numbers, (n, inputs) or (inputs,), of any type.

    Raises:
        InvalidArgument: they are none, or do not fit the model.
    """
    try:
        given = np.asarray(rows)
        if given.dtype.kind in "mM" and given.size:  # times, which would become integers
            raise _unfit(name, str(given.flat[0]))
        if given.dtype.kind not in _NUMBER_KINDS:
            given = _of_objects(name, rows)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidArgument(f"model {name!r}: the rows are no array of numbers: {error}") from error
    if given.ndim not in (1, 2) or given.shape[-1] != model.inputs:
        raise InvalidArgument(f"model {name!r} takes rows of {model.inputs} numbers; the shape is {given.shape}")
    return given


def as_rows(name: str, given: npt.NDArray[Any]) -> Rows:
    """The array as contiguous float32. NaN and infinity stay what they are.

    Raises:
        InvalidArgument: a finite number is too large for float32.
    """
    with np.errstate(over="ignore"):
        rows: Rows = np.ascontiguousarray(given, dtype=np.float32)
    if given.dtype != np.float32:
        lost = np.isinf(rows) & np.isfinite(given)
        if lost.any():
            raise _unfit(name, given[lost][0])
    return rows


def _of_objects(name: str, rows: npt.ArrayLike) -> npt.NDArray[Any]:
    """The rows from what they hold one by one: lists whose numbers have no type in common, and what is no number."""
    given = np.asarray(rows, dtype=object)
    for value in given.flat:
        if not isinstance(value, _NUMBERS) or _LARGEST_DOUBLE < abs(value) < math.inf:
            raise _unfit(name, value)
    return given.astype(np.float64)


def _unfit(name: str, value: object) -> InvalidArgument:
    if isinstance(value, np.generic):
        value = value.item()
    # An integer of thousands of digits can't even be written out.
    shown = f"an integer of {value.bit_length()} bits" if isinstance(value, int) else f"{value!r:.80}"
    return InvalidArgument(
        f"model {name!r}: the rows are no array of numbers: {shown} is none that float32 holds (up to {_LARGEST:.3g})"
    )
