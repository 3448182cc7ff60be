"""The demo's model, trained on the digits that come with scikit-learn."""

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kernels import Layer, Mlp
from meshnode.demo.digits import PIXEL_MAX

HIDDEN = (64, 32)
HELD_OUT = 0.2
SEED = 7


@dataclass(frozen=True, slots=True)
class Digits:
    """All images, and which of them the training never saw.

    Attributes:
        images: uint8 (1797, 64).
        labels: int64 (1797,).
        held_out: bool (1797,).
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    held_out: npt.NDArray[np.bool_]


def load_digits() -> Digits:
    """The data set, with a fifth held out, the same fifth every time."""
    from sklearn.datasets import load_digits as load

    data = load()
    images = data.data.astype(np.uint8)
    held_out = np.zeros(len(images), dtype=np.bool_)
    chosen = np.random.default_rng(SEED).permutation(len(images))[: round(len(images) * HELD_OUT)]
    held_out[chosen] = True
    return Digits(images, data.target.astype(np.int64), held_out)


def train(digits: Digits) -> Mlp:
    """A multilayer perceptron trained on the images that are not held out. Takes about a second."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    classifier = MLPClassifier(HIDDEN, max_iter=60, random_state=SEED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # sixty passes are enough for the demo's accuracy
        classifier.fit(digits.images[~digits.held_out] / PIXEL_MAX, digits.labels[~digits.held_out])
    return Mlp(
        tuple(
            Layer(np.ascontiguousarray(weights, dtype=np.float32), np.ascontiguousarray(bias, dtype=np.float32))
            for weights, bias in zip(classifier.coefs_, classifier.intercepts_, strict=True)
        )
    )
