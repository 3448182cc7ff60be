"""A partition's row, which only the Raft group changes (rule 1)."""

import enum
from dataclasses import dataclass

from meshnode.identity import Boot, Epoch, NodeId


class Phase(enum.Enum):
    """Where a row stands within its epoch."""

    SEALING = 1
    ACTIVE = 2


@dataclass(frozen=True, slots=True)
class Row:
    """Who serves a partition.

    Attributes:
        primary, boot: the one process that may write in this epoch.
        replicas: who keeps the log, the primary among them.
        base: the replicas of the last epoch that became active: a majority of them has every committed record. Empty
            for a partition that was never active.
        reason: why the row last began, a value of `meshnode.placement.Reason`.
    """

    epoch: Epoch
    primary: NodeId
    boot: Boot
    replicas: tuple[NodeId, ...]
    phase: Phase
    base: tuple[NodeId, ...] = ()
    reason: str = ""
