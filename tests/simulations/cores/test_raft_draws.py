"""What is drawn for Raft's world reaches all that it can do, and nothing that it does not claim to bear."""

from simulations.cores.plans import RaftPlan
from simulations.cores.swarm import ANY, draw_raft

PLANS: list[RaftPlan] = [draw_raft(seed, ANY) for seed in range(300)]


def test_where_leases_answer_reads_no_clock_is_off_by_more_than_they_allow_for() -> None:
    with_leases = [plan for plan in PLANS if plan.settings.lease_reads]
    assert len(with_leases) > 40
    for plan in with_leases:
        error = plan.settings.clock_error_max
        assert all(1 - error <= clock.rate <= 1 + error for clock in plan.faults.clocks)
    furthest = [max([abs(clock.rate - 1) for clock in plan.faults.clocks], default=0.0) for plan in with_leases]
    assert any(off >= plan.settings.clock_error_max for off, plan in zip(furthest, with_leases, strict=True))


def test_half_of_the_runs_have_storage_threads_and_most_have_readers() -> None:
    assert 100 < sum(plan.settings.async_storage for plan in PLANS) < 200
    assert sum(plan.workload.reads_per_s > 0 for plan in PLANS) > 150
    assert sum(plan.settings.async_storage and plan.settings.lease_reads for plan in PLANS) > 20


def test_disks_lose_what_was_synced_in_all_the_ways_there_are() -> None:
    for rate in ("stale_rate", "misdirected_rate", "bit_rot_rate", "read_bit_rot_rate", "torn_sector_rate"):
        assert 40 < sum(getattr(plan.disk_faults, rate) > 0 for plan in PLANS) < 260, rate
