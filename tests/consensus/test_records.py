"""Records: a crash at any byte, and damage to any byte."""

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.disk import File
from consensus.errors import CorruptLog
from consensus.records import OVERHEAD_BYTES, PAYLOAD_BYTES_MAX, RecordScan, frame
from tests.consensus.disks import Content, MemoryDisk, MemoryFile, OsDisk

PAYLOADS = st.lists(st.binary(min_size=1, max_size=700), max_size=6)
SECTOR = 512


def file_of(data: bytes) -> MemoryFile:
    return MemoryFile(MemoryDisk(), Content(bytearray(data), len(data)))


def read(file: File) -> tuple[list[bytes], RecordScan]:
    scan = RecordScan(file, "some.log")
    return [payload for _, payload in scan], scan


def ends(payloads: list[bytes]) -> list[int]:
    found = [0]
    for payload in payloads:
        found.append(found[-1] + OVERHEAD_BYTES + len(payload))
    return found


@given(PAYLOADS)
def test_what_was_written_is_read(payloads: list[bytes]) -> None:
    data = b"".join(map(frame, payloads))
    found, scan = read(file_of(data))
    assert (found, scan.end, scan.torn_bytes) == (payloads, len(data), 0)
    offsets = [offset for offset, _ in RecordScan(file_of(data), "some.log")]
    assert offsets == ends(payloads)[:-1]


@given(PAYLOADS, st.data())
def test_a_file_cut_at_any_byte_gives_the_records_before_it(payloads: list[bytes], draw: st.DataObject) -> None:
    data = b"".join(map(frame, payloads))
    cut = draw.draw(st.integers(0, len(data)))
    found, scan = read(file_of(data[:cut]))
    whole = [end for end in ends(payloads) if end <= cut]
    assert found == payloads[: len(whole) - 1]
    assert (scan.end, scan.torn_bytes) == (whole[-1], cut - whole[-1])


@given(PAYLOADS.filter(bool), st.data())
def test_damage_to_any_byte_is_reported(payloads: list[bytes], draw: st.DataObject) -> None:
    """Also in the last record: it is whole, so no crash did this, and it may have been acknowledged."""
    data = bytearray(b"".join(map(frame, payloads)))
    place = draw.draw(st.integers(0, len(data) - 1))
    data[place] ^= draw.draw(st.integers(1, 255))
    with pytest.raises(CorruptLog, match=r"some\.log is damaged at byte \d+ .*join again"):
        read(file_of(bytes(data)))


@given(PAYLOADS, st.binary(min_size=1, max_size=40).map(lambda data: data * 50), st.data())
def test_sectors_that_were_never_written_are_a_torn_tail(
    payloads: list[bytes], last: bytes, draw: st.DataObject
) -> None:
    """The file has grown already, and the power failed before its last sectors were written."""
    start = ends(payloads)[-1]
    data = b"".join(map(frame, [*payloads, last]))
    boundaries = [place for place in range(0, len(data) - 3, SECTOR) if place > start] or [start]
    boundary = draw.draw(st.sampled_from(boundaries))
    torn = data[:boundary] + bytes(len(data) - boundary + draw.draw(st.integers(0, 3 * SECTOR)))
    found, scan = read(file_of(torn))
    assert (found, scan.end) == (payloads, start)
    assert scan.torn_bytes == len(torn) - start


@pytest.mark.parametrize("written", [SECTOR, 2 * SECTOR])
def test_a_record_whose_last_sectors_were_never_written_is_torn(written: int) -> None:
    whole = frame(b"a" * 1500)
    found, scan = read(file_of(whole[:written] + bytes(len(whole) - written)))
    assert (found, scan.end, scan.torn_bytes) == ([], 0, len(whole))


def test_a_header_of_which_only_the_first_sector_was_written_is_torn() -> None:
    first = frame(b"a" * (SECTOR - 4 - OVERHEAD_BYTES))
    data = (first + frame(b"b" * 100))[:SECTOR] + bytes(112)
    found, scan = read(file_of(data))
    assert (len(found), scan.end) == (1, SECTOR - 4)


def test_a_checksum_that_happens_to_end_in_a_zero_hides_no_damage() -> None:
    """That byte alone in a sector is no sign that the sector was never written."""
    records = (frame(b"%0497d" % number) for number in range(100_000))
    record = bytearray(next(record for record in records if record[-1] == 0))
    assert len(record) == SECTOR + 1
    record[100] ^= 1
    with pytest.raises(CorruptLog):
        read(file_of(bytes(record)))


def test_a_whole_record_behind_damage_shows_that_it_was_no_crash() -> None:
    first, second = frame(b"a" * 600), frame(b"b" * 600)
    damaged = first[:SECTOR] + bytes(len(first) - SECTOR) + second
    with pytest.raises(CorruptLog, match="at byte 0 of"):
        read(file_of(damaged))


def test_zeros_that_begin_inside_a_sector_were_written_as_zeros() -> None:
    data = bytearray(frame(b"a" * 100))
    data[50:] = bytes(len(data) - 50)
    with pytest.raises(CorruptLog):
        read(file_of(bytes(data)))


def test_a_length_that_cannot_be_is_damage_also_if_the_file_ends_before_it() -> None:
    data = bytearray(frame(b"a" * 100))
    data[4] = 0x7F
    with pytest.raises(CorruptLog, match="header"):
        read(file_of(bytes(data)))


@pytest.mark.parametrize("size", [0, PAYLOAD_BYTES_MAX + 1])
def test_a_payload_keeps_within_its_bounds(size: int) -> None:
    class Sized(bytes):
        def __len__(self) -> int:
            return size

    with pytest.raises(ValueError, match="split it"):
        frame(Sized())


def test_a_scan_may_begin_behind_the_start() -> None:
    data = frame(b"a") + frame(b"bc")
    scan = RecordScan(file_of(data), "some.log", start=len(frame(b"a")))
    assert [payload for _, payload in scan] == [b"bc"]


def test_a_large_file_is_read_in_few_calls(tmp_path: Path) -> None:
    """Records of all sizes, some larger than what is read at once, on a real disk."""
    rng = random.Random(1)
    payloads = [rng.randbytes(rng.choice((1, 100, 5_000))) for _ in range(2_000)] + [rng.randbytes(3 << 20), b"end"]
    file = OsDisk(tmp_path).open("some.log", create=True)
    file.append(b"".join(map(frame, payloads)))
    calls = 0
    read_file = file.read

    def counted(offset: int, size: int) -> bytes:
        nonlocal calls
        calls += 1
        return read_file(offset, size)

    file.read = counted  # type: ignore[method-assign]
    found, scan = read(file)
    file.close()
    assert found == payloads
    assert scan.torn_bytes == 0
    assert calls < 20
