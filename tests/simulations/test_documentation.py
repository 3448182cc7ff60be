"""What docs/simulator.md shows is what there is."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from simulations.cli import simulate
from simulations.mesh.swarm import KINDS
from simulations.mesh.workloads import WORKLOADS

REPOSITORY = Path(__file__).parents[2]
GUIDE = (REPOSITORY / "docs" / "simulator.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", GUIDE, flags=re.DOTALL)
README = (REPOSITORY / "README.md").read_text()


def test_the_first_workload_runs_as_it_stands_with_the_agents_of_the_readme(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (load,) = (block for block in BLOCKS if block.startswith("# my_load.py\n"))
    agents = README.partition("```python\n")[2].partition("async def main")[0]
    (tmp_path / "my_load.py").write_text(load)
    (tmp_path / "my_agents.py").write_text(agents)
    monkeypatch.syspath_prepend(tmp_path)
    (command,) = re.findall(r"^meshnode simulate (run --app my_agents .*) --seeds 0:100$", GUIDE, flags=re.MULTILINE)
    done = CliRunner().invoke(simulate, [*command.split(), "--seeds", "0", "--nodes", "1", "--duration", "3"])
    assert done.exit_code == 0, done.output


def test_what_is_shown_of_the_example_is_in_its_files() -> None:
    sources = [path.read_text() for path in sorted((REPOSITORY / "docs" / "examples").glob("*.py"))]
    shown = [block for block in BLOCKS if not block.startswith("# my_load.py\n")]
    assert len(shown) == 3
    for block in shown:
        assert any(block in source for source in sources), block


def test_the_options_of_the_guide_are_those_of_the_command() -> None:
    table = re.findall(r"^\| `(--.*?)` \|", GUIDE, flags=re.MULTILINE)
    options = {option for row in table for option in re.findall(r"--[a-z]+", row)}
    help_text = CliRunner().invoke(simulate, ["run", "--help"]).output
    assert {option for option in options if option not in help_text} == set()
    (workloads,) = re.findall(r"`--workload ([a-z|\\]+)`", GUIDE)
    assert workloads.replace("\\", "").split("|") == list(WORKLOADS)
    assert {"slow-cpus", "outside"} <= set(KINDS)
