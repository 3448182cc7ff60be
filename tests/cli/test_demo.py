"""``meshnode demo`` where something happens at the wrong moment."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trio
import trio.testing

from meshnode.demo import processes
from meshnode.demo.digits import Reading, Tally
from meshnode.demo.failover import leader, places
from meshnode.demo.processes import NodeProcess
from meshnode.demo.story import _count
from meshnode.demo.stream import AGENTS, Stream
from meshnode.demo.training import Digits
from meshnode.errors import OutcomeUnknown, Unavailable
from meshnode.identity import Address

UNAVAILABLE = Unavailable("nobody is there")


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


class Script:
    """In the place of a client: answers to views and calls, one after the other; the last one again and again."""

    def __init__(self, *answers: Any, **views: list[Any]) -> None:
        self.answers = list(answers)
        self.views = views
        self.asked_at_s: list[float] = []

    async def view(self, name: str) -> Any:
        return self._next(self.views[name])

    def ref(self, _agent_type: object, _key: str, **_options: object) -> "Script":
        return self

    async def read(self, _pixels: bytes, _label: int) -> Any:
        return self._next(self.answers)

    async def tally(self) -> Any:
        return self._next(self.answers)

    def _next(self, answers: list[Any]) -> Any:
        self.asked_at_s.append(trio.current_time())
        assert len(self.asked_at_s) < 10 * AGENTS, "it asks without a pause"
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def member(name: str, *, leads: bool) -> dict[str, Any]:
    return {"name": name, "leader": leads}


async def test_a_leader_is_waited_for_while_there_is_none() -> None:
    nobody = [member("node-0", leads=False)]
    client: Any = Script(members=[nobody, UNAVAILABLE, [], [*nobody, member("node-1", leads=True)]])
    assert await leader(client) == "node-1"
    assert len(set(client.asked_at_s)) == 4, "with a pause between"


async def test_places_are_those_of_a_node_that_knows_all_rows() -> None:
    rows = [{"partition": number, "primary": "node-0", "phase": "active"} for number in range(8)]
    status = [{"partitions": 0}, {"partitions": 8}]
    client: Any = Script(status=status, rows=[[], UNAVAILABLE, rows[:4], rows[:5], rows])
    assert (await places(client)).held_by("node-0") == list(range(AGENTS))


@pytest.mark.parametrize("error", [UNAVAILABLE, OutcomeUnknown("perhaps")])
async def test_a_call_that_fails_at_once_is_repeated_after_a_pause(error: Exception) -> None:
    digits = Digits(np.zeros((1, 64), np.uint8), np.zeros(1, np.int64), np.zeros(1, np.bool_))
    client: Any = Script(error, error, Reading(0, 1))
    stream = Stream(client, digits)
    await stream._read(0, 0, "image-0")
    assert len(set(client.asked_at_s)) == 3
    assert stream.tallies.total == 1


async def test_a_count_that_fails_at_once_is_repeated_after_a_pause() -> None:
    client: Any = Script(*[UNAVAILABLE] * AGENTS, Tally(read=3))
    assert await _count(client) == [3] * AGENTS
    assert len(set(client.asked_at_s)) == 2


# ---- processes

START = """
import sys
from pathlib import Path
from meshnode.demo.processes import NodeProcess
from meshnode.identity import Address

node = NodeProcess("node-0", Address("127.0.0.1", 1), Path(sys.argv[1]), ("--help",))
node.start()
raise SystemExit(node.process.wait())
"""


def start_as_first_process(folder: Path, *unshare: str) -> "subprocess.CompletedProcess[str]":
    command = ["unshare", *unshare, "--pid", "--fork", "--mount-proc", sys.executable, "-c", START, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)


@pytest.mark.process
@pytest.mark.skipif(shutil.which("unshare") is None, reason="there is no unshare, which is Linux's")
def test_a_demo_that_is_the_first_process_of_its_container_starts_nodes(tmp_path: Path) -> None:
    ran = start_as_first_process(tmp_path)
    if "unshare" in ran.stderr:  # who is not root may have one in a namespace of users
        ran = start_as_first_process(tmp_path, "--map-root-user")
    if "unshare" in ran.stderr:
        pytest.skip(f"no container can be made here: {ran.stderr.strip()}")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "Run a node." in (tmp_path / "log").read_text()


def ended_with(prepare: Callable[[], None]) -> int:
    """The exit code of a child that does so first."""
    return subprocess.run([sys.executable, "-c", ""], preexec_fn=prepare, check=False).returncode


def test_a_node_whose_demo_died_before_it_could_ask_to_follow_it_ends() -> None:
    assert ended_with(processes._dies_with(os.getpid())) == 0
    assert ended_with(processes._dies_with(os.getpid() + 1)) == 1


async def test_a_node_that_ended_has_its_last_lines_told(tmp_path: Path) -> None:
    node = NodeProcess("node-0", Address("127.0.0.1", 1), tmp_path / "node-0", ("--no-such-flag",))
    assert node.last_lines() == ""
    node.start()
    assert node.process is not None
    node.process.wait()
    assert not node.is_running
    assert "--no-such-flag" in node.last_lines()
