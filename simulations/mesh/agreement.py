"""Listens in on the Raft group of a mesh, and has a checker judge what it does."""

from collections import defaultdict
from collections.abc import Callable

from consensus.messages import Message, Packet
from consensus.storage import DurableLog
from meshnode.metadata.group import MetadataGroup
from meshnode.metadata.state import Metadata
from simulations.checkers.raft import RaftChecker
from simulations.checkers.violation import Violation
from simulations.mesh.listening import Listener, Wrapping


class Agreement(Listener):
    """Sees every message that a node's Raft sends and every entry that it applies, in the order of their happening.

    A group that was recovered is another one: each generation has a checker of its own. One that begins with a snapshot
    has none, since what is before its log can't be checked.
    """

    def __init__(self, clock: Callable[[], float], fail: Callable[[Violation], None]) -> None:
        super().__init__(clock, fail)
        self._checkers: defaultdict[int, RaftChecker] = defaultdict(lambda: RaftChecker(clock))
        # The node and its life, for each process that ever ran; `_lives` the last one of each node.
        self._processes: dict[Metadata, tuple[int, int]] = {}
        self._lives: dict[int, int] = {}
        self._logs: dict[DurableLog, MetadataGroup] = {}
        self._unchecked: set[int] = set()

    def wrappings(self) -> tuple[Wrapping, ...]:
        return (
            (MetadataGroup, "__init__", self.after(self._begin)),
            (MetadataGroup, "_send", self.before(self._sent)),
            (DurableLog, "sync", self.after(self._synced)),
            (Metadata, "apply", self.before(self._applied)),
        )

    def _begin(self, group: MetadataGroup, *_: object) -> None:
        node = group.status.id
        self._lives[node] = life = self._lives.get(node, 0) + 1
        self._processes[group.metadata] = (node, life)
        self._logs[group._log] = group
        if group.generation not in self._checkers and group._log.first_index() > 1:
            self._unchecked.add(group.generation)
        self._synced(group._log)
        if self._is_checked(group):  # now: a leader may replace what it finds before it says a word
            self._look(group, life)

    def _sent(self, group: MetadataGroup, message: Packet) -> None:
        node, life = self._processes[group.metadata]
        if isinstance(message, Message) and life == self._lives[node] and self._is_checked(group):
            self._look(group, life).sent(message)

    def _look(self, group: MetadataGroup, life: int) -> RaftChecker:
        """Have the group's checker look at the node; that checker."""
        checker = self._checkers[group.generation]
        checker.look(group.member_status, group._log, life=life)
        return checker

    def _synced(self, log: DurableLog) -> None:
        group = self._logs.get(log)
        if group is not None and self._is_checked(group):  # none while the log is opened
            node, _ = self._processes[group.metadata]
            self._checkers[group.generation].synced(node, *log.durable)

    def _is_checked(self, group: MetadataGroup) -> bool:
        return group.generation not in self._unchecked and not group.recovered.is_set()

    def _applied(self, metadata: Metadata, index: int, data: bytes) -> None:
        if metadata.generation in self._unchecked:
            return
        if metadata in self._processes:  # else no node runs on what is read there
            node, life = self._processes[metadata]
            self._checkers[metadata.generation].applied(node, index, data, life=life)
