"""Listens in on the Raft group of a mesh, and has a checker judge what it does."""

from collections.abc import Callable

from consensus.messages import Message
from consensus.storage import DurableLog
from meshnode.metadata.group import MetadataGroup
from meshnode.metadata.state import Metadata
from simulations.checkers.raft import RaftChecker
from simulations.checkers.violation import Violation
from simulations.mesh.listening import Listener, Wrapping


class Agreement(Listener):
    """Sees every message that a node's Raft sends and every entry that it applies, in the order of their happening."""

    def __init__(self, clock: Callable[[], float], fail: Callable[[Violation], None]) -> None:
        super().__init__(clock, fail)
        self._checker = RaftChecker(clock)
        # The node and its life, for each process that ever ran; `_lives` the last one of each node.
        self._processes: dict[Metadata, tuple[int, int]] = {}
        self._lives: dict[int, int] = {}
        self._logs: dict[DurableLog, int] = {}

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
        self._logs[group._log] = node
        self._synced(group._log)

    def _sent(self, group: MetadataGroup, message: Message) -> None:
        node, life = self._processes[group.metadata]
        if life == self._lives[node]:
            self._checker.look(group.member_status, group._log, life=life)
            self._checker.sent(message)

    def _synced(self, log: DurableLog) -> None:
        node = self._logs.get(log)
        if node is not None:  # none while the log is opened
            self._checker.synced(node, log.last_index(), log.initial_state()[0])

    def _applied(self, metadata: Metadata, index: int, data: bytes) -> None:
        node, life = self._processes[metadata]
        self._checker.applied(node, index, data, life=life)
