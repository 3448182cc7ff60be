"""Which OpenCL devices this machine has, and if none, why."""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from kernels import packaged_runtime

NO_PYOPENCL: Final = "pyopencl not installed: install the opencl extra"
NO_PLATFORM: Final = "no platform: install a driver, e.g. Debian pocl-opencl-icd, or the opencl-cpu extra"


class Kind(Enum):
    """What a device is, best first."""

    GPU = "gpu"
    ACCELERATOR = "accelerator"
    CPU = "cpu"
    OTHER = "other"


_RANK: Final = {kind: rank for rank, kind in enumerate(Kind)}


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """One device. `shared_memory`: host and device may both touch an allocation without mapping it (OpenCL 2.0, fine-
    grained buffer SVM) and it is the same memory. `handle` is pyopencl's device."""

    name: str
    vendor: str
    platform: str
    platform_version: str
    driver_version: str
    kind: Kind
    compute_units: int
    memory_bytes: int
    allocation_bytes_max: int
    local_memory_bytes: int
    group_items_max: int
    float_lanes: int
    shared_memory: bool
    handle: Any = field(repr=False, compare=False)

    def __str__(self) -> str:
        return f"{self.name} on {self.platform} (driver {self.driver_version})"


@dataclass(frozen=True, slots=True)
class Discovery:
    """Devices, best first, and why there are no others."""

    devices: tuple[DeviceInfo, ...]
    problems: tuple[str, ...]


def devices() -> list[DeviceInfo]:
    """Every usable device, best first: GPUs, then accelerators, then CPUs. Never raises on a broken driver."""
    return list(discover().devices)


def discover(library: Callable[[], Any] | None = None) -> Discovery:
    """Look at every device of every platform.

    `library` imports pyopencl; None means the installed one. A driver that fails is named in `problems` and skipped.
    """
    try:
        cl = (library or _import_pyopencl)()
    except ModuleNotFoundError as error:
        missing = NO_PYOPENCL if error.name == "pyopencl" else f"pyopencl cannot be imported: {_first_line(error)}"
        return Discovery((), (missing,))
    except (ImportError, OSError, RuntimeError) as error:
        return Discovery((), (f"pyopencl cannot be imported: {_first_line(error)}",))

    problems: list[str] = []
    platforms = _platforms(cl, problems)
    if not platforms and not problems:
        problems.append(NO_PLATFORM)
    found: list[DeviceInfo] = []
    for platform in platforms:
        try:
            found += [_describe(cl, platform, handle) for handle in platform.get_devices()]
        except cl.Error as error:
            problems.append(f"platform {_name(cl, platform)}: {_first_line(error)}")
    if platforms and not found and not problems:
        names = ", ".join(_name(cl, platform) for platform in platforms)
        problems.append(f"no device on platform {names}: is the driver's device accessible to this user?")
    found.sort(key=lambda device: _RANK[device.kind])
    return Discovery(tuple(found), tuple(problems))


def matching(candidates: Sequence[DeviceInfo], preference: str) -> list[DeviceInfo]:
    """The devices whose kind is `preference`, or whose name, vendor or platform contains it, letter case aside; all of
    them for an empty preference. The order stays."""
    wanted = preference.casefold()
    return [
        device
        for device in candidates
        if wanted == device.kind.value
        or any(wanted in text.casefold() for text in (device.name, device.vendor, device.platform))
    ]


def _import_pyopencl() -> Any:
    return importlib.import_module("pyopencl")


def _platforms(cl: Any, problems: list[str]) -> list[Any]:
    """The packaged runtime's platforms first: whoever installed it did so to have it used."""
    listed: list[Any] = []
    try:
        listed = list(cl.get_platforms())
    except cl.Error as error:
        # The loader answers PLATFORM_NOT_FOUND_KHR instead of an empty list (cl_khr_icd).
        if "PLATFORM_NOT_FOUND" not in str(error):
            problems.append(f"the OpenCL loader failed: {_first_line(error)}")
    path = packaged_runtime.library_path()
    if path is None:
        return listed
    try:
        packaged = [cl.Platform.from_int_ptr(pointer) for pointer in packaged_runtime.platform_pointers(path)]
    except (OSError, cl.Error) as error:
        problems.append(f"{packaged_runtime.DISTRIBUTION}: {_first_line(error)}")
        return listed
    known = {_name(cl, platform) for platform in listed}
    return [platform for platform in packaged if _name(cl, platform) not in known] + listed


def _describe(cl: Any, platform: Any, handle: Any) -> DeviceInfo:
    kind = _kind(cl, handle.type)
    return DeviceInfo(
        name=handle.name.strip(),
        vendor=handle.vendor.strip(),
        platform=platform.name.strip(),
        platform_version=platform.version.strip(),
        driver_version=handle.driver_version.strip(),
        kind=kind,
        compute_units=handle.max_compute_units,
        memory_bytes=handle.global_mem_size,
        allocation_bytes_max=handle.max_mem_alloc_size,
        local_memory_bytes=handle.local_mem_size,
        group_items_max=handle.max_work_group_size,
        float_lanes=handle.native_vector_width_float,
        shared_memory=kind is Kind.CPU and _has_fine_grained_memory(cl, handle),
        handle=handle,
    )


def _kind(cl: Any, bits: int) -> Kind:
    if bits & cl.device_type.GPU:
        return Kind.GPU
    if bits & cl.device_type.ACCELERATOR:
        return Kind.ACCELERATOR
    if bits & cl.device_type.CPU:
        return Kind.CPU
    return Kind.OTHER


def _has_fine_grained_memory(cl: Any, handle: Any) -> bool:
    try:
        return bool(handle.svm_capabilities & cl.device_svm_capabilities.FINE_GRAIN_BUFFER)
    except (cl.Error, AttributeError):
        return False  # a driver older than OpenCL 2.0 does not know the question


def _name(cl: Any, platform: Any) -> str:
    try:
        return str(platform.name).strip()
    except cl.Error:
        return "without a name"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
