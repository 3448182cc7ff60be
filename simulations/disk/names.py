"""The names in the directories: as processes see them, and as they are on the medium.

A name is durable once its directory is synced, whether or not the file behind it was, and whether or not the directory
has a durable name itself: what cannot be reached from the root after a power loss is gone.

Of the changes that were not synced, each may have happened or not, for itself. What a journalled file system guarantees
all the same:

- A change happens as a whole or not at all: a rename never leaves both names, none, or the replaced file half gone.
- Changes of the same name happen in their order: one that is lost takes the later ones with it. So a file that was made
  and then renamed is there under its first name, its second, or not at all.
- A sync of a directory carries with it the earlier changes, also in other directories, that its own depend on by that.
"""

import errno
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from simulations.disk.content import Content

PENDING_MAX: Final = 1024
"""Changes that wait for a sync. Before one more, the oldest goes to the medium: a kernel writes back after a while."""


@dataclass(eq=False, slots=True)
class Directory:
    """A directory: its names now, and those on the medium."""

    entries: "dict[str, Node]" = field(default_factory=dict)
    durable: "dict[str, Node]" = field(default_factory=dict)


Node: TypeAlias = Content | Directory


@dataclass(frozen=True, slots=True)
class Edit:
    """A name that gets another meaning, or none."""

    directory: Directory
    name: str
    node: Node | None

    @property
    def place(self) -> tuple[int, str]:
        """Equal for edits of the same name. Never ordered by, so that no address of an object decides anything."""
        return id(self.directory), self.name


Change: TypeAlias = tuple[Edit, ...]
"""Edits that happen together."""


class Names:
    """A tree of directories and files."""

    def __init__(self) -> None:
        self.root = Directory()
        self._pending: list[Change] = []

    # ---- looking

    def find(self, path: str) -> Node | None:
        """What is at a path; None if nothing.

        Raises:
            ValueError: the path is not made of plain names.
        """
        node: Node = self.root
        for name in _parts(path):
            if not isinstance(node, Directory) or name not in node.entries:
                return None
            node = node.entries[name]
        return node

    def file(self, path: str) -> Content:
        """The file at a path.

        Raises:
            FileNotFoundError: there is nothing.
            IsADirectoryError: there is a directory.
        """
        node = self.find(path)
        if node is None:
            raise _missing(path)
        if isinstance(node, Directory):
            raise IsADirectoryError(errno.EISDIR, "is a directory", path)
        return node

    def directory(self, path: str) -> Directory:
        """The directory at a path.

        Raises:
            FileNotFoundError: there is nothing.
            NotADirectoryError: there is a file.
        """
        node = self.find(path)
        if node is None:
            raise _missing(path)
        if not isinstance(node, Directory):
            raise NotADirectoryError(errno.ENOTDIR, "not a directory", path)
        return node

    def files(self) -> Iterator[tuple[str, Content]]:
        """The files with their paths, in the order of the paths."""
        yield from _walk("", self.root)

    # ---- changing

    def add(self, path: str, content: Content) -> None:
        """Give a file a name that is free. Raises as `directory` does, of the parent."""
        parent, name = self._parent(path)
        self._change(Edit(parent, name, content))

    def make_directory(self, path: str) -> None:
        """Make a directory and its parents, unless they are there.

        Raises:
            FileExistsError, NotADirectoryError: a file is in the way.
        """
        directory = self.root
        parts = _parts(path)
        for number, name in enumerate(parts):
            node = directory.entries.get(name)
            if node is None:
                node = Directory()
                self._change(Edit(directory, name, node))
            elif not isinstance(node, Directory):
                if number + 1 < len(parts):
                    raise NotADirectoryError(errno.ENOTDIR, "not a directory", path)
                raise FileExistsError(errno.EEXIST, "file exists", path)
            directory = node

    def remove(self, path: str) -> Content:
        """Take the file at a path away. Raises as `file` does."""
        content = self.file(path)
        parent, name = self._parent(path)
        self._change(Edit(parent, name, None))
        return content

    def rename(self, old: str, new: str) -> Content | None:
        """Move a file or directory, in one step. The file that it replaces.

        Raises:
            FileNotFoundError: there is nothing at ``old``, or no directory for ``new``.
            OSError: a directory would replace a file, or the reverse, or what is in a directory, or move into itself.
        """
        node = self.find(old)
        if node is None:
            raise _missing(old)
        old_parent, old_name = self._parent(old)
        new_parent, new_name = self._parent(new)
        replaced = new_parent.entries.get(new_name)
        if replaced is node:
            return None
        if isinstance(node, Directory):
            if _parts(new)[: len(_parts(old))] == _parts(old):
                raise OSError(errno.EINVAL, "a directory does not fit into itself", old, None, new)
            if isinstance(replaced, Content):
                raise NotADirectoryError(errno.ENOTDIR, "not a directory", new)
            if replaced is not None and replaced.entries:
                raise OSError(errno.ENOTEMPTY, "directory not empty", new)
        elif isinstance(replaced, Directory):
            raise IsADirectoryError(errno.EISDIR, "is a directory", new)
        self._change(Edit(old_parent, old_name, None), Edit(new_parent, new_name, node))
        return replaced if isinstance(replaced, Content) else None

    def sync(self, path: str) -> None:
        """Make the names in a directory durable. Raises as `directory` does."""
        directory = self.directory(path)
        kept: list[Change] = []
        due: list[Change] = []
        places: set[tuple[int, str]] = set()
        for change in reversed(self._pending):
            if any(edit.directory is directory or edit.place in places for edit in change):
                places.update(edit.place for edit in change)
                due.append(change)
            else:
                kept.append(change)
        for change in reversed(due):
            _carry_out(change)
        self._pending = kept[::-1]

    def lose_power(self, rng: random.Random, *, in_order: bool = False) -> int:
        """Leave what the medium has, as one of the outcomes that the module allows. How many changes were lost."""
        share = rng.choice((0.0, rng.random(), 1.0))
        lost: set[tuple[int, str]] = set()
        losses = 0
        for change in self._pending:
            arrived = rng.random() < share
            if arrived and not (in_order and losses) and not any(edit.place in lost for edit in change):
                _carry_out(change)
            else:
                lost.update(edit.place for edit in change)
                losses += 1
        self._pending.clear()
        _show_durable(self.root)
        return losses

    def _parent(self, path: str) -> tuple[Directory, str]:
        *parents, name = _parts(path) or [""]
        if not name:
            raise OSError(errno.EBUSY, "the root of the disk stays as it is", path)
        return self.directory("/".join(parents)), name

    def _change(self, *edits: Edit) -> None:
        for edit in edits:
            if edit.node is None:
                del edit.directory.entries[edit.name]
            else:
                edit.directory.entries[edit.name] = edit.node
        if len(self._pending) == PENDING_MAX:
            _carry_out(self._pending.pop(0))
        self._pending.append(edits)


def _parts(path: str) -> list[str]:
    if not path:
        return []
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise ValueError(
            f"{path!r} is no path on a disk: give plain names separated by '/', from the root of the disk on"
        )
    return parts


def _missing(path: str) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, "no such file or directory", path)


def _carry_out(change: Change) -> None:
    for edit in change:
        if edit.node is None:
            edit.directory.durable.pop(edit.name, None)
        else:
            edit.directory.durable[edit.name] = edit.node


def _walk(path: str, directory: Directory) -> Iterator[tuple[str, Content]]:
    for name, node in sorted(directory.entries.items()):
        below = f"{path}/{name}" if path else name
        if isinstance(node, Content):
            yield below, node
        else:
            yield from _walk(below, node)


def _show_durable(directory: Directory) -> None:
    directory.entries = dict(directory.durable)
    for node in directory.entries.values():
        if isinstance(node, Directory):
            _show_durable(node)
