"""The choice of an engine, and the numpy one."""

import dataclasses
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kernels import engine as engine_module
from kernels import reference
from kernels.description import Backend
from kernels.device import NO_PLATFORM, NO_PYOPENCL, DeviceInfo, Discovery, discover
from kernels.engine import NumpyEngine, open_engine
from kernels.errors import DeviceError, RowsError, UnknownModelError
from tests.kernels.networks import features, network, tolerance
from tests.kernels.test_device import raises


def test_the_numpy_engine_answers_as_the_reference_does() -> None:
    engine = NumpyEngine("a test")
    model = network([5, 4, 3])
    rows = features(model, 6)
    handle = engine.load(model)
    expected = reference.forward(model, rows)
    np.testing.assert_array_equal(engine.predict(handle, rows), expected)
    np.testing.assert_array_equal(engine.classify(handle, rows), reference.classify(expected))
    assert engine.predict(handle, rows[:0]).shape == (0, 3)
    assert engine.classify(handle, rows[:0]).shape == (0,)
    with pytest.raises(RowsError):
        engine.predict(handle, rows[:, :2])
    engine.unload(handle)
    with pytest.raises(UnknownModelError):
        engine.predict(handle, rows)
    assert engine.healthy
    assert str(engine.description) == "numpy (a test)"


def test_a_closed_engine_knows_no_model() -> None:
    engine = NumpyEngine("a test")
    handle = engine.load(network([2, 2]))
    engine.close()
    with pytest.raises(UnknownModelError):
        engine.classify(handle, np.zeros((1, 2), np.float32))


@pytest.mark.parametrize("problem", [NO_PYOPENCL, NO_PLATFORM])
def test_without_a_device_numpy_answers_and_says_why(problem: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "kernels"):
        engine = open_engine(discovery=Discovery((), (problem,)))
    assert engine.description.backend is Backend.NUMPY
    assert engine.description.reason == problem
    assert [record.getMessage() for record in caplog.records] == [f"prediction runs on numpy ({problem})"]


def test_numpy_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "discover", lambda: raises(AssertionError("no need to look")))
    assert open_engine(preference="NumPy").description.reason == "asked for"


def test_importing_the_package_imports_no_driver_and_works_without_pyopencl() -> None:
    script = (
        "import sys; sys.modules['pyopencl'] = None\n"
        "import numpy, kernels\n"
        "engine = kernels.open_engine()\n"
        "model = kernels.Mlp((kernels.Layer(numpy.ones((1, 2), 'f4'), numpy.zeros(2, 'f4')),))\n"
        "print(engine.predict(engine.load(model), numpy.ones((1, 1), 'f4')).tolist(), engine.description)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == f"[[0.5, 0.5]] numpy ({NO_PYOPENCL})"
    script = "import sys, kernels; print([name for name in sys.modules if name.startswith('pyopencl')])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == "[]"


@pytest.mark.device
def test_the_device_is_taken_when_there_is_one(device: DeviceInfo, binaries: Path) -> None:
    engine = open_engine(cache_dir=binaries)
    assert engine.description.backend is Backend.OPENCL
    assert engine.description.device == str(device)
    assert engine.healthy
    model = network([8, 6, 4])
    rows = features(model, 10)
    got = engine.predict(engine.load(model), rows)
    np.testing.assert_allclose(got, reference.forward(model, rows), atol=tolerance(model), rtol=0)
    engine.close()


@pytest.mark.device
def test_a_preference_chooses_and_one_that_matches_nothing_is_told(device: DeviceInfo, binaries: Path) -> None:
    found = discover()
    engine = open_engine(preference=device.platform.upper(), cache_dir=binaries, discovery=found)
    assert engine.description.device == str(device)
    engine.close()
    engine = open_engine(preference="Riva 128", cache_dir=binaries, discovery=found)
    assert engine.description.backend is Backend.NUMPY
    assert "no device matches 'Riva 128'" in engine.description.reason
    assert device.name in engine.description.reason


@pytest.mark.device
def test_a_build_that_fails_passes_to_the_next_device_and_then_to_numpy(
    device: DeviceInfo, binaries: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kernels import program, source

    monkeypatch.setattr(program, "_programs", {})  # other tests have built these
    sound = source.program_source
    broken = dataclasses.replace(device, name="Broken", float_lanes=4 if device.float_lanes >= 8 else 8)
    bad_lanes = 4 if device.float_lanes >= 8 else 8
    monkeypatch.setattr(
        program,
        "program_source",
        lambda tiling: "__kernel void dense_1(" if tiling.lanes == bad_lanes else sound(tiling),
    )
    engine = open_engine(cache_dir=binaries, discovery=Discovery((broken, device), ()))
    assert engine.description.device == str(device)
    assert "build failed" in engine.description.reason
    engine.close()

    engine = open_engine(cache_dir=binaries, discovery=Discovery((broken,), ("earlier problem",)))
    assert engine.description.backend is Backend.NUMPY
    assert engine.description.reason.startswith("earlier problem; build failed: ")


@pytest.mark.device
@pytest.mark.parametrize("kind", ["error", "encoding"])
def test_an_engine_is_opened_even_if_the_log_of_a_failed_build_can_not_be_read(
    device: DeviceInfo, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    import pyopencl as cl

    from kernels import program

    def link(*arguments: object) -> None:
        raise cl.RuntimeError("clLinkProgram failed: LINK_PROGRAM_FAILURE")

    def log(*arguments: object) -> None:
        if kind == "encoding":
            b"\xff".decode()
        raise cl.LogicError("clGetProgramBuildInfo failed: INVALID_PROGRAM")

    monkeypatch.setattr(program, "_programs", {})
    monkeypatch.setattr(cl, "link_program", link)
    monkeypatch.setattr(cl.Program, "get_build_info", log)
    engine = open_engine(discovery=Discovery((device,), ()))
    assert engine.description.backend is Backend.NUMPY
    assert engine.description.reason == "build failed: clLinkProgram failed: LINK_PROGRAM_FAILURE"


@pytest.mark.device
def test_a_build_option_that_the_compiler_refuses_is_a_reason(
    device: DeviceInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kernels import program
    from kernels.tiling import tiling_for

    monkeypatch.setattr(program, "OPTIONS", ("-cl-no-such-option",))
    with pytest.raises(DeviceError, match="build failed"):
        program.build(device, tiling_for(device), None)
