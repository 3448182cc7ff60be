"""Whether a table is the one that everybody would work out, and moves no more than it must.

How much must move is found without the algorithm: by exchanges that keep all loads within their fair shares and save
moves, until there is none. `placement.next_table` may move a little more where weights differ or zones have to be
covered.
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass
from math import ceil, floor

from meshnode.identity import NodeId, PartitionId
from meshnode.metadata.rows import Row as CommittedRow
from meshnode.placement import MemberSpec, Table, fair_primaries, fair_replicas, next_table
from simulations.checkers.exchange import Assignment
from simulations.checkers.violation import Violation

Row = tuple[NodeId, ...]


@dataclass(frozen=True, slots=True)
class Movement:
    """How much changes from one table to the next.

    Attributes:
        copied: replicas that come to nodes that did not have them.
        handed_over: partitions that had a primary and get another.
    """

    copied: int
    handed_over: int


def check_table(
    previous: Table | None,
    members: Mapping[NodeId, MemberSpec],
    table: Table,
    *,
    replication: int,
    virtual_s: float,
    node: NodeId | None = None,
) -> None:
    """Judge a table that a node worked out from these inputs.

    Args:
        previous: the committed table; None at founding.
        members: who is to hold replicas.
        table: what the node made of them.
        node: which node it was.

    Raises:
        Violation: placement-same-table or placement-minimal-movement.
    """
    count = len(table.rows)
    nodes = () if node is None else (node,)
    # In another order, which must not matter.
    backwards = dict(reversed(list(members.items())))
    fresh = next_table(previous, backwards, partitions=count, replication=replication)
    if fresh != table:
        partition = next(place for place, row in enumerate(table.rows) if row != fresh.rows[place])
        raise Violation(
            "placement-same-table",
            virtual_s=virtual_s,
            message=f"partition {partition} is on {table.rows[partition]}, and by a fresh computation from the same"
            f" members and rows on {fresh.rows[partition]}",
            nodes=nodes,
        )
    check_movement(previous, members, table, replication=replication, virtual_s=virtual_s)


def check_movement(
    previous: Table | None,
    members: Mapping[NodeId, MemberSpec],
    table: Table,
    *,
    replication: int,
    virtual_s: float,
) -> None:
    """Judge what changes from one table to the next, whoever made the second.

    Copies: no more than must be where all members are alike; a tenth and two more where weights differ; three tenths
    and three where zones do, since `next_table` covers zones after it has evened loads. Primaries: no more
    than must be among those replicas. It takes partitions × replicas × nodes, times what could be saved.

    Raises:
        Violation: placement-minimal-movement.
    """
    if previous is None or not all(previous.rows):
        return  # what nobody held yet has to go somewhere
    seen = movement(previous, table)
    copied = seen.copied - _saved_copies(previous, members, table, replication=replication)
    handed_over = seen.handed_over - _saved_handovers(previous, members, table)
    if len({spec.zone for spec in members.values()}) > 1:
        allowed = ceil(1.3 * copied) + 3
    elif len({spec.weight for spec in members.values()}) > 1:
        allowed = ceil(1.1 * copied) + 2
    else:
        allowed = copied
    for what, count, least, most in (
        ("replicas copied", seen.copied, copied, allowed),
        ("primaries handed over", seen.handed_over, handed_over, handed_over),
    ):
        if count > most:
            raise Violation(
                "placement-minimal-movement",
                virtual_s=virtual_s,
                message=f"{count} {what}, and loads as even take {least}; up to {most} may be",
            )


def check_step(
    row: CommittedRow | None, partition: PartitionId, replicas: Row, table: Table | None, *, virtual_s: float
) -> None:
    """Judge one proposal of a leader: it takes a partition over, or brings it to where the table has it.

    Args:
        row: the committed one; None for a partition that has none yet.
        replicas: the proposed ones.
        table: the last that this leader worked out; None if it made none.

    Raises:
        Violation: placement-minimal-movement.
    """
    allowed = [set(row.replicas), set(row.base)] if row is not None else []
    if table is not None:
        allowed.append(set(table.rows[partition]))
    if set(replicas) not in allowed:
        raise Violation(
            "placement-minimal-movement",
            virtual_s=virtual_s,
            message=f"partition {partition} is to go to {replicas}; its row is {row}, and the leader's table has it on"
            f" {None if table is None else table.rows[partition]}",
        )


def movement(previous: Table, table: Table) -> Movement:
    """What changes from one table to the next."""
    pairs = list(zip(previous.rows, table.rows, strict=True))
    return Movement(
        sum(len(set(new) - set(old)) for old, new in pairs),
        sum(bool(old) and old[0] != new[0] for old, new in pairs),
    )


def _saved_copies(previous: Table, members: Mapping[NodeId, MemberSpec], table: Table, *, replication: int) -> int:
    """How many copies fewer would do for loads within their fair shares, over as many zones."""
    shares = fair_replicas(members, partitions=len(table.rows), replication=replication)
    rows = [set(row) for row in table.rows]
    assignment = Assignment(
        rows,
        lambda partition, node: int(node not in previous.rows[partition]),
        low={node: floor(share) for node, share in shares.items()},
        high={node: ceil(share) for node, share in shares.items()},
        zones={node: spec.zone for node, spec in members.items()},
    )
    assignment.improve()
    before = movement(previous, table).copied
    return before - sum(len(row - set(old)) for old, row in zip(previous.rows, rows, strict=True))


def _saved_handovers(previous: Table, members: Mapping[NodeId, MemberSpec], table: Table) -> int:
    """How many primaries fewer need to change among the replicas that the table has, for loads within fair shares."""
    known = previous.replicas().keys()
    shares = fair_primaries(members, len(table.rows))

    def cost(partition: int, node: NodeId) -> int | None:
        return _handover_cost(previous.rows[partition], table.rows[partition], node, known)

    # A choice that is forbidden is not improved on: placement-same-table says what is wrong with it.
    if any(cost(partition, row[0]) is None for partition, row in enumerate(table.rows)):
        return 0
    leaders = [{row[0]} for row in table.rows]
    assignment = Assignment(
        leaders,
        cost,
        low={node: floor(share) for node, share in shares.items()},
        high={node: ceil(share) for node, share in shares.items()},
    )
    assignment.improve()
    before = movement(previous, table).handed_over
    return before - sum(row[0] not in leader for row, leader in zip(previous.rows, leaders, strict=True))


_FRESH = 1000
"""What it counts to hand over to an old member that has yet to copy the partition: more than any saving elsewhere."""


def _handover_cost(old: Row, new: Row, node: NodeId, known: Set[NodeId]) -> int | None:
    """What it counts that a node leads; None where a replica that had the data must lead, and this one had not."""
    if node not in new:
        return None
    if old[0] not in new:
        survivors = [one for one in new if one in old]
        return 0 if not survivors or node in survivors else None
    if node == old[0]:
        return 0
    return _FRESH if node in known and node not in old else 1
