"""Which files a journal must keep, compared with trying each."""

from hypothesis import given
from hypothesis import strategies as st

from meshnode.identity import Epoch, PartitionId
from meshnode.partitions.messages import Dropped, Entry, Promise, Snapshot
from meshnode.partitions.retention import Retention
from tests.partitions.copies import at

ENTRIES = st.tuples(st.integers(0, 2), st.sampled_from("pcd"))


def entry(partition: int, kind: str) -> Entry:
    match kind:
        case "c":
            return Snapshot(PartitionId(partition), Epoch(1), at(1, 1), b"")
        case "d":
            return Dropped(PartitionId(partition), Epoch(1))
        case _:
            return Promise(PartitionId(partition), Epoch(1))


@given(st.lists(st.lists(ENTRIES, max_size=4), min_size=1, max_size=8))
def test_a_file_is_needed_while_it_has_a_last_copy_or_what_follows_one(files: list[list[tuple[int, str]]]) -> None:
    retention = Retention()
    for file, entries in enumerate(files):
        for partition, kind in entries:
            retention.note(entry(partition, kind), file=file, size=10)
    needed_from = {}
    for partition in range(3):
        own = [(file, kind) for file, entries in enumerate(files) for each, kind in entries if each == partition]
        copies = [index for index, (_, kind) in enumerate(own) if kind != "p"]
        if own:
            needed_from[partition] = own[copies[-1] if copies else 0][0]
    assert retention.oldest_needed() == min(needed_from.values(), default=None)
    for file in range(len(files)):
        assert set(retention.needing(file)) == {each for each, oldest in needed_from.items() if oldest <= file}


def test_only_the_last_copy_of_each_partition_counts_for_the_size() -> None:
    retention = Retention()
    for partition, kind, size in ((0, "p", 5), (0, "c", 100), (1, "c", 50), (0, "c", 30), (0, "p", 5), (1, "d", 1)):
        retention.note(entry(partition, kind), file=1, size=size)
    assert retention.copies_bytes == 31
