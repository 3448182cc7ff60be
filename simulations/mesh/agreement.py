"""Listens in on the Raft group of a mesh, from outside the nodes, and has a checker judge what it does."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from consensus.messages import Message
from meshnode.metadata.group import MetadataGroup
from meshnode.metadata.state import Metadata, Outcome
from simulations.checkers.raft import RaftChecker
from simulations.checkers.violation import Violation
from simulations.kernel.process import current_process


class Agreement:
    """Sees every message that a node's Raft sends and every entry that it applies, in the order of their happening.

    Args:
        clock: virtual seconds.
        fail: told of a violation.
    """

    def __init__(self, clock: Callable[[], float], fail: Callable[[Violation], None]) -> None:
        self._checker = RaftChecker(clock)
        self._fail = fail
        # The node and its life, for each process that ever ran; `_lives` the last one of each node.
        self._processes: dict[Metadata, tuple[int, int]] = {}
        self._lives: dict[int, int] = {}

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """While this lasts, nodes that are made are listened to."""
        made, send, apply = MetadataGroup.__init__, MetadataGroup._send, Metadata.apply

        def make(group: MetadataGroup, *arguments: Any, **named: Any) -> None:
            made(group, *arguments, **named)
            self._begin(group)

        def send_seen(group: MetadataGroup, message: Message) -> None:
            self._tell(lambda: self._sent(group, message))
            send(group, message)

        def apply_seen(metadata: Metadata, index: int, data: bytes) -> Outcome:
            self._tell(lambda: self._applied(metadata, index, data))
            return apply(metadata, index, data)

        with contextlib.ExitStack() as undo:
            for target, name, value in (
                (MetadataGroup, "__init__", make),
                (MetadataGroup, "_send", send_seen),
                (Metadata, "apply", apply_seen),
            ):
                undo.callback(setattr, target, name, getattr(target, name))
                setattr(target, name, value)
            yield

    def _begin(self, group: MetadataGroup) -> None:
        process = current_process()
        if process is not None and process.is_stray:
            return
        node = group.status.id
        self._lives[node] = life = self._lives.get(node, 0) + 1
        self._processes[group.metadata] = (node, life)

    def _sent(self, group: MetadataGroup, message: Message) -> None:
        node, life = self._processes[group.metadata]
        if life == self._lives[node]:
            self._checker.look(group.status, group._log, life=life)
            self._checker.sent(message)

    def _applied(self, metadata: Metadata, index: int, data: bytes) -> None:
        node, life = self._processes[metadata]
        self._checker.applied(node, index, data, life=life)

    def _tell(self, what: Callable[[], None]) -> None:
        process = current_process()
        if process is None or not process.is_alive or process.is_stray:
            return  # the last step of a process that has been killed, or an impostor
        try:
            what()
        except Violation as violation:
            self._fail(violation)
