"""What the cores of this room ask of their driver, in order.

Nobody changes one; see `meshnode.partitions.messages` for why most are not frozen.
"""

from dataclasses import dataclass

from meshnode.identity import Epoch, NodeId, PartitionId
from meshnode.metadata.commands import RowChange
from meshnode.partitions.messages import Confirm, Confirmed, Entry, Message


@dataclass(slots=True, unsafe_hash=True)
class Write:
    """Queue an entry in the node's journal."""

    entry: Entry


@dataclass(slots=True, unsafe_hash=True)
class Send:
    """Send now; may be lost. To this node itself: hand it to the partition at once."""

    to: NodeId
    message: Message | Confirm | Confirmed


@dataclass(slots=True, unsafe_hash=True)
class AfterSync:
    """Send when everything queued in the journal so far is on disk."""

    send: Send


@dataclass(slots=True, unsafe_hash=True)
class Committed:
    """Everything up to ``through`` is committed and applied here."""

    partition: PartitionId
    through: int


@dataclass(slots=True, unsafe_hash=True)
class ReadReady:
    """A read that waited for its confirmation may be answered."""

    partition: PartitionId
    token: int


@dataclass(frozen=True, slots=True)
class Propose:
    """Propose a change of the row to the Raft group; may be lost, and is repeated in time."""

    change: RowChange


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


Effect = Write | Send | AfterSync | Committed | ReadReady | Propose | Serving | Deposed
