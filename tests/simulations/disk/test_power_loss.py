"""What was not synced is lost or kept by sector and by name; what was synced stays."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from simulations.disk import DiskFaults, SimDisk
from simulations.disk.content import CUTS_MAX, MARKS_MAX
from simulations.disk.names import PENDING_MAX
from tests.simulations.disk.twin import TwinFile, TwinNames

SECTOR = 8
"""Small, so that a few bytes cross its borders."""

PATHS = ("a", "b", "d/a", "d/b")
STEPS = st.lists(
    st.one_of(st.binary(min_size=1, max_size=3 * SECTOR), st.integers(0, 5 * SECTOR)), min_size=1, max_size=5
)


def disk_with(seed: int, faults: DiskFaults | None = None) -> SimDisk:
    return SimDisk("disk", seed=seed, faults=faults, sector_bytes=SECTOR)


def content(disk: SimDisk, path: str) -> bytes:
    file = disk.open(path, create=False)
    data = file.read(0, file.size())
    file.close()
    return data


def perform(disk: SimDisk, path: str, steps: list[bytes | int], twin: TwinFile) -> None:
    file = disk.open(path, create=True)
    for step in steps:
        if isinstance(step, int):
            size = min(step, file.size())
            file.truncate(size)
            if size < len(twin.cached):
                twin.done.append(size)
        else:
            file.append(step)
            twin.done.append(step)
    file.close()


@settings(max_examples=200)
@given(st.binary(max_size=3 * SECTOR), STEPS, st.integers(0, 2**32), st.booleans())
def test_every_sector_is_left_in_a_state_that_it_had(
    durable: bytes, steps: list[bytes | int], seed: int, in_order: bool
) -> None:
    disk = disk_with(seed, DiskFaults(in_order=in_order))
    file = disk.open("a", create=True)
    file.append(durable)
    file.sync()
    disk.sync_directory("")
    twin = TwinFile(durable)
    perform(disk, "a", steps, twin)
    assert content(disk, "a") == twin.cached
    disk.crash()
    assert twin.may_be(content(disk, "a"), SECTOR)


@pytest.mark.parametrize("steps", [[b"AAAAAAAAAAAA"], [b"AA", b"BBBBBB", b"CCCCC"], [b"AAAAAAAA", 3, b"BBBBBBB"]])
def test_every_such_state_comes_up(steps: list[bytes | int]) -> None:
    """The disk leaves out nothing that the twin knows of: sectors lost before others that are kept, zeros, and cuts."""
    durable = b"dur"
    twin = TwinFile(durable)
    found = set()
    origin = disk_with(0)
    perform(origin, "a", [durable], TwinFile())
    origin.open("a", create=False).sync()
    origin.sync_directory("")
    perform(origin, "a", steps, twin)
    for seed in range(3000):
        disk = origin.fork("copy", seed=seed)
        disk.crash()
        found.add(content(disk, "a"))
    assert found == twin.outcomes(SECTOR)


def test_a_later_sector_may_survive_an_earlier_one_and_the_gap_reads_as_zeros() -> None:
    states = set()
    for seed in range(200):
        disk = disk_with(seed)
        file = disk.open("a", create=True)
        file.append(b"A" * SECTOR + b"B" * SECTOR)
        disk.sync_directory("")
        disk.crash()
        states.add(content(disk, "a"))
    assert bytes(SECTOR) + b"B" * SECTOR in states
    assert b"A" * SECTOR + bytes(SECTOR) in states
    assert {b"", b"A" * SECTOR, bytes(SECTOR), b"A" * SECTOR + b"B" * SECTOR} < states


def test_in_order_nothing_survives_what_came_before_it() -> None:
    for seed in range(200):
        disk = disk_with(seed, DiskFaults(in_order=True))
        file = disk.open("a", create=True)
        file.append(b"x" * 6 * SECTOR)
        disk.sync_directory("")
        for name in "bcdef":
            disk.open(name, create=True)
        disk.crash()
        sectors = content(disk, "a").rstrip(b"\0")
        assert sectors == b"x" * len(sectors)
        names = "".join(disk.list(""))
        assert "abcdef".startswith(names)


def test_what_a_truncation_removed_is_never_read_behind_it() -> None:
    """Not even in the rest of the sector, which a file system fills with zeros before the truncation is durable."""
    for seed in range(300):
        disk = disk_with(seed)
        file = disk.open("a", create=True)
        file.append(b"old" * SECTOR)
        file.sync()
        disk.sync_directory("")
        file.truncate(2)
        file.append(b"n" * 20)
        disk.crash()
        left = content(disk, "a")
        assert left == b"old" * SECTOR or set(left[2:]) <= set(b"n\0")


def test_a_killed_process_loses_nothing() -> None:
    disk = disk_with(1)
    file = disk.open("a", create=True)
    file.append(b"written, not synced")
    disk.crash(power_loss=False)
    assert content(disk, "a") == b"written, not synced"
    disk.open("a", create=False).sync()
    disk.sync_directory("")
    disk.crash()
    assert content(disk, "a") == b"written, not synced"


def test_files_of_a_crashed_process_are_of_no_use() -> None:
    for power_loss in (True, False):
        disk = disk_with(1)
        file = disk.open("a", create=True)
        file.sync()
        disk.sync_directory("")
        calls: list[str] = []
        disk.crash(power_loss=power_loss)
        disk.on_operation = lambda operation, _path, calls=calls: calls.append(operation)
        for use in (
            file.size,
            file.sync,
            lambda file=file: file.read(0, 1),
            lambda file=file: file.append(b"x"),
            lambda file=file: file.truncate(0),
        ):
            with pytest.raises(OSError, match="has crashed"):
                use()
        file.close()
        assert calls == []
        assert content(disk, "a") == b""


def test_a_torn_sector_begins_with_the_new_bytes_and_ends_with_the_old() -> None:
    torn = set()
    for seed in range(300):
        disk = disk_with(seed, DiskFaults(torn_sector_rate=0.5))
        file = disk.open("a", create=True)
        file.append(b"dur")
        file.sync()
        disk.sync_directory("")
        file.append(b"ABCDE")
        disk.crash()
        left = content(disk, "a")
        if disk.fired["torn_sector"]:
            torn.add(left)
        assert left.rstrip(b"\0") in {b"durABCDE"[:size] for size in range(3, 9)}
    assert {b"durA" + bytes(4), b"durABCD" + bytes(1)} <= torn


def test_a_file_that_was_truncated_often_is_written_back_in_between() -> None:
    disk = disk_with(1)
    twin = TwinFile()
    for _ in range(2 * CUTS_MAX):
        perform(disk, "a", [b"0123456789", 4], twin)
    assert content(disk, "a") == twin.cached
    disk.sync_directory("")
    disk.crash()
    assert twin.may_be(content(disk, "a"), SECTOR)


def test_a_file_that_was_appended_often_is_left_in_a_state_that_it_had() -> None:
    for seed in range(20):
        disk = disk_with(seed)
        twin = TwinFile()
        perform(disk, "a", [bytes([65 + number % 26]) for number in range(3 * MARKS_MAX)], twin)
        disk.sync_directory("")
        disk.crash()
        assert twin.may_be(content(disk, "a"), SECTOR)


def test_names_that_nobody_syncs_go_to_the_medium_after_a_while() -> None:
    disk = disk_with(1)
    for number in range(PENDING_MAX + 3):
        disk.open(f"{number:05}", create=True).close()
    disk.crash()
    assert disk.list("")[:3] == ["00000", "00001", "00002"]


class Machine(RuleBasedStateMachine):
    """Files and names through any number of crashes, beside their twins."""

    @initialize(seed=st.integers(0, 2**64 - 1))
    def start(self, seed: int) -> None:
        self.disk = disk_with(seed)
        self.names = TwinNames()
        self.files: list[TwinFile] = []

    def is_file(self, path: str) -> bool:
        return path in self.names.cached

    @precondition(lambda self: not self.is_file("d"))
    @rule()
    def make_directory(self) -> None:
        self.disk.make_directory("d")
        self.names.change({"d": self._new()})

    @rule(path=st.sampled_from(PATHS), data=st.binary(max_size=3 * SECTOR), sync=st.booleans())
    def write(self, path: str, data: bytes, sync: bool) -> None:
        if path.startswith("d/") and not self.is_file("d"):
            return
        if not self.is_file(path):
            self.names.change({path: self._new()})
        file = self.disk.open(path, create=True)
        twin = self.files[self.names.cached[path]]
        if data:
            file.append(data)
            twin.done.append(data)
        if sync:
            file.sync()
            twin.sync()
        file.close()

    @rule(path=st.sampled_from(PATHS), size=st.integers(0, 5 * SECTOR))
    def truncate(self, path: str, size: int) -> None:
        if self.is_file(path):
            perform(self.disk, path, [size], self.files[self.names.cached[path]])

    @rule(old=st.sampled_from(PATHS), new=st.sampled_from(PATHS))
    def rename(self, old: str, new: str) -> None:
        if self.is_file(old) and old != new and (not new.startswith("d/") or self.is_file("d")):
            self.disk.rename(old, new)
            self.names.change({old: None, new: self.names.cached[old]})

    @rule(path=st.sampled_from(PATHS))
    def remove(self, path: str) -> None:
        if self.is_file(path):
            self.disk.remove(path)
            self.names.change({path: None})

    @rule(directory=st.sampled_from(("", "d")))
    def sync_directory(self, directory: str) -> None:
        if not directory or self.is_file(directory):
            self.disk.sync_directory(directory)
            self.names.sync(directory)

    @rule()
    def kill(self) -> None:
        self.disk.crash(power_loss=False)

    @precondition(lambda self: len(self.names.pending) <= 10)
    @rule()
    def lose_power(self) -> None:
        self.disk.crash()
        found = {path: content(self.disk, path) for path in self._paths() if path != "d"}
        outcomes = [names for names in self.names.outcomes() if names.keys() == set(self._paths())]
        matching = [
            names
            for names in outcomes
            if all(self.files[names[path]].may_be(data, SECTOR) for path, data in found.items())
        ]
        assert matching, f"{found} is none of what may be left"
        self.files = [TwinFile(data) for data in found.values()]
        names = {path: number for number, path in enumerate(found)}
        if "d" in self._paths():
            names["d"] = self._new()
        self.names = TwinNames(dict(names), dict(names))

    @invariant()
    def what_is_read_is_what_was_written(self) -> None:
        if not hasattr(self, "disk"):
            return
        assert set(self._paths()) == self.names.cached.keys()
        files = {path: number for path, number in self.names.cached.items() if path != "d"}
        for path, number in files.items():
            assert content(self.disk, path) == self.files[number].cached
        assert self.disk.used_bytes == sum(len(self.files[number].cached) for number in files.values())

    def _new(self) -> int:
        self.files.append(TwinFile())
        return len(self.files) - 1

    def _paths(self) -> list[str]:
        paths = self.disk.list("")
        return [*paths, *(f"d/{name}" for name in (self.disk.list("d") if "d" in paths else []))]


TestFilesAndNames = Machine.TestCase
TestFilesAndNames.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


@given(st.integers(0, 2**32), st.lists(st.tuples(st.binary(min_size=1, max_size=40), st.booleans()), max_size=12))
def test_what_was_synced_survives_any_number_of_crashes(seed: int, appends: list[tuple[bytes, bool]]) -> None:
    disk = disk_with(seed)
    disk.open("a", create=True)
    disk.sync_directory("")
    promised = b""
    for data, sync in appends:
        file = disk.open("a", create=False)
        assert file.read(0, len(promised)) == promised
        file.append(data)
        if sync:
            file.sync()
            promised = file.read(0, file.size())
        disk.crash()
    assert content(disk, "a").startswith(promised)
