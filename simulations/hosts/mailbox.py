"""A mailbox between the loops of one simulated process, which are tasks of one run."""

from typing import Generic, TypeVar

import trio

K = TypeVar("K")
T = TypeVar("T")


class SimMailbox(Generic[K, T]):
    """A `meshnode.host.Mailbox`."""

    def __init__(self, bound: int) -> None:
        if bound < 1:
            raise ValueError(f"a mailbox of {bound} subjects would drop everything: give it room for at least one")
        self.dropped = 0
        self._bound = bound
        self._events: dict[K, T] = {}
        self._arrived = trio.Event()

    def put(self, key: K, event: T) -> None:
        if key not in self._events and len(self._events) >= self._bound:
            self.dropped += 1
            return
        self._events[key] = event
        self._arrived.set()

    async def receive(self) -> dict[K, T]:
        if self._events:
            await trio.lowlevel.checkpoint()
        while not self._events:
            self._arrived = trio.Event()
            await self._arrived.wait()
        events, self._events = self._events, {}
        return events
