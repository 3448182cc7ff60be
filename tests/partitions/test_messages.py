"""Messages cross the wire unchanged."""

from hypothesis import given
from hypothesis import strategies as st

from meshnode import wire
from meshnode.identity import Epoch, PartitionId
from meshnode.partitions.messages import (
    Append,
    Appended,
    Chunk,
    ChunkTaken,
    Claim,
    Confirm,
    Confirmed,
    Denial,
    Fetch,
    Fetched,
    Message,
    Position,
    Record,
    Refused,
    Seal,
    Sealed,
)

PARTITIONS = st.integers(0, 2**14 - 1).map(PartitionId)
EPOCHS = st.integers(0, 2**63 - 1).map(Epoch)
NUMBERS = st.integers(0, 2**63 - 1)
POSITIONS = st.builds(Position, EPOCHS, NUMBERS)
RECORDS = st.lists(st.builds(Record, EPOCHS, NUMBERS, st.binary(max_size=20)), max_size=4).map(tuple)

MESSAGES: st.SearchStrategy[Message | Confirm | Confirmed] = st.one_of(
    st.builds(Seal, PARTITIONS, EPOCHS),
    st.builds(Sealed, PARTITIONS, EPOCHS, POSITIONS),
    st.builds(Append, PARTITIONS, EPOCHS, POSITIONS, RECORDS, NUMBERS),
    st.builds(Appended, PARTITIONS, EPOCHS, NUMBERS),
    st.builds(Refused, PARTITIONS, EPOCHS, EPOCHS, POSITIONS, NUMBERS),
    st.builds(Fetch, PARTITIONS, EPOCHS, POSITIONS),
    st.builds(Fetched, PARTITIONS, EPOCHS, POSITIONS, RECORDS, POSITIONS),
    st.builds(
        Chunk, PARTITIONS, EPOCHS, POSITIONS, NUMBERS, NUMBERS, st.binary(max_size=20), st.integers(0, 2**64 - 1)
    ),
    st.builds(ChunkTaken, PARTITIONS, EPOCHS, POSITIONS, NUMBERS),
    st.builds(Confirm, NUMBERS, st.lists(st.builds(Claim, PARTITIONS, EPOCHS, NUMBERS), max_size=4).map(tuple)),
    st.builds(Confirmed, NUMBERS, st.lists(st.builds(Denial, PARTITIONS, EPOCHS), max_size=4).map(tuple)),
)


@given(MESSAGES)
def test_a_message_arrives_as_it_was_sent(message: Message | Confirm | Confirmed) -> None:
    assert wire.decode(wire.encode(message)) == message


def test_positions_are_ordered_by_epoch_first() -> None:
    assert Position(Epoch(1), 9) < Position(Epoch(2), 1) < Position(Epoch(2), 2)
