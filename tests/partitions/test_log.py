"""The log beside a twin that is a dictionary."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.identity import Epoch
from meshnode.partitions.log import PartitionLog, is_consecutive
from meshnode.partitions.messages import ORIGIN, Position, Record


@dataclass
class TwinLog:
    """Records by sequence, and nothing clever."""

    start: Position = ORIGIN
    records: dict[int, Record] = field(default_factory=dict)

    def replace(self, records: list[Record]) -> None:
        kept = {sequence: record for sequence, record in self.records.items() if sequence < records[0].sequence}
        self.records = kept | {record.sequence: record for record in records}

    def epochs(self) -> dict[int, Epoch]:
        return {self.start.sequence: self.start.epoch} | {
            sequence: record.epoch for sequence, record in self.records.items()
        }

    def last_common(self, other: Position) -> Position | None:
        common = [
            Position(epoch, sequence)
            for sequence, epoch in self.epochs().items()
            if epoch <= other.epoch and sequence <= other.sequence
        ]
        return max(common, key=lambda position: position.sequence, default=None)


def chain(after: Position, steps: list[tuple[int, int]]) -> list[Record]:
    """Records that follow a position: by how much each epoch rises, and each payload's size."""
    records: list[Record] = []
    epoch = after.epoch
    for index, (rise, size) in enumerate(steps, start=1):
        epoch = Epoch(epoch + rise)
        records.append(Record(epoch, after.sequence + index, b"x" * size))
    return records


STEPS = st.lists(st.tuples(st.sampled_from([0, 0, 0, 1, 2]), st.integers(0, 9)), max_size=12)
POSITIONS = st.builds(Position, st.integers(0, 12).map(Epoch), st.integers(0, 30))


@st.composite
def logs(draw: st.DrawFn) -> tuple[PartitionLog, TwinLog]:
    """The same log twice, after some operations."""
    start = draw(st.sampled_from([ORIGIN, Position(Epoch(1), 4)]))
    log, twin = PartitionLog(start), TwinLog(start)
    for _ in range(draw(st.integers(0, 5))):
        sequence = draw(st.integers(log.start.sequence, log.last.sequence))
        epoch = log.epoch_at(sequence)
        assert epoch is not None
        steps: list[tuple[int, int]] = draw(STEPS)
        records = chain(Position(epoch, sequence), steps)
        replaces: bool = draw(st.booleans())
        if records and replaces:
            log.replace(tuple(records))
            twin.replace(records)
        else:
            log.shrink(sequence, records_max=0, bytes_max=10**9)
            twin.start = Position(epoch, sequence)
            twin.records = {number: record for number, record in twin.records.items() if number > sequence}
    return log, twin


@given(logs(), POSITIONS)
def test_the_log_answers_as_its_twin_does(both: tuple[PartitionLog, TwinLog], position: Position) -> None:
    log, twin = both
    records = [twin.records[sequence] for sequence in sorted(twin.records)]
    assert log.start == twin.start
    assert len(log) == len(records)
    assert log.last == (records[-1].position if records else twin.start)
    assert log.payload_bytes == sum(len(record.payload) for record in records)
    assert log.after(log.start.sequence) == tuple(records)
    assert log.epoch_at(position.sequence) == twin.epochs().get(position.sequence)
    assert log.contains(position) == (twin.epochs().get(position.sequence) == position.epoch)
    assert log.last_common(position) == twin.last_common(position)
    for record in records:
        assert log.record_at(record.sequence) == record


@given(logs(), st.data())
def test_what_follows_a_point_is_at_least_one_record_and_stops_at_the_bound(
    both: tuple[PartitionLog, TwinLog], data: st.DataObject
) -> None:
    log, twin = both
    sequence = data.draw(st.integers(log.start.sequence, log.last.sequence))
    bound = data.draw(st.integers(1, 20))
    taken = log.after(sequence, bound)
    following = [twin.records[number] for number in sorted(twin.records) if number > sequence]
    assert list(taken) == following[: len(taken)]
    assert bool(taken) == bool(following)
    assert sum(len(record.payload) for record in taken[:-1]) < bound
    if len(taken) < len(following):
        assert sum(len(record.payload) for record in taken) >= bound


@given(logs(), st.data())
def test_news_begin_at_the_first_record_that_differs(both: tuple[PartitionLog, TwinLog], data: st.DataObject) -> None:
    log, twin = both
    previous = data.draw(st.integers(0, log.last.sequence))
    epochs = twin.epochs()
    same = [Record(epochs.get(number, Epoch(0)), number) for number in range(previous + 1, log.last.sequence + 1)]
    cut = data.draw(st.integers(0, len(same)))
    kept = same[:cut]
    last = kept[-1].position if kept else Position(epochs.get(previous, Epoch(0)), previous)
    records = (*kept, *chain(last, data.draw(STEPS)))
    expected = 0
    for record in records:
        if record.sequence > twin.start.sequence and epochs.get(record.sequence) != record.epoch:
            break
        expected += 1
    assert log.news(records) == records[expected:]


@given(logs(), POSITIONS)
def test_a_new_state_keeps_the_records_after_it_only_if_it_stands_in_the_log(
    both: tuple[PartitionLog, TwinLog], position: Position
) -> None:
    log, twin = both
    stands = twin.epochs().get(position.sequence) == position.epoch
    kept = [record for sequence, record in sorted(twin.records.items()) if stands and sequence > position.sequence]
    log.restart(position)
    assert log.start == position
    assert log.after(position.sequence) == tuple(kept)
    assert log.payload_bytes == sum(len(record.payload) for record in kept)


@given(STEPS, st.integers(0, 12), st.integers(0, 5), st.integers(0, 30))
def test_shrinking_drops_no_more_than_the_bounds_ask_for(
    steps: list[tuple[int, int]], through: int, records_max: int, bytes_max: int
) -> None:
    log = PartitionLog()
    records = chain(ORIGIN, steps)
    log.replace(tuple(records))
    through = min(through, len(records))
    log.shrink(through, records_max=records_max, bytes_max=bytes_max)
    dropped = log.start.sequence
    assert dropped <= through

    def fits(count: int) -> bool:
        rest = records[count:]
        return len(rest) <= records_max and sum(len(record.payload) for record in rest) <= bytes_max

    assert dropped == next((count for count in range(through) if fits(count)), through)
    assert log.start == (records[dropped - 1].position if dropped else ORIGIN)


def test_a_log_takes_neither_holes_nor_falling_epochs() -> None:
    log = PartitionLog()
    log.add(Record(Epoch(2), 1))
    with pytest.raises(AssertionError):
        log.add(Record(Epoch(2), 3))
    with pytest.raises(AssertionError):
        log.add(Record(Epoch(1), 2))
    with pytest.raises(AssertionError):
        log.replace((Record(Epoch(2), 3),))
    log.replace(())
    assert log.last == Position(Epoch(2), 1)


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ((), True),
        ((Record(Epoch(3), 6),), True),
        ((Record(Epoch(3), 6), Record(Epoch(5), 7)), True),
        ((Record(Epoch(3), 7),), False),
        ((Record(Epoch(2), 6),), False),
        ((Record(Epoch(4), 6), Record(Epoch(3), 7)), False),
        ((Record(Epoch(4), 6), Record(Epoch(4), 8)), False),
    ],
)
def test_records_from_outside_follow_without_holes_and_with_rising_epochs(
    records: tuple[Record, ...], expected: bool
) -> None:
    assert is_consecutive(Position(Epoch(3), 5), records) is expected
