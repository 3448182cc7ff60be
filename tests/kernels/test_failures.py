"""A device that fails: what the engine says, what it leaves behind, and what comes after it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from kernels import reference
from kernels.device import DeviceInfo
from kernels.errors import DeviceError, UnknownModelError
from tests.kernels.networks import features, network, tolerance

if TYPE_CHECKING:
    from kernels.opencl import OpenClEngine

pytestmark = pytest.mark.device


def test_a_device_that_fails_in_a_batch_is_unhealthy_and_the_reference_answers(
    default_engine: "OpenClEngine", monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyopencl as cl

    from kernels.pipeline import Pipeline

    model = network([3, 300, 2])
    rows = features(model, 4)
    handle = default_engine.load(model)
    expected = default_engine.predict(handle, rows)

    def lost(*arguments: object) -> None:
        raise cl.RuntimeError("clEnqueueNDRangeKernel failed: OUT_OF_RESOURCES")

    monkeypatch.setattr(Pipeline, "_launch_softmax", lost)
    with pytest.raises(DeviceError, match=r"failed on 4 rows: .*OUT_OF_RESOURCES"):
        default_engine.predict(handle, rows)
    assert not default_engine.healthy
    monkeypatch.undo()
    with pytest.raises(DeviceError, match="open another"):
        default_engine.classify(handle, rows)
    np.testing.assert_allclose(reference.forward(model, rows), expected, atol=tolerance(model), rtol=0)


def test_a_model_that_the_device_has_no_room_for_leaves_the_others(
    default_engine: "OpenClEngine", monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyopencl as cl

    model = network([3, 300, 2])
    handle = default_engine.load(model)
    create = cl.Buffer
    made: list[Any] = []

    def limited(*arguments: Any, **options: Any) -> Any:
        if len(made) == 2:
            raise cl.MemoryError("MEM_OBJECT_ALLOCATION_FAILURE")
        made.append(create(*arguments, **options))
        return made[-1]

    monkeypatch.setattr(cl, "Buffer", limited)
    with pytest.raises(DeviceError, match=r"cannot hold a 3-300-2 model: .*ALLOCATION_FAILURE"):
        default_engine.load(model)
    monkeypatch.undo()
    assert default_engine.healthy
    assert default_engine.predict(handle, features(model, 2)).shape == (2, 2)
    for buffer in made:
        with pytest.raises(cl.LogicError):
            buffer.release()  # the first layer's buffers were released already


class Launches:
    """Every launch of an engine's kernels, with the event that tells when it is done."""

    def __init__(self, engine: "OpenClEngine") -> None:
        self.events: list[Any] = []
        for name, kernel in engine._kernels.items():
            engine._kernels[name] = self._noted(kernel)

    @property
    def are_done(self) -> bool:
        import pyopencl as cl

        complete = cl.command_execution_status.COMPLETE
        return all(event.command_execution_status == complete for event in self.events)

    def _noted(self, kernel: Any) -> Any:
        def launch(*arguments: Any) -> Any:
            self.events.append(kernel(*arguments))
            return self.events[-1]

        return launch


# Takes the machine long enough for what does not wait to be seen: 2 billion operations a layer.
SLOW_WIDTHS = (1024, 1024, 1024)
SLOW_ROWS = 1024


@pytest.mark.parametrize("error", ["driver", "memory"])
def test_nothing_runs_any_more_on_rows_whose_batch_failed(
    default_engine: "OpenClEngine", monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    import pyopencl as cl

    from kernels.pipeline import Pipeline

    model = network(SLOW_WIDTHS)
    rows = features(model, SLOW_ROWS)
    handle = default_engine.load(model)
    launches = Launches(default_engine)
    raised = cl.RuntimeError("clEnqueueNDRangeKernel failed: OUT_OF_RESOURCES") if error == "driver" else MemoryError()

    def lost(*arguments: object) -> None:
        raise raised

    monkeypatch.setattr(Pipeline, "_launch_softmax", lost)
    with pytest.raises(DeviceError if error == "driver" else MemoryError):
        default_engine.predict(handle, rows)
    assert len(launches.events) == 2
    assert launches.are_done
    assert default_engine.healthy == (error == "memory")


def test_a_block_goes_back_to_the_pool_only_when_nothing_uses_it(
    default_engine: "OpenClEngine", monkeypatch: pytest.MonkeyPatch
) -> None:
    from kernels.buffers import Block, Pool

    model = network(SLOW_WIDTHS)
    handle = default_engine.load(model)
    launches = Launches(default_engine)
    give = Pool.give
    done: list[bool] = []

    def noted(pool: Pool, block: Block) -> None:
        done.append(launches.are_done)
        give(pool, block)

    monkeypatch.setattr(Pool, "give", noted)
    for call in (default_engine.predict, default_engine.classify):
        launches.events.clear()
        call(handle, features(model, SLOW_ROWS))
        assert len(launches.events) >= 3
    assert done == [True] * 9  # rows, two activations and probabilities; then classes too


def test_a_device_that_takes_no_memory_back_is_closed_all_the_same(
    default_engine: "OpenClEngine", monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyopencl as cl

    from kernels.buffers import DeviceBlock, SharedBlock

    refused: list[object] = []

    class Refusing:
        def __init__(self, buffer: Any) -> None:
            self.buffer = buffer

        def release(self) -> None:
            refused.append(self.buffer)
            raise cl.RuntimeError("clReleaseMemObject failed: OUT_OF_RESOURCES")

    def release(block: object) -> None:
        refused.append(block)
        raise cl.RuntimeError("clReleaseMemObject failed: OUT_OF_RESOURCES")

    model = network([3, 300, 2])
    handle = default_engine.load(model)
    default_engine.predict(handle, features(model, 4))
    pipeline = default_engine._roster.get(handle)
    resident = pipeline._resident = [Refusing(buffer) for buffer in pipeline._resident]
    expected = len(resident) + len(default_engine._staging._idle) + len(default_engine._scratch._idle)
    for kind in (DeviceBlock, SharedBlock):
        monkeypatch.setattr(kind, "release", release)
    default_engine.close()
    assert len(refused) == expected > 4
    monkeypatch.undo()
    with pytest.raises(UnknownModelError):
        default_engine.predict(handle, features(model, 4))


def test_an_engine_that_is_opened_after_a_failure_has_a_context_of_its_own(
    device: DeviceInfo, binaries: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyopencl as cl

    from kernels.opencl import OpenClEngine
    from kernels.pipeline import Pipeline

    def lost(*arguments: object) -> None:
        raise cl.RuntimeError("clEnqueueNDRangeKernel failed: OUT_OF_RESOURCES")

    first = OpenClEngine(device, cache_dir=binaries, host_flop_max=-1)
    beside = OpenClEngine(device, cache_dir=binaries, host_flop_max=-1)
    assert beside._program is first._program
    model = network([3, 300, 2])
    handle = first.load(model)
    with monkeypatch.context() as patched:
        patched.setattr(Pipeline, "_launch_softmax", lost)
        with pytest.raises(DeviceError):
            first.predict(handle, features(model, 4))
    again = OpenClEngine(device, cache_dir=binaries, host_flop_max=-1)
    assert again._program.context != first._program.context
    assert again.predict(again.load(model), features(model, 4)).shape == (4, 2)
    for engine in (first, beside, again):
        engine.close()
