"""The replicated metadata: the same on every node that has applied the same commands."""

import enum
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import assert_never

from meshnode import wire
from meshnode.coordination.commands import Command as CoordinationCommand
from meshnode.coordination.commands import Reply
from meshnode.coordination.state import Coordination
from meshnode.identity import Boot, Epoch, NodeId, PartitionId, Start
from meshnode.metadata.commands import ChangeRows, Forget, Found, Leaving, Recover, Register, RowChange, Step
from meshnode.metadata.image import MetadataState, pieces_of, state_from
from meshnode.metadata.nodes import Founding, NodeRecord
from meshnode.metadata.rows import Phase, Row

GENERATION_SHIFT = 40
"""An epoch is (recovery generation, number) in one integer, the generation in the high bits (rule 13). So is a term of
the Raft group, so that whatever a group says that was replaced is old."""


class Outcome(enum.Enum):
    """What a command did."""

    DONE = "done"
    STALE = "stale"
    """It compared with something that is no more; nothing changed."""
    INVALID = "invalid"
    """It can't be carried out at all; nothing changed."""


class Metadata:
    """Applies committed commands. Nothing here depends on anything but their order.

    ``on_row`` and ``on_node`` are told of each change, with the new value (None for a forgotten node), ``on_node`` of
    every node where the group was made anew; ``on_coordination`` that locks or the configuration have changed.

    Attributes:
        coordination: locks and the replicated configuration.
    """

    def __init__(
        self,
        *,
        on_row: Callable[[PartitionId, Row], None] = lambda _partition, _row: None,
        on_node: Callable[[NodeId, NodeRecord | None], None] = lambda _node_id, _record: None,
        on_coordination: Callable[[], None] = lambda: None,
    ) -> None:
        self.founding: Founding | None = None
        self.generation = 0
        self.version = 0
        """The stamp of the last command that changed anything."""
        self.nodes: dict[NodeId, NodeRecord] = {}
        self.rows: dict[PartitionId, Row] = {}
        self.coordination = Coordination(on_coordination)
        self._on_row = on_row
        self._on_node = on_node

    # ---- snapshots

    def freeze(self) -> Callable[[], Iterable[bytes]]:
        """Keep the present state; the function gives out its image, in another thread."""
        frozen = MetadataState(
            self.founding,
            self.generation,
            self.version,
            dict(self.nodes),
            dict(self.rows),
            self.coordination.freeze(),
        )
        return lambda: pieces_of(frozen)

    def restore(self, pieces: Iterable[bytes]) -> Callable[[], None]:
        """Read an image, in another thread; the function puts its state in the place of the present one.

        Raises:
            WireError: it is none that this version can read.
        """
        state = state_from(pieces)
        return lambda: self._become(state)

    def _become(self, state: MetadataState) -> None:
        gone = [node_id for node_id in self.nodes if node_id not in state.nodes]
        is_new = self.generation != state.generation
        nodes = [record for node_id, record in state.nodes.items() if is_new or self.nodes.get(node_id) != record]
        rows = [(partition, row) for partition, row in state.rows.items() if self.rows.get(partition) != row]
        self.founding, self.generation, self.version = state.founding, state.generation, state.version
        self.nodes, self.rows = state.nodes, state.rows
        for node_id in gone:
            self._on_node(node_id, None)
        for record in nodes:
            self._on_node(record.node_id, record)
        for partition, row in rows:
            self._on_row(partition, row)
        self.coordination.restore(state.coordination)

    # ---- questions

    def problem(self) -> str:
        """What is in an image and was never agreed on, since no command says it; empty if nothing is seen."""
        commands: list[Found | Register] = []
        if (found := self.founding) is not None:
            commands.append(Found(found.mesh_id, found.partitions, found.replication, found.voters))
        commands += [
            Register(one.node_id, one.boot, one.name, one.address, one.weight, one.zone, one.nonce)
            for one in self.nodes.values()
        ]
        return next(filter(None, (command.problem() for command in commands)), "")

    def boot_of(self, node_id: NodeId) -> Boot:
        """The latest start of a node that is registered; 0 if none is."""
        record = self.nodes.get(node_id)
        return Boot(0) if record is None else record.boot

    def start_of(self, node_id: NodeId) -> Start:
        """The latest start of a node that is registered; one of boot 0 if none is."""
        record = self.nodes.get(node_id)
        return Start(Boot(0), 0) if record is None else record.start

    def stamp(self, index: int) -> int:
        """A log index with the recovery generation above it (rule 13): it grows also where a log is recovered."""
        return self.generation << GENERATION_SHIFT | index

    # ---- commands

    def apply(self, index: int, data: bytes) -> Outcome | Reply:
        """Carry out the command at log ``index``. Bytes that this version can't read would split the mesh: they raise.

        Raises:
            WireError: the command is of a newer version than this node: upgrade it.
        """
        command = wire.decode(data)
        if isinstance(command, CoordinationCommand):
            return self.coordination.apply(self.stamp(index), command)
        outcome = self._carry_out(index, command)
        if outcome is Outcome.DONE:
            self.version = self.stamp(index)
            if isinstance(command, Register):
                self.coordination.node_started(self.stamp(index), command.node_id, command.boot)
        self.coordination.passed(self.stamp(index))
        return outcome

    def _carry_out(self, index: int, command: object) -> Outcome:
        match command:
            case Found():
                return self._found(command)
            case Register():
                return self._register(command)
            case Leaving():
                return self._leaving(command.node_id)
            case Forget():
                return self._forget(command.node_id)
            case Recover():
                return self._recover(index, command)
            case ChangeRows():
                outcomes = [self._change_row(change) for change in command.changes]
                return Outcome.DONE if Outcome.DONE in outcomes or not outcomes else outcomes[0]
            case _:
                raise wire.WireError(f"log entry {index} holds a {type(command).__name__}, which is no command")

    def _found(self, command: Found) -> Outcome:
        if self.founding is not None:
            return Outcome.STALE
        if command.problem():
            return Outcome.INVALID
        self.founding = Founding(command.mesh_id, command.partitions, command.replication, command.voters)
        return Outcome.DONE

    def _register(self, command: Register) -> Outcome:
        if command.problem():
            return Outcome.INVALID
        known = self.nodes.get(command.node_id)
        if known is not None and (command.boot <= known.boot or command.start.is_over(known.start)):
            return Outcome.STALE
        # A node that is started again means to stay: what it began before, as to leave, it begins anew.
        return self._set_node(
            NodeRecord(
                command.node_id,
                command.boot,
                command.name,
                command.address,
                command.weight,
                command.zone,
                command.nonce,
            )
        )

    def _leaving(self, node_id: NodeId) -> Outcome:
        known = self.nodes.get(node_id)
        if known is None:
            return Outcome.STALE
        if all(record.is_leaving for record in self.nodes.values() if record is not known):
            return Outcome.INVALID
        return self._set_node(replace(known, is_leaving=True))

    def _forget(self, node_id: NodeId) -> Outcome:
        if node_id not in self.nodes:
            return Outcome.STALE
        if any(node_id in row.replicas or node_id in row.base for row in self.rows.values()):
            return Outcome.INVALID
        del self.nodes[node_id]
        self._on_node(node_id, None)
        return Outcome.DONE

    def _recover(self, index: int, command: Recover) -> Outcome:
        if command.generation <= self.generation:
            return Outcome.STALE
        self.generation = command.generation
        self.coordination.recovered(self.stamp(index))
        for node_id, record in list(self.nodes.items()):  # all, since each may have been more than it is now
            self._set_node(replace(record, is_leaving=record.is_leaving or node_id in command.lost))
        return Outcome.DONE

    def _set_node(self, record: NodeRecord) -> Outcome:
        self.nodes[record.node_id] = record
        self._on_node(record.node_id, record)
        return Outcome.DONE

    def _change_row(self, change: RowChange) -> Outcome:
        founding = self.founding
        if founding is None or not 0 <= change.partition < founding.partitions:
            return Outcome.INVALID
        row = self.rows.get(change.partition)
        held = (Epoch(0), Phase.ACTIVE) if row is None else (row.epoch, row.phase)
        if (change.epoch, change.phase) != held:
            return Outcome.STALE
        match change.step:
            case Step.BEGIN:
                return self._begin(change, row)
            case Step.ACTIVATE:
                if row is None or row.phase is not Phase.SEALING:
                    return Outcome.INVALID
                return self._set_row(change.partition, replace(row, phase=Phase.ACTIVE, base=row.replicas))
            case _:
                assert_never(change.step)

    def _begin(self, change: RowChange, row: Row | None) -> Outcome:
        replicas = change.replicas
        if change.primary not in replicas or len(set(replicas)) != len(replicas):
            return Outcome.INVALID
        if any(member not in self.nodes for member in replicas):
            return Outcome.INVALID
        if self.nodes[change.primary].boot != change.boot:
            return Outcome.STALE  # the process that was meant is gone
        epoch = Epoch(max(change.epoch, self.generation << GENERATION_SHIFT) + 1)
        base = () if row is None else row.base
        begun = Row(epoch, change.primary, change.boot, replicas, Phase.SEALING, base, change.reason)
        return self._set_row(change.partition, begun)

    def _set_row(self, partition: PartitionId, row: Row) -> Outcome:
        self.rows[partition] = row
        self._on_row(partition, row)
        return Outcome.DONE
