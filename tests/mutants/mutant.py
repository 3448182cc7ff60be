"""One mistake, and how it gets into a tree."""

from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

CRASHES = ("core-error", "node-crash")
"""How an assertion in the node shows at level 1 and at level 2."""


class StaleMutant(Exception):
    """The text that a mutant replaces is not there exactly once: the catalogue must follow the code."""


@dataclass(frozen=True, slots=True)
class Edit:
    """Puts ``new`` in the place of ``old``, which stands in ``file`` exactly once.

    Attributes:
        file: relative to the root of the tree.
    """

    file: str
    old: str
    new: str

    def applied(self, text: str) -> str:
        """The file's text with the mistake. Raises StaleMutant."""
        if (count := text.count(self.old)) != 1:
            raise StaleMutant(f"{self.file} has {count} times, and not once: {self.old!r}")
        return text.replace(self.old, self.new)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One mistake.

    Attributes:
        name: for people; unique.
        wrong: what is wrong, in a sentence.
        edits: what makes it so; most mistakes take one.
        worlds: of level 1, that may find it. Without any, only whole nodes can.
        workloads: of whole nodes, that may find it, in turns.
        invariants: patterns of those that may catch it. That an assertion of the node's may, goes without saying.
        is_easy: found within ten seeds.
    """

    name: str
    wrong: str
    edits: tuple[Edit, ...]
    worlds: tuple[str, ...] = ()
    workloads: tuple[str, ...] = ("counter", "kv")
    invariants: tuple[str, ...]
    is_easy: bool = False

    @property
    def level(self) -> int:
        """The lowest level that can find it."""
        return 1 if self.worlds else 2

    def where(self, level: int) -> tuple[str, ...]:
        """The worlds or workloads of the level that may find it."""
        return self.worlds if level == 1 else self.workloads

    def expects(self, invariant: str) -> bool:
        """Whether this is a way in which the mistake may show."""
        return any(fnmatch(invariant, pattern) for pattern in (*self.invariants, *CRASHES))

    def apply(self, root: Path) -> None:
        """Make the mistake in the tree at ``root``. Raises StaleMutant; some files may have been changed then."""
        for edit in self.edits:
            path = root / edit.file
            path.write_text(edit.applied(path.read_text()))
