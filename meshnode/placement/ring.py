"""The consistent-hash ring: for each partition, the nodes in the order in which it would like to live on them.

Each node owns points of a circle of 2**64, in proportion to its weight; a partition starts at a point of its own and
meets the nodes clockwise (Karger et al., "Consistent Hashing and Random Trees", STOC 1997). A node that comes or goes
changes the order only where its own points are.
"""

import functools
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from itertools import chain, islice

import xxhash

from meshnode.identity import NodeId, PartitionId
from meshnode.placement.share import MemberSpec, check_members

POINTS_PER_NODE = 64
"""Points of a node of average weight. The load is evened afterwards, so this only keeps small what must be evened."""

_NODE_SEED = 1
_PARTITION_SEED = 2


@functools.lru_cache(maxsize=1024)  # as many members as most meshes have: each look at the table makes a ring anew
def _points_of(node: NodeId, count: int) -> tuple[int, ...]:
    name = node.to_bytes(8, "big")
    return tuple([xxhash.xxh3_64_intdigest(name + number.to_bytes(4, "big"), _NODE_SEED) for number in range(count)])


class Ring:
    """The circle for one set of members. The same for everyone who knows the same members, in whatever order.

    Attributes:
        nodes: the members, ascending. The other modules of this room refer to a node by its index in here.
        zones: per node, the index of its zone tag among the tags in use.
    """

    __slots__ = ("_owners", "_points", "nodes", "zones")

    def __init__(self, members: Mapping[NodeId, MemberSpec]) -> None:
        """Raises: ValueError: there are no members, or an id is out of range."""
        check_members(members)
        self.nodes: tuple[NodeId, ...] = tuple(sorted(members))
        tags = {tag: index for index, tag in enumerate(sorted({spec.zone for spec in members.values()}))}
        self.zones: tuple[int, ...] = tuple(tags[members[node].zone] for node in self.nodes)
        weights = [members[node].exact_weight for node in self.nodes]
        average = sum(weights, Fraction(0)) / len(weights)
        points: list[tuple[int, int]] = []
        for index, (node, weight) in enumerate(zip(self.nodes, weights, strict=True)):
            count = max(1, round(POINTS_PER_NODE * weight / average))
            points.extend([(point, index) for point in _points_of(node, count)])
        points.sort()
        self._points = [point for point, _ in points]
        self._owners = [owner for _, owner in points]

    def indexes(self, partition: PartitionId) -> Iterator[int]:
        """The nodes' indexes in the order in which the partition meets them, each once."""
        start = self._start(partition)
        met: set[int] = set()
        for position in chain(range(start, len(self._owners)), range(start)):
            owner = self._owners[position]
            if owner not in met:
                met.add(owner)
                yield owner
                if len(met) == len(self.nodes):
                    return

    def ranking(self, partition: PartitionId) -> tuple[NodeId, ...]:
        """All nodes in the order in which the partition meets them."""
        return tuple(self.nodes[index] for index in self.indexes(partition))

    def first(self, partition: PartitionId, count: int) -> list[int]:
        """The first ``count`` of `indexes`, or all of them where there are fewer."""
        return list(islice(self.indexes(partition), count))

    def choice(self, partition: PartitionId, count: int) -> tuple[NodeId, ...]:
        """The replicas that the ring alone would name, whatever the load: ``count`` nodes, or all if there are fewer.

        Each is the next node of a zone not yet taken; once every zone is taken, or none other is left, the next node.
        """
        everyone = Walk(self, range(len(self.nodes)))
        chosen: list[int] = []
        while len(chosen) < count and (found := everyone.receiver(partition, chosen)) is not None:
            chosen.append(found)
        return tuple(self.nodes[index] for index in chosen)

    def _start(self, partition: PartitionId) -> int:
        return bisect_left(self._points, xxhash.xxh3_64_intdigest(partition.to_bytes(4, "big"), _PARTITION_SEED))


class Walk:
    """Walks the ring past nodes that have room, and learns to jump over those that have none left.

    The jumps are a union-find with path halving: however many nodes are full, a step costs next to nothing.
    """

    __slots__ = ("_next", "_positions", "_ring", "_zones_open", "open")

    def __init__(self, ring: Ring, open_nodes: Iterable[int]) -> None:
        self._ring = ring
        self.open = set(range(len(ring.nodes)))
        self._next = list(range(len(ring._owners) + 1))
        self._zones_open = Counter(ring.zones)
        self._positions: list[list[int]] = [[] for _ in ring.nodes]
        for position, owner in enumerate(ring._owners):
            self._positions[owner].append(position)
        for node in self.open.difference(open_nodes):
            self.close(node)

    def close(self, node: int) -> None:
        """Pass the node by from now on."""
        self.open.remove(node)
        zone = self._ring.zones[node]
        self._zones_open[zone] -= 1
        if not self._zones_open[zone]:
            del self._zones_open[zone]
        for position in self._positions[node]:
            self._next[position] = position + 1

    def receiver(self, partition: PartitionId, row: Iterable[int]) -> int | None:
        """The first open node outside the row, one of a zone new to the row before any other; None if there is none."""
        taken = set(row)
        if taken.issuperset(self.open):
            return None
        owners, zones = self._ring._owners, self._ring.zones
        zones_taken = {zones[node] for node in taken}
        any_zone = self._zones_open.keys() <= zones_taken
        return next(
            owners[position]
            for position in self._open_positions(self._ring._start(partition))
            if owners[position] not in taken and (any_zone or zones[owners[position]] not in zones_taken)
        )

    def _open_positions(self, start: int) -> Iterator[int]:
        end = len(self._next) - 1
        position = self._find(start)
        while position < end:
            yield position
            position = self._find(position + 1)
        position = self._find(0)
        while position < start:
            yield position
            position = self._find(position + 1)

    def _find(self, position: int) -> int:
        following = self._next
        while following[position] != position:
            following[position] = following[following[position]]
            position = following[position]
        return position
