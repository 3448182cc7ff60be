"""Every kernel once, on small shapes. Run it under a simulator that checks each access, the first in seconds, the
second in minutes; both report nothing when all is well:

    oclgrind --data-races python -m tests.kernels.checked_run
    oclgrind --uninitialized --build-options -cl-opt-disable python -m tests.kernels.checked_run

(oclgrind 21.10 follows uninitialised values only through code that is not optimised.)
"""

import sys
from unittest.mock import patch

import numpy as np

from kernels import opencl, reference
from kernels.buffers import Block, DeviceBlock, Pool
from kernels.device import discover
from kernels.opencl import OpenClEngine
from kernels.tiling import GROUPS_TILING, lanes_tiling
from tests.kernels.networks import features, network, tolerance

# A chain and a layer too wide for one, no width a whole panel; counts that fill no tile and more than one.
WIDTHS = ((5, 33, 3), (19, 257))
COUNTS = (1, 5, 13)


class ExactPool(Pool):
    """Blocks of exactly the size asked for: in one that is rounded up, an access past the end is allowed."""

    def take(self, nbytes: int) -> Block:
        return DeviceBlock(self._context, nbytes)


def main() -> int:
    """Prints how many batches agreed; 1 when one did not."""
    found = discover()
    agreed = 0
    for tiling in (lanes_tiling(16), lanes_tiling(4), GROUPS_TILING):
        with patch.object(opencl, "Pool", ExactPool):
            engine = OpenClEngine(found.devices[0], cache_dir=None, tiling=tiling, host_flop_max=-1)
        for widths in WIDTHS:
            model = network(widths)
            handle = engine.load(model)
            for count in COUNTS:
                rows = features(model, count)
                expected = reference.forward(model, rows)
                if np.abs(engine.predict(handle, rows) - expected).max() > tolerance(model):
                    return 1
                if (engine.classify(handle, rows) != reference.classify(expected)).any():
                    return 1
                agreed += 1
        engine.close()
    sys.stdout.write(f"{agreed} batches agreed on {found.devices[0].platform}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
