"""The node's predictions: models by name, one queue a model, one backend."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import trio

from kernels import Mlp, ModelError
from meshnode.errors import InvalidArgument, MeshError, NotFound, Unavailable
from meshnode.host import Host
from meshnode.log import get_logger
from meshnode.prediction.backend import Backend, Rows
from meshnode.prediction.batch import Batch, BatchQueue
from meshnode.prediction.config import PredictionConfig
from meshnode.prediction.shelf import PublishedModel

MODELS_KNOWN_MAX = 256
"""Models that this node keeps in memory; the one that was fetched first makes room, and can be fetched again."""

STOPPING = "the node stops: it makes no more predictions"

Fetch = Callable[[str, int], Awaitable[PublishedModel | None]]
"""The latest version of a model by name, None where that is the given one."""


class _Waiter:
    def __init__(self) -> None:
        self.event = trio.Event()
        self.answer: Rows | None = None
        self.error: MeshError | None = None


@dataclass(slots=True, eq=False)
class _Known:
    """One version of a model, and who waits for its answers: rows are answered by the version that they came for."""

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
        self._work: dict[_Known, None] = {}
        self._work_wanted = trio.Event()
        self._nursery: trio.Nursery | None = None
        self._has_stopped = False
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
                self._stop()
                await self.backend.aclose()

    async def predict(self, name: str, rows: npt.ArrayLike) -> Rows:
        """Probabilities, float32 (n, outputs), for rows (n, inputs), or (outputs,) for one row (inputs,).

        An array of float32 is not copied: it must stay as it is until the answer is there.

        Raises:
            NotFound: no such model was published.
            InvalidArgument: the rows do not fit the model, or are too many.
            Overloaded: too many rows wait already.
            Unavailable: the model could not be fetched, or the node stops.
        """
        known = await self._model(name)
        checked = _checked_rows(name, rows, known.model)
        if not checked.size:
            return np.empty((0, known.model.outputs), np.float32)
        if self._has_stopped:
            raise Unavailable(STOPPING)
        waiter = _Waiter()
        known.queue.put(waiter, np.atleast_2d(checked))
        self._work[known] = None
        self._work_wanted.set()
        await waiter.event.wait()
        if waiter.error is not None:
            raise waiter.error
        assert waiter.answer is not None
        return waiter.answer if checked.ndim == 2 else waiter.answer[0]

    # ---- models

    async def _model(self, name: str) -> _Known:
        known = self._known.get(name)
        if known is None:
            lock = self._fetching.setdefault(name, trio.Lock())  # one entry for each call under way at most
            try:
                async with lock:
                    known = self._known.get(name)
                    if known is None:
                        known = await self._first_version(name)
            finally:
                self._fetching.pop(name, None)
        elif self._host.now() >= known.checked_at_s + self._config.refresh_s and not self._has_stopped:
            assert self._nursery is not None
            known.checked_at_s = self._host.now()
            self._nursery.start_soon(self._refresh, name, known)
        return known

    async def _first_version(self, name: str) -> _Known:
        published = await self._fetch(name, 0)
        if published is None:
            raise NotFound(f"no model {name!r} was published: publish it with Node.publish_model")
        return self._keep(name, published)

    async def _refresh(self, name: str, known: _Known) -> None:
        try:
            published = await self._fetch(name, known.version)
            if published is not None:
                self._keep(name, published)
        except MeshError as error:
            self._log.info("model not refreshed", model=name, version=known.version, error=str(error))

    def _keep(self, name: str, published: PublishedModel) -> _Known:
        """The version to use from now on: the published one, unless a fetch that began later brought a newer one."""
        present = self._known.get(name)
        if present is not None and present.version >= published.version:
            return present
        try:
            model = Mlp.from_bytes(published.data)
        except ModelError as error:
            raise MeshError(f"model {name!r} version {published.version} can't be used: {error}") from error
        if present is None and len(self._known) >= MODELS_KNOWN_MAX:
            del self._known[next(iter(self._known))]
        config = self._config
        queue: BatchQueue[_Waiter] = BatchQueue(
            batch_rows_max=config.batch_rows_max, waiting_rows_max=config.waiting_rows_max
        )
        known = self._known[name] = _Known(model, published.version, self._host.now(), queue)
        return known

    # ---- batches

    async def _compute_next(self) -> None:
        if not self._work:
            self._work_wanted = trio.Event()
            await self._work_wanted.wait()
        known = next(iter(self._work))
        batch = known.queue.take()
        del self._work[known]
        if known.queue:
            self._work[known] = None  # behind the models that waited meanwhile
        self.batches += 1
        self.rows += len(batch.rows)
        answers: Rows | None = None
        try:
            answers = await self.backend.predict(known.model, batch.rows)
        finally:
            if answers is None:
                _fail(batch)
        for waiter, answer in batch.shares(answers):
            waiter.answer = answer
            waiter.event.set()

    def _stop(self) -> None:
        """Nobody may wait for ever."""
        self._has_stopped = True
        for known in self._work:
            while known.queue:
                _fail(known.queue.take())


def _fail(batch: Batch[_Waiter]) -> None:
    for waiter, _count in batch.waiters:
        waiter.error = Unavailable(STOPPING)
        waiter.event.set()


def _checked_rows(name: str, rows: npt.ArrayLike, model: Mlp) -> Rows:
    try:
        array = np.ascontiguousarray(rows, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise InvalidArgument(f"model {name!r}: the rows are no array of numbers: {error}") from error
    if array.ndim not in (1, 2) or array.shape[-1] != model.inputs:
        raise InvalidArgument(f"model {name!r} takes rows of {model.inputs} numbers; the shape is {array.shape}")
    return array
