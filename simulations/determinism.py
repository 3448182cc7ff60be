"""Whether runs repeat themselves: the same seeds in two processes with other hash seeds."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

HASH_SEEDS = ("1", "2")


@dataclass(frozen=True, slots=True)
class Difference:
    """Two runs of one plan that were not the same.

    Attributes:
        what: the seed, and the world if it has several.
        line: the number of the first line of their traces that differs, counted from 1; 0 if none does.
        first, second: what the traces say there; empty past the end of one.
    """

    what: str
    line: int
    first: str
    second: str

    def __str__(self) -> str:
        if not self.line:
            return f"{self.what}: {self.first!r} and then {self.second!r}, though the traces are the same"
        ends = "(this trace ends before it)"
        return f"{self.what}: from line {self.line} on\n  {self.first or ends}\n  {self.second or ends}"


class ProcessFailed(Exception):
    """One of the two processes ended by an error."""


def differences(seeds: str, options: Sequence[str]) -> list[Difference]:
    """Run the seeds in two processes, and say where runs differ first.

    Args:
        seeds: A:B.
        options: of `run`, which say what a seed is.

    Raises:
        ProcessFailed: see there.
    """
    outputs = [_lines(["digests", "--seeds", seeds, *options], hash_seed) for hash_seed in HASH_SEEDS]
    found = []
    for first, second in zip_longest(*outputs, fillvalue=""):
        if first != second:
            what = (first or second).rpartition(" ")[0]
            found.append(_where(what, first, second, options))
    return found


def _where(what: str, first: str, second: str, options: Sequence[str]) -> Difference:
    seed, *world = what.split()
    chosen = [*options, *(["--world", *world] if world else [])]
    with tempfile.TemporaryDirectory() as folder:
        traces = [Path(folder) / hash_seed for hash_seed in HASH_SEEDS]
        for trace, hash_seed in zip(traces, HASH_SEEDS, strict=True):
            _lines(["digests", "--seeds", seed, *chosen, "--trace", str(trace)], hash_seed)
        with traces[0].open() as one, traces[1].open() as other:
            for number, (line, twin) in enumerate(zip_longest(one, other, fillvalue=""), 1):
                if line != twin:
                    return Difference(what, number, line.rstrip("\n"), twin.rstrip("\n"))
    return Difference(what, 0, first, second)


def _lines(arguments: list[str], hash_seed: str) -> list[str]:
    command = [sys.executable, "-m", "simulations", *arguments]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ProcessFailed(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout.splitlines()
