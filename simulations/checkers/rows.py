"""The rows of partitions, as every node that follows the Raft group applies them (rule 1 of partition replication)."""

from collections.abc import Callable
from dataclasses import replace

from meshnode.identity import Epoch, NodeId, PartitionId
from meshnode.metadata.rows import Phase, Row
from simulations.checkers.violation import Violation


class RowsChecker:
    """Sees each change of a row on each node. All methods raise Violation.

    The world calls `changed` for every change that a node's metadata reports, and `restarted` when a node begins again
    with empty metadata.

    Args:
        clock: virtual seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        # One entry for each change of each row; and for each node and partition, how many of these it has applied.
        self._history: dict[PartitionId, list[Row]] = {}
        self._applied: dict[NodeId, dict[PartitionId, int]] = {}
        self._begun: dict[tuple[PartitionId, Epoch], Row] = {}

    def restarted(self, node: NodeId) -> None:
        """A node has no metadata any more, and applies them from the beginning."""
        self._applied.pop(node, None)

    def begun(self, partition: PartitionId, epoch: Epoch) -> Row | None:
        """The row with which an epoch of a partition began; None if no node has applied it yet."""
        return self._begun.get((partition, epoch))

    def changed(self, node: NodeId, partition: PartitionId, row: Row, *, is_jump: bool = False) -> None:
        """A node applied a change: the same ones in the same order on all nodes, each a legal step from the last.

        Args:
            is_jump: the node was given a later state, at which others have been: it sees the last change alone.
        """
        applied = self._applied.setdefault(node, {})
        place = applied.get(partition, 0)
        later = self._history.get(partition, [])[place:]
        if is_jump and row in later:
            place += later.index(row)
        applied[partition] = place + 1
        history = self._history.setdefault(partition, [])
        if place < len(history):
            if history[place] != row:
                raise self._violation(
                    "partitions-same-rows",
                    node,
                    partition,
                    f"change {place + 1} is {row} here and {history[place]} elsewhere",
                )
            return
        self._check_step(node, partition, history[-1] if history else None, row)
        history.append(row)
        self._begun.setdefault((partition, row.epoch), row)

    def _check_step(self, node: NodeId, partition: PartitionId, before: Row | None, row: Row) -> None:
        match row.phase:
            case Phase.SEALING:
                base = () if before is None else before.base
                if row.base != base:
                    raise self._violation(
                        "partitions-base",
                        node,
                        partition,
                        f"beginning epoch {row.epoch} changes base from {base} to {row.base}",
                    )
                if before is not None and row.epoch <= before.epoch:
                    raise self._violation(
                        "partitions-epoch-rises", node, partition, f"epoch {row.epoch} begins after {before.epoch}"
                    )
                if row.primary not in row.replicas or len(set(row.replicas)) != len(row.replicas):
                    raise self._violation(
                        "partitions-row-sound", node, partition, f"primary {row.primary}, replicas {row.replicas}"
                    )
            case Phase.ACTIVE:
                self._check_activation(node, partition, before, row)

    def _check_activation(self, node: NodeId, partition: PartitionId, before: Row | None, row: Row) -> None:
        if before is None or before.phase is not Phase.SEALING or before.epoch != row.epoch:
            raise self._violation(
                "partitions-epoch-rises", node, partition, f"epoch {row.epoch} becomes active after {before}"
            )
        if row.base != row.replicas:
            raise self._violation(
                "partitions-base",
                node,
                partition,
                f"active on {row.replicas} with base {row.base}: those must be equal",
            )
        if replace(row, phase=before.phase, base=before.base) != before:
            raise self._violation("partitions-row-sound", node, partition, f"activation makes {row} of {before}")

    def _violation(self, invariant: str, node: NodeId, partition: PartitionId, message: str) -> Violation:
        return Violation(
            invariant,
            virtual_s=self._clock(),
            message=f"partition {partition} on node {node}: {message}",
            nodes=(node,),
        )
