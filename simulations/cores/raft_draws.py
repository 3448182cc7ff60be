"""What is drawn for Raft's world alone: reads and their leases, storage threads, and disks that lose what was synced.

Each has numbers of its own, so that what is drawn beside it stays as it is.
"""

import random
from dataclasses import replace

from simulations.cores.faults import ClockRate, CoreFaults, LinkQuality
from simulations.cores.raft_process import RaftSettings
from simulations.cores.raft_world import RaftWorkload
from simulations.disk import DiskFaults


def with_reads(
    seed: int, settings: RaftSettings, workload: RaftWorkload, faults: CoreFaults
) -> tuple[RaftSettings, RaftWorkload, CoreFaults]:
    """Clients that read. Where leases answer them, no clock is off by more than what the leases allow for."""
    rng = random.Random(f"swarm raft reads {seed}")
    if rng.random() < 0.4:
        return settings, workload, faults
    workload = replace(workload, reads_per_s=rng.choice((1.0, 4.0, 12.0)))
    if not settings.check_quorum or rng.random() < 0.4:
        return settings, workload, _with_late_answers(rng, faults, workload)
    error = rng.choice((0.05, 0.2, 0.3))
    clocks = faults.clocks[:0]
    if faults.clocks or rng.random() < 0.5:
        rates = (1 - error, 1 + error, rng.uniform(1 - error, 1 + error))
        clocks = tuple(ClockRate(node, rng.choice(rates)) for node in range(1, workload.members + 1))
    settings = replace(settings, lease_reads=True, clock_error_max=error)
    workload = replace(workload, reads_per_s=rng.choice((4.0, 12.0, 25.0)))
    if workload.isolations_per_s and rng.random() < 0.7:
        # Leaders that nobody hears, and others that stand as soon as somebody may vote for them.
        workload = replace(workload, reads_per_s=25.0, proposals_per_s=16.0, campaigns_per_s=rng.choice((4.0, 12.0)))
    if random.Random(f"swarm raft leases {seed}").random() < 0.4:
        # Nothing else goes wrong, so that one of them wins as soon as it can.
        faults = CoreFaults(ordered=faults.ordered, calm_s=faults.calm_s)
        workload = replace(workload, founders=workload.members, isolations_per_s=workload.isolations_per_s and 1.0)
    return settings, workload, _with_late_answers(rng, replace(faults, clocks=clocks), workload)


def _with_late_answers(rng: random.Random, faults: CoreFaults, workload: RaftWorkload) -> CoreFaults:
    """Where leaders are isolated, often enough answers from before still arrive."""
    if not workload.isolations_per_s or rng.random() < 0.6 or faults.quality == LinkQuality():
        return faults
    return replace(faults, ordered=False, quality=replace(faults.quality, late=0.3, late_s=3.0))


def with_threads(seed: int, settings: RaftSettings) -> RaftSettings:
    """Storage threads that take their time, in half of the runs."""
    rng = random.Random(f"swarm raft threads {seed}")
    if rng.random() < 0.5:
        return settings
    return replace(settings, async_storage=True, thread_s=rng.choice(((0.0, 0.0), (0.0, 0.01), (0.0, 0.3))))


def with_snapshots(seed: int, settings: RaftSettings) -> RaftSettings:
    """Small files, and snapshots after a few entries, in half of the runs."""
    rng = random.Random(f"swarm raft snapshots {seed}")
    if rng.random() < 0.5:
        return settings
    return replace(
        settings,
        segment_bytes=rng.choice((1, 500, 2000)),
        snapshot_log_bytes=rng.choice((1, 200, 1000)),
        kept_log_bytes=rng.choice((0, 0, 1000)),
    )


def with_losses(seed: int, faults: DiskFaults) -> DiskFaults:
    """Sectors that never get to the medium, or to another place than theirs; reads that fail."""
    rng = random.Random(f"swarm raft losses {seed}")
    return replace(
        faults,
        stale_rate=rng.choice((0.0, 0.0, 0.05, 0.3)),
        misdirected_rate=rng.choice((0.0, 0.0, 0.05, 0.3)),
        read_error_rate=rng.choice((0.0, 0.0, 0.0, 0.1)),
        read_bit_rot_rate=rng.choice((0.0, 0.0, 0.0, 0.05)),
    )
