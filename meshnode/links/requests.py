"""Questions with one answer each, over links."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import trio

from meshnode.errors import Unavailable
from meshnode.identity import NodeId
from meshnode.links.frames import Channel
from meshnode.links.links import Links

A = TypeVar("A")


class LinkLost(Unavailable):
    """The peer can't be reached, or its connection ended before it answered.

    Attributes:
        was_sent: whether the question may have arrived, so that the peer may have acted on it.
    """

    def __init__(self, message: str, *, was_sent: bool) -> None:
        super().__init__(message)
        self.was_sent = was_sent


class _Waiter(Generic[A]):
    def __init__(self) -> None:
        self.event = trio.Event()
        self.answer: A | None = None
        self.was_sent = False


class Requests(Generic[A]):
    """Pairs the answers that arrive with the questions that were asked.

    A question carries a number that its answer repeats. An answer to a question that nobody asked, or asked of another
    peer, is dropped.
    """

    def __init__(self, links: Links, channel: Channel) -> None:
        self._links = links
        self._channel = channel
        self._last_number = 0
        self._waiting: dict[NodeId, dict[int, _Waiter[A]]] = {}
        links.on_end(self._lost)

    async def ask(self, peer: NodeId, question: Callable[[int], Any]) -> A:
        """Send ``question(number)`` and wait for the answer, for as long as the caller's scope allows.

        Raises:
            LinkLost: the peer can't be reached, or its connection ended first.
        """
        await self._links.wait_for_room(peer, self._channel)
        self._last_number += 1
        number = self._last_number
        waiter: _Waiter[A] = _Waiter()
        self._waiting.setdefault(peer, {})[number] = waiter
        try:
            if not self._links.send(peer, self._channel, question(number)):
                raise LinkLost(f"{self._links.describe(peer)} can't be reached", was_sent=False)
            await waiter.event.wait()
        finally:
            waiting = self._waiting.get(peer)
            if waiting is not None:
                waiting.pop(number, None)
                if not waiting:
                    del self._waiting[peer]
        if waiter.answer is None:
            who = self._links.describe(peer)
            if waiter.was_sent:
                raise LinkLost(f"the connection to {who} ended before it answered", was_sent=True)
            raise LinkLost(f"{who} can't be reached", was_sent=False)
        return waiter.answer

    def answered(self, peer: NodeId, number: int, answer: A) -> None:
        """Take the answer to question ``number`` of ``peer``."""
        waiter = self._waiting.get(peer, {}).get(number)
        if waiter is not None and not waiter.event.is_set():
            waiter.answer = answer
            waiter.event.set()

    def _lost(self, peer: NodeId, was_linked: bool) -> None:
        for waiter in self._waiting.get(peer, {}).values():
            waiter.was_sent = was_linked
            waiter.event.set()
