"""Who may import whom: the contracts of import-linter in pyproject.toml."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]

PACKAGES = ("meshnode", "consensus", "kernels", "simulations")

WRONG_ARROWS = [
    ("consensus", "consensus/quorum.py", "import meshnode.identity"),
    ("kernels", "kernels/model.py", "from meshnode import wire"),
    ("kernels", "kernels/model.py", "from consensus.quorum import *"),
    ("meshnode", "meshnode/identity.py", "import simulations"),
    ("meshnode", "meshnode/cli/main.py", "from benchmarks import predict"),
    ("meshnode", "meshnode/wire.py", "import tests"),
    ("simulations", "simulations/__init__.py", "import tests.conftest"),
    ("cores", "consensus/raft.py", "import trio"),
    ("cores", "meshnode/membership/swim.py", "from trio import Event"),
    ("cores", "meshnode/metadata/allocator.py", "from meshnode.host import Host"),
    ("drivers", "meshnode/config.py", "import trio"),
]


def lint_imports(directory: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
    return subprocess.run(
        [*command, "--no-logo", "--no-cache", *options],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_every_import_follows_the_arrows() -> None:
    result = lint_imports(REPOSITORY)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("copy")
    for package in PACKAGES:
        shutil.copytree(REPOSITORY / package, directory / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "pyproject.toml", directory)
    return directory


@pytest.mark.parametrize(("contract", "path", "line"), WRONG_ARROWS)
def test_an_import_against_an_arrow_breaks_its_contract(copy: Path, contract: str, path: str, line: str) -> None:
    file = copy / path
    text = file.read_text(encoding="utf-8")
    file.write_text(f"{text}\n{line}\n", encoding="utf-8")
    try:
        result = lint_imports(copy, "--contract", contract)
    finally:
        file.write_text(text, encoding="utf-8")
    module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    assert result.returncode == 1, result.stdout + result.stderr
    assert "BROKEN" in result.stdout
    assert f"{module} -> " in result.stdout or f"- {module}" in result.stdout, result.stdout
