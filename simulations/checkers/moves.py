"""Whether what people and leaders are told of a change is what happens: moves, explanations and takeovers."""

from collections.abc import Mapping, Sequence, Set

from meshnode.identity import NodeId, PartitionId
from meshnode.placement import (
    Explanation,
    Kind,
    MemberSpec,
    Move,
    Reason,
    Ring,
    Table,
    fair_primaries,
    fair_replicas,
)
from simulations.checkers.violation import Violation

Row = tuple[NodeId, ...]


def check_moves(
    current: Table | None, target: Table, made: Sequence[Move], *, failed: Set[NodeId], virtual_s: float
) -> None:
    """Judge the moves from one table to another: carried out, they lead there, and each has the reason that it gives.

    Args:
        current: the table in force; None at founding.
        made: what `placement.moves` said.
        failed: the nodes known to have failed.

    Raises:
        Violation: placement-moves.
    """
    old_rows = current.rows if current is not None else ((),) * len(target.rows)
    before = {node for row in old_rows for node in row}
    after = {node for row in target.rows for node in row}
    by_partition: dict[int, list[Move]] = {}
    for move in made:
        by_partition.setdefault(move.partition, []).append(move)
    for partition, (old, new) in enumerate(zip(old_rows, target.rows, strict=True)):
        own = by_partition.pop(partition, [])
        reached = _carried_out(old, new, own)
        if reached != (set(new), new[:1]):
            raise _violation(
                "placement-moves",
                f"partition {partition} is to get from {old} to {new} and gets to {reached}",
                virtual_s,
            )
        for move in own:
            reason = _reason(move, old, before=before, after=after, failed=failed)
            if move.reason is not reason:
                raise _violation("placement-moves", f"{move.text!r}, and the reason is that {reason.text}", virtual_s)
    if by_partition:
        raise _violation("placement-moves", f"there are no partitions {sorted(by_partition)} to move", virtual_s)


def _carried_out(old: Row, new: Row, own: Sequence[Move]) -> tuple[set[NodeId], Row] | None:
    """The replicas and the primary after these moves; None where one is not what it says, or does nothing."""
    replicas, primary = set(old), old[:1]
    fewest = min(len(old), len(new))
    for move in own:
        source, target = move.source, move.target
        match move.kind:
            case Kind.REPLICA_ADDED:
                if target is None or target in replicas or (source is not None and source not in old):
                    return None
                replicas.add(target)
            case Kind.REPLICA_DROPPED:
                if source not in replicas or len(replicas) <= fewest or (target is not None and target not in new):
                    return None
                replicas.remove(source)
            case Kind.PRIMARY_HANDED_OVER:
                if (source,) != (primary or (None,)) or source == target:
                    return None
                primary = () if target is None else (target,)
    return replicas, primary


def _reason(move: Move, old: Row, *, before: Set[NodeId], after: Set[NodeId], failed: Set[NodeId]) -> Reason:
    if not old:
        return Reason.FOUNDED
    if move.source is not None and move.source in failed:
        return Reason.NODE_FAILED
    if move.source is not None and move.source not in after:
        return Reason.NODE_LEFT
    if move.target is not None and move.target not in before:
        return Reason.NODE_JOINED
    return Reason.REBALANCE


def check_explanation(
    explanation: Explanation,
    table: Table,
    members: Mapping[NodeId, MemberSpec],
    *,
    replication: int,
    virtual_s: float,
) -> None:
    """Judge why a partition is said to be where it is, by counting again.

    Raises:
        Violation: placement-explanation.
    """
    row = table.rows[explanation.partition]
    ranking = Ring(members).ranking(explanation.partition)
    leads = fair_primaries(members, len(table.rows))
    holds = fair_replicas(members, partitions=len(table.rows), replication=replication)
    if tuple(standing.node for standing in explanation.replicas) != row:
        raise _violation("placement-explanation", f"{explanation} is about another row than {row}", virtual_s)
    for standing in explanation.replicas:
        node = standing.node
        counted = (
            ranking.index(node) + 1 if node in members else None,
            members[node].zone if node in members else None,
            sum(other[:1] == (node,) for other in table.rows),
            sum(node in other for other in table.rows),
            float(leads.get(node, 0)),
            float(holds.get(node, 0)),
        )
        said = (
            standing.ring_rank,
            standing.zone,
            standing.primaries,
            standing.replicas,
            standing.primaries_fair,
            standing.replicas_fair,
        )
        if counted != said:
            raise _violation("placement-explanation", f"{standing.text!r}, and by counting it is {counted}", virtual_s)
    before = ranking[: ranking.index(row[0])] if row and row[0] in members else ()
    if explanation.passed_over != tuple(node for node in before if node not in row):
        raise _violation(
            "placement-explanation", f"passed over are {before} without {row}, not {explanation.passed_over}", virtual_s
        )


def check_takeover(
    rows: Mapping[PartitionId, Row],
    heirs: Mapping[PartitionId, NodeId],
    *,
    failed: Set[NodeId],
    alive: Mapping[NodeId, MemberSpec],
    virtual_s: float,
) -> None:
    """Judge who is to lead the partitions of nodes that failed: a living replica each, as evenly as there can be.

    Even: no chain of exchanges among the partitions that change hands makes the sum of squares of what each leads,
    divided by its weight, smaller.

    Raises:
        Violation: placement-takeover.
    """
    living = {
        partition: tuple(node for node in row if node in alive)
        for partition, row in rows.items()
        if row and row[0] in failed
    }
    if heirs.keys() != {partition for partition, nodes in living.items() if nodes}:
        raise _violation(
            "placement-takeover", f"{sorted(living)} need a new primary, and {sorted(heirs)} get one", virtual_s
        )
    load = dict.fromkeys(alive, 0)
    given: dict[NodeId, list[PartitionId]] = {node: [] for node in alive}
    for partition, row in rows.items():
        leader = heirs.get(partition, row[0] if row else None)
        if partition in heirs and leader not in living[partition]:
            raise _violation(
                "placement-takeover", f"{leader} is to lead {partition}, of which {living[partition]} live", virtual_s
            )
        if leader in load:
            load[leader] += 1
        if partition in heirs:
            given[heirs[partition]].append(partition)
    for giver in alive:
        reached = {giver}
        todo = [giver] if given[giver] else []
        while todo:
            for partition in given[todo.pop()]:
                fresh = set(living[partition]) - reached
                reached |= fresh
                todo += sorted(fresh)
        price = (2 * load[giver] - 1) / alive[giver].weight
        for taker in sorted(reached - {giver}):
            if (2 * load[taker] + 1) / alive[taker].weight < price:
                message = f"{giver} leads {load[giver]} and {taker} {load[taker]}, which could have one of them"
                raise _violation("placement-takeover", message, virtual_s)


def _violation(invariant: str, message: str, virtual_s: float) -> Violation:
    return Violation(invariant, virtual_s=virtual_s, message=message)
