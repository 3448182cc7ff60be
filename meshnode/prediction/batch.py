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
    """What waited for a model, in the order in which it came: each waiter with its rows."""

    requests: tuple[tuple[W, Rows], ...]

    @property
    def count(self) -> int:
        """Rows in all."""
        return sum(len(rows) for _waiter, rows in self.requests)

    @property
    def nbytes(self) -> int:
        """Bytes of all rows."""
        return sum(rows.nbytes for _waiter, rows in self.requests)

    def rows(self) -> Rows:
        """All rows, one request after the other. Those of a lone request are not copied."""
        if len(self.requests) == 1:
            return self.requests[0][1]
        return np.concatenate([rows for _waiter, rows in self.requests])

    def shares(self, answers: Rows) -> list[tuple[W, Rows]]:
        """To each waiter the answers to its rows. A small share is a copy, so that a waiter that keeps its answer keeps
        at most twice as much memory."""
        shares = []
        begin = 0
        for waiter, rows in self.requests:
            share = answers[begin : begin + len(rows)]
            shares.append((waiter, share if 2 * len(share) >= len(answers) else share.copy()))
            begin += len(rows)
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
        self.check_size(count)
        if self._waiting_rows + count > self._waiting_rows_max:
            raise Overloaded(f"{self._waiting_rows} rows wait for the device already")
        self._waiting.append((waiter, rows))
        self._waiting_rows += count

    def check_size(self, count: int) -> None:
        """Raises InvalidArgument when so many rows are more than one batch takes."""
        if count > self._batch_rows_max:
            raise InvalidArgument(f"{count} rows: at most {self._batch_rows_max} of this model in one request")

    def take(self) -> Batch[W]:
        """All that waits, up to the size of a batch; never splits a request. Something has to wait."""
        assert self._waiting
        taken: list[tuple[W, Rows]] = []
        total = 0
        while self._waiting and total + len(self._waiting[0][1]) <= self._batch_rows_max:
            taken.append(self._waiting.popleft())
            total += len(taken[-1][1])
        self._waiting_rows -= total
        return Batch(tuple(taken))
