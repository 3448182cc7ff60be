"""Lets the simulator look for one mutant."""

import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.mutant import Mutant
from tests.mutants.tree import copy_of

FIRST_SEED = 1

TRIAL_S = 3600.0
"""How long a hunt of one level may take by the wall clock, on a machine that is busy with others."""

BROKEN = re.compile(r"^(core-error|harness)\b.*\b(NameError|ImportError|SyntaxError|TypeError|AttributeError)\b", re.S)
"""What a bad patch raises, rather than a node that is wrong."""

NOT_FORMED = "NotFormed"
"""The one failure of the harness that is the nodes' doing: without any fault they did not find together."""

_TRIAL = Path(__file__).with_name("trial.py")


class BadPatch(Exception):
    """A mutant does not run at all, or fails as only a bad patch does: it says nothing about the simulator."""


@dataclass(frozen=True, slots=True)
class Catch:
    """Where a hunt ended.

    Attributes:
        level, where: where the violation was found, or looked for last.
        invariant: the one that was broken; empty if the mutant survived.
        seed: that broke it.
        seeds: how many were tried at that level.
        seconds: of CPU, at that level.
        story: what was seen.
    """

    level: int
    where: str
    invariant: str
    seed: int
    seeds: int
    seconds: float
    story: str

    @property
    def is_caught(self) -> bool:
        return bool(self.invariant)


def hunt(mutant: Mutant, clean: Path, *, levels: tuple[int, ...], seeds: dict[int, int]) -> Catch:
    """Apply the mutant to a copy of the tree ``clean``, and look for it, level by level, until it is found.

    Args:
        seeds: how many to try at each level.

    Raises:
        StaleMutant: the catalogue does not fit the tree.
        BadPatch: the mutant is no mistake that a node can have; or the tree without it fails as well.
    """
    caught = Catch(mutant.level, "", "", 0, 0, 0.0, "")
    with tempfile.TemporaryDirectory(prefix=f"{mutant.name}-") as folder:
        tree = copy_of(clean, Path(folder))
        mutant.apply(tree)
        for level in levels:
            if level < mutant.level:
                continue
            caught = look(tree, level, mutant.where(level), FIRST_SEED, FIRST_SEED + seeds[level] - 1)
            if caught.is_caught:
                break
    if caught.is_caught:
        _check(mutant, clean, caught)
    return caught


def look(tree: Path, level: int, where: tuple[str, ...], first: int, last: int) -> Catch:
    """Try seeds in a process of its own that imports the tree. Raises BadPatch if it ends by an error."""
    command = [sys.executable, "-P", str(_TRIAL), str(tree), str(level), ",".join(where), str(first), str(last)]
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONHASHSEED": "0"}
    done = subprocess.run(command, env=environment, cwd=tree, capture_output=True, text=True, timeout=TRIAL_S)
    if done.returncode:
        raise BadPatch(done.stderr[-2000:])
    found = json.loads(done.stdout.splitlines()[-1])
    return Catch(
        level, found["where"] or ",".join(where), found["invariant"], found["seed"], found["seeds"], found["seconds"],
        found["story"],
    )  # fmt: skip


def _check(mutant: Mutant, clean: Path, caught: Catch) -> None:
    """See to it that it is the mutant that was found."""
    seen = f"{caught.invariant} {caught.story}"
    if BROKEN.search(seen) or (caught.invariant == "harness" and NOT_FORMED not in caught.story):
        raise BadPatch(f"{mutant.name}: {seen[-2000:]}")
    without = look(clean, caught.level, mutant.where(caught.level), caught.seed, caught.seed)
    if without.is_caught:
        raise BadPatch(f"seed {caught.seed} of the tree without {mutant.name} fails too: {without.story[:2000]}")
