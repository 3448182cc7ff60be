"""Drivers of several nodes at work, in virtual time."""

import pytest
import trio

from meshnode.errors import DataDirectoryError
from meshnode.identity import NodeId, PartitionId
from meshnode.metadata.rows import Phase
from meshnode.partitions import driver as driver_module
from meshnode.partitions.config import PartitionsConfig
from meshnode.partitions.messages import Confirm, Log, Record
from tests.partitions.mesh import DISK_S, LINK_S, Process, mesh_of, until

A, B, C, D = (NodeId(number) for number in range(1, 5))
P = PartitionId(0)
LEASE_S = PartitionsConfig().lease_s
SMALL = PartitionsConfig(segment_bytes=2**16, journal_bytes_max=4 * 2**16)


async def test_a_write_is_acknowledged_once_a_majority_has_synced_it() -> None:
    async with mesh_of(3) as mesh:
        primary = await mesh.serve(P, A, B, C)
        began = trio.current_time()
        await primary.write(P, b"x")
        assert 2 * LINK_S + DISK_S <= trio.current_time() - began <= 2 * LINK_S + 4 * DISK_S


async def test_what_was_acknowledged_outlives_a_power_failure_of_all_nodes() -> None:
    async with mesh_of(3) as mesh:
        primary = await mesh.serve(P, A, B, C)
        payloads = [b"write %d" % number for number in range(20)]
        for payload in payloads:
            await primary.write(P, payload)
        disks = {node: mesh.power_failure(node) for node in (A, B, C)}
        for node, disk in disks.items():
            mesh.start(node, disk)
        primary = await mesh.serve(P, C, A, B)
        assert primary.state(P) == payloads


async def test_a_read_is_answered_after_a_round_trip() -> None:
    async with mesh_of(3) as mesh:
        primary = await mesh.serve(P, A, B, C)
        await trio.sleep(0.2)  # nothing is under way any more
        began = trio.current_time()
        primary.partitions.read(P, 7)
        assert primary.tenant.reads == []
        await until(lambda: primary.tenant.reads == [7])
        assert trio.current_time() - began <= 2 * LINK_S + 0.01


async def test_a_primary_that_was_cut_off_loses_its_lease_answers_no_read_and_is_told_that_it_is_none() -> None:
    async with mesh_of(3) as mesh:
        old = await mesh.serve(P, A, B, C)
        epoch = old.tenant.epochs[P]
        mesh.cut.add(A)
        new = await mesh.serve(P, B, A, C)
        await new.write(P, b"newer")
        assert old.partitions.is_serving(P, epoch)
        old.partitions.read(P, 7)
        await trio.sleep(LEASE_S)
        assert not old.partitions.holds_lease(P)
        assert new.partitions.holds_lease(P)
        mesh.cut.clear()  # the row does not come again: only what the replicas say
        await until(lambda: P not in old.tenant.epochs)
        assert not old.partitions.is_serving(P, epoch)
        assert not old.partitions.holds_lease(P)
        assert old.tenant.reads == []
        await until(lambda: old.state(P) == [b"newer"])


async def test_what_was_lost_on_the_way_is_sent_again_in_time() -> None:
    async with mesh_of(3) as mesh:
        primary = await mesh.serve(P, A, B, C)
        mesh.cut.add(A)
        sequence = primary.partitions.propose(P, b"x")
        await trio.sleep(0.1)
        mesh.cut.clear()
        await until(lambda: primary.tenant.through[P] == sequence)
        assert primary.partitions.has_room(P)


async def test_a_proposal_that_was_lost_is_made_again() -> None:
    async with mesh_of(3) as mesh:
        mesh.proposals_lost = 2
        await mesh.serve(P, A, B, C)
        assert mesh.proposals_lost == 0
        assert mesh.metadata.rows[P].phase is Phase.ACTIVE


@pytest.mark.parametrize("is_leader_here", [True, False])
async def test_a_move_brings_the_partition_with_all_that_it_holds(is_leader_here: bool) -> None:
    async with mesh_of(4) as mesh:
        primary = await mesh.serve(P, A, B, C)
        for number in range(10):
            await primary.write(P, b"write %d" % number)
        move = mesh.move(P, D, B, C)
        if is_leader_here:
            primary.partitions.move(move)
        else:
            primary.partitions.receive(C, move)
        await until(lambda: P in mesh.processes[D].tenant.epochs)
        assert mesh.processes[D].state(P) == [b"write %d" % number for number in range(10)]
        await until(lambda: primary.partitions.partitions[P].replica.is_empty)


async def test_reads_that_come_while_a_question_is_under_way_share_the_next_one() -> None:
    async with mesh_of(3) as mesh:
        primary = await mesh.serve(P, A, B, C)
        await trio.sleep(0.1)
        before = mesh.carried[Confirm]
        for number in range(200):
            primary.partitions.read(P, number)
            await trio.sleep(0.0005)
        await until(lambda: len(primary.tenant.reads) == 200)
        assert primary.tenant.reads == list(range(200))
        assert mesh.carried[Confirm] - before <= 2 * (0.1 / (2 * LINK_S) + 3)


async def test_many_partitions_share_one_question_a_pair_of_nodes() -> None:
    async with mesh_of(3) as mesh:
        for number in range(20):
            await mesh.serve(PartitionId(number), A, B, C)
        await trio.sleep(1.0)
        before = mesh.carried[Confirm]
        await trio.sleep(10.0)
        assert 20 <= mesh.carried[Confirm] - before <= 22


async def test_what_a_tenant_writes_when_it_is_told_of_something_comes_after_that() -> None:
    async with mesh_of(1) as mesh:
        process = await mesh.serve(P, A)
        told: list[str] = []

        def committed(partition: PartitionId, through: int) -> None:
            told.append(f"committed {through}")
            process.tenant.through[partition] = through
            if through == 2:
                process.partitions.read(P, 7)
                told.append("asked")

        def read_ready(_partition: PartitionId, token: int) -> None:
            told.append(f"read {token}")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(process.tenant, "committed", committed)
            patch.setattr(process.tenant, "read_ready", read_ready)
            await process.write(P, b"x")
        assert told == ["committed 2", "asked", "read 7"]


# ---- the size of the journal


async def test_a_journal_stays_at_its_size_whatever_is_written_and_all_is_found_again() -> None:
    async with mesh_of(1, SMALL, kept=1) as mesh:
        partitions = [PartitionId(number) for number in range(64)]
        process = mesh.processes[A]
        for partition in partitions:
            await mesh.serve(partition, A)
        peak = written = 0
        for number in range(200):
            for partition in partitions[number % 8 :: 8]:  # each file is needed by a few, and none by all
                payload = b"%d of %d " % (number, partition) + bytes(1000)
                process.partitions.propose(partition, payload)
                written += len(payload)
            await process.journal.until_synced()
            peak = max(peak, process.journal.size_bytes)
        assert written > 5 * SMALL.journal_bytes_max
        assert peak <= SMALL.journal_bytes_max + 2 * SMALL.segment_bytes
        await until(lambda: process.journal.partitions_to_copy() == [])
        assert process.journal.size_bytes <= SMALL.journal_bytes_max
        found = {partition: process.state(partition) for partition in partitions}

        again = mesh.start(A, mesh.power_failure(A))
        for partition in partitions:
            mesh.begin(partition, A)
        await until(lambda: len(again.tenant.epochs) == len(partitions))
        assert {partition: again.state(partition) for partition in partitions} == found


class Steps(trio.abc.Instrument):
    """How many snapshots were made in each step of a task, and how much was queued after it."""

    def __init__(self, process: Process) -> None:
        self.snapshots: list[int] = []
        self.queued_bytes: list[int] = []
        self._process = process
        self._before = process.tenant.snapshots_made

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._before = self._process.tenant.snapshots_made

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self.snapshots.append(self._process.tenant.snapshots_made - self._before)
        self.queued_bytes.append(self._process.journal.queued_bytes)


async def test_copying_lets_others_run_and_sync_between_partitions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver_module, "COPY_BYTES", 20_000)
    async with mesh_of(1, SMALL, kept=1) as mesh:
        process = mesh.processes[A]
        for number in range(64):
            await mesh.serve(PartitionId(number), A)
        for number in range(64):
            await process.write(PartitionId(number), bytes(4000))
        steps = Steps(process)
        trio.lowlevel.add_instrument(steps)
        for _ in range(10):
            await process.write(P, bytes(10_000))
        trio.lowlevel.remove_instrument(steps)
        assert sum(steps.snapshots) >= 32
        assert max(steps.snapshots) == 1
        assert max(steps.queued_bytes) <= 20_000 + 4100 + 10_100


async def test_states_as_large_as_the_bound_are_not_copied_without_end() -> None:
    async with mesh_of(1, SMALL, kept=10) as mesh:
        process = mesh.processes[A]
        for number in range(32):
            await mesh.serve(PartitionId(number), A)
        for _ in range(10):
            for number in range(32):  # states of 320 KiB together, in a journal of 256 KiB
                process.partitions.propose(PartitionId(number), bytes(1000))
            await process.journal.until_synced()
        await trio.sleep(10.0)
        before = process.tenant.snapshots_made
        assert before >= 32
        await trio.sleep(100.0)
        assert process.tenant.snapshots_made == before
        assert process.journal.size_bytes <= 3 * 32 * 10 * 1010


async def test_a_journal_that_lacks_records_is_refused() -> None:
    async with mesh_of(1) as mesh:
        process = await mesh.serve(P, A)
        await process.write(P, b"x")
        process.journal.write(Log(P, (Record(process.tenant.epochs[P], 9, b"of a file that is lost"),)))
        await process.journal.until_synced()
        with pytest.raises(DataDirectoryError, match="lacks records of partition 0 after 2"):
            mesh.start(A, mesh.power_failure(A))
