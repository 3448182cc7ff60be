"""What a user can set about prediction."""

from dataclasses import dataclass

from kernels.reference import BATCH_ROWS_MAX


@dataclass(frozen=True, slots=True)
class PredictionConfig:
    """Times in seconds.

    Attributes:
        device: "numpy", a kind of device ("gpu", "accelerator", "cpu"), or part of a device's, vendor's or platform's
            name; empty for the best there is.
        cache_dir: where compiled kernels are kept between runs; empty compiles them in each. The driver runs what it
            finds there: nobody else may be able to write to it.
        batch_rows_max: rows in one batch, and so in one request.
        waiting_rows_max: rows that may wait for one model; past it a caller is told to come back later.
        refresh_s: how often a model in use is looked at for a newer version.
    """

    device: str = ""
    cache_dir: str = ""
    batch_rows_max: int = 4096
    waiting_rows_max: int = 65_536
    refresh_s: float = 2.0

    def __post_init__(self) -> None:
        for name in ("batch_rows_max", "waiting_rows_max", "refresh_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}: choose above 0")
        if self.batch_rows_max > BATCH_ROWS_MAX:
            raise ValueError(f"batch_rows_max is {self.batch_rows_max}: choose up to {BATCH_ROWS_MAX}")
        if self.waiting_rows_max < self.batch_rows_max:
            raise ValueError(
                f"waiting_rows_max is {self.waiting_rows_max}: it must hold a batch ({self.batch_rows_max})"
            )
