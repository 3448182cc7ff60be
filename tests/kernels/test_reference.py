"""The numpy path against arithmetic written out in double precision."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels import reference
from kernels.errors import RowsError
from kernels.model import Layer, Mlp
from tests.kernels.networks import features, network, tolerance


def by_hand(model: Mlp, row: list[float]) -> list[float]:
    """One row through the network, one product at a time."""
    for number, layer in enumerate(model.layers):
        row = [
            float(layer.bias[o]) + math.fsum(row[i] * float(layer.weights[i, o]) for i in range(layer.inputs))
            for o in range(layer.outputs)
        ]
        if number + 1 < len(model.layers):
            row = [max(value, 0.0) for value in row]
    powers = [math.exp(value - max(row)) for value in row]
    return [power / math.fsum(powers) for power in powers]


@given(st.lists(st.integers(1, 12), min_size=2, max_size=4), st.integers(0, 9))
def test_the_forward_pass_is_that_of_the_formula(widths: list[int], count: int) -> None:
    model = network(widths)
    rows = features(model, count)
    got = reference.forward(model, rows)
    assert got.dtype == np.float32
    assert got.shape == (count, model.outputs)
    for row, probabilities in zip(rows.tolist(), got, strict=True):
        np.testing.assert_allclose(probabilities, by_hand(model, row), atol=tolerance(model), rtol=0)


def test_large_logits_do_not_overflow() -> None:
    model = Mlp((Layer(np.array([[1.0, -1.0]], np.float32), np.zeros(2, np.float32)),))
    got = reference.forward(model, np.array([[1e30], [-1e30]], np.float32))
    np.testing.assert_array_equal(got, [[1, 0], [0, 1]])


def test_a_row_with_nan_or_cancelling_infinities_is_nan_and_touches_no_other() -> None:
    model = network([2, 3, 2])
    rows = np.array([[1, 1], [np.nan, 1], [np.inf, -np.inf], [1, 1]], np.float32)
    got = reference.forward(model, rows)
    assert np.isnan(got[1:3]).all()
    np.testing.assert_array_equal(got[0], got[3])
    assert reference.classify(got).tolist()[1:3] == [0, 0]


def test_the_rows_given_are_not_changed() -> None:
    model = network([3, 3])
    rows = features(model, 5)
    before = rows.copy()
    reference.forward(model, rows)
    np.testing.assert_array_equal(rows, before)


def test_a_tie_goes_to_the_first_class() -> None:
    classes = reference.classify(np.array([[0.2, 0.4, 0.4], [0.5, 0.5, 0.0]], np.float32))
    assert classes.tolist() == [1, 0]
    assert classes.dtype == np.int32


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.zeros((2, 3)), "float64"),
        ([[0.0, 0.0, 0.0]], "list"),
        (np.zeros(3, np.float32), r"\(n, 3\)"),
        (np.zeros((2, 4), np.float32), r"not \(2, 4\)"),
        (np.broadcast_to(np.zeros((1, 3), np.float32), (reference.BATCH_ROWS_MAX + 1, 3)), "split it"),
    ],
)
def test_rows_that_do_not_fit_are_refused_with_the_reason(rows: object, message: str) -> None:
    with pytest.raises(RowsError, match=message):
        reference.forward(network([3, 2]), rows)  # type: ignore[arg-type]
