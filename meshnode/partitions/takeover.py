"""Taking a partition over: seal a majority of the old set, adopt the highest log, put a barrier behind it (rule 7).

    SEALING ── a majority of base has answered ──► FETCHING ── the log is whole ──► ADOPTED
       ▲                                              │
       └───────── the source stopped answering ───────┘

A new partition has an empty base and starts adopted. After ADOPTED a `Primary` appends the barrier.
"""

import enum

from meshnode.identity import Epoch, NodeId
from meshnode.partitions.config import PartitionsConfig
from meshnode.partitions.effects import Effect, Send
from meshnode.partitions.log import is_consecutive
from meshnode.partitions.messages import ORIGIN, Chunk, Fetch, Fetched, Position, Seal, Sealed
from meshnode.partitions.primary import PATIENCE_MAX, majority
from meshnode.partitions.replica import Replica

FETCH_ATTEMPTS = 4
"""Silences of the source before another one is looked for: what it holds may be on another replica too."""


class Stage(enum.Enum):
    """How far a takeover has come."""

    SEALING = 1
    FETCHING = 2
    ADOPTED = 3


class Takeover:
    """The named primary of ``epoch`` at work; ``stage`` is ADOPTED when the log may be continued."""

    def __init__(
        self, replica: Replica, *, epoch: Epoch, node_id: NodeId, base: tuple[NodeId, ...], config: PartitionsConfig
    ) -> None:
        self.epoch = epoch
        self.base = base
        self.stage = Stage.SEALING if base else Stage.ADOPTED
        self._replica = replica
        self._node_id = node_id
        self._config = config
        self._sealed: dict[NodeId, Position] = {}
        self._source: NodeId | None = None
        self._after = ORIGIN
        self._attempts = 0
        self._patience = 1  # how many times `resend_after_s` a source's answer may take
        self._repeat_at_s = float("inf")

    def start(self, now: float) -> list[Effect]:
        """Promise the epoch here, and ask the old set to."""
        self._repeat_at_s = now + self._config.resend_after_s
        own = self._replica.seal(Seal(self._replica.partition, self.epoch), self._node_id)
        return [*own, *self._ask_unsealed()]

    @property
    def missing(self) -> tuple[NodeId, ...]:
        """Members of the old set that have not answered."""
        return tuple(member for member in self.base if member not in self._sealed)

    @property
    def next_deadline(self) -> float:
        """When `wake` has something to do."""
        return float("inf") if self.stage is Stage.ADOPTED else self._repeat_at_s

    def sealed(self, sender: NodeId, message: Sealed, now: float) -> list[Effect]:
        """A replica promised the epoch; its log ends at ``message.last``."""
        if sender not in self.base or self.stage is Stage.ADOPTED:
            return []
        self._sealed[sender] = message.last
        return [] if self.stage is Stage.FETCHING else self._choose_source(now)

    def fetched(self, sender: NodeId, message: Fetched, now: float) -> list[Effect]:
        """Records of the source's log; an answer to an earlier question, or one that leads nowhere, is ignored."""
        if self.stage is not Stage.FETCHING or sender != self._source:
            return []
        replica = self._replica
        if not replica.log.contains(message.previous):
            common = replica.log.last_common(message.previous) or replica.log.start
            return self._fetch(common, now) if common < self._after else []
        if not message.records or message.records[-1].position <= self._after:
            return []
        if not is_consecutive(message.previous, message.records):
            return []
        return [*replica.adopt(message.records), *self._choose_source(now)]

    def chunk(self, sender: NodeId, message: Chunk, now: float) -> list[Effect]:
        """A part of the source's snapshot; one that is not the next one is ignored."""
        if self.stage is not Stage.FETCHING or sender != self._source:
            return []
        replica = self._replica
        before = (replica.receiving, replica.committed)
        effects = replica.assemble(message)
        if (replica.receiving, replica.committed) == before:
            if replica.receiving is not None and message.position < replica.receiving[0]:
                # The source knows less to be committed than the one that sent the rest: but it has the records.
                replica.forget_incoming()
                return self._fetch(replica.log.last, now)
            return []
        if replica.receiving is None:
            return [*effects, *self._choose_source(now)]
        return [*effects, *self._fetch(self._after, now)]

    def wake(self, now: float) -> list[Effect]:
        """Repeat what was not answered in time."""
        if now < self.next_deadline:
            return []
        if self.stage is Stage.SEALING:
            self._repeat_at_s = now + self._config.resend_after_s
            return self._ask_unsealed()
        self._attempts += 1
        if self._attempts < FETCH_ATTEMPTS:
            # Another copy of what queues on a slow link makes the queue longer.
            self._patience = min(2 * self._patience, PATIENCE_MAX)
            self._repeat_at_s = now + self._patience * self._config.resend_after_s
            return self._ask_source()
        # Any majority of the old set has every committed record: one without the silent source will do.
        assert self._source is not None
        del self._sealed[self._source]
        self._source = None
        self.stage = Stage.SEALING
        self._repeat_at_s = now + self._config.resend_after_s
        return [*self._ask_unsealed(), *self._choose_source(now)]

    def _choose_source(self, now: float) -> list[Effect]:
        """With a majority sealed, take the highest log: this node's own where it is as good as any."""
        if len(self._sealed) < majority(len(self.base)):
            return []
        own = self._replica.log.last  # what was fetched before a source fell silent may have changed it
        others = {member: last for member, last in self._sealed.items() if member != self._node_id}
        highest = max(others.values(), default=own)
        if own >= highest:
            self.stage = Stage.ADOPTED
            return []
        self._source = min(member for member, last in others.items() if last == highest)
        self.stage = Stage.FETCHING
        return self._fetch(own, now)

    def _fetch(self, after: Position, now: float) -> list[Effect]:
        """A new question to the source."""
        self._after = after
        self._attempts = 0
        self._repeat_at_s = now + self._patience * self._config.resend_after_s
        return self._ask_source()

    def _ask_unsealed(self) -> list[Effect]:
        seal = Seal(self._replica.partition, self.epoch)
        return [Send(member, seal) for member in self.missing if member != self._node_id]

    def _ask_source(self) -> list[Effect]:
        assert self._source is not None
        rest = self._replica.receiving or (ORIGIN, 0)
        return [Send(self._source, Fetch(self._replica.partition, self.epoch, self._after, *rest))]
