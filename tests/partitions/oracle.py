"""What must hold in every schedule: the invariants of partition replication, checked after each step."""

from collections.abc import Iterable, Mapping

from meshnode.identity import Boot, Epoch, NodeId, PartitionId
from meshnode.partitions.messages import (
    ORIGIN,
    Appended,
    ChunkTaken,
    Confirm,
    Confirmed,
    Dropped,
    Entry,
    Log,
    Message,
    Position,
    Promise,
    Record,
    Refused,
    Sealed,
    Snapshot,
)
from meshnode.partitions.partition import Partition
from meshnode.partitions.primary import majority


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


class Oracle:
    """Sees everything that every node does, which no node does."""

    def __init__(self) -> None:
        self.acknowledged: dict[PartitionId, dict[int, bytes]] = {}
        self.committed: dict[PartitionId, list[Record]] = {}
        self.served: dict[tuple[PartitionId, Epoch], tuple[NodeId, Boot]] = {}
        self._acknowledged_by: dict[PartitionId, dict[Epoch, int]] = {}
        self._digests: dict[PartitionId, list[int]] = {}
        self._records: dict[tuple[PartitionId, Epoch, int], tuple[bytes, Epoch]] = {}
        self._logs: dict[tuple[PartitionId, NodeId], list[Epoch]] = {}
        self._holders: dict[tuple[PartitionId, Epoch, int], set[NodeId]] = {}
        self._snapshots: dict[tuple[PartitionId, NodeId], int] = {}
        self._answered: dict[tuple[PartitionId, NodeId], Epoch] = {}
        self._promised: dict[tuple[PartitionId, NodeId], Epoch] = {}
        self._checked: dict[tuple[PartitionId, NodeId], int] = {}

    # ---- what happens

    def wrote(self, node: NodeId, entry: Entry) -> None:
        """One record per (epoch, sequence), and equal (epoch, sequence) means equal prefixes."""
        epochs = self._logs.setdefault((entry.partition, node), [])
        match entry:
            case Log(partition, records):
                first = records[0].sequence
                before = Epoch(0) if first == 1 else epochs[first - 2]
                del epochs[first - 1 :]
                for record in records:
                    entry_now = (record.payload, before)
                    known = self._records.setdefault((partition, record.epoch, record.sequence), entry_now)
                    assert entry_now == known, f"{record.position} is there twice: {entry_now} and {known}"
                    epochs.append(record.epoch)
                    before = record.epoch
            case Snapshot(partition, _, position, _, records):
                committed = self.committed.get(partition, [])[: position.sequence]
                assert not committed or committed[-1].position == position, "a snapshot of what is not committed"
                epochs[:] = [record.epoch for record in (*committed, *records)]
            case Dropped():
                epochs.clear()
            case Promise():
                pass

    def synced(self, node: NodeId, entry: Entry) -> None:
        """An entry is on that node's disk."""
        match entry:
            case Log(partition, records):
                for record in records:
                    self._holders.setdefault((partition, record.epoch, record.sequence), set()).add(node)
            case Snapshot(partition, _, position, _, records):
                for record in records:
                    self._holders.setdefault((partition, record.epoch, record.sequence), set()).add(node)
                key = (partition, node)
                self._snapshots[key] = max(self._snapshots.get(key, 0), position.sequence)
            case _:
                pass

    def sent(self, node: NodeId, message: Message | Confirm | Confirmed) -> None:
        """A replica that has promised an epoch accepts nothing below it."""
        if not isinstance(message, Sealed | Appended | ChunkTaken | Refused):
            return
        key = (message.partition, node)
        promised = message.promised if isinstance(message, Refused) else message.epoch
        before = self._answered.get(key, Epoch(0))
        assert promised >= before, f"accepted epoch {promised} after answering for {before}"
        self._answered[key] = promised

    def serving(self, partition: PartitionId, epoch: Epoch, node: NodeId, boot: Boot, committed: int) -> None:
        """One process per epoch; and it has everything that was acknowledged in earlier ones."""
        process = self.served.setdefault((partition, epoch), (node, boot))
        assert process == (node, boot), f"two processes serve epoch {epoch}"
        earlier = (last for by, last in self._acknowledged_by.get(partition, {}).items() if by < epoch)
        last = max(earlier, default=0)
        assert committed >= last, f"{last} was acknowledged; the primary of {epoch} has {committed}"

    def acknowledge(self, partition: PartitionId, epoch: Epoch, sequence: int, payload: bytes) -> None:
        """A caller was told by the primary of ``epoch`` that its record is committed."""
        assert self.committed[partition][sequence - 1].payload == payload
        self.acknowledged.setdefault(partition, {})[sequence] = payload
        self._acknowledged_by.setdefault(partition, {})[epoch] = sequence

    def recovered(self, copies: Mapping[PartitionId, Partition], node: NodeId, history: Iterable[Entry]) -> None:
        """A restart finds all that was ever synced, whatever was deleted, and forgets no promise that was answered for.

        `check_whole_log` compares the log with the whole history; the state is compared with everybody's.
        """
        for (partition, other), answered in self._answered.items():
            if other == node and answered:
                assert partition in copies, "a copy was forgotten"
                assert copies[partition].replica.promised >= answered, "a promise was forgotten"
        for state in (self._logs, self._promised, self._checked):
            for key in [key for key in state if key[1] == node]:
                del state[key]
        for entry in history:
            self.wrote(node, entry)

    # ---- what must be true of a copy

    def check(self, partition: Partition, node: NodeId) -> None:
        """After each step of that copy."""
        replica = partition.replica
        key = (replica.partition, node)
        assert replica.promised >= self._promised.get(key, 0), "a promise fell"
        self._promised[key] = replica.promised
        for role in (partition.takeover, partition.primary):
            assert role is None or role.epoch == replica.promised, "acts for an epoch below its promise"
        log = replica.log
        assert log.start.sequence <= replica.committed <= log.last.sequence
        self._check_commitment(partition, node)
        digests = self._digests.get(replica.partition, [0])
        assert isinstance(replica.machine, ListMachine)
        assert replica.machine.digest == digests[replica.committed], "states differ at the same committed sequence"

    def check_whole_log(self, partition: Partition, node: NodeId) -> None:
        """What is in memory is what was written, and its bytes are counted right."""
        log = partition.replica.log
        epochs = self._logs.get((partition.replica.partition, node), [])
        assert log.last == (Position(epochs[-1], len(epochs)) if epochs else ORIGIN)
        if not epochs:
            return
        if log.start.sequence:
            assert epochs[log.start.sequence - 1] == log.start.epoch
        records = log.after(log.start.sequence)
        assert [record.epoch for record in records] == epochs[log.start.sequence :]
        assert log.payload_bytes == sum(len(record.payload) for record in records)

    def _check_commitment(self, partition: Partition, node: NodeId) -> None:
        replica = partition.replica
        key = (replica.partition, node)
        committed = self.committed.setdefault(replica.partition, [])
        digests = self._digests.setdefault(replica.partition, [0])
        for sequence in range(self._checked.get(key, 0) + 1, replica.committed + 1):
            epoch = self._logs[key][sequence - 1]
            if sequence > len(committed):
                self._check_majority(partition, epoch, sequence)
                payload, _ = self._records[replica.partition, epoch, sequence]
                committed.append(Record(epoch, sequence, payload))
                digests.append(hash((digests[-1], sequence, payload)) if payload else digests[-1])
            assert committed[sequence - 1].epoch == epoch, f"{sequence} is committed in two epochs"
        self._checked[key] = replica.committed

    def _check_majority(self, partition: Partition, epoch: Epoch, sequence: int) -> None:
        replica, primary = partition.replica, partition.primary
        assert primary is not None, f"{sequence} is committed first by a replica that is not the primary"
        assert partition.is_serving
        holders = self._holders.get((replica.partition, epoch, sequence), set())
        durable = [
            member
            for member in primary.replicas
            if member in holders or self._snapshots.get((replica.partition, member), 0) >= sequence
        ]
        assert len(durable) >= majority(len(primary.replicas)), f"{sequence} is committed, but durable on {durable}"
