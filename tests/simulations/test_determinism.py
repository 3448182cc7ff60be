"""Whether runs repeat themselves, and where they part if they do not."""

import sys
from pathlib import Path

import pytest

from simulations.determinism import Difference, ProcessFailed, differences

LOSING = """\
import os, sys
from simulations.cli import simulate
from simulations.cores.network import Network
send, count = Network.send, 0

def lose(network, *arguments):
    global count
    count += 1
    if count != 9:
        send(network, *arguments)

if os.environ["PYTHONHASHSEED"] == "2":
    Network.send = lose
simulate(sys.argv[3:])
"""
"""A Python in which, under one of the hash seeds, a message of the first run is lost."""


def test_the_first_line_at_which_two_runs_part_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "python"
    program.write_text(f"#!{sys.executable}\n{LOSING}")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    (found,) = differences("3:5", ["--level", "1", "--world", "swim", "--faults", "none", "--nodes", "2"])
    assert found.what == "3 swim"
    assert found.line > 1
    assert found.first != found.second
    # The run without that message gets to something else, not before the other one got the message.
    assert float(found.first.split()[0]) <= float(found.second.split()[0])


def test_a_difference_is_told_with_both_lines() -> None:
    assert str(Difference("4 raft", 9, "1.5 n1 led 3", "")) == (
        "4 raft: from line 9 on\n  1.5 n1 led 3\n  (this trace ends before it)"
    )
    assert "though the traces are the same" in str(Difference("4", 0, "4 aa", "4 aaliveness"))


def test_a_process_that_fails_is_told() -> None:
    with pytest.raises(ProcessFailed, match=r"(?s)ended with 2:.*there is no fault of level 2 'rain'"):
        differences("0:1", ["--faults", "rain"])
