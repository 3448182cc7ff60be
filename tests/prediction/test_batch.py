"""Requests into batches, against a twin that counts on its fingers."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels import WIDTH_MAX, Layer, Mlp
from meshnode.errors import InvalidArgument, Overloaded
from meshnode.prediction.batch import BatchQueue
from meshnode.prediction.config import BATCH_BYTES_MIN, PredictionConfig

PUTS_AND_TAKES = st.lists(st.integers(min_value=1, max_value=9) | st.none(), max_size=40)
"""A number of rows to put, or None to take a batch."""


def deep_network(widths: list[int]) -> Mlp:
    """A network of these widths that tells nothing."""
    return Mlp(
        tuple(
            Layer(np.zeros((before, after), np.float32), np.zeros(after, np.float32))
            for before, after in itertools.pairwise(widths)
        )
    )


def numbered(begin: int, count: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Rows that tell where they belong."""
    return np.arange(begin, begin + count, dtype=np.float32).reshape(count, 1)


@given(PUTS_AND_TAKES, st.integers(min_value=1, max_value=8), st.integers(min_value=0, max_value=20))
def test_a_queue_does_what_its_twin_does(steps: list[int | None], batch_rows_max: int, more: int) -> None:
    waiting_rows_max = batch_rows_max + more
    queue: BatchQueue[int] = BatchQueue(batch_rows_max=batch_rows_max, waiting_rows_max=waiting_rows_max)
    twin: list[tuple[int, int]] = []
    for waiter, step in enumerate(steps):
        waiting = sum(count for _, count in twin)
        if step is not None and step > batch_rows_max:
            with pytest.raises(InvalidArgument, match=f"{step} rows: at most {batch_rows_max} of this model"):
                queue.put(waiter, numbered(100 * waiter, step))
        elif step is not None and waiting + step > waiting_rows_max:
            with pytest.raises(Overloaded, match=f"{waiting} rows wait for the device already"):
                queue.put(waiter, numbered(100 * waiter, step))
        elif step is not None:
            queue.put(waiter, numbered(100 * waiter, step))
            twin.append((waiter, step))
        elif twin:
            expected: list[tuple[int, int]] = []
            while twin and sum(count for _, count in expected) + twin[0][1] <= batch_rows_max:
                expected.append(twin.pop(0))
            batch = queue.take()
            assert [(waiter, len(rows)) for waiter, rows in batch.requests] == expected
            assert len(batch.rows()) == batch.count == sum(count for _, count in expected) <= batch_rows_max
            assert batch.nbytes == 4 * batch.count
            for (share_waiter, share), (expected_waiter, count) in zip(
                batch.shares(-batch.rows()), expected, strict=True
            ):
                assert share_waiter == expected_waiter
                assert np.array_equal(share, -numbered(100 * expected_waiter, count))
        assert bool(queue) == bool(twin)


def test_a_lone_request_is_a_batch_without_a_copy() -> None:
    queue: BatchQueue[str] = BatchQueue(batch_rows_max=8, waiting_rows_max=8)
    rows = numbered(0, 3)
    queue.put("a", rows)
    assert queue.take().rows() is rows


def test_a_small_answer_does_not_keep_the_whole_batch_in_memory() -> None:
    queue: BatchQueue[str] = BatchQueue(batch_rows_max=100, waiting_rows_max=100)
    for waiter, count in (("large", 60), ("one", 1), ("medium", 20)):
        queue.put(waiter, numbered(0, count))
    answers = np.zeros((81, 3), np.float32)
    shares = dict(queue.take().shares(answers))
    kept = {waiter: share.nbytes if share.base is None else share.base.nbytes for waiter, share in shares.items()}
    assert kept == {"large": answers.nbytes, "one": 12, "medium": 240}


@given(
    st.lists(st.integers(min_value=1, max_value=300), min_size=2, max_size=5),
    st.integers(min_value=BATCH_BYTES_MIN, max_value=2 * BATCH_BYTES_MIN),
)
def test_a_batch_of_as_many_rows_as_allowed_fits_its_bytes_on_the_reference_path(
    widths: list[int], batch_bytes_max: int
) -> None:
    model = deep_network(widths)
    config = PredictionConfig(
        batch_bytes_max=batch_bytes_max, batch_rows_max=2**20, waiting_rows_max=2**20, waiting_bytes_max=2**30
    )
    rows = config.batch_rows_of(model)
    at_once = max(before + after for before, after in itertools.pairwise(widths))
    assert 4 * rows * max(at_once, widths[0] + widths[-1]) <= batch_bytes_max
    assert rows >= 1


def test_even_the_widest_row_fits_the_smallest_bound_on_a_batch() -> None:
    layers = [np.zeros(shape, np.float32) for shape in ((WIDTH_MAX, 1), (1, WIDTH_MAX), (WIDTH_MAX, 1), (1, WIDTH_MAX))]
    model = Mlp(tuple(Layer(weights, np.zeros(weights.shape[1], np.float32)) for weights in layers))
    assert PredictionConfig(batch_bytes_max=BATCH_BYTES_MIN).batch_rows_of(model) == 1


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"batch_rows_max": 0}, "batch_rows_max is 0: choose above 0"),
        ({"refresh_s": 0.0}, "refresh_s is 0.0: choose above 0"),
        ({"batch_rows_max": 2**21}, "choose up to 1048576"),
        ({"batch_rows_max": 10, "waiting_rows_max": 9}, r"waiting_rows_max is 9: it must hold a batch \(10\)"),
        ({"refresh_s": float("nan")}, "refresh_s is nan: choose above 0"),
        ({"batch_bytes_max": 2**20 - 1}, "batch_bytes_max is 1048575: a row of the widest model takes 1048576"),
        ({"waiting_bytes_max": 2**20}, r"waiting_bytes_max is 1048576: it must hold a batch \(134217728\)"),
    ],
)
def test_settings_out_of_range_are_refused(fields: dict[str, int], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        PredictionConfig(**fields)  # type: ignore[arg-type]
