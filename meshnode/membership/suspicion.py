"""Which members are suspected, and until when they have time to refute."""

import heapq
import math

from meshnode.identity import NodeId


class Suspicions:
    """Running suspicions. At most one per member, so bounded by the table of members."""

    __slots__ = ("_by_deadline", "_deadlines", "deadline")

    def __init__(self) -> None:
        self._deadlines: dict[NodeId, float] = {}
        # Has an entry for each running suspicion, and outdated ones that are dropped when they come up.
        self._by_deadline: list[tuple[float, NodeId]] = []
        self.deadline = math.inf
        """When the next suspicion ends: looked at after every datagram, and so kept rather than sought."""

    def __len__(self) -> int:
        return len(self._deadlines)

    def __contains__(self, node_id: object) -> bool:
        return node_id in self._deadlines

    def start(self, node_id: NodeId, deadline: float) -> None:
        """Suspect the member until ``deadline``, whether or not it was suspected before."""
        self._deadlines[node_id] = deadline
        heapq.heappush(self._by_deadline, (deadline, node_id))
        if len(self._by_deadline) > 2 * len(self._deadlines) + 16:
            self._rebuild()
        self._plan()

    def stop(self, node_id: NodeId) -> None:
        """The member is not suspected any more."""
        if self._deadlines.pop(node_id, None) is not None:
            self._plan()

    def take_due(self, now: float) -> list[NodeId]:
        """Those whose time is over, the earliest first. They are not suspected any more: they are dead."""
        due: list[NodeId] = []
        while self.deadline <= now:
            _, node_id = heapq.heappop(self._by_deadline)
            del self._deadlines[node_id]
            due.append(node_id)
            self._plan()
        return due

    def extend(self, by_s: float) -> None:
        """Give every suspect ``by_s`` seconds more."""
        self._deadlines = {node_id: deadline + by_s for node_id, deadline in self._deadlines.items()}
        self._rebuild()
        self._plan()

    def _plan(self) -> None:
        while self._by_deadline:
            at, node_id = self._by_deadline[0]
            if self._deadlines.get(node_id) == at:
                self.deadline = at
                return
            heapq.heappop(self._by_deadline)
        self.deadline = math.inf

    def _rebuild(self) -> None:
        self._by_deadline = [(deadline, node_id) for node_id, deadline in self._deadlines.items()]
        heapq.heapify(self._by_deadline)
