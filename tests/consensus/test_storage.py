"""The log on disk: crashes, damage, full and failing disks."""

import random
import struct
from collections.abc import Sequence
from pathlib import Path

import pytest
from crc32c import crc32c
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from consensus import segments
from consensus.config import LogConfig
from consensus.disk import Disk
from consensus.errors import CorruptLog, Damage, ForeignLog, StorageFailed
from consensus.image import image_path
from consensus.memory import Lost
from consensus.messages import Configuration, Entry, EntryKind, HardState, Snapshot
from consensus.opening import open_log
from consensus.records import frame
from consensus.storage import DurableLog
from tests.consensus.disks import MemoryDisk, MemoryFile, OsDisk

OWNER = b"mesh and node"
PATH = "raft/00000001-00000000000000000001.log"


def reopen(disk: Disk) -> DurableLog:
    return open_log(disk, "raft", owner=OWNER)


def content(log: DurableLog) -> tuple[HardState, list[Entry]]:
    return log.initial_state()[0], list(log.entries(1, log.last_index() + 1))


def entries(first: int, terms: Sequence[int]) -> list[Entry]:
    return [Entry(term, index, data=b"%d/%d" % (term, index)) for index, term in enumerate(terms, start=first)]


def batch_of(*, count: int) -> bytes:
    """How a batch of entries from index 1 on begins."""
    head = struct.pack(">BQQQQIQQ", 2, 1, 0, 0, 1, count, count, 1)
    return head + struct.pack(">I", crc32c(head))


class TestOpening:
    def test_a_new_log_is_empty_and_there_again(self) -> None:
        disk = MemoryDisk()
        assert content(reopen(disk)) == (HardState(), [])
        after = disk.after_power_failure(random.Random(1))
        assert after.exists(PATH)
        assert content(reopen(after)) == (HardState(), [])

    def test_it_answers_the_reads_of_the_core(self) -> None:
        log = reopen(MemoryDisk())
        log.append(HardState(2, 1, 1), entries(1, [1, 2]))
        assert (log.first_index(), log.last_index(), log.term(2), log.term(3)) == (1, 2, 2, None)
        assert log.initial_state() == (HardState(2, 1, 1), Configuration())
        assert log.snapshot().index == 0

    def test_the_log_of_another_owner_is_refused(self) -> None:
        disk = MemoryDisk()
        reopen(disk).close()
        with pytest.raises(ForeignLog, match=r"belongs to .* and never a copy"):
            open_log(disk, "raft", owner=b"another")

    @pytest.mark.parametrize(
        ("first", "reason"),
        [
            (b"\x01\x09" + OWNER, "of format 9"),
            (b"\x01\x01" + OWNER, "of format 1"),
            (b"\x07other", "no Raft log"),
            (b"\x01", "no Raft log"),
        ],
    )
    def test_a_file_of_another_kind_is_refused(self, first: bytes, reason: str) -> None:
        disk = MemoryDisk()
        disk.make_directory("raft")
        disk.open(PATH, create=True).append(frame(first, offset=0, synced=0))
        with pytest.raises(ForeignLog, match=reason):
            reopen(disk)

    @pytest.mark.parametrize(
        ("record", "reason"),
        [
            (b"\x07\x00", "does not decode"),
            (b"\x02", "does not decode"),
            (batch_of(count=0) + b"more", "61 bytes where 57"),
            (batch_of(count=1) + bytes(16) + b"\x09" + bytes(4), "kind 9, which is not"),
            (batch_of(count=1) + bytes(15) + b"\x02\x00" + bytes(4), "entry 2 where 1 belongs"),
            (b"\x02\x02" + batch_of(count=0)[2:], "no batch"),
        ],
    )
    def test_a_whole_record_that_makes_no_sense_is_refused(self, record: bytes, reason: str) -> None:
        disk = MemoryDisk()
        reopen(disk).close()
        file = disk.open(PATH, create=False)
        file.append(frame(record, offset=file.size(), synced=file.size()))
        with pytest.raises(CorruptLog, match=reason):
            reopen(disk)

    def test_a_log_of_the_format_before_this_is_refused(self) -> None:
        disk = MemoryDisk()
        disk.make_directory("raft")
        disk.open("raft/00000000000000000001.log", create=True)
        with pytest.raises(ForeignLog, match="older format"):
            reopen(disk)

    def test_a_log_that_is_gone_is_not_taken_for_a_new_one_by_who_knows_better(self) -> None:
        disk = MemoryDisk()
        for _ in range(2):
            with pytest.raises(CorruptLog, match=r"raft has no log any more.* Start with an empty data directory"):
                open_log(disk, "raft", owner=OWNER, must_exist=True)
        reopen(disk).close()
        open_log(disk, "raft", owner=OWNER, must_exist=True).close()
        disk.bytes_of(PATH).clear()
        with pytest.raises(CorruptLog, match="raft has no log any more"):
            open_log(disk, "raft", owner=OWNER, must_exist=True)

    def test_a_founder_that_crashed_before_its_first_record_begins_again(self) -> None:
        disk = MemoryDisk()
        disk.make_directory("raft")
        disk.open(PATH, create=True).append(b"\xabL")
        log = reopen(disk)
        log.append(None, entries(1, [1]))
        log.close()
        assert content(reopen(disk))[1] == entries(1, [1])

    def test_what_was_read_is_made_durable_before_it_counts(self) -> None:
        """A process that died may have left bytes that only the page cache has. The next one answers for them."""
        disk = MemoryDisk()
        log = reopen(disk)
        log.append(HardState(3, 2, 0), entries(1, [3]))

        def die() -> None:
            raise KeyboardInterrupt

        disk.on_sync = die
        with pytest.raises(KeyboardInterrupt):
            log.sync()
        disk.on_sync = None
        seen = content(reopen(disk))
        assert seen == (HardState(3, 2, 0), entries(1, [3]))
        assert content(reopen(disk.after_power_failure(random.Random(1)))) == seen

    def test_what_a_failed_sync_has_left_in_the_page_cache_is_not_taken_for_durable(self) -> None:
        """Linux takes it for written, so that the next process reads it, and syncs it to no effect."""
        disk = MemoryDisk()
        log = reopen(disk)
        log.append(HardState(1, 1, 0), entries(1, [1]))
        log.sync()
        log.append(HardState(2, 3, 0), entries(2, [2]))
        disk.fail_sync = True
        with pytest.raises(StorageFailed):
            log.sync()
        log.close()
        log = reopen(disk.after_process_death())
        seen = content(log)
        assert seen == (HardState(1, 1, 0), entries(1, [1]))
        assert log.durable == (1, HardState(1, 1, 0))
        assert content(reopen(disk.after_power_failure(random.Random(1)))) == seen

    def test_an_error_while_opening_releases_the_file_and_may_be_tried_again(self) -> None:
        disk = MemoryDisk()
        disk.fail_sync = True
        with pytest.raises(OSError, match="input/output"):
            reopen(disk)
        disk.fail_sync = False
        assert content(reopen(disk)) == (HardState(), [])


class TestWriting:
    def test_later_entries_replace_what_conflicts(self) -> None:
        disk = MemoryDisk()
        log = reopen(disk)
        log.append(HardState(1, 0, 0), entries(1, [1, 1, 1]))
        log.append(HardState(2, 0, 0), entries(2, [2]))
        log.close()
        assert content(reopen(disk)) == (HardState(2, 0, 0), [*entries(1, [1]), *entries(2, [2])])

    def test_one_sync_is_enough_for_all_that_is_queued(self) -> None:
        disk = MemoryDisk()
        log = reopen(disk)
        before = disk.syncs
        for index in range(1, 6):
            log.append(None, entries(index, [1]))
        log.sync()
        log.sync()
        log.append(None, ())
        log.sync()
        assert disk.syncs == before + 1

    def test_of_commit_indexes_in_a_row_only_the_last_is_written(self) -> None:
        disk = MemoryDisk()
        log = reopen(disk)
        log.append(HardState(1, 0, 0), entries(1, [1] * 9))
        log.sync()
        before = len(disk.bytes_of(PATH))
        for commit in range(1, 9):
            log.append(HardState(1, 0, commit), ())
        log.sync()
        assert len(disk.bytes_of(PATH)) - before < 200
        log.append(None, entries(10, [1]))
        log.close()
        assert content(reopen(disk))[0] == HardState(1, 0, 8)

    def test_what_is_appended_during_a_sync_is_durable_after_the_next(self) -> None:
        disk = MemoryDisk()
        log = reopen(disk)
        log.append(HardState(1, 0, 0), entries(1, [1]))
        disk.on_sync = lambda: log.append(HardState(1, 0, 1), entries(2, [1]))
        log.sync()
        disk.on_sync = None
        assert (log.last_index(), log.durable) == (2, (1, HardState(1, 0, 0)))
        log.append(HardState(1, 0, 1), entries(2, [1, 1]))
        assert content(log)[1] == entries(1, [1, 1, 1])
        log.sync()
        assert log.durable == (3, HardState(1, 0, 1))
        assert content(reopen(disk)) == (HardState(1, 0, 1), entries(1, [1, 1, 1]))

    def test_a_commit_index_is_in_the_file_before_any_later_entry(self) -> None:
        """Else a node could find the second of two configuration changes without knowing of the first."""
        disk = MemoryDisk()
        log = reopen(disk)
        log.append(HardState(1, 1, 0), entries(1, [1]))
        log.sync()
        log.append(HardState(1, 1, 1), ())
        log.append(None, entries(2, [1]))
        log.sync()
        whole = bytes(disk.bytes_of(PATH))
        for cut in range(len(whole)):
            disk.bytes_of(PATH)[:] = whole[:cut]
            hard_state, found = content(reopen(disk))
            assert len(found) < 2 or hard_state.commit >= 1

    def test_a_large_batch_is_split_and_its_hard_state_comes_first(self, monkeypatch: pytest.MonkeyPatch) -> None:
        if (segments.__file__ or "").endswith(".so"):
            pytest.skip("compiled code has its constants inside")
        monkeypatch.setattr(segments, "RECORD_DATA_BYTES", 10)
        disk = MemoryDisk()
        log = reopen(disk)
        start = len(disk.bytes_of(PATH))
        log.append(HardState(1, 1, 7), entries(1, [1] * 7))
        log.sync()
        whole = bytes(disk.bytes_of(PATH))
        lengths = set()
        for cut in range(start, len(whole) + 1):
            disk.bytes_of(PATH)[:] = whole[:cut]
            hard_state, found = content(reopen(disk))
            assert found == entries(1, [1] * len(found))
            assert hard_state == (HardState(1, 1, len(found)) if found else HardState())
            disk.bytes_of(PATH)[:] = whole
            lengths.add(len(found))
        assert lengths == {0, 3, 6, 7}

    def test_a_full_disk_poisons_the_log(self) -> None:
        disk = MemoryDisk()
        log = reopen(disk)
        log.append(HardState(1, 1, 0), entries(1, [1]))
        log.sync()
        disk.space_left = 20
        log.append(HardState(2, 2, 0), entries(2, [2]))
        with pytest.raises(StorageFailed, match=r"00001\.log cannot be used after: .*no space left"):
            log.sync()
        disk.space_left = None
        for attempt in (log.sync, lambda: log.append(None, entries(3, [2]))):
            with pytest.raises(StorageFailed, match="no space left"):
                attempt()
        log.close()
        assert content(reopen(disk)) == (HardState(1, 1, 0), entries(1, [1]))

    def test_a_failed_sync_is_never_tried_again(self) -> None:
        """After one failure, the kernel may report success for pages that it has dropped."""
        disk = MemoryDisk()
        log = reopen(disk)
        log.append(HardState(1, 1, 0), ())
        disk.fail_sync = True
        with pytest.raises(StorageFailed, match="input/output error"):
            log.sync()
        disk.fail_sync = False
        syncs = disk.syncs
        with pytest.raises(StorageFailed):
            log.sync()
        log.close()
        assert disk.syncs == syncs

    def test_nor_is_one_that_was_interrupted(self) -> None:
        """As by Ctrl-C, where it ran on the loop."""
        disk = MemoryDisk()
        log = reopen(disk)
        log.append(HardState(1, 1, 0), ())

        def interrupted() -> None:
            raise KeyboardInterrupt

        disk.on_sync = interrupted
        with pytest.raises(KeyboardInterrupt):
            log.sync()
        disk.on_sync = None
        syncs = disk.syncs
        with pytest.raises(StorageFailed, match="KeyboardInterrupt"):
            log.sync()
        log.close()
        assert disk.syncs == syncs

    def test_a_closed_log_takes_nothing(self) -> None:
        log = reopen(MemoryDisk())
        log.close()
        with pytest.raises(StorageFailed, match="is closed"):
            log.append(None, entries(1, [1]))

    def test_closing_reports_what_could_not_be_written(self) -> None:
        disk = MemoryDisk()
        log = reopen(disk)
        log.append(HardState(1, 1, 0), ())
        disk.fail_sync = True
        with pytest.raises(StorageFailed):
            log.close()
        assert log._writer.file.closed  # type: ignore[union-attr]

    def test_it_works_on_this_machine(self, tmp_path: Path) -> None:
        disk = OsDisk(tmp_path)
        log = open_log(disk, "data/raft", owner=OWNER)
        log.append(HardState(1, 1, 1), entries(1, [1, 1]))
        log.close()
        path = tmp_path / "data" / PATH
        assert disk.list("data/raft") == [path.name]
        path.write_bytes(path.read_bytes() + b"\xabL")
        log = open_log(disk, "data/raft", owner=OWNER)
        assert content(log) == (HardState(1, 1, 1), entries(1, [1, 1]))
        log.append(None, entries(3, [1]))
        log.close()
        log = open_log(disk, "data/raft", owner=OWNER)
        assert content(log)[1] == entries(1, [1, 1, 1])
        log.close()


def test_what_follows_a_snapshot_of_damaged_entries_is_found_up_to_the_next_damage() -> None:
    disk = MemoryDisk()
    log = open_log(disk, "raft", owner=OWNER, config=LogConfig(cache_bytes=1))
    for index in (1, 2, 3):
        log.append(HardState(1, 1, index - 1), entries(index, [1]))
        log.sync()
    log.append(HardState(1, 1, 3), ())  # from here on the entries are only in the file
    disk.turn_over(PATH, b"1/3")
    assert not log.entries(3, 4)
    assert log.unreadable == 3
    snapshot = log.images.write(Snapshot(3, 1, Configuration((1,))), iter([b"state"]))
    log.record_snapshot(snapshot)
    for index in (4, 5, 6):
        log.append(HardState(1, 1, index - 1), entries(index, [1]))
        log.sync()
    log.close()
    disk.turn_over("raft/00000002-00000000000000000004.log", b"1/5")
    assert disk.exists(PATH)
    log = reopen(disk)
    assert (log.first_index(), log.last_index(), log.snapshot()) == (4, 4, snapshot)
    assert list(log.entries(4, 5)) == entries(4, [1])
    assert log.lost() == Lost(6, 1, 1)


class TestDamagedImages:
    """Of the latest snapshot, found while the log is in use."""

    CONFIG = LogConfig(segment_bytes=100, kept_log_bytes=0)

    @pytest.fixture
    def disk(self) -> MemoryDisk:
        return MemoryDisk()

    @pytest.fixture
    def log(self, disk: MemoryDisk) -> DurableLog:
        return open_log(disk, "raft", owner=OWNER, config=self.CONFIG)

    def append(self, log: DurableLog, *indexes: int) -> None:
        for index in indexes:
            log.append(HardState(1, 1, index), entries(index, [1]))
            log.sync()

    def record(self, log: DurableLog, index: int, state: bytes) -> Snapshot:
        snapshot = log.images.write(Snapshot(index, 1, Configuration((1,))), [state])
        log.record_snapshot(snapshot)
        log.sync()
        return snapshot

    def test_one_that_has_the_name_of_a_damaged_one_again_stays(self, log: DurableLog) -> None:
        self.append(log, 1, 2, 3)
        damage = Damage("image", 0, 1, "a chunk does not match its checksum")
        log.image_found_damaged(self.record(log, 3, b"one"), damage)
        for state in (b"another", b"one"):  # two within one sync
            log.record_snapshot(log.images.write(Snapshot(3, 1, Configuration((1,))), [state]))
            log.image_found_damaged(log.snapshot(), damage)
        log.sync()
        assert log.images.damage_of(log.snapshot()) is None

    def damage(self, disk: MemoryDisk, log: DurableLog, snapshot: Snapshot) -> None:
        disk.bytes_of(image_path("raft", snapshot))[-1] ^= 1
        damage = log.images.damage_of(snapshot)
        assert damage is not None
        log.image_found_damaged(snapshot, damage)

    @pytest.mark.parametrize("state", [b"state", b"written in another order"])
    def test_one_of_the_same_index_takes_the_place_of_the_latest(
        self, disk: MemoryDisk, log: DurableLog, state: bytes
    ) -> None:
        self.append(log, 1, 2, 3)
        old = self.record(log, 2, b"old")
        damaged = self.record(log, 3, b"state")
        assert (log.snapshot_due, log.may_record(3)) == (False, False)
        self.damage(disk, log, damaged)
        assert str(log.damage).startswith(image_path("raft", damaged))
        assert (log.snapshot_due, log.may_record(3)) == (True, True)
        snapshot = self.record(log, 3, state)
        assert (log.snapshot_due, log.may_record(3)) == (False, False)
        assert (log.snapshots, log.snapshot()) == ((old, snapshot), snapshot)
        assert [log.images.damage_of(one) for one in log.snapshots] == [None, None]
        assert len([name for name in disk.list("raft") if name.endswith(".snapshot")]) == 2
        log.close()
        assert reopen(disk).snapshots == (old, snapshot)

    def test_the_log_still_goes_on_from_the_sound_one_before(self, disk: MemoryDisk, log: DurableLog) -> None:
        self.append(log, 1, 2, 3)
        old = self.record(log, 2, b"old")
        self.append(log, 4, 5)
        self.damage(disk, log, self.record(log, 4, b"damaged"))
        self.append(log, 6)
        latest = self.record(log, 6, b"latest")
        assert log.snapshots == (old, latest)
        log.close()
        disk.remove(image_path("raft", latest))
        log = reopen(disk)
        assert (log.snapshot(), log.lost()) == (old, None)
        assert list(log.entries(3, 7)) == entries(3, [1, 1, 1, 1])

    def test_where_there_is_none_before_the_log_goes_on_from_its_beginning(self, disk: MemoryDisk) -> None:
        log = open_log(disk, "raft", owner=OWNER, config=self.CONFIG)
        received = log.images.write(Snapshot(10, 1, Configuration((1,))), [b"received"])
        log.append(HardState(1, 1, 10), (), received)
        log.sync()
        self.append(log, 11, 12, 13)
        self.damage(disk, log, received)
        snapshot = self.record(log, 13, b"state")
        assert log.snapshots == (snapshot,)
        log.close()
        log = reopen(disk)
        assert (log.first_index(), log.last_index(), log.snapshot()) == (11, 13, snapshot)
        assert list(log.entries(11, 14)) == entries(11, [1, 1, 1])

    def test_damage_to_one_before_the_latest_makes_none_due(self, disk: MemoryDisk, log: DurableLog) -> None:
        self.append(log, 1, 2, 3)
        old = self.record(log, 2, b"old")
        self.record(log, 3, b"state")
        self.damage(disk, log, old)
        assert log.damage is not None
        assert not log.snapshot_due

    def test_an_image_that_is_not_kept_any_more_is_not_missed(self, log: DurableLog) -> None:
        self.append(log, 1, 2, 3)
        old = self.record(log, 1, b"oldest")
        self.record(log, 2, b"old")
        self.record(log, 3, b"state")
        damage = log.images.damage_of(old)
        assert damage is not None
        assert "missing" in str(damage)
        log.image_found_damaged(old, damage)
        assert log.damage is None

    def test_one_that_can_not_be_read_is_damaged(self, disk: MemoryDisk, log: DurableLog) -> None:
        self.append(log, 1)
        snapshot = self.record(log, 1, b"state")

        def refuse(path: str, *, create: bool) -> MemoryFile:
            raise OSError(5, "input/output error", path)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(disk, "open", refuse)
            damage = log.images.damage_of(snapshot)
        assert damage is not None
        assert damage.what == "it can't be read: input/output error"


@pytest.mark.parametrize("part", ["what it says", "where it ends"])
def test_what_was_lost_is_not_forgotten_with_the_head_that_says_so(part: str) -> None:
    disk = MemoryDisk()
    log = reopen(disk)
    log.append(HardState(1, 1, 4), entries(1, [1, 1, 1, 1]))
    log.close()
    disk.turn_over(PATH, b"1/1")
    for _ in range(2):
        log = reopen(disk)
        assert (log.last_index(), log.lost()) == (0, Lost(4, 1, 1))
        log.close()
    log = reopen(disk)
    log.append(HardState(2, 3, 0), ())
    log.close()
    heads = [name for name in disk.list("raft") if f"raft/{name}" != PATH]
    assert len(heads) == 1
    head = f"raft/{heads[0]}"
    disk.turn_over(head, OWNER if part == "what it says" else bytes(disk.bytes_of(head)[:24]))
    for _ in range(2):
        log = reopen(disk)
        assert (log.initial_state()[0].term, log.initial_state()[0].vote) == (2, 3)
        assert log.last_index() == 0
        lost = log.lost()
        assert lost is not None
        assert (lost.index, lost.log_term) == (4, 1)
        log.close()


KINDS = st.sampled_from(EntryKind)


class CrashMachine(RuleBasedStateMachine):
    """Batches, syncs, power failures and deaths of the process, against a list of what was handed over."""

    def __init__(self) -> None:
        super().__init__()
        self.disk = MemoryDisk()
        self.log = reopen(self.disk)
        self.now: tuple[HardState, list[Entry]] = (HardState(), [])
        self.synced = self.now
        self.since: list[tuple[HardState, list[Entry]]] = []

    @rule(back=st.integers(0, 3), data=st.lists(st.binary(max_size=30), max_size=3), kind=KINDS, votes=st.booleans())
    def append(self, back: int, data: list[bytes], kind: EntryKind, votes: bool) -> None:
        hard_state, present = self.now
        if votes:
            hard_state = HardState(hard_state.term + 1, 3, len(present) // 2)
        first = max(len(present) + 1 - back, hard_state.commit + 1)  # what is committed is never replaced
        fresh = [Entry(hard_state.term, index, kind, one) for index, one in enumerate(data, start=first)]
        if fresh:
            present = [*present[: first - 1], *fresh]
        self.log.append(hard_state if votes else None, fresh)
        self.now = (hard_state, present)
        self.since.append(self.now)

    @rule()
    def sync(self) -> None:
        self.log.sync()
        self.synced, self.since = self.now, []

    @rule(space=st.integers(0, 200), seed=st.integers(0, 1000))
    def run_out_of_space(self, space: int, seed: int) -> None:
        self.disk.space_left = space
        try:
            self.log.sync()
        except StorageFailed:
            pass
        else:
            self.synced, self.since = self.now, []
        self.crash(seed=seed)

    @rule(seed=st.integers(0, 1000))
    def crash(self, seed: int) -> None:
        self.disk = self.disk.after_power_failure(random.Random(seed))
        self.recover()

    @rule()
    def die(self) -> None:
        self.disk = self.disk.after_process_death()
        self.recover()

    def recover(self) -> None:
        self.log = reopen(self.disk)
        found = content(self.log)
        possible = [self.synced, *self.since]
        # A commit index beyond the entries cannot be: `append` above never hands one over.
        assert found in possible
        self.now, self.synced, self.since = found, found, []

    @invariant()
    def it_reads_what_was_handed_over(self) -> None:
        assert content(self.log) == self.now


TestCrashMachine = CrashMachine.TestCase


@given(st.lists(st.lists(st.binary(max_size=40), min_size=1, max_size=3), min_size=1, max_size=5), st.data())
def test_damage_to_any_byte_never_passes_for_a_shorter_log(batches: list[list[bytes]], draw: st.DataObject) -> None:
    """It is refused, or it costs nothing, or the log says what it had."""
    disk = MemoryDisk()
    log = reopen(disk)
    for batch in batches:
        first = log.last_index() + 1
        log.append(HardState(1, 1, first - 1), [Entry(1, index, data=one) for index, one in enumerate(batch, first)])
        log.sync()
    state, whole = content(log)
    data = disk.bytes_of(PATH)
    place = draw.draw(st.integers(0, len(data) - 1))
    data[place] ^= draw.draw(st.integers(1, 255))
    assume(data[place])  # a zero at the end of a record or a sector is what a crash leaves
    before = bytes(data)
    for _ in range(2):
        try:
            found = reopen(disk)
        except CorruptLog:
            assert len(disk.list("raft")) == 1, "it is not touched"
        else:
            had = content(found)
            assert (had[0].term, had[0].vote) == (state.term, state.vote)
            assert had[1] == whole[: len(had[1])]
            assert found.lost() == (None if had[1] == whole else Lost(len(whole), 1, 1))
            assert (found.damage is not None) == (had[1] != whole) or len(disk.list("raft")) > 1
            found.close()
    assert bytes(disk.bytes_of(PATH)) == before, "what is damaged is left as it is"
