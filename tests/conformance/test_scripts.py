"""Scripts that pin down, message by message, what a Raft core does.

The scripts are not part of the repository: ``pytest tests/conformance --scripts DIR``, or ``pytest --scripts=DIR`` for
the whole suite, where DIR has the folders ``quorum``, ``confchange`` and ``interaction``. (Without ``=`` and without a
path, pytest takes DIR for the path to test, and looks there for its settings.)
"""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest

from tests.conformance.interaction import InteractionScript
from tests.conformance.pure import ConfigurationScript, QuorumScript
from tests.conformance.script import Directive, UnsupportedError, normalize, parse


class Interpreter(Protocol):
    """Runs the directives of one script, in order."""

    def run(self, directive: Directive) -> str: ...


INTERPRETERS: dict[str, Callable[[], Interpreter]] = {
    "quorum": QuorumScript,
    "confchange": ConfigurationScript,
    "interaction": InteractionScript,
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    given = metafunc.config.getoption("--scripts")
    folder = Path(given) if given else None
    if folder is None:
        reason = "scripts are only run with --scripts DIR"
        metafunc.parametrize("script", [pytest.param(None, marks=pytest.mark.skip(reason=reason), id="none")])
        return
    found = sorted(path for kind in INTERPRETERS for path in (folder / kind).glob("*.txt"))
    if not found:
        raise pytest.UsageError(f"--scripts {given}: no {'/, '.join(INTERPRETERS)}/ with *.txt in it")
    metafunc.parametrize("script", found, ids=[f"{path.parent.name}/{path.stem}" for path in found])


def test_a_script_replays_line_by_line(script: Path) -> None:
    interpreter = INTERPRETERS[script.parent.name]()
    for directive in parse(script):
        try:
            printed = interpreter.run(directive)
        except UnsupportedError as error:
            pytest.skip(str(error))
        assert normalize(printed) == directive.expected, f"{script.name}, line {directive.line}: {directive.command}"
