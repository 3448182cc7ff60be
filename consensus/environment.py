"""What the driver is given: time, somewhere to block, and what the log is applied to."""

from collections.abc import Awaitable, Callable
from typing import Protocol


class Clock(Protocol):
    """Time, as the node sees it: monotonic seconds."""

    def now(self) -> float: ...

    async def sleep_until(self, deadline: float) -> None:
        """Return at `deadline` or later; at once, after a checkpoint, if it is past."""
        ...


class StateMachine(Protocol):
    """What the log is applied to, on every member in the same order."""

    def apply(self, index: int, data: bytes) -> object:
        """Apply an entry that was proposed. The result goes to its proposer, and depends on the entries alone.

        It blocks the node, so it must be quick. An exception ends the node: the entry cannot be skipped.
        """
        ...


class RunBlocking(Protocol):
    """Runs a blocking call elsewhere, such as `trio.to_thread.run_sync`."""

    def __call__(self, call: Callable[[], None], /) -> Awaitable[None]: ...
