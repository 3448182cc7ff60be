"""The leader's duty towards the rows: who takes over, what moves, in which order.

A core without I/O. It only proposes: each change compares with the row that it was made for, so a leader with an old
view does no harm. Three cares, in this order:

1. A primary that failed, restarted or is stuck: name a living replica, at once.
2. A takeover that stalls: name another living replica; wait twice as long each time.
3. When all members that count are alive and have been the same for a while: walk from the committed rows to
   `placement.next_table`, a bounded number of partitions at a time.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from meshnode import wire
from meshnode.identity import Boot, Epoch, NodeId, PartitionId
from meshnode.metadata.commands import RowChange, Step
from meshnode.metadata.config import AllocatorConfig
from meshnode.metadata.rows import Phase, Row
from meshnode.metadata.state import Metadata, NodeRecord
from meshnode.placement import MemberSpec, Reason, Table, moves, next_table, successors

STALL_MAX_S = 60.0
"""A takeover that lacks a majority is tried again at least this often."""

MOVE_TIMEOUT_S = 10.0
"""When a move that shows no effect is asked for again: the primary that was asked may have changed."""

_GONE = NodeId(0)


class Health(enum.Enum):
    """What the leader thinks of a registered node."""

    LIVE = "live"
    FAILED = "failed"
    LEFT = "left"


@wire.message(0x45)
@dataclass(frozen=True, slots=True)
class Move:
    """Ask the primary of ``epoch`` to bring ``replicas`` to its tail and then to begin with them."""

    partition: PartitionId
    epoch: Epoch
    primary: NodeId
    boot: Boot
    replicas: tuple[NodeId, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What is due: rows to propose, moves to ask for."""

    changes: tuple[RowChange, ...] = ()
    moves: tuple[Move, ...] = ()


@dataclass(slots=True)
class _Stall:
    epoch: Epoch
    since_s: float
    patience_s: float


class Allocator:
    """Made anew by each new leader."""

    def __init__(self, metadata: Metadata, config: AllocatorConfig, now: float) -> None:
        self._metadata = metadata
        self._config = config
        self._stalls: dict[PartitionId, _Stall] = {}
        self._failed_since: dict[NodeId, float] = {}
        self._moving: dict[PartitionId, tuple[Epoch, float]] = {}
        self._settled_members: frozenset[tuple[NodeId, Boot]] = frozenset()
        self._settled_at_s = now + config.settle_s
        self._balanced: tuple[int, frozenset[NodeId]] | None = None

    def plan(self, health: Mapping[NodeId, Health], now: float) -> Plan:
        """What to propose now. ``health`` has every registered node."""
        nodes = self._metadata.nodes
        if self._metadata.founding is None:
            return Plan()
        live = {node_id: record for node_id, record in nodes.items() if health[node_id] is Health.LIVE}
        for node_id in nodes:
            if node_id in live:
                self._failed_since.pop(node_id, None)
            else:
                self._failed_since.setdefault(node_id, now)
        urgent = self._takeovers(live, health, now)
        if urgent:
            return Plan(changes=tuple(urgent))
        return self._rebalancing(live, health, now)

    # ---- takeovers

    def _takeovers(
        self, live: Mapping[NodeId, NodeRecord], health: Mapping[NodeId, Health], now: float
    ) -> list[RowChange]:
        rows = self._metadata.rows
        bereft: dict[PartitionId, Reason] = {}
        for partition, row in rows.items():
            if row.phase is Phase.ACTIVE:
                self._stalls.pop(partition, None)
            if row.primary not in live or live[row.primary].boot != row.boot:
                left = health.get(row.primary) is Health.LEFT
                bereft[partition] = Reason.NODE_LEFT if left else Reason.NODE_FAILED
            elif row.phase is Phase.SEALING and self._has_stalled(partition, row, now):
                bereft[partition] = Reason.NODE_FAILED
        if not bereft:
            return []
        # For the partitions in need the present primary counts as gone, even where its node restarted or only stalls.
        candidates = {
            partition: (_GONE, *self._candidates(row)) if partition in bereft else (row.primary,)
            for partition, row in rows.items()
        }
        specs = {node_id: _spec(record) for node_id, record in live.items()}
        heirs = successors(candidates, failed={_GONE}, alive=specs)
        changes = []
        for partition, heir in heirs.items():
            row = rows[partition]
            stall = self._stalls.get(partition)
            patience_s = self._config.stall_s if stall is None else min(STALL_MAX_S, stall.patience_s * 2)
            self._stalls[partition] = _Stall(Epoch(row.epoch + 1), now, patience_s)
            changes.append(self._begin(partition, row, heir, row.replicas, bereft[partition]))
        return changes

    def _candidates(self, row: Row) -> tuple[NodeId, ...]:
        """Who may be named instead; the present one only where nobody else can, and as a process that is new."""
        record = self._metadata.nodes.get(row.primary)
        is_new_process = record is not None and record.boot != row.boot
        return tuple(member for member in row.replicas if member != row.primary or is_new_process)

    def _has_stalled(self, partition: PartitionId, row: Row, now: float) -> bool:
        stall = self._stalls.get(partition)
        if stall is None or stall.epoch != row.epoch:
            patience_s = self._config.stall_s if stall is None else stall.patience_s
            self._stalls[partition] = _Stall(row.epoch, now, patience_s)
            return False
        return now >= stall.since_s + stall.patience_s

    # ---- rebalancing

    def _rebalancing(self, live: Mapping[NodeId, NodeRecord], health: Mapping[NodeId, Health], now: float) -> Plan:
        members = self._members_that_count(now)
        present = frozenset((node_id, live[node_id].boot) for node_id in members if node_id in live)
        if present != self._settled_members:
            self._settled_members = present
            self._settled_at_s = now + self._config.settle_s
        if not members or len(present) < len(members) or now < self._settled_at_s:
            return Plan()
        seen = (self._metadata.version, frozenset(members))
        if seen == self._balanced:
            return Plan()
        founding = self._metadata.founding
        assert founding is not None
        current = Table(tuple(self._row_of(PartitionId(number)) for number in range(founding.partitions)))
        target = next_table(current, members, partitions=founding.partitions, replication=founding.replication)
        if current == target:
            self._balanced = seen
            return Plan()
        failed = {node_id for node_id, state in health.items() if state is Health.FAILED}
        reasons: dict[PartitionId, Reason] = {}
        for move in moves(current, target, failed=failed):
            reasons.setdefault(move.partition, move.reason)
        return self._steps(target, reasons, now)

    def _steps(self, target: Table, reasons: Mapping[PartitionId, Reason], now: float) -> Plan:
        rows = self._metadata.rows
        self._moving = {
            partition: (epoch, since_s)
            for partition, (epoch, since_s) in self._moving.items()
            if partition in rows and rows[partition].epoch == epoch and now < since_s + MOVE_TIMEOUT_S
        }
        changes: list[RowChange] = []
        asked: list[Move] = []
        for partition, reason in reasons.items():
            row = rows.get(partition)
            wanted = target.rows[partition]
            if row is None:
                changes.append(self._begin(partition, None, wanted[0], wanted, reason))
            elif row.phase is Phase.ACTIVE and partition not in self._moving:
                if len(self._moving) >= self._config.moves_max:
                    continue
                self._moving[partition] = (row.epoch, now)
                if set(wanted) == set(row.replicas):
                    changes.append(self._begin(partition, row, wanted[0], row.replicas, reason))
                else:
                    boot = self._metadata.nodes[wanted[0]].boot
                    asked.append(Move(partition, row.epoch, wanted[0], boot, wanted, reason.value))
        return Plan(tuple(changes), tuple(asked))

    def _members_that_count(self, now: float) -> dict[NodeId, MemberSpec]:
        delay_s = self._config.replacement_delay_s
        return {
            node_id: _spec(record)
            for node_id, record in self._metadata.nodes.items()
            if not record.is_leaving and now < self._failed_since.get(node_id, now) + delay_s
        }

    def _row_of(self, partition: PartitionId) -> tuple[NodeId, ...]:
        row = self._metadata.rows.get(partition)
        return () if row is None else (row.primary, *(member for member in row.replicas if member != row.primary))

    def _begin(
        self, partition: PartitionId, row: Row | None, primary: NodeId, replicas: tuple[NodeId, ...], reason: Reason
    ) -> RowChange:
        return RowChange(
            partition,
            Step.BEGIN,
            epoch=Epoch(0) if row is None else row.epoch,
            phase=Phase.ACTIVE if row is None else row.phase,
            primary=primary,
            boot=self._metadata.nodes[primary].boot,
            replicas=replicas,
            reason=reason.value,
        )


def _spec(record: NodeRecord) -> MemberSpec:
    return MemberSpec(float(record.weight), record.zone)
