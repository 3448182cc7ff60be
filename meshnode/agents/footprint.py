"""What a turn did beyond its own agent."""

import contextlib
import weakref
from collections.abc import Iterator

from meshnode.agents.origin import Lineage, Origin
from meshnode.errors import MeshError


class Footprint:
    """Kept by a turn's surroundings, and read when the turn has ended.

    Attributes:
        changes: calls that may have changed another agent.
    """

    def __init__(self, lineage: Lineage) -> None:
        self.changes = 0
        self._lineage = lineage
        self._turn = 0
        # Weak: a turn may meet errors without end, and only one that it raises is asked for.
        self._met: weakref.WeakSet[MeshError] = weakref.WeakSet()

    def origin(self) -> Origin:
        """Of a call that the turn makes now."""
        if not self._turn:
            self._turn = self._lineage.begin()
        return self._lineage.origin(self._turn)

    def end(self) -> None:
        """The turn will not run again."""
        self._lineage.end(self._turn)

    @contextlib.contextmanager
    def noting(self) -> Iterator[None]:
        """Remember the errors that come out of the block: they are not the handler's own."""
        try:
            yield
        except MeshError as error:
            self._met.add(error)
            raise

    def has_met(self, error: MeshError) -> bool:
        """Whether the turn got the error from elsewhere."""
        return any(met is error for met in self._met)
