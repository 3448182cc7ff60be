"""What can go wrong, split by who must act."""

from enum import Enum
from typing import NamedTuple


class ConsensusError(Exception):
    """Any error of this package."""


# The caller must act.


class ProposalDropped(ConsensusError):
    """The proposal is surely in no log: nothing changed, and it is safe to propose it again."""


class Overloaded(ProposalDropped):
    """Too many bytes wait for agreement. Nothing changed; try again when earlier proposals have come back."""


class NodeStopped(ProposalDropped):
    """The node is not running, or not any longer: ask another one."""


class OutcomeUnknown(ConsensusError):
    """The proposal may be in the log or get there: propose again only what may take effect twice."""


class Refusal(Enum):
    """Why a configuration cannot be changed as asked."""

    ALREADY_JOINT = "the configuration is joint already: leave it with an empty change first"
    JOINT = "a joint configuration takes no simple change: leave it with an empty change first"
    NOT_JOINT = "the configuration is not joint, so there is nothing to leave"
    NO_VOTERS = "a configuration without voters cannot become joint: add a first voter"
    REMOVES_ALL_VOTERS = "it would leave no voter: add another voter first"
    SEVERAL_VOTERS = "it changes more than one voter: make one change after the other, or enter a joint configuration"
    PENDING = "an earlier change may not be applied yet: wait until it is"


class ConfigurationRefused(ProposalDropped):
    """The change does not fit the configuration. Nothing changed."""

    def __init__(self, refusal: Refusal, detail: str) -> None:
        super().__init__(f"{detail}: {refusal.value}")
        self.refusal = refusal


# A remote peer is to blame.


class MalformedMessage(ConsensusError):
    """Bytes or fields from outside that no correct peer sends. Nothing changed; drop them, and their link."""


class UnknownPeer(ConsensusError):
    """An answer from a node outside the configuration, as after its removal. Nothing changed; drop it."""


# The operator must act.


class Damage(NamedTuple):
    """Something that was synced and is not what is read.

    Attributes:
        path: the file.
        offset: the byte of the file at which the record begins that cannot be read.
        size: of the file.
        what: what is wrong, for people.
        remains: what its place has in place of the payload, wrong somewhere; None if its header cannot be read.
    """

    path: str
    offset: int
    size: int
    what: str
    remains: bytes | None = None

    def __str__(self) -> str:
        return f"{self.path} is damaged at byte {self.offset} of {self.size}: {self.what}"


class StorageError(ConsensusError):
    """The log on disk cannot be used."""


class CorruptLog(StorageError):
    """What was written is not what is read. Nothing was changed on disk."""


class CorruptSnapshot(StorageError):
    """The image of a snapshot is damaged, or that of another snapshot. Nothing was changed on disk."""

    def __init__(self, damage: Damage) -> None:
        super().__init__(str(damage))
        self.damage = damage


class ForeignLog(StorageError):
    """The file belongs to another owner. Nothing was changed on disk."""


class StorageFailed(StorageError):
    """A write or a sync failed, so nobody knows what is on disk. The log takes no further call; open it anew."""


class LostLog(StorageError):
    """The leader counts on entries that this node acknowledged and no longer has: its disk went back in time."""
