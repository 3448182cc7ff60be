"""What must hold of placement while members come and go: of each table, and of each step that the leader takes to it.

The tables are pure functions, so they are judged where their inputs change. The allocator is judged from outside: by
who is there, and by the table that its rows and members make.
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import NoReturn

from xxhash import xxh3_64_intdigest

from meshnode.identity import Boot, NodeId, PartitionId
from meshnode.metadata.allocator import Move, Plan
from meshnode.metadata.commands import RowChange, Step
from meshnode.metadata.nodes import NodeRecord
from meshnode.metadata.rows import Phase, Row
from meshnode.metadata.state import Metadata
from meshnode.placement import MemberSpec, Reason, Table, explain, moves, next_table, successors
from simulations.checkers.moves import check_explanation, check_moves, check_takeover
from simulations.checkers.placement import check_table
from simulations.checkers.tables import check_quality
from simulations.checkers.violation import Violation
from simulations.cores.heap import EventHeap

RESIZED = 0.2
"""The share of tables of which it is also asked what they would be with more replicas or fewer: a mesh never changes
that, but `next_table` promises the same of it."""

EXPLAINED = 2
"""Partitions of each table whose explanation is looked at."""

Members = Mapping[NodeId, MemberSpec]


def table_of(metadata: Metadata) -> Table:
    """The committed rows, the primary of each first; empty where a partition has none."""
    assert metadata.founding is not None
    rows: list[tuple[NodeId, ...]] = []
    for partition in map(PartitionId, range(metadata.founding.partitions)):
        row = metadata.rows.get(partition)
        others = () if row is None else tuple(node for node in row.replicas if node != row.primary)
        rows.append(() if row is None else (row.primary, *others))
    return Table(tuple(rows))


def specs(records: Iterable[NodeRecord]) -> dict[NodeId, MemberSpec]:
    """What placement knows of these nodes."""
    return {record.node_id: MemberSpec(float(record.weight), record.zone) for record in records}


def digest(table: Table) -> int:
    """A number that distinguishes the table from others."""
    return xxh3_64_intdigest(repr(table.rows).encode()) >> 1


class PlacementChecks:
    """Judges tables and plans. All methods raise Violation.

    Args:
        heap: of the world, for the time.
        rng: of whatever is only looked at here and there.

    Attributes:
        tables: how many were judged.
    """

    def __init__(self, heap: EventHeap, rng: random.Random) -> None:
        self.tables = 0
        self._heap = heap
        self._rng = rng
        self._goal: Table | None = None
        self._settled: frozenset[tuple[NodeId, Boot]] = frozenset()
        # What the rows were since those are there, one for each command that changed one.
        self._since: list[tuple[int, Table]] = []
        self._judged: tuple[int, Members, Table] | None = None

    # ---- everybody applies the same commands

    def same(self, leader: Metadata, follower: Metadata) -> None:
        """Two state machines that were given the same commands hold the same."""
        if leader.rows != follower.rows or leader.nodes != follower.nodes or leader.version != follower.version:
            partition = next(
                (partition for partition, row in leader.rows.items() if follower.rows.get(partition) != row), None
            )
            self._broken("placement-same-rows", f"two logs that are the same make other rows, as of {partition}")

    # ---- tables

    def table(self, leader: Metadata, follower: Metadata, members: Members, gone: Iterable[NodeId]) -> Table:
        """Judge the table that these members should have, and all that is said of it.

        Args:
            leader: whose rows count.
            follower: another node's, which has to make the same of them.
            members: who is to hold replicas.
            gone: members of late; they may have failed.
        """
        if self._judged is not None and self._judged[:2] == (leader.version, members):
            return self._judged[2]
        founding = leader.founding
        assert founding is not None
        count, replication = founding.partitions, founding.replication
        current = table_of(leader)
        table = next_table(current, members, partitions=count, replication=replication)
        self._judged = leader.version, members, table
        self.tables += 1
        now_s = self._heap.now
        shuffled = list(members)
        self._rng.shuffle(shuffled)
        elsewhere = {node: members[node] for node in shuffled}
        other = next_table(table_of(follower), elsewhere, partitions=count, replication=replication)
        if other != table:
            self._broken("placement-same-table", "another node makes another table of the same members and rows")
        check_table(current, members, table, replication=replication, virtual_s=now_s)
        check_quality(current, members, table, replication=replication, virtual_s=now_s)
        if self._rng.random() < RESIZED:
            self._resized(current, members, replication)
        failed = frozenset(gone)
        check_moves(current, table, moves(current, table, failed=failed), failed=failed, virtual_s=now_s)
        for partition in self._rng.sample(range(count), min(EXPLAINED, count)):
            said = explain(PartitionId(partition), table, members, replication=replication)
            check_explanation(said, table, members, replication=replication, virtual_s=now_s)
        self._takeover(table, members)
        return table

    def _resized(self, current: Table, members: Members, replication: int) -> None:
        """With another number of replicas the table is as good; but more may move then than must."""
        width = self._rng.choice([count for count in range(1, replication + 2) if count != replication])
        table = next_table(current, members, partitions=len(current.rows), replication=width)
        check_quality(current, members, table, replication=width, virtual_s=self._heap.now)

    def _takeover(self, table: Table, members: Members) -> None:
        """Some members fail all at once: who would take over?"""
        if len(members) < 2:
            return
        failed = frozenset(self._rng.sample(sorted(members), self._rng.randint(1, len(members) - 1)))
        alive = {node: spec for node, spec in members.items() if node not in failed}
        rows = {PartitionId(partition): row for partition, row in enumerate(table.rows)}
        heirs = successors(rows, failed=failed, alive=alive)
        check_takeover(rows, heirs, failed=failed, alive=alive, virtual_s=self._heap.now)

    # ---- the leader

    def forget_goal(self) -> None:
        """Another leader: it makes the table anew."""
        self._since, self._goal = [], None

    def plan(self, metadata: Metadata, plan: Plan, live: Mapping[NodeId, Boot], members: Members) -> None:
        """What a leader wants done: partitions founded, or taken over among those that live, or steps to the table.

        Args:
            metadata: what the plan was made of.
            live: the processes that run.
            members: who is to hold replicas.
        """
        rows = metadata.rows
        founded = [change for change in plan.changes if change.reason == Reason.FOUNDED.value]
        taken_over = [change for change in plan.changes if self._is_orphan(rows.get(change.partition), live)]
        for change in plan.changes:
            if change.step is not Step.BEGIN or live.get(change.primary) != change.boot:
                self._broken("placement-heir-lives", f"{change} names a process that does not run", change.primary)
        for move in plan.moves:
            self._move(rows[move.partition], move, live)
        if founded:
            self._founded(metadata, founded, live)
            return
        for change in taken_over:
            row = rows[change.partition]
            if set(change.replicas) not in (set(row.replicas), set(row.base)):
                self._broken("placement-goal", f"{change} takes other replicas than {row} has", change.primary)
        if not taken_over:
            self._step_on(metadata, plan, live, members)

    def _step_on(self, metadata: Metadata, plan: Plan, live: Mapping[NodeId, Boot], members: Members) -> None:
        """Steps lead to one table, which these members made of the rows as they were at some time since they are there.

        The leader keeps to a table until it is reached, though it may not be able to take a step for long.
        """
        processes = frozenset(item for item in live.items() if not metadata.nodes[item[0]].is_leaving)
        if processes != self._settled:
            self._settled, self._since, self._goal = processes, [], None
        if not self._since or self._since[-1][0] != metadata.version:
            self._since.append((metadata.version, table_of(metadata)))
        steps = {change.partition: (change.primary, change.replicas) for change in plan.changes}
        steps |= {move.partition: (move.primary, move.replicas) for move in plan.moves}
        if not steps or self._lead_to(self._goal, steps):
            return
        for _, current in reversed(self._since):
            self._goal = self._next_table(metadata, current, members)
            if self._lead_to(self._goal, steps):
                return
        self._broken("placement-goal", f"{steps} do not lead to the table of {sorted(members)}")

    def _founded(self, metadata: Metadata, changes: Sequence[RowChange], live: Mapping[NodeId, Boot]) -> None:
        """Partitions that never were active go to those who are there, as if nobody held them."""
        held = [row for row in (metadata.rows.get(change.partition) for change in changes) if row is not None]
        if any(row.base or row.phase is not Phase.SEALING for row in held):
            self._broken("placement-goal", f"{held} were active, and one of them is founded again")
        staying = [record for node, record in metadata.nodes.items() if node in live and not record.is_leaving]
        founded = {change.partition for change in changes}
        rows = table_of(metadata).rows
        empty = Table(tuple(() if partition in founded else row for partition, row in enumerate(rows)))
        table = self._next_table(metadata, empty, specs(staying))
        steps = {change.partition: (change.primary, change.replicas) for change in changes}
        if not self._lead_to(table, steps):
            self._broken("placement-goal", f"{steps} do not found the table of {staying}: {table}")

    @staticmethod
    def _next_table(metadata: Metadata, current: Table, members: Members) -> Table:
        founding = metadata.founding
        assert founding is not None
        return next_table(current, members, partitions=founding.partitions, replication=founding.replication)

    @staticmethod
    def _is_orphan(row: Row | None, live: Mapping[NodeId, Boot]) -> bool:
        return row is not None and (row.phase is Phase.SEALING or live.get(row.primary) != row.boot)

    def _move(self, row: Row, move: Move, live: Mapping[NodeId, Boot]) -> None:
        if row.phase is not Phase.ACTIVE or row.epoch != move.epoch or live.get(row.primary) != row.boot:
            self._broken("placement-heir-lives", f"{move} is asked of {row}, which nobody serves", row.primary)

    @staticmethod
    def _lead_to(goal: Table | None, steps: Mapping[PartitionId, tuple[NodeId, tuple[NodeId, ...]]]) -> bool:
        if goal is None:
            return False
        wanted = {partition: goal.rows[partition] for partition in steps}
        return all(
            wanted[partition][0] == primary and set(wanted[partition]) == set(replicas)
            for partition, (primary, replicas) in steps.items()
        )

    def _broken(self, invariant: str, message: str, *nodes: NodeId) -> NoReturn:
        raise Violation(invariant, virtual_s=self._heap.now, message=message, nodes=nodes)
