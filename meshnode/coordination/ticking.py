"""How the state machine's time is counted: the leader of the Raft group proposes what passed since its last tick.

1. It counts by its monotonic clock, from one tick that it makes to the next one, whatever becomes of the ticks: one
   that is lost makes each TTL longer.
2. It counts only while something has a TTL, and only its own time: the first tick of a leader, and the first one after
   a rest, counts nothing. So a change of leader can only make a TTL longer.
3. No clock is compared with another one. A leader's clock that runs fast by some percent makes each TTL shorter by as
   much.
"""

from meshnode.coordination.bounds import TICK_MS_MAX
from meshnode.coordination.commands import Tick

INTERVAL_S = 1.0
"""Between two ticks. It is how much later than its TTL something may end, beside `TICK_MS_MAX`."""


class Ticker:
    """Makes the ticks of one node."""

    def __init__(self) -> None:
        self._term = 0
        self._made_at_s = 0.0

    def tick(self, term: int, now: float) -> Tick:
        """The tick to propose now, as leader in this term."""
        elapsed_ms = int((now - self._made_at_s) * 1000) if term == self._term else 0
        self._term = term
        self._made_at_s = now
        return Tick(term, min(elapsed_ms, TICK_MS_MAX))

    def rest(self) -> None:
        """Nothing has a TTL."""
        self._term = 0
