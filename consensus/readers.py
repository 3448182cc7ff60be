"""Reads of this process that wait: for a leader's word on the index, and then until that index is applied here.

One question to the core is under way at a time, and the reads that come meanwhile share the next one: so one round of
the leader answers them all, however many they are. A question may be lost, so it is asked again after a while; its
answer counts for all that were asked before it.
"""

from collections import deque
from collections.abc import Callable
from typing import Final

from consensus.errors import NodeStopped, Overloaded, ProposalDropped
from consensus.messages import ReadState
from consensus.waiting import Deadlines, Waiter

WAITING_MAX: Final = 1 << 16
"""Reads that wait, some 200 bytes each: more than can be answered before a usual deadline."""


class Reader(Waiter):
    """One read. Its outcome is an index: this node has applied all that was agreed on when it was asked."""

    __slots__ = ("index", "request")

    def __init__(self, *, deadline: float, wake: Callable[[Waiter], None]) -> None:
        super().__init__(deadline, wake)
        self.request = 0
        """The first question that its answer may come from; 0 as long as it is in none."""
        self.index = 0
        """What has to be applied first; 0 as long as that is not known."""


class Readers:
    """All reads that wait.

    Args:
        retry_s: after which time without an answer a question is asked again.
        before: the number before that of the first question, drawn at random for each start: an answer that is still on
            its way to an earlier process of the same node knows nothing of what was agreed on since.
    """

    def __init__(self, *, retry_s: float, before: int) -> None:
        self._retry_s = retry_s
        # Together at most WAITING_MAX that wait, and with them those that gave up since the last question; of those
        # that are confirmed and not applied, as many again.
        self._unasked: list[Reader] = []
        self._asked: deque[Reader] = deque()
        self._confirmed: deque[Reader] = deque()
        self._before = self._request = before
        self._asked_at: float | None = None
        self._waiting = 0
        self._deadlines: Deadlines[Reader] = Deadlines()

    def __len__(self) -> int:
        return self._waiting

    def add(self, *, deadline: float, wake: Callable[[Waiter], None]) -> Reader:
        """Let a read wait. `wake` is called once, when it is settled.

        Raises:
            Overloaded: too many wait.
        """
        if self._waiting >= WAITING_MAX:
            raise Overloaded(f"{self._waiting} reads wait already: read again when some have come back")
        reader = Reader(deadline=deadline, wake=wake)
        self._waiting += 1
        self._unasked.append(reader)
        self._deadlines.add(reader)
        return reader

    def ask(self, now: float) -> int | None:
        """The number of a question to ask now; None if there is none to ask, or one is under way."""
        if self._asked_at is None:
            if not self._unasked and not self._asked:
                return None
        elif now < self._asked_at + self._retry_s:
            return None
        self._unasked = [reader for reader in self._unasked if not reader.settled]
        self._asked = deque(reader for reader in self._asked if not reader.settled)
        if len(self._confirmed) > 2 * self._waiting:  # half of them at least gave up
            self._confirmed = deque(reader for reader in self._confirmed if not reader.settled)
        self._asked_at = None
        if not self._unasked and not self._asked:
            return None
        self._request += 1
        self._asked_at = now
        for reader in self._unasked:
            reader.request = self._request
        self._asked += self._unasked
        self._unasked = []
        return self._request

    def ask_again(self) -> None:
        """There is another leader, so a question under way may be lost."""
        self._asked_at = None

    @property
    def next_question(self) -> float | None:
        """When to call `ask` next, if nothing happens before."""
        return None if self._asked_at is None else self._asked_at + self._retry_s

    def answered(self, state: ReadState) -> None:
        """An answer to a question has come."""
        if not self._before < state.request <= self._request:
            return  # it was asked by an earlier process
        if state.request == self._request:
            self._asked_at = None
        while self._asked and self._asked[0].request <= state.request:
            reader = self._asked.popleft()
            if not reader.settled:
                reader.index = state.index
                self._confirmed.append(reader)

    def applied(self, index: int) -> None:
        """Everything up to that index is applied."""
        while self._confirmed and self._confirmed[0].index <= index:
            reader = self._confirmed.popleft()
            if not reader.settled:
                self._waiting -= 1
                reader.settle(index)

    @property
    def next_deadline(self) -> float | None:
        """When to call `expire` next. May be the deadline of one that was settled meanwhile."""
        return self._deadlines.next

    def expire(self, now: float) -> None:
        """Give up on those whose time is over."""
        for reader in self._deadlines.due(now):
            self.withdraw(reader)

    def withdraw(self, reader: Reader) -> None:
        """Wait no longer. Without effect if it is settled."""
        if not reader.settled:
            self._waiting -= 1
            reader.settle(error=ProposalDropped("no leader confirmed the read in time: read again"))

    def stop(self) -> None:
        """The node stops: nobody will come to know."""
        for reader in (*self._unasked, *self._asked, *self._confirmed):
            if not reader.settled:
                reader.settle(error=NodeStopped("the node stopped before it could answer"))
        self._unasked, self._asked, self._confirmed = [], deque(), deque()
        self._waiting = 0
        self._deadlines = Deadlines()
