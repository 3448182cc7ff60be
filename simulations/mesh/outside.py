"""Services outside of the mesh, as the agents of a workload reach them."""

import functools
from collections.abc import Awaitable, Callable
from typing import Any

import outcome
import trio

from simulations.hosts import Trace
from simulations.hosts.quality import Paths
from simulations.kernel import Events
from simulations.kernel.process import current_process

WORKLOAD = "workload"
"""Who asks when no process does."""


class Outside:
    """The methods of ``service``, to be awaited from wherever.

    1. A request is under way for a while. Then the service's method, a plain function, does all that it does at one
       moment, and what it returns or raises is under way in turn.
    2. Nothing calls a request back: neither the end of its process, nor a scope that is cancelled, nor its node's being
       no primary any more. It arrives all the same.
    3. Requests are under way each for itself, so a later one may arrive before an earlier one.

    Args:
        name: for the trace.
        paths: how long requests and answers take.
    """

    def __init__(self, service: object, name: str, *, events: Events, trace: Trace, paths: Paths) -> None:
        self._service = service
        self._name = name
        self._events = events
        self._trace = trace
        self._paths = paths

    def __getattr__(self, method: str) -> Callable[..., Awaitable[Any]]:
        if method.startswith("_"):
            raise AttributeError(f"{self._name} offers nothing that begins with '_', and so no {method}")
        return functools.partial(self._ask, method, getattr(self._service, method))

    async def _ask(self, method: str, work: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        await trio.lowlevel.checkpoint_if_cancelled()
        events, task = self._events, trio.lowlevel.current_task()
        process = current_process()
        sender = WORKLOAD if process is None else process.name
        sent_s = events.now
        waits = True

        def arrive() -> None:
            late = f", sent {events.now - sent_s:.3f} s ago"
            self._trace.note(events.now, "outside", f"{sender}: {_shown(self._name, method, arguments, named)}{late}")
            answer = outcome.capture(work, *arguments, **named)
            events.after(self._paths.draw(self._name, sender, "answer").delay_s, functools.partial(come_back, answer))

        def come_back(answer: outcome.Outcome[Any]) -> None:
            if waits:
                trio.lowlevel.reschedule(task, answer)

        def abort(_raise_cancel: Any) -> trio.lowlevel.Abort:
            nonlocal waits
            waits = False
            return trio.lowlevel.Abort.SUCCEEDED

        events.after(self._paths.draw(sender, self._name, "request").delay_s, arrive)
        return await trio.lowlevel.wait_task_rescheduled(abort)


def _shown(name: str, method: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> str:
    shown = [_plain(value) for value in arguments] + [f"{key}={_plain(value)}" for key, value in named.items()]
    return f"{name}.{method}({', '.join(shown)})"


def _plain(value: object) -> str:
    """The value, if its text is the same in every process."""
    return f"{value!r:.40}" if isinstance(value, bool | int | float | str | bytes | None) else type(value).__name__
