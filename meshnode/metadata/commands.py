"""What the Raft group agrees on, as commands. Each is small, and says by itself whether it still applies."""

import enum
from dataclasses import dataclass

from meshnode import wire
from meshnode.identity import (
    NODE_ID_MAX,
    STARTS_KEPT,
    Address,
    Boot,
    Epoch,
    MeshId,
    NodeId,
    PartitionId,
    Start,
    check_address,
    check_text,
)
from meshnode.metadata.config import VOTERS_CHOICES, VOTERS_DEFAULT
from meshnode.metadata.rows import Phase
from meshnode.placement import check_partitions

WEIGHT_MAX = 1000
"""Of one node: more than the ratio of any two machines of one mesh."""

CHANGES_MAX = 256
"""Changes of rows in one command: about 16 KiB in the Raft log."""


@wire.message(0x40)
@dataclass(frozen=True, slots=True)
class Found:
    """The first command of a mesh: what never changes again."""

    mesh_id: MeshId
    partitions: int
    replication: int
    voters: int = VOTERS_DEFAULT

    def problem(self) -> str:
        """Why it can't be carried out at all; empty where it can."""
        try:
            check_partitions(self.partitions)
        except ValueError as error:
            return str(error)
        if self.replication < 1:
            return f"replication {self.replication} is below 1"
        return "" if self.voters in VOTERS_CHOICES else f"{self.voters} voters are not one of {VOTERS_CHOICES}"


@wire.message(0x41)
@dataclass(frozen=True, slots=True)
class Register:
    """A node has started. ``boot`` must exceed the one registered (rule 2), on the same data directory: see `Start`.

    It is registered if the nonce is there.
    """

    node_id: NodeId
    boot: Boot
    name: str
    address: Address
    weight: int = 1
    zone: str = ""
    nonce: int = 0
    before: tuple[int, ...] = ()

    @property
    def start(self) -> Start:
        """Which life of the node this is."""
        return Start(self.boot, self.nonce, self.before)

    def problem(self) -> str:
        """Why it can't be carried out at all; empty where it can. It goes into everyone's placement and tables."""
        if not 0 < self.node_id <= NODE_ID_MAX:
            return f"node id {self.node_id} is outside 1 … 2**63 − 1"
        if self.boot < 1:
            return f"boot {self.boot} is below 1"
        if len(self.before) > STARTS_KEPT:
            return f"{len(self.before)} starts before this one: at most {STARTS_KEPT} are kept"
        if not 1 <= self.weight <= WEIGHT_MAX:
            return f"weight {self.weight} is outside 1 … {WEIGHT_MAX}"
        if not self.name or not (self.name + self.zone).isprintable():
            return f"name {self.name!r} or zone {self.zone!r} is empty or can't be printed"
        try:
            check_text("name", self.name)
            check_text("zone", self.zone)
            check_address(self.address)
        except ValueError as error:
            return str(error)
        return ""


@wire.message(0x42)
@dataclass(frozen=True, slots=True)
class Leaving:
    """A node wants to leave: it gets no new partitions, and loses those that it has. One has to stay."""

    node_id: NodeId


@wire.message(0x43)
@dataclass(frozen=True, slots=True)
class Forget:
    """A node that no row names is not part of the mesh any more."""

    node_id: NodeId


@wire.message(0x46)
@dataclass(frozen=True, slots=True)
class Recover:
    """The Raft group was made anew, from one node's log or from a snapshot (rule 13): these nodes are lost for good.

    What was agreed on after that log or snapshot is lost. All rows of an older generation have to begin anew.
    """

    generation: int
    lost: tuple[NodeId, ...]


NOBODY = NodeId(0)
NEVER = Boot(0)


class Step(enum.Enum):
    """The two changes of a row (rule 1)."""

    BEGIN = 1
    ACTIVATE = 2


@dataclass(frozen=True, slots=True)
class RowChange:
    """A compare-and-set on (epoch, phase). ``primary``, ``boot``, ``replicas`` and ``reason`` are for BEGIN.

    A partition without a row has epoch 0 and phase ACTIVE.
    """

    partition: PartitionId
    step: Step
    epoch: Epoch
    phase: Phase
    primary: NodeId = NOBODY
    boot: Boot = NEVER
    replicas: tuple[NodeId, ...] = ()
    reason: str = ""


@wire.message(0x44)
@dataclass(frozen=True, slots=True)
class ChangeRows:
    """Changes of rows, each for itself: one that does not apply is passed over."""

    changes: tuple[RowChange, ...]


Command = Found | Register | Leaving | Forget | ChangeRows | Recover
