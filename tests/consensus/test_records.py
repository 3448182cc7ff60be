"""Records: a crash that leaves any part of what was not synced, and damage to any byte."""

import itertools
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from consensus import records
from consensus.disk import File
from consensus.errors import CorruptLog, ForeignLog
from consensus.records import PAYLOAD_BYTES_MAX, SECTOR_BYTES, RecordScan, frame
from tests.consensus.disks import Content, MemoryDisk, MemoryFile, OsDisk

Batches = list[list[bytes]]
"""The payloads of each: written, then synced together."""

PAYLOADS = st.one_of(
    st.binary(min_size=1, max_size=40),
    st.builds(lambda data, times: data * times, st.binary(min_size=1, max_size=3), st.integers(1, 500)),
    st.integers(440, 520).map(bytes),
)
BATCHES = st.lists(st.lists(PAYLOADS, min_size=1, max_size=3), min_size=1, max_size=4)


class Written:
    """A log as it was written.

    Attributes:
        data: its bytes.
        ends: where its records end; the first is 0.
        synced: how much of it each sync covered; the first is 0.
    """

    def __init__(self, batches: Batches) -> None:
        self.payloads = [payload for batch in batches for payload in batch]
        self.ends = [0]
        self.synced = [0]
        data = b""
        for batch in batches:
            for payload in batch:
                data += frame(payload, offset=len(data), synced=self.synced[-1])
                self.ends.append(len(data))
            self.synced.append(len(data))
        self.data = data

    def whole_in(self, data: bytes) -> int:
        """How many records, from the first on, are there as they were written."""
        whole = [index for index, end in enumerate(self.ends) if data[:end] == self.data[:end]]
        return whole[-1]

    def after_power_loss(self, kept: list[int], *, synced: int, size: int) -> bytes:
        """What is there when of each sector after the first `synced` bytes only so many bytes got to the disk."""
        found = bytearray(self.data[:synced].ljust(len(self.data), b"\0"))
        for sector, count in enumerate(kept, start=synced // SECTOR_BYTES):
            begin = sector * SECTOR_BYTES
            end = max(synced, begin + count)
            found[begin:end] = self.data[begin:end]
        return bytes(found[:size])


def file_of(data: bytes) -> MemoryFile:
    return MemoryFile(MemoryDisk(), Content(bytearray(data), len(data)))


def read(file: File) -> tuple[list[bytes], RecordScan]:
    scan = RecordScan(file, "some.log")
    return [payload for _, payload in scan], scan


def is_refused(data: bytes) -> bool:
    try:
        read(file_of(data))
    except CorruptLog:
        return True
    return False


@given(BATCHES)
def test_what_was_written_is_read(batches: Batches) -> None:
    written = Written(batches)
    found, scan = read(file_of(written.data))
    assert (found, scan.end, scan.torn_bytes) == (written.payloads, len(written.data), 0)
    assert [offset for offset, _ in RecordScan(file_of(written.data), "some.log")] == written.ends[:-1]


def test_a_record_may_begin_and_end_at_any_place_of_a_sector() -> None:
    begins, ends = set(), set()
    for before in range(1, SECTOR_BYTES):
        for size in (1, *range(430, 520, 6)):
            written = Written([[bytes(before), b"\xff" * size], [b"last"]])
            assert read(file_of(written.data))[0] == written.payloads
            begins.add(written.ends[1] % SECTOR_BYTES)
            ends.add(written.ends[2] % SECTOR_BYTES)
    # None ends behind the last byte of a sector: that one comes with the next record.
    assert begins == ends == set(range(1, SECTOR_BYTES))


@given(BATCHES, st.data())
def test_a_file_cut_at_any_byte_gives_the_records_before_it(batches: Batches, draw: st.DataObject) -> None:
    written = Written(batches)
    cut = draw.draw(st.integers(0, len(written.data)))
    found, scan = read(file_of(written.data[:cut]))
    end = max(end for end in written.ends if end <= cut)
    assert found == written.payloads[: written.ends.index(end)]
    assert (scan.end, scan.torn_bytes) == (end, cut - end)


# ---- what a crash leaves


@given(BATCHES, st.data())
def test_what_a_power_loss_leaves_of_the_last_batch_gives_all_records_before_the_first_that_is_not_whole(
    batches: Batches, draw: st.DataObject
) -> None:
    """Each sector for itself is there, is not, or is there up to any byte; and the file may be shorter."""
    written = Written(batches)
    synced = written.synced[-2]
    sectors = -(-len(written.data) // SECTOR_BYTES) - synced // SECTOR_BYTES
    counts = st.sampled_from([0, SECTOR_BYTES]) | st.integers(0, SECTOR_BYTES)
    kept = draw.draw(st.lists(counts, min_size=sectors, max_size=sectors))
    size = draw.draw(st.just(len(written.data)) | st.integers(synced, len(written.data)))
    left = written.after_power_loss(kept, synced=synced, size=size)
    found, scan = read(file_of(left))
    whole = written.whole_in(left)
    assert written.ends[whole] >= synced
    assert found == written.payloads[:whole]
    assert (scan.end, scan.torn_bytes) == (written.ends[whole], len(left) - written.ends[whole])


SCENES: list[Batches] = [
    [[b"a" * 700], [b"b" * 300, b"c" * 900, b"d" * 10, b"e" * 400]],
    [[b"a"], [bytes(2000)], [bytes(1000), bytes(20), bytes(500)]],
    [[b"a" * 440], [b"b" * 511, b"c" * 511, b"d" * 511]],
    [[b"a" * 100, b"b" * 900], [b"c" * 1500]],
]


def losses(written: Written, synced: int, until: int) -> Iterator[bytes]:
    """Every way to lose some of the sectors that were written between two syncs."""
    sectors = -(-until // SECTOR_BYTES) - synced // SECTOR_BYTES
    for arrived in itertools.product((0, SECTOR_BYTES), repeat=sectors):
        left = written.after_power_loss(list(arrived), synced=synced, size=until)
        if left != written.data[:until]:
            yield left


@pytest.mark.parametrize("chunk_bytes", [64, 1 << 20])
@pytest.mark.parametrize("batches", SCENES)
def test_lost_sectors_are_cut_if_nothing_says_that_they_were_synced_and_refused_if_a_later_record_does(
    batches: Batches, chunk_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "_CHUNK_BYTES", chunk_bytes)  # a header may lie across two of them
    written = Written([*batches, [b"later"]])
    synced, until = written.synced[-3:-1]
    assert len(list(losses(written, synced, until))) >= 3
    for left in losses(written, synced, until):
        found, _ = read(file_of(left))
        assert found == written.payloads[: written.whole_in(left)]
        data = left + written.data[until:]
        # Where the sector that the later record begins in was lost, the later write brings it.
        begin = until - until % SECTOR_BYTES
        data = data[: max(begin, synced)] + written.data[max(begin, synced) :]
        if data != written.data:
            with pytest.raises(
                CorruptLog, match=r"some\.log is damaged at byte \d+ of \d+: .* says that it was synced"
            ):
                read(file_of(data))


def test_a_lost_sector_of_zeros_that_was_to_hold_zeros_is_not_lost() -> None:
    """But for the mark at its end, by which it is told from one that was written."""
    written = Written([[bytes(2000)]])
    left = bytearray(written.data)
    left[SECTOR_BYTES : 2 * SECTOR_BYTES] = bytes(SECTOR_BYTES)
    assert sum(a != b for a, b in zip(left, written.data, strict=True)) == 1
    found, scan = read(file_of(bytes(left)))
    assert (found, scan.torn_bytes) == ([], len(left))


@pytest.mark.parametrize("lost", [range(512), range(512, 1024), range(300, 512)])
def test_what_looks_like_headers_in_a_payload_that_was_not_synced_is_no_evidence(lost: range) -> None:
    """Such as a copy of the log up to there, or of another one, wherever it comes to stand."""
    before = Written([[b"a" * 100], [b"b" * 60], [b"c" * 10]])
    other = Written([[bytes(4000)], [b"a" * 100]])
    written = Written([[b"a" * 100], [b"b" * 60], [b"c" * 10], [b"d" * 100, before.data * 3, other.data[-200:] * 3]])
    left = bytearray(written.data)
    for place in lost:
        if place >= written.synced[3]:
            left[place] = 0
    found, _ = read(file_of(bytes(left)))
    assert found == written.payloads[: written.whole_in(bytes(left))]


# ---- damage


def could_be_a_crash(written: Written, place: int, data: bytearray) -> bool:
    """Whether a byte became zero just where a torn sector would have its last one missing."""
    border = place - place % SECTOR_BYTES + SECTOR_BYTES
    return (place + 1 in written.ends or place + 1 == border) and not any(data[place:border])


@example(batches=[[bytes(700)]], place=600, change=1)
@example(batches=[[b"a" * 479]], place=511, change=1)
@example(batches=[[b"a", b"b"]], place=33, change=0xA5)
@given(BATCHES, st.integers(0), st.integers(1, 255))
def test_damage_to_any_byte_is_reported(batches: Batches, place: int, change: int) -> None:
    """Also in the last record: all of it is there, so no crash did this, and it may have been acknowledged."""
    written = Written(batches)
    data = bytearray(written.data)
    place %= len(data)
    data[place] ^= change
    assume(not could_be_a_crash(written, place, data))
    with pytest.raises(CorruptLog, match=r"some\.log is damaged at byte \d+ of \d+: .*with an empty data directory"):
        read(file_of(bytes(data)))


@pytest.mark.parametrize("behind", [b"", bytes(700)], ids=["at the end", "before sectors of a lost write"])
@pytest.mark.parametrize("batches", SCENES)
def test_no_bit_of_what_was_synced_changes_unnoticed(batches: Batches, behind: bytes) -> None:
    data = bytearray(Written(batches).data + behind)
    for place in range(len(data) - len(behind)):
        for bit in range(8):
            data[place] ^= 1 << bit
            assert is_refused(bytes(data)), (place, bit)
            data[place] ^= 1 << bit


@pytest.mark.parametrize(
    "batches",
    [
        [[b"a" * 700], [b"b" * 300, b"c" * 900, b"d" * 10], [b"e" * 30]],
        [[b"a" * 700], [b"b" * 2000], [b"c" * 100, b"d" * 900]],
        [[bytes(700)], [bytes(2000)], [bytes(300)]],
        [[b"a"], [bytes(2000)], [bytes(1000), bytes(20), bytes(500)]],
        [[bytes([number]) * 479] for number in range(5)],  # each fills one sector
    ],
)
def test_a_sector_that_was_written_over_another_one_is_never_taken_for_it(batches: Batches) -> None:
    """The last batch loses a sector, and one that was synced before has its bytes instead."""
    written = Written(batches)
    synced = written.synced[-2]
    count = 0
    for source, target in itertools.product(range(0, len(written.data), SECTOR_BYTES), repeat=2):
        data = bytearray(written.data)
        moved = bytes(data[source : source + SECTOR_BYTES]).ljust(SECTOR_BYTES, b"\0")
        replaced = data[target : target + SECTOR_BYTES]
        if source + SECTOR_BYTES <= synced or target + SECTOR_BYTES > synced or moved == replaced:
            continue
        for place in range(max(source, synced), min(source + SECTOR_BYTES, len(data))):
            data[place] = 0
        data[target : target + SECTOR_BYTES] = moved
        assert is_refused(bytes(data)), (source, target)
        count += 1
    assert count >= 4


def test_a_lost_sector_is_refused_also_when_a_bit_of_the_only_header_that_gives_it_away_is_wrong() -> None:
    """But for its magic bytes, by which it is found."""
    written = Written([[b"a" * 100], [b"b" * 900], [b"c" * 10]])
    data = bytearray(written.data)
    data[written.ends[1] : SECTOR_BYTES] = bytes(SECTOR_BYTES - written.ends[1])
    header = written.ends[2]
    for place in range(header, header + 24):
        for bit in range(8):
            data[place] ^= 1 << bit
            assert is_refused(bytes(data)), (place - header, bit)
            data[place] ^= 1 << bit


def test_a_record_in_another_ones_place_is_damage() -> None:
    first = frame(b"a" * 100, offset=0, synced=0)
    assert is_refused(first + first)


def test_a_body_in_another_ones_place_is_damage() -> None:
    """Also where a header ends with its sector, and the body, with its checksum, fills others."""
    for place in (0, SECTOR_BYTES - 29):
        before = bytes(place)
        first = frame(b"a" * 900, offset=place, synced=0)
        second = frame(b"b" * 900, offset=place + 4 * SECTOR_BYTES, synced=0)
        assert len(first) == len(second)
        for record, is_sound in ((first, True), (first[:28] + second[28:], False)):
            scan = RecordScan(file_of(before + record), "some.log")
            scan.end = place
            if is_sound:
                assert list(scan) == [(place, b"a" * 900)]
            else:
                with pytest.raises(CorruptLog, match=f"damaged at byte {place} of"):
                    list(scan)


def test_a_file_of_the_format_before_is_named_so_and_not_cut() -> None:
    with pytest.raises(ForeignLog, match=r"some\.log is of an older format: start the version that wrote it"):
        read(file_of(b"\xabLg\x01" + bytes(100)))


@pytest.mark.parametrize("size", [0, PAYLOAD_BYTES_MAX + 1])
def test_a_payload_keeps_within_its_bounds(size: int) -> None:
    class Sized(bytes):
        def __len__(self) -> int:
            return size

    with pytest.raises(ValueError, match="split it"):
        frame(Sized(), offset=0, synced=0)


def test_a_large_file_is_read_in_few_calls(tmp_path: Path) -> None:
    """Records of all sizes, some larger than what is read at once, on a real disk."""
    rng = random.Random(1)
    payloads = [rng.randbytes(rng.choice((1, 100, 5_000))) for _ in range(2_000)] + [rng.randbytes(3 << 20), b"end"]
    file = OsDisk(tmp_path).open("some.log", create=True)
    size = 0
    for payload in payloads:
        record = frame(payload, offset=size, synced=0)
        file.append(record)
        size += len(record)
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
