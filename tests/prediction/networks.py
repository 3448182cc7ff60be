"""Small networks and rows for them."""

import itertools

import numpy as np

from kernels import Layer, Mlp
from meshnode.prediction.backend import Rows


def network(seed: int = 0, *, inputs: int = 4, outputs: int = 3) -> Mlp:
    """A network of two layers; another one for each seed."""
    rng = np.random.default_rng(seed)
    widths = (inputs, 5, outputs)
    layers = [
        Layer(rng.standard_normal((before, after), np.float32), rng.standard_normal(after, np.float32))
        for before, after in itertools.pairwise(widths)
    ]
    return Mlp(tuple(layers))


def rows_of(count: int, *, inputs: int = 4, seed: int = 1) -> Rows:
    return np.random.default_rng(seed).standard_normal((count, inputs), np.float32)
