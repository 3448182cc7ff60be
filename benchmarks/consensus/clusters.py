"""Three processes of a system, started and ended."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Final, Protocol

from benchmarks.consensus.client import Dialled
from benchmarks.consensus.node import NodeSettings
from benchmarks.consensus.protocol import HOST, LENGTH
from benchmarks.consensus.speakers import OwnSpeaker
from benchmarks.consensus.tls import TlsFiles, client_context
from simulations.certificates import Authority

NODES: Final = 3
START_TIMEOUT_S: Final = 60.0
POLL_S: Final = 0.02


class Cluster(Protocol):
    """A system that runs.

    Attributes:
        client_files: for its client; None: in plaintext.
    """

    client_files: TlsFiles | None

    def leader(self) -> int:
        """Who leads, from 0; waits for it."""
        ...

    def port(self, node: int) -> int:
        """Where a node listens to clients."""
        ...

    def pid(self, node: int) -> int:
        """The process of a node."""
        ...


@contextlib.contextmanager
def data_directory() -> Iterator[Path]:
    """For all that the nodes of a turn write; on the disk that holds the present directory."""
    path = Path(tempfile.mkdtemp(prefix=".benchmark-", dir="."))
    try:
        yield path.absolute()
    finally:
        shutil.rmtree(path, ignore_errors=True)


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens to."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((HOST, 0))
        return [one.getsockname()[1] for one in sockets]


def issued(directory: Path, *, tls: bool) -> list[TlsFiles | None]:
    """For each node, and for the client at last, by a CA that signs nothing else; None where there is no TLS."""
    if not tls:
        return [None] * (NODES + 1)
    authority = Authority(directory)
    names = (*(f"node{node}" for node in range(NODES)), "client")
    return [TlsFiles(str(authority.ca), *map(str, authority.issue(name, address=HOST))) for name in names]


def until(is_so: Callable[[], bool], what: str) -> None:
    """Poll until something is so.

    Raises:
        TimeoutError: it never was.
    """
    deadline = time.monotonic() + START_TIMEOUT_S
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {START_TIMEOUT_S} s")
        time.sleep(POLL_S)


def rss_mb(pid: int) -> float:
    """What a process has resident, in MB of 2**20 bytes."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"/proc/{pid}/status names no VmRSS")


def cpu_s(pids: Iterable[int]) -> float:
    """What processes have taken of the CPU, in user and system mode."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


class Processes:
    """The processes of a cluster; ended with the block."""

    def __init__(self) -> None:
        self._running: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, node: int, command: list[str], *, log: Path) -> None:
        """Start a node."""
        with log.open("ab") as output:
            self._running[node] = subprocess.Popen(command, stdout=output, stderr=output)

    def end(self, node: int) -> None:
        """End a node."""
        process = self._running.pop(node)
        process.kill()
        process.wait()

    def pid(self, node: int) -> int:
        """The process of a node."""
        return self._running[node].pid

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, *_: object) -> None:
        for node in list(self._running):
            self.end(node)


class OwnCluster:
    """Three nodes of ours."""

    def __init__(self, processes: Processes, directory: Path, *, fsync: bool, tls: bool) -> None:
        self._processes = processes
        *self._node_files, self.client_files = issued(directory, tls=tls)
        self._context = None if self.client_files is None else client_context(self.client_files)
        self._directory = directory
        self._fsync = fsync
        ports = free_ports(2 * NODES)  # at once: what is free for a second time may have been free for the first
        self.peer_ports, self._client_ports = ports[:NODES], ports[NODES:]
        for node in range(NODES):
            self.start(node)

    def start(self, node: int) -> None:
        """Start a node, with the data that it left."""
        directory = self._directory / f"node{node}"
        settings = NodeSettings(
            node + 1,
            self.peer_ports,
            self._client_ports,
            str(directory),
            fsync=self._fsync,
            tls=self._node_files[node],
        )
        command = [sys.executable, "-m", "benchmarks.consensus.node", json.dumps(asdict(settings))]
        self._processes.start(node, command, log=self._directory / f"node{node}.txt")

    def end(self, node: int) -> None:
        """End a node without notice."""
        self._processes.end(node)

    def leader(self) -> int:
        until(lambda: self._leader() is not None, "our nodes elect a leader")
        leader = self._leader()
        assert leader is not None
        return leader

    def _leader(self) -> int | None:
        views = [self.status(node) for node in range(NODES)]
        leaders = {view["leader"] for view in views if view is not None}
        return leaders.pop() - 1 if len(leaders) == 1 and 0 not in leaders else None

    def status(self, node: int) -> dict[str, int] | None:
        """What a node says of itself; None if it does not answer."""
        try:
            with Dialled(self._client_ports[node], self._context, timeout_s=5.0) as dialled:
                dialled.send(OwnSpeaker().status()[1])
                data = b""
                while len(data) < 4 or len(data) < 4 + LENGTH.unpack_from(data)[0]:
                    data += dialled.receive()
        except OSError:
            return None
        status: dict[str, int] = json.loads(data[9:])
        return status

    def port(self, node: int) -> int:
        return self._client_ports[node]

    def pid(self, node: int) -> int:
        return self._processes.pid(node)


class EtcdCluster:
    """Three nodes of etcd, with the settings that it has by default."""

    def __init__(self, processes: Processes, directory: Path, *, tls: bool) -> None:
        self._processes = processes
        *node_files, self.client_files = issued(directory, tls=tls)
        self._context = None if self.client_files is None else client_context(self.client_files)
        ports = free_ports(2 * NODES)
        prefix = f"{'https' if tls else 'http'}://{HOST}:"
        self.peer_ports, self._client_ports = ports[:NODES], ports[NODES:]
        self._client_urls = [f"{prefix}{port}" for port in self._client_ports]
        peers = [f"{prefix}{port}" for port in self.peer_ports]
        members = ",".join(f"node{node}={url}" for node, url in enumerate(peers))
        for node in range(NODES):
            client = self._client_urls[node]
            command = [
                *("etcd", "--name", f"node{node}", "--data-dir", str(directory / f"node{node}")),
                *("--listen-client-urls", client, "--advertise-client-urls", client),
                *("--listen-peer-urls", peers[node], "--initial-advertise-peer-urls", peers[node]),
                *("--initial-cluster", members, "--initial-cluster-state", "new", "--log-level", "error"),
                *_etcd_tls(node_files[node]),
            ]
            processes.start(node, command, log=directory / f"node{node}.txt")

    def leader(self) -> int:
        until(lambda: self._leader() is not None, "etcd elects a leader")
        leader = self._leader()
        assert leader is not None
        return leader

    def _leader(self) -> int | None:
        for node, url in enumerate(self._client_urls):
            try:
                with urllib.request.urlopen(f"{url}/metrics", timeout=5.0, context=self._context) as answer:
                    if b"\netcd_server_is_leader 1\n" in answer.read():
                        return node
            except OSError:
                return None
        return None

    def port(self, node: int) -> int:
        return self._client_ports[node]

    def pid(self, node: int) -> int:
        return self._processes.pid(node)


def _etcd_tls(files: TlsFiles | None) -> list[str]:
    """Options of a node that asks its peers and clients for certificates, too."""
    if files is None:
        return []
    return [
        option
        for role in ("", "peer-")
        for option in (
            f"--{role}client-cert-auth",
            *(f"--{role}trusted-ca-file", files.ca),
            *(f"--{role}cert-file", files.certificate),
            *(f"--{role}key-file", files.key),
        )
    ]
