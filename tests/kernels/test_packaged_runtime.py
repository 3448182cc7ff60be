"""The driver that comes as a Python package."""

import ctypes
import ctypes.util
import importlib.metadata
from pathlib import Path
from typing import Any

import pytest

from kernels import packaged_runtime


class File:
    """In the place of importlib.metadata.PackagePath."""

    def __init__(self, path: Path) -> None:
        self.name, self._path = path.name, path

    def locate(self) -> Path:
        return self._path


def test_the_driver_is_found_among_the_files_of_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    driver = tmp_path / "lib" / "libintelocl.so"
    driver.parent.mkdir()
    driver.write_bytes(b"")
    files = [File(tmp_path / "intel-cpu.icd"), File(tmp_path / "gone" / "libintelocl.so"), File(driver)]
    monkeypatch.setattr(importlib.metadata, "files", lambda name: files)
    assert packaged_runtime.library_path() == driver.resolve()
    monkeypatch.setattr(importlib.metadata, "files", lambda name: files[:2])
    assert packaged_runtime.library_path() is None
    monkeypatch.setattr(importlib.metadata, "files", lambda name: None)
    assert packaged_runtime.library_path() is None


def test_without_the_package_there_is_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", missing)
    assert packaged_runtime.library_path() is None


def test_a_file_that_is_no_library_is_an_os_error(tmp_path: Path) -> None:
    path = tmp_path / "libintelocl.so"
    path.write_bytes(b"not a library")
    with pytest.raises(OSError, match="libintelocl"):
        packaged_runtime.platform_pointers(path)


def test_a_library_that_is_no_driver_is_an_os_error() -> None:
    name = ctypes.util.find_library("m")
    if name is None:
        pytest.skip("no C mathematics library to open")
    with pytest.raises(OSError, match="no OpenCL driver"):
        packaged_runtime.platform_pointers(Path(name))


class Driver:
    """In the place of ctypes.CDLL: finds a real C function pointer, whose code is `status` and its platforms."""

    def __init__(self, status: int, *pointers: int) -> None:
        def get_platforms(room: int, found: Any, count: Any) -> int:
            assert room >= len(pointers)
            for position, pointer in enumerate(pointers):
                found[position] = pointer
            count[0] = len(pointers)
            return status

        self._function = packaged_runtime.GetPlatforms(get_platforms)
        address = ctypes.cast(self._function, ctypes.c_void_p).value

        def look_up(name: bytes) -> int | None:
            return address if name == b"clIcdGetPlatformIDsKHR" and status >= 0 else None

        self.clGetExtensionFunctionAddress = look_up


def test_a_driver_is_asked_for_its_platforms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda path: Driver(0, 0x1000, 0x2000))
    assert packaged_runtime.platform_pointers(Path("driver.so")) == [0x1000, 0x2000]


def test_a_driver_that_refuses_or_lacks_the_question_is_an_os_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda path: Driver(7))
    with pytest.raises(OSError, match=r"driver.so: clIcdGetPlatformIDsKHR failed with 7"):
        packaged_runtime.platform_pointers(Path("driver.so"))
    monkeypatch.setattr(ctypes, "CDLL", lambda path: Driver(-1))
    with pytest.raises(OSError, match=r"driver.so has no clIcdGetPlatformIDsKHR"):
        packaged_runtime.platform_pointers(Path("driver.so"))


def test_the_installed_package_has_a_platform() -> None:
    path = packaged_runtime.library_path()
    if path is None:
        pytest.skip(f"{packaged_runtime.DISTRIBUTION} is not installed (it is 800 MB)")
    assert packaged_runtime.platform_pointers(path)
