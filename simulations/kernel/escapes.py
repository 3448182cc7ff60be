"""Catches what reaches past the simulated world: real time, real chance, files, sockets, threads, processes.

A run that depends on any of them can't be repeated. What Python audits is caught by an audit hook; functions that it
does not audit, such as `time.time`, are replaced while a run lasts, in their own modules and wherever else a module has
them under a name, as after ``from time import time``. Neither does anything between runs, or in other threads.

Python itself and tools around a run may do as they like: modules that are imported late, source lines in tracebacks,
log records, debuggers, pytest and hypothesis. What is out of sight: references in other places, such as a default
argument, and compiled code that asks the system itself.
"""

import _thread
import contextlib
import datetime
import os
import random
import sys
import threading
import time
import types
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

_FILES = ("fcntl", "glob", "mmap", "open", "os", "pathlib", "shutil", "sqlite3", "tempfile")
_SOCKETS = ("ftplib", "http", "imaplib", "nntplib", "poplib", "smtplib", "socket", "syslog", "urllib", "webbrowser")
WATCHED = frozenset({*_FILES, *_SOCKETS, "_thread", "pty", "subprocess"})
"""Audited events, by the part of their names before the first dot."""

_PYTHON = ("linecache", "logging", "tokenize", "traceback", "warnings", "zoneinfo")
TOOLS = frozenset({*_PYTHON, "_pytest", "bdb", "coverage", "hypothesis", "pdb"})
"""What these modules, and what they call, do is no part of the world."""

_IMPORTS = "<frozen importlib"
_STEP = "run_tasks"
"""The function of `scheduling` where tasks take steps and time passes: what is outside of it called the run."""

ADVICE = (
    "In a simulation time, chance and everything outside come from the simulator, or no run could be repeated. An "
    "agent asks self.node.now() and self.node.wall_clock(), draws from self.node.rng and sleeps with trio.sleep; or it "
    "can take such a value as an argument of the call. What is really outside belongs behind a function that the "
    "simulated run replaces. In the node itself, use its Host"
)


class Escaped(Exception):
    """Something in a run reached past the simulated world: see `ADVICE` for the way out."""


class Guard:
    """Of one run.

    Attributes:
        escape: the first one that was caught. The run is to end by it: whoever did it may have caught it, too.
    """

    def __init__(self) -> None:
        self.escape: Escaped | None = None
        self._thread = threading.get_ident()

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """While this lasts, nobody reaches past the world unnoticed."""
        global _active
        assert _active is None, "one run at a time"
        _install()
        with contextlib.ExitStack() as undo:
            for namespace, name, real, stand_in in _bindings():
                if namespace.get(name) is real:
                    namespace[name] = stand_in
                    undo.callback(namespace.__setitem__, name, real)
            undo.callback(setattr, random.Random, "seed", random.Random.seed)
            random.Random.seed = _seed  # type: ignore[method-assign]
            _active = self
            try:
                yield
            finally:
                _active = None

    def check(self) -> None:
        """Raises Escaped if something did."""
        if self.escape is not None:
            raise self.escape

    def meet(self, what: str) -> None:
        """Somebody calls ``what``. Raises Escaped if that is not to be."""
        if threading.get_ident() != self._thread:
            return
        where = _culprit(sys._getframe(2))
        if where is not None:
            escape = Escaped(f"{what} was called {where}. {ADVICE}")
            self.escape = self.escape or escape
            raise escape


_active: Guard | None = None
"""The guard of the run that goes on right now."""

_is_installed = False


def _install() -> None:
    global _is_installed
    if not _is_installed:
        _is_installed = True
        sys.addaudithook(_audit)  # for as long as the process lives


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    if _active is not None and event.partition(".")[0] in WATCHED:
        _active.meet(f"{event}({', '.join(f'{argument!r:.60}' for argument in arguments)})")


def _culprit(frame: types.FrameType | None) -> str | None:
    """Who called, for people; None if that is Python itself or a tool."""
    found: types.FrameType | None = None
    while frame is not None and frame.f_code.co_name != _STEP:
        root = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if root in TOOLS or frame.f_code.co_filename.startswith(_IMPORTS):
            return None
        if found is None and root not in sys.stdlib_module_names:
            found = frame
        frame = frame.f_back
    if found is None:
        return "by Python's own library"
    return f"at {found.f_code.co_filename}:{found.f_lineno}, in {found.f_code.co_qualname}"


# ---- what is not audited


def _stand_in(name: str, real: Callable[..., Any], *, is_harmless: Callable[..., bool] | None = None) -> Any:
    def stand_in(*arguments: Any, **named: Any) -> Any:
        if _active is not None and not (is_harmless is not None and is_harmless(*arguments, **named)):
            _active.meet(f"{name}()")
        return real(*arguments, **named)

    return stand_in


def _seed(self: random.Random, a: Any = None, version: int = 2) -> None:
    """Stands in for `random.Random.seed`, which asks the system where it is given nothing."""
    if a is None and _active is not None:
        _active.meet("random.Random()")
    _real_seed(self, a, version)


_real_seed = random.Random.seed


class _Dated(type):
    """Makes of its classes what can't be told from `datetime` and `date`, except by asking them for the time."""

    real: type

    def __call__(cls, *arguments: Any, **named: Any) -> Any:
        return cls.real(*arguments, **named)

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, cls.real)

    def __subclasscheck__(cls, other: type) -> bool:
        return issubclass(other.real if isinstance(other, _Dated) else other, cls.real)

    def __getattr__(cls, name: str) -> Any:
        return getattr(cls.real, name)


def _dated(real: type, *asking: str) -> Any:
    asks = {name: staticmethod(_stand_in(f"{real.__name__}.{name}", getattr(real, name))) for name in asking}
    return _Dated(real.__name__, (), {"real": real, **asks})


def _has_time(*arguments: object) -> bool:
    return bool(arguments) and arguments[0] is not None


def _unaudited() -> Iterator[tuple[str, Any]]:
    """What asks the system without a word to the audit hook, by the names that people know it by."""
    for name, real in vars(time).items():
        if name.removesuffix("_ns") in _CLOCKS:
            yield f"time.{name}", real
    yield "time.sleep", time.sleep
    for name in ("start_new_thread", "start_joinable_thread"):
        if hasattr(_thread, name):
            yield f"_thread.{name}", getattr(_thread, name)
    for name in ("urandom", "getrandom"):
        if hasattr(os, name):
            yield f"os.{name}", getattr(os, name)
    yield "uuid.uuid1", uuid.uuid1
    yield "uuid.uuid4", uuid.uuid4
    for module, generator in ((random, random._inst), (np.random, np.random.mtrand._rand)):
        for name, real in vars(module).items():
            if getattr(real, "__self__", None) is generator:
                yield f"{module.__name__}.{name}", real


def _stand_ins() -> dict[int, tuple[Any, Any]]:
    """By the `id` of what they stand in for."""
    found: list[tuple[Any, Any]] = [(real, _stand_in(name, real)) for name, real in _unaudited()]
    asking: tuple[Callable[..., Any], ...] = (time.localtime, time.gmtime, time.ctime)
    found += [(real, _stand_in(f"time.{real.__name__}", real, is_harmless=_has_time)) for real in asking]
    found.append((datetime.datetime, _dated(datetime.datetime, "now", "utcnow", "today")))
    found.append((datetime.date, _dated(datetime.date, "today")))
    return {id(real): (real, stand_in) for real, stand_in in found}


_CLOCKS = frozenset({"time", "monotonic", "perf_counter", "process_time", "thread_time", "clock_gettime"})

_STAND_INS = _stand_ins()

_OWN = frozenset({"_thread", "datetime", "os", "random", "threading", "time", "uuid"})
"""Of Python's library these modules alone; what others do, as `logging`, is of no consequence."""

_known: list[tuple[dict[str, Any], str, Any, Any]] = []
_looked_at: set[str] = set()


def _bindings() -> list[tuple[dict[str, Any], str, Any, Any]]:
    """Where modules have what is to be replaced: namespace, name, what it is, what stands in for it."""
    for module_name in [name for name in list(sys.modules) if name not in _looked_at]:
        _looked_at.add(module_name)
        root = module_name.partition(".")[0]
        if module_name == __name__ or root in TOOLS or (root in sys.stdlib_module_names and module_name not in _OWN):
            continue
        namespace = getattr(sys.modules[module_name], "__dict__", {})
        for name, value in list(namespace.items()):
            real, stand_in = _STAND_INS.get(id(value), (None, None))
            if real is not None and real is value:
                _known.append((namespace, name, real, stand_in))
    return _known
