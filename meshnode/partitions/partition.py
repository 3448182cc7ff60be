"""One partition on one node: its copy, and what the row lets this process be.

FOLLOWING ── the row names this process ──► TAKING OVER ── adopted ──► BARRIER ── row active ──► SERVING
    ▲                                            │                        │                        │
    └────────────────────── the row names another, or a replica promised a newer epoch ────────────┘
"""

from meshnode.identity import Boot, Epoch, NodeId, PartitionId
from meshnode.metadata.rows import Phase, Row
from meshnode.partitions.config import PartitionsConfig
from meshnode.partitions.effects import Activate, Deposed, Effect, Serving
from meshnode.partitions.messages import (
    Append,
    Appended,
    Chunk,
    ChunkTaken,
    Fetch,
    Fetched,
    Refused,
    Seal,
    Sealed,
)
from meshnode.partitions.primary import Primary
from meshnode.partitions.replica import Machine, Replica
from meshnode.partitions.takeover import Stage, Takeover

ACTIVATE_AGAIN_S = 2.0
"""A proposal to activate may be lost with a leader; a second one changes nothing."""


class Partition:
    """Routes rows, messages and time to the parts; all methods return effects in order."""

    def __init__(
        self, partition: PartitionId, machine: Machine, *, node_id: NodeId, boot: Boot, config: PartitionsConfig
    ) -> None:
        self.replica = Replica(partition, machine)
        self.row: Row | None = None
        self.takeover: Takeover | None = None
        self.primary: Primary | None = None
        self._node_id = node_id
        self._boot = boot
        self._config = config
        self._deposed_epoch = Epoch(0)
        self._activate_at_s = float("inf")

    @property
    def is_serving(self) -> bool:
        """Whether this process is the primary of an active row, as far as it knows."""
        return self.primary is not None and self.primary.is_active

    # ---- the row

    def row_changed(self, row: Row, now: float) -> list[Effect]:
        """The committed row; rows arrive in the order of their epochs."""
        self.row = row
        effects: list[Effect] = []
        epoch = self._role_epoch
        if epoch is not None and row.epoch > epoch:
            effects.extend(self._step_down())
        is_named = row.primary == self._node_id and row.boot == self._boot
        may_begin = self._role_epoch is None and row.epoch > self._deposed_epoch and row.epoch >= self.replica.promised
        if is_named and row.phase is Phase.SEALING and may_begin:
            self.takeover = Takeover(
                self.replica, epoch=row.epoch, node_id=self._node_id, base=row.base, config=self._config
            )
            effects.extend(self.takeover.start(now))
            effects.extend(self._continue_takeover(now))
        elif is_named and row.phase is Phase.ACTIVE and self.primary is not None and self.primary.epoch == row.epoch:
            self._activate_at_s = float("inf")
            if not self.primary.is_active:
                effects.extend(self.primary.activated())
                effects.append(Serving(self.replica.partition, row.epoch))
        return [*effects, *self._delete_if_excluded(row)]

    def _delete_if_excluded(self, row: Row) -> list[Effect]:
        """Rule 10. A learner of the row's own epoch is not excluded: the next row may name it."""
        replica = self.replica
        newest = max(replica.attached, replica.log.last.epoch)
        if row.phase is not Phase.ACTIVE or self._node_id in row.replicas or replica.is_empty or row.epoch <= newest:
            return []
        return replica.drop()

    # ---- messages

    def receive(self, message: object, sender: NodeId, now: float) -> list[Effect]:
        """A message of this partition from a replica, or from this node's own journal."""
        match message:
            case Seal():
                return [*self._yield_to(message.epoch), *self.replica.seal(message, sender)]
            case Append() | Chunk() if message.epoch == self._primary_epoch:
                return []  # one process per epoch, and this is it
            case Append():
                return [*self._yield_to(message.epoch), *self.replica.append(message, sender)]
            case Fetch():
                return self.replica.fetch(message, sender)
            case Chunk():
                if self.takeover is not None and message.epoch == self.takeover.epoch:
                    return [*self.takeover.chunk(sender, message, now), *self._continue_takeover(now)]
                return [*self._yield_to(message.epoch), *self.replica.take_chunk(message, sender)]
            case Sealed() | Fetched():
                return self._taking_over(message, sender, now)
            case Appended() | Refused() | ChunkTaken():
                return self._answered(message, sender, now)
        return []  # from outside, and nothing that a partition knows

    def _taking_over(self, message: Sealed | Fetched, sender: NodeId, now: float) -> list[Effect]:
        if self.takeover is None or message.epoch != self.takeover.epoch:
            return []
        if isinstance(message, Sealed):
            effects = self.takeover.sealed(sender, message, now)
        else:
            effects = self.takeover.fetched(sender, message, now)
        return [*effects, *self._continue_takeover(now)]

    def _answered(self, message: Appended | Refused | ChunkTaken, sender: NodeId, now: float) -> list[Effect]:
        if isinstance(message, Refused) and self._role_epoch is not None and message.promised > self._role_epoch:
            return self._step_down()
        if self.primary is None or message.epoch != self.primary.epoch:
            if isinstance(message, ChunkTaken) and message.epoch == self.replica.promised:
                return self.replica.snapshot_chunk(message.epoch, sender, message.position, message.offset)
            return []
        match message:
            case Appended():
                effects = self.primary.appended(sender, message, now)
            case Refused():
                effects = self.primary.refused(sender, message, now)
            case ChunkTaken():
                effects = self.primary.chunk_taken(sender, message, now)
        return [*effects, *self._activate_when_durable(now)]

    # ---- time

    def wake(self, now: float) -> list[Effect]:
        """Do what is due."""
        effects: list[Effect] = []
        if self.takeover is not None:
            effects.extend(self.takeover.wake(now))
            effects.extend(self._continue_takeover(now))
        if self.primary is not None and now >= self.primary.next_deadline:
            effects.extend(self.primary.wake(now))
        if now >= self._activate_at_s and self.primary is not None:
            self._activate_at_s = now + ACTIVATE_AGAIN_S
            effects.append(Activate(self.replica.partition, self.primary.epoch))
        return effects

    @property
    def next_deadline(self) -> float:
        """When `wake` has something to do."""
        takeover = float("inf") if self.takeover is None else self.takeover.next_deadline
        primary = float("inf") if self.primary is None else self.primary.next_deadline
        return min(takeover, primary, self._activate_at_s)

    # ---- inside

    @property
    def _primary_epoch(self) -> Epoch | None:
        return None if self.primary is None else self.primary.epoch

    @property
    def _role_epoch(self) -> Epoch | None:
        if self.primary is not None:
            return self.primary.epoch
        return None if self.takeover is None else self.takeover.epoch

    def _yield_to(self, epoch: Epoch) -> list[Effect]:
        """Rule 4: who promises a newer epoch stops acting for an older one."""
        role_epoch = self._role_epoch
        return self._step_down() if role_epoch is not None and epoch > role_epoch else []

    def _step_down(self) -> list[Effect]:
        epoch = self._role_epoch
        assert epoch is not None
        self._deposed_epoch = epoch
        was_serving = self.is_serving
        self.takeover = None
        self.primary = None
        self._activate_at_s = float("inf")
        return [Deposed(self.replica.partition, epoch)] if was_serving else []

    def _continue_takeover(self, now: float) -> list[Effect]:
        """Once the log is adopted, continue it with a barrier."""
        takeover = self.takeover
        if takeover is None or takeover.stage is not Stage.ADOPTED:
            return []
        assert self.row is not None
        assert self.row.epoch == takeover.epoch
        self.takeover = None
        self.primary = Primary(
            self.replica,
            epoch=takeover.epoch,
            node_id=self._node_id,
            replicas=self.row.replicas,
            config=self._config,
            now=now,
        )
        self.replica.attach(takeover.epoch, self.replica.log.last.sequence)
        return self.primary.start(now)

    def _activate_when_durable(self, now: float) -> list[Effect]:
        """Rule 7: the barrier on a majority of the replicas, and with it all that was adopted, ends the takeover."""
        primary = self.primary
        assert primary is not None
        if primary.is_active or self._activate_at_s != float("inf") or primary.durable < primary.barrier:
            return []
        self._activate_at_s = now + ACTIVATE_AGAIN_S
        return [Activate(self.replica.partition, primary.epoch)]
