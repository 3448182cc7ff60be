"""Networks as values and as bytes."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.errors import ModelError
from kernels.model import LAYERS_MAX, WIDTH_MAX, Layer, Mlp
from tests.kernels.networks import network

widths = st.lists(st.integers(1, 9), min_size=2, max_size=5)


def layer(inputs: int, outputs: int) -> Layer:
    return Layer(np.zeros((inputs, outputs), np.float32), np.zeros(outputs, np.float32))


@given(widths, st.integers(0, 3))
def test_bytes_give_the_same_network_back(shape: list[int], seed: int) -> None:
    model = network(shape, seed)
    again = Mlp.from_bytes(model.to_bytes())
    assert again == model
    assert hash(again) == hash(model)
    assert again.digest() == model.digest()
    for one, other in zip(model.layers, again.layers, strict=True):
        np.testing.assert_array_equal(one.weights, other.weights)
        np.testing.assert_array_equal(one.bias, other.bias)


def test_the_bytes_are_those_of_the_format() -> None:
    model = Mlp((Layer(np.array([[1.0, 2.0]], np.float32), np.array([3.0, 4.0], np.float32)),))
    assert model.to_bytes() == b"KMLP" + struct.pack("<III4f", 1, 1, 2, 1.0, 2.0, 3.0, 4.0)


def test_another_parameter_is_another_digest() -> None:
    assert network([3, 2], seed=0).digest() != network([3, 2], seed=1).digest()
    assert network([3, 2], seed=0) != network([3, 2], seed=1)
    assert network([3, 2]) != b"not a network"


def test_a_network_names_its_widths() -> None:
    model = network([784, 512, 10])
    assert (model.inputs, model.outputs, model.shape) == (784, 10, "784-512-10")
    assert model.nbytes == 4 * (784 * 512 + 512 + 512 * 10 + 10)


@given(st.binary(max_size=64))
def test_arbitrary_bytes_raise_only_model_error(data: bytes) -> None:
    with pytest.raises(ModelError):
        Mlp.from_bytes(data)


@given(widths, st.data())
def test_damaged_bytes_raise_only_model_error_or_give_a_sound_network(shape: list[int], data: st.DataObject) -> None:
    good = bytearray(network(shape).to_bytes())
    position = data.draw(st.integers(0, len(good) - 1))
    good[position] = data.draw(st.integers(0, 255))
    try:
        model = Mlp.from_bytes(good)
    except ModelError:
        return
    assert model.to_bytes() == bytes(good)


@given(widths, st.data())
def test_cut_or_extended_bytes_raise_model_error(shape: list[int], data: st.DataObject) -> None:
    good = network(shape).to_bytes()
    cut = data.draw(st.integers(0, len(good) - 1))
    with pytest.raises(ModelError):
        Mlp.from_bytes(good[:cut])
    with pytest.raises(ModelError):
        Mlp.from_bytes(good + b"\0")


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (b"KML", "too few"),
        (b"PICK" + struct.pack("<I", 1), "starts with"),
        (b"KMLP" + struct.pack("<I", 0), "layers, not 0"),
        (b"KMLP" + struct.pack("<I", 2**32 - 1), "layers, not 4294967295"),
        (b"KMLP" + struct.pack("<I", 2), "need 24 bytes"),
        (b"KMLP" + struct.pack("<III", 1, 0, 4), "not 0 and 4"),
        (b"KMLP" + struct.pack("<III", 1, WIDTH_MAX + 1, 1), "not 65537 and 1"),
        (b"KMLP" + struct.pack("<III", 1, WIDTH_MAX, WIDTH_MAX), "bytes of parameters"),
        (b"KMLP" + struct.pack("<III", 1, 4, 4), "these shapes take"),
        (b"KMLP" + struct.pack("<III2f", 1, 1, 1, float("nan"), 0.0), "NaN"),
        (b"KMLP" + struct.pack("<IIIII7f", 2, 1, 2, 1, 1, *[0.0] * 7), "these shapes take"),
        (b"KMLP" + struct.pack("<IIIII6f", 2, 1, 2, 1, 1, *[0.0] * 6), "layer 1 takes 1 inputs"),
    ],
)
def test_hostile_bytes_are_refused_with_the_reason(head: bytes, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Mlp.from_bytes(head)


@pytest.mark.parametrize(
    ("weights", "bias", "message"),
    [
        (np.zeros((2, 3)), np.zeros(3, np.float32), "float64"),
        (np.zeros((2, 3), np.float32), [0.0, 0.0, 0.0], "list"),
        (np.zeros(6, np.float32), np.zeros(3, np.float32), "dimension"),
        (np.zeros((2, 3), np.float32), np.zeros(2, np.float32), r"need a bias of shape \(3,\)"),
        (np.zeros((0, 3), np.float32), np.zeros(3, np.float32), "inputs, not 0"),
        (np.zeros((2, 0), np.float32), np.zeros(0, np.float32), "outputs, not 0"),
        (np.full((2, 3), np.inf, np.float32), np.zeros(3, np.float32), "infinity"),
        (np.zeros((2, 3), np.float32), np.full(3, np.nan, np.float32), "NaN"),
    ],
)
def test_a_layer_that_cannot_be_is_refused_with_the_reason(weights: object, bias: object, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Layer(weights, bias)  # type: ignore[arg-type]


def test_layers_that_do_not_chain_are_refused() -> None:
    with pytest.raises(ModelError, match="layer 1 takes 4 inputs but layer 0 has 3 outputs"):
        Mlp((layer(2, 3), layer(4, 1)))


def test_a_network_without_layers_or_with_too_many_is_refused() -> None:
    with pytest.raises(ModelError, match="not 0"):
        Mlp(())
    with pytest.raises(ModelError, match=f"not {LAYERS_MAX + 1}"):
        Mlp((layer(1, 1),) * (LAYERS_MAX + 1))


def test_a_network_does_not_change_with_the_arrays_it_was_made_of() -> None:
    weights, bias = np.ones((2, 2), np.float32), np.ones(2, np.float32)
    model = Mlp((Layer(weights, bias),))
    before = model.digest()
    weights[0, 0] = 7
    assert model.digest() == before
    with pytest.raises(ValueError, match="read-only"):
        model.layers[0].weights[0, 0] = 7


def test_column_major_weights_are_kept_row_by_row() -> None:
    weights = np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3))
    kept = Layer(weights, np.zeros(3, np.float32)).weights
    assert kept.flags.c_contiguous
    np.testing.assert_array_equal(kept, weights)
