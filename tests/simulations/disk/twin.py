"""What a power loss may leave, worked out the long way: each state of a file is kept whole, each set of names tried."""

import itertools
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class TwinFile:
    """A file: its bytes on the medium, and what was done to it since, in order: bytes appended, or a size cut to."""

    durable: bytes = b""
    done: list[bytes | int] = field(default_factory=list)

    @property
    def cached(self) -> bytes:
        return self._histories()[-1][-1]

    def sync(self) -> None:
        self.durable, self.done = self.cached, []

    def may_be(self, found: bytes, sector_bytes: int) -> bool:
        """Whether a power loss may leave these bytes."""
        histories = self._histories()
        return any(self._may_be(found, histories[: committed + 1], sector_bytes) for committed in range(len(histories)))

    def outcomes(self, sector_bytes: int) -> set[bytes]:
        """All that a power loss may leave. For files of a few sectors."""
        histories = self._histories()
        found: set[bytes] = set()
        for committed in range(len(histories)):
            shown = histories[: committed + 1]
            sizes = self._sizes(shown[-1], sector_bytes)
            sectors = range(-(-max(sizes) // sector_bytes))
            choices = [sorted(self._sector(shown, sector, sector_bytes)) for sector in sectors]
            for chosen in itertools.product(*choices):
                found.update(b"".join(chosen)[:size] for size in sizes)
        return found

    def _histories(self) -> list[list[bytes]]:
        """The file after each thing that was done to it; each cut begins another list."""
        histories = [[self.durable]]
        for step in self.done:
            last = histories[-1][-1]
            if isinstance(step, int):
                histories.append([last[:step]])
            else:
                histories[-1].append(last + step)
        return histories

    def _may_be(self, found: bytes, histories: list[list[bytes]], sector_bytes: int) -> bool:
        if len(found) not in self._sizes(histories[-1], sector_bytes):
            return False
        for sector in range(-(-len(found) // sector_bytes)):
            here = found[sector * sector_bytes : (sector + 1) * sector_bytes]
            if here not in {version[: len(here)] for version in self._sector(histories, sector, sector_bytes)}:
                return False
        return True

    def _sizes(self, history: list[bytes], sector_bytes: int) -> set[int]:
        least, most = len(history[0]), len(history[-1])
        return {*map(len, history), *(size for size in range(least, most) if size % sector_bytes == 0)}

    def _sector(self, histories: list[list[bytes]], sector: int, sector_bytes: int) -> set[bytes]:
        begin, end = sector * sector_bytes, (sector + 1) * sector_bytes
        versions: set[bytes] = set()
        for history in histories:
            cut = len(history[0])
            kept = {version[: max(cut - begin, 0)] for version in versions}
            versions = {version.ljust(sector_bytes, b"\0") for version in kept}
            versions |= {state[begin:end].ljust(sector_bytes, b"\0") for state in history}
        return versions


@dataclass
class TwinNames:
    """The names of a disk whose directories are never moved: paths, and the number of the file behind each."""

    durable: dict[str, int] = field(default_factory=dict)
    cached: dict[str, int] = field(default_factory=dict)
    pending: list[dict[str, int | None]] = field(default_factory=list)

    def change(self, edits: dict[str, int | None]) -> None:
        self.pending.append(edits)
        _apply(self.cached, edits)

    def sync(self, directory: str) -> None:
        """Make what concerns the directory durable, and what that builds on."""
        due: set[int] = set()
        for number, edits in reversed(list(enumerate(self.pending))):
            in_it = any(posixpath.dirname(path) == directory for path in edits)
            if in_it or any(edits.keys() & self.pending[later].keys() for later in due):
                due.add(number)
        for number in sorted(due):
            _apply(self.durable, self.pending[number])
        self.pending = [edits for number, edits in enumerate(self.pending) if number not in due]

    def outcomes(self) -> Iterator[dict[str, int]]:
        """All that a power loss may leave."""
        for happened in itertools.product((False, True), repeat=len(self.pending)):
            if any(
                happened[later] and not happened[earlier] and self.pending[earlier].keys() & self.pending[later].keys()
                for earlier, later in itertools.combinations(range(len(happened)), 2)
            ):
                continue
            names = dict(self.durable)
            for edits, it_did in zip(self.pending, happened, strict=True):
                if it_did:
                    _apply(names, edits)
            yield {path: number for path, number in names.items() if _is_reached(names, path)}


def _apply(names: dict[str, int], edits: dict[str, int | None]) -> None:
    for path, number in edits.items():
        if number is None:
            names.pop(path, None)
        else:
            names[path] = number


def _is_reached(names: dict[str, int], path: str) -> bool:
    parent = posixpath.dirname(path)
    return not parent or (parent in names and _is_reached(names, parent))
