"""Processes that work side by side, of which any may die."""

import contextlib
import itertools
import logging
import multiprocessing
import multiprocessing.connection
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from typing import Any, Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

AHEAD = 4
"""So many items for each worker are begun or done while an earlier one is not: results come in order, and a slow item
holds back no worker for long."""


@dataclass(frozen=True, slots=True)
class Lost(Generic[T]):
    """The process that worked on the item is gone."""

    item: T
    reason: str


class _Worker:
    def __init__(self, work: Callable[[Any], Any]) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([work_module(work)])
        self.connection, far = context.Pipe()
        self.process: ForkServerProcess = context.Process(target=_serve, args=(far, work), daemon=True)
        self.process.start()
        far.close()
        self.number: int | None = None
        """Of the item at which it is."""

    def lost(self) -> str:
        """Why it is gone."""
        self.process.join()
        self.connection.close()
        code = self.process.exitcode or 0
        if code < 0:
            return f"the process that ran it was ended by {signal.Signals(-code).name}"
        return f"the process that ran it ended by itself, with exit code {code}"


class Workers(Generic[T, R]):
    """``jobs`` processes that carry out ``work``, each one item at a time; a context manager that ends them.

    What is given and what comes back is pickled. An interrupt from the keyboard is for whoever made them.
    """

    def __init__(self, work: Callable[[T], R], jobs: int) -> None:
        self._work = work
        self._jobs = jobs
        self._workers: list[_Worker] = []

    def __enter__(self) -> "Workers[T, R]":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        """End them, whatever they are at."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()
            worker.connection.close()
        self._workers.clear()

    def run(self, items: Iterable[T]) -> Iterator[R | Lost[T]]:
        """Carry out the work for each item; the results come in the order of the items."""
        source = enumerate(items)
        given: dict[int, T] = {}
        done: dict[int, R | Lost[T]] = {}
        is_more, next_out = True, 0
        while True:
            while next_out in done:
                yield done.pop(next_out)
                next_out += 1
            while is_more and len(given) < self._jobs and len(given) + len(done) < AHEAD * self._jobs:
                is_more = False
                for number, item in itertools.islice(source, 1):
                    is_more = True
                    given[number] = item
                    self._give(number, item)
            if not given:
                return
            busy = {worker.connection: worker for worker in self._workers if worker.number is not None}
            for ready in multiprocessing.connection.wait(list(busy)):
                worker = busy[ready]  # type: ignore[index]
                assert worker.number is not None
                number, worker.number = worker.number, None
                item = given.pop(number)
                try:
                    done[number] = worker.connection.recv()
                except (EOFError, OSError):
                    self._workers.remove(worker)
                    done[number] = Lost(item, worker.lost())

    def _give(self, number: int, item: Any) -> None:
        """To one that is idle, or a new one."""
        idle = next((worker for worker in self._workers if worker.number is None), None)
        if idle is None:
            idle = _Worker(self._work)
            self._workers.append(idle)
        idle.number = number
        with contextlib.suppress(OSError):  # that it is gone is seen where its answer is awaited
            idle.connection.send(item)


def work_module(work: Any) -> str:
    """Where a function is from, be it wrapped in a `functools.partial` or not."""
    return str(getattr(work, "func", work).__module__)


def _serve(connection: Any, work: Callable[[Any], Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.disable(logging.CRITICAL)  # thousands of nodes have much to say
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):  # nobody is left to work for
        while True:
            connection.send(work(connection.recv()))


@contextlib.contextmanager
def interruptible(say_so: Callable[[], None]) -> Iterator[None]:
    """While this lasts, an interrupt from the keyboard ends this process at once, after ``say_so``.

    An exception would surface in the middle of a run, as an error of some simulated node.
    """

    def end(_signal: int, _frame: object) -> None:
        for child in multiprocessing.active_children():
            child.kill()
        try:
            say_so()
        finally:
            os._exit(128 + signal.SIGINT)

    before = signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
