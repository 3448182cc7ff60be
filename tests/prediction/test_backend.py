"""The engine behind the predictor: one batch at a time, and an answer whatever the device does."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trio

from kernels import MODELS_MAX, Backend, Description, DeviceError, Mlp, ModelHandle, TooManyModelsError
from kernels import reference as reference_path
from kernels.reference import Classes
from meshnode.prediction import backend as backend_module
from meshnode.prediction.backend import EngineBackend, Rows
from tests.prediction.networks import network, rows_of


class FakeEngine:
    """Computes by the reference path; fails when told to, and has room for so many models, none larger than that."""

    def __init__(self) -> None:
        self.room = MODELS_MAX
        self.bytes_max = 2**20
        self.close_error: Exception | None = None
        self.healthy = True
        self.loaded: dict[ModelHandle, Mlp] = {}
        self.loads = 0
        self.closed = 0
        self.will_fail = False
        self.at_work = 0
        self.description = Description(Backend.OPENCL, "Turbo 9000", "")

    def load(self, model: Mlp) -> ModelHandle:
        if len(self.loaded) >= MODELS_MAX:
            raise TooManyModelsError("unload one first")
        if len(self.loaded) >= self.room or model.nbytes > self.bytes_max:
            raise DeviceError("no memory left on the device")
        self.loads += 1
        handle = ModelHandle(self.loads)
        self.loaded[handle] = Mlp.from_bytes(model.to_bytes())  # as a device does: the model itself may go
        return handle

    def predict(self, handle: ModelHandle, rows: Rows) -> Rows:
        if self.will_fail:
            self.healthy = False
            raise DeviceError("CL_OUT_OF_RESOURCES")
        return reference_path.forward(self.loaded[handle], rows)

    def classify(self, handle: ModelHandle, rows: Rows) -> Classes:
        return reference_path.classify(self.predict(handle, rows))

    def unload(self, handle: ModelHandle) -> None:
        del self.loaded[handle]

    def close(self) -> None:
        self.closed += 1
        self.loaded.clear()
        if self.close_error is not None:
            raise self.close_error


class Threads:
    """Stands for `Host.run_blocking`; work takes a second, and shows when two are at it."""

    def __init__(self) -> None:
        self.busy = False

    async def run(self, work: Callable[[], object]) -> object:
        assert not self.busy, "an engine has one caller at a time"
        self.busy = True
        try:
            with trio.CancelScope(shield=True):
                await trio.sleep(1)
            return work()
        finally:
            self.busy = False


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    fake = FakeEngine()
    monkeypatch.setattr(backend_module, "open_engine", lambda **_options: fake)
    return fake


def note_openings(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What each engine that is opened from now on was opened with."""
    openings: list[dict[str, Any]] = []

    def open_engine(**options: Any) -> FakeEngine:
        openings.append(options)
        return FakeEngine()

    monkeypatch.setattr(backend_module, "open_engine", open_engine)
    return openings


def opened() -> EngineBackend:
    return EngineBackend(Threads().run, device="", cache_dir="")


async def test_answers_are_those_of_the_engine(engine: FakeEngine) -> None:
    backend = opened()
    assert backend.description == "opening"
    answers = await backend.predict(network(), rows_of(3))
    assert np.array_equal(answers, reference_path.forward(network(), rows_of(3)))
    assert backend.description == "Turbo 9000"
    assert engine.loads == 1


async def test_one_call_at_a_time_reaches_the_engine_and_it_is_opened_once(monkeypatch: pytest.MonkeyPatch) -> None:
    openings = note_openings(monkeypatch)
    backend = opened()
    async with trio.open_nursery() as nursery:
        for seed in range(5):
            nursery.start_soon(backend.predict, network(seed), rows_of(2))
        nursery.start_soon(backend.open)
    assert openings == [{"preference": "", "cache_dir": None}]
    assert trio.current_time() >= 6


async def test_where_to_look_and_where_to_keep_kernels_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    openings = note_openings(monkeypatch)
    await EngineBackend(Threads().run, device="gpu", cache_dir="/var/cache/kernels").open()
    assert openings == [{"preference": "gpu", "cache_dir": Path("/var/cache/kernels")}]


async def test_a_model_is_loaded_once(engine: FakeEngine) -> None:
    backend = opened()
    model = network()
    for count in (1, 2, 3):
        await backend.predict(model, rows_of(count))
    assert engine.loads == 1


async def test_a_device_that_fails_costs_a_rerun_and_is_not_asked_again(
    engine: FakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    backend = opened()
    model, rows = network(), rows_of(3)
    await backend.predict(model, rows)
    engine.will_fail = True
    answers = [await backend.predict(model, rows) for _ in range(3)]
    for answer in answers:
        assert np.array_equal(answer, reference_path.forward(model, rows))
    errors = [line.getMessage() for line in caplog.records if line.levelname == "ERROR"]
    assert len(errors) == 1, "once, not at each batch"
    assert "CL_OUT_OF_RESOURCES" in errors[0]
    assert engine.closed == 1
    assert backend.description == "numpy (Turbo 9000 failed: CL_OUT_OF_RESOURCES)"


async def test_a_device_that_fails_even_when_closed_costs_no_answer_and_is_not_asked_again(
    engine: FakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    backend = opened()
    model, rows = network(), rows_of(3)
    await backend.predict(model, rows)
    engine.will_fail = True
    engine.close_error = ArithmeticError("a bug of the binding")
    for _ in range(2):
        assert np.array_equal(await backend.predict(model, rows), reference_path.forward(model, rows))
    assert engine.closed == 1
    errors = [line.getMessage() for line in caplog.records if line.levelname == "ERROR"]
    assert len(errors) == 2
    assert "a bug of the binding" in errors[1]
    assert backend.description == "numpy (Turbo 9000 failed: CL_OUT_OF_RESOURCES)"


async def test_models_on_the_device_are_bounded_and_the_least_recently_used_makes_room(engine: FakeEngine) -> None:
    backend = opened()
    models = [network(seed) for seed in range(MODELS_MAX + 1)]
    for model in models[:-1]:
        await backend.predict(model, rows_of(1))
    await backend.predict(models[0], rows_of(1))
    await backend.predict(models[-1], rows_of(1))
    assert set(engine.loaded.values()) == {models[0], *models[2:]}
    await backend.predict(models[1], rows_of(1))
    assert set(engine.loaded.values()) == {*models[:2], *models[3:]}
    assert engine.loads == MODELS_MAX + 2


async def test_a_model_that_was_dropped_by_everybody_else_is_not_taken_for_the_next_one(engine: FakeEngine) -> None:
    backend = opened()
    rows = rows_of(2)
    models = [network(seed) for seed in range(1, MODELS_MAX)]
    layers = network(MODELS_MAX).layers
    identities = {id(model) for model in models}
    while models:
        await backend.predict(models.pop(), rows)
    # Enough to fill every gap in memory: some of these get an identity of those, if they are gone.
    others = [Mlp(layers) for _ in range(10_000)]
    suspect = next((model for model in others if id(model) in identities), others[0])
    assert np.array_equal(await backend.predict(suspect, rows), reference_path.forward(suspect, rows))


async def test_a_device_without_room_for_another_model_gets_rid_of_old_ones(engine: FakeEngine) -> None:
    backend = opened()
    engine.room = 2
    models = [network(seed) for seed in range(4)]
    for model in models:
        answers = await backend.predict(model, rows_of(2))
        assert np.array_equal(answers, reference_path.forward(model, rows_of(2)))
    assert list(engine.loaded.values()) == models[2:]
    assert engine.closed == 0


async def test_only_the_model_that_the_device_can_not_hold_is_answered_without_it(
    engine: FakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    backend = opened()
    small, large = network(1), network(2, inputs=40)
    engine.bytes_max = small.nbytes
    for _ in range(3):
        for model in (small, large):
            rows = rows_of(2, inputs=model.inputs)
            assert np.array_equal(await backend.predict(model, rows), reference_path.forward(model, rows))
    assert list(engine.loaded.values()) == [small]
    assert engine.loads == 2, "the small one made room once, in vain"
    assert engine.closed == 0
    assert backend.description == "Turbo 9000"
    warnings = [line.getMessage() for line in caplog.records if line.levelname == "WARNING"]
    assert len(warnings) == 1
    assert large.shape in warnings[0]
    assert "no memory left" in warnings[0]


async def test_models_that_the_device_can_not_hold_are_bounded_too(engine: FakeEngine) -> None:
    backend = opened()
    engine.bytes_max = 0
    for seed in range(MODELS_MAX + 5):
        await backend.predict(network(seed), rows_of(1))
    assert len(backend._handles) == MODELS_MAX


async def test_a_device_that_fails_while_it_takes_a_model_is_given_up(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(model: Mlp) -> ModelHandle:
        engine.healthy = False
        raise DeviceError("CL_DEVICE_NOT_AVAILABLE")

    monkeypatch.setattr(engine, "load", lost)
    backend = opened()
    answers = await backend.predict(network(), rows_of(2))
    assert np.array_equal(answers, reference_path.forward(network(), rows_of(2)))
    assert backend.description == "numpy (Turbo 9000 failed: CL_DEVICE_NOT_AVAILABLE)"
    assert engine.closed == 1


async def test_the_device_is_given_back_after_the_batch_that_runs_even_when_cancelled(engine: FakeEngine) -> None:
    backend = opened()
    await backend.open()
    with trio.move_on_after(0.5):
        try:
            await backend.predict(network(), rows_of(1))
        finally:
            await backend.aclose()
    assert engine.closed == 1
    assert engine.loads == 1


async def test_a_backend_that_was_never_opened_has_nothing_to_give_back(engine: FakeEngine) -> None:
    await opened().aclose()
    assert engine.closed == 0
