"""Predictions by name: fetched, gathered, refreshed, answered."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
import trio

from kernels import Mlp
from kernels import reference as reference_path
from meshnode.errors import InvalidArgument, MeshError, NotFound, Overloaded, Unavailable
from meshnode.prediction import predictor as predictor_module
from meshnode.prediction.backend import Rows
from meshnode.prediction.batch import Batch
from meshnode.prediction.config import PredictionConfig
from meshnode.prediction.predictor import Predictor
from meshnode.prediction.shelf import PublishedModel
from tests.agents.fake_host import FakeHost
from tests.agents.world import settle
from tests.prediction.networks import network, rows_of

BATCH_S = 1.0
"""How long a batch takes here."""


class SlowBackend:
    """Takes its time for each batch, whatever its size."""

    def __init__(self) -> None:
        self.description = "slow"
        self.batches: list[tuple[Mlp, int]] = []
        self.is_open = False
        self.is_closed = False
        self.busy = False
        self.error: Exception | None = None

    async def open(self) -> None:
        await trio.sleep(BATCH_S)
        self.is_open = True

    async def predict(self, model: Mlp, rows: Rows) -> Rows:
        assert self.is_open
        assert not self.busy, "one batch at a time"
        self.busy = True
        self.batches.append((model, len(rows)))
        try:
            await trio.sleep(BATCH_S)
        finally:
            self.busy = False
        if self.error is not None:
            raise self.error
        return reference_path.forward(model, rows)

    async def aclose(self) -> None:
        self.is_closed = True


class Shelf:
    """Where models are published, for a predictor to fetch."""

    def __init__(self) -> None:
        self.models: dict[str, PublishedModel] = {}
        self.fetched: list[tuple[str, int]] = []
        self.hold: list[trio.Event] = []
        self.error: MeshError | None = None

    def publish(self, name: str, model: Mlp) -> None:
        version = self.models[name].version + 1 if name in self.models else 1
        self.models[name] = PublishedModel(version, model.to_bytes())

    async def fetch(self, name: str, known: int) -> PublishedModel | None:
        self.fetched.append((name, known))
        latest = self.models.get(name)
        await trio.lowlevel.checkpoint()
        if self.hold:
            await self.hold.pop(0).wait()
        if self.error is not None:
            raise self.error
        return None if latest is None or latest.version == known else latest


class World:
    def __init__(self, config: PredictionConfig) -> None:
        self.backend = SlowBackend()
        self.shelf = Shelf()
        self.predictor = Predictor(FakeHost(), config, self.backend, self.shelf.fetch)
        self.scope = trio.CancelScope()

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        with self.scope:
            await self.predictor.run(task_status=task_status)


@contextlib.asynccontextmanager
async def running(config: PredictionConfig | None = None) -> AsyncIterator[World]:
    async with trio.open_nursery() as nursery:
        world = World(config or PredictionConfig())
        await nursery.start(world.run)
        yield world
        nursery.cancel_scope.cancel()


async def expect(world: World, name: str, rows: Rows, model: Mlp) -> None:
    assert np.allclose(await world.predictor.predict(name, rows), reference_path.forward(model, rows), atol=1e-6)


async def test_predictions_are_those_of_the_published_model() -> None:
    async with running() as world:
        world.shelf.publish("digits", network())
        await expect(world, "digits", rows_of(3), network())
        assert (world.predictor.batches, world.predictor.rows) == (1, 3)


async def test_one_row_gives_one_row_of_probabilities() -> None:
    async with running() as world:
        world.shelf.publish("digits", network())
        answer = await world.predictor.predict("digits", [1, 2, 3, 4.5])
        assert answer.shape == (3,)
        assert answer.dtype == np.float32
        assert answer.sum() == pytest.approx(1.0)


async def test_no_rows_give_no_probabilities_at_once() -> None:
    async with running() as world:
        world.shelf.publish("digits", network())
        answer = await world.predictor.predict("digits", np.empty((0, 4)))
        assert answer.shape == (0, 3)
        assert world.backend.batches == []


async def test_a_request_does_not_wait_for_others_and_those_that_come_meanwhile_are_one_batch() -> None:
    async with running() as world:
        world.shelf.publish("digits", network())
        await trio.sleep(BATCH_S)
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(expect, world, "digits", rows_of(1), network())
            await settle()
            assert [count for _model, count in world.backend.batches] == [1]
            for count in (2, 3, 1):
                nursery.start_soon(expect, world, "digits", rows_of(count, seed=count), network())
        assert [count for _model, count in world.backend.batches] == [1, 6]
        assert trio.current_time() == began + 2 * BATCH_S


async def test_a_batch_has_a_bound_and_the_rest_is_the_next_one() -> None:
    async with running(PredictionConfig(batch_rows_max=4, waiting_rows_max=100)) as world:
        world.shelf.publish("digits", network())
        async with trio.open_nursery() as nursery:
            for seed in range(5):
                nursery.start_soon(expect, world, "digits", rows_of(2, seed=seed), network())
        counts = [count for _model, count in world.backend.batches]
        assert sum(counts) == 10
        assert max(counts) == 4


async def test_models_take_turns() -> None:
    async with running(PredictionConfig(batch_rows_max=2, waiting_rows_max=100)) as world:
        for number, name in enumerate("ab"):
            world.shelf.publish(name, network(number))
        async with trio.open_nursery() as nursery:
            for name in ("a", "a", "a", "b"):
                nursery.start_soon(expect, world, name, rows_of(2), network("ab".index(name)))
        order = [int(model == network(1)) for model, _count in world.backend.batches]
        assert order.index(1) <= 1, "one model does not wait for all the rows of another"


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([1.0, 2.0], r"model 'digits' takes rows of 4 numbers; the shape is \(2,\)"),
        ([1.0, 2.0, 1e300, 4.0], r"model 'digits': the rows are no array of numbers: 1e\+300"),
        ([10**400] * 4, r"an integer of 1329 bits is none that float32 holds"),
        (np.zeros((5000, 4)), "5000 rows: at most 4096 of this model in one request"),
    ],
)
async def test_rows_that_do_not_fit_are_refused(rows: Any, complaint: str) -> None:
    async with running() as world:
        world.shelf.publish("digits", network())
        with pytest.raises(InvalidArgument, match=complaint):
            await world.predictor.predict("digits", rows)


async def test_a_row_with_a_value_that_is_not_finite_touches_no_other() -> None:
    async with running() as world:
        world.shelf.publish("digits", network())
        answer = await world.predictor.predict("digits", [[1.0, 2.0, float("nan"), 4.0], [1.0, 2.0, 3.0, 4.0]])
        assert np.isnan(answer[0]).all()
        assert np.isfinite(answer[1]).all()


async def test_a_request_too_large_for_a_batch_is_refused_before_it_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    config = PredictionConfig(batch_bytes_max=2**20)
    model = network(inputs=1000)
    most = config.batch_rows_of(model)
    assert most < config.batch_rows_max
    async with running(config) as world:
        world.shelf.publish("digits", model)
        one_row = np.zeros((1, 1000))
        assert (await world.predictor.predict("digits", np.broadcast_to(one_row, (most, 1000)))).shape == (most, 3)
        monkeypatch.setattr(predictor_module, "as_rows", None)
        with pytest.raises(InvalidArgument, match=f"{2**30} rows: at most {most} of this model in one request"):
            await world.predictor.predict("digits", np.broadcast_to(one_row, (2**30, 1000)))


async def test_what_waits_for_all_models_together_is_bounded_in_bytes() -> None:
    config = PredictionConfig(batch_bytes_max=2**20, waiting_bytes_max=2**20)
    async with running(config) as world:
        for number in range(4):
            world.shelf.publish(str(number), network(number, inputs=1000))
        half = 2**20 // 4000 // 2
        await trio.sleep(BATCH_S)
        async with trio.open_nursery() as nursery:
            for number in range(3):  # the first one is a batch already, the others wait
                rows = rows_of(half, inputs=1000, seed=number)
                nursery.start_soon(expect, world, str(number), rows, network(number, inputs=1000))
                await settle()
            with pytest.raises(Overloaded, match=f"{2 * half * 4000} bytes of rows wait for the device already"):
                await world.predictor.predict("3", rows_of(half, inputs=1000))
        await expect(world, "3", rows_of(half, inputs=1000), network(3, inputs=1000))
        assert world.predictor._waiting_bytes == 0


async def test_too_many_rows_that_wait_are_refused() -> None:
    async with running(PredictionConfig(batch_rows_max=4, waiting_rows_max=4)) as world:
        world.shelf.publish("digits", network())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(expect, world, "digits", rows_of(4), network())
            await settle()
            with pytest.raises(Overloaded, match="4 rows wait"):
                await world.predictor.predict("digits", rows_of(1))


# ---- models


async def test_a_model_that_was_not_published_is_not_found_and_leaves_nothing_behind() -> None:
    async with running() as world:
        for _ in range(2):
            with pytest.raises(NotFound, match=r"no model 'digits' was published: publish it with Node\.publish_model"):
                await world.predictor.predict("digits", rows_of(1))
        assert world.predictor._fetching == {}
        world.shelf.publish("digits", network())
        await expect(world, "digits", rows_of(1), network())


async def test_a_model_that_can_not_be_fetched_is_an_error_that_says_so() -> None:
    async with running() as world:
        world.shelf.error = Unavailable("no answer within 10 s")
        with pytest.raises(Unavailable, match="no answer within 10 s"):
            await world.predictor.predict("digits", rows_of(1))


async def test_those_who_want_a_model_that_can_not_be_fetched_share_one_failure() -> None:
    async with running() as world:
        world.shelf.error = Unavailable("no answer within 10 s")
        held = trio.Event()
        world.shelf.hold = [held]
        errors: list[MeshError] = []

        async def fail() -> None:
            with pytest.raises(Unavailable, match="no answer within 10 s") as caught:
                await world.predictor.predict("digits", rows_of(1))
            errors.append(caught.value)

        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(fail)
            await settle()
            held.set()
        assert world.shelf.fetched == [("digits", 0)]
        assert len({id(error) for error in errors}) == 6
        world.shelf.error = None
        world.shelf.publish("digits", network())
        await expect(world, "digits", rows_of(1), network())


async def test_one_who_gives_up_while_it_fetches_leaves_the_fetch_to_the_next() -> None:
    async with running() as world:
        world.shelf.publish("digits", network())
        world.shelf.hold = [trio.Event()]
        impatient = trio.CancelScope()

        async def give_up() -> None:
            with impatient:
                await world.predictor.predict("digits", rows_of(1))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(give_up)
            await settle()
            for _ in range(3):
                nursery.start_soon(expect, world, "digits", rows_of(1), network())
            await settle()
            impatient.cancel()
        assert world.shelf.fetched == [("digits", 0), ("digits", 0)]


async def test_a_model_is_fetched_once_however_many_want_it() -> None:
    async with running() as world:
        world.shelf.publish("digits", network())
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(expect, world, "digits", rows_of(1), network())
        assert world.shelf.fetched == [("digits", 0)]
        assert world.predictor._fetching == {}


async def test_a_newer_version_is_used_soon_after_it_was_published() -> None:
    async with running(PredictionConfig(refresh_s=5.0)) as world:
        world.shelf.publish("digits", network(1))
        await expect(world, "digits", rows_of(1), network(1))
        world.shelf.publish("digits", network(2))
        await expect(world, "digits", rows_of(1), network(1))
        await trio.sleep(5.0)
        await expect(world, "digits", rows_of(1), network(1))
        await expect(world, "digits", rows_of(1), network(2))
        assert world.shelf.fetched == [("digits", 0), ("digits", 1)]


async def test_a_version_of_another_shape_answers_only_rows_that_came_after_it() -> None:
    async with running(PredictionConfig(refresh_s=0.5)) as world:
        world.shelf.publish("digits", network(1))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(expect, world, "digits", rows_of(1), network(1))
            await trio.sleep(1.5 * BATCH_S)
            world.shelf.publish("digits", network(2, inputs=7))
            for _ in range(3):
                nursery.start_soon(expect, world, "digits", rows_of(2), network(1))
            await settle()
            with pytest.raises(InvalidArgument, match="takes rows of 7 numbers"):
                await world.predictor.predict("digits", rows_of(2))
            nursery.start_soon(expect, world, "digits", rows_of(2, inputs=7), network(2, inputs=7))


async def test_an_older_version_that_arrives_late_does_not_replace_a_newer_one() -> None:
    async with running(PredictionConfig(refresh_s=0.5)) as world:
        world.shelf.publish("digits", network(1))
        await expect(world, "digits", rows_of(1), network(1))
        world.shelf.publish("digits", network(2))
        slow = trio.Event()
        world.shelf.hold = [slow]
        await expect(world, "digits", rows_of(1), network(1))
        world.shelf.publish("digits", network(3))
        await expect(world, "digits", rows_of(1), network(1))
        await expect(world, "digits", rows_of(1), network(3))
        slow.set()
        await settle()
        await expect(world, "digits", rows_of(1), network(3))


async def test_a_model_that_can_not_be_refreshed_is_used_on() -> None:
    async with running(PredictionConfig(refresh_s=0.5)) as world:
        world.shelf.publish("digits", network(1))
        await expect(world, "digits", rows_of(1), network(1))
        world.shelf.error = Unavailable("not now")
        await expect(world, "digits", rows_of(1), network(1))
        await expect(world, "digits", rows_of(1), network(1))
        world.shelf.error = None
        world.shelf.models["digits"] = PublishedModel(2, b"KMLP of a later version")
        await expect(world, "digits", rows_of(1), network(1))
        await expect(world, "digits", rows_of(1), network(1))


async def test_bytes_that_are_no_model_are_an_error_of_this_package() -> None:
    async with running() as world:
        world.shelf.models["digits"] = PublishedModel(1, b"KMLP of a later version")
        with pytest.raises(MeshError, match="model 'digits' version 1 can't be used"):
            await world.predictor.predict("digits", rows_of(1))


async def test_models_in_memory_are_bounded_and_one_that_made_room_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictor_module, "MODELS_KNOWN_MAX", 2)
    async with running() as world:
        for number in range(3):
            world.shelf.publish(str(number), network(number))
        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(expect, world, str(number), rows_of(1), network(number))
                await settle()
        assert len(world.predictor._known) == 2
        await expect(world, "0", rows_of(1), network(0))
        assert world.shelf.fetched.count(("0", 0)) == 2


# ---- the end


async def test_a_node_that_stops_leaves_nobody_waiting() -> None:
    async with running() as world:
        world.shelf.publish("digits", network())
        await expect(world, "digits", rows_of(1), network())
        errors = []

        async def fail(count: int) -> None:
            with pytest.raises(Unavailable, match="the node stops") as caught:
                await world.predictor.predict("digits", rows_of(count))
            errors.append(caught.value)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail, 1)
            await settle()
            nursery.start_soon(fail, 2)
            nursery.start_soon(fail, 4096)
            await settle()
            world.scope.cancel()
        assert len(errors) == 3
        assert world.backend.is_closed
        await fail(1)
        await trio.sleep(100)
        await fail(1)


@pytest.mark.parametrize("error", [MemoryError("1 GiB"), ZeroDivisionError("a bug")])
async def test_an_unexpected_error_costs_its_batch_and_is_in_the_log_and_the_rest_goes_on(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async with running() as world:
        world.shelf.publish("digits", network())
        await expect(world, "digits", rows_of(1), network())
        world.backend.error = error
        errors: list[MeshError] = []

        async def fail(count: int) -> None:
            with pytest.raises(MeshError, match=f"rows could not be predicted: {type(error).__name__}: {error}") as got:
                await world.predictor.predict("digits", rows_of(count))
            errors.append(got.value)

        async with trio.open_nursery() as nursery:
            for count in (1, 2, 3):
                nursery.start_soon(fail, count)
        assert len({id(one) for one in errors}) == 3
        world.backend.error = None
        await expect(world, "digits", rows_of(1), network())
        logged = [line.getMessage() for line in caplog.records if line.levelname == "ERROR"]
        assert logged
        assert all(type(error).__name__ in line and "Traceback" in line for line in logged)


async def test_rows_that_can_not_be_joined_for_want_of_memory_cost_their_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(_batch: Batch[object]) -> Rows:
        raise MemoryError("2 GiB")

    async with running() as world:
        world.shelf.publish("digits", network())
        with monkeypatch.context() as patched:
            patched.setattr(Batch, "rows", exhausted)
            with pytest.raises(MeshError, match="1 rows could not be predicted: MemoryError: 2 GiB"):
                await world.predictor.predict("digits", rows_of(1))
        await expect(world, "digits", rows_of(1), network())
