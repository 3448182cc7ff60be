"""Requests for one model while they wait for the backend. No I/O."""

from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from meshnode.errors import InvalidArgument, Overloaded
from meshnode.prediction.backend import Rows

W = TypeVar("W")


@dataclass(frozen=True, slots=True)
class Batch(Generic[W]):
    """Rows of several waiters, one after the other."""

    rows: Rows
    waiters: tuple[tuple[W, int], ...]
    """Each waiter with its number of rows."""

    def shares(self, answers: Rows) -> list[tuple[W, Rows]]:
        """To each waiter the answers to its rows."""
        shares = []
        begin = 0
        for waiter, count in self.waiters:
            shares.append((waiter, answers[begin : begin + count]))
            begin += count
        return shares


class BatchQueue(Generic[W]):
    """First come, first served."""

    def __init__(self, *, batch_rows_max: int, waiting_rows_max: int) -> None:
        self._batch_rows_max = batch_rows_max
        self._waiting_rows_max = waiting_rows_max
        self._waiting: deque[tuple[W, Rows]] = deque()
        self._waiting_rows = 0

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def put(self, waiter: W, rows: Rows) -> None:
        """Queue rows.

        Raises:
            InvalidArgument: more rows than one batch takes.
            Overloaded: too many rows wait already.
        """
        count = len(rows)
        assert count > 0  # a request without rows would wait for nothing, and be bounded by nothing
        if count > self._batch_rows_max:
            raise InvalidArgument(f"{count} rows: at most {self._batch_rows_max} in one request")
        if self._waiting_rows + count > self._waiting_rows_max:
            raise Overloaded(f"{self._waiting_rows} rows wait for the device already")
        self._waiting.append((waiter, rows))
        self._waiting_rows += count

    def take(self) -> Batch[W]:
        """All that waits, up to the size of a batch; never splits a request. Something has to wait."""
        assert self._waiting
        taken: list[tuple[W, Rows]] = []
        total = 0
        while self._waiting and total + len(self._waiting[0][1]) <= self._batch_rows_max:
            taken.append(self._waiting.popleft())
            total += len(taken[-1][1])
        self._waiting_rows -= total
        rows = taken[0][1] if len(taken) == 1 else np.concatenate([rows for _, rows in taken])
        return Batch(rows, tuple((waiter, len(rows)) for waiter, rows in taken))
