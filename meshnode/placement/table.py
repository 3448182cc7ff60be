"""The partition table and its successor."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from meshnode.identity import NodeId, PartitionId
from meshnode.placement.layout import Layout
from meshnode.placement.partitioner import check_partitions
from meshnode.placement.primaries import choose_primaries
from meshnode.placement.replicas import place_replicas
from meshnode.placement.ring import Ring
from meshnode.placement.share import MemberSpec, bounds, fair_primaries, fair_replicas
from meshnode.placement.zones import spread_over_zones

REPLICATION_DEFAULT = 3


@dataclass(frozen=True, slots=True)
class Table:
    """Who holds each partition.

    Attributes:
        rows: per partition, the distinct nodes that hold it, the primary first. An empty row is a partition that
            nobody holds yet.

    Raises:
        ValueError: the number of rows is not a power of two from 1 to 16,384, or a row names a node twice.
    """

    rows: tuple[tuple[NodeId, ...], ...]

    def __post_init__(self) -> None:
        check_partitions(len(self.rows))
        for partition, row in enumerate(self.rows):
            if len(set(row)) != len(row):
                raise ValueError(f"partition {partition} names a node twice: {row}; name each replica once")

    def primary(self, partition: PartitionId) -> NodeId | None:
        """The node that leads the partition; None if nobody holds it."""
        row = self.rows[partition]
        return row[0] if row else None

    def primaries(self) -> Counter[NodeId]:
        """How many partitions each node leads."""
        return Counter(row[0] for row in self.rows if row)

    def replicas(self) -> Counter[NodeId]:
        """How many partitions each node holds, those that it leads included."""
        return Counter(node for row in self.rows for node in row)


def next_table(
    previous: Table | None,
    members: Mapping[NodeId, MemberSpec],
    *,
    partitions: int,
    replication: int = REPLICATION_DEFAULT,
) -> Table:
    """The table that the members should have, given the one they have: a pure function, so that everyone agrees.

    1. Each row has ``min(replication, members)`` replicas, all of them members.
    2. Each node holds its fair share of replicas (`fair_replicas`), rounded down or up.
    3. Each node leads its fair share of partitions (`fair_primaries`), rounded down or up, wherever rule 5 lets it.
    4. Replicas are in as many zones as rule 2 lets them be: each zone covers all partitions, or as many as it holds
       replicas. This is the one rule that moves replicas between nodes whose loads are right.
    5. A partition that lost its primary goes to a replica that held it before, if any is left.
    6. Within these rules, what need not move stays. A table that satisfies them is its own successor, order of the
       rows included.

    Args:
        previous: the committed table; its primaries and replicas may be gone, and rows may be empty. None at founding.
        members: who takes part, with weight and zone.
        partitions: how many there are, for the life of the mesh.
        replication: how many replicas a partition should have.

    Raises:
        ValueError: no members, an id out of range, fewer than one replica, a number of partitions that is not a power
            of two in range or not that of the previous table.
    """
    check_partitions(partitions)
    if replication < 1:
        raise ValueError(f"replication {replication}: a partition needs at least one replica")
    if previous is not None and len(previous.rows) != partitions:
        raise ValueError(
            f"{partitions} partitions asked for, but the table has {len(previous.rows)}: the number is fixed when the "
            "mesh is founded"
        )
    ring = Ring(members)
    layout = _layout(previous, ring, partitions)
    replica_shares = fair_replicas(members, partitions=partitions, replication=replication)
    primary_shares = fair_primaries(members, partitions)
    replica_bounds = bounds(replica_shares[node] for node in ring.nodes)
    place_replicas(layout, ring, replica_bounds, width=min(replication, len(ring.nodes)))
    spread_over_zones(layout, replica_bounds)
    leaders = choose_primaries(layout, bounds(primary_shares[node] for node in ring.nodes))
    return Table(
        tuple(
            tuple(ring.nodes[node] for node in (leader, *(other for other in row if other != leader)))
            for leader, row in zip(leaders, layout.rows, strict=True)
        )
    )


def _layout(previous: Table | None, ring: Ring, partitions: int) -> Layout:
    """What the members hold of the previous table."""
    if previous is None:
        return Layout([()] * partitions, [None] * partitions, ring.zones)
    index = {node: position for position, node in enumerate(ring.nodes)}
    rows = [[index[node] for node in row if node in index] for row in previous.rows]
    prior = [index.get(row[0]) if row else None for row in previous.rows]
    return Layout(rows, prior, ring.zones)
