"""What is under way in a world of partitions beside the messages of its cores: metadata and requests.

Nobody changes any of it; see `meshnode.partitions.messages` for why the most frequent are not frozen.
"""

from dataclasses import dataclass

from meshnode.identity import Boot, PartitionId
from meshnode.metadata.rows import Row

SERVICE = 0
"""The number of the metadata service: what the Raft group is to a node, as one that never forgets."""


@dataclass(frozen=True, slots=True)
class Pulse:
    """A process is there, and knows the first so many changes of rows."""

    boot: Boot
    rows_known: int


@dataclass(frozen=True, slots=True)
class Rows:
    """Changes of rows, in the order in which they were committed, from the one after the first ``after`` on."""

    after: int
    changes: tuple[tuple[PartitionId, Row], ...]


@dataclass(slots=True)
class Request:
    """A client asks a node for a write that takes effect at most once, or for a read.

    Attributes:
        attempt: rises with each try.
        key: names the request; empty for a read.
    """

    partition: PartitionId
    attempt: int
    key: bytes


@dataclass(slots=True)
class Reply:
    """A node's answer. Without ``is_done`` nothing is known of the write; the client asks again."""

    attempt: int
    is_done: bool
    seen: int = 0
    """For a read: how many records of the partition it saw. For a write: which record of it this one is."""
