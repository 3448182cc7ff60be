"""Real node processes: started, signalled, waited for, and never left behind."""

import ctypes
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import trio

from meshnode import Address
from tests.process.ports import ReservedPort

REPOSITORY = Path(__file__).parents[2]

MESHNODE = str(Path(sys.executable).with_name("meshnode"))

APPLICATION = "tests.process.counters"

_PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None)


def die_with_parent(file_bytes_max: int | None = None) -> Callable[[], None]:
    """What a child does between fork and exec: ask to be killed when the tests' process ends, however that ends.

    Args:
        file_bytes_max: no file of the child may grow past this; a write beyond fails as on a full disk.
    """
    parent = os.getpid()

    def prepare() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it ended before the request was made
            os._exit(1)
        if file_bytes_max is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes_max, file_bytes_max))

    return prepare


class NodeProcess:
    """One node: its address, data directory and log stay while its process comes and goes.

    Args:
        options: of ``meshnode run``, beside the name, the address, the data directory and the application.
        application: the module whose agents the node offers; None for none.
        wrapper: a command that runs another one, put before ``meshnode``.
    """

    def __init__(
        self,
        root: Path,
        name: str,
        *options: str,
        application: str | None = APPLICATION,
        wrapper: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.options = options
        self.application = application
        self.wrapper = tuple(wrapper)
        self.data = root / name
        self.log_path = root / f"{name}.log"
        self._port = ReservedPort()
        self.address = Address("127.0.0.1", self._port.number)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, file_bytes_max: int | None = None) -> None:
        """Start the process; returns at once."""
        assert not self.is_running, self.name
        command = [
            *self.wrapper, MESHNODE, "run", "--name", self.name, "--bind", str(self.address), "--data", str(self.data),
            "--device", "numpy", "--log-json", *self.options,
        ]  # fmt: skip
        if self.application is not None:
            command += ["--app", self.application]
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=REPOSITORY,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent(file_bytes_max),
            )

    @property
    def is_running(self) -> bool:
        """Whether the process has not ended."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """End the process as a crash does, and reap it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    async def ended(self, *, within_s: float) -> int:
        """The exit code, once the process has ended.

        Raises:
            AssertionError: it did not in time.
        """
        assert self._process is not None
        with trio.move_on_after(within_s):
            while self._process.poll() is None:
                await trio.sleep(0.02)
        code = self._process.poll()
        assert code is not None, f"{self.name} still runs after {within_s} s"
        return code

    def log(self) -> str:
        """What all its processes have written."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def discard(self) -> None:
        """Kill the process, stopped or not, and give the port back."""
        self.kill()
        self._port.release()
