"""Discovery, on drivers that behave in every way seen. The drivers here are plain objects in pyopencl's place: what is
under test is what this project makes of their answers."""

from types import SimpleNamespace
from typing import Any

import pytest

from kernels import packaged_runtime
from kernels.device import NO_PLATFORM, NO_PYOPENCL, DeviceInfo, Kind, devices, discover, matching


class DriverError(Exception):
    """In the place of pyopencl.Error."""


def device_info(**changes: Any) -> DeviceInfo:
    values: dict[str, Any] = {
        "name": "Model 1",
        "vendor": "Vendor",
        "platform": "Platform",
        "platform_version": "OpenCL 3.0",
        "driver_version": "1.0",
        "kind": Kind.CPU,
        "compute_units": 2,
        "memory_bytes": 2**30,
        "allocation_bytes_max": 2**28,
        "local_memory_bytes": 2**15,
        "group_items_max": 1024,
        "float_lanes": 8,
        "shared_memory": False,
        "handle": None,
    }
    return DeviceInfo(**values | changes)


def raw_device(name: str, type_bits: int, **changes: Any) -> SimpleNamespace:
    values: dict[str, Any] = {
        "name": f" {name} ",
        "vendor": "Vendor",
        "type": type_bits,
        "driver_version": "1.0",
        "max_compute_units": 4,
        "global_mem_size": 2**30,
        "max_mem_alloc_size": 2**28,
        "local_mem_size": 2**15,
        "max_work_group_size": 256,
        "native_vector_width_float": 8,
        "svm_capabilities": 3,
    }
    return SimpleNamespace(**values | changes)


class Platform:
    """A platform with these devices, or whose every answer is an error."""

    def __init__(self, name: str, *found: Any, broken: str = "") -> None:
        self.name, self.version, self._found, self._broken = name, "OpenCL 3.0", found, broken

    def get_devices(self) -> list[Any]:
        if self._broken:
            raise DriverError(self._broken)
        return list(self._found)


CPU, GPU, ACCELERATOR = 2, 4, 8


def library(*platforms: Platform, loader_error: str = "") -> Any:
    def get_platforms() -> list[Platform]:
        if loader_error:
            raise DriverError(loader_error)
        return list(platforms)

    return SimpleNamespace(
        Error=DriverError,
        get_platforms=get_platforms,
        device_type=SimpleNamespace(CPU=CPU, GPU=GPU, ACCELERATOR=ACCELERATOR),
        device_svm_capabilities=SimpleNamespace(FINE_GRAIN_BUFFER=2),
        Platform=SimpleNamespace(from_int_ptr=lambda pointer: Platform("Packaged", raw_device(f"at {pointer}", CPU))),
    )


@pytest.fixture(autouse=True)
def no_packaged_runtime(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if "device" not in request.fixturenames:
        monkeypatch.setattr(packaged_runtime, "library_path", lambda: None)


def test_gpus_come_before_accelerators_before_cpus() -> None:
    found = discover(
        lambda: library(
            Platform("A", raw_device("c", CPU), raw_device("o", 16), raw_device("a", ACCELERATOR)),
            Platform("B", raw_device("g", GPU)),
        )
    )
    assert [device.name for device in found.devices] == ["g", "a", "c", "o"]
    assert [device.kind for device in found.devices] == [Kind.GPU, Kind.ACCELERATOR, Kind.CPU, Kind.OTHER]
    assert found.problems == ()


def test_a_device_is_described() -> None:
    (device,) = discover(lambda: library(Platform("A", raw_device("c", CPU)))).devices
    assert str(device) == "c on A (driver 1.0)"
    assert (device.compute_units, device.memory_bytes, device.float_lanes) == (4, 2**30, 8)


def test_only_a_cpu_with_fine_grained_memory_shares_it() -> None:
    class OldDevice(SimpleNamespace):
        @property
        def svm_capabilities(self) -> int:
            raise DriverError("INVALID_VALUE")

    old = raw_device("old", CPU).__dict__
    del old["svm_capabilities"]
    found = discover(
        lambda: library(
            Platform("A", raw_device("g", GPU), raw_device("c", CPU), OldDevice(**old)),
            Platform("B", raw_device("coarse", CPU, svm_capabilities=1)),
        )
    )
    assert {device.name: device.shared_memory for device in found.devices} == {
        "g": False,
        "c": True,
        "old": False,
        "coarse": False,
    }


def raises(error: Exception) -> Any:
    raise error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ModuleNotFoundError("No module named 'pyopencl'", name="pyopencl"), NO_PYOPENCL),
        (ModuleNotFoundError("No module named 'pytools'", name="pytools"), "cannot be imported: No module"),
        (ImportError("libOpenCL.so.1: cannot open shared object file\nmore"), "libOpenCL.so.1: cannot open"),
        (OSError("bad library"), "cannot be imported: bad library"),
        (RuntimeError("numpy mismatch"), "cannot be imported: numpy mismatch"),
    ],
)
def test_a_missing_pyopencl_is_a_reason(error: Exception, reason: str) -> None:
    found = discover(lambda: raises(error))
    assert found.devices == ()
    assert reason in found.problems[0]
    assert "\n" not in found.problems[0]


@pytest.mark.parametrize("loader", [library(), library(loader_error="PLATFORM_NOT_FOUND_KHR")])
def test_no_platform_is_a_reason_that_says_what_to_install(loader: Any) -> None:
    assert discover(lambda: loader).problems == (NO_PLATFORM,)


def test_a_loader_that_fails_is_a_reason() -> None:
    assert discover(lambda: library(loader_error="OUT_OF_HOST_MEMORY")).problems == (
        "the OpenCL loader failed: OUT_OF_HOST_MEMORY",
    )


def test_a_broken_platform_is_named_and_the_others_still_serve() -> None:
    found = discover(lambda: library(Platform("Bad", broken="no kernel module"), Platform("A", raw_device("c", CPU))))
    assert [device.name for device in found.devices] == ["c"]
    assert found.problems == ("platform Bad: no kernel module",)


def test_a_platform_without_devices_is_a_reason() -> None:
    assert "no device on platform Empty" in discover(lambda: library(Platform("Empty"))).problems[0]


def test_the_packaged_runtime_comes_first_among_its_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packaged_runtime, "library_path", lambda: "libintelocl.so")
    monkeypatch.setattr(packaged_runtime, "platform_pointers", lambda path: [7])
    found = discover(lambda: library(Platform("A", raw_device("c", CPU))))
    assert [device.name for device in found.devices] == ["at 7", "c"]
    again = discover(lambda: library(Platform("Packaged", raw_device("listed", CPU))))
    assert [device.name for device in again.devices] == ["listed"]


def test_a_packaged_runtime_that_does_not_load_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packaged_runtime, "library_path", lambda: "libintelocl.so")
    monkeypatch.setattr(packaged_runtime, "platform_pointers", lambda path: raises(OSError("libtbb.so.12 is missing")))
    found = discover(lambda: library(Platform("A", raw_device("c", CPU))))
    assert [device.name for device in found.devices] == ["c"]
    assert found.problems == ("intel-opencl-rt: libtbb.so.12 is missing",)


def test_a_preference_is_a_kind_or_part_of_a_name() -> None:
    gpu = device_info(name="Radeon", vendor="AMD", kind=Kind.GPU)
    cpu = device_info(name="pthread", platform="Portable Computing Language")
    assert matching([gpu, cpu], "") == [gpu, cpu]
    assert matching([gpu, cpu], "cpu") == [cpu]
    assert matching([gpu, cpu], "portable") == [cpu]
    assert matching([gpu, cpu], "amd") == [gpu]
    assert matching([gpu, cpu], "RADEON") == [gpu]
    assert matching([gpu, cpu], "nvidia") == []


@pytest.mark.device
def test_this_machine_describes_its_device(device: DeviceInfo) -> None:
    assert device in devices()
    assert device.name == device.name.strip() != ""
    assert device.compute_units >= 1
    assert device.memory_bytes >= device.allocation_bytes_max >= 2**20
    assert device.float_lanes >= 1
