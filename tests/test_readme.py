"""What the README shows is what happens."""

import contextlib
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from meshnode.cli import outcome
from tests.cli.command import Outcome, meshnode
from tests.process.cluster import until
from tests.process.ports import ReservedPort
from tests.process.processes import MESHNODE, die_with_parent

README = (Path(__file__).parent.parent / "README.md").read_text()
BY_HAND = README.partition("## A mesh by hand\n")[2].partition("\n## ")[0]
EXAMPLE, CLIENT = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
INSTALL, COMMANDS = re.findall(r"```\n(.*?)```", re.sub(r"```python\n.*?```", "", BY_HAND, flags=re.DOTALL), re.DOTALL)
ROWS = [re.findall(r"`(meshnode [^`]+)`", row) for row in re.findall(r"^\| (`meshnode .*?) \|", BY_HAND, re.MULTILINE)]

PROGRAM = ".venv/bin/meshnode"


def test_the_example_runs_as_it_stands(tmp_path: Path) -> None:
    # Only the port differs: another node may run on this machine.
    anywhere = 'found=True, bind=Address("127.0.0.1", 0)'
    script = "from meshnode import Address\n" + EXAMPLE.replace("found=True", anywhere)
    assert anywhere in script
    ran = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=50, check=False
    )
    assert (ran.returncode, ran.stdout) == (0, "3\n"), ran.stderr
    assert (tmp_path / "data-a").is_dir()


class Hosts:
    """This machine as the hosts of the README: a folder for each, and a port of loopback for each of its addresses."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._ports: dict[str, ReservedPort] = {}
        self.nodes: dict[str, subprocess.Popen[bytes]] = {}

    def here(self, text: str) -> str:
        """The text with this machine's addresses and commands."""
        text = re.sub(r"\b10\.0\.0\.\d+:\d+", self._address, text)
        return text.replace("127.0.0.1:7946", self._address("10.0.0.1:7946")).replace(PROGRAM, MESHNODE)

    def start(self, host: str, command: str) -> None:
        """Run a node on a host of its own."""
        folder = self._root / host
        folder.mkdir()
        (folder / "my_agents.py").write_text(EXAMPLE.partition("async def main")[0])
        with (folder / "log").open("wb") as log:
            self.nodes[host] = subprocess.Popen(
                shlex.split(self.here(command)),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent(),
            )

    def ask(self, command: str) -> Outcome:
        """Run a command of ``meshnode`` that ends, in this process: interpreters take longer to start than it takes."""
        program, *arguments = shlex.split(self.here(command))
        assert program in (MESHNODE, "meshnode")
        return meshnode(*arguments)

    def logs(self) -> str:
        """What the nodes had to say."""
        return "\n".join(f"---- {host}\n{(self._root / host / 'log').read_text()[-3000:]}" for host in self.nodes)

    def close(self) -> None:
        """End all nodes, and give the ports back."""
        for process in self.nodes.values():
            process.kill()
            process.wait()
        for port in self._ports.values():
            port.release()

    def _address(self, found: "re.Match[str] | str") -> str:
        address = found if isinstance(found, str) else found[0]
        if address not in self._ports:
            self._ports[address] = ReservedPort()
        return f"127.0.0.1:{self._ports[address].number}"


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    with contextlib.closing(Hosts(tmp_path)) as made:
        yield made


@pytest.mark.process
@pytest.mark.timeout(90)
def test_the_mesh_by_hand_forms_as_it_stands_and_every_command_of_the_table_works(hosts: Hosts) -> None:
    assert shlex.split(INSTALL)[-2:] == ["install", "."]
    host = ""
    asking: list[str] = []
    for line in COMMANDS.splitlines():
        if line.startswith("# on "):
            host = line.removeprefix("# on ")
        elif line.startswith(f"{PROGRAM} run "):
            hosts.start(host, line)
        elif not line.startswith("#"):
            asking.append(line)
    assert list(hosts.nodes) == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    (first_question,) = asking

    async def is_settled() -> bool:
        members = await _json(hosts, first_question)
        status = await _json(hosts, "meshnode status --node 10.0.0.2:7946")
        voters = (await _json(hosts, "meshnode raft status --node 10.0.0.1:7946"))["voters"]
        return (
            len(members) == len(voters) == 3
            and all(member["state"] == "alive" and member["primaries"] for member in members)
            and status["active"] == status["partitions"] > 0
        )

    try:
        trio.run(until, is_settled, "three nodes that serve everything")
        _check(hosts.ask(first_question), shows="leader")
        for number, row in enumerate(ROWS):
            for command in row:
                asked = "10.0.0.3:7946" if "leave" in command else "10.0.0.2:7946"
                shown = "3" if command.startswith("meshnode call") else ""
                _check(hosts.ask(f"{command} --node {asked}"), shows=shown)
            assert number < len(ROWS) - 1 or "leave" in row[0], "what ends a node comes last"
        assert hosts.nodes["10.0.0.3"].wait(timeout=20) == 0
        assert hosts.here("10.0.0.3:7946") not in hosts.ask(first_question).out
        ran = subprocess.run([sys.executable, "-c", hosts.here(CLIENT)], capture_output=True, text=True, timeout=50)
        assert (ran.returncode, ran.stdout) == (0, "6\n"), ran.stderr
    except BaseException:
        sys.stderr.write(hosts.logs())
        raise


async def _json(hosts: Hosts, command: str) -> Any:
    ran = await trio.to_thread.run_sync(hosts.ask, f"{command} --json")
    if ran.code:
        raise OSError(ran.err)
    return ran.json


def _check(ran: Outcome, *, shows: str) -> None:
    assert (ran.code, ran.err) == (0, ""), ran
    assert ran.out
    assert shows in ran.out


def test_every_row_of_the_table_has_a_command() -> None:
    assert len(ROWS) == len(re.findall(r"^\| `", BY_HAND, re.MULTILINE)) == 10
    assert all(ROWS)


def test_the_exit_codes_are_those_of_the_command() -> None:
    listed = re.findall(r"(\d+) \w", BY_HAND.partition("Exit codes:")[2].partition(".\n")[0])
    named = ("OK", "ERROR", "USAGE", "NOT_FOUND", "UNAVAILABLE", "TIMEOUT", "INTERRUPTED")
    assert [int(code) for code in listed] == [getattr(outcome, name) for name in named]
