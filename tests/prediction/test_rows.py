"""What may be handed in for rows."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.errors import InvalidArgument
from meshnode.prediction.backend import Rows
from meshnode.prediction.rows import as_array, as_rows
from tests.prediction.networks import network, rows_of

LARGEST = float(np.finfo(np.float32).max)


def read(rows: Any) -> Rows:
    """As the predictor does, for a model of four inputs."""
    return as_rows("digits", as_array("digits", rows, network()))


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([1.0, 2.0], r"model 'digits' takes rows of 4 numbers; the shape is \(2,\)"),
        (np.zeros((2, 2, 4)), r"the shape is \(2, 2, 4\)"),
        (np.zeros((4, 2)), r"the shape is \(4, 2\)"),
        (3.0, "takes rows of 4 numbers"),
        (["a", "b"], "the rows are no array of numbers: 'a' is none that float32 holds"),
        (["1", "2", "3", "4"], "'1' is none that float32 holds"),
        (np.array(["1", "2", "3", "4"]), "'1' is none that float32 holds"),
        ([1.0, 2.0, "3", 4.0], "'3' is none that float32 holds"),
        ([None] * 4, "None is none that float32 holds"),
        ([1.0, 2.0, 3.0, None], "None is none that float32 holds"),
        (np.full(4, 1j), "1j is none that float32 holds"),
        (np.zeros(4, "datetime64[s]"), "'1970-.*' is none that float32 holds"),
        (np.zeros(4, "datetime64[ns]"), "'1970-.*' is none that float32 holds"),
        ([10**400] * 4, "an integer of 1329 bits is none that float32 holds"),
        ([10**5000] * 4, "an integer of 16610 bits is none that float32 holds"),
        ([1, 2, 3, -(2**200)], r"-1.6\d+e\+60 is none"),
        ([1.0, 2.0, 1e300, 4.0], r"1e\+300 is none that float32 holds \(up to 3.4e\+38\)"),
        (np.full((2, 4), -1e39), r"-1e\+39 is none that float32 holds"),
        ([[1, 2, 3, 4], [1]], "the rows are no array of numbers"),
    ],
)
def test_what_is_no_row_of_numbers_is_refused_with_the_value(rows: Any, complaint: str) -> None:
    with pytest.raises(InvalidArgument, match=complaint):
        read(rows)


@pytest.mark.parametrize(
    "rows",
    [
        [True, False, True, True],
        np.arange(4, dtype=np.uint8),
        [1, 2.5, np.float64(3), np.int16(4)],
        [2**70, 1, 2, -3],
        np.array([0, 1, -1, 0.5], np.float16),
        np.array([3, 2, 1, 0], ">f4"),
    ],
)
def test_numbers_of_any_type_are_rows(rows: Any) -> None:
    got = read(rows)
    assert got.dtype == np.float32
    assert got.tolist() == [float(value) for value in rows]


NUMBERS = st.floats() | st.floats(-LARGEST, LARGEST, width=32) | st.integers(-(2**140), 2**140)


@given(st.lists(NUMBERS, min_size=4, max_size=4))
def test_each_number_is_the_nearest_float32_or_is_refused(row: list[float]) -> None:
    with np.errstate(over="ignore"):
        expected = np.array([np.float32(float(value)) for value in row])
    if any(np.isinf(near) and abs(value) != float("inf") for value, near in zip(row, expected, strict=True)):
        with pytest.raises(InvalidArgument, match="is none that float32 holds"):
            read(row)
    else:
        np.testing.assert_array_equal(read(row), expected)


def test_what_is_float32_already_is_not_copied() -> None:
    rows = rows_of(3)
    assert read(rows) is rows
    assert read(rows[:, ::1].T.copy().T).flags.c_contiguous
