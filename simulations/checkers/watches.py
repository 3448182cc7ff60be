"""Watches of the replicated configuration: every change once, in order, the same for all who watch.

Tell it of each revision that a watcher sees. In the end `check_complete` compares with the keys as they are.
"""

from collections.abc import Callable, Mapping

from meshnode.coordination.store import Revision
from simulations.checkers.violation import Violation


class WatchesChecker:
    """Of all watches of a run, all of which watch all keys. Raises Violation.

    Args:
        clock: virtual seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        # As long as the run: one entry for each change that anybody saw.
        self._order: list[Revision] = []
        self._places: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._order)

    def seen(self, who: str, revision: Revision, after: int) -> None:
        """A watcher sees a revision, and saw the one of ``after`` before it; 0 for the very beginning.

        Raises:
            Violation: watch-order, watch-gap, watch-differs.
        """
        place = self._places.get(after, -1) + 1
        if revision.revision <= after:
            raise self._violation("watch-order", f"{who} sees revision {revision.revision} after {after}")
        if after and after not in self._places:
            raise self._violation("watch-gap", f"{who} goes on after revision {after}, which nobody saw")
        if place == len(self._order):
            self._order.append(revision)
            self._places[revision.revision] = place
        elif self._order[place].revision != revision.revision:
            missed = self._order[place].revision
            raise self._violation(
                "watch-gap", f"{who} sees revision {revision.revision} after {after}; others saw {missed} between"
            )
        elif self._order[place] != revision:
            raise self._violation("watch-differs", f"{who} sees another revision {revision.revision} than others")

    def check_complete(self, keys: Mapping[str, bytes], acknowledged: Mapping[int, str]) -> None:
        """The changes make the keys that there are, and every acknowledged one is among them.

        Raises:
            Violation: watch-lost, watch-state.
        """
        lost = [f"{revision} of {key}" for revision, key in acknowledged.items() if revision not in self._places]
        if lost:
            raise self._violation("watch-lost", f"nobody saw the acknowledged revisions {', '.join(lost[:5])}")
        found: dict[str, bytes] = {}
        for revision in self._order:
            for change in revision.changes:
                if change.entry is None:
                    found.pop(change.key, None)
                else:
                    found[change.key] = change.entry.value
        if found != keys:
            differing = sorted(key for key in {*found, *keys} if found.get(key) != keys.get(key))
            raise self._violation("watch-state", f"what was watched and what is there differ in {differing[:5]}")

    def _violation(self, invariant: str, message: str) -> Violation:
        return Violation(invariant, virtual_s=self._clock(), message=message)
