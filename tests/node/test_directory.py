"""What a client remembers of who serves what."""

from meshnode.directory import ClientDirectory
from meshnode.identity import Address, NodeId, PartitionId

A, B = NodeId(1), NodeId(2)
AT_A, AT_B = Address("127.0.0.1", 1), Address("127.0.0.1", 2)


def test_a_directory_that_was_told_nothing_knows_nothing() -> None:
    directory = ClientDirectory()
    assert directory.partitions_total == 0
    assert directory.primary_of(PartitionId(0)) is None


def test_watches_hear_of_changes_of_their_partition_alone_while_they_last() -> None:
    directory = ClientDirectory()
    heard: list[str] = []
    with directory.on_change(PartitionId(0), lambda: heard.append("outer")):
        with directory.on_change(PartitionId(0), lambda: heard.append("inner")):
            directory.update(1, (A, B), {})
            assert heard == ["outer", "inner"]
            directory.update(2, (A, A), {})
            assert heard == ["outer", "inner"]
        directory.update(3, (B, A), {})
        assert heard == ["outer", "inner", "outer"]
    directory.update(4, (A, A), {})
    assert heard == ["outer", "inner", "outer"]
    assert (directory.version, directory.partitions_total) == (4, 2)


def test_a_partition_without_an_active_row_has_no_primary() -> None:
    directory = ClientDirectory()
    directory.update(1, (A, NodeId(0)), {})
    assert [directory.primary_of(PartitionId(number)) for number in range(2)] == [A, None]


def test_addresses_are_those_that_were_told_last() -> None:
    directory = ClientDirectory()
    address_of = directory.addresses.get
    directory.update(1, (A,), {A: AT_A, B: AT_B})
    directory.update(2, (B,), {B: AT_A})
    assert (address_of(A), address_of(B)) == (None, AT_A)
