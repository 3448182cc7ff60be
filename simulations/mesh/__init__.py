"""Whole nodes under faults: the production `Node` and `Client`, many of them in one run, and what must hold of them.

`run(plan)` gives a `Report`. The same plan gives the same report, to the last byte of the trace. What the clients of a
run do is a workload: one that comes with the simulator, or a function of a user's own that is given a `World`.
"""

from simulations.mesh.client import SimClient
from simulations.mesh.report import Report
from simulations.mesh.workload import World
from simulations.mesh.world import run

__all__ = ["Report", "SimClient", "World", "run"]
