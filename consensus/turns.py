"""When a node has its turns: a hop to another task takes as long as most of them."""

from collections.abc import Callable

import trio


class Turns:
    """Has turns in a task of its own, and at once where something has come while that task rests.

    Args:
        turn: does what is to be done; whether there is more.
    """

    def __init__(self, turn: Callable[[], bool]) -> None:
        self._turn = turn
        self._is_due = True
        self._is_resting = False
        self._wake = trio.Event()
        self._failure: BaseException | None = None

    def soon(self) -> None:
        """Have a turn in the task."""
        self._is_due = True
        if self._is_resting:
            self._wake.set()

    def at_once(self) -> None:
        """Have a turn here, unless one is due. An error of it ends the task, and not whoever calls this."""
        if self._is_due or not self._is_resting:
            self.soon()
            return
        try:
            self._have()
        except BaseException as error:
            self._failure = error
            self.soon()
            if not isinstance(error, Exception):  # such as Ctrl-C
                raise

    async def run(self) -> None:
        """Until a turn fails."""
        while True:
            if self._failure is not None:
                raise self._failure
            if self._is_due:
                self._is_due = False
                self._have()
            if self._is_due:
                await trio.lowlevel.checkpoint()  # others have their turn
                continue
            self._wake = trio.Event()
            self._is_resting = True
            try:
                await self._wake.wait()
            finally:
                self._is_resting = False

    def _have(self) -> None:
        if self._turn():
            self.soon()
