"""The program of a device: compiled once a process, its binary kept on disk between processes."""

import hashlib
import threading
import warnings
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyopencl

from kernels.binary_cache import BinaryCache
from kernels.device import DeviceInfo
from kernels.errors import DeviceError
from kernels.source import OPTIONS, program_source, source_digest
from kernels.tiling import Tiling

cl: Any = pyopencl  # half of what is used here has no types

# The first lines of a compiler's log name the cause; a log can be megabytes.
LOG_LINES_MAX: Final = 5

_DENSE: Final = [None] * 4 + [np.uint32] * 6
_CHAIN: Final = [None] * 4 + [np.uint32] * 5 + [None]
_SOFTMAX: Final = [None] * 2 + [np.uint32] * 3
_ARGMAX: Final = [None] * 2 + [np.uint32] * 2


class Origin(Enum):
    """Where a program came from."""

    COMPILED = "compiled"
    DISK = "disk"


@dataclass(frozen=True, slots=True)
class Program:
    """A program ready to run on one device. Launches go through `kernels()`, one set for each user of the program."""

    device: DeviceInfo
    tiling: Tiling
    origin: Origin
    context: Any = field(repr=False)
    built: Any = field(repr=False)

    def kernels(self) -> dict[str, Any]:
        """A fresh kernel object for every name: an OpenCL kernel object keeps its arguments, so that two users cannot
        share one. Raises pyopencl.Error when the program lacks a kernel."""
        signatures = {"softmax": _SOFTMAX, "argmax": _ARGMAX}
        signatures |= {f"dense_{rows}": _DENSE for rows in self.tiling.dense_rows}
        signatures |= {f"chain_{rows}": _CHAIN for rows in self.tiling.chain_rows}
        kernels = {}
        for name, signature in signatures.items():
            kernels[name] = cl.Kernel(self.built, name)
            kernels[name].set_scalar_arg_dtypes(signature)
        return kernels


# Compiling takes up to seconds and a context megabytes, so a process keeps each program it made. As many entries as
# the machine has devices, times the two forms. By the device's own pointer: two equal devices differ in nothing else,
# and neither can use the other's context.
_programs: dict[tuple[int, Tiling], Program] = {}
_programs_lock = threading.Lock()


def program_for(device: DeviceInfo, tiling: Tiling, cache_dir: Path | None) -> Program:
    """The process's program for the device, built if this is the first call.

    `cache_dir` holds binaries between processes; None compiles anew in each. Raises DeviceError with the first lines
    of the compiler's log.
    """
    key = (device.handle.int_ptr, tiling)
    with _programs_lock:
        known = _programs.get(key)
        if known is None:
            known = _programs[key] = build(device, tiling, cache_dir)
        return known


def forget(program: Program) -> None:
    """Build anew when the device is wanted again: after a failure its context may be lost."""
    with _programs_lock:
        for key in [key for key, known in _programs.items() if known is program]:
            del _programs[key]


def build(device: DeviceInfo, tiling: Tiling, cache_dir: Path | None, *, source: str | None = None) -> Program:
    """Build a program of `source`, by default that of the tiling, from disk or else from its text.

    Raises DeviceError with the first lines of the compiler's log.
    """
    text = program_source(tiling) if source is None else source
    _let_warnings_pass()
    try:
        context = cl.Context([device.handle])
    except cl.Error as error:
        raise DeviceError(f"no context on {device}: {_first_lines(str(error))}") from error
    if cache_dir is None:
        return Program(device, tiling, Origin.COMPILED, context, _compile(context, device, text))

    cache = BinaryCache(cache_dir)
    key = cache_key(device, text)
    # Also to read a binary takes the lock: PoCL 3.1 unpacks it into a cache of its own, and was seen to abort a process
    # there while others built the same program.
    with cache.building(key):
        program = _from_disk(cache, key, context, device, tiling)
        if program is None:
            program = Program(device, tiling, Origin.COMPILED, context, _compile(context, device, text))
            _keep(cache, key, program)
    return program


def cache_key(device: DeviceInfo, source: str) -> str:
    """Hex digest of all that a binary depends on: the device, the driver, the text and the options."""
    parts = (device.platform, device.platform_version, device.name, device.vendor, device.driver_version)
    return hashlib.sha256("\0".join((*parts, source_digest(source))).encode()).hexdigest()


def _from_disk(cache: BinaryCache, key: str, context: Any, device: DeviceInfo, tiling: Tiling) -> Program | None:
    """The cached program, or None when there is none or the driver will not have it."""
    binary = cache.get(key)
    if binary is None:
        return None
    try:
        built = cl.Program(context, [device.handle], [binary]).build(options=list(OPTIONS))
        program = Program(device, tiling, Origin.DISK, context, built)
        program.kernels()
    except cl.Error:
        return None
    return program


def _compile(context: Any, device: DeviceInfo, source: str) -> Any:
    # Compile and link rather than build: pyopencl's build keeps a cache of its own in the home directory and leaves
    # the text of a failed build in the temporary directory.
    text = cl.Program(context, source)
    try:
        return cl.link_program(context, [text.compile(options=list(OPTIONS))])
    except cl.Error as error:
        raise DeviceError(f"build failed: {_first_lines(_build_log(text, device) or str(error))}") from error


def _build_log(text: Any, device: DeviceInfo) -> str:
    """What the compiler said; empty when the driver cannot tell, or tells it in no known encoding."""
    try:
        return str(text.get_build_info(device.handle, cl.program_build_info.LOG))
    except (cl.Error, UnicodeDecodeError):
        return ""


def _keep(cache: BinaryCache, key: str, program: Program) -> None:
    try:
        binary = program.built.get_info(cl.program_info.BINARIES)[0]
    except cl.Error:
        return  # a driver that cannot hand out binaries compiles each time
    cache.put(key, bytes(binary))


def _let_warnings_pass() -> None:
    """Two remarks of pyopencl that are no news here: a compiler that says something, and a compilation without
    pyopencl's own cache. Called before each build, since the program around may have reset its filters."""
    warnings.filterwarnings("ignore", "Non-empty compiler output encountered", UserWarning)
    warnings.filterwarnings("ignore", "Pre-build attribute access defeats compiler caching", UserWarning)


def _first_lines(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return " | ".join(lines[:LOG_LINES_MAX]) or "the compiler gave no reason"
