"""``python -m simulations``: the same as ``meshnode simulate``."""

from simulations.cli import simulate

simulate()
