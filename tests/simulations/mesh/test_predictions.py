"""Predictions of simulated nodes: answers of a published model, whatever fails."""

import dataclasses
import random
from collections import Counter
from typing import Any

import numpy as np
import pytest

from kernels import DeviceError, Mlp
from meshnode.prediction import EngineBackend, Predictor
from simulations.cores.faults import Crash
from simulations.faults import BadDevice, Faults
from simulations.mesh import run
from simulations.mesh.devices import Devices
from simulations.mesh.predictions import draw_model
from simulations.plan import Plan
from tests.simulations.mesh.test_world import found

DEVICES = tuple(BadDevice(node, 2, 1.0 + node) for node in range(3))
PLAN = Plan(
    nodes=3,
    clients=2,
    duration_s=8.0,
    keys=4,
    partitions=4,
    tempo=0.5,
    workload="predict",
    faults=Faults(bad_devices=DEVICES, crashes=(Crash(1, 4.0, 1.5, power=False),)),
)


def test_devices_that_fail_in_a_batch_and_nodes_that_die_cost_no_answer() -> None:
    report = run(PLAN)
    assert report.violation is None, report.violation
    assert report.fired["device in a batch"] >= 2
    assert report.acknowledged > 50


def test_predictions_repeat_themselves_too() -> None:
    plan = dataclasses.replace(PLAN, duration_s=3.0)
    assert run(plan).digest == run(plan).digest


def test_an_answer_that_no_published_model_gives_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = EngineBackend._go_on_with_numpy

    def careless(backend: Any, model: Mlp, rows: Any) -> Any:
        try:
            return backend._engine.predict(backend._handle(model), rows)
        except DeviceError as error:
            go_on(backend, error)
            return np.zeros((len(rows), model.outputs), np.float32)

    monkeypatch.setattr(EngineBackend, "_predict", careless)
    assert found(PLAN, range(1)) == {"prediction-reference"}


def test_a_node_that_keeps_to_an_old_model_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(_predictor: Any, _name: str, _known: Any) -> None:
        return

    monkeypatch.setattr(Predictor, "_refresh", never)
    assert found(PLAN, range(1)) == {"prediction-fresh"}


def test_a_device_computes_so_many_batches_more_and_is_whole_for_the_next_process() -> None:
    failed: Counter[str] = Counter()
    devices = Devices(failed)
    model = draw_model(random.Random(1))
    rows = np.zeros((2, model.inputs), np.float32)
    device = devices._open(preference="n1", cache_dir=None)
    devices.spoil("n1", batches=1)
    devices.spoil("n2", batches=0)  # no process has it open
    handle = device.load(model)
    assert device.predict(handle, rows).shape == (2, model.outputs)
    assert device.healthy
    for _attempt in range(2):
        with pytest.raises(DeviceError, match="the device of n1 fails in the middle of 2 rows"):
            device.predict(handle, rows)
        assert not device.healthy
    assert failed == {"device in a batch": 2}
    again = devices._open(preference="n1", cache_dir=None)
    assert again.predict(again.load(model), rows).shape == (2, model.outputs)
