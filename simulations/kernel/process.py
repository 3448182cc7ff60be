"""A process as the kernel sees it: tasks that can be stopped, slowed, or gone from one step to the next."""

import contextlib
import contextvars
import enum
import functools
import gc
import math
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from types import AsyncGeneratorType
from typing import Any, TypeAlias

import outcome
import trio
import trio._core._run as scheduler
from trio._core._traps import WaitTaskRescheduled

from simulations.kernel.events import Events, Handle

THROWS_MAX = 1000
"""Nested `finally` blocks that wait; no code has as many."""

_LOOP: contextvars.ContextVar["Loop"] = contextvars.ContextVar("loop")

_schedule = scheduler.Runner.reschedule

# What a task yields to trio when it is not to go on: it waits, and nothing will ever wake it.
_NEVER = WaitTaskRescheduled(lambda _raise_cancel: trio.lowlevel.Abort.FAILED)


class Killed(BaseException):
    """Raised out of whatever a process was doing, such as a write, when it is killed in the middle of it."""


class State(enum.Enum):
    """Of a loop."""

    RUNNING = 1
    PAUSED = 2
    DEAD = 3


# Looked at in each step: a name of the module is found faster than a member of an enumeration.
_PAUSED, _DEAD = State.PAUSED, State.DEAD


class Loop:
    """Tasks of one event loop of a process: what trio would run goes through here."""

    def __init__(self, process: "Process", name: str) -> None:
        self.process = process
        self.name = name
        self.state = State.RUNNING
        self._held: deque[scheduler.Task] = deque()
        self._resume: Handle | None = None

    def spawn(self, nursery: trio.Nursery, main: Callable[[], Awaitable[object]], name: str) -> None:
        """Start a task in this loop; the tasks that it starts are in it too."""
        token = _LOOP.set(self)
        nursery.start_soon(main, name=name)
        _LOOP.reset(token)

    def hold(self, runner: scheduler.Runner) -> None:
        """Keep the task that was just made runnable until the loop goes on."""
        self._held.append(runner.runq.pop())
        if self.state is State.RUNNING and self._resume is None:
            self._resume = self.process.events.at(self.process.busy_until_s, self._go_on)

    def waiting(self) -> list[scheduler.Task]:
        """The tasks that have a step to take."""
        runner = scheduler.GLOBAL_RUN_CONTEXT.runner
        return [*self._held, *(task for task in runner.runq if task.context.get(_LOOP) is self)]

    def pause(self) -> None:
        """Run nothing from now on."""
        if self.state is State.RUNNING:
            self.state = State.PAUSED
            runner = scheduler.GLOBAL_RUN_CONTEXT.runner
            self._held.extend(task for task in runner.runq if task.context.get(_LOOP) is self)
            _purge(runner, self)

    def resume(self) -> None:
        """Go on where it stopped."""
        if self.state is State.PAUSED:
            self.state = State.RUNNING
            if self._resume is None:  # else it is slow, and their time has not come
                self._go_on()

    def end(self) -> None:
        """Never run again."""
        self.state = State.DEAD
        self._held.clear()
        if self._resume is not None:
            self._resume.cancel()

    def _go_on(self) -> None:
        self._resume = None
        if self.state is State.RUNNING:
            scheduler.GLOBAL_RUN_CONTEXT.runner.runq.extend(self._held)
            self._held.clear()


class Process:
    """One life of a program: a root task in a nursery, and the loops that it opened.

    Args:
        step_s: virtual seconds that each step of each task takes; 0 for a fast machine.
        on_end: told how the root task ended by itself; not called for a process that is killed.
    """

    def __init__(
        self,
        events: Events,
        *,
        name: str,
        step_s: float = 0.0,
        on_end: Callable[[outcome.Outcome[object]], None] = lambda _outcome: None,
    ) -> None:
        self.events = events
        self.name = name
        self.step_s = step_s
        self.busy_until_s = 0.0
        self.main = Loop(self, "main")
        self.loops = [self.main]
        self.is_alive = True
        self.is_stray = False
        """It runs on data that is not its to use: what it says binds nobody, and is not judged."""
        self._steps_left: int | None = None
        self._on_end = on_end
        self._on_kill: list[Callable[[], None]] = []

    def start(self, nursery: trio.Nursery, program: Callable[[], Awaitable[object]]) -> None:
        """Run the program as the process's root."""
        self.main.spawn(nursery, functools.partial(self._root, program), self.name)

    def open_loop(self, name: str) -> Loop:
        """Another loop of this process."""
        loop = Loop(self, name)
        self.loops.append(loop)
        return loop

    def on_kill(self, action: Callable[[], None]) -> None:
        """Call ``action`` when the process is killed, before its tasks are gone: what fences it from the outside."""
        self._on_kill.append(action)

    @property
    def steps_left(self) -> int | None:
        """Kill the process when its tasks have taken so many more steps, and let none of them take another one.

        To be set by an event; None calls it off, unless they have all been taken.
        """
        return self._steps_left

    @steps_left.setter
    def steps_left(self, steps: int | None) -> None:
        if steps is not None and steps < 1:
            raise ValueError(f"steps_left is {steps}: choose 1 or more, or kill the process")
        if self._steps_left == 0:
            return
        if self._steps_left is None and steps is not None:
            for task in [task for loop in self.loops for task in loop.waiting()]:
                self.count_step(task)
        self._steps_left = steps

    def count_step(self, task: scheduler.Task) -> None:
        """The step that the task is about to take is one of `steps_left`."""
        send = task._next_send_fn
        assert send is not None, "it has no step to take"
        task._next_send_fn = functools.partial(self._step, send)

    def _step(self, send: Callable[[Any], object], value: Any) -> object:
        if self._steps_left is not None:
            if self._steps_left == 0:
                return _NEVER
            self._steps_left -= 1
            if self._steps_left == 0:
                self.events.at(self.events.now, self.kill)
        return send(value)

    def pause(self) -> None:
        """As by SIGSTOP."""
        for loop in self.loops:
            loop.pause()

    def resume(self) -> None:
        """As by SIGCONT."""
        for loop in self.loops:
            loop.resume()

    def kill(self) -> None:
        """As by SIGKILL: no task of the process takes another step, nothing of it is cleaned up. Only from an event."""
        assert not hasattr(scheduler.GLOBAL_RUN_CONTEXT, "task"), "the tasks of this moment will still take their steps"
        if not self.is_alive:
            return
        self.is_alive = False
        for action in self._on_kill:
            action()
        runner = scheduler.GLOBAL_RUN_CONTEXT.runner
        for task in runner.tasks:
            if _process_of(task) is None and self._has_descendant(task):
                task.context.run(_LOOP.set, self.main)
        for loop in self.loops:
            loop.end()
            _purge(runner, loop)
        dead = [task for task in runner.tasks if _process_of(task) is self]
        for task in dead:
            task._abort_func = None  # no cancellation reaches it
            runner.tasks.remove(task)
        # Those whose parent lives: the root, and what the process started in nurseries of others.
        orphans: list[tuple[scheduler.Task, trio.Nursery]] = []
        for task in dead:
            nursery = task._parent_nursery
            if nursery is not None and _process_of(nursery.parent_task) is not self:
                orphans.append((task, nursery))
        _detach(runner, dead, {nursery._cancel_status for _task, nursery in orphans})
        for task, nursery in orphans:
            nursery._child_finished(task, outcome.Value(None))
        # Collected now, their `finally` blocks would run in the middle of the simulation.
        _graveyard.get().extend(dead)

    def _has_descendant(self, task: scheduler.Task) -> bool:
        """Whether somebody outside started the task in a nursery of this process, as a call to its client does."""
        nursery = task._parent_nursery
        while nursery is not None and _process_of(nursery.parent_task) is not self:
            nursery = nursery.parent_task._parent_nursery
        return nursery is not None

    async def _root(self, program: Callable[[], Awaitable[object]]) -> None:
        ended = await outcome.acapture(program)
        if not self.is_alive:
            return  # and buried
        if isinstance(ended, outcome.Error) and _was_killed(ended.error):
            self.events.at(self.events.now, self.kill)
            await trio.sleep_forever()
        self.is_alive = False
        self._on_end(ended)


def current_process() -> Process | None:
    """The process whose task runs right now."""
    loop = _LOOP.get(None)
    return None if loop is None else loop.process


def _process_of(task: scheduler.Task) -> Process | None:
    loop = task.context.get(_LOOP)
    return None if loop is None else loop.process


Mortal: TypeAlias = scheduler.Task | AsyncGeneratorType[Any, Any]

_graveyard: contextvars.ContextVar[list[Mortal]] = contextvars.ContextVar("graveyard")


def _was_killed(error: BaseException) -> bool:
    """Whether a step that was not put off to another thread hit upon the end of the process."""
    return isinstance(error, Killed) or (isinstance(error, BaseExceptionGroup) and error.subgroup(Killed) is not None)


def _detach(runner: scheduler.Runner, dead: list[scheduler.Task], living: set[scheduler.CancelStatus | None]) -> None:
    """Take the cancel scopes of tasks out of the tree and the deadlines of those that live on.

    Args:
        living: the cancel statuses right above theirs.
    """
    for task in dead:
        status: scheduler.CancelStatus | None = task._cancel_status
        while status is not None and status not in living:
            scope = status._scope
            if scope._registered_deadline != math.inf:
                runner.deadlines.remove(scope._registered_deadline, scope)
                scope._registered_deadline = math.inf
            if status.parent in living:
                status.parent = None
            status = status.parent
        if task._cancel_status in living:
            task._activate_cancel_status(None)


def _purge(runner: scheduler.Runner, loop: Loop) -> None:
    kept = [task for task in runner.runq if task.context.get(_LOOP) is not loop]
    runner.runq.clear()
    runner.runq.extend(kept)


class _Nothing:
    """What a task is sent that waited for nothing in particular: an outcome that can be used again and again."""

    def unwrap(self) -> None:
        """No value, and no error."""


_NOTHING: Any = _Nothing()


def _reschedule(runner: scheduler.Runner, task: scheduler.Task, next_send: Any = scheduler._NO_SEND) -> None:
    """Stands in for trio's own, which does the same and more, for guests and instruments that no simulation has."""
    loop = task.context.get(_LOOP)
    task._abort_func = None
    state = None if loop is None else loop.state
    if state is _DEAD:
        return
    assert task._next_send_fn is None, "it has a step to take already"
    task._next_send_fn = task.coro.send
    task._next_send = _NOTHING if next_send is scheduler._NO_SEND else next_send
    task.custom_sleep_data = None
    runner.runq.append(task)
    if loop is None:
        return
    process = loop.process
    if process._steps_left is not None:
        process.count_step(task)
    if process.step_s:
        process.busy_until_s = max(process.busy_until_s, process.events.now) + process.step_s
        loop.hold(runner)
    elif state is _PAUSED:
        loop.hold(runner)


@contextlib.contextmanager
def processes() -> Iterator[list[Mortal]]:
    """While this lasts, tasks of processes can be held and dropped; then those that were killed are buried.

    They are in the list that this gives, to which may be added what else will never go on.
    """
    dead: list[Mortal] = []
    token = _graveyard.set(dead)
    scheduler.Runner.reschedule = _reschedule  # type: ignore[method-assign,assignment]
    try:
        yield dead
    finally:
        scheduler.Runner.reschedule = _schedule  # type: ignore[method-assign]
        _graveyard.reset(token)
        _bury(dead)


def _bury(dead: list[Mortal]) -> None:
    """Close what killed tasks left open. Outside of trio nothing that they clean up with succeeds, and nobody cares."""
    hook = sys.unraisablehook
    sys.unraisablehook = lambda _what: None
    try:
        tasks = [each for each in dead if isinstance(each, scheduler.Task)]
        for nursery in [nursery for task in tasks for nursery in task._child_nurseries]:
            nursery._children.clear()  # it will be asked whether it has ended well
        for task in tasks:
            # Thrown, not closed: that would leave behind each coroutine whose `finally` waits for something.
            with contextlib.suppress(BaseException):
                for _attempt in range(THROWS_MAX):
                    task.context.run(task.coro.throw, Killed())
        is_left = any(isinstance(each, AsyncGeneratorType) and each.ag_frame is not None for each in dead)
        dead.clear()
        tasks.clear()
        # A generator that nothing has closed complains when it is collected: now, while nobody listens, however old it
        # is. All else can wait, but for what the throwing has made.
        gc.collect(2 if is_left else 1)
    finally:
        sys.unraisablehook = hook
