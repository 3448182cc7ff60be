"""The invariants of partition replication, over what nodes write, sync, send and serve.

The world calls, in the order in which things happen:

1. `wrote` for each entry that a node queues in its journal, `synced` once it is on disk, before what waited for that;
2. `sent` for each message that leaves a node, also to itself, and `received` before a node takes one in;
3. `serving` when a process takes itself for the active primary, `acknowledge` when a caller is told that its record is
   committed;
4. `check` after each step of a copy;
5. `recovered` when a process has read its journal, with what it found.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import assert_never

from meshnode.identity import Boot, Epoch, NodeId, PartitionId
from meshnode.metadata.rows import Phase, Row
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
    Sealed,
    Snapshot,
)
from meshnode.partitions.partition import Partition
from meshnode.partitions.primary import majority
from meshnode.partitions.replica import Replica
from simulations.checkers.acknowledgements import Acknowledgements
from simulations.checkers.on_disk import OnDisk, equal_at_start, kept_by
from simulations.checkers.promises import ANSWERS, Copy, Promises
from simulations.checkers.violation import Violation

_OF_LOGS = (Appended, Sealed)
"""Answers that tell how much of a log is on a disk."""


class PartitionsChecker:
    """Sees everything that every node does, which no node does. All methods raise Violation.

    Args:
        clock: virtual seconds.
        row_of: the row with which an epoch began; None where the world does not know the rows.

    Attributes:
        acknowledged: per partition, the payloads whose callers were told, by sequence.
        committed: per partition, every record that some replica took for committed, in order.
        served: which process served each epoch.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        row_of: Callable[[PartitionId, Epoch], Row | None] = lambda _partition, _epoch: None,
    ) -> None:
        self._clock = clock
        self._row_of = row_of
        self.promises = Promises(self._violation, row_of)
        self._acknowledgements = Acknowledgements(self._violation)
        # All of these grow with the logs: it is the logs that are checked.
        self.acknowledged: dict[PartitionId, dict[int, bytes]] = {}
        self.committed: dict[PartitionId, list[Record]] = {}
        self.served: dict[tuple[PartitionId, Epoch], tuple[NodeId, Boot]] = {}
        self._committed_by: dict[PartitionId, dict[Epoch, int]] = {}
        self._records: dict[tuple[PartitionId, Epoch, int], tuple[bytes, Epoch]] = {}
        self._logs: dict[Copy, list[Epoch]] = {}
        self._holders: dict[tuple[PartitionId, Epoch, int], set[NodeId]] = {}
        self._snapshots: dict[Copy, int] = {}
        self._on_disk: dict[Copy, OnDisk] = {}
        self._confirmed: dict[Copy, int] = {}
        self._checked: dict[Copy, int] = {}

    # ---- what happens

    def wrote(self, node: NodeId, entry: Entry) -> None:
        """One record per (epoch, sequence), and equal (epoch, sequence) means equal prefixes."""
        key = (entry.partition, node)
        epochs = self._logs.get(key)
        if epochs is None:
            epochs = self._logs[key] = []
        committed = self._checked.get(key, 0)
        match entry:
            case Log(partition, records):
                if records[0].sequence > len(epochs) + 1:
                    return  # of a file before which others were deleted: a copy of the whole follows
                kept = kept_by(epochs, records)
                if kept < committed:
                    raise self._violation(
                        "partitions-committed-stays",
                        partition,
                        f"it replaces what follows {kept}, and has taken {committed} for committed",
                        node,
                    )
                self._write_records(node, partition, epochs, records)
            case Snapshot(partition, _, position, _, records):
                known = self.committed.get(partition, [])[: position.sequence]
                if position != ORIGIN and (not known or known[-1].position != position):
                    raise self._violation(
                        "partitions-snapshot-committed", partition, f"a snapshot at {position} is not committed", node
                    )
                if position.sequence < committed:
                    raise self._violation(
                        "partitions-committed-stays",
                        partition,
                        f"a state at {position} takes the place of one after {committed}",
                        node,
                    )
                before = list(epochs)
                epochs[:] = [record.epoch for record in known]
                if records:
                    self._write_records(node, partition, epochs, records)
                kept = equal_at_start(before, epochs)
            case Dropped():
                epochs.clear()
                self._checked.pop(key, None)
                kept = 0
            case Promise():
                return
            case _:
                assert_never(entry)
        self._disk_of(key).queued(kept)
        if self._confirmed.get(key, 0) > kept:
            self._confirmed[key] = kept

    def synced(self, node: NodeId, entry: Entry) -> None:
        """An entry is on that node's disk."""
        key = (entry.partition, node)
        records: tuple[Record, ...]
        match entry:
            case Log(_, records):
                self.promises.synced(key, records[-1].epoch)
                length = records[-1].sequence
            case Snapshot(_, promised, position, _, records):
                self.promises.synced(key, promised)
                length = position.sequence + len(records)
                self._snapshots[key] = max(self._snapshots.get(key, 0), position.sequence)
            case Dropped(_, promised):
                self.promises.synced(key, promised)
                length, records = 0, ()
            case Promise(_, promised):
                self.promises.synced(key, promised)
                return
            case _:
                assert_never(entry)
        self._hold(node, entry.partition, records)
        self._disk_of(key).synced(length)

    def sent(self, node: NodeId, message: Message | Confirm | Confirmed) -> None:
        """A replica that has promised an epoch accepts nothing below it; what it acknowledges is on its disk."""
        if not isinstance(message, ANSWERS):
            return
        self.promises.answered(node, message)
        key = (message.partition, node)
        if isinstance(message, _OF_LOGS):
            last = message.sequence if isinstance(message, Appended) else message.last.sequence
            on_disk = self._disk_of(key)
            if last > on_disk.longest:
                raise self._violation(
                    "partitions-durable-log",
                    message.partition,
                    f"it says that {last} records are on disk, and {on_disk.longest} are",
                    node,
                )
            # What waited for a sync may leave when some of it is replaced again.
            self._confirmed[key] = max(self._confirmed.get(key, 0), min(last, on_disk.lasting))

    def received(self, node: NodeId, sender: NodeId, message: object) -> None:
        """A node is about to take in a message, its own ones to itself included."""
        match message:
            case Sealed():
                self.promises.received(node, sender, message)
            case Appended() | ChunkTaken():
                self._acknowledgements.received(node, sender, message)

    def serving(self, partition: PartitionId, epoch: Epoch, node: NodeId, boot: Boot, committed: int) -> None:
        """One process per epoch, the one that the row names; and it has all that was committed in earlier epochs."""
        row = self._row_of(partition, epoch)
        if row is not None and (row.primary, row.boot) != (node, boot):
            raise self._violation(
                "partitions-one-process",
                partition,
                f"start {boot} of it serves epoch {epoch}, whose row names start {row.boot} of {row.primary}",
                node,
                row.primary,
            )
        process = self.served.setdefault((partition, epoch), (node, boot))
        if process != (node, boot):
            raise self._violation(
                "partitions-one-process",
                partition,
                f"start {boot} of it serves epoch {epoch}, and so does start {process[1]} of {process[0]}",
                node,
                process[0],
            )
        if not self.promises.has_begun(partition, epoch):
            raise self._violation(
                "partitions-barrier", partition, f"it serves epoch {epoch}, of which no record was written", node
            )
        earlier = (last for by, last in self._committed_by.get(partition, {}).items() if by < epoch)
        last = max(earlier, default=0)
        if committed < last:
            raise self._violation(
                "partitions-committed-kept",
                partition,
                f"it serves epoch {epoch} with {committed} records committed, and {last} was committed before",
                node,
            )

    def acknowledge(self, partition: PartitionId, epoch: Epoch, sequence: int, payload: bytes) -> None:
        """A caller was told by the primary of ``epoch`` that its record is committed."""
        known = self.committed.get(partition, [])[sequence - 1 : sequence]
        if not known or known[0].payload != payload:
            raise self._violation(
                "partitions-acknowledged-committed",
                partition,
                f"the primary of epoch {epoch} acknowledges {payload!r:.60} at {sequence}, where"
                f" {known[0].payload if known else None!r:.60} is committed",
            )
        self.acknowledged.setdefault(partition, {})[sequence] = payload

    def recovered(
        self, copies: Mapping[PartitionId, Partition], node: NodeId, history: Iterable[Entry] | None = None
    ) -> None:
        """A restart finds every promise that was answered for, and every record that was said to be on disk.

        Args:
            copies: what it found.
            history: all entries that were ever on its disk, deleted ones included; with them `check_whole_log` compares
                the log with how it came about. Without them what was found is what is compared from here on.
        """
        for partition in self.promises.answered_for(node):
            self._check_recovered(partition, node, copies.get(partition))
        self.promises.restarted(node)
        for state in (self._logs, self._checked, self._on_disk):
            for key in [key for key in state if key[1] == node]:
                del state[key]
        for entry in history or ():
            self.wrote(node, entry)
        for partition, copy in copies.items() if history is None else ():
            log = copy.replica.log
            before = [record.epoch for record in self.committed.get(partition, [])[: log.start.sequence]]
            after = [record.epoch for record in log.after(log.start.sequence)]
            self._logs[partition, node] = [*before, *after]
        for partition, copy in copies.items():
            log = copy.replica.log
            self.promises.synced((partition, node), copy.replica.promised)
            self._hold(node, partition, log.after(log.start.sequence))
        for key, epochs in self._logs.items():
            if key[1] == node:
                self._on_disk[key] = OnDisk(len(epochs), len(epochs))

    # ---- what must be true of a copy

    def check(self, partition: Partition, node: NodeId) -> None:
        """After each step of that copy."""
        self.promises.check(partition, node)
        replica = partition.replica
        log = replica.log
        if not log.start.sequence <= replica.committed <= log.last.sequence:
            raise self._violation(
                "partitions-log-whole",
                replica.partition,
                f"{replica.committed} is committed in a log from {log.start} to {log.last}",
                node,
            )
        row = partition.row
        if row is not None and row.phase is Phase.ACTIVE and node not in row.replicas:
            self._check_deleted(replica, row, node)
        if replica.committed != self._checked.get((replica.partition, node)):
            self._check_commitment(partition, node)

    def check_whole_log(self, partition: Partition, node: NodeId) -> None:
        """What is in memory is what was written, and its bytes are counted right. Takes as long as the log is."""
        log = partition.replica.log
        epochs = self._logs.get((partition.replica.partition, node), [])
        records = log.after(log.start.sequence)
        is_whole = (
            log.last == (Position(epochs[-1], len(epochs)) if epochs else ORIGIN)
            and (not log.start.sequence or epochs[log.start.sequence - 1] == log.start.epoch)
            and [record.epoch for record in records] == epochs[log.start.sequence :]
            and log.payload_bytes == sum(len(record.payload) for record in records)
        )
        if not is_whole:
            raise self._violation(
                "partitions-log-whole",
                partition.replica.partition,
                f"its log from {log.start} to {log.last} is not what it wrote, which ends at {len(epochs)}",
                node,
            )

    # ---- for those who know more of the records

    def on_committed(self, partition: PartitionId, record: Record) -> None:
        """A record is committed for the first time anywhere. Called in order; made to be overridden."""

    # ---- what follows

    def _disk_of(self, key: Copy) -> OnDisk:
        on_disk = self._on_disk.get(key)
        if on_disk is None:
            on_disk = self._on_disk[key] = OnDisk()
        return on_disk

    def _hold(self, node: NodeId, partition: PartitionId, records: Iterable[Record]) -> None:
        for record in records:
            key = (partition, record.epoch, record.sequence)
            holders = self._holders.get(key)
            if holders is None:
                self._holders[key] = {node}
            else:
                holders.add(node)

    def _check_recovered(self, partition: PartitionId, node: NodeId, found: Partition | None) -> None:
        self.promises.recovered((partition, node), Epoch(0) if found is None else found.replica.promised)
        confirmed = self._confirmed.get((partition, node), 0)
        if not confirmed:
            return
        before = self._logs.get((partition, node), [])[:confirmed]
        start = 0 if found is None else found.replica.log.start.sequence
        epochs = [] if found is None else [record.epoch for record in found.replica.log.after(start)]
        if start + len(epochs) < confirmed or epochs[: max(0, confirmed - start)] != before[start:]:
            raise self._violation(
                "partitions-durable-log",
                partition,
                f"it restarts with {start + len(epochs)} records, or other ones, after it said that {confirmed} were on"
                " disk",
                node,
            )

    def _write_records(
        self, node: NodeId, partition: PartitionId, epochs: list[Epoch], records: tuple[Record, ...]
    ) -> None:
        first = records[0].sequence
        before = Epoch(0) if first == 1 else epochs[first - 2]
        if first <= len(epochs):
            del epochs[first - 1 :]
        for record in records:
            self.promises.begins(partition, record.epoch, node)
            known = self._records.setdefault((partition, record.epoch, record.sequence), (record.payload, before))
            if known[0] != record.payload:
                raise self._violation(
                    "partitions-one-record",
                    partition,
                    f"{record.position} is {record.payload!r:.60} here and {known[0]!r:.60} elsewhere",
                    node,
                )
            if known[1] != before:
                raise self._violation(
                    "partitions-equal-prefixes",
                    partition,
                    f"{record.position} follows epoch {before} here and epoch {known[1]} elsewhere",
                    node,
                )
            epochs.append(record.epoch)
            before = record.epoch

    def _check_commitment(self, partition: Partition, node: NodeId) -> None:
        replica = partition.replica
        key = (replica.partition, node)
        before = self._checked.get(key, 0)
        if replica.committed < before:
            raise self._violation(
                "partitions-committed-stays",
                replica.partition,
                f"it takes {replica.committed} for committed, and took {before} before",
                node,
            )
        committed = self.committed.setdefault(replica.partition, [])
        is_first = False
        epochs = self._logs.get(key, ())
        for sequence in range(before + 1, replica.committed + 1):
            if sequence > len(epochs):
                raise self._violation(
                    "partitions-log-whole", replica.partition, f"it committed {sequence} and never wrote it", node
                )
            epoch = epochs[sequence - 1]
            if sequence > len(committed):
                self._check_majority(partition, node, epoch, sequence)
                payload, _ = self._records[replica.partition, epoch, sequence]
                committed.append(Record(epoch, sequence, payload))
                is_first = True
                self.on_committed(replica.partition, committed[-1])
            if committed[sequence - 1].epoch != epoch:
                raise self._violation(
                    "partitions-one-history",
                    replica.partition,
                    f"{sequence} is committed in epoch {epoch} here and in {committed[sequence - 1].epoch} elsewhere",
                    node,
                )
        if is_first:
            self._check_barrier(partition, node, committed[replica.committed - 1].epoch)
        self._checked[key] = replica.committed

    def _check_deleted(self, replica: Replica, row: Row, node: NodeId) -> None:
        """What rule 10 deletes is gone, and does not come back by what is late."""
        newest = max(replica.attached, replica.log.last.epoch)
        if not replica.is_empty and newest < row.epoch:
            raise self._violation(
                "partitions-excluded",
                replica.partition,
                f"it has a copy of epoch {newest}, and the active row of epoch {row.epoch} names {row.replicas}",
                node,
            )

    def _check_barrier(self, partition: Partition, node: NodeId, epoch: Epoch) -> None:
        """A primary commits what others wrote only with a record of its own, the barrier at least (rule 7)."""
        primary = partition.primary
        assert primary is not None  # `_check_majority` has seen to that
        if epoch != primary.epoch:
            raise self._violation(
                "partitions-barrier",
                partition.replica.partition,
                f"as primary of epoch {primary.epoch} it commits up to {partition.replica.committed}, of epoch {epoch}",
                node,
            )
        self._committed_by.setdefault(partition.replica.partition, {})[epoch] = partition.replica.committed

    def _check_majority(self, partition: Partition, node: NodeId, epoch: Epoch, sequence: int) -> None:
        replica, primary = partition.replica, partition.primary
        if primary is None or not partition.is_serving:
            raise self._violation(
                "partitions-durable-majority",
                replica.partition,
                f"{sequence} is committed first here, where no active primary is",
                node,
            )
        holders = self._holders.get((replica.partition, epoch, sequence), set())
        durable = [
            member
            for member in primary.replicas
            if member in holders or self._snapshots.get((replica.partition, member), 0) >= sequence
        ]
        if len(durable) < majority(len(primary.replicas)):
            raise self._violation(
                "partitions-durable-majority",
                replica.partition,
                f"{sequence} is committed, and of {primary.replicas} only {durable} have it on disk",
                node,
            )
        self._acknowledgements.check(primary, node, sequence)

    def _violation(self, invariant: str, partition: PartitionId, message: str, *nodes: NodeId) -> Violation:
        where = f"partition {partition}" + (f" on node {nodes[0]}" if nodes else "")
        return Violation(invariant, virtual_s=self._clock(), message=f"{where}: {message}", nodes=nodes)
