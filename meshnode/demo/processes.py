"""The demo's node processes."""

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import trio

from meshnode.identity import Address

STOP_GRACE_S = 3.0
POLL_S = 0.02
PR_SET_PDEATHSIG = 1


@dataclass(slots=True, eq=False)
class NodeProcess:
    """One node, started by `start` and started again on the same directory."""

    name: str
    address: Address
    folder: Path
    arguments: tuple[str, ...]
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process; its log goes to a file beside its data."""
        self.folder.mkdir(exist_ok=True)
        with (self.folder / "log").open("ab") as log:
            # Not trio's way to start one: it forks in a thread that ends when idle, and the kernel would take the end
            # of that thread for the death of the parent.
            self.process = subprocess.Popen(
                [sys.executable, "-m", "meshnode", "run", *self.arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a Ctrl-C is for the demo, which then stops its nodes
                preexec_fn=_dies_with(os.getpid()),
            )

    @property
    def is_running(self) -> bool:
        """Whether the process has not ended."""
        return self.process is not None and self.process.poll() is None

    async def kill(self) -> None:
        """SIGKILL: no farewell, nothing flushed."""
        assert self.process is not None
        self.process.kill()
        await _ended(self.process)

    def last_lines(self, count: int = 5) -> str:
        """The end of the log, for when something went wrong."""
        path = self.folder / "log"
        return "\n".join(path.read_text(errors="replace").splitlines()[-count:]) if path.exists() else ""


@dataclass(slots=True)
class Processes:
    """All nodes of the demo, in one temporary directory."""

    folder: Path
    nodes: list[NodeProcess] = field(default_factory=list)

    def add(self, *, kernel_cache: Path, device: str) -> NodeProcess:
        """A node that is not started yet: the first one founds the mesh, the others join it."""
        number = len(self.nodes)
        address = Address("127.0.0.1", free_port())
        folder = self.folder / f"node-{number}"
        how = ("--join", str(self.nodes[0].address)) if self.nodes else ("--found",)
        arguments = (
            *("--name", f"node-{number}", "--bind", str(address), "--data", str(folder / "data"), *how),
            *("--app", "meshnode.demo.digits", "--kernel-cache", str(kernel_cache), "--device", device),
        )
        node = NodeProcess(f"node-{number}", address, folder, arguments)
        self.nodes.append(node)
        return node

    async def stop(self) -> None:
        """End every process: asked first, then forced."""
        running = [node.process for node in self.nodes if node.process is not None and node.is_running]
        for process in running:
            process.terminate()
        with trio.move_on_after(STOP_GRACE_S):
            for process in running:
                await _ended(process)
        for process in running:
            process.kill()
            await _ended(process)


@contextlib.asynccontextmanager
async def node_processes() -> AsyncIterator[Processes]:
    """Processes and a directory that are gone afterwards, whatever happens."""
    folder = Path(tempfile.mkdtemp(prefix="meshnode-demo-"))
    processes = Processes(folder)
    try:
        yield processes
    finally:
        with trio.CancelScope(shield=True):
            await processes.stop()
        shutil.rmtree(folder, ignore_errors=True)


async def _ended(process: "subprocess.Popen[bytes]") -> None:
    while process.poll() is None:
        await trio.sleep(POLL_S)


def free_port() -> int:
    """A port that is free for streams and datagrams right now."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as stream:
            stream.bind(("127.0.0.1", 0))
            port = int(stream.getsockname()[1])
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram:
                try:
                    datagram.bind(("127.0.0.1", port))
                except OSError:
                    continue
                return port


def _dies_with(parent: int) -> Callable[[], None]:
    """For the child: be killed when the demo is, even by SIGKILL. Linux only; elsewhere a killed demo leaves nodes.

    Args:
        parent: the demo's process. It may be 1, as in a container of its own.
    """

    def prepare() -> None:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)  # the parent died between fork and here

    return prepare
