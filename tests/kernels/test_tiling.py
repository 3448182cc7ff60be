"""How work is cut."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.device import Kind
from kernels.pipeline import packed_bias, packed_weights, row_stride, runs_as_chain
from kernels.source import program_source, source_digest
from kernels.tiling import CHAIN_WIDTH_MAX, GROUPS_TILING, Form, Tiling, lanes_tiling, row_tile, tiling_for
from tests.kernels.networks import network
from tests.kernels.test_device import device_info

ALL = [lanes_tiling(4), lanes_tiling(8), lanes_tiling(16), GROUPS_TILING]


def test_a_gpu_gets_groups_and_a_cpu_gets_its_vectors() -> None:
    assert tiling_for(device_info(kind=Kind.GPU)) is GROUPS_TILING
    assert tiling_for(device_info(kind=Kind.CPU, float_lanes=16)).lanes == 16
    assert tiling_for(device_info(kind=Kind.CPU, float_lanes=8)).lanes == 8
    assert tiling_for(device_info(kind=Kind.CPU, float_lanes=1)).lanes == 4


def test_a_gpu_with_small_groups_gets_the_form_without_groups() -> None:
    assert tiling_for(device_info(kind=Kind.GPU, group_items_max=128)).form is Form.LANES


@pytest.mark.parametrize("tiling", ALL, ids=lambda tiling: f"{tiling.form.value}-{tiling.lanes}")
def test_the_activations_of_a_chain_fit_the_local_memory_that_every_device_has(tiling: Tiling) -> None:
    assert 2 * 4 * max(tiling.chain_rows) * CHAIN_WIDTH_MAX <= 32 * 1024


@given(st.sampled_from(ALL), st.integers(1, 200), st.integers(1, 200))
def test_packed_weights_hold_each_weight_where_the_kernels_read_it(tiling: Tiling, inputs: int, outputs: int) -> None:
    layer = network([inputs, outputs]).layers[0]
    packed = packed_weights(layer, tiling.panel)
    bias = packed_bias(layer, tiling.panel)
    assert packed.shape == (tiling.padded(outputs) // tiling.panel, inputs, tiling.panel)
    assert packed.flags.c_contiguous
    assert bias.shape == (tiling.padded(outputs),)
    wide = np.concatenate(list(packed), axis=1)
    np.testing.assert_array_equal(wide[:, :outputs], layer.weights)
    np.testing.assert_array_equal(bias[:outputs], layer.bias)
    assert not wide[:, outputs:].any()
    assert not bias[outputs:].any()


@given(st.integers(1, 70_000))
def test_no_stride_is_a_multiple_of_a_page(width: int) -> None:
    stride = row_stride(width)
    assert width <= stride <= width + 16
    assert stride * 4 % 4096 != 0


def test_one_row_gets_the_smallest_tile_and_a_large_batch_the_tallest() -> None:
    for tiling in ALL:
        for panels in (1, 16):
            assert row_tile(tiling.dense_rows, rows=1, panels=panels, compute_units=2) == tiling.dense_rows[0]
            assert row_tile(tiling.dense_rows, rows=4096, panels=panels, compute_units=2) == tiling.dense_rows[-1]


def test_a_tall_tile_does_not_leave_a_compute_unit_idle() -> None:
    assert row_tile((1, 4, 12), rows=12, panels=1, compute_units=2) == 4
    assert row_tile((1, 4, 12), rows=24, panels=1, compute_units=2) == 12


def test_a_network_runs_as_a_chain_only_when_it_is_small() -> None:
    tiling = lanes_tiling(16)
    assert runs_as_chain(network([64, 64, 10]), tiling)
    assert not runs_as_chain(network([CHAIN_WIDTH_MAX + 1, 10]), tiling)
    assert not runs_as_chain(network([10, CHAIN_WIDTH_MAX + 1]), tiling)
    assert not runs_as_chain(network([256] * 6), tiling)


def test_each_tiling_has_its_own_source_and_digest() -> None:
    sources = [program_source(tiling) for tiling in ALL]
    assert len({source_digest(source) for source in sources}) == len(ALL)
    for tiling, source in zip(ALL, sources, strict=True):
        for rows in tiling.dense_rows:
            assert f"#define ROWS {rows}\n" in source
    assert source_digest(program_source(dataclasses.replace(ALL[0], tile_block=9))) != source_digest(sources[0])
