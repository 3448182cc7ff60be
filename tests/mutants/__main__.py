"""``python -m tests.mutants``: the scoreboard."""

import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from functools import partial
from pathlib import Path

import click

from tests.mutants.catalogue import MUTANTS
from tests.mutants.hunt import BadPatch, Catch, hunt
from tests.mutants.mutant import Mutant, StaleMutant
from tests.mutants.tree import copy_of_this_tree

GOAL = 0.9
"""The share of the mutants that has to be found."""

EASY_SEEDS = 10
"""Within which all easy ones have to be."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the scoreboard: what a hunt came to, or why there was none."""

    mutant: Mutant
    caught: Catch | None
    trouble: str = ""

    @property
    def is_good(self) -> bool:
        """Whether it was found, and in time."""
        caught = self.caught
        if caught is None or not caught.is_caught:
            return False
        return not self.mutant.is_easy or caught.seeds <= EASY_SEEDS

    @property
    def line(self) -> str:
        """For people."""
        name = f"{self.mutant.name:<42}"
        if self.caught is None:
            return f"{name} BAD PATCH  {self.trouble}"
        caught = self.caught
        where = f"level {caught.level} {caught.where}"
        effort = f"{caught.seeds:>5} seeds {caught.seconds:>8.1f} s"
        if not caught.is_caught:
            return f"{name} {'SURVIVED':<32} {where:<20} {effort}"
        note = "" if self.mutant.expects(caught.invariant) else "  (not what was expected)"
        note += "  (TOO LATE for an easy one)" if not self.is_good else ""
        return f"{name} {caught.invariant:<32} {where:<20} {effort}{note}"


def chosen(patterns: Sequence[str]) -> list[Mutant]:
    """The mutants with names that fit."""
    return [one for one in MUTANTS if not patterns or any(fnmatch(one.name, pattern) for pattern in patterns)]


def scoreboard(
    mutants: Sequence[Mutant], *, levels: tuple[int, ...], seeds: dict[int, int], jobs: int
) -> Iterator[Entry]:
    """Hunt them, some side by side; in their order."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        clean = copy_of_this_tree(Path(folder))
        with ThreadPoolExecutor(max_workers=jobs) as pool:
            yield from pool.map(partial(_entry, clean=clean, levels=levels, seeds=seeds), mutants)


def _entry(mutant: Mutant, *, clean: Path, levels: tuple[int, ...], seeds: dict[int, int]) -> Entry:
    try:
        return Entry(mutant, hunt(mutant, clean, levels=levels, seeds=seeds))
    except (BadPatch, StaleMutant) as error:
        return Entry(mutant, None, str(error))


@click.command()
@click.argument("patterns", nargs=-1)
@click.option("--levels", default="1,2", show_default=True, help="Which levels may look, lowest first.")
@click.option("--seeds", default=1000, show_default=True, help="At level 1.")
@click.option("--seeds-2", default=200, show_default=True, help="At level 2.")
@click.option("--jobs", default=1, show_default=True, help="Mutants side by side.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object in place of the scoreboard.")
def main(patterns: tuple[str, ...], levels: str, seeds: int, seeds_2: int, jobs: int, as_json: bool) -> None:
    """Hunt the mutants whose names fit PATTERNS, or all. Exits with 1 below the goal."""
    wanted = tuple(sorted({int(level) for level in levels.split(",")}))
    mutants = [mutant for mutant in chosen(patterns) if mutant.level <= wanted[-1]]
    if not mutants:
        raise click.UsageError(f"no mutant of level {levels} is named {' or '.join(patterns) or 'anything'}")
    entries = []
    for entry in scoreboard(mutants, levels=wanted, seeds={1: seeds, 2: seeds_2}, jobs=jobs):
        entries.append(entry)
        if not as_json:
            click.echo(entry.line)
    found = [entry for entry in entries if entry.caught is not None and entry.caught.is_caught]
    late = [entry.mutant.name for entry in entries if entry.mutant.is_easy and not entry.is_good]
    bad = [entry.mutant.name for entry in entries if entry.caught is None]
    if as_json:
        click.echo(json.dumps(_as_object(entries)))
    else:
        seconds = sum(entry.caught.seconds for entry in entries if entry.caught is not None)
        click.echo(f"{len(found)} of {len(entries)} found, {len(found) / len(entries):.0%}, in {seconds:.0f} s of CPU")
        if late:
            click.echo(f"easy, and not found within {EASY_SEEDS} seeds: {', '.join(late)}")
    sys.exit(0 if not late and not bad and len(found) >= GOAL * len(entries) else 1)


def _as_object(entries: Sequence[Entry]) -> dict[str, object]:
    return {
        "mutants": [
            {
                "name": entry.mutant.name,
                "wrong": entry.mutant.wrong,
                "is_easy": entry.mutant.is_easy,
                "trouble": entry.trouble,
                **({} if entry.caught is None else asdict(entry.caught)),
            }
            for entry in entries
        ],
        "found": sum(entry.caught is not None and entry.caught.is_caught for entry in entries),
        "total": len(entries),
    }


if __name__ == "__main__":
    main()
