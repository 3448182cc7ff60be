"""The same seed gives the same bytes, and a fault that is taken away leaves the others where they were."""

import contextlib
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from simulations.disk import DiskFaults, SimDisk
from tests.simulations.disk.scenario import FAULTS, digest

REPOSITORY = Path(__file__).parents[3]


def test_the_same_seed_gives_the_same_bytes_in_another_process_with_other_hashes() -> None:
    here = digest(7)
    for hash_seed in ("1", "2"):
        there = subprocess.run(
            [sys.executable, "-m", "tests.simulations.disk.scenario", "7"],
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=50,
        )
        assert there.stdout == here


def test_another_seed_gives_other_bytes() -> None:
    assert len({digest(seed, steps=200) for seed in range(10)}) == 10


def test_the_scenario_meets_every_fault() -> None:
    disk = SimDisk("disk", seed=1, faults=FAULTS)
    names = {name.removesuffix("_rate") for name in FAULTS.__slots__ if name.endswith("_rate")}
    assert all(getattr(FAULTS, f"{name}_rate") > 0 for name in names)
    for number in range(2000):
        for use in ("write", "read", "crash"):
            try:
                file = disk.open("a", create=True)
                if use == "write":
                    if file.size() > 10_000:
                        file.truncate(0)
                    file.append(bytes([number % 255 + 1]) * 700)
                    file.sync()
                elif use == "read":
                    file.read(0, file.size())
                else:
                    disk.sync_directory("")
                    if number % 20 == 0:
                        file.append(b"x" * 100)
                        disk.crash()
            except OSError:
                continue
    assert names <= disk.fired.keys()


def syncs(faults: DiskFaults) -> list[float]:
    """How long each of many syncs of two files takes."""
    disk = SimDisk("disk", seed=3, faults=faults)
    files = [disk.open(name, create=True) for name in "ab"]
    durations: list[float] = []
    for _ in range(300):
        for file in files:
            with contextlib.suppress(OSError):
                file.append(b"x")
            disk.take_elapsed()
            with contextlib.suppress(OSError):
                file.sync()
            durations.append(disk.take_elapsed())
    return durations


SLOW = DiskFaults(slow_sync_rate=0.2, stuck_sync_rate=0.02)


@pytest.mark.parametrize(
    "more",
    [
        replace(SLOW, sync_error_rate=0.3),
        replace(SLOW, stale_rate=0.3),
        replace(SLOW, misdirected_rate=0.3),
        replace(SLOW, capacity_bytes=50),
    ],
    ids=["sync error", "stale", "misdirected", "no space"],
)
def test_a_fault_that_is_taken_away_leaves_the_others_where_they_were(more: DiskFaults) -> None:
    assert syncs(more) == syncs(SLOW)


def test_a_sync_that_is_stuck_no_more_takes_as_long_as_it_would_have_and_so_do_all_others() -> None:
    stuck, free = syncs(SLOW), syncs(replace(SLOW, stuck_sync_rate=0.0))
    assert 1 <= stuck.count(math.inf) < 40
    assert math.inf not in free
    assert all(one in (other, math.inf) for one, other in zip(stuck, free, strict=True))


def test_each_file_and_each_disk_has_its_own_chance() -> None:
    durations = syncs(DiskFaults())
    assert not set(durations[::2]) & set(durations[1::2])
    disks = [SimDisk(name, seed=3) for name in ("one", "two")]
    for disk in disks:
        disk.sync_directory("")
    assert disks[0].take_elapsed() != disks[1].take_elapsed()


def test_a_file_made_again_under_its_name_has_another_chance() -> None:
    disk = SimDisk("disk", seed=3)
    seen = []
    for _ in range(5):
        file = disk.open("identity.new", create=True)
        disk.take_elapsed()
        file.sync()
        seen.append(disk.take_elapsed())
        disk.remove("identity.new")
    assert len(set(seen)) == 5
