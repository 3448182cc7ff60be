"""The leader's duty towards the rows: who takes over, what moves, in which order.

A core without I/O. It only proposes: each change compares with the row that it was made for, so a leader with an old
view does no harm. Four cares, in this order:

1. A primary that failed, restarted or is stuck, or was named in an older generation: name a living replica, at once.
2. A takeover that stalls: name another living replica; wait twice as long each time. One that lacks a majority of the
   new replicas while the old ones have theirs: begin again with the old ones. One that can't succeed is left alone.
3. A partition that never was active, and has nobody who could make it so: give it to members that are alive.
4. When all members that count are alive and have been the same for a while: walk from the committed rows to
   `placement.next_table`, a bounded number of partitions at a time.
"""

import enum
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from meshnode import wire
from meshnode.identity import Boot, Epoch, NodeId, PartitionId
from meshnode.metadata.commands import RowChange, Step
from meshnode.metadata.config import AllocatorConfig
from meshnode.metadata.nodes import NodeRecord
from meshnode.metadata.rows import Phase, Row
from meshnode.metadata.state import GENERATION_SHIFT, Metadata
from meshnode.placement import MemberSpec, Reason, Table, moves, next_table, successors

STALL_MAX_S = 60.0
"""The most patience with a takeover; also how long a partition whose takeover stalled, or whose move was asked for
again and again, is not moved: what stands in its way is unlikely to be gone sooner, and others get their turn."""

SETBACKS_MAX = 2
"""How often both, patience with a move and the time until the next try, are doubled when it stalls again and again. So
a slow node gets its share in the end, and one whose takeovers get nowhere keeps its partitions from being served for no
larger part of the time."""

MOVE_TIMEOUT_S = 10.0
"""When a move that shows no effect is asked for again: the primary that was asked may have changed."""

MOVE_ATTEMPTS = 6
"""How often a move is asked for in a row: a minute is enough to copy all but the largest partitions."""

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
    """A takeover that is watched.

    Attributes:
        epoch: of the row.
        since_s: since when it could have succeeded.
        patience_s: how long it may take.
        has_stalled: whether it took longer.
    """

    epoch: Epoch
    since_s: float
    patience_s: float
    has_stalled: bool = False


@dataclass(frozen=True, slots=True)
class _Vacancy:
    """A partition that needs a new primary: ``heirs`` of ``replicas`` could be it."""

    replicas: tuple[NodeId, ...]
    heirs: tuple[NodeId, ...]
    reason: Reason


@dataclass(frozen=True, slots=True)
class _Asked:
    """A step of one partition towards the goal, not seen to be done yet."""

    epoch: Epoch
    at_s: float
    attempts: int


@dataclass(slots=True)
class _Goal:
    """The table that the rows are brought to. It stays until it is reached or the members change: to work it out anew
    after each step would cost more than the steps, and a moving target may never be reached.

    Attributes:
        pending: the partitions that are not there yet, and why they move.
    """

    table: Table
    pending: dict[PartitionId, Reason]


_Records = Mapping[NodeId, NodeRecord]
_Processes = frozenset[tuple[NodeId, Boot]]


class Allocator:
    """Made anew by each new leader."""

    def __init__(self, metadata: Metadata, config: AllocatorConfig, now: float) -> None:
        self._metadata = metadata
        self._config = config
        # All of these have at most one entry for each partition or node.
        self._stalls: dict[PartitionId, _Stall] = {}
        self._setbacks: dict[PartitionId, int] = {}  # how often the partition's move has stalled in a row
        self._left_alone_until: dict[PartitionId, float] = {}
        self._asked: dict[PartitionId, _Asked] = {}
        self._failed_since: dict[NodeId, float] = {}
        self._settled_members: _Processes = frozenset()
        self._settled_at_s = now + config.settle_s
        self._goal: _Goal | None = None
        # What was found in order: until the metadata or who is alive changes, it needn't be looked at again.
        self._served: tuple[int, _Processes] | None = None
        self._balanced: tuple[int, frozenset[NodeId]] | None = None

    def plan(self, health: Mapping[NodeId, Health], now: float) -> Plan:
        """What to propose now. ``health`` has every registered node."""
        nodes = self._metadata.nodes
        if self._metadata.founding is None:
            return Plan()
        live = {node_id: record for node_id, record in nodes.items() if health[node_id] is Health.LIVE}
        self._failed_since = {node_id: self._failed_since.get(node_id, now) for node_id in nodes if node_id not in live}
        urgent = self._takeovers(live, health, now)
        if urgent:
            return Plan(changes=tuple(urgent))
        return self._rebalancing(live, health, now)

    # ---- takeovers

    def _takeovers(self, live: _Records, health: Mapping[NodeId, Health], now: float) -> list[RowChange]:
        processes = _processes(live.values())
        seen = (self._metadata.version, processes)
        if seen == self._served:
            return []
        rows = self._metadata.rows
        vacancies: dict[PartitionId, _Vacancy] = {}
        is_served = True
        for partition, row in rows.items():
            is_old = self._is_old(row)
            is_orphan = (row.primary, row.boot) not in processes or is_old
            if row.phase is Phase.ACTIVE and not is_orphan:
                self._stalls.pop(partition, None)
                continue
            is_served = False
            left = health.get(row.primary) is Health.LEFT
            reason = Reason.GROUP_ANEW if is_old else Reason.NODE_LEFT if left else Reason.NODE_FAILED
            vacancy = self._vacancy(row, live, processes, reason)
            if vacancy is None:
                self._stalls.pop(partition, None)  # whoever takes over can't be blamed; it gets all its time after this
            elif (row.phase is Phase.SEALING and self._has_stalled(partition, row, now)) or is_orphan:
                vacancies[partition] = vacancy
        self._served = seen if is_served and len(rows) == self._partitions else None
        return self._fill(vacancies, live)

    def _vacancy(self, row: Row, live: _Records, processes: _Processes, reason: Reason) -> _Vacancy | None:
        """What a takeover of the row could be; None if none can succeed now.

        It takes a majority of the base, who have what was acknowledged, and one of the replicas, who are to have it.
        Where the new replicas lack theirs, those of the base, who have the log anyway, become the replicas again.
        """
        if row.base and not _has_majority(row.base, live):
            return None
        replicas = row.replicas
        if not _has_majority(replicas, live):
            if not row.base:
                return None
            replicas = row.base
        # A process that stalls is passed over, unless it is the set that it lacked. A new process of its node is not.
        is_stalled = (row.primary, row.boot) in processes and replicas == row.replicas and not self._is_old(row)
        stalled = row.primary if is_stalled else _GONE
        heirs = tuple(member for member in replicas if member in live and member != stalled)
        staying = tuple(heir for heir in heirs if not live[heir].is_leaving)
        return _Vacancy(replicas, staying or heirs, reason)

    def _is_old(self, row: Row) -> bool:
        """Whether the row is of an older generation. Later ones of it may be lost, in which its primary was deposed."""
        return row.epoch < self._metadata.generation << GENERATION_SHIFT

    def _has_stalled(self, partition: PartitionId, row: Row, now: float) -> bool:
        stall = self._stalls.get(partition)
        if stall is None or stall.epoch != row.epoch:
            patience_s = self._config.stall_s if stall is None else stall.patience_s
            if stall is not None and stall.has_stalled:
                patience_s = min(2 * patience_s, max(STALL_MAX_S, self._config.stall_s))
            stall = self._stalls[partition] = _Stall(row.epoch, now, patience_s)
        is_move = self._is_move(partition, row)
        setbacks = self._setbacks.get(partition, 0) if is_move else 0
        if not stall.has_stalled and now >= stall.since_s + stall.patience_s * 2**setbacks:
            stall.has_stalled = True
            until_s = now + STALL_MAX_S * 2**setbacks
            self._left_alone_until[partition] = max(until_s, self._left_alone_until.get(partition, until_s))
            if is_move:
                self._setbacks[partition] = min(setbacks + 1, SETBACKS_MAX)
        return stall.has_stalled

    def _is_move(self, partition: PartitionId, row: Row) -> bool:
        """Whether a takeover is the step towards the goal that was asked for, and not what came in its place."""
        asked = self._asked.get(partition)
        return asked is not None and row.epoch == asked.epoch + 1

    def _fill(self, vacancies: Mapping[PartitionId, _Vacancy], live: _Records) -> list[RowChange]:
        if not any(vacancy.heirs for vacancy in vacancies.values()):
            return []
        rows = self._metadata.rows
        candidates = {
            partition: (_GONE, *vacancies[partition].heirs) if partition in vacancies else (row.primary,)
            for partition, row in rows.items()
        }
        heirs = successors(candidates, failed={_GONE}, alive=_specs(live))
        return [
            self._begin(partition, rows[partition], heir, vacancies[partition].replicas, vacancies[partition].reason)
            for partition, heir in heirs.items()
        ]

    # ---- partitions that never were active

    def _unfounded(self, live: _Records) -> list[PartitionId]:
        """Partitions without a row, or whose first replicas are gone: nothing was ever acknowledged there."""
        if self._served is not None:
            return []
        rows = self._metadata.rows
        return [
            partition
            for partition in map(PartitionId, range(self._partitions))
            if (row := rows.get(partition)) is None
            or (row.phase is Phase.SEALING and not row.base and not _has_majority(row.replicas, live))
        ]

    def _found(self, unfounded: Collection[PartitionId], staying: _Records) -> Plan:
        table = self._next_table(self._current_table(without=unfounded), _specs(staying))
        rows = self._metadata.rows
        return Plan(
            changes=tuple(
                self._begin(partition, rows.get(partition), row[0], row, Reason.FOUNDED)
                for partition in unfounded
                for row in (table.rows[partition],)
            )
        )

    # ---- rebalancing

    def _rebalancing(self, live: _Records, health: Mapping[NodeId, Health], now: float) -> Plan:
        staying = {node_id: record for node_id, record in live.items() if not record.is_leaving}
        processes = _processes(staying.values())
        if processes != self._settled_members:
            self._settled_members = processes
            self._settled_at_s = now + self._config.settle_s
            self._goal = None
        if not staying or now < self._settled_at_s:
            return Plan()
        if unfounded := self._unfounded(live):
            return self._found(unfounded, staying)
        members = self._members_that_count(live, now)
        if not members.keys() <= staying.keys():
            return Plan()
        if self._goal is None:
            seen = (self._metadata.version, frozenset(members))
            if seen == self._balanced:
                return Plan()
            self._goal = self._next_goal(members, health, now)
            if not self._goal.pending:
                self._goal = None
                self._balanced = seen
                return Plan()
        return self._steps(self._goal, live, now)

    def _members_that_count(self, live: _Records, now: float) -> dict[NodeId, MemberSpec]:
        """Who is to hold the replicas: not who leaves, nor who failed so long ago that its replicas are made again.

        Where that would leave fewer members than a partition has replicas, there is nobody to make them on: they wait
        for the return of their node, whose copies are worth more than none. A node that wants to leave, though, is not
        kept by those that failed.
        """
        founding = self._metadata.founding
        assert founding is not None
        staying = {node_id: record for node_id, record in self._metadata.nodes.items() if not record.is_leaving}
        lost_at_s = now - self._config.replacement_delay_s
        kept = {
            node_id: record for node_id, record in staying.items() if self._failed_since.get(node_id, now) > lost_at_s
        }
        if len(kept) < founding.replication and not any(record.is_leaving for record in live.values()):
            return _specs(staying)
        return _specs(kept)

    def _next_goal(self, members: Mapping[NodeId, MemberSpec], health: Mapping[NodeId, Health], now: float) -> _Goal:
        failed = {node_id for node_id, state in health.items() if state is Health.FAILED}
        current = self._current_table()
        target = self._next_table(current, members)
        pending: dict[PartitionId, Reason] = {}
        for move in moves(current, target, failed=failed):
            pending.setdefault(move.partition, move.reason)
        self._asked = {}
        self._left_alone_until = {
            partition: until_s for partition, until_s in self._left_alone_until.items() if now < until_s
        }
        return _Goal(target, pending)

    def _steps(self, goal: _Goal, live: _Records, now: float) -> Plan:
        """The next steps towards the goal, as many as may be under way at a time."""
        under_way = self._take_stock(goal, now)
        processes = _processes(live.values())
        changes: list[RowChange] = []
        asked: list[Move] = []
        for partition, reason in goal.pending.items():
            if under_way >= self._config.moves_max:
                break
            row = self._metadata.rows[partition]
            last = self._asked.get(partition, _Asked(row.epoch, float("-inf"), attempts=0))
            is_led = row.phase is Phase.ACTIVE and (row.primary, row.boot) in processes
            if not is_led or now < last.at_s + MOVE_TIMEOUT_S or now < self._left_alone_until.get(partition, now):
                continue
            if last.attempts == MOVE_ATTEMPTS:
                del self._asked[partition]
                self._left_alone_until[partition] = now + STALL_MAX_S
                continue
            self._asked[partition] = _Asked(row.epoch, now, last.attempts + 1)
            under_way += 1
            wanted = goal.table.rows[partition]
            if set(wanted) == set(row.replicas):
                changes.append(self._begin(partition, row, wanted[0], row.replicas, reason))
            else:
                boot = self._metadata.nodes[wanted[0]].boot
                asked.append(Move(partition, row.epoch, wanted[0], boot, wanted, reason.value))
        return Plan(tuple(changes), tuple(asked))

    def _take_stock(self, goal: _Goal, now: float) -> int:
        """Strike off what is done; how many steps are under way."""
        under_way = 0
        for partition in list(goal.pending):
            row, wanted, asked = self._metadata.rows[partition], goal.table.rows[partition], self._asked.get(partition)
            is_active = row.phase is Phase.ACTIVE
            if is_active and row.primary == wanted[0] and set(row.replicas) == set(wanted):
                del goal.pending[partition]
                self._asked.pop(partition, None)
                self._setbacks.pop(partition, None)
            elif asked is not None and is_active and row.epoch != asked.epoch:
                del self._asked[partition]  # it came to something else
            elif asked is not None and now < asked.at_s + MOVE_TIMEOUT_S:
                under_way += 1
        if not goal.pending:
            self._goal = None
        return under_way

    # ---- tables and rows

    @property
    def _partitions(self) -> int:
        founding = self._metadata.founding
        assert founding is not None
        return founding.partitions

    def _current_table(self, without: Collection[PartitionId] = ()) -> Table:
        """The committed rows, those of the partitions in ``without`` empty."""
        rows = self._metadata.rows
        left_out = frozenset(without)
        return Table(
            tuple(
                () if partition in left_out else _in_order(rows[partition])
                for partition in map(PartitionId, range(self._partitions))
            )
        )

    def _next_table(self, current: Table, members: Mapping[NodeId, MemberSpec]) -> Table:
        founding = self._metadata.founding
        assert founding is not None
        return next_table(current, members, partitions=founding.partitions, replication=founding.replication)

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


def _processes(records: Iterable[NodeRecord]) -> _Processes:
    return frozenset((record.node_id, record.boot) for record in records)


def _specs(records: _Records) -> dict[NodeId, MemberSpec]:
    return {node_id: MemberSpec(float(record.weight), record.zone) for node_id, record in records.items()}


def _has_majority(members: Collection[NodeId], live: _Records) -> bool:
    return 2 * sum(member in live for member in members) > len(members)


def _in_order(row: Row) -> tuple[NodeId, ...]:
    """The replicas, the primary first."""
    return (row.primary, *(member for member in row.replicas if member != row.primary))
