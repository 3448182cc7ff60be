"""The loop of a run: which task takes the next step."""

import math
import random
from collections.abc import Awaitable, Callable, Generator
from typing import Any

import outcome
import trio
import trio._core._run as scheduler
from trio._core._traps import CancelShieldedCheckpoint, WaitTaskRescheduled

AT_ONCE_S = 0.0
ROUNDS = 5_000
"""After so many, it is looked at whether time passes."""


@trio.lowlevel.enable_ki_protection
def run_tasks(
    rng: random.Random,
    runner: scheduler.Runner,
    async_fn: Callable[..., Awaitable[object]],
    arguments: tuple[Any, ...],
    host_uses_signal_set_wakeup_fd: bool = False,
) -> Generator[float, Any, None]:
    """Stands in for trio's own loop, which does the same and more, for sockets, guests and instruments.

    A generator that yields when it has to be told what came from outside, such as that the user wants it to end, and
    for how long to wait for that. All else is up to the clock, which passes time when no task can run.

    Args:
        rng: draws the order in which tasks take a step that can take one at the same moment.

    Raises:
        trio.TrioInternalError: the clock raised, or this has broken down.
    """
    assert not host_uses_signal_set_wakeup_fd, "there are no guests"
    clock: Any = runner.clock  # a `run.VirtualClock`, which says more than trio's
    deadlines, runnable, entries = runner.deadlines, runner.runq, runner.entry_queue
    try:
        entries.wakeup.wakeup_on_signals()
        clock.start_clock()
        runner.init_task = runner.spawn_impl(runner.init, (async_fn, arguments), None, "<init>", system_task=True)
        rounds = 0
        while runner.tasks:
            rounds += 1
            if rounds == ROUNDS:
                rounds = 0
                clock.check_progress(runnable)
            if not runnable:
                clock.deadline_to_sleep_time(deadlines.next_deadline())
            if entries.queue or entries.idempotent_queue:
                runner.io_manager.process_events((yield AT_ONCE_S))
            if deadlines._heap and deadlines._heap[0][0] <= clock.current_time():
                deadlines.expire(clock.current_time())
            if not runnable and runner.waiting_for_idle:
                _wake_who_waits_for_idleness(runner)
            if len(runnable) == 1:
                _step(runner, runnable.popleft())
                continue
            batch = sorted(runnable, key=_age)
            runnable.clear()
            rng.shuffle(batch)
            while batch:
                _step(runner, batch.pop())
    except BaseException as error:
        raise trio.TrioInternalError("an event of the simulation failed, or its loop did") from error
    finally:
        runner.close()
        scheduler.GLOBAL_RUN_CONTEXT.__dict__.clear()
        if runner.ki_pending:
            runner.main_task_outcome = outcome.Error(KeyboardInterrupt())


def _age(task: scheduler.Task) -> int:
    return task._counter


def _step(runner: scheduler.Runner, task: scheduler.Task) -> None:
    """Let the task run until it waits, or to its end."""
    context = scheduler.GLOBAL_RUN_CONTEXT
    context.task = task
    send, value = task._next_send_fn, task._next_send
    assert send is not None, "it has no step to take"
    task._next_send_fn = task._next_send = None
    ended: outcome.Outcome[object] | None = None
    try:
        waits_for = task.context.run(send, value)
    except StopIteration as stop:
        ended = outcome.Value(stop.value)
    except BaseException as error:  # noqa: BLE001 - whatever ends the task is for its nursery
        ended = outcome.Error(error)
        if error.__traceback__ is not None:
            error.__traceback__ = error.__traceback__.tb_next  # this frame, which keeps the error
    if ended is not None:
        runner.task_exited(task, ended)
    elif waits_for is CancelShieldedCheckpoint:
        runner.reschedule(task)
    else:
        assert type(waits_for) is WaitTaskRescheduled, f"{waits_for!r} is not of trio: what awaits it?"
        task._abort_func = waits_for.abort_func
        if runner.ki_pending and task is runner.main_task:
            task._attempt_delivery_of_pending_ki()
        task._attempt_delivery_of_any_pending_cancel()
    del context.task


class _DeadlineChange:
    """While it is entered, the scope's deadline, or whether it has one, may change; then trio waits for the new one."""

    __slots__ = ("_scope",)

    def __init__(self, scope: trio.CancelScope) -> None:
        self._scope = scope

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        scope = self._scope
        has_ended = scope._cancel_status is None or scope._cancel_called
        before_s, after_s = scope._registered_deadline, math.inf if has_ended else scope._deadline
        if before_s != after_s:
            scope._registered_deadline = after_s
            deadlines = scheduler.GLOBAL_RUN_CONTEXT.runner.deadlines
            if before_s != math.inf:
                deadlines.remove(before_s, scope)
            if after_s != math.inf:
                deadlines.add(after_s, scope)


def change_deadline(scope: trio.CancelScope) -> _DeadlineChange:
    """Stands in for trio's own, which does the same for guests, too, and at several times the cost."""
    return _DeadlineChange(scope)


def _wake_who_waits_for_idleness(runner: scheduler.Runner) -> None:
    """Those that wait for the shortest time of it: in this world it takes none."""
    waiting = runner.waiting_for_idle
    least, _ = waiting.keys()[0]
    while waiting and waiting.keys()[0][0] == least:
        runner.reschedule(waiting.popitem(0)[1])
