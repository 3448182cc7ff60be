"""The cheapest assignment with even loads, found by improving a given one.

An assignment of minimum cost is one that no cycle of exchanges makes cheaper (Klein, "A primal method for minimal cost
flows", 1967): one node passes a partition to the next, that one another partition to the one after it, and so round. A
node inside its bounds may also just give or take one, which is an exchange with a node that stands for the slack of
all.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from meshnode.identity import NodeId

SLACK = NodeId(0)
"""Takes from whoever may end with one more, gives to whoever may end with one less."""

ZONE_WORTH = 1000
"""Of being in one more zone: more than a chain of exchanges can cost."""


@dataclass(frozen=True, slots=True)
class _Pass:
    """The cheapest way for one node to pass a partition to another; None for the slack."""

    gain: int
    partition: int | None


class Assignment:
    """Partitions on nodes.

    Args:
        rows: per partition, the nodes that it is on. Changed by `improve`.
        cost: of a partition on a node; None where it must not be.
        low, high: the bounds of each node's load. Loads that are outside stay outside, and no other gets there.
        zones: of each node. To be in one more zone is worth more to a partition than any saving; None where it is not.
    """

    def __init__(
        self,
        rows: Sequence[set[NodeId]],
        cost: Callable[[int, NodeId], int | None],
        *,
        low: Mapping[NodeId, int],
        high: Mapping[NodeId, int],
        zones: Mapping[NodeId, str] | None = None,
    ) -> None:
        self._rows = rows
        self._low = low
        self._high = high
        self._zones = zones
        self._nodes = sorted(low)
        self._costs = [
            {node: price for node in self._nodes if (price := cost(partition, node)) is not None}
            for partition in range(len(rows))
        ]
        self._load = {node: sum(node in row for row in rows) for node in self._nodes}

    @property
    def cost(self) -> int:
        """Of all partitions where they are."""
        return sum(
            sum(costs[node] for node in row) - ZONE_WORTH * self._covered(row)
            for costs, row in zip(self._costs, self._rows, strict=True)
        )

    def improve(self) -> None:
        """Exchange until nothing gets cheaper. Each round costs partitions × replicas × nodes."""
        while cycle := self._cheaper_cycle():
            before = self.cost
            self._exchange(cycle)
            if self.cost >= before:
                # It passed one partition twice, and what two zones are worth to it does not add up.
                self._exchange([(taker, giver, partition) for giver, taker, partition in cycle])
                return

    def _exchange(self, cycle: Sequence[tuple[NodeId, NodeId, int | None]]) -> None:
        for giver, taker, partition in cycle:
            if partition is not None:
                self._rows[partition].remove(giver)
                self._load[giver] -= 1
                self._load[taker] += 1
        for _giver, taker, partition in cycle:
            if partition is not None:
                self._rows[partition].add(taker)

    def _covered(self, row: Iterable[NodeId]) -> int:
        return 0 if self._zones is None else len({self._zones[node] for node in row})

    def _passes(self) -> dict[tuple[NodeId, NodeId], _Pass]:
        found: dict[tuple[NodeId, NodeId], _Pass] = {}
        for partition, (row, costs) in enumerate(zip(self._rows, self._costs, strict=True)):
            covered = self._covered(row)
            for giver in sorted(row):
                rest = row - {giver}
                for taker, price in costs.items():
                    if taker not in row:
                        gain = price - costs[giver] + ZONE_WORTH * (covered - self._covered((*rest, taker)))
                        known = found.get((giver, taker))
                        if known is None or gain < known.gain:
                            found[giver, taker] = _Pass(gain, partition)
        for node in self._nodes:
            if self._load[node] < self._high[node]:
                found[node, SLACK] = _Pass(0, None)
            if self._load[node] > self._low[node]:
                found[SLACK, node] = _Pass(0, None)
        return found

    def _cheaper_cycle(self) -> list[tuple[NodeId, NodeId, int | None]]:
        """A simple cycle of negative cost, by Bellman and Ford; empty if there is none."""
        passes = self._passes()
        nodes = [SLACK, *self._nodes]
        distance = dict.fromkeys(nodes, 0)
        came_from: dict[NodeId, NodeId] = {}
        last = None
        for _ in nodes:
            last = None
            for (giver, taker), step in passes.items():
                if distance[giver] + step.gain < distance[taker]:
                    distance[taker] = distance[giver] + step.gain
                    came_from[taker] = giver
                    last = taker
            if last is None:
                return []
        assert last is not None
        for _ in nodes:
            last = came_from[last]
        cycle = []
        node = last
        while True:
            giver = came_from[node]
            cycle.append((giver, node, passes[giver, node].partition))
            node = giver
            if node == last:
                return cycle
