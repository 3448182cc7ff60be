"""The format of a script: directives with arguments and input, and the output that each must print."""

import re
from dataclasses import dataclass, field
from pathlib import Path

_ARGUMENT = re.compile(r"(?P<name>[^\s=()]+)(?:=(?P<value>\([^)]*\)|\S+))?")
_LOG_LINE = re.compile(r"\s*(DEBUG|INFO|WARN|ERROR)\b")


class UnsupportedError(Exception):
    """A script uses a part of the vocabulary that the interpreter lacks."""


@dataclass(frozen=True)
class Directive:
    """One command, where it stands, and what it must print."""

    line: int
    command: str
    arguments: dict[str, str | None]
    """In the order in which they stand; None for a bare word."""
    input: tuple[str, ...]
    expected: str
    used: set[str] = field(default_factory=set)

    def words(self) -> list[str]:
        """The bare words, in order."""
        found = [name for name, value in self.arguments.items() if value is None]
        self.used.update(found)
        return found

    def text(self, name: str, default: str) -> str:
        """The value of an argument."""
        self.used.add(name)
        value = self.arguments.get(name)
        return default if value is None else value

    def number(self, name: str, default: int) -> int:
        return int(self.text(name, str(default)))

    def flag(self, name: str) -> bool:
        return self.text(name, "false") == "true"

    def items(self, name: str) -> list[str]:
        """The elements of a value such as ``(1,2,3)``; a single value may stand without parentheses."""
        inner = self.text(name, "").strip("()")
        return [item.strip() for item in inner.split(",") if item.strip()]

    def numbers(self, name: str) -> list[int]:
        return [int(item) for item in self.items(name)]

    def check_all_used(self) -> None:
        """Raise UnsupportedError if there is an argument that nobody asked for."""
        left = set(self.arguments) - self.used
        if left:
            raise UnsupportedError(f"option {sorted(left)[0]} of {self.command} not supported yet")


def parse(path: Path) -> list[Directive]:
    """Read a script."""
    lines = path.read_text(encoding="utf-8").split("\n")
    directives = []
    at = 0
    while at < len(lines):
        if not lines[at].strip() or lines[at].startswith("#"):
            at += 1
            continue
        start = at
        while lines[at] != "----":
            at += 1
        head, *given = lines[start:at]
        at += 1
        end = at
        if lines[at] == "----":
            at += 1
            end = at
            while lines[end : end + 2] != ["----", "----"]:
                end += 1
            output, after = lines[at:end], end + 2
        else:
            while end < len(lines) and lines[end]:
                end += 1
            output, after = lines[at:end], end
        at = after
        command, _, rest = head.partition(" ")
        arguments = {match["name"]: match["value"] for match in _ARGUMENT.finditer(rest)}
        directives.append(Directive(start + 1, command, arguments, tuple(given), normalize("\n".join(output))))
    return directives


def normalize(output: str) -> str:
    """Output without the log lines of the original program. What prints nothing prints ``ok``."""
    lines = [line for line in output.split("\n") if not _LOG_LINE.match(line)]
    return "\n".join(lines).rstrip("\n") or "ok"
