"""The kernels against the reference, in every form, on every shape at the edges."""

import dataclasses
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import reference
from kernels.device import DeviceInfo
from kernels.errors import DeviceError, RowsError, TooManyModelsError, UnknownModelError
from kernels.model import Floats, Layer, Mlp
from kernels.roster import MODELS_MAX
from tests.kernels.networks import features, network, tolerance

if TYPE_CHECKING:
    from kernels.opencl import OpenClEngine

pytestmark = pytest.mark.device

# Around every tile height, panel width and step of every form: 1, 4, 6, 8, 12, 16, 32, 64.
EDGES = [1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 15, 16, 17, 31, 32, 33, 63, 64, 65]
# Wider than a chain may be: these go layer by layer.
WIDE = [257, 288, 300, 320, 513, 1024]


def assert_agrees(engine: "OpenClEngine", model: Mlp, rows: Floats) -> None:
    """Probabilities within the tolerance, and a class whose probability is the largest as nearly."""
    handle = engine.load(model)
    try:
        probabilities = engine.predict(handle, rows)
        classes = engine.classify(handle, rows)
    finally:
        engine.unload(handle)
    expected = reference.forward(model, rows)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities, expected, atol=tolerance(model), rtol=0, equal_nan=True)
    np.testing.assert_array_equal(classes, reference.classify(probabilities))


@settings(max_examples=25)
@given(st.lists(st.sampled_from(EDGES), min_size=2, max_size=4), st.integers(0, 70), st.integers(0, 3))
def test_a_small_network_agrees_with_the_reference(
    engine: "OpenClEngine", widths: list[int], count: int, seed: int
) -> None:
    model = network(widths, seed)
    assert_agrees(engine, model, features(model, count, seed))


@settings(max_examples=25)
@given(st.lists(st.sampled_from(EDGES), min_size=1, max_size=3), st.sampled_from(WIDE), st.integers(0, 70), st.data())
def test_a_wide_network_agrees_with_the_reference(
    engine: "OpenClEngine", widths: list[int], wide: int, count: int, data: st.DataObject
) -> None:
    position = data.draw(st.integers(0, len(widths)))
    model = network([*widths[:position], wide, *widths[position:]])
    assert_agrees(engine, model, features(model, count))


@pytest.mark.parametrize("widths", [(5, 7, 3), (5, 300, 3)], ids=["chain", "layers"])
def test_every_batch_size_around_the_tiles_agrees(engine: "OpenClEngine", widths: tuple[int, ...]) -> None:
    model = network(widths)
    rows = features(model, 200)
    for count in [*range(30), 47, 48, 49, 95, 96, 97, 127, 128, 129, 200]:
        assert_agrees(engine, model, rows[:count])


@pytest.mark.parametrize("widths", [(1, 1), (1, 300, 1), (1, 400)], ids=str)
def test_a_width_of_one_agrees(engine: "OpenClEngine", widths: tuple[int, ...]) -> None:
    model = network(widths)
    assert_agrees(engine, model, features(model, 5))


@pytest.mark.parametrize("widths", [(3, 20, 5), (3, 300, 5)], ids=["chain", "layers"])
def test_values_that_are_not_finite_come_out_as_in_the_reference(
    engine: "OpenClEngine", widths: tuple[int, ...]
) -> None:
    model = network(widths)
    rows = features(model, 40)
    rows[3, 1] = np.nan
    rows[17] = np.inf
    rows[18] = [np.inf, -np.inf, 0]
    rows[39, 2] = -np.inf
    expected = reference.forward(model, rows)
    handle = engine.load(model)
    got = engine.predict(handle, rows)
    classes = engine.classify(handle, rows)
    engine.unload(handle)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(expected))
    np.testing.assert_allclose(got, expected, atol=tolerance(model), rtol=0, equal_nan=True)
    assert np.isnan(got[3]).all()
    assert classes[3] == 0


@pytest.mark.parametrize("hidden", [20, 300], ids=["chain", "layers"])
def test_huge_logits_do_not_overflow(engine: "OpenClEngine", hidden: int) -> None:
    spread = np.zeros((1, hidden), np.float32)
    spread[0, :2] = 1, -1
    gather = np.zeros((hidden, 2), np.float32)
    gather[0, 0] = gather[1, 1] = 1
    model = Mlp((Layer(spread, np.zeros(hidden, np.float32)), Layer(gather, np.zeros(2, np.float32))))
    handle = engine.load(model)
    got = engine.predict(handle, np.array([[1e30], [-1e30], [0]], np.float32))
    engine.unload(handle)
    np.testing.assert_array_equal(got, [[1, 0], [0, 1], [0.5, 0.5]])


def test_a_tie_goes_to_the_first_class(engine: "OpenClEngine") -> None:
    for outputs in (2, 17, 300):
        model = Mlp((Layer(np.zeros((2, outputs), np.float32), np.zeros(outputs, np.float32)),))
        handle = engine.load(model)
        assert engine.classify(handle, features(model, 9)).tolist() == [0] * 9
        engine.unload(handle)


def test_rows_that_lie_apart_are_read_where_they_lie(engine: "OpenClEngine") -> None:
    model = network([6, 4])
    wide = features(network([12, 1]), 20)
    for rows in (wide[::2, ::2], np.asfortranarray(wide[:, :6]), wide[::-1, :6]):
        assert_agrees(engine, model, rows)


def test_a_read_only_batch_is_answered_and_not_changed(engine: "OpenClEngine") -> None:
    model = network([6, 4])
    rows = features(model, 7)
    before = rows.copy()
    rows.flags.writeable = False
    assert_agrees(engine, model, rows)
    np.testing.assert_array_equal(rows, before)


@pytest.mark.parametrize("widths", [(9, 33, 5), (9, 300, 5)], ids=["chain", "layers"])
def test_no_batch_sees_what_an_earlier_one_left_in_the_buffers(engine: "OpenClEngine", widths: tuple[int, ...]) -> None:
    model = network(widths)
    handle = engine.load(model)
    rows = features(model, 50)
    counts = (1, 5, 13, 49, 50)
    before = [engine.predict(handle, rows[:count]) for count in counts]
    for count, expected in zip(counts, before, strict=True):
        assert np.isnan(engine.predict(handle, np.full((50, 9), np.nan, np.float32))).all()
        np.testing.assert_array_equal(engine.predict(handle, rows[:count]), expected)
    engine.unload(handle)


def test_an_answer_does_not_change_with_the_next_batch(engine: "OpenClEngine") -> None:
    model = network([9, 5])
    handle = engine.load(model)
    first = engine.predict(handle, features(model, 20, seed=1))
    kept = first.copy()
    engine.predict(handle, features(model, 20, seed=2))
    np.testing.assert_array_equal(first, kept)
    engine.unload(handle)


def test_models_do_not_disturb_each_other(engine: "OpenClEngine") -> None:
    models = [network(widths, seed) for seed, widths in enumerate([(4, 3), (4, 300, 3), (7, 20, 2), (4, 3)])]
    handles = [engine.load(model) for model in models]
    for handle, model in zip(handles * 2, models * 2, strict=True):
        rows = features(model, 11)
        np.testing.assert_allclose(
            engine.predict(handle, rows), reference.forward(model, rows), atol=tolerance(model), rtol=0
        )
    for handle in handles:
        engine.unload(handle)


def test_a_batch_larger_than_a_block_goes_through_in_slices(
    device: DeviceInfo, binaries: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kernels.buffers import Pool
    from kernels.opencl import OpenClEngine

    take = Pool.take
    sizes: list[int] = []

    def noted(pool: Pool, nbytes: int) -> Any:
        sizes.append(nbytes)
        return take(pool, nbytes)

    bound = 16 * 1024
    engine = OpenClEngine(device, cache_dir=binaries, block_bytes_max=bound, host_flop_max=-1)
    monkeypatch.setattr(Pool, "take", noted)
    for widths in ((10, 300, 3), (10, 20, 3), (1024, 3)):
        model = network(widths)
        sizes.clear()
        assert_agrees(engine, model, features(model, 500))
        assert max(sizes) <= bound
        assert len(sizes) > 8  # several slices of a few blocks each
    engine.close()


def test_wrong_rows_and_unknown_models_are_the_callers_errors(default_engine: "OpenClEngine") -> None:
    handle = default_engine.load(network([3, 2]))
    for call in (default_engine.predict, default_engine.classify):
        with pytest.raises(RowsError, match=r"\(n, 3\)"):
            call(handle, np.zeros((1, 4), np.float32))
    default_engine.unload(handle)
    with pytest.raises(UnknownModelError):
        default_engine.predict(handle, np.zeros((1, 3), np.float32))
    with pytest.raises(UnknownModelError):
        default_engine.unload(handle)
    assert default_engine.healthy


def test_the_number_of_models_is_bounded(default_engine: "OpenClEngine") -> None:
    model = network([2, 2])
    for _ in range(MODELS_MAX):
        default_engine.load(model)
    with pytest.raises(TooManyModelsError):
        default_engine.load(model)
    default_engine.close()
    default_engine.load(model)


def test_a_device_that_computes_nonsense_is_refused(
    device: DeviceInfo, binaries: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kernels import pipeline
    from kernels.opencl import OpenClEngine

    correct = pipeline.packed_bias
    monkeypatch.setattr(pipeline, "packed_bias", lambda layer, panel: correct(layer, panel)[::-1].copy())
    with pytest.raises(DeviceError, match="wrong results"):
        OpenClEngine(device, cache_dir=binaries)


def test_a_batch_not_worth_a_launch_is_answered_without_the_device(
    device: DeviceInfo, binaries: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kernels.opencl import OpenClEngine
    from kernels.pipeline import Pipeline

    model = network([10, 20])  # 400 operations a row
    rows = features(model, 6)
    engine = OpenClEngine(device, cache_dir=binaries, host_flop_max=5 * 400)
    handle = engine.load(model)
    launched: list[int] = []
    enqueue = Pipeline.enqueue

    def noted(pipeline: Pipeline, batch: Floats, *blocks: Any) -> Any:
        launched.append(len(batch))
        return enqueue(pipeline, batch, *blocks)

    monkeypatch.setattr(Pipeline, "enqueue", noted)
    expected = reference.forward(model, rows)
    np.testing.assert_array_equal(engine.predict(handle, rows[:5]), expected[:5])
    np.testing.assert_array_equal(engine.classify(handle, rows[:5]), reference.classify(expected[:5]))
    assert launched == []
    np.testing.assert_allclose(engine.predict(handle, rows), expected, atol=tolerance(model), rtol=0)
    engine.classify(handle, rows)
    assert launched == [6, 6]
    engine.close()


def test_any_thread_may_be_next_but_none_beside_another(default_engine: "OpenClEngine") -> None:
    model = network([3, 2])
    handle = default_engine.load(model)
    rows = features(model, 3)
    outcome: list[Any] = []

    def predict() -> None:
        try:
            outcome.append(default_engine.predict(handle, rows))
        except AssertionError as error:
            outcome.append(error)

    def in_a_thread() -> None:
        thread = threading.Thread(target=predict)
        thread.start()
        thread.join()

    in_a_thread()
    with default_engine._alone:
        in_a_thread()
    np.testing.assert_allclose(outcome[0], reference.forward(model, rows), atol=tolerance(model), rtol=0)
    assert isinstance(outcome[1], AssertionError)


def test_shared_and_device_memory_give_the_same(device: DeviceInfo, binaries: Path) -> None:
    from kernels.opencl import OpenClEngine

    model = network([1024, 300, 7])  # a width whose rows are spread apart only in shared memory
    rows = features(model, 50)
    answers = []
    for shared in (False, device.shared_memory):
        engine = OpenClEngine(dataclasses.replace(device, shared_memory=shared), cache_dir=binaries, host_flop_max=-1)
        answers.append(engine.predict(engine.load(model), rows))
        engine.close()
    np.testing.assert_array_equal(answers[0], answers[1])
