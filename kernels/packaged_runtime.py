"""Intel's CPU runtime, when it was installed as a Python package.

The packages `intel-opencl-rt` and `intel-cmplr-lib-rt` bring the driver, but the `.icd` files among them name a path
that does not exist, so the OpenCL loader never finds it. The driver is opened here by its own path instead, and asked
for its platforms through the entry point that the loader would use: clIcdGetPlatformIDsKHR of cl_khr_icd, found with
clGetExtensionFunctionAddress as that extension demands.
"""

import ctypes
import importlib.metadata
from pathlib import Path
from typing import Final

DISTRIBUTION: Final = "intel-opencl-rt"
_LIBRARY: Final = "libintelocl.so"
# More than one runtime ever has; a count beyond it means that the call did not do what its name says.
_PLATFORMS_MAX: Final = 16

# cl_int clIcdGetPlatformIDsKHR(cl_uint num_entries, cl_platform_id *platforms, cl_uint *num_platforms)
GetPlatforms = ctypes.CFUNCTYPE(
    ctypes.c_int32, ctypes.c_uint32, ctypes.POINTER(ctypes.c_void_p), ctypes.POINTER(ctypes.c_uint32)
)


def library_path() -> Path | None:
    """Where the installed package keeps the driver, or None when it is not installed."""
    try:
        files = importlib.metadata.files(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    for file in files:
        path = Path(str(file.locate()))
        if file.name == _LIBRARY and path.is_file():
            return path.resolve()
    return None


def platform_pointers(library: Path) -> list[int]:
    """The platforms of the driver in `library`, as `cl_platform_id` pointers.

    The library stays loaded for the life of the process. Raises OSError when it cannot be opened or has no platform.
    """
    driver = ctypes.CDLL(str(library))
    try:
        look_up = driver.clGetExtensionFunctionAddress
    except AttributeError:
        raise OSError(f"{library} has no clGetExtensionFunctionAddress: it is no OpenCL driver") from None
    look_up.argtypes = [ctypes.c_char_p]
    look_up.restype = ctypes.c_void_p
    address = look_up(b"clIcdGetPlatformIDsKHR")
    if not address:
        raise OSError(f"{library} has no clIcdGetPlatformIDsKHR: it cannot be used beside another driver")
    get_platforms = GetPlatforms(address)
    found = (ctypes.c_void_p * _PLATFORMS_MAX)()
    count = ctypes.c_uint32()
    status = get_platforms(_PLATFORMS_MAX, found, ctypes.byref(count))
    if status != 0:
        raise OSError(f"{library}: clIcdGetPlatformIDsKHR failed with {status}")
    return [pointer for pointer in found[: min(count.value, _PLATFORMS_MAX)] if pointer]
