"""Who serves which partition: from a node's own metadata, or from what a client was told."""

import contextlib
from collections.abc import Callable, Iterator

import trio

from meshnode.identity import Address, NodeId, PartitionId
from meshnode.metadata.rows import Phase
from meshnode.metadata.state import Metadata


class Watches:
    """Who wants to know when a partition's primary changes."""

    def __init__(self) -> None:
        self._actions: dict[PartitionId, dict[object, Callable[[], None]]] = {}

    @contextlib.contextmanager
    def on_change(self, partition: PartitionId, action: Callable[[], None]) -> Iterator[None]:
        """Call ``action`` at each change while the context lasts."""
        token = object()
        self._actions.setdefault(partition, {})[token] = action
        try:
            yield
        finally:
            actions = self._actions[partition]
            del actions[token]
            if not actions:
                del self._actions[partition]

    def changed(self, partition: PartitionId) -> None:
        """Tell everybody."""
        for action in list(self._actions.get(partition, {}).values()):
            action()


class NodeDirectory(Watches):
    """The committed metadata, as this node has applied them."""

    def __init__(self, metadata: Metadata) -> None:
        super().__init__()
        self._metadata = metadata
        self._next_change: trio.Event | None = None

    @property
    def partitions_total(self) -> int:
        founding = self._metadata.founding
        return 0 if founding is None else founding.partitions

    def primary_of(self, partition: PartitionId) -> NodeId | None:
        row = self._metadata.rows.get(partition)
        return row.primary if row is not None and row.phase is Phase.ACTIVE else None

    async def next_change(self) -> None:
        """Return when a row or a node's record has changed. Look first."""
        if self._next_change is None:
            self._next_change = trio.Event()
        await self._next_change.wait()

    def row_changed(self, partition: PartitionId) -> None:
        """The metadata has a new row."""
        self.changed(partition)
        self.node_changed()

    def node_changed(self) -> None:
        """The metadata has a new record of a node, or one less."""
        if self._next_change is not None:
            self._next_change.set()
            self._next_change = None


class ClientDirectory(Watches):
    """What a node told of the rows, a moment ago."""

    def __init__(self) -> None:
        super().__init__()
        self.version = 0
        self.addresses: dict[NodeId, Address] = {}
        self._primaries: tuple[NodeId, ...] = ()

    @property
    def partitions_total(self) -> int:
        return len(self._primaries)

    def primary_of(self, partition: PartitionId) -> NodeId | None:
        return (self._primaries[partition] or None) if self._primaries else None

    def update(self, version: int, primaries: tuple[NodeId, ...], addresses: dict[NodeId, Address]) -> None:
        """Take what a node told."""
        before, self._primaries = self._primaries, primaries
        self.version = version
        self.addresses.clear()  # in place: the links look there
        self.addresses.update(addresses)
        for number, primary in enumerate(primaries):
            if number >= len(before) or before[number] != primary:
                self.changed(PartitionId(number))
