"""The engine behind the predictor: one batch at a time, and an answer whatever the device does."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trio

from kernels import Backend, Description, DeviceError, Mlp, ModelHandle
from kernels import reference as reference_path
from kernels.reference import Classes
from meshnode.prediction import backend as backend_module
from meshnode.prediction.backend import MODELS_LOADED_MAX, EngineBackend, Rows
from tests.prediction.networks import network, rows_of


class FakeEngine:
    """Computes by the reference path; fails when told to, and has room for so many models."""

    def __init__(self, *, room: int = 64) -> None:
        self.room = room
        self.healthy = True
        self.loaded: dict[ModelHandle, Mlp] = {}
        self.loads = 0
        self.closed = 0
        self.will_fail = False
        self.at_work = 0
        self.description = Description(Backend.OPENCL, "Turbo 9000", "")

    def load(self, model: Mlp) -> ModelHandle:
        if len(self.loaded) >= self.room:
            raise DeviceError("no memory left on the device")
        self.loads += 1
        handle = ModelHandle(self.loads)
        self.loaded[handle] = model
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


async def test_models_on_the_device_are_bounded_and_the_oldest_makes_room(engine: FakeEngine) -> None:
    backend = opened()
    models = [network(seed) for seed in range(MODELS_LOADED_MAX + 1)]
    for model in models:
        await backend.predict(model, rows_of(1))
    assert list(engine.loaded.values()) == models[1:]
    await backend.predict(models[0], rows_of(1))
    assert list(engine.loaded.values()) == [*models[2:], models[0]]


async def test_a_device_without_room_for_another_model_gets_rid_of_old_ones(engine: FakeEngine) -> None:
    backend = opened()
    engine.room = 2
    models = [network(seed) for seed in range(4)]
    for model in models:
        answers = await backend.predict(model, rows_of(2))
        assert np.array_equal(answers, reference_path.forward(model, rows_of(2)))
    assert list(engine.loaded.values()) == models[2:]
    assert engine.closed == 0


async def test_a_device_without_room_for_one_model_alone_is_given_up(engine: FakeEngine) -> None:
    backend = opened()
    engine.room = 0
    answers = await backend.predict(network(), rows_of(2))
    assert np.array_equal(answers, reference_path.forward(network(), rows_of(2)))
    assert backend.description.startswith("numpy (Turbo 9000 failed: no memory left")


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
