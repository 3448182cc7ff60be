"""Listens in on the leaders' allocators, and has a checker judge where they want partitions to be.

Each table that a leader works out is the one that anybody would make of the same members and rows, and moves no more
than it must. Whatever a leader then proposes is a step to that table, or a takeover: the same replicas, or those of the
base, with another primary.
"""

from collections.abc import Callable, Mapping
from typing import Any

from meshnode.identity import NodeId
from meshnode.metadata.allocator import Allocator, Move, Plan
from meshnode.metadata.commands import RowChange
from meshnode.placement import MemberSpec, Table
from simulations.checkers.placement import check_step, check_table
from simulations.checkers.violation import Violation
from simulations.mesh.listening import Listener, Method, Wrapping


class Allocation(Listener):
    """Sees every table and every plan of every leader."""

    def __init__(self, clock: Callable[[], float], fail: Callable[[Violation], None]) -> None:
        super().__init__(clock, fail)
        # One for each leader of a run.
        self._tables: dict[Allocator, Table] = {}

    def wrappings(self) -> tuple[Wrapping, ...]:
        return ((Allocator, "_next_table", self._table_heard), (Allocator, "plan", self._plan_heard))

    def _table_heard(self, original: Method) -> Method:
        def heard(allocator: Allocator, current: Table, members: Mapping[NodeId, MemberSpec]) -> Table:
            table: Table = original(allocator, current, members)
            self._tables[allocator] = table
            self.tell(self._check_table, allocator, current, members, table)
            return table

        return heard

    def _plan_heard(self, original: Method) -> Method:
        def heard(allocator: Allocator, *arguments: Any) -> Plan:
            plan: Plan = original(allocator, *arguments)
            if plan.changes or plan.moves:
                self.tell(self._check_plan, allocator, plan)
            return plan

        return heard

    def _check_table(
        self, allocator: Allocator, current: Table, members: Mapping[NodeId, MemberSpec], table: Table
    ) -> None:
        founding = allocator._metadata.founding
        assert founding is not None
        check_table(current, members, table, replication=founding.replication, virtual_s=self.clock())

    def _check_plan(self, allocator: Allocator, plan: Plan) -> None:
        rows, table = allocator._metadata.rows, self._tables.get(allocator)
        steps: list[RowChange | Move] = [*plan.changes, *plan.moves]
        for step in steps:
            check_step(rows.get(step.partition), step.partition, step.replicas, table, virtual_s=self.clock())
