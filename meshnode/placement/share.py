"""What a member can carry, and how much of the table is its fair share.

Shares are exact fractions: every node must round them alike, on every platform.
"""

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor, isfinite

from meshnode.identity import NODE_ID_MAX, NodeId


@dataclass(frozen=True, slots=True)
class MemberSpec:
    """What placement knows of a member.

    Attributes:
        weight: capacity relative to the other members; a node of weight 2 carries twice as much as one of weight 1.
        zone: what fails together (a rack, a room, a provider's zone). Members without a tag share one zone.

    Raises:
        ValueError: the weight is not a positive finite number.
    """

    weight: float = 1.0
    zone: str = ""

    def __post_init__(self) -> None:
        if not (isfinite(self.weight) and self.weight > 0):
            raise ValueError(f"weight {self.weight!r} is not a positive number; 1.0 is a node of ordinary capacity")

    @property
    def exact_weight(self) -> Fraction:
        """The weight as it is written in decimal, so that ten nodes of weight 0.1 are worth one of weight 1."""
        return _exact(self.weight)


@functools.lru_cache(maxsize=1024)  # weights that differ: a mesh has a few, and each table asks for every member's
def _exact(weight: float) -> Fraction:
    return Fraction(repr(weight))


@dataclass(frozen=True, slots=True)
class Bounds:
    """The whole numbers next to a fair share, one pair a node: a load inside them cannot be evened any further."""

    low: tuple[int, ...]
    high: tuple[int, ...]


def check_members(members: Mapping[NodeId, MemberSpec]) -> None:
    """Accept at least one member, each under an id from 1 to 2**63 − 1.

    Raises:
        ValueError: there is none, or an id is out of range.
    """
    if not members:
        raise ValueError("a table needs at least one member, and there is none")
    for node in members:
        if not 0 < node <= NODE_ID_MAX:
            raise ValueError(f"node id {node} is not from 1 to {NODE_ID_MAX}; take the one that the node reports")


def fair_primaries(members: Mapping[NodeId, MemberSpec], partitions: int) -> dict[NodeId, Fraction]:
    """Of how many partitions each member should be primary: in proportion to its weight."""
    weights = {node: members[node].exact_weight for node in sorted(members)}
    total = sum(weights.values())
    return {node: partitions * weight / total for node, weight in weights.items()}


def fair_replicas(members: Mapping[NodeId, MemberSpec], *, partitions: int, replication: int) -> dict[NodeId, Fraction]:
    """How many replicas, primaries included, each member should hold.

    In proportion to its weight, but nobody can hold a partition twice: a member whose part would exceed the number of
    partitions holds all of them, and the others share the rest in proportion to theirs.
    """
    weights = {node: members[node].exact_weight for node in sorted(members)}
    slots = Fraction(partitions * min(replication, len(members)))
    rest = sum(weights.values(), Fraction(0))
    shares: dict[NodeId, Fraction] = {}
    for node in sorted(weights, key=lambda node: (-weights[node], node)):
        shares[node] = min(Fraction(partitions), slots * weights[node] / rest)
        slots -= shares[node]
        rest -= weights[node]
    return shares


def bounds(shares: Iterable[Fraction]) -> Bounds:
    """Each share rounded down and up, in the order given."""
    fair = tuple(shares)
    return Bounds(tuple(floor(share) for share in fair), tuple(ceil(share) for share in fair))
