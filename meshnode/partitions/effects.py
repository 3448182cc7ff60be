"""What the cores of this room ask of their driver, in order."""

from dataclasses import dataclass

from meshnode.identity import Epoch, NodeId, PartitionId
from meshnode.partitions.messages import Confirm, Confirmed, Entry, Message


@dataclass(frozen=True, slots=True)
class Write:
    """Queue an entry in the node's journal."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class Send:
    """Send now; may be lost. To this node itself: hand it to the partition at once."""

    to: NodeId
    message: Message | Confirm | Confirmed


@dataclass(frozen=True, slots=True)
class AfterSync:
    """Send when everything queued in the journal so far is on disk."""

    send: Send


@dataclass(frozen=True, slots=True)
class Committed:
    """Everything up to ``through`` is committed and applied here."""

    partition: PartitionId
    through: int


@dataclass(frozen=True, slots=True)
class ReadReady:
    """A read that waited for its confirmation may be answered."""

    partition: PartitionId
    token: int


@dataclass(frozen=True, slots=True)
class Activate:
    """The barrier of ``epoch`` is committed: propose that the row becomes active."""

    partition: PartitionId
    epoch: Epoch


@dataclass(frozen=True, slots=True)
class Serving:
    """This process is the active primary of ``epoch``: turns may start."""

    partition: PartitionId
    epoch: Epoch


@dataclass(frozen=True, slots=True)
class Deposed:
    """This process is not the primary of ``epoch`` any more: nothing of it may leave, what was pending is unknown."""

    partition: PartitionId
    epoch: Epoch


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """The learners of ``epoch`` have the log's tail: the new set may begin."""

    partition: PartitionId
    epoch: Epoch
    learners: tuple[NodeId, ...]


Effect = Write | Send | AfterSync | Committed | ReadReady | Activate | Serving | Deposed | CaughtUp
