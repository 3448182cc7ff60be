"""What the driver is given: time, somewhere to block, and what the log is applied to."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol, TypeAlias

Image: TypeAlias = Callable[[], Iterable[bytes]]
"""Gives out a state, in pieces of any size."""


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

    def freeze(self) -> Image:
        """Keep the state of this moment, quickly; what is returned gives it out.

        It is called once, in another thread, while `apply` goes on. What it gives out depends on the state alone.
        """
        ...

    def restore(self, pieces: Iterable[bytes]) -> Callable[[], None]:
        """Read what `freeze` gave out, cut anywhere: in another thread, so nothing of the present state may change.

        What is returned puts the state that was read in the place of the present one, quickly, where `apply` runs.
        """
        ...


class RunBlocking(Protocol):
    """Runs a blocking call elsewhere, such as `trio.to_thread.run_sync`."""

    def __call__(self, call: Callable[[], None], /) -> Awaitable[None]: ...
