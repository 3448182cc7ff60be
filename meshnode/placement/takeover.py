"""Who takes over the partitions of a node that failed.

Unlike `next_table` this moves no data and waits for nothing: the replicas stay, and one that is alive is named primary.
"""

from collections import deque
from collections.abc import Container, Mapping, Sequence, Set

from meshnode.identity import NodeId, PartitionId
from meshnode.placement.share import MemberSpec


def successor(
    replicas: Sequence[NodeId], *, alive: Container[NodeId], primaries_load: Mapping[NodeId, int]
) -> NodeId | None:
    """The living replica that leads the fewest partitions, the first in the row if several; None if none is alive.

    Args:
        replicas: the partition's row.
        alive: who can take over; the primary that failed is not among them.
        primaries_load: how many partitions each node leads, none where it is not named.
    """
    candidates = [node for node in replicas if node in alive]
    return min(candidates, key=lambda node: primaries_load.get(node, 0), default=None)


def successors(
    rows: Mapping[PartitionId, Sequence[NodeId]], *, failed: Set[NodeId], alive: Mapping[NodeId, MemberSpec]
) -> dict[PartitionId, NodeId]:
    """New primaries for all partitions whose primary failed, so that the living lead as evenly as replicas permit.

    Even means: the sum of squares of the numbers of partitions led, each square divided by the node's weight, is as
    small as any choice among the living replicas makes it. That is an optimal semi-matching (Harvey, Ladner, Lovász and
    Tamir, "Semi-Matchings for Bipartite Graphs and Load Balancing", 2006): one that no chain of exchanges improves.

    Args:
        rows: all the committed rows, the primary first in each: what the living lead already counts too.
        failed: whose partitions need a new primary.
        alive: who can take over.

    Returns:
        The new primary of each partition in need, in the order of the rows. A partition with no living replica is not
        in it: it stays as it is until one returns.

    Raises:
        ValueError: a node is said to have failed and to be alive.
    """
    if contradiction := sorted(failed & alive.keys()):
        raise ValueError(f"nodes {contradiction} are named as failed and as alive: leave them out of one of the two")
    evening = _Evening(alive)
    for partition, row in rows.items():
        if row and row[0] in alive:
            evening.load[row[0]] += 1
        elif row and row[0] in failed and (living := [node for node in row if node in alive]):
            evening.heirs[partition] = living
    evening.adopt()
    # Each exchange makes the sum of squares smaller, and there are finitely many choices, so this ends.
    while evening.relieve_all():
        pass
    return {partition: evening.choice[partition] for partition in evening.heirs}


class _Evening:
    """The choice in the making.

    Attributes:
        load: how many partitions each living node leads, those chosen for it included.
        heirs: per partition in need, its living replicas.
        choice: per partition in need, the one chosen.
    """

    __slots__ = ("_given", "_weights", "choice", "heirs", "load")

    def __init__(self, alive: Mapping[NodeId, MemberSpec]) -> None:
        nodes = sorted(alive)
        self.load = dict.fromkeys(nodes, 0)
        self.heirs: dict[PartitionId, list[NodeId]] = {}
        self.choice: dict[PartitionId, NodeId] = {}
        self._weights = {node: alive[node].weight for node in nodes}
        # Dicts for sets, because they keep their order: it decides between choices that are equally good.
        self._given: dict[NodeId, dict[PartitionId, None]] = {node: {} for node in nodes}

    def adopt(self) -> None:
        """Give each partition to the heir for whom one more weighs least."""
        for partition, living in self.heirs.items():
            self._give(partition, min(living, key=self._price_of_one_more))

    def relieve_all(self) -> bool:
        """Try to relieve each node once; False if none could be."""
        return sum(self._relieve(node) for node in self.load) > 0

    def _relieve(self, giver: NodeId) -> bool:
        """Pass a partition on, along a chain of heirs, to where it weighs least; False if that is the giver."""
        reached: dict[NodeId, PartitionId | None] = {giver: None}
        # Each node enters once, so the number of nodes bounds the queue.
        queue = deque([giver])
        while queue:
            for partition in self._given[queue.popleft()]:
                for node in self.heirs[partition]:
                    if node not in reached:
                        reached[node] = partition
                        queue.append(node)
        taker = min(reached, key=self._price_of_one_more)
        if self._price_of_one_more(taker) >= self._price(giver, self.load[giver] - 1):
            return False
        while (link := reached[taker]) is not None:
            holder = self.choice[link]
            self._take(link)
            self._give(link, taker)
            taker = holder
        return True

    def _give(self, partition: PartitionId, node: NodeId) -> None:
        self.choice[partition] = node
        self._given[node][partition] = None
        self.load[node] += 1

    def _take(self, partition: PartitionId) -> None:
        node = self.choice.pop(partition)
        del self._given[node][partition]
        self.load[node] -= 1

    def _price_of_one_more(self, node: NodeId) -> float:
        return self._price(node, self.load[node])

    def _price(self, node: NodeId, load: int) -> float:
        """How much the sum of squares over weights grows when the node goes from this load to one more."""
        return (2 * load + 1) / self._weights[node]
