"""A leader's rounds of heartbeats: which were answered by a quorum, and what waits for that."""

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from consensus.quorum import joint_committed_index

SENT_MAX: Final = 1024
"""Rounds of which it is kept when they were sent. One that is so many behind confirms reads, but no lease."""


@dataclass(frozen=True, slots=True)
class WaitingRead:
    """A request for a read index.

    Attributes:
        round: the round that confirms it.
        index: what was committed when it was asked.
        node, request: who asked, and by what number.
    """

    round: int
    index: int
    node: int
    request: int


class Rounds:
    """Of one leader in one term.

    Attributes:
        last: the number of the last round; rounds are numbered from 1.
        confirmed: the last round that a quorum has answered.
        confirmed_s: when it was sent; None if there is none.
        waiting: requests in the order of their rounds.
    """

    __slots__ = ("_answered", "_sent", "confirmed", "confirmed_s", "last", "waiting")

    def __init__(self) -> None:
        self.last = 0
        self.confirmed = 0
        self.confirmed_s: float | None = None
        # Bounded by who adds to it: see `consensus.reads`.
        self.waiting: deque[WaitingRead] = deque()
        # One entry for each member that ever answered in this term.
        self._answered: dict[int, int] = {}
        self._sent: deque[tuple[int, float]] = deque(maxlen=SENT_MAX)

    def begin(self, now: float) -> int:
        """A round is sent; its number."""
        self.last += 1
        self._sent.append((self.last, now))
        return self.last

    def answered(self, node: int, number: int) -> None:
        """A member has answered a round. A number that was never sent is taken for the last one."""
        self._answered[node] = max(self._answered.get(node, 0), min(number, self.last))

    def confirm(self, *, own: int, incoming: Collection[int], outgoing: Collection[int]) -> list[WaitingRead]:
        """What a quorum of both halves has confirmed by now and waits no longer; the leader answers itself.

        Args:
            own: the leader, a voter or not.
            incoming, outgoing: the voters.
        """
        answered = {**self._answered, own: self.last}
        self.confirmed = max(self.confirmed, min(joint_committed_index(incoming, outgoing, answered), self.last))
        while self._sent and self._sent[0][0] <= self.confirmed:
            self.confirmed_s = self._sent.popleft()[1]
        done = []
        while self.waiting and self.waiting[0].round <= self.confirmed:
            done.append(self.waiting.popleft())
        return done
