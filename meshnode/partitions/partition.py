"""One partition on one node: its copy, and what the row lets this process be.

FOLLOWING ── the row names this process ──► TAKING OVER ── adopted ──► BARRIER ── row active ──► SERVING
    ▲                                            │                        │                        │
    └────────────────────── the row names another, or a replica promised a newer epoch ────────────┘
"""

import math

from meshnode.identity import Boot, Epoch, NodeId, PartitionId
from meshnode.metadata.allocator import Move
from meshnode.metadata.commands import RowChange, Step
from meshnode.metadata.rows import Phase, Row
from meshnode.partitions.config import PartitionsConfig
from meshnode.partitions.confirmation import Confirmation
from meshnode.partitions.effects import Deposed, Effect, Propose, Serving
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

PROPOSE_AGAIN_S = 2.0
"""A proposal may be lost with a leader; a second one changes nothing."""

MOVE_EXPIRY_S = 90.0
"""How long a move counts after the leader asked for it last: longer than the pause between its series of questions, so
that what a learner has is not thrown away; not so long that one that was given up is carried out hours later."""


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
        self._move: Move | None = None
        self._move_until_s = math.inf
        self._proposed: RowChange | None = None
        self._propose_at_s = math.inf

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
        elif is_named and row.phase is Phase.ACTIVE and row.epoch == self._primary_epoch:
            effects.extend(self._serve(row.epoch, now))
        return [*effects, *self._delete_if_excluded(row)]

    def _serve(self, epoch: Epoch, now: float) -> list[Effect]:
        primary = self.primary
        if primary is None or primary.is_active:
            return []
        return [*primary.activated(), Serving(self.replica.partition, epoch), *self._propose(now)]

    def _delete_if_excluded(self, row: Row) -> list[Effect]:
        """Rule 10. A learner of the row's own epoch is not excluded: the next row may name it."""
        replica = self.replica
        newest = max(replica.attached, replica.log.last.epoch)
        if not self._excludes(row):
            return []
        replica.stop_receiving(row.epoch)
        return [] if replica.is_empty or row.epoch <= newest else replica.drop()

    def move(self, move: Move, now: float) -> list[Effect]:
        """The leader asks to bring the partition to other replicas (rule 8); what was asked for before is over."""
        primary = self.primary
        if primary is None or not primary.is_active or primary.epoch != move.epoch:
            return []
        self._move = move
        self._move_until_s = now + MOVE_EXPIRY_S
        learners = tuple(member for member in move.replicas if member not in primary.replicas)
        return [*primary.teach(learners, now), *self._propose(now)]

    # ---- messages

    def receive(self, message: object, sender: NodeId, now: float) -> list[Effect]:
        """A message of this partition from a replica, or from this node's own journal."""
        match message:
            case Appended():  # as a rule, and so is what follows
                return self._answered(message, sender, now)
            case Append() | Chunk() if self._is_out_of_place(message.epoch):
                return []
            case Append():
                if self._role_epoch is None:  # as a rule: it only follows
                    return self.replica.append(message, sender)
                return [*self._yield_to(message.epoch), *self.replica.append(message, sender)]
            case Seal():
                return [*self._yield_to(message.epoch), *self.replica.seal(message, sender)]
            case Fetch():
                return self.replica.fetch(message, sender)
            case Chunk():
                if self.takeover is not None and message.epoch == self.takeover.epoch:
                    return [*self.takeover.chunk(sender, message, now), *self._continue_takeover(now)]
                return [*self._yield_to(message.epoch), *self.replica.take_chunk(message, sender)]
            case Sealed() | Fetched():
                return self._taking_over(message, sender, now)
            case Refused() | ChunkTaken():
                return self._answered(message, sender, now)
        return []  # from outside, and nothing that a partition knows

    def _is_out_of_place(self, epoch: Epoch) -> bool:
        """Whether nobody else may write here in that epoch.

        One process per epoch, and this may be it. And what comes late must not make a copy again that was deleted by
        rule 10: no row would come that deletes it once more.
        """
        row = self.row
        return epoch == self._primary_epoch or (row is not None and row.epoch > epoch and self._excludes(row))

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
        primary = self.primary
        if primary is None or message.epoch != primary.epoch:
            return []
        match message:
            case Appended():
                effects = primary.appended(sender, message, now)
            case Refused():
                effects = primary.refused(sender, message, now)
            case ChunkTaken():
                effects = primary.chunk_taken(sender, message, now)
        if primary.is_active and self._move is None and self._proposed is None:  # as a rule: nothing is due
            return effects
        return [*effects, *self._propose(now)]

    def confirmed(self, sender: NodeId, answer: Confirmation) -> list[Effect]:
        """A replica's answer to a claim of this process."""
        primary = self.primary
        if primary is None or primary.epoch != answer.epoch:
            return []
        if answer.promised is not None:
            return self._yield_to(answer.promised)
        return primary.confirmed(sender, answer.round, answer.asked_at_s)

    # ---- time

    def wake(self, now: float) -> list[Effect]:
        """Do what is due."""
        effects: list[Effect] = []
        if self.takeover is not None:
            effects.extend(self.takeover.wake(now))
            effects.extend(self._continue_takeover(now))
        if self.primary is not None and now >= self.primary.next_deadline:
            effects.extend(self.primary.wake(now))
        if self.primary is not None and now >= self._move_until_s:
            self._end_move()
            effects.extend(self.primary.teach((), now))
        return [*effects, *self._propose(now)]

    @property
    def next_deadline(self) -> float:
        """When `wake` has something to do."""
        takeover = math.inf if self.takeover is None else self.takeover.next_deadline
        primary = math.inf if self.primary is None else self.primary.next_deadline
        return min(takeover, primary, self._propose_at_s, self._move_until_s)

    # ---- inside

    def _excludes(self, row: Row) -> bool:
        return row.phase is Phase.ACTIVE and self._node_id not in row.replicas

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
        self._proposed = None
        self._propose_at_s = math.inf
        self._end_move()
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

    def _end_move(self) -> None:
        self._move = None
        self._move_until_s = math.inf

    def _propose(self, now: float) -> list[Effect]:
        """The change that is due: at once when it is new, and again as long as it is due."""
        change = self._change_due()
        if change == self._proposed and now < self._propose_at_s:
            return []
        self._proposed = change
        self._propose_at_s = math.inf if change is None else now + PROPOSE_AGAIN_S
        return [] if change is None else [Propose(change)]

    def _change_due(self) -> RowChange | None:
        primary, move = self.primary, self._move
        if primary is None:
            return None
        if not primary.is_active:
            # Rule 7: the barrier on a majority of the replicas, and with it all that was adopted, ends the takeover.
            is_durable = primary.durable >= primary.barrier
            activate = RowChange(self.replica.partition, Step.ACTIVATE, primary.epoch, Phase.SEALING)
            return activate if is_durable else None
        if move is None or not primary.has_taught:
            return None
        return RowChange(
            move.partition,
            Step.BEGIN,
            epoch=move.epoch,
            phase=Phase.ACTIVE,
            primary=move.primary,
            boot=move.boot,
            replicas=move.replicas,
            reason=move.reason,
        )
