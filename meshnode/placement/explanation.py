"""Why a partition is where it is."""

from collections.abc import Mapping
from dataclasses import dataclass

from meshnode.identity import NodeId, PartitionId, node_id_text
from meshnode.placement.ring import Ring
from meshnode.placement.share import MemberSpec, fair_primaries, fair_replicas
from meshnode.placement.table import REPLICATION_DEFAULT, Table


@dataclass(frozen=True, slots=True)
class Standing:
    """One replica of a partition: how the ring sees its node, and what the node carries in all.

    Attributes:
        node: which.
        ring_rank: its place among the nodes that the partition meets on the ring, from 1; None if it is no member.
        displaced: the ring alone would not have put the partition here: it came for the sake of even loads, or stayed
            because nothing made it move.
        zone: its zone tag; None if it is no member.
        primaries: how many partitions it leads.
        primaries_fair: how many it should lead, before rounding.
        replicas: how many it holds.
        replicas_fair: how many it should hold, before rounding.
    """

    node: NodeId
    ring_rank: int | None
    displaced: bool
    zone: str | None
    primaries: int
    primaries_fair: float
    replicas: int
    replicas_fair: float

    @property
    def text(self) -> str:
        """The standing as one sentence for people."""
        if self.ring_rank is None:
            return f"{node_id_text(self.node)} is not a member any more; its replica will be placed elsewhere"
        home = "displaced from where the ring alone would put it" if self.displaced else "where the ring would put it"
        zone = f", zone {self.zone}" if self.zone else ""
        return (
            f"{node_id_text(self.node)}{zone}: number {self.ring_rank} on the ring, {home}; leads {self.primaries} "
            f"partitions (fair share {self.primaries_fair:.1f}), holds {self.replicas} ({self.replicas_fair:.1f})"
        )


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a partition is where it is.

    Attributes:
        partition: which.
        replicas: its replicas as in the table, the primary first.
        passed_over: the members that come before the primary on the ring and hold no replica, in the ring's order: the
            bounds on the load, or what was there before them, kept the partition away.
    """

    partition: PartitionId
    replicas: tuple[Standing, ...]
    passed_over: tuple[NodeId, ...]

    @property
    def text(self) -> str:
        """The explanation as lines for people."""
        if not self.replicas:
            return f"partition {self.partition} is held by nobody yet"
        lines = [f"partition {self.partition}"]
        for position, standing in enumerate(self.replicas):
            lines.append(f"  {'replica' if position else 'primary'} {standing.text}")
        if self.passed_over:
            lines.append(f"  before the primary on the ring: {', '.join(map(node_id_text, self.passed_over))}")
        return "\n".join(lines)


def explain(
    partition: PartitionId,
    table: Table,
    members: Mapping[NodeId, MemberSpec],
    *,
    replication: int = REPLICATION_DEFAULT,
) -> Explanation:
    """Where a partition's replicas stand on the ring, and how full their nodes are.

    Raises:
        ValueError: the table has no such partition, there are no members, or an id is out of range.
    """
    count = len(table.rows)
    if not 0 <= partition < count:
        raise ValueError(f"partition {partition} is not from 0 to {count - 1}, those that the table has")
    row = table.rows[partition]
    ring = Ring(members)
    ranking = ring.ranking(partition)
    rank = {node: place for place, node in enumerate(ranking, start=1)}
    ring_choice = ring.choice(partition, len(row))
    fair_leads = fair_primaries(members, count)
    fair_holds = fair_replicas(members, partitions=count, replication=replication)
    primaries, replicas = table.primaries(), table.replicas()
    standings = tuple(
        Standing(
            node=node,
            ring_rank=rank.get(node),
            displaced=node not in ring_choice,
            zone=members[node].zone if node in members else None,
            primaries=primaries[node],
            primaries_fair=float(fair_leads.get(node, 0)),
            replicas=replicas[node],
            replicas_fair=float(fair_holds.get(node, 0)),
        )
        for node in row
    )
    before = ranking[: rank[row[0]] - 1] if row and row[0] in rank else ()
    return Explanation(partition, standings, tuple(node for node in before if node not in row))
