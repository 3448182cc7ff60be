"""Listening in on production code: its methods are wrapped from outside, and what is heard is judged at once.

Nodes don't know. What a listener is told happens in the order in which it happens in the world, since all nodes run in
one thread.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from simulations.checkers.violation import Violation
from simulations.kernel.process import current_process

Method = Callable[..., Any]

Wrapping = tuple[type, str, Callable[[Method], Method]]
"""A class, the name of a method, and what makes the method that stands in for it."""


class Listener:
    """One subject of a run.

    Args:
        clock: virtual seconds.
        fail: told of a violation.
    """

    def __init__(self, clock: Callable[[], float], fail: Callable[[Violation], None]) -> None:
        self.clock = clock
        self._fail = fail

    def wrappings(self) -> tuple[Wrapping, ...]:
        """What to listen to."""
        raise AssertionError(f"{type(self).__name__} says what it listens to")

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """While this lasts, nodes that are made are listened to."""
        with contextlib.ExitStack() as undo:
            for owner, name, around in self.wrappings():
                original = getattr(owner, name)
                undo.callback(setattr, owner, name, original)
                setattr(owner, name, around(original))
            yield

    def tell(self, judge: Callable[..., object], *what: Any) -> None:
        """Tell a checker, unless it is the last step of a process that has been killed, which nobody sees, or of an
        impostor, which nobody answers for."""
        process = current_process()
        if process is not None and (process.is_stray or not process.is_alive):
            return
        try:
            judge(*what)
        except Violation as violation:
            self._fail(violation)

    def before(self, judge: Callable[..., object]) -> Callable[[Method], Method]:
        """Tell ``judge`` of each call of a method, with its arguments, before it runs."""

        def around(original: Method) -> Method:
            def heard(*arguments: Any, **named: Any) -> Any:
                self.tell(judge, *arguments)
                return original(*arguments, **named)

            return heard

        return around

    def after(self, judge: Callable[..., object]) -> Callable[[Method], Method]:
        """Tell ``judge`` of each call of a method, with its arguments, once it has returned."""

        def around(original: Method) -> Method:
            def heard(*arguments: Any, **named: Any) -> Any:
                result = original(*arguments, **named)
                self.tell(judge, *arguments)
                return result

            return heard

        return around
