"""How the work of a dense layer is cut for a kind of device.

Two programs compute the same thing. `lanes` is for CPUs, whose work-items are threads with vector registers: one item
computes a tile. `groups` is for GPUs, whose work-items are lanes: 256 of them compute a tile together.
"""

import functools
from dataclasses import dataclass
from enum import Enum
from typing import Final

from kernels.device import DeviceInfo, Kind

# Activations of a small network stay in local memory between its layers, two buffers of a row tile: 12 rows × 256
# columns × 4 bytes × 2 fits the 32 KiB that every full-profile device has (OpenCL 1.2, table 4.3).
CHAIN_WIDTH_MAX: Final = 256
# The weights of a network that runs in one launch are read again for every row tile: they have to stay in a
# second-level cache.
CHAIN_BYTES_MAX: Final = 2**20
# Filling and emptying a tile's registers costs about as much as this many rows of it.
_TILE_OVERHEAD_ROWS: Final = 2


class Form(Enum):
    """The folder of `programs/` that a device gets."""

    LANES = "lanes"
    GROUPS = "groups"


@dataclass(frozen=True, slots=True)
class Tiling:
    """What the host and the kernels must agree on.

    `panel`: columns of one panel of weights. `dense_rows`, `chain_rows`: row tiles that kernels exist for, ascending.
    `*_items`: work-items of a group. `softmax_rows`: rows of a group of the softmax kernel. `tile_block`: row tiles
    that use a panel before the next one.
    """

    form: Form
    lanes: int
    panel: int
    dense_rows: tuple[int, ...]
    chain_rows: tuple[int, ...]
    dense_items: int
    chain_items: int
    softmax_items: int
    softmax_rows: int
    tile_block: int

    def padded(self, width: int) -> int:
        """The width rounded up to whole panels."""
        return -(-width // self.panel) * self.panel


def lanes_tiling(float_lanes: int) -> Tiling:
    """For a device with vector registers of so many floats."""
    lanes = 16 if float_lanes >= 16 else 8 if float_lanes >= 8 else 4
    # Two vectors a row, and room for the weights and the row's value: 12 rows fill AVX-512's 32 registers, 6 rows the
    # 16 registers of AVX and SSE.
    tallest = 12 if lanes == 16 else 6
    return Tiling(
        form=Form.LANES,
        lanes=lanes,
        panel=2 * lanes,
        dense_rows=(1, 4, tallest),
        chain_rows=(1, 4, tallest),
        dense_items=1,
        chain_items=1,
        softmax_items=1,
        softmax_rows=16,
        tile_block=8,
    )


GROUPS_TILING: Final = Tiling(
    form=Form.GROUPS,
    lanes=4,
    panel=64,
    dense_rows=(16, 64),
    chain_rows=(8,),
    dense_items=256,
    chain_items=64,
    softmax_items=64,
    softmax_rows=1,
    tile_block=8,
)


def tiling_for(device: DeviceInfo) -> Tiling:
    """The tiling that suits the device; the CPU's where a GPU cannot run groups of 256 items."""
    wide = device.kind in (Kind.GPU, Kind.ACCELERATOR)
    if wide and device.group_items_max >= GROUPS_TILING.dense_items:
        return GROUPS_TILING
    return lanes_tiling(device.float_lanes)


# Every batch asks; the answers for the sizes in use are few.
@functools.lru_cache(maxsize=1024)
def row_tile(tiles: tuple[int, ...], *, rows: int, panels: int, compute_units: int) -> int:
    """The row tile under which the busiest compute unit has least to do; the tallest among equals.

    A tall tile reads the weights less often, but a batch may not fill it, or not give every unit one.
    """

    def busiest(tile: int) -> int:
        rounds = -(-(-(-rows // tile) * panels) // compute_units)
        return rounds * (tile + _TILE_OVERHEAD_ROWS)

    return min(reversed(tiles), key=busiest)
