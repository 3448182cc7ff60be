"""What replicas of a partition say to each other, and what they keep.

Nobody changes a value of any type here. Those that each request makes some of are not frozen all the same, since to
make a frozen one takes three to four times as long.
"""

from dataclasses import dataclass

from meshnode import wire
from meshnode.identity import Epoch, PartitionId


@dataclass(slots=True, unsafe_hash=True, order=True)
class Position:
    """A place in a partition's log. Of two logs, the one with the higher last position is taken over."""

    epoch: Epoch
    sequence: int


ORIGIN = Position(Epoch(0), 0)
"""Before the first record."""


@dataclass(slots=True, unsafe_hash=True)
class Record:
    """One record. An empty payload is a barrier: it marks the start of an epoch and changes no state."""

    epoch: Epoch
    sequence: int
    payload: bytes = b""

    @property
    def position(self) -> Position:
        """Where it stands."""
        return Position(self.epoch, self.sequence)


@wire.message(0x30)
@dataclass(frozen=True, slots=True)
class Seal:
    """The named primary of ``epoch`` asks a replica to promise that epoch (rule 4)."""

    partition: PartitionId
    epoch: Epoch


@wire.message(0x31)
@dataclass(frozen=True, slots=True)
class Sealed:
    """The promise is on disk, and so is everything up to ``last``."""

    partition: PartitionId
    epoch: Epoch
    last: Position


@wire.message(0x32)
@dataclass(slots=True, unsafe_hash=True)
class Append:
    """Records that follow ``previous``; none to learn what the replica has (rule 5)."""

    partition: PartitionId
    epoch: Epoch
    previous: Position
    records: tuple[Record, ...]
    committed: int


@wire.message(0x33)
@dataclass(slots=True, unsafe_hash=True)
class Appended:
    """Everything up to ``sequence`` is on disk, and matched the message that is answered."""

    partition: PartitionId
    epoch: Epoch
    sequence: int


@wire.message(0x34)
@dataclass(frozen=True, slots=True)
class Refused:
    """No: ``promised`` is another epoch, or the log lacks the record at ``previous``; of those before, it has ``last``.

    ``last`` is the last position that may be common to both logs, so that one answer skips a whole epoch.
    """

    partition: PartitionId
    epoch: Epoch
    promised: Epoch
    last: Position
    previous: int = 0


@wire.message(0x35)
@dataclass(frozen=True, slots=True)
class Fetch:
    """The primary of a new epoch, whose log may agree up to ``after``, asks a sealed replica for what follows.

    Of a snapshot that it has begun to receive, it asks for the rest: of the one at ``position``, from ``offset`` on.
    """

    partition: PartitionId
    epoch: Epoch
    after: Position
    position: Position = ORIGIN
    offset: int = 0


@wire.message(0x36)
@dataclass(frozen=True, slots=True)
class Fetched:
    """Records after ``previous``, the last position that may be common; the source's log ends at ``last``."""

    partition: PartitionId
    epoch: Epoch
    previous: Position
    records: tuple[Record, ...]
    last: Position


@wire.message(0x37)
@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of the snapshot at ``position``, ``total`` bytes in all, for a replica whose log ends too early.

    ``digest`` is of the whole, so that parts from several sources, or of several versions, are never put together.
    """

    partition: PartitionId
    epoch: Epoch
    position: Position
    offset: int
    total: int
    data: bytes
    digest: int = 0


@wire.message(0x38)
@dataclass(frozen=True, slots=True)
class ChunkTaken:
    """A replica tells its primary the next byte that it wants of a snapshot; its total when all have arrived."""

    partition: PartitionId
    epoch: Epoch
    position: Position
    offset: int


Message = Seal | Sealed | Append | Appended | Refused | Fetch | Fetched | Chunk | ChunkTaken
"""What concerns one partition."""


@dataclass(slots=True, unsafe_hash=True)
class Claim:
    """I am the primary of ``epoch``; everything up to ``committed`` is committed."""

    partition: PartitionId
    epoch: Epoch
    committed: int


@wire.message(0x39)
@dataclass(slots=True, unsafe_hash=True)
class Confirm:
    """Is my epoch still the highest that you promised? One message for all partitions of a pair of nodes."""

    round: int
    claims: tuple[Claim, ...]


@dataclass(frozen=True, slots=True)
class Denial:
    """A claim that does not hold."""

    partition: PartitionId
    promised: Epoch


@wire.message(0x3A)
@dataclass(slots=True, unsafe_hash=True)
class Confirmed:
    """Every claim of the round holds, but for the denied ones."""

    round: int
    denied: tuple[Denial, ...]


# ---- what the journal keeps


@dataclass(frozen=True, slots=True)
class Promise:
    """Journal: the partition's promised epoch rose."""

    partition: PartitionId
    epoch: Epoch


@dataclass(slots=True, unsafe_hash=True)
class Log:
    """Journal: records, the first of which replaces everything from its sequence on."""

    partition: PartitionId
    records: tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Journal: the whole copy, which replaces everything before: the state at ``position``, and what follows it.

    One entry, because a crash may come between two: what stands before it in the journal may be deleted.
    """

    partition: PartitionId
    promised: Epoch
    position: Position
    state: bytes
    records: tuple[Record, ...] = ()


@dataclass(frozen=True, slots=True)
class Dropped:
    """Journal: the copy was deleted. The promise stays: forgetting it could let an old primary commit."""

    partition: PartitionId
    promised: Epoch


Entry = Promise | Log | Snapshot | Dropped
