"""What the node and the consensus library may use, so that nothing outside reaches them but through their `Host`.

A list of what is allowed, not of what is forbidden: a module that is not on it is a finding until somebody has thought
about it. Names are dotted; one that is allowed carries all its attributes with it.
"""

from collections.abc import Mapping

ROOMS = ("meshnode", "consensus")
"""The packages that live behind the seam."""

OUTSIDE = (
    *("meshnode/host.py", "meshnode/real_disk.py"),
    "meshnode/certificates.py",
    *("meshnode/cli", "meshnode/demo", "meshnode/__main__.py"),
    "consensus/pyraft.py",
)
"""The seam itself, what programs call before they make a node, commands, which are processes of this machine, and a
comparison that no node imports."""

ALLOWED = frozenset(
    {
        # The language and its pure library.
        *("array", "bisect", "collections", "contextlib", "dataclasses", "enum", "fractions", "functools", "heapq"),
        *("hashlib", "inspect", "ipaddress", "itertools", "math", "operator", "re", "struct", "types", "typing"),
        *("posixpath.dirname", "posixpath.join"),  # the rest of it asks the disk
        "errno",  # numbers alone
        "weakref.WeakSet",
        "random.Random",  # its module-level functions draw from one generator for the whole process
        "logging.getLogger",  # goes where the program that embeds the node says; never read back
        # Data in, data out.
        *("cbor2", "crc32c", "msgspec", "xxhash", "numpy"),
        *("structlog.contextvars", "structlog.stdlib", "structlog.typing", "structlog.wrap_logger"),
        # Streams of the Host's, spoken to in WebSocket. What opens sockets of its own is not here.
        *("trio_websocket.WebSocketConnection", "trio_websocket.ConnectionClosed", "trio_websocket.ConnectionRejected"),
        *("trio_websocket.wrap_client_stream", "trio_websocket.wrap_server_stream"),
        # TLS between two buffers in memory. What opens files or sockets is not here, and contexts are made outside.
        *("ssl.SSLContext", "ssl.MemoryBIO"),
        *("ssl.SSLError", "ssl.SSLWantReadError", "ssl.SSLCertVerificationError"),
        # Tasks and what they wait for. No clock, socket, file, thread, process or signal.
        *("trio.abc", "trio.Nursery", "trio.open_nursery", "trio.TaskStatus", "trio.TASK_STATUS_IGNORED"),
        *("trio.CancelScope", "trio.Event", "trio.Lock", "trio.sleep_forever"),
        *("trio.lowlevel.checkpoint", "trio.lowlevel.checkpoint_if_cancelled", "trio.lowlevel.ParkingLot"),
        "trio.lowlevel.cancel_shielded_checkpoint",
        *("trio.Cancelled", "trio.BrokenResourceError", "trio.ClosedResourceError"),
        "trio.serve_listeners",  # accepts from listeners of the Host's; its one sleep is for a machine out of files
        # Our own; `meshnode.host` by name, because the real one is not for rooms to make.
        *("consensus", "kernels", "meshnode"),
        *("meshnode.host.Host", "meshnode.host.Datagrams", "meshnode.host.Mailbox", "meshnode.host.DATAGRAM_BYTES_MAX"),
    }
)

REFUSED = frozenset(
    {
        "contextlib.chdir",
        "hashlib.file_digest",
        *(f"inspect.{name}" for name in ("getsource", "getsourcefile", "getsourcelines", "stack", "currentframe")),
        *(f"numpy.{name}" for name in ("random", "load", "save", "savez", "savez_compressed", "loadtxt", "savetxt")),
        *(f"numpy.{name}" for name in ("genfromtxt", "fromfile", "memmap", "lib")),
        "meshnode.host",
        "meshnode.real_disk",
    }
)
"""Exceptions from what is allowed as a whole. The longer name decides."""

BUILTINS = frozenset({"open", "input", "print", "breakpoint", "eval", "exec", "compile", "__import__"})
"""Built-in functions that reach outside, or that would let code past this check."""

EXCEPTIONS: Mapping[tuple[str, str], str] = {
    ("meshnode/node.py", "meshnode.host.RealHost"): "the default of a node that is given no host",
    ("meshnode/client.py", "meshnode.host.RealHost"): "the default of a client that is given no host",
    (
        "meshnode/node.py",
        "importlib.import_module",
    ): "--app names modules of the user's program; only Python finds them",
    ("meshnode/log.py", "logging.StreamHandler"): "the command line renders log lines to its own stderr",
    ("meshnode/log.py", "structlog.dev.ConsoleRenderer"): "renders lines for people; asks nothing outside",
    ("meshnode/log.py", "structlog.processors"): "renders lines, each with the wall clock that people expect on it",
    (
        "meshnode/prediction/backend.py",
        "pathlib.Path",
    ): "a value that `kernels` takes; that library keeps its own cache",
}
"""(file, name): why it is allowed there and nowhere else. A test sees to it that none outlives its use."""

WAYS_OUT: Mapping[str, str] = {
    "time": "take it from Host: now, sleep_until, deadline; wall_clock is for people",
    "files": "take it from Host: disk",
    "network": "take it from Host: datagrams, listen, dial",
    "chance": "take it from Host: rng, or fresh_id for names",
    "work": "take it from Host: run_blocking, own_loop, mailbox",
    "host": "be given a Host; only a node or a client without one makes the real one",
    "code": "write the code out",
}

SUBJECTS: Mapping[str, str] = {
    **dict.fromkeys(("time", "datetime", "zoneinfo", "sched"), "time"),
    **dict.fromkeys(("trio.sleep", "trio.sleep_until", "trio.current_time", "trio.CancelScope"), "time"),
    **dict.fromkeys(("trio.move_on_after", "trio.move_on_at", "trio.fail_after", "trio.fail_at"), "time"),
    **dict.fromkeys(("os", "io", "pathlib", "shutil", "tempfile", "glob", "fcntl", "mmap", "posixpath"), "files"),
    **dict.fromkeys(("trio.Path", "trio.open_file", "trio.wrap_file", "open"), "files"),
    **dict.fromkeys(("socket", "ssl", "select", "selectors", "http", "urllib", "trio.socket"), "network"),
    **dict.fromkeys(("trio.open_tcp_stream", "trio.open_tcp_listeners", "trio.serve_tcp", "trio_websocket"), "network"),
    **dict.fromkeys(("random", "secrets", "uuid", "numpy.random", "os.urandom"), "chance"),
    **dict.fromkeys(("threading", "subprocess", "multiprocessing", "concurrent", "asyncio", "signal"), "work"),
    **dict.fromkeys(("trio.to_thread", "trio.from_thread", "trio.run", "trio.run_process"), "work"),
    **dict.fromkeys(("trio.open_signal_receiver", "trio.CapacityLimiter"), "work"),
    **dict.fromkeys(("meshnode.host", "meshnode.real_disk"), "host"),
    **dict.fromkeys(("eval", "exec", "compile", "__import__", "importlib"), "code"),
}
"""What a name is about; the longest one that fits decides."""

DEFAULT_WAY_OUT = (
    "if it touches the outside, take it from Host; if not, add it to ALLOWED in tests/architecture/allowlist.py"
)


def prefixes(name: str) -> list[str]:
    """The name and what it is an attribute of, the longest first."""
    parts = name.split(".")
    return [".".join(parts[:length]) for length in range(len(parts), 0, -1)]


def is_allowed(name: str) -> bool:
    """Whether a dotted name may be used anywhere."""
    for prefix in prefixes(name):
        if prefix in REFUSED:
            return False
        if prefix in ALLOWED:
            return True
    return False


def is_partly_allowed(module: str) -> bool:
    """Whether importing the module is no harm in itself, because some of its names may be used."""
    return any(allowed.startswith(f"{module}.") for allowed in (*ALLOWED, *(name for _path, name in EXCEPTIONS)))


def way_out(name: str) -> str:
    """What to do instead."""
    return next((WAYS_OUT[SUBJECTS[prefix]] for prefix in prefixes(name) if prefix in SUBJECTS), DEFAULT_WAY_OUT)
