"""Faults that strike a disk beyond what a crash may do, and the atlas that keeps enough disks sound."""

import errno
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulations.disk import DiskFaults, FaultAtlas, SimDisk

SECTOR = 8


def disk_with(faults: DiskFaults, *, seed: int = 1, name: str = "disk", atlas: FaultAtlas | None = None) -> SimDisk:
    return SimDisk(name, seed=seed, faults=faults, atlas=atlas, sector_bytes=SECTOR)


def written(disk: SimDisk, *batches: bytes) -> None:
    """Append each batch to the file ``a`` and sync it."""
    file = disk.open("a", create=True)
    disk.sync_directory("")
    for batch in batches:
        file.append(batch)
        file.sync()
    file.close()


def content(disk: SimDisk) -> bytes:
    file = disk.open("a", create=False)
    data = file.read(0, file.size())
    file.close()
    return data


def differing_sectors(one: bytes, other: bytes) -> list[int]:
    assert len(one) == len(other)
    return [at // SECTOR for at in range(0, len(one), SECTOR) if one[at : at + SECTOR] != other[at : at + SECTOR]]


BATCHES = (b"A" * 3 * SECTOR, b"B" * 3 * SECTOR, b"C" * SECTOR + b"D" * SECTOR + b"E" * SECTOR)
WHOLE = b"".join(BATCHES)


# ---- bit rot


def test_bit_rot_turns_one_bit_of_what_was_synced_at_a_power_loss() -> None:
    disk = disk_with(DiskFaults(bit_rot_rate=1))
    written(disk, WHOLE)
    disk.crash(power_loss=False)
    assert content(disk) == WHOLE
    disk.crash()
    flipped = [one ^ other for one, other in zip(content(disk), WHOLE, strict=True) if one != other]
    assert len(flipped) == 1
    assert flipped[0].bit_count() == 1
    assert disk.fired == {"bit_rot": 1}


def test_bit_rot_while_reading_is_in_what_is_read_and_stays() -> None:
    disk = disk_with(DiskFaults())
    written(disk, WHOLE)
    disk.faults = DiskFaults(read_bit_rot_rate=1)
    file = disk.open("a", create=False)
    damaged = file.read(SECTOR, SECTOR)
    disk.faults = DiskFaults()
    assert differing_sectors(damaged, WHOLE[SECTOR : 2 * SECTOR]) == [0]
    assert file.read(SECTOR, SECTOR) == damaged
    disk.crash()
    assert content(disk) == WHOLE[:SECTOR] + damaged + WHOLE[2 * SECTOR :]
    assert disk.fired == {"read_bit_rot": 1}


def test_what_was_not_synced_does_not_rot() -> None:
    disk = disk_with(DiskFaults(read_bit_rot_rate=1, bit_rot_rate=1))
    file = disk.open("a", create=True)
    disk.sync_directory("")
    file.append(WHOLE)
    assert content(disk) == WHOLE
    disk.crash()
    assert not disk.fired["bit_rot"]
    assert not disk.fired["read_bit_rot"]


# ---- stale and misdirected sectors


@pytest.mark.parametrize("seed", range(30))
def test_a_stale_sector_reads_as_it_was_before_once_the_cache_is_gone(seed: int) -> None:
    disk = disk_with(DiskFaults(stale_rate=1), seed=seed)
    written(disk, BATCHES[0])
    disk.faults = DiskFaults()
    written(disk, *BATCHES[1:])
    disk.crash(power_loss=False)
    assert content(disk) == WHOLE
    disk.crash()
    assert disk.fired == {"stale": 1, "shown_sector": 1}
    (stale,) = differing_sectors(content(disk), WHOLE)
    assert stale < 3
    assert content(disk)[stale * SECTOR : (stale + 1) * SECTOR] == bytes(SECTOR)


def test_a_stale_sector_at_the_end_shows_only_if_silent_faults_are_asked_for() -> None:
    for silent in (False, True):
        shown = set()
        for seed in range(30):
            disk = disk_with(DiskFaults(stale_rate=1, silent=silent), seed=seed)
            written(disk, WHOLE)
            disk.crash()
            assert disk.fired["stale"] == 1
            shown.add(content(disk))
        assert (shown == {WHOLE}) is not silent


def test_a_stale_sector_is_mended_when_it_is_written_again() -> None:
    disk = disk_with(DiskFaults(stale_rate=1))
    written(disk, b"abc")
    disk.faults = DiskFaults()
    written(disk, b"def", b"g" * SECTOR)
    disk.crash()
    assert content(disk) == b"abcdef" + b"g" * SECTOR


def misdirected(seed: int, *, silent: bool) -> tuple[SimDisk, list[int]]:
    """A disk whose last synced batch had a sector that went astray, after a power loss, and the damaged sectors."""
    disk = disk_with(DiskFaults(), seed=seed)
    written(disk, BATCHES[0], BATCHES[1])
    disk.faults = DiskFaults(misdirected_rate=1, silent=silent)
    written(disk, BATCHES[2])
    assert content(disk) == WHOLE, "the cache hides it"
    disk.crash()
    return disk, differing_sectors(content(disk), WHOLE)


def test_a_misdirected_sector_leaves_its_place_as_it_was_and_overwrites_an_earlier_one() -> None:
    pairs = set()
    for seed in range(100):
        disk, (victim, place) = misdirected(seed, silent=False)
        assert content(disk)[place * SECTOR :][:SECTOR] == bytes(SECTOR)
        assert content(disk)[victim * SECTOR :][:SECTOR] == WHOLE[place * SECTOR :][:SECTOR]
        assert disk.fired == {"misdirected": 1, "shown_sector": 2}
        pairs.add((victim, place))
    assert {victim for victim, _ in pairs} == set(range(6)), "what an earlier sync promised"
    assert {place for _, place in pairs} == {6, 7, 8}


def test_a_misdirected_sector_may_hit_the_same_batch_only_if_silent_faults_are_asked_for() -> None:
    damages = {tuple(misdirected(seed, silent=True)[1]) for seed in range(200)}
    assert {(6, 7), (7, 8), (6, 8), (0, 6), (5, 8)} <= damages


def test_a_first_write_has_nowhere_to_go_astray() -> None:
    disk = disk_with(DiskFaults(misdirected_rate=1))
    written(disk, WHOLE)
    disk.crash()
    assert content(disk) == WHOLE
    assert disk.fired == {}


# ---- errors


@pytest.mark.parametrize("seed", range(20))
def test_after_a_failed_sync_a_retry_succeeds_and_the_data_is_gone(seed: int) -> None:
    disk = disk_with(DiskFaults(), seed=seed)
    written(disk, BATCHES[0])
    disk.faults = DiskFaults(sync_error_rate=1)
    file = disk.open("a", create=False)
    file.append(BATCHES[1])
    with pytest.raises(OSError) as caught:
        file.sync()
    assert caught.value.errno == errno.EIO
    disk.faults = DiskFaults()
    file.sync()
    assert file.read(0, 100) == BATCHES[0] + BATCHES[1], "the cache has it"
    disk.crash()
    left = content(disk)
    lost = differing_sectors(left, BATCHES[0] + BATCHES[1])
    assert left.startswith(BATCHES[0])
    assert 1 <= len(lost) == disk.fired["dropped_sector"] == disk.fired["shown_sector"] <= 3
    assert all(left[sector * SECTOR :][:SECTOR] == bytes(SECTOR) for sector in lost)


@pytest.mark.parametrize("crash", [True, False])
def test_what_a_failed_sync_lost_is_read_by_the_next_process_until_it_drops_the_cache(crash: bool) -> None:
    """A sync does not help: as on Linux, where pages whose writing failed are clean."""
    disk = disk_with(DiskFaults(sync_error_rate=1))
    life = disk.acquire()
    with pytest.raises(OSError, match="input/output"):
        written(disk, WHOLE)
    assert content(disk) == WHOLE
    if crash:
        disk.crash(power_loss=False)
    else:
        disk.release(life)
    disk.acquire()
    file = disk.open("a", create=False)
    with pytest.raises(OSError, match="input/output"):
        file.drop_cache()
    disk.faults = DiskFaults()
    file.sync()
    assert content(disk) == WHOLE
    file.drop_cache()
    read = content(disk)
    assert read != WHOLE
    assert disk.fired["shown_sector"] > 0
    disk.crash()
    assert content(disk) == read


def test_a_cache_that_is_dropped_loses_nothing_that_was_to_be_written() -> None:
    disk = disk_with(DiskFaults())
    written(disk, BATCHES[0])
    file = disk.open("a", create=False)
    file.append(BATCHES[1])
    file.drop_cache()
    assert content(disk) == BATCHES[0] + BATCHES[1]
    disk.crash()
    assert content(disk) == BATCHES[0] + BATCHES[1]


@pytest.mark.parametrize(("synced_later", "is_shown"), [(b"", False), (b"later", True)])
def test_a_stale_sector_shows_when_the_cache_is_dropped_if_it_shows_at_all(synced_later: bytes, is_shown: bool) -> None:
    disk = disk_with(DiskFaults(stale_rate=1))
    written(disk, WHOLE)
    disk.faults = DiskFaults()
    written(disk, synced_later)
    file = disk.open("a", create=False)
    file.append(b"nobody has promised this")
    file.drop_cache()
    assert content(disk).startswith(WHOLE) is not is_shown


def test_a_dropped_sector_is_whole_again_when_it_is_written_again() -> None:
    disk = disk_with(DiskFaults(sync_error_rate=1))
    with pytest.raises(OSError, match="input/output"):
        written(disk, b"abc")
    disk.faults = DiskFaults()
    written(disk, b"def")
    disk.crash(power_loss=False)
    assert content(disk) == b"abcdef"
    disk.crash()
    assert content(disk) == b"abcdef"


def test_a_dropped_sector_that_is_to_be_written_again_stays_in_the_cache() -> None:
    disk = disk_with(DiskFaults(sync_error_rate=1))
    with pytest.raises(OSError, match="input/output"):
        written(disk, b"abc")
    disk.faults = DiskFaults()
    disk.open("a", create=False).append(b"def")
    disk.crash(power_loss=False)
    assert content(disk) == b"abcdef"
    left = set()
    for seed in range(100):
        fork = disk.fork("copy", seed=seed)
        fork.crash()
        left.add(content(fork))
    assert left == {bytes(3), bytes(6), b"abcdef", b"abc"}


def test_a_failed_sync_with_a_truncation_pending_leaves_the_work_to_the_next() -> None:
    disk = disk_with(DiskFaults())
    written(disk, WHOLE)
    file = disk.open("a", create=False)
    file.truncate(SECTOR)
    file.append(b"new")
    disk.faults = DiskFaults(sync_error_rate=1, stale_rate=1, misdirected_rate=1)
    with pytest.raises(OSError, match="input/output"):
        file.sync()
    disk.faults = DiskFaults(stale_rate=1, misdirected_rate=1)
    file.sync()
    assert disk.fired == {"sync_error": 1}
    disk.crash()
    assert content(disk) == b"A" * SECTOR + b"new"


def test_a_failed_sync_of_nothing_loses_nothing() -> None:
    disk = disk_with(DiskFaults())
    written(disk, WHOLE)
    disk.faults = DiskFaults(sync_error_rate=1)
    with pytest.raises(OSError, match="input/output"):
        disk.open("a", create=False).sync()
    disk.crash()
    assert content(disk) == WHOLE


def test_a_read_error_changes_nothing() -> None:
    disk = disk_with(DiskFaults())
    written(disk, WHOLE)
    disk.faults = DiskFaults(read_error_rate=1)
    with pytest.raises(OSError) as caught:
        content(disk)
    assert caught.value.errno == errno.EIO
    assert disk.fired == {"read_error": 1}
    disk.faults = DiskFaults()
    assert content(disk) == WHOLE


# ---- atlas

DESTROYING = DiskFaults(bit_rot_rate=1, read_bit_rot_rate=1, stale_rate=1, misdirected_rate=1, silent=True)


def majorities(disks: set[int], of: int) -> list[set[int]]:
    """The sets among ``disks`` that are a majority of so many."""
    return [set(chosen) for size in range(of // 2 + 1, of + 1) for chosen in itertools.combinations(disks, size)]


@given(st.integers(1, 8), st.integers(1, 7))
def test_the_atlas_leaves_a_majority_of_sound_disks_that_knows_what_was_acknowledged(
    copies: int, replication: int
) -> None:
    atlas = FaultAtlas(copies=copies, replication=replication)
    broken = {disk for disk in [*range(copies), *range(copies)] if atlas.permits(f"disk {disk}")}
    assert atlas.breakable == {f"disk {disk}" for disk in broken}
    replicas = min(copies, replication)
    for placed in itertools.combinations(range(copies), replicas):
        sound = majorities(set(placed) - broken, replicas)
        assert sound
        assert all(found & acknowledged for found in sound for acknowledged in majorities(set(placed), replicas))
    one_more = {*range(len(broken) + 1)}
    assert not majorities(set(range(replicas)) - one_more, replicas), "the atlas is not meaner than it must be"


def test_without_a_permission_nothing_that_was_synced_is_destroyed() -> None:
    atlas = FaultAtlas(copies=3, replication=3)
    disks = [disk_with(DESTROYING, seed=seed, name=f"{seed}", atlas=atlas) for seed in range(3)]
    for disk in disks:
        written(disk, *BATCHES)
        disk.crash()
        content(disk)
    assert atlas.breakable == {"0"}
    assert [content(disk) == WHOLE for disk in disks] == [False, True, True]
    assert disks[0].fired["shown_sector"] > 0
    assert [disk.fired for disk in disks[1:]] == [{}, {}]


def test_without_a_permission_a_failed_sync_keeps_the_data_for_the_next() -> None:
    atlas = FaultAtlas(copies=1, replication=3)
    disk = disk_with(DiskFaults(sync_error_rate=1), atlas=atlas)
    with pytest.raises(OSError, match="input/output"):
        written(disk, WHOLE)
    disk.faults = DiskFaults()
    disk.open("a", create=False).sync()
    disk.crash()
    assert content(disk) == WHOLE
    assert disk.fired == {"sync_error": 1}


def test_a_fault_that_finds_nothing_to_destroy_takes_no_permission() -> None:
    atlas = FaultAtlas(copies=3, replication=3)
    disk = disk_with(DESTROYING, atlas=atlas)
    disk.open("a", create=True).sync()
    disk.sync_directory("")
    disk.crash()
    assert content(disk) == b""
    assert atlas.breakable == frozenset()


@pytest.mark.parametrize(("copies", "replication"), [(0, 3), (3, 0)])
def test_an_atlas_of_nothing_is_refused(copies: int, replication: int) -> None:
    with pytest.raises(ValueError, match="both are at least 1"):
        FaultAtlas(copies=copies, replication=replication)
