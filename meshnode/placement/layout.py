"""Who holds what while the next table is worked out.

Sets of partitions are whole numbers with one bit a partition: "what x has and y has not" over 16,384 partitions is one
expression instead of a loop, and it is asked for millions of times.
"""

from collections.abc import Iterable, Iterator, Sequence


class Layout:
    """The replicas of every partition, by node index, with the sets that the passes ask for kept beside them.

    Attributes:
        rows: per partition, the nodes that hold it.
        prior: per partition, the member that was its primary before; None if there was none or it is gone.
        load: per node, how many partitions it holds.
        held: per node, which partitions it holds.
        origin: per node, which partitions it held before.
        fresh: per node, held without origin: replicas that cost nothing to place elsewhere instead.
        led: per node, the partitions whose prior primary it is.
        covered: per zone, the partitions with a replica in it.
        doubled: per zone, the partitions with two replicas in it or more.
    """

    __slots__ = ("covered", "doubled", "everything", "fresh", "held", "led", "load", "origin", "prior", "rows", "zones")

    def __init__(self, rows: Sequence[Sequence[int]], prior: Sequence[int | None], zones: Sequence[int]) -> None:
        self.rows: list[list[int]] = [[] for _ in rows]
        self.prior = tuple(prior)
        self.zones = tuple(zones)
        self.everything = (1 << len(rows)) - 1
        self.load = [0] * len(zones)
        self.held = [0] * len(zones)
        self.origin = [0] * len(zones)
        self.fresh = [0] * len(zones)
        self.led = [0] * len(zones)
        self.covered = [0] * (max(zones) + 1)
        self.doubled = [0] * (max(zones) + 1)
        for partition, row in enumerate(rows):
            for node in row:
                self.origin[node] |= 1 << partition
                self.add(partition, node)
        for partition, leader in enumerate(prior):
            if leader is not None:
                self.led[leader] |= 1 << partition

    def add(self, partition: int, node: int) -> None:
        """The node takes a replica."""
        assert node not in self.rows[partition]
        bit = 1 << partition
        self.rows[partition].append(node)
        self.load[node] += 1
        self.held[node] |= bit
        self.fresh[node] |= bit & ~self.origin[node]
        zone = self.zones[node]
        self.doubled[zone] |= self.covered[zone] & bit
        self.covered[zone] |= bit

    def drop(self, partition: int, node: int) -> None:
        """The node gives up its replica."""
        keep = ~(1 << partition)
        self.rows[partition].remove(node)
        self.load[node] -= 1
        self.held[node] &= keep
        self.fresh[node] &= keep
        zone = self.zones[node]
        left = sum(self.zones[other] == zone for other in self.rows[partition])
        if left < 2:
            self.doubled[zone] &= keep
        if left < 1:
            self.covered[zone] &= keep

    def replace(self, partition: int, *, giver: int, taker: int) -> None:
        """The partition's replica passes from one node to another."""
        self.drop(partition, giver)
        self.add(partition, taker)


def narrowed(candidates: int, wishes: Iterable[int]) -> int:
    """The candidates that satisfy the wishes, most important first; one that none of them satisfies is passed over."""
    for wish in wishes:
        candidates = candidates & wish or candidates
    return candidates


def members_of(partitions: int) -> Iterator[int]:
    """The partitions of a set, ascending."""
    while partitions:
        lowest = partitions & -partitions
        yield lowest.bit_length() - 1
        partitions ^= lowest


def pick(candidates: int, *, start: int) -> int:
    """The first partition of a set that is not empty, counted from ``start`` on and around."""
    above = candidates >> start
    if above:
        return start + (above & -above).bit_length() - 1
    return (candidates & -candidates).bit_length() - 1
