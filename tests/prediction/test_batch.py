"""Requests into batches, against a twin that counts on its fingers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.errors import InvalidArgument, Overloaded
from meshnode.prediction.batch import BatchQueue
from meshnode.prediction.config import PredictionConfig

PUTS_AND_TAKES = st.lists(st.integers(min_value=1, max_value=9) | st.none(), max_size=40)
"""A number of rows to put, or None to take a batch."""


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
            with pytest.raises(InvalidArgument, match=f"{step} rows: at most {batch_rows_max} in one request"):
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
            assert batch.waiters == tuple(expected)
            assert len(batch.rows) == sum(count for _, count in expected) <= batch_rows_max
            for (share_waiter, share), (expected_waiter, count) in zip(
                batch.shares(-batch.rows), expected, strict=True
            ):
                assert share_waiter == expected_waiter
                assert np.array_equal(share, -numbered(100 * expected_waiter, count))
        assert bool(queue) == bool(twin)


def test_a_lone_request_is_a_batch_without_a_copy() -> None:
    queue: BatchQueue[str] = BatchQueue(batch_rows_max=8, waiting_rows_max=8)
    rows = numbered(0, 3)
    queue.put("a", rows)
    assert queue.take().rows is rows


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"batch_rows_max": 0}, "batch_rows_max is 0: choose above 0"),
        ({"refresh_s": 0.0}, "refresh_s is 0.0: choose above 0"),
        ({"batch_rows_max": 2**21}, "choose up to 1048576"),
        ({"batch_rows_max": 10, "waiting_rows_max": 9}, r"waiting_rows_max is 9: it must hold a batch \(10\)"),
    ],
)
def test_settings_out_of_range_are_refused(fields: dict[str, int], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        PredictionConfig(**fields)  # type: ignore[arg-type]
