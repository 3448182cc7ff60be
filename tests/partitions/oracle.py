"""What must hold in every schedule, checked after each step: as in the simulator, and of the states too."""

from meshnode.identity import NodeId, PartitionId
from meshnode.partitions.messages import Record
from meshnode.partitions.partition import Partition
from simulations.checkers.partitions import PartitionsChecker


class ListMachine:
    """A state that is the list of everything applied."""

    def __init__(self) -> None:
        self.applied: list[tuple[int, bytes]] = []
        self.digest = 0

    def apply(self, sequence: int, payload: bytes) -> None:
        assert not self.applied or self.applied[-1][0] < sequence, "applied twice or out of order"
        self.applied.append((sequence, payload))
        self.digest = hash((self.digest, sequence, payload))

    def snapshot(self) -> bytes:
        return b"\n".join(b"%d %s" % each for each in self.applied)

    def restore(self, state: bytes) -> None:
        self.applied = []
        self.digest = 0
        for line in state.split(b"\n") if state else ():
            sequence, _, payload = line.partition(b" ")
            self.apply(int(sequence), payload)


class Oracle(PartitionsChecker):
    """The invariants of partition replication, over states that are `ListMachine`s. A schedule has no other clock."""

    def __init__(self) -> None:
        super().__init__(lambda: 0.0)
        self._digests: dict[PartitionId, list[int]] = {}

    def on_committed(self, partition: PartitionId, record: Record) -> None:
        digests = self._digests.setdefault(partition, [0])
        after = hash((digests[-1], record.sequence, record.payload)) if record.payload else digests[-1]
        digests.append(after)

    def check(self, partition: Partition, node: NodeId) -> None:
        """After each step of that copy."""
        super().check(partition, node)
        replica = partition.replica
        assert isinstance(replica.machine, ListMachine)
        digests = self._digests.get(replica.partition, [0])
        assert replica.machine.digest == digests[replica.committed], "states differ at the same committed sequence"
