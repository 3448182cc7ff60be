"""Devices and engines. Without a device the tests that need one skip, unless MESHNODE_REQUIRE_DEVICE=1."""

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

from kernels.device import DeviceInfo, discover
from kernels.tiling import GROUPS_TILING, Tiling, lanes_tiling

if TYPE_CHECKING:
    from kernels.opencl import OpenClEngine

# Each form of the kernels, at each vector width, with and without memory that host and device share.
WAYS: dict[str, tuple[Tiling, bool]] = {
    "lanes-16-shared": (lanes_tiling(16), True),
    "lanes-8": (lanes_tiling(8), False),
    "lanes-4": (lanes_tiling(4), False),
    "groups": (GROUPS_TILING, False),
}


def skip_or_fail(why: str) -> NoReturn:
    """What a missing device or tool does to a test."""
    if os.environ.get("MESHNODE_REQUIRE_DEVICE") == "1":
        pytest.fail(f"MESHNODE_REQUIRE_DEVICE=1, but {why}")
    pytest.skip(why)


@pytest.fixture(scope="session")
def device() -> DeviceInfo:
    """The best device of this machine."""
    found = discover()
    if not found.devices:
        skip_or_fail("; ".join(found.problems))
    return found.devices[0]


@pytest.fixture(scope="session")
def binaries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache directory that lasts for the run."""
    return tmp_path_factory.mktemp("binaries")


@pytest.fixture(scope="session", params=list(WAYS))
def engine(request: pytest.FixtureRequest, device: DeviceInfo, binaries: Path) -> Iterator["OpenClEngine"]:
    """An engine for each way of computing."""
    from kernels.opencl import OpenClEngine

    tiling, shared = WAYS[request.param]
    if tiling.dense_items > device.group_items_max:
        pytest.skip(f"groups of {tiling.dense_items} items are more than {device} has")
    way = dataclasses.replace(device, shared_memory=shared and device.shared_memory)
    opened = OpenClEngine(way, cache_dir=binaries, tiling=tiling, host_flop_max=-1)
    yield opened
    opened.close()


@pytest.fixture
def default_engine(device: DeviceInfo, binaries: Path) -> Iterator["OpenClEngine"]:
    """A new engine, as this device gets it; every batch goes to the device."""
    from kernels.opencl import OpenClEngine

    opened = OpenClEngine(device, cache_dir=binaries, host_flop_max=-1)
    yield opened
    opened.close()
