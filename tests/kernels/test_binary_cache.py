"""Binaries on disk: whole, or not there."""

import fcntl
import multiprocessing
import os
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernels import binary_cache
from kernels.binary_cache import ENTRIES_MAX, BinaryCache

KEY = "0123abcd"


def entry(directory: Path, key: str = KEY) -> Path:
    return directory / f"{key}.clbin"


def test_what_was_put_is_what_is_got(tmp_path: Path) -> None:
    cache = BinaryCache(tmp_path / "new" / "directory")
    assert cache.get(KEY) is None
    assert cache.put(KEY, b"binary")
    assert cache.get(KEY) == b"binary"
    assert cache.get("ffff") is None
    assert cache.put(KEY, b"other")
    assert cache.get(KEY) == b"other"


def test_a_new_directory_is_private(tmp_path: Path) -> None:
    BinaryCache(tmp_path / "cache").put(KEY, b"binary")
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700
    assert entry(tmp_path / "cache").stat().st_mode & 0o777 == 0o600


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_entry_is_no_entry(tmp_path: Path, data: st.DataObject) -> None:
    cache = BinaryCache(tmp_path)
    cache.put(KEY, b"some binary")
    whole = entry(tmp_path).read_bytes()
    position = data.draw(st.integers(0, len(whole) - 1))
    flipped = bytearray(whole)
    flipped[position] ^= data.draw(st.integers(1, 255))
    for damaged in (bytes(flipped), whole[:position], whole + b"\0"):
        entry(tmp_path).write_bytes(damaged)
        assert cache.get(KEY) is None


def test_an_entry_that_others_could_write_is_not_read(tmp_path: Path) -> None:
    cache = BinaryCache(tmp_path)
    cache.put(KEY, b"binary")
    entry(tmp_path).chmod(0o620)
    assert cache.get(KEY) is None
    entry(tmp_path).chmod(0o602)
    assert cache.get(KEY) is None
    entry(tmp_path).chmod(0o600)
    assert cache.get(KEY) == b"binary"


def test_an_entry_of_another_user_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = BinaryCache(tmp_path)
    cache.put(KEY, b"binary")
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    assert cache.get(KEY) is None


def test_a_directory_that_cannot_be_written_costs_only_the_entry(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    cache = BinaryCache(tmp_path / "file")
    assert not cache.put(KEY, b"binary")
    assert cache.get(KEY) is None
    with cache.building(KEY):
        pass


def test_a_write_that_fails_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: str, target: Path) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", full)
    assert not BinaryCache(tmp_path).put(KEY, b"binary")
    assert list(tmp_path.iterdir()) == []


def test_an_entry_larger_than_the_bound_is_neither_written_nor_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = BinaryCache(tmp_path)
    assert cache.put(KEY, b"binary" * 100)
    monkeypatch.setattr(binary_cache, "ENTRY_BYTES_MAX", 100)
    assert cache.get(KEY) is None
    assert not cache.put(KEY, b"binary" * 100)


def test_only_the_newest_entries_are_kept(tmp_path: Path) -> None:
    cache = BinaryCache(tmp_path)
    for number in range(ENTRIES_MAX):
        cache.put(f"{number:04x}", b"binary")
        os.utime(entry(tmp_path, f"{number:04x}"), ns=(number, number))
    with cache.building("0000"):
        pass
    cache.put("ffff", b"binary")
    assert cache.get("0000") is None
    assert cache.get("0001") == b"binary"
    assert cache.get("ffff") == b"binary"
    assert len(list(tmp_path.glob("*.clbin"))) == ENTRIES_MAX
    assert not (tmp_path / "0000.lock").exists()


def test_only_one_builds_at_a_time(tmp_path: Path) -> None:
    cache = BinaryCache(tmp_path)
    lock = tmp_path / f"{KEY}.lock"
    with cache.building(KEY), lock.open() as other:
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with cache.building("ffff"):  # another program's lock is another lock
            pass
    with lock.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_builder_that_hangs_is_not_waited_for_forever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 0.0, 1.0, 2.0, binary_cache.LOCK_WAIT_S])
    naps: list[float] = []
    monkeypatch.setattr(time, "monotonic", lambda: next(times))
    monkeypatch.setattr(time, "sleep", naps.append)
    (tmp_path / f"{KEY}.lock").touch()
    with (tmp_path / f"{KEY}.lock").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with BinaryCache(tmp_path).building(KEY):
            assert len(naps) == 3


def _write_and_read(directory: Path, byte: int, bad: "multiprocessing.sharedctypes.Synchronized[int]") -> None:
    cache = BinaryCache(directory)
    for _ in range(50):
        cache.put(KEY, bytes([byte]) * 100_000)
        got = cache.get(KEY)
        if got is None or len(got) != 100_000 or len(set(got)) != 1:
            bad.value += 1


def test_processes_that_write_at_once_never_show_half_an_entry(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    bad = context.Value("i", 0)
    writers = [context.Process(target=_write_and_read, args=(tmp_path, byte, bad)) for byte in (1, 2, 3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    assert bad.value == 0
    assert [path.name for path in tmp_path.iterdir()] == [f"{KEY}.clbin"]
