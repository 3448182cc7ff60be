"""Partitions whose nodes crash, stand still and do not hear each other, and clients that try again."""

import pytest

from meshnode.identity import NodeId, PartitionId
from meshnode.partitions import primary, replica
from meshnode.partitions.config import PartitionsConfig
from meshnode.partitions.effects import Effect
from meshnode.partitions.messages import Appended
from meshnode.partitions.partition import Partition
from simulations.cores import partition_world
from simulations.cores.faults import NO_FAULTS, ClockRate, CoreFaults, Crash, Cut, LinkQuality, Pause
from simulations.cores.partition_traffic import SERVICE
from simulations.cores.partition_world import (
    PartitionSettings,
    PartitionWorkload,
    PartitionWorld,
    run,
)

EVERYTHING = CoreFaults(
    quality=LinkQuality(loss=0.05, duplicate=0.05, jitter_s=0.05),
    sync_s=(0.0005, 0.05),
    calm_s=12.0,
    crashes=(Crash(1, 2.0, 3.0, effects=3), Crash(2, 4.0, 0.5), Crash(3, 5.0, 2.0, power=False), Crash(1, 8.0, 3.0)),
    pauses=(Pause(2, 6.0, 3.0), Pause(SERVICE, 9.0, 1.0)),
    cuts=(Cut(frozenset([1]), frozenset([0, 2, 3, 4]), 10.0, 2.0),),
    clocks=(ClockRate(3, 1.2), ClockRate(4, 0.8)),
)
BUSY = PartitionWorkload(
    nodes=4, partitions=4, clients=6, pause_s=0.05, meddling_per_s=0.3, copies_per_s=1.0, isolations_per_s=0.1
)
SMALL = PartitionSettings(has_small_bounds=True)


def test_partitions_without_faults_are_founded_once_and_answer_everything_at_once() -> None:
    workload = PartitionWorkload()
    world = PartitionWorld(1, faults=NO_FAULTS, settings=PartitionSettings(), workload=workload)
    world.run_for(10.0)
    assert [row.epoch for row in world.service.metadata.rows.values()] == [1] * workload.partitions
    refused = sum(client.refused for client in world.clients.values())
    done = sum(client.done for client in world.clients.values())
    world.run_for(20.0)
    assert sum(client.refused for client in world.clients.values()) == refused
    assert sum(client.done for client in world.clients.values()) > done + 200
    world.recover()


@pytest.mark.parametrize("seed", range(12))
def test_everything_that_can_go_wrong_breaks_no_invariant_and_all_are_served_again(seed: int) -> None:
    settings = SMALL if seed % 2 else PartitionSettings(requires_lease=seed % 4 == 0)
    report = run(seed, EVERYTHING, 16.0, settings=settings, workload=BUSY)
    assert report.violations == ()
    assert report.counters["rows_changed"] > 12
    assert report.counters["requests_answered"] > 30


def test_the_same_seed_gives_the_same_trace_and_another_seed_another() -> None:
    traces = [run(seed, EVERYTHING, 12.0, settings=SMALL, workload=BUSY).trace for seed in (1, 1, 2)]
    assert traces[0] == traces[1] != traces[2]


def test_a_primary_that_crashes_is_replaced_and_nothing_acknowledged_is_lost() -> None:
    world = PartitionWorld(2, faults=NO_FAULTS, settings=PartitionSettings(), workload=PartitionWorkload())
    world.run_for(10.0)
    row = world.service.metadata.rows[PartitionId(0)]
    before = len(world.checks.acknowledged[PartitionId(0)])
    world.nodes[row.primary].end(surviving=0)
    world.run_for(20.0)
    after = world.service.metadata.rows[PartitionId(0)]
    assert after.primary != row.primary
    assert after.epoch > row.epoch
    assert len(world.checks.acknowledged[PartitionId(0)]) > before
    world.nodes[row.primary].start()
    world.recover()


def test_while_the_metadata_service_stands_still_partitions_go_on() -> None:
    faults = CoreFaults(pauses=(Pause(SERVICE, 10.0, 20.0),))
    world = PartitionWorld(3, faults=faults, settings=PartitionSettings(), workload=PartitionWorkload())
    world.run_for(11.0)
    done = sum(client.done for client in world.clients.values())
    world.run_for(15.0)
    assert sum(client.done for client in world.clients.values()) > done + 100
    assert world.service.is_paused


def test_a_partition_that_nobody_can_serve_is_said_to_be_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition_world, "RECOVERY_S", 10.0)
    lonely = CoreFaults(cuts=(Cut(frozenset(range(1, 4)), frozenset(range(1, 4)), 4.0),))
    (violation,) = run(1, lonely, 6.0).violations
    assert violation.invariant == "liveness"
    assert "clients" in violation.message


def bounds() -> tuple[int, ...]:
    return (replica.RECORDS_RETAINED, replica.MESSAGE_BYTES, primary.WINDOW_MESSAGES, primary.TAIL_RECORDS)


def test_small_bounds_hold_for_a_run_only(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = bounds()
    seen = []

    def recover(_: PartitionWorld) -> None:
        seen.append(bounds())
        raise KeyboardInterrupt

    monkeypatch.setattr(PartitionWorld, "recover", recover)
    with pytest.raises(KeyboardInterrupt):
        run(1, NO_FAULTS, 1.0, settings=SMALL)
    assert bounds() == usual
    assert all(small < large for small, large in zip(seen[0], usual, strict=True))


def test_an_echo_tells_a_primary_what_was_acknowledged_in_an_earlier_epoch_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original = Partition.receive
    echoes = []

    def listening(partition: Partition, message: object, sender: NodeId, now: float) -> list[Effect]:
        leading = partition.primary
        if isinstance(message, Appended) and leading is not None and message.epoch < leading.epoch:
            # Of what the log holds other records now, so that it must not count.
            echoes.append(leading.barrier < message.sequence <= partition.replica.log.last.sequence)
        return original(partition, message, sender, now)

    monkeypatch.setattr(Partition, "receive", listening)
    workload = PartitionWorkload(
        nodes=5, partitions=1, replication=5, clients=16, pause_s=0.1, read_share=0.0, echoes_per_s=0.4
    )
    settings = PartitionSettings(
        partitions=PartitionsConfig(resend_after_s=0.1),
        failed_after_s=0.6,
        agreement_s=0.01,
        has_small_bounds=True,
        records_retained=1000,
    )
    for seed in range(1, 9):
        assert run(seed, CoreFaults(calm_s=10.0), 10.0, settings=settings, workload=workload).is_clean
    assert any(echoes)
