"""A Raft log on the disk of this machine, whose files have room behind their ends."""

from pathlib import Path

from consensus.config import LogConfig
from consensus.messages import Entry, HardState
from consensus.opening import open_log
from consensus.records import RecordScan, frame
from consensus.storage import DurableLog
from meshnode.real_disk import RealDisk

CONFIG = LogConfig(cache_bytes=2000, segment_bytes=100_000)


def append(log: DurableLog, count: int) -> None:
    for _ in range(count):
        index = log.last_index() + 1
        log.append(HardState(1, 0, index - 1), (Entry(1, index, data=bytes([index % 250 + 1]) * 1000),))
        log.sync()


def test_entries_are_read_across_the_end_of_a_file_that_was_opened_when_it_had_room(tmp_path: Path) -> None:
    disk = RealDisk(str(tmp_path))
    log = open_log(disk, "raft", owner=b"x", config=CONFIG)
    append(log, 60)
    assert len(log.entries(1, 10)) == 9, "from the file, which is open from here on"
    append(log, 80)
    assert len(list((tmp_path / "raft").iterdir())) == 2
    assert [entry.index for entry in log.entries(50, 130)] == list(range(50, 130))
    log.close()
    disk.close()


def test_a_log_that_is_being_written_is_sound_however_far_it_has_come_meanwhile(tmp_path: Path) -> None:
    disk = RealDisk(str(tmp_path))
    writer = disk.open("log", create=True)
    end = 0

    def write(size: int) -> None:
        nonlocal end
        record = frame(bytes([7]) * size, offset=end, synced=end)
        writer.append(record)
        writer.sync()
        end += len(record)

    writer.reserve(1 << 16)
    write(100)
    scan = RecordScan(disk.open("log", create=False), "log")
    found = []
    for _offset, payload in scan:
        found.append(len(payload))
        if len(found) < 4:
            write(200)
            write(300)
    assert found == [100, *[200, 300] * 3]
    assert scan.is_room
    disk.close()


def test_room_that_is_given_back_meanwhile_is_no_damage(tmp_path: Path) -> None:
    disk = RealDisk(str(tmp_path))
    writer = disk.open("log", create=True)
    writer.reserve(1 << 16)
    writer.append(frame(b"one", offset=0, synced=0))
    scan = RecordScan(disk.open("log", create=False), "log")
    for _offset, payload in scan:
        assert payload == b"one"
        writer.truncate(writer.size())
    assert scan.is_room
    disk.close()
