"""What all draws of faults have in common."""

import random
from collections.abc import Callable


class Drawing:
    """One plan in the making.

    Attributes:
        victim: the one node that may lose what it had synced. More than one could cost a partition the majority of its
            replicas, and then nothing is to be expected.
    """

    def __init__(self, rng: random.Random, nodes: int, duration_s: float) -> None:
        self.rng = rng
        self.nodes = nodes
        self.duration_s = duration_s
        self.victim = rng.randrange(nodes)

    @property
    def last_s(self) -> float:
        """When everything is over."""
        return 0.95 * self.duration_s

    def node(self) -> int:
        """Any."""
        return self.rng.randrange(self.nodes)

    def sound_pair(self) -> tuple[int, int] | None:
        """Two that lose nothing which they had synced, if there are as many."""
        sound = [node for node in range(self.nodes) if node != self.victim]
        if len(sound) < 2:
            return None
        one, other = self.rng.sample(sound, 2)
        return one, other

    def times(self, most: int) -> list[float]:
        """When something happens, once or several times."""
        latest_s = 0.8 * self.duration_s
        return sorted(round(self.rng.uniform(0.0, latest_s), 3) for _ in range(self.rng.randint(1, most)))

    def span(self, at_s: float, longest_s: float) -> float:
        """How long it lasts: rather short than long, and over before the end of the run."""
        return round(min(longest_s * self.rng.random() ** 2 + 0.05, self.last_s - at_s), 3)

    def group(self) -> frozenset[int]:
        """Some nodes, not all."""
        size = self.rng.randint(1, max(1, self.nodes - 1))
        return frozenset(self.rng.sample(range(self.nodes), size))


Draw = Callable[[Drawing], dict[str, object]]
"""Gives fields of `simulations.faults.Faults`."""
