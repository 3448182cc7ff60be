"""The state that partitions keep in a world: which requests took effect, and what must be true of it."""

from collections.abc import Callable

from xxhash import xxh3_64_intdigest

from meshnode.identity import Epoch, NodeId, PartitionId
from meshnode.metadata.rows import Row
from meshnode.partitions.messages import Position, Record
from meshnode.partitions.partition import Partition
from simulations.checkers.partitions import PartitionsChecker
from simulations.checkers.violation import Violation


class RequestSet:
    """A partition's state: the requests that took effect, in order.

    Attributes:
        applied: the sequence of each request's record, in order.
        digest: equal after equal records.
    """

    def __init__(self) -> None:
        self.applied: dict[bytes, int] = {}
        self.digest = 0

    def apply(self, sequence: int, payload: bytes) -> None:
        """Take one committed record."""
        self.applied[payload] = sequence
        self.digest = chained(self.digest, sequence, payload)

    def snapshot(self) -> bytes:
        """The whole state."""
        return b"\n".join(b"%d %s" % (sequence, payload) for payload, sequence in self.applied.items())

    def restore(self, state: bytes) -> None:
        """Replace the whole state."""
        self.applied = {}
        self.digest = 0
        for line in state.split(b"\n") if state else ():
            sequence, _, payload = line.partition(b" ")
            self.apply(int(sequence), payload)


def chained(digest: int, sequence: int, payload: bytes) -> int:
    """The digest of a state after one more record."""
    return xxh3_64_intdigest(payload, digest ^ sequence)


class RequestsChecker(PartitionsChecker):
    """The invariants of partition replication, and of a `RequestSet` on top of it. All methods raise Violation.

    Args:
        clock: virtual seconds.
        row_of: see `PartitionsChecker`.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        row_of: Callable[[PartitionId, Epoch], Row | None] = lambda _partition, _epoch: None,
    ) -> None:
        super().__init__(clock, row_of=row_of)
        self._digests: dict[PartitionId, list[int]] = {}
        self._effects: dict[PartitionId, dict[bytes, int]] = {}
        self._acknowledged_to: dict[PartitionId, int] = {}

    def on_committed(self, partition: PartitionId, record: Record) -> None:
        """A request takes effect at most once."""
        digests = self._digests.setdefault(partition, [0])
        if not record.payload:
            digests.append(digests[-1])
            return
        first = self._effects.setdefault(partition, {}).setdefault(record.payload, record.sequence)
        if first != record.sequence:
            message = f"{record.payload!r} takes effect at {first} and at {record.sequence}"
            raise self._violation("partitions-at-most-once", partition, message)
        digests.append(chained(digests[-1], record.sequence, record.payload))

    def acknowledge(self, partition: PartitionId, epoch: Epoch, sequence: int, payload: bytes) -> None:
        """A client was told by the primary of ``epoch`` that its record is committed."""
        super().acknowledge(partition, epoch, sequence, payload)
        self._acknowledged_to[partition] = max(sequence, self._acknowledged_to.get(partition, 0))

    def check(self, partition: Partition, node: NodeId) -> None:
        """After each step of that copy: its log, and its state."""
        PartitionsChecker.check(self, partition, node)
        replica = partition.replica
        assert isinstance(replica.machine, RequestSet)
        digests = self._digests.get(replica.partition, [0])
        if replica.machine.digest != digests[replica.committed]:
            message = f"its state after {replica.committed} records is another one than elsewhere"
            raise self._violation("partitions-state", replica.partition, message, node)

    def must_see(self, copy: Partition) -> bool:
        """Whether a read that reaches this copy now can see all that was acknowledged before.

        A primary that was deposed and does not know it cannot, and must not answer such a read (rule 11).
        """
        partition, log = copy.replica.partition, copy.replica.log
        last = self._acknowledged_to.get(partition, 0)
        if last <= log.start.sequence:
            return True
        return log.contains(Position(self.committed[partition][last - 1].epoch, last))

    def committed_unseen(self, partition: PartitionId, node: NodeId, compared: int) -> Violation:
        """What it is if an append commits more than it has compared."""
        message = f"it commits more than an append has compared, which is up to {compared}"
        return self._violation("partitions-commit-verified", partition, message, node)

    def answers_read(self, copy: Partition, node: NodeId, seen: int, *, sees_all: bool) -> None:
        """A read is answered that saw so many records."""
        if not sees_all:
            message = "it answers a read that misses a write which was acknowledged before it"
            raise self._violation("partitions-read", copy.replica.partition, message, node)
        if seen > copy.replica.committed:
            message = f"it answers a read that saw {seen} records, and {copy.replica.committed} are committed"
            raise self._violation("partitions-read", copy.replica.partition, message, node)
