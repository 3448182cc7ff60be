"""What the package pyraft does, and why it is no more than something to compare with.

It lives in the peers' environment (`make peers`), so everything here talks to processes.
"""

import os
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from consensus.driver import RaftNode
from consensus.leader_election import LeaderElection
from tests.process.ports import ReservedPort
from tests.process.processes import REPOSITORY, die_with_parent

PYTHON = REPOSITORY / ".peers" / "bin" / "python"

TIMEOUT_S = 40.0
"""For an election: pyraft waits five seconds for a leader, and a second or two for votes, often more than once."""

pytestmark = [pytest.mark.process, pytest.mark.timeout(150)]


@pytest.fixture(autouse=True)
def _peers() -> None:
    if not PYTHON.exists():
        if os.environ.get("MESHNODE_REQUIRE_PEERS"):
            pytest.fail(f"{PYTHON} is missing: make peers")
        pytest.skip("make peers installs pyraft, in an environment of its own")


@pytest.fixture
def ports() -> Iterator[tuple[int, int, int]]:
    """For three nodes: each takes the next port as well, unasked."""
    held: list[ReservedPort] = []
    found: list[int] = []
    while len(found) < 3:
        held.append(ReservedPort())
        if len(held) > 1 and held[-1].number == held[-2].number + 1 and held[-2].number - 1 not in found:
            found.append(held[-2].number)
    yield found[0], found[1], found[2]
    for port in held:
        port.release()


class Ensemble:
    """Three of pyraft's own nodes, as its documentation starts them."""

    def __init__(self, root: Path, ports: Sequence[int]) -> None:
        self.root = root
        self.ports = dict(enumerate(ports, start=1))
        self.processes: dict[int, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        for node, port in self.ports.items():
            others = ",".join(f"{other}/127.0.0.1:{at}" for other, at in self.ports.items() if other != node)
            command = ["-m", "pyraft.run_raft", "-i", str(node), "-a", f"127.0.0.1:{port}", "-e", others]
            with (self.root / f"{node}.out").open("ab") as out:
                self.processes[node] = subprocess.Popen(
                    [str(PYTHON), *command], cwd=self.root, stdout=out, stderr=out, preexec_fn=die_with_parent()
                )

    def kill(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()

    def ask(self, node: int, *words: str) -> bytes:
        """A command over RESP, and the answer as it comes."""
        with socket.create_connection(("127.0.0.1", self.ports[node]), timeout=15) as stream:
            stream.sendall(_resp(*words))
            return stream.recv(1 << 16)

    def leader(self) -> tuple[int, int]:
        """The leader and its term, once there is one and the others follow."""
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline:
            time.sleep(0.3)
            states = {}
            for node in self.ports:
                try:
                    states[node] = self.ask(node, "info").split(b'"peers"')[0]
                except OSError:
                    break
            leaders = [node for node, state in states.items() if b'"state": "l"' in state]
            followers = [node for node, state in states.items() if b'"state": "f"' in state]
            if len(leaders) == 1 and len(followers) == 2:
                term = states[leaders[0]].split(b'"term": ')[1].split(b",")[0]
                return leaders[0], int(term)
        outputs = "\n".join(path.read_text()[-500:] for path in self.root.glob("*.out"))
        pytest.fail(f"no leader within {TIMEOUT_S} s:\n{outputs}")


def _resp(*words: str) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word.encode()) for word in words)


@pytest.fixture
def ensemble(tmp_path: Path, ports: tuple[int, int, int]) -> Iterator[Ensemble]:
    ensemble = Ensemble(tmp_path, ports)
    ensemble.start()
    try:
        yield ensemble
    finally:
        ensemble.kill()


def _peer(name: str, port: int) -> socket.socket:
    """A stranger that is taken in as a member."""
    stream = socket.create_connection(("127.0.0.1", port + 1), timeout=5)
    stream.sendall(f"id {name} 127.0.0.{name}:9 0\r\n".encode())
    assert stream.recv(4096).startswith(b"*")
    return stream


def test_pyraft_loses_an_acknowledged_write_and_repeats_a_term_when_the_nodes_restart(ensemble: Ensemble) -> None:
    leader, term = ensemble.leader()
    assert ensemble.ask(leader, "set", "city", "oslo") == b"+OK\r\n"
    assert ensemble.ask(leader, "get", "city") == b"+oslo\r\n"
    ensemble.kill()
    ensemble.start()
    next_leader, next_term = ensemble.leader()
    assert ensemble.ask(next_leader, "get", "city") == b"$-1\r\n", "it was lost"
    # Terms begin anew, so one term comes to have two leaders whenever another node wins this time.
    assert next_term < term + 10, "a leader adds 10 to the term that it was elected in"


def test_pyraft_votes_for_two_candidates_in_one_term_and_runs_what_a_stranger_sends(ensemble: Ensemble) -> None:
    leader, term = ensemble.leader()
    follower = next(node for node in ensemble.ports if node != leader)
    port = ensemble.ports[follower]
    with _peer("8", port) as first, _peer("9", port) as second:
        for candidate in (first, second):
            candidate.sendall(f"vote {term + 5}\r\n".encode())
        assert [first.recv(64), second.recv(64)] == [b"+yes\r\n", b"+yes\r\n"]
        proof = ensemble.root / "proof"
        code = f"open({str(proof)!r}, 'w').close() or {{'_META_': {{'term': 1, 'index': 0}}, 'ttl': {{}}}}"
        first.sendall(_resp("snapshot", str(term + 5), "0", "0", "0", code))
        assert first.recv(64).startswith(b"+ack")
        assert proof.exists()


def test_three_members_elect_one_leader_behind_our_interface(ports: tuple[int, int, int]) -> None:
    command = [str(PYTHON), "-m", "tests.consensus.three_elections", *map(str, ports)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in {"1", "2", "3"}


@pytest.mark.parametrize("address", ["10.0.0.1:5010", "0.0.0.0:5010", "localhost:5010", "127.0.0.1", "127.0.0.1:65535"])
def test_it_is_refused_off_loopback(address: str) -> None:
    code = f"from consensus.pyraft import PyraftElection; PyraftElection(1, {{1: {address!r}}})"
    done = subprocess.run(
        [str(PYTHON), "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert f"node 1 has the address {address!r}: pyraft runs as Python code what it is sent" in done.stderr


def _ours(node: RaftNode) -> LeaderElection:
    """Our own driver offers the same: the type checker proves it."""
    return node
