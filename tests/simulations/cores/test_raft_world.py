"""Groups that lose power, messages and members: safe all the time, and at work again afterwards."""

import random
from dataclasses import replace

import pytest

from simulations.checkers.violation import Violation
from simulations.cores import raft_world
from simulations.cores.faults import FOREVER, NO_FAULTS, ClockRate, CoreFaults, Crash, Cut, LinkQuality, Pause
from simulations.cores.raft_member import RaftMember
from simulations.cores.raft_process import RaftSettings
from simulations.cores.raft_world import RaftWorkload, RaftWorld, run
from simulations.disk import DiskFaults

EVERYTHING = CoreFaults(
    quality=LinkQuality(loss=0.05, duplicate=0.05, jitter_s=0.05),
    sync_s=(0.0005, 0.05),
    calm_s=12.0,
    crashes=(Crash(1, 2.0, 1.0, effects=3), Crash(2, 3.0, 0.5), Crash(3, 5.0, 1.0, power=False), Crash(1, 8.0, 1.0)),
    pauses=(Pause(2, 6.0, 2.0),),
    cuts=(Cut(frozenset([1, 2]), frozenset([3, 4, 5]), 9.0, 2.0),),
    clocks=(ClockRate(4, 1.2), ClockRate(5, 0.8)),
)
BUSY = RaftWorkload(
    members=6, founders=3, proposals_per_s=8.0, changes_per_s=0.5, transfers_per_s=0.3, isolations_per_s=0.2
)


def world(seed: int, faults: CoreFaults = NO_FAULTS, workload: RaftWorkload | None = None) -> RaftWorld:
    group = RaftWorld(seed, faults=faults, settings=RaftSettings(), workload=workload or RaftWorkload())
    group.begin()
    return group


def leaders(group: RaftWorld) -> list[RaftMember]:
    return [member for member in group.members.values() if member.is_leader]


def test_a_group_without_faults_elects_one_leader_and_keeps_it() -> None:
    group = world(1)
    group.run_for(30.0)
    assert len(group.checks.leaders) == 1
    assert len(leaders(group)) == 1
    assert {member.raft.commit_index for member in group.members.values() if member.raft} == {len(group.checks.chosen)}
    assert len(group.checks.chosen) > 100


@pytest.mark.parametrize("seed", range(12))
def test_everything_that_can_go_wrong_breaks_no_invariant_and_the_group_recovers(seed: int) -> None:
    report = run(seed, EVERYTHING, 12.0, workload=BUSY)
    assert report.violations == ()
    assert report.counters["terms_led"] > 1
    assert report.counters["entries_chosen"] > 10


@pytest.mark.parametrize("threads", [False, True], ids=["batches", "storage-threads"])
@pytest.mark.parametrize("leases", [False, True], ids=["rounds", "leases"])
def test_reads_are_answered_whatever_goes_wrong_beside_them(leases: bool, threads: bool) -> None:
    settings = RaftSettings(
        lease_reads=leases, clock_error_max=0.2, async_storage=threads, thread_s=(0.0, 0.01), is_eager=True
    )
    workload = replace(BUSY, reads_per_s=20.0, campaigns_per_s=1.0, isolations_per_s=1.0)
    reports = [run(seed, EVERYTHING, 12.0, settings=settings, workload=workload) for seed in range(4)]
    assert [report.violations for report in reports] == [()] * 4
    assert sum(report.counters["reads_answered"] for report in reports) > 100


def test_disks_of_a_minority_lose_what_was_synced_and_it_is_noticed() -> None:
    losses = DiskFaults(stale_rate=0.3, misdirected_rate=0.3, bit_rot_rate=0.5, torn_sector_rate=0.3)
    crashes = tuple(Crash(node, 1.0 + node + 5 * turn, 0.5) for node in range(1, 6) for turn in range(3))
    faults = CoreFaults(crashes=crashes, calm_s=18.0)
    reports = [run(seed, faults, 18.0, disk_faults=losses) for seed in range(6)]
    assert [report.violations for report in reports] == [()] * 6
    corrupt = [report.counters["corrupt_logs"] for report in reports]
    assert max(corrupt) <= 2, "more than a minority of five"
    lost = [report.counters["losses"] for report in reports]
    assert sum(corrupt) + sum(lost) > 3, "hardly any log was hit"


def test_what_disks_of_a_minority_have_lost_comes_back_from_the_others() -> None:
    crashes = tuple(Crash(node, 1.0 + node + 5 * turn, 0.5) for node in range(1, 6) for turn in range(3))
    faults = CoreFaults(crashes=crashes, calm_s=18.0)
    reports = [run(seed, faults, 18.0, disk_faults=DiskFaults(bit_rot_rate=0.6)) for seed in range(6)]
    assert [report.violations for report in reports] == [()] * 6
    assert sum(report.counters["losses"] for report in reports) > 5


def test_where_no_read_is_answered_a_group_has_not_recovered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consensus.reads.confirm", lambda core: None)
    (violation,) = run(1, NO_FAULTS, 3.0, workload=RaftWorkload(reads_per_s=1.0)).violations
    assert violation.invariant == "liveness"


def test_the_same_seed_gives_the_same_trace_and_another_seed_another() -> None:
    traces = [run(seed, EVERYTHING, 12.0, workload=BUSY).trace for seed in (1, 1, 2)]
    assert traces[0] == traces[1] != traces[2]


def test_a_power_failure_takes_what_was_not_synced_and_nothing_else() -> None:
    lost = 0
    for seed in range(20):
        group = world(seed, CoreFaults(sync_s=(0.05, 0.1)), RaftWorkload(proposals_per_s=50.0))
        group.run_for(4.0 + seed / 10)
        (leader,) = leaders(group)
        written, durable = list(leader.terms), list(group.checks._durable[leader.number])
        leader.end(power=True)
        leader.start(random.Random(seed))
        assert list(leader.terms) in (written, durable)
        lost += len(leader.terms) < len(written)
    assert lost > 3, "hardly anything was lost: the crashes never met a sync"


@pytest.mark.parametrize("effects", range(8))
def test_a_process_dies_between_any_two_effects(effects: int) -> None:
    group = world(3, CoreFaults(crashes=(Crash(2, 3.0, 2.0, effects=effects),)))
    running = []
    for seconds in (2.9, 2.0, 10.0):
        group.run_for(seconds)
        running.append(group.members[2].raft is not None)
    assert running == [True, False, True]
    group.recover()


def test_a_group_without_a_majority_is_not_blamed_and_one_that_could_agree_is(monkeypatch: pytest.MonkeyPatch) -> None:
    down = CoreFaults(crashes=tuple(Crash(node, 2.0, FOREVER) for node in (1, 2, 3)))
    assert run(1, down, 3.0).violations == ()
    # With nothing heard by anyone, no leader comes: then it is one.
    deaf = CoreFaults(cuts=tuple(Cut(frozenset([node]), frozenset(range(1, 6)), 0.0) for node in range(1, 6)))
    (violation,) = run(1, deaf, 3.0).violations
    assert violation.invariant == "liveness"
    monkeypatch.setattr(raft_world, "RECOVERY_TIMEOUTS", 0)
    with pytest.raises(Violation, match=r"no agreement 0\.0 s after"):
        world(1).recover()


def test_a_mistake_in_a_core_ends_the_run_as_a_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consensus.core.Core.commit_by_quorum", lambda core: core.no_such_thing)
    (violation,) = run(1, NO_FAULTS, 3.0).violations
    assert violation.invariant == "core-error"
    assert "no_such_thing" in str(violation)


def test_a_group_has_founders() -> None:
    with pytest.raises(ValueError, match="4 founders of 3 members"):
        RaftWorkload(members=3, founders=4)


@pytest.mark.parametrize("threads", [False, True])
def test_snapshots_are_taken_installed_and_go_on_through_crashes(threads: bool) -> None:
    settings = RaftSettings(
        async_storage=threads, segment_bytes=500, snapshot_log_bytes=200, thread_s=(0.0, 0.01), is_eager=threads
    )
    workload = replace(BUSY, proposals_per_s=20.0)
    reports = [run(seed, EVERYTHING, 12.0, settings=settings, workload=workload) for seed in range(4)]
    assert [report.violations for report in reports] == [()] * 4
    assert sum(report.counters["snapshots"] for report in reports) > 50
    assert sum(report.counters["installed"] for report in reports) > 3
