"""One sleep for all deadlines of a node."""

from collections.abc import Callable

import trio

from consensus.environment import Clock


class Alarm:
    """Sleeps until the next deadline, and has done what is due. Only a deadline that moves forward cuts it short.

    Args:
        clock: the only source of time.
        next_deadline: the earliest deadline now; None for none.
        due: does what is due at that time, so that the next deadline is later.
    """

    def __init__(
        self, clock: Clock, *, next_deadline: Callable[[], float | None], due: Callable[[float], None]
    ) -> None:
        self._clock = clock
        self._next_deadline = next_deadline
        self._due = due
        self._set_to: float | None = None
        self._scope = trio.CancelScope()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            at = self._next_deadline()
            now = self._clock.now()
            if at is not None and at <= now:
                self._due(now)
                continue
            self._set_to = at
            with trio.CancelScope() as self._scope:
                if at is None:
                    await trio.sleep_forever()
                else:
                    await self._clock.sleep_until(at)
            self._set_to = None

    def ring_by(self, deadline: float | None) -> None:
        """See to it that it does not sleep past a deadline."""
        if deadline is not None and (self._set_to is None or deadline < self._set_to):
            self._scope.cancel()
