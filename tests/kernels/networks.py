"""Random networks and rows for the tests."""

import itertools
from collections.abc import Sequence

import numpy as np

from kernels.model import Floats, Layer, Mlp


def network(widths: Sequence[int], seed: int = 0) -> Mlp:
    """A network of these widths, scaled so that activations stay near one."""
    rng = np.random.default_rng(seed)
    return Mlp(
        tuple(
            Layer(
                rng.standard_normal((inputs, outputs), np.float32) / np.float32(inputs**0.5),
                rng.standard_normal(outputs, np.float32),
            )
            for inputs, outputs in itertools.pairwise(widths)
        )
    )


def features(model: Mlp, count: int, seed: int = 1) -> Floats:
    """Rows of standard normal features."""
    return np.random.default_rng(seed).standard_normal((count, model.inputs), np.float32)


def tolerance(model: Mlp) -> float:
    """How far two float32 evaluations of probabilities may lie apart, absolutely.

    A sum of k products in another order moves by about sqrt(k) roundings of its size, and softmax passes a change of
    the logits on at no more than a quarter; 1e-5 a layer leaves a factor of ten for widths up to a few thousand.
    """
    return 1e-5 * len(model.layers)
