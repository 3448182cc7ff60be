"""Short ways to make replicas and messages, and to read effects and select messages."""

from collections.abc import Iterable
from typing import TypeVar

from meshnode.identity import Epoch, NodeId, PartitionId
from meshnode.partitions.effects import AfterSync, Effect, Send, Write
from meshnode.partitions.messages import Append, Entry, Position, Record
from meshnode.partitions.replica import Replica
from tests.partitions.oracle import ListMachine
from tests.partitions.world import Flight

P = PartitionId(0)
A, B, C, D = (NodeId(number) for number in range(1, 5))
T = TypeVar("T")


def at(epoch: int, sequence: int) -> Position:
    return Position(Epoch(epoch), sequence)


def records(first: int, *epochs: int) -> tuple[Record, ...]:
    """Consecutive records with payloads that tell their places."""
    return tuple(
        Record(Epoch(epoch), first + index, b"%d.%d" % (epoch, first + index)) for index, epoch in enumerate(epochs)
    )


def append(epoch: int, previous: Position, *taken: Record, committed: int = 0) -> Append:
    return Append(P, Epoch(epoch), previous, taken, committed)


def replica_with(*epochs: int, promised: int = 0, committed: int = 0) -> Replica:
    """A replica whose log has records of these epochs from sequence 1 on."""
    replica = Replica(P, ListMachine())
    replica.log.replace(records(1, *epochs))
    replica.promised = max(Epoch(promised), replica.log.last.epoch)
    replica.commit(committed)
    return replica


def state_of(replica: Replica) -> list[int]:
    """The sequences of what was applied."""
    assert isinstance(replica.machine, ListMachine)
    return [sequence for sequence, _ in replica.machine.applied]


def sends(effects: Iterable[Effect]) -> list[Send]:
    """What is sent, at once or after the sync, in order."""
    return [
        effect.send if isinstance(effect, AfterSync) else effect
        for effect in effects
        if isinstance(effect, Send | AfterSync)
    ]


def sent(effects: Iterable[Effect], kind: type[T]) -> list[T]:
    """The messages of that class."""
    return [send.message for send in sends(effects) if isinstance(send.message, kind)]


def written(effects: Iterable[Effect]) -> list[Entry]:
    return [effect.entry for effect in effects if isinstance(effect, Write)]


def recovered(entries: Iterable[Entry]) -> Replica:
    """What a restart makes of these entries."""
    replica = Replica(P, ListMachine())
    for entry in entries:
        replica.recover(entry)
    return replica


class Wanted:
    """Selects messages by sender, receiver and class."""

    def __init__(self, *kinds: type, senders: tuple[NodeId, ...] = (), to: tuple[NodeId, ...] = ()) -> None:
        self._kinds, self._senders, self._to = kinds, senders, to

    def __call__(self, flight: Flight) -> bool:
        return (
            (not self._kinds or isinstance(flight.message, self._kinds))
            and (not self._senders or flight.sender in self._senders)
            and (not self._to or flight.to in self._to)
        )
