"""The disk as its users and the world around it know it: contract, lock, hook, time, room, copies."""

import contextlib
import errno
import json
import math
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, replace
from typing import TypeVar, TypeVarTuple

import pytest
import trio

from meshnode.errors import DataDirectoryError
from simulations.disk import DiskCosts, DiskFaults, Operation, SimDisk
from tests.host.contract.directory import DiskContract

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Machine:
    """What the contract suite needs of a host."""

    def __init__(self) -> None:
        self.disks: dict[str, SimDisk] = {}

    @contextlib.asynccontextmanager
    async def disk(self, root: str) -> AsyncIterator[SimDisk]:
        disk = self.disks.setdefault(root, SimDisk(root, seed=1))
        life = disk.acquire()
        try:
            yield disk
        finally:
            disk.release(life)

    async def run_blocking(self, work: Callable[[*Ts], T], *arguments: *Ts) -> T:
        await trio.lowlevel.checkpoint()
        return work(*arguments)


class TestContract(DiskContract):
    """The suite that a real directory passes too."""

    @pytest.fixture
    def host(self) -> Machine:
        return Machine()

    @pytest.fixture
    def root(self) -> str:
        return "data"


def quiet(seed: int = 1, faults: DiskFaults | None = None) -> SimDisk:
    return SimDisk("node-3", seed=seed, faults=faults)


# ---- who has the disk


def test_a_second_process_is_refused_until_the_first_gives_the_disk_back() -> None:
    disk = quiet()
    assert disk.name == "node-3"
    life = disk.acquire()
    with pytest.raises(DataDirectoryError, match="node-3 is locked by a running node"):
        disk.acquire()
    disk.release(life)
    disk.acquire()


@pytest.mark.parametrize("power_loss", [True, False])
def test_a_crash_releases_the_disk(power_loss: bool) -> None:
    disk = quiet()
    disk.acquire()
    disk.crash(power_loss=power_loss)
    disk.acquire()


def test_a_process_that_died_cannot_release_what_the_next_one_has() -> None:
    disk = quiet()
    dead = disk.acquire()
    disk.crash()
    disk.acquire()
    disk.release(dead)
    with pytest.raises(DataDirectoryError):
        disk.acquire()


# ---- the hook


def test_the_hook_is_told_of_each_operation_before_it_happens() -> None:
    disk = quiet()
    seen: list[tuple[str, str]] = []
    assert disk.on_operation is None
    disk.on_operation = lambda operation, path: seen.append((operation, path))
    disk.make_directory("d")
    file = disk.open("d/a", create=True)
    file.append(b"x")
    file.reserve(2)
    file.read(0, 1)
    file.truncate(0)
    file.sync()
    file.close()
    disk.sync_directory("d")
    disk.exists("d/a")
    disk.rename("d/a", "d/b")
    disk.list("d")
    disk.remove("d/b")
    assert seen == [
        (Operation.MAKE_DIRECTORY, "d"),
        (Operation.OPEN, "d/a"),
        (Operation.APPEND, "d/a"),
        (Operation.RESERVE, "d/a"),
        (Operation.READ, "d/a"),
        (Operation.TRUNCATE, "d/a"),
        (Operation.SYNC, "d/a"),
        (Operation.SYNC_DIRECTORY, "d"),
        (Operation.EXISTS, "d/a"),
        (Operation.RENAME, "d/a"),
        (Operation.LIST, "d"),
        (Operation.REMOVE, "d/b"),
    ]
    assert {operation for operation, _path in seen} == set(Operation)


class Killed(BaseException):
    """Of the harness."""


@pytest.mark.parametrize("at", ["append", "truncate", "sync", "open", "rename", "remove", "sync_directory"])
def test_of_an_operation_at_which_the_process_is_killed_nothing_has_happened(at: str) -> None:
    disk = quiet()
    file = disk.open("a", create=True)
    file.append(b"0123456789")
    file.sync()
    disk.sync_directory("")
    file.append(b"unsynced")
    disk.open("unsynced", create=True)
    before = disk.fork("before", seed=1)

    def kill(operation: str, _path: str) -> None:
        if operation == at:
            disk.crash(power_loss=False)
            raise Killed

    disk.on_operation = kill
    actions: dict[str, Callable[[], object]] = {
        "append": lambda: file.append(b"more"),
        "truncate": lambda: file.truncate(3),
        "sync": file.sync,
        "open": lambda: disk.open("new", create=True),
        "rename": lambda: disk.rename("a", "b"),
        "remove": lambda: disk.remove("a"),
        "sync_directory": lambda: disk.sync_directory(""),
    }
    with pytest.raises(Killed):
        actions[at]()
    disk.on_operation = None
    outcomes = []
    for origin in (disk, before):
        assert content(origin, "a") == b"0123456789unsynced"
        copies = [origin.fork("copy", seed=seed) for seed in range(60)]
        for copy in copies:
            copy.crash()
        outcomes.append({(content(copy, "a"), *copy.list("")) for copy in copies})
    assert outcomes[0] == outcomes[1]
    assert len(outcomes[0]) > 2


def test_a_file_does_nothing_after_a_hook_that_crashed_the_disk_and_returned() -> None:
    disk = quiet()
    file = disk.open("a", create=True)
    disk.sync_directory("")
    disk.on_operation = lambda _operation, _path: disk.crash()
    with pytest.raises(OSError, match="has crashed"):
        file.append(b"x")
    disk.on_operation = None
    assert content(disk, "a") == b""


def content(disk: SimDisk, path: str) -> bytes:
    file = disk.open(path, create=False)
    return file.read(0, file.size())


# ---- files


def test_a_closed_file_is_of_no_use_and_may_be_closed_again() -> None:
    disk = quiet()
    file = disk.open("a", create=True)
    file.close()
    file.close()
    with pytest.raises(OSError, match="is closed"):
        file.append(b"x")


@pytest.mark.parametrize("size", [-1, 11])
def test_a_file_is_only_ever_cut(size: int) -> None:
    file = quiet().open("a", create=True)
    file.append(b"0123456789")
    with pytest.raises(ValueError, match=f"has 10 bytes and can't be cut to {size}"):
        file.truncate(size)
    with pytest.raises(ValueError, match="0 or more"):
        file.read(size if size < 0 else 0, -1)


# ---- room


def test_an_append_beyond_the_room_is_cut_off_there() -> None:
    disk = quiet(faults=DiskFaults(capacity_bytes=10))
    other = disk.open("other", create=True)
    other.append(b"123")
    file = disk.open("a", create=True)
    file.append(b"45")
    with pytest.raises(OSError) as caught:
        file.append(b"abcdefgh")
    assert caught.value.errno == errno.ENOSPC
    assert content(disk, "a") == b"45abcde"
    assert (disk.used_bytes, disk.fired["no_space"]) == (10, 1)
    file.append(b"")
    disk.faults = DiskFaults()
    file.append(b"fgh")
    assert content(disk, "a") == b"45abcdefgh"


def test_room_comes_back_when_the_last_user_of_a_removed_file_is_gone() -> None:
    disk = quiet()
    for leave in ("remove", "rename", "crash"):
        file = disk.open("a", create=True)
        file.append(b"12345")
        file.truncate(4)
        assert disk.used_bytes == 4
        if leave == "rename":
            disk.open("b", create=True).close()
            disk.rename("b", "a")
        else:
            disk.remove("a")
        file.append(b"6")
        assert disk.used_bytes == 5
        if leave == "crash":
            disk.crash(power_loss=False)
        file.close()
        assert disk.used_bytes == 0


# ---- time


@pytest.mark.parametrize("power_loss", [True, False])
@pytest.mark.parametrize("is_synced", [True, False])
def test_room_is_zeros_behind_the_end_once_its_process_is_gone(power_loss: bool, is_synced: bool) -> None:
    disk = quiet()
    file = disk.open("a", create=True)
    disk.sync_directory("")
    file.append(b"ab")
    file.sync()
    file.reserve(9)
    assert (file.size(), file.read(0, 9)) == (2, b"ab")
    if is_synced:
        file.sync()
    disk.crash(power_loss=power_loss)
    zeros = 7 if is_synced or not power_loss else 0
    assert disk.open("a", create=False).read(0, 20) == b"ab" + bytes(zeros)


def test_another_handle_sees_the_room_as_of_its_opening() -> None:
    disk = quiet()
    file = disk.open("a", create=True)
    file.append(b"ab")
    file.reserve(9)
    other = disk.open("a", create=False)
    assert (other.size(), other.read(1, 20)) == (9, b"b" + bytes(7))
    file.append(b"cd")
    assert (file.size(), other.size(), other.read(1, 4)) == (4, 9, b"bcd\0")
    file.truncate(3)
    assert (other.size(), other.read(0, 20)) == (9, b"abc")


@pytest.mark.parametrize("give_back", ["close", "truncate"])
def test_room_is_given_back(give_back: str) -> None:
    disk = quiet()
    file = disk.open("a", create=True)
    disk.sync_directory("")
    file.append(b"abc")
    file.reserve(9)
    file.sync()
    if give_back == "close":
        file.close()
        file = disk.open("a", create=False)
    else:
        file.truncate(2)
    file.sync()
    disk.crash()
    assert disk.open("a", create=False).size() == (3 if give_back == "close" else 2)


def test_what_is_written_into_room_and_lost_is_zeros_there() -> None:
    found = set()
    for seed in range(200):
        disk = SimDisk("node-3", seed=seed, faults=DiskFaults())
        file = disk.open("a", create=True)
        disk.sync_directory("")
        file.reserve(600)
        file.sync()
        file.append(b"x" * 550)
        disk.crash()
        left = disk.open("a", create=False).read(0, 1000)
        assert len(left) == 600
        assert set(left) <= {0, ord("x")}
        found.add(left.count(b"x"))
    assert found >= {0, 550, 512, 38}


def test_each_operation_takes_its_time() -> None:
    costs = DiskCosts(call_s=1.0, transfer_s_per_kib=8.0, sync_s_min=100.0, sync_s_max=200.0)
    disk = SimDisk("a", seed=1, costs=costs)
    file = disk.open("a", create=True)
    assert disk.elapsed_s == 1.0
    assert disk.take_elapsed() == 1.0
    assert disk.elapsed_s == disk.take_elapsed() == 0.0
    file.append(b"x" * 2048)
    assert disk.take_elapsed() == 17.0
    file.read(1024, 5000)
    assert disk.take_elapsed() == 9.0
    durations = set()
    for _ in range(100):
        file.sync()
        durations.add(disk.take_elapsed())
        disk.sync_directory("")
        durations.add(disk.take_elapsed())
    assert all(101 <= duration <= 201 for duration in durations)
    assert min(durations) < 110
    assert max(durations) > 190
    assert len(durations) == 200


def test_slow_and_stuck_syncs_are_told_by_their_time_and_done_all_the_same() -> None:
    disk = quiet(faults=DiskFaults(slow_sync_rate=1, slow_sync_factor=1000))
    file = disk.open("a", create=True)
    file.append(b"slow ")
    disk.take_elapsed()
    file.sync()
    assert 0.5 <= disk.take_elapsed() < 2.1
    disk.faults = replace(disk.faults, slow_sync_rate=0, stuck_sync_rate=1)
    file.append(b"stuck")
    file.sync()
    assert disk.take_elapsed() == math.inf
    assert disk.take_elapsed() == 0
    disk.faults = DiskFaults()
    disk.sync_directory("")
    assert disk.take_elapsed() < 0.01
    assert disk.fired == {"slow_sync": 1, "stuck_sync": 1}
    disk.crash()
    assert content(disk, "a") == b"slow stuck"


# ---- copies


def test_a_fork_goes_its_own_way() -> None:
    disk = quiet()
    life = disk.acquire()
    file = disk.open("a", create=True)
    file.append(b"common")
    file.sync()
    disk.sync_directory("")
    disk.open("unsynced", create=True)
    fork = disk.fork("other", seed=2)
    fork.acquire()
    file.append(b" and more")
    disk.remove("unsynced")
    assert content(fork, "a") == b"common"
    assert (fork.used_bytes, disk.used_bytes) == (6, 15)
    assert fork.exists("unsynced")
    other = fork.open("a", create=False)
    other.append(b"!")
    assert content(disk, "a") == b"common and more"
    fork.crash()
    disk.release(life)
    assert content(disk, "a") == b"common and more"
    assert content(fork, "a").startswith(b"common")


# ---- configs


def test_faults_are_plain_data() -> None:
    faults = DiskFaults(stale_rate=0.25, capacity_bytes=1000, silent=True)
    assert DiskFaults(**json.loads(json.dumps(asdict(faults)))) == faults


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ({"bit_rot_rate": 1.5}, "bit_rot_rate = 1.5: it is a probability"),
        ({"sync_error_rate": -0.1}, "sync_error_rate = -0.1"),
        ({"stale_rate": math.nan}, "stale_rate = nan"),
        ({"capacity_bytes": -1}, "capacity_bytes = -1"),
        ({"slow_sync_factor": 0.5}, r"slow_sync_factor = 0\.5"),
        ({"slow_sync_factor": math.inf}, "stuck_sync_rate has no end"),
    ],
)
def test_faults_that_make_no_sense_are_refused(wrong: dict[str, float], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        DiskFaults(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ({"call_s": -1.0}, r"call_s = -1\.0: choose 0 seconds or more"),
        ({"sync_s_max": math.inf}, "sync_s_max = inf"),
        ({"sync_s_min": 1.0}, r"sync_s_min = 1\.0 is above sync_s_max"),
    ],
)
def test_costs_that_make_no_sense_are_refused(wrong: dict[str, float], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        DiskCosts(**wrong)


def test_a_sector_has_at_least_two_bytes() -> None:
    with pytest.raises(ValueError, match="sectors of 1 bytes"):
        SimDisk("a", seed=1, sector_bytes=1)
