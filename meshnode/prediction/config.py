"""What a user can set about prediction."""

from dataclasses import dataclass
from typing import Final

from kernels import WIDTH_MAX, Mlp
from kernels.reference import BATCH_ROWS_MAX

_FLOAT_BYTES: Final = 4

BATCH_BYTES_MIN: Final = 4 * _FLOAT_BYTES * WIDTH_MAX
"""A row of the widest model that there can be: see `row_bytes`."""


def row_bytes(model: Mlp) -> int:
    """What a row takes while its batch is computed: itself, its answer, and on the reference path the activations of
    two neighbouring layers."""
    hidden = max((layer.outputs for layer in model.layers[:-1]), default=0)
    return _FLOAT_BYTES * (model.inputs + model.outputs + 2 * hidden)


@dataclass(frozen=True, slots=True)
class PredictionConfig:
    """Times in seconds, sizes in bytes.

    Attributes:
        device: "numpy", a kind of device ("gpu", "accelerator", "cpu"), or part of a device's, vendor's or platform's
            name; empty for the best there is.
        cache_dir: where compiled kernels are kept between runs; empty compiles them in each. The driver runs what it
            finds there: nobody else may be able to write to it.
        batch_rows_max: rows in one batch, and so in one request.
        batch_bytes_max: what one batch may take, its rows, its answers and what lies between: of a wide model fewer
            rows than ``batch_rows_max`` are one batch.
        waiting_rows_max: rows that may wait for one model; past it a caller is told to come back later.
        waiting_bytes_max: what the rows that wait for all models together may take; past it likewise.
        refresh_s: how often a model in use is looked at for a newer version.
    """

    device: str = ""
    cache_dir: str = ""
    batch_rows_max: int = 4096
    batch_bytes_max: int = 128 * 2**20
    waiting_rows_max: int = 65_536
    waiting_bytes_max: int = 256 * 2**20
    refresh_s: float = 2.0

    def __post_init__(self) -> None:
        for name in ("batch_rows_max", "waiting_rows_max", "refresh_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}: choose above 0")
        if self.batch_rows_max > BATCH_ROWS_MAX:
            raise ValueError(f"batch_rows_max is {self.batch_rows_max}: choose up to {BATCH_ROWS_MAX}")
        if self.waiting_rows_max < self.batch_rows_max:
            raise ValueError(
                f"waiting_rows_max is {self.waiting_rows_max}: it must hold a batch ({self.batch_rows_max})"
            )
        if self.batch_bytes_max < BATCH_BYTES_MIN:
            raise ValueError(
                f"batch_bytes_max is {self.batch_bytes_max}: a row of the widest model takes {BATCH_BYTES_MIN}"
            )
        if self.waiting_bytes_max < self.batch_bytes_max:
            raise ValueError(
                f"waiting_bytes_max is {self.waiting_bytes_max}: it must hold a batch ({self.batch_bytes_max})"
            )

    def batch_rows_of(self, model: Mlp) -> int:
        """The rows of this model that one batch may have: at least one."""
        return min(self.batch_rows_max, self.batch_bytes_max // row_bytes(model))
