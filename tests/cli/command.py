"""The ``meshnode`` command, run in this process."""

import json
from dataclasses import dataclass
from typing import Any

from click.testing import CliRunner

from meshnode.cli import main


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one value on stdout."""
        return json.loads(self.out)

    def message(self, code: int) -> str:
        """The one line on stderr of a command that ended with that code, without the program's name."""
        assert self.code == code, self
        assert self.out == ""
        assert self.err.startswith("meshnode: "), self
        assert self.err.count("\n") == 1, self
        return self.err.removeprefix("meshnode: ").rstrip("\n")

    def hint(self) -> str:
        """What is wrong with the flags or arguments of a command that was used wrongly, on one line."""
        assert self.code == 2, self
        assert "Traceback" not in self.err
        line = self.err.splitlines()[-1]
        assert line.startswith(("Error: ", "meshnode: ")), self
        return line.partition(": ")[2]


def meshnode(*arguments: object) -> Outcome:
    """Run ``meshnode ARGUMENTS…``. What is no exit comes out as the exception that it is."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="meshnode")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Outcome(result.exit_code, result.stdout, result.stderr)
