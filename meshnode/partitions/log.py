"""The log of one partition in memory: a state up to a position, and the records after it."""

from bisect import bisect_right
from collections.abc import Sequence

from meshnode.identity import Epoch
from meshnode.partitions.messages import ORIGIN, Position, Record


class PartitionLog:
    """Records without holes after ``start``. What stands before ``start`` is in the state.

    Attributes:
        start: the position up to which the records are gone.
        payload_bytes: of all records together.
    """

    def __init__(self, start: Position = ORIGIN) -> None:
        self.start = start
        self.payload_bytes = 0
        self._records: list[Record] = []
        # The answer of `last`, until something changes.
        self._last: Position | None = None

    def __len__(self) -> int:
        return len(self._records)

    @property
    def last(self) -> Position:
        """The position of the last record."""
        last = self._last
        if last is None:
            last = self._last = self._records[-1].position if self._records else self.start
        return last

    def epoch_at(self, sequence: int) -> Epoch | None:
        """The epoch of the record at ``sequence``; None outside the log."""
        if sequence == self.start.sequence:
            return self.start.epoch
        index = sequence - self.start.sequence - 1
        return self._records[index].epoch if 0 <= index < len(self._records) else None

    def contains(self, position: Position) -> bool:
        """Whether exactly this record, or the start, is here."""
        return self.epoch_at(position.sequence) == position.epoch

    def record_at(self, sequence: int) -> Record:
        """The record at ``sequence``, which must be in the log."""
        return self._records[sequence - self.start.sequence - 1]

    def after(self, sequence: int, bytes_max: int | None = None) -> tuple[Record, ...]:
        """Records that follow ``sequence``: all, or at least one and no more once they reach ``bytes_max``."""
        index = sequence - self.start.sequence
        assert index >= 0, (sequence, self.start)
        if bytes_max is None:
            return tuple(self._records[index:])
        total = 0
        end = index
        while end < len(self._records) and (end == index or total < bytes_max):
            total += len(self._records[end].payload)
            end += 1
        return tuple(self._records[index:end])

    def last_common(self, other: Position) -> Position | None:
        """The last position here that may be in a log that ends at ``other``; None if that is before the start.

        It is at most ``other`` in sequence and in epoch, since epochs never fall along a log.
        """
        count = min(other.sequence, self.last.sequence) - self.start.sequence
        if count < 0 or other.epoch < self.start.epoch:
            return None
        older = bisect_right(self._records, other.epoch, hi=count, key=lambda record: record.epoch)
        return self._records[older - 1].position if older else self.start

    def add(self, record: Record) -> None:
        """Put a record at the end."""
        last = self._records[-1] if self._records else self.start
        assert record.sequence == last.sequence + 1, (record, last)
        assert record.epoch >= last.epoch, (record, last)
        self._records.append(record)
        self._last = None
        self.payload_bytes += len(record.payload)

    def news(self, records: tuple[Record, ...]) -> tuple[Record, ...]:
        """Of records that follow something in the state or the log, those from the first on that the log lacks."""
        known = 0
        while known < len(records) and (
            records[known].sequence <= self.start.sequence
            or self.epoch_at(records[known].sequence) == records[known].epoch
        ):
            known += 1
        return records[known:]

    def replace(self, records: Sequence[Record]) -> None:
        """Put ``records`` in place of everything from the first one's sequence on."""
        if records:
            index = records[0].sequence - self.start.sequence - 1
            assert 0 <= index <= len(self._records), (records[0].sequence, self.start, self.last)
            if index < len(self._records):
                self._delete(index, len(self._records))
            for record in records:
                self.add(record)

    def restart(self, position: Position) -> None:
        """The state now stands at ``position``. Records after it stay only if the log has that very position."""
        if self.contains(position):
            self._delete(0, position.sequence - self.start.sequence)
        else:
            self._delete(0, len(self._records))
        self.start = position
        self._last = None

    def shrink(self, through: int, *, records_max: int, bytes_max: int) -> None:
        """Drop the oldest records until both bounds hold, but none after ``through``: the state must hold those."""
        count = 0
        size = self.payload_bytes
        while self.start.sequence + count < through and (len(self._records) - count > records_max or size > bytes_max):
            size -= len(self._records[count].payload)
            count += 1
        if count:
            self.start = self._records[count - 1].position
            self._delete(0, count)

    def _delete(self, begin: int, end: int) -> None:
        self.payload_bytes -= sum(len(record.payload) for record in self._records[begin:end])
        del self._records[begin:end]
        self._last = None


def is_consecutive(previous: Position, records: Sequence[Record]) -> bool:
    """Whether records from outside follow ``previous`` without holes and with epochs that never fall."""
    epoch, sequence = previous.epoch, previous.sequence
    for record in records:
        if record.sequence != sequence + 1 or record.epoch < epoch:
            return False
        epoch, sequence = record.epoch, record.sequence
    return True
