"""The build of a wheel; with ``MESHNODE_COMPILE=1`` cores are compiled into it (`make compiled`).

The code is the same: mypyc makes C of it, and holds it to its types. What drives the cores stays as it is.
"""

import os
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOMS = {
    "membership": ("detector", "gossip", "probe", "roster", "seeds", "suspicion", "swim", "sync", "view"),
    "partitions": ("confirmation", "core", "log", "partition", "primary", "replica", "retention", "takeover"),
}
"""The cores of `meshnode`'s rooms that each message passes through. What is sent stays as it is: `meshnode.wire` needs
classes of Python."""


class CompileCores(BuildHookInterface):  # type: ignore[type-arg]
    """Compiles all of `consensus` that does not know trio, and the cores of `ROOMS`."""

    @property
    def _is_wanted(self) -> bool:
        return self.target_name == "wheel" and os.environ.get("MESHNODE_COMPILE") == "1"

    def dependencies(self) -> list[str]:
        """What the build needs beside its own requirements."""
        return ["crc32c>=2.7,<3", "mypy>=2.0,<3", "setuptools>=75"] if self._is_wanted else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Before the wheel is packed: compile, and put what was made beside the sources."""
        if version == "editable" or not self._is_wanted:
            return
        from mypyc.build import mypycify
        from setuptools import Distribution
        from setuptools.command.build_ext import build_ext

        os.chdir(self.root)
        sources = sorted(str(path) for path in Path("consensus").glob("[!_]*.py") if not _knows_trio(path))
        sources += [f"meshnode/{room}/{name}.py" for room, names in ROOMS.items() for name in names]
        extensions = mypycify(["--ignore-missing-imports", *sources], opt_level="3")
        command = build_ext(Distribution({"name": "meshnode", "ext_modules": extensions}))
        command.build_lib, command.build_temp = "build/compiled", "build/objects"
        command.ensure_finalized()
        command.run()
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        for path in command.get_outputs():
            build_data["force_include"][path] = os.path.relpath(path, command.build_lib)


def _knows_trio(path: Path) -> bool:
    return "import trio" in path.read_text(encoding="utf-8")
