"""Whole nodes under faults: the production `Node` and `Client`, many of them in one run, and what must hold of them.

`run(plan)` gives a `Report`. The same plan gives the same report, to the last byte of the trace.
"""

from simulations.mesh.report import Report
from simulations.mesh.world import run

__all__ = ["Report", "run"]
