"""Listens in on the replicated locks, and judges who is granted them."""

from collections.abc import Callable

from meshnode.coordination.commands import Command
from meshnode.coordination.state import Coordination
from simulations.checkers.claims import ClaimsChecker
from simulations.checkers.violation import Violation
from simulations.mesh.listening import Listener, Wrapping


class Claims(Listener):
    """Sees the locks of every node after each command about them."""

    def __init__(self, clock: Callable[[], float], fail: Callable[[Violation], None]) -> None:
        super().__init__(clock, fail)
        self._checker = ClaimsChecker(clock)

    def wrappings(self) -> tuple[Wrapping, ...]:
        return ((Coordination, "apply", self.after(self._applied)),)

    def _applied(self, state: Coordination, stamp: int, _command: Command) -> None:
        self._checker.applied(stamp, [(claim.key, claim.names, claim.token) for claim in state.queues])
