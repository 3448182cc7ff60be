"""Copies of the packages, in which anything may be broken."""

import compileall
import py_compile
import shutil
from pathlib import Path

PACKAGES = ("consensus", "kernels", "meshnode", "simulations")

ROOT = Path(__file__).parents[2]


def copy_of_this_tree(to: Path) -> Path:
    """The packages as they are here, compiled so that a change is noticed by the content: times are too coarse."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, to / package, ignore=shutil.ignore_patterns("__pycache__"))
        mode = py_compile.PycInvalidationMode.CHECKED_HASH
        compileall.compile_dir(to / package, quiet=1, invalidation_mode=mode)
    return to


def copy_of(tree: Path, to: Path) -> Path:
    """Another copy of a copy."""
    for package in PACKAGES:
        shutil.copytree(tree / package, to / package)
    return to
