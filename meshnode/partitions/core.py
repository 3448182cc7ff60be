"""All partitions of one process: rows, messages and time in, effects out."""

import heapq
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from consensus.records import REMEDY
from meshnode.errors import DataDirectoryError
from meshnode.identity import Boot, NodeId, PartitionId
from meshnode.metadata.allocator import Move
from meshnode.metadata.rows import Row
from meshnode.partitions.config import PartitionsConfig
from meshnode.partitions.confirmation import Rounds
from meshnode.partitions.effects import Effect, Send, Serving
from meshnode.partitions.messages import Append, Appended, Confirm, Confirmed, Denial, Entry
from meshnode.partitions.partition import Partition
from meshnode.partitions.primary import Primary
from meshnode.partitions.replica import Machine
from meshnode.placement import PARTITIONS_MAX


class PartitionsCore:
    """Routes what happens to the partition that it concerns; all methods return effects in order.

    Args:
        machine: makes a fresh state for a partition.
    """

    def __init__(
        self, config: PartitionsConfig, *, node_id: NodeId, boot: Boot, machine: Callable[[PartitionId], Machine]
    ) -> None:
        self.partitions: dict[PartitionId, Partition] = {}
        self._config = config
        self._node_id = node_id
        self._boot = boot
        self._machine = machine
        self._rows_elsewhere: dict[PartitionId, Row] = {}
        self._rounds = Rounds(node_id, boot, config)
        self._deadlines: list[tuple[float, PartitionId]] = []
        self._armed: dict[PartitionId, float] = {}

    # ---- the journal

    def recover(self, entries: Iterable[Entry]) -> None:
        """Take all that the journal has, in order; before anything else.

        Raises:
            DataDirectoryError: records are missing, and nothing that follows has them.
        """
        for entry in entries:
            self._partition(entry.partition).replica.recover(entry)
        for partition, present in self.partitions.items():
            if not present.replica.is_whole:
                raise DataDirectoryError(
                    f"the journal lacks records of partition {partition} after {present.replica.log.last.sequence}: "
                    f"it is damaged. {REMEDY}"
                )

    def whole_copy(self, partition: PartitionId) -> Entry:
        """All that is here of one partition, as one entry."""
        return self.partitions[partition].replica.whole_copy()

    # ---- what happens

    def row_changed(self, partition: PartitionId, row: Row, now: float) -> list[Effect]:
        """A committed row; those of one partition come in the order of their epochs."""
        if partition not in self.partitions and row.primary != self._node_id:
            self._rows_elsewhere[partition] = row
            return []  # nothing is kept here; a primary's first message makes the copy
        present = self._partition(partition)
        effects = present.row_changed(row, now)
        for effect in effects:
            if isinstance(effect, Serving) and present.primary is not None:
                self._rounds.want(present.primary, now)  # the lease starts with a confirmation
        return self._armed_after(partition, effects)

    def receive(self, sender: NodeId, message: Any, now: float) -> list[Effect]:
        """A message from a replica, from the leader, or from this node's own journal."""
        match message:
            case Append() | Appended() if 0 <= message.partition < PARTITIONS_MAX:  # as a rule
                copy = self._partition(message.partition)
                return self._armed_after(message.partition, copy.receive(message, sender, now))
            case Confirm():
                return self._confirm(sender, message)
            case Confirmed():
                return self._confirmed(sender, message, now)
            case Move():
                present = self.partitions.get(message.partition)
                return [] if present is None else self._armed_after(message.partition, present.move(message, now))
            case _ if 0 <= getattr(message, "partition", -1) < PARTITIONS_MAX:
                partition = PartitionId(message.partition)
                return self._armed_after(partition, self._partition(partition).receive(message, sender, now))
        return []  # well-formed, of this mesh, and not for this room: a newer version's

    def _confirm(self, sender: NodeId, message: Confirm) -> list[Effect]:
        effects: list[Effect] = []
        denied = []
        for claim in message.claims:
            present = self.partitions.get(claim.partition)
            if present is None:
                continue  # nothing was ever promised here
            holds, learned = present.replica.holds(claim)
            effects.extend(learned)
            if not holds:
                denied.append(Denial(claim.partition, present.replica.promised))
        return [*effects, Send(sender, Confirmed(message.round, tuple(denied)))]

    def _confirmed(self, sender: NodeId, message: Confirmed, now: float) -> list[Effect]:
        effects: list[Effect] = []
        for answer in self._rounds.answered(sender, message, now):
            effects.extend(self.partitions[answer.partition].confirmed(sender, answer))
        return effects

    # ---- what is asked of a primary

    def primary(self, partition: PartitionId) -> Primary | None:
        """The primary that this process is or is about to be."""
        present = self.partitions.get(partition)
        return None if present is None else present.primary

    def holds_lease(self, partition: PartitionId, now: float) -> bool:
        """Whether a majority confirmed this process as primary of late (rule 12)."""
        primary = self.primary(partition)
        return primary is not None and primary.lease_until > now

    def propose(self, partition: PartitionId, payload: bytes, now: float) -> tuple[int, list[Effect]]:
        """Append a record as the serving primary; its sequence."""
        primary = self._serving(partition)
        sequence, effects = primary.propose(payload, now)
        return sequence, self._armed_after(partition, effects)

    def read(self, partition: PartitionId, token: int, now: float) -> list[Effect]:
        """Report ``token`` once what the log holds now is committed, and a round from now on confirmed (rule 11)."""
        primary = self._serving(partition)
        self._rounds.want(primary, now)
        return primary.read(token, self._rounds.next_round)

    # ---- time

    @property
    def next_deadline(self) -> float:
        """When `wake` has something to do; it may be nothing."""
        rounds = self._rounds.next_deadline
        return min(rounds, self._deadlines[0][0]) if self._deadlines else rounds

    def wake(self, now: float) -> list[Effect]:
        """Do what is due."""
        effects: list[Effect] = [*self._rounds.wake(self._primaries(), now)]
        while self._deadlines and self._deadlines[0][0] <= now:
            deadline, partition = heapq.heappop(self._deadlines)
            if self._armed.get(partition) == deadline:
                del self._armed[partition]
                present = self.partitions[partition]
                woken = present.wake(now) if present.next_deadline <= now else []
                effects.extend(self._armed_after(partition, woken))
        return effects

    def confirm(self, now: float) -> list[Effect]:
        """Ask for all primaries whether their epochs still hold, before it is due."""
        return [*self._rounds.ask_all(self._primaries(), now)]

    # ---- inside

    def _partition(self, partition: PartitionId) -> Partition:
        present = self.partitions.get(partition)
        if present is None:
            present = self.partitions[partition] = Partition(
                partition, self._machine(partition), node_id=self._node_id, boot=self._boot, config=self._config
            )
            present.row = self._rows_elsewhere.pop(partition, None)
        return present

    def _primaries(self) -> Iterator[Primary]:
        return (present.primary for present in self.partitions.values() if present.primary is not None)

    def _serving(self, partition: PartitionId) -> Primary:
        primary = self.partitions[partition].primary
        assert primary is not None
        assert primary.is_active
        return primary

    def _armed_after(self, partition: PartitionId, effects: list[Effect]) -> list[Effect]:
        """Make sure to wake no later than the partition's next deadline."""
        deadline = self.partitions[partition].next_deadline
        if deadline < self._armed.get(partition, math.inf):
            self._armed[partition] = deadline
            heapq.heappush(self._deadlines, (deadline, partition))
        return effects
