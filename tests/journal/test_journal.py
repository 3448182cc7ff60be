"""The journal on a disk in memory that loses power, fills up and fails."""

import random
from collections.abc import Callable
from typing import Any, cast

import pytest
import trio
import trio.testing
from hypothesis import assume, given
from hypothesis import strategies as st

from consensus.syncing import SlowSyncs, Syncs
from meshnode.errors import DataDirectoryError, StorageFailed
from meshnode.host import Host
from meshnode.identity import Epoch, PartitionId
from meshnode.partitions.config import PartitionsConfig
from meshnode.partitions.journal import Journal
from meshnode.partitions.messages import Dropped, Entry, Log, Position, Promise, Record, Snapshot
from tests.consensus.disks import MemoryDisk

OWNER = b"mesh and node"
SMALL = PartitionsConfig(segment_bytes=2**16, journal_bytes_max=3 * 2**16)
FIRST = "journal/00000001.log"


class InlineHost:
    """Runs the disk's work at once."""

    def syncs(self) -> Syncs:
        return SlowSyncs(self.run_blocking)

    async def run_blocking(self, work: Callable[..., Any], *arguments: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return work(*arguments)


def journal_on(disk: MemoryDisk, config: PartitionsConfig | None = None, owner: bytes = OWNER) -> Journal:
    return Journal(cast(Host, InlineHost()), disk, config or PartitionsConfig(), owner)


def kept(disk: MemoryDisk) -> list[Entry]:
    return list(journal_on(disk).recover())


def entry(partition: int, sequence: int, size: int = 10) -> Entry:
    return Log(PartitionId(partition), (Record(Epoch(1), sequence, bytes([sequence % 256]) * size),))


async def write_all(journal: Journal, batches: list[list[Entry]], acknowledged: list[Entry]) -> None:
    """Write batch after batch, each after the one before was acknowledged."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(journal.run)
        for batch in batches:
            synced = trio.Event()
            for item in batch:
                journal.write(item)
            journal.after_sync(synced.set)
            await synced.wait()
            acknowledged.extend(batch)
        nursery.cancel_scope.cancel()


def filled(batches: list[list[Entry]], config: PartitionsConfig | None = None) -> MemoryDisk:
    disk = MemoryDisk()
    journal = journal_on(disk, config)
    assert list(journal.recover()) == []
    trio.run(write_all, journal, batches, [])
    return disk


entries = st.one_of(
    st.builds(entry, st.integers(0, 5), st.integers(1, 99), st.integers(0, 200)),
    st.builds(Promise, st.integers(0, 5).map(PartitionId), st.integers(1, 9).map(Epoch)),
    st.builds(lambda partition: Dropped(PartitionId(partition), Epoch(3)), st.integers(0, 5)),
    st.builds(
        lambda partition, state: Snapshot(PartitionId(partition), Epoch(2), Position(Epoch(1), 7), state),
        st.integers(0, 5),
        st.binary(max_size=100),
    ),
)
batches_of_entries = st.lists(st.lists(entries, min_size=1, max_size=4), min_size=1, max_size=8)


@given(batches_of_entries)
def test_what_was_written_is_read_in_order(batches: list[list[Entry]]) -> None:
    assert kept(filled(batches)) == [item for batch in batches for item in batch]


@given(batches_of_entries, st.data())
def test_a_file_cut_anywhere_gives_back_whole_batches_in_order(batches: list[list[Entry]], data: st.DataObject) -> None:
    disk = filled(batches)
    content = disk.bytes_of(FIRST)
    del content[data.draw(st.integers(0, len(content))) :]
    found = kept(disk)
    ends = [[item for batch in batches[:count] for item in batch] for count in range(len(batches) + 1)]
    assert found in ends
    assert kept(disk) == found, "recovery is repeatable"


@given(batches_of_entries, st.data())
def test_a_flipped_byte_is_refused_and_nothing_is_changed(batches: list[list[Entry]], data: st.DataObject) -> None:
    disk = filled(batches)
    content = disk.bytes_of(FIRST)
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    assume(content[place])  # a zero at the end of a record or a sector is what a crash leaves
    before = bytes(content)
    with pytest.raises(
        DataDirectoryError, match=r"journal/00000001\.log is damaged at byte \d+ .*empty data directory"
    ):
        kept(disk)
    assert bytes(disk.bytes_of(FIRST)) == before


@given(batches_of_entries, st.randoms(use_true_random=False))
def test_what_was_acknowledged_survives_a_power_failure(batches: list[list[Entry]], rng: random.Random) -> None:
    disk = MemoryDisk()
    journal = journal_on(disk)
    list(journal.recover())
    acknowledged: list[Entry] = []
    count = rng.randint(0, len(batches))

    async def crash_in_mid_write() -> None:
        await write_all(journal, batches[:count], acknowledged)
        for item in batches[count] if count < len(batches) else ():
            journal.write(item)
        with trio.move_on_after(0):
            await journal.run()

    trio.run(crash_in_mid_write)
    found = kept(disk.after_power_failure(rng))
    assert found[: len(acknowledged)] == acknowledged
    everything = [item for batch in batches for item in batch]
    assert found == everything[: len(found)]


def test_writing_goes_on_after_recovery() -> None:
    disk = filled([[entry(0, 1)], [entry(1, 1)]])
    journal = journal_on(disk)
    assert len(list(journal.recover())) == 2
    trio.run(write_all, journal, [[entry(0, 2)]], [])
    assert kept(disk) == [entry(0, 1), entry(1, 1), entry(0, 2)]


def test_actions_run_in_order_and_only_after_the_sync() -> None:
    disk = MemoryDisk()
    journal = journal_on(disk)
    list(journal.recover())
    seen: list[tuple[str, bool]] = []

    def note(name: str) -> Callable[[], None]:
        return lambda: seen.append((name, entry(0, 1) in kept(disk.after_power_failure(random.Random(1)))))

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            journal.after_sync(note("before anything is queued"))
            journal.write(entry(0, 1))
            journal.after_sync(note("first"))
            journal.after_sync(note("second"))
            done = trio.Event()
            journal.after_sync(done.set)
            assert seen == []
            nursery.start_soon(journal.run)
            await done.wait()
            nursery.cancel_scope.cancel()

    trio.run(main)
    assert seen == [("before anything is queued", True), ("first", True), ("second", True)]


def test_an_old_file_goes_once_nobody_needs_it_and_no_earlier() -> None:
    disk = MemoryDisk()
    journal = journal_on(disk, SMALL)
    list(journal.recover())
    state = b"state of one"

    async def main() -> None:
        await write_all(journal, [[entry(1, 1)]], [])
        for sequence in range(2, 40):
            await write_all(journal, [[entry(2, sequence, 2**14)]], [])
        assert disk.exists(FIRST)
        assert PartitionId(1) in journal.partitions_to_copy()
        copies: list[Entry] = []
        while wanted := journal.partitions_to_copy():
            copies = [Snapshot(partition, Epoch(1), Position(Epoch(1), 1), state) for partition in wanted]
            await write_all(journal, [copies], [])
            await write_all(journal, [[entry(2, 40)]], [])
        assert not disk.exists(FIRST)
        assert journal.size_bytes <= SMALL.journal_bytes_max + SMALL.segment_bytes

    trio.run(main)
    survivor = disk.after_power_failure(random.Random(3))
    assert Snapshot(PartitionId(1), Epoch(1), Position(Epoch(1), 1), state) in kept(survivor)


def test_a_missing_file_in_the_middle_is_refused() -> None:
    disk = MemoryDisk()
    journal = journal_on(disk, SMALL)
    list(journal.recover())
    trio.run(write_all, journal, [[entry(1, number, 2**15)] for number in range(1, 8)], [])
    disk.remove("journal/00000002.log")
    with pytest.raises(DataDirectoryError, match=r"00000002\.log is missing\. Start with an empty data directory"):
        kept(disk)


def test_a_torn_file_that_is_not_the_last_is_refused() -> None:
    disk = MemoryDisk()
    journal = journal_on(disk, SMALL)
    list(journal.recover())
    trio.run(write_all, journal, [[entry(1, number, 2**15)] for number in range(1, 8)], [])
    content = disk.bytes_of(FIRST)
    del content[-3:]
    with pytest.raises(
        DataDirectoryError, match=r"00001\.log is damaged at byte \d+: .* a newer file .* with an empty"
    ):
        kept(disk)


def test_a_file_of_an_older_format_is_refused_as_such() -> None:
    disk = filled([[entry(0, 1)]])
    disk.bytes_of(FIRST)[:4] = b"\xabLg\x01"
    with pytest.raises(DataDirectoryError, match=r"journal/00000001\.log is of an older format"):
        kept(disk)


@pytest.mark.parametrize("left", [0, 5], ids=["empty", "torn"])
def test_a_crash_while_a_new_file_is_begun_loses_nothing_however_often_the_node_starts(left: int) -> None:
    disk = MemoryDisk()
    journal = journal_on(disk, SMALL)
    list(journal.recover())
    batches: list[list[Entry]] = [[entry(1, number, 2**15)] for number in range(1, 3)]
    trio.run(write_all, journal, batches, [])
    assert disk.exists("journal/00000002.log")
    del disk.bytes_of("journal/00000002.log")[left:]
    written = [batch[0] for batch in batches]
    assert kept(disk) == written
    assert kept(disk.after_power_failure(random.Random(1))) == written
    again = journal_on(disk, SMALL)
    list(again.recover())
    trio.run(write_all, again, [[entry(1, 3)]], [])
    assert kept(disk) == [*written, entry(1, 3)]
    assert disk.list("journal") == ["00000001.log", "00000002.log"]


@pytest.mark.parametrize("number", [1, 2])
def test_a_file_whose_name_the_last_process_did_not_get_to_sync_outlives_a_power_failure(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = MemoryDisk()
    journal = journal_on(disk, SMALL)
    files_begun = 0

    def end_the_process(path: str) -> None:
        nonlocal files_begun
        files_begun += path == "journal"
        if files_begun == number:
            raise OSError("killed")
        MemoryDisk.sync_directory(disk, path)

    monkeypatch.setattr(disk, "sync_directory", end_the_process)
    batches: list[list[Entry]] = [[entry(1, sequence, 2**15)] for sequence in range(1, 4)]

    def live() -> None:
        list(journal.recover())
        trio.run(write_all, journal, batches, [])

    with pytest.raises((OSError, ExceptionGroup)):
        live()
    monkeypatch.undo()
    assert len(disk.list("journal")) == number

    again = journal_on(disk, SMALL)
    found = list(again.recover())
    trio.run(write_all, again, [[entry(2, 1)]], [])
    assert kept(disk.after_power_failure(random.Random(1))) == [*found, entry(2, 1)]


def test_a_crash_while_the_first_file_is_begun_is_a_journal_without_entries() -> None:
    disk = filled([[entry(0, 1)]])
    del disk.bytes_of(FIRST)[5:]
    for _ in range(3):
        assert kept(disk) == []


def test_a_disk_that_is_full_when_a_new_file_is_begun_keeps_the_node_from_starting_no_longer_than_it_is_full() -> None:
    disk = MemoryDisk()
    journal = journal_on(disk, SMALL)
    list(journal.recover())
    disk.space_left = 2 * (2**15 + 200)
    with pytest.raises(ExceptionGroup) as caught:
        trio.run(write_all, journal, [[entry(1, number, 2**15)] for number in range(1, 4)], [])
    assert caught.group_contains(StorageFailed, match="no space left")
    assert len(disk.list("journal")) == 2
    disk.space_left = None
    for _ in range(3):
        assert kept(disk) == [entry(1, 1, 2**15), entry(1, 2, 2**15)]


@pytest.mark.parametrize("owner", [b"another node", b""])
def test_the_journal_of_another_node_is_refused(owner: bytes) -> None:
    disk = filled([[entry(0, 1)]])
    with pytest.raises(DataDirectoryError, match="another mesh or node"):
        list(journal_on(disk, owner=owner).recover())


@pytest.mark.parametrize("fault", ["full", "sync"])
def test_a_disk_error_ends_the_journal_and_nothing_is_acknowledged_any_more(fault: str) -> None:
    disk = MemoryDisk()
    journal = journal_on(disk)
    list(journal.recover())
    acknowledged: list[Entry] = []

    async def main() -> None:
        await write_all(journal, [[entry(0, 1)]], acknowledged)
        disk.space_left = 20 if fault == "full" else None
        disk.fail_sync = fault == "sync"
        await write_all(journal, [[entry(0, 2, 100)], [entry(0, 3)]], acknowledged)

    with pytest.raises(ExceptionGroup) as caught:
        trio.run(main)
    (error,) = caught.value.exceptions
    assert isinstance(error, StorageFailed)
    assert "journal/00000001.log" in str(error)
    assert "stops acknowledging" in str(error)
    assert acknowledged == [entry(0, 1)]
    found = kept(disk.after_process_death())
    assert found[:1] == [entry(0, 1)]
    assert kept(disk.after_power_failure(random.Random(1))) == found, "what is found counts as durable"


def test_a_batch_larger_than_a_record_is_split_and_comes_back_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshnode.partitions.journal.BATCH_BYTES_MAX", 1000)
    batch: list[Entry] = [entry(0, number, 300) for number in range(1, 20)]
    assert kept(filled([batch])) == batch


def test_an_entry_that_no_record_holds_ends_the_journal_with_nothing_of_its_batch_acknowledged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("meshnode.partitions.journal.PAYLOAD_BYTES_MAX", 1000)
    disk = MemoryDisk()
    journal = journal_on(disk)
    list(journal.recover())
    acknowledged: list[Entry] = []
    large = Snapshot(PartitionId(0), Epoch(1), Position(Epoch(1), 1), bytes(1000))
    with pytest.raises(ExceptionGroup) as caught:
        trio.run(write_all, journal, [[entry(0, 1)], [entry(0, 2), large, entry(1, 1)]], acknowledged)
    assert caught.group_contains(StorageFailed, match="a record holds 1000")
    assert acknowledged == kept(disk) == [entry(0, 1)]


def test_a_journal_as_large_as_two_copies_of_everything_is_not_too_large() -> None:
    disk = MemoryDisk()
    journal = journal_on(disk, SMALL)
    list(journal.recover())
    copies: list[Entry] = [
        Snapshot(PartitionId(number), Epoch(1), Position(Epoch(1), 1), bytes(2**15)) for number in range(10)
    ]

    async def main() -> None:
        for copy in copies:
            await write_all(journal, [[copy]], [])
        assert journal.size_bytes > SMALL.journal_bytes_max
        assert journal.partitions_to_copy() == []
        for sequence in range(2, 14):
            await write_all(journal, [[entry(3, sequence, 2**15)]], [])
        assert PartitionId(0) in journal.partitions_to_copy()

    trio.run(main)


def test_what_is_queued_is_counted_until_it_goes_to_the_disk() -> None:
    journal = journal_on(MemoryDisk())
    list(journal.recover())
    journal.write(entry(0, 1, 1000))
    queued = [journal.queued_bytes]

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(journal.run)
            await journal.until_synced()
            queued.append(journal.queued_bytes)
            nursery.cancel_scope.cancel()

    trio.run(main)
    assert 1000 <= queued[0] <= 1100
    assert queued[1] == 0


def test_who_waits_for_a_journal_that_is_too_large_is_told_when_it_is_and_also_after_a_restart() -> None:
    disk = MemoryDisk()
    seen: list[list[PartitionId]] = []

    async def main() -> None:
        for batches in (6, 0):
            journal = journal_on(disk, SMALL)
            list(journal.recover())
            async with trio.open_nursery() as nursery:
                nursery.start_soon(journal.run)

                async def wait(journal: Journal = journal) -> None:
                    await journal.until_too_large()
                    seen.append(journal.partitions_to_copy())

                nursery.start_soon(wait)
                for sequence in range(1, batches + 1):
                    assert seen == []
                    journal.write(entry(1, sequence, 2**15))
                    await journal.until_synced()
                await trio.testing.wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()

    trio.run(main)
    assert seen == [[PartitionId(1)], [PartitionId(1)]]
