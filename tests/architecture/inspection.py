"""Reads source code for what it takes from outside."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.architecture.allowlist import (
    BUILTINS,
    EXCEPTIONS,
    OUTSIDE,
    ROOMS,
    WAYS_OUT,
    is_allowed,
    is_partly_allowed,
    way_out,
)


@dataclass(frozen=True, slots=True)
class Finding:
    """A use of something that is not allowed where it is."""

    path: str
    line: int
    what: str
    instead: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.what}: {self.instead}"


@dataclass
class Inspection(ast.NodeVisitor):
    """Walks one file.

    Attributes:
        findings: what is not allowed.
        excepted: the exceptions of `EXCEPTIONS` that the file made use of.
    """

    path: str
    findings: list[Finding] = field(default_factory=list)
    excepted: set[tuple[str, str]] = field(default_factory=set)
    _names: dict[str, str] = field(default_factory=dict)
    """What each imported name of the file stands for, dotted."""

    # ---- imports

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            bound = alias.asname or alias.name.split(".")[0]
            self._names[bound] = alias.name if alias.asname else bound
            if not is_partly_allowed(alias.name):
                self._use(alias.name, node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.level or node.module is None:
            self._found(node, "a relative import", "name the module in full")
            return
        for alias in node.names:
            name = f"{node.module}.{alias.name}"
            self._names[alias.asname or alias.name] = name
            if not is_partly_allowed(name):
                self._use(name, node)

    # ---- uses

    def visit_Attribute(self, node: ast.Attribute) -> None:
        name = self._dotted(node)
        if name is None:
            self.generic_visit(node)
        elif isinstance(node.ctx, ast.Load):
            self._use(name, node)
        else:
            self._found(node, f"{name} is assigned to", WAYS_OUT["code"])

    def visit_Name(self, node: ast.Name) -> None:
        if node.id in self._names:
            # Imported by its own name it was looked at there; a module may hide anything, if it is passed around.
            if not is_allowed(self._names[node.id]) and is_partly_allowed(self._names[node.id]):
                self._found(node, f"the module {self._names[node.id]} as a value", "name what is used of it")
        elif node.id in BUILTINS and isinstance(node.ctx, ast.Load):
            self._found(node, f"{node.id}()", way_out(node.id))

    def visit_Call(self, node: ast.Call) -> None:
        name = self._dotted(node.func)
        if name == "trio.CancelScope" and (node.args or any(keyword.arg != "shield" for keyword in node.keywords)):
            self._found(node, "trio.CancelScope with a deadline of trio's clock", way_out(name))
        if name == "random.Random" and not node.args and not node.keywords:
            self._found(node, "random.Random() seeded from outside", way_out(name))
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        for target in node.targets:
            self._check_deadline(target)
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._check_deadline(node.target)
        self.generic_visit(node)

    def _check_deadline(self, target: ast.expr) -> None:
        """A scope's deadline is a time of trio's clock, and so can't be set to one of the Host's."""
        if not isinstance(target, ast.Attribute) or target.attr not in ("deadline", "relative_deadline"):
            return
        if not (isinstance(target.value, ast.Name) and target.value.id == "self"):
            self._found(target, f"a {target.attr} of trio's clock is set", WAYS_OUT["time"])

    # ---- inside

    def _dotted(self, node: ast.expr) -> str | None:
        """The full name of what an expression refers to, if it begins with an imported name."""
        if isinstance(node, ast.Attribute):
            owner = self._dotted(node.value)
            return None if owner is None else f"{owner}.{node.attr}"
        return self._names.get(node.id) if isinstance(node, ast.Name) else None

    def _use(self, name: str, node: ast.AST) -> None:
        exception = next(
            (pair for pair in EXCEPTIONS if pair[0] == self.path and f"{name}.".startswith(f"{pair[1]}.")), None
        )
        if exception is not None:
            self.excepted.add(exception)
        elif not is_allowed(name):
            self._found(node, name, way_out(name))

    def _found(self, node: ast.AST, what: str, instead: str) -> None:
        line = getattr(node, "lineno", 1)
        self.findings.append(Finding(self.path, line, what, instead))


def inspect_source(source: str, path: str) -> Inspection:
    """Look through the text of the file ``path``, which is relative to the repository."""
    inspection = Inspection(path)
    inspection.visit(ast.parse(source, path))
    return inspection


def inspect_rooms(repository: Path) -> Iterator[Inspection]:
    """Look through every file behind the seam."""
    for room in ROOMS:
        for file in sorted((repository / room).rglob("*.py")):
            path = file.relative_to(repository)
            if not any(path.is_relative_to(outside) for outside in OUTSIDE):
                yield inspect_source(file.read_text(encoding="utf-8"), path.as_posix())
