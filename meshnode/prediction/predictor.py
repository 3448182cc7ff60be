"""The node's predictions: models by name, one queue a model, one backend."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import trio

from kernels import Mlp
from meshnode.errors import InvalidArgument, MeshError, NotFound
from meshnode.host import Host
from meshnode.log import get_logger
from meshnode.prediction.backend import Backend, Rows
from meshnode.prediction.batch import BatchQueue
from meshnode.prediction.config import PredictionConfig
from meshnode.prediction.shelf import PublishedModel

MODELS_KNOWN_MAX = 256
"""Models that this node keeps in memory; the one that was fetched first, and is not in use, makes room."""

Fetch = Callable[[str, int], Awaitable[PublishedModel | None]]
"""The latest version of a model by name, None where that is the given one."""


class _Waiter:
    def __init__(self) -> None:
        self.event = trio.Event()
        self.answer: Rows | None = None
        self.error: Exception | None = None


@dataclass(slots=True, eq=False)
class _Known:
    """A model that this node has."""

    model: Mlp
    version: int
    checked_at_s: float
    queue: BatchQueue[_Waiter]


class Predictor:
    """Answers predictions on this node's device."""

    def __init__(self, host: Host, config: PredictionConfig, backend: Backend, fetch: Fetch) -> None:
        self.backend = backend
        self.batches = 0
        self.rows = 0
        self._host = host
        self._config = config
        self._fetch = fetch
        self._known: dict[str, _Known] = {}
        self._fetching: dict[str, trio.Lock] = {}
        self._work: dict[str, None] = {}
        self._work_wanted = trio.Event()
        self._nursery: trio.Nursery | None = None
        self._log = get_logger()

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Open the backend and compute batches until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            try:
                await self.backend.open()
                while True:
                    await self._compute_next()
            finally:
                await self.backend.aclose()

    async def predict(self, name: str, rows: npt.ArrayLike) -> Rows:
        """Probabilities, float32 (n, outputs), for rows (n, inputs), or (outputs,) for one row (inputs,).

        Raises:
            NotFound: no such model was published.
            InvalidArgument: the rows do not fit the model, or are too many.
            Overloaded: too many rows wait already.
            Unavailable: the model could not be fetched.
        """
        known = await self._model(name)
        checked = _checked_rows(name, rows, known.model)
        waiter = _Waiter()
        known.queue.put(waiter, np.atleast_2d(checked))
        self._work[name] = None
        self._work_wanted.set()
        await waiter.event.wait()
        if waiter.error is not None:
            raise waiter.error
        assert waiter.answer is not None
        return waiter.answer if checked.ndim == 2 else waiter.answer[0]

    async def _model(self, name: str) -> _Known:
        known = self._known.get(name)
        if known is None:
            async with self._fetching.setdefault(name, trio.Lock()):
                if name not in self._known:
                    await self._refresh(name, None)
            self._fetching.pop(name, None)
            return self._known[name]
        if self._host.now() >= known.checked_at_s + self._config.refresh_s:
            assert self._nursery is not None
            known.checked_at_s = self._host.now()
            self._nursery.start_soon(self._refresh_quietly, name, known)
        return known

    async def _refresh(self, name: str, known: _Known | None) -> None:
        published = await self._fetch(name, 0 if known is None else known.version)
        if published is None:
            if known is None:
                raise NotFound(f"no model {name!r} was published: publish it with Node.publish_model")
            return
        model = Mlp.from_bytes(published.data)
        config = self._config
        queue: BatchQueue[_Waiter] = BatchQueue(
            batch_rows_max=config.batch_rows_max, waiting_rows_max=config.waiting_rows_max
        )
        if known is not None and known.model.inputs == model.inputs:
            queue = known.queue  # rows that wait fit the new version too
        elif known is not None and known.queue:
            await self._finish(known)
        if len(self._known) >= MODELS_KNOWN_MAX and name not in self._known:
            del self._known[next(idle for idle, other in self._known.items() if not other.queue)]
        self._known[name] = _Known(model, published.version, self._host.now(), queue)

    async def _refresh_quietly(self, name: str, known: _Known) -> None:
        try:
            await self._refresh(name, known)
        except MeshError as error:
            self._log.info("model not refreshed", model=name, version=known.version, error=str(error))

    async def _compute_next(self) -> None:
        if not self._work:
            self._work_wanted = trio.Event()
            await self._work_wanted.wait()
        name = next(iter(self._work))
        del self._work[name]
        known = self._known[name]
        await self._compute(known)
        if known.queue:
            self._work[name] = None  # behind the models that waited meanwhile

    async def _finish(self, known: _Known) -> None:
        while known.queue:
            await self._compute(known)

    async def _compute(self, known: _Known) -> None:
        if not known.queue:
            return
        batch = known.queue.take()
        self.batches += 1
        self.rows += len(batch.rows)
        try:
            answers: Any = await self.backend.predict(known.model, batch.rows)
        except BaseException as error:
            for waiter, _count in batch.waiters:
                waiter.error = error if isinstance(error, Exception) else MeshError("the node is stopping")
                waiter.event.set()
            raise
        for waiter, answer in batch.shares(answers):
            waiter.answer = answer
            waiter.event.set()


def _checked_rows(name: str, rows: npt.ArrayLike, model: Mlp) -> Rows:
    try:
        array = np.ascontiguousarray(rows, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise InvalidArgument(f"model {name!r}: the rows are no array of numbers: {error}") from error
    if array.ndim not in (1, 2) or array.shape[-1] != model.inputs:
        raise InvalidArgument(f"model {name!r} takes rows of {model.inputs} numbers; the shape is {array.shape}")
    return array
