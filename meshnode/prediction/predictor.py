"""The node's predictions: models by name, one queue a model, one backend."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import trio

from kernels import Mlp, ModelError
from meshnode.errors import MeshError, NotFound, Overloaded, Unavailable, error_from_code
from meshnode.host import Host
from meshnode.log import get_logger
from meshnode.prediction.backend import Backend, Rows
from meshnode.prediction.batch import BatchQueue
from meshnode.prediction.config import PredictionConfig
from meshnode.prediction.rows import as_array, as_rows
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


class _Fetching:
    """A first fetch under way. Both stay None when whoever made it gave up: one of those who wait makes the next."""

    def __init__(self) -> None:
        self.ended = trio.Event()
        self.known: _Known | None = None
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
        self._fetching: dict[str, _Fetching] = {}  # one entry for each call under way at most
        self._work: dict[_Known, None] = {}
        self._waiting_bytes = 0
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
            InvalidArgument: the rows do not fit the model, are too many, or hold what float32 does not.
            Overloaded: too many rows wait already.
            Unavailable: the model could not be fetched, or the node stops.
            MeshError: a bug made the batch fail; the node's log has it.
        """
        known = await self._model(name)
        given = as_array(name, rows, known.model)
        is_one = given.ndim == 1
        if not given.size:
            return np.empty((0, known.model.outputs), np.float32)
        known.queue.check_size(1 if is_one else len(given))  # before a copy of them is made
        checked = as_rows(name, given)
        if self._has_stopped:
            raise Unavailable(STOPPING)
        if self._waiting_bytes + checked.nbytes > self._config.waiting_bytes_max:
            raise Overloaded(f"{self._waiting_bytes} bytes of rows wait for the device already")
        waiter = _Waiter()
        known.queue.put(waiter, np.atleast_2d(checked))
        self._waiting_bytes += checked.nbytes
        self._work[known] = None
        self._work_wanted.set()
        await waiter.event.wait()
        if waiter.error is not None:
            raise waiter.error
        assert waiter.answer is not None
        return waiter.answer[0] if is_one else waiter.answer

    # ---- models

    async def _model(self, name: str) -> _Known:
        known = self._known.get(name)
        if known is None:
            known = await self._fetched(name)
        elif self._host.now() >= known.checked_at_s + self._config.refresh_s and not self._has_stopped:
            assert self._nursery is not None
            known.checked_at_s = self._host.now()
            self._nursery.start_soon(self._refresh, name, known)
        return known

    async def _fetched(self, name: str) -> _Known:
        """The first version that this node keeps. All who want it meanwhile share one fetch, and what becomes of it."""
        while True:
            fetching = self._fetching.get(name)
            if fetching is None:
                return await self._first_version(name)
            await fetching.ended.wait()
            if fetching.error is not None:
                raise error_from_code(fetching.error.code, str(fetching.error)) from fetching.error
            if fetching.known is not None:
                return fetching.known

    async def _first_version(self, name: str) -> _Known:
        fetching = self._fetching[name] = _Fetching()
        try:
            published = await self._fetch(name, 0)
            if published is None:
                raise NotFound(f"no model {name!r} was published: publish it with Node.publish_model")
            fetching.known = self._keep(name, published)
            return fetching.known
        except MeshError as error:
            fetching.error = error
            raise
        finally:
            del self._fetching[name]
            fetching.ended.set()

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
            batch_rows_max=config.batch_rows_of(model), waiting_rows_max=config.waiting_rows_max
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
        self._waiting_bytes -= batch.nbytes
        self.batches += 1
        self.rows += batch.count
        failure: MeshError = Unavailable(STOPPING)
        try:
            answers = await self.backend.predict(known.model, batch.rows())
            for waiter, answer in batch.shares(answers):
                waiter.answer = answer
        except Exception as error:  # noqa: BLE001 - too little memory, or a bug: it costs this batch, not the node
            self._log.exception("batch failed", model=known.model.shape, rows=batch.count)
            failure = MeshError(f"{batch.count} rows could not be predicted: {type(error).__name__}: {error}")
        finally:
            for waiter, _rows in batch.requests:
                _end(waiter, failure)

    def _stop(self) -> None:
        """Nobody may wait for ever."""
        self._has_stopped = True
        for known in self._work:
            while known.queue:
                for waiter, _rows in known.queue.take().requests:
                    _end(waiter, Unavailable(STOPPING))


def _end(waiter: _Waiter, failure: MeshError) -> None:
    """Let the waiter go on, with the failure where there is no answer."""
    if waiter.answer is None:
        waiter.error = error_from_code(failure.code, str(failure))  # one each: a raised error is changed by that
    waiter.event.set()
