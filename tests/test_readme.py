"""What the README shows is what happens."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_the_example_runs_as_it_stands(tmp_path: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    # Only the port differs: another node may run on this machine.
    anywhere = 'found=True, bind=Address("127.0.0.1", 0)'
    script = "from meshnode import Address\n" + example.replace("found=True", anywhere)
    assert anywhere in script
    ran = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=50, check=False
    )
    assert (ran.returncode, ran.stdout) == (0, "3\n"), ran.stderr
    assert (tmp_path / "data-a").is_dir()


@pytest.mark.parametrize("command", re.findall(r"^\| `meshnode ([a-z ]+)", README, flags=re.MULTILINE))
def test_the_commands_in_the_table_exist(command: str) -> None:
    words = command.split()
    ran = subprocess.run(
        [sys.executable, "-m", "meshnode", *words, "--help"], capture_output=True, text=True, timeout=50, check=False
    )
    assert ran.returncode == 0, ran.stderr
