"""Each kind of fault happens to whole nodes, and is over when it should be."""

import dataclasses
import time
from typing import Any

import pytest
import trio

from meshnode.control import Join
from meshnode.errors import DataDirectoryError
from meshnode.identity import NodeId
from meshnode.joining import join_mesh
from meshnode.metadata.state import Metadata, Outcome
from meshnode.partitions.journal import Journal
from simulations import campaign
from simulations.campaign import HARNESS, Totals, run_plan
from simulations.cores.faults import ClockRate, Crash, Leave, Slow
from simulations.cores.faults import LinkQuality as CoreQuality
from simulations.disk import DiskFaults
from simulations.faults import (
    BadDisk,
    Clog,
    Damage,
    Departure,
    DiskKill,
    Drift,
    Faults,
    HalfOpen,
    Hang,
    LateStart,
    Mixup,
    Narrow,
    OldImage,
    Reset,
    RollingRestart,
    SlowCpu,
    Stranger,
    WallJump,
)
from simulations.mesh import Report, run
from simulations.mesh.agents import Counter
from simulations.mesh.injector import Injector
from simulations.mesh.settings import host_of
from simulations.plan import Bounds, Plan

SMALL = Plan(nodes=3, clients=1, duration_s=6.0, keys=3, partitions=2, tempo=0.5)


def suffer(faults: Faults, **changes: object) -> Report:
    """A clean run under these faults."""
    report = run(dataclasses.replace(SMALL, faults=faults, **changes))  # type: ignore[arg-type]
    assert report.violation is None, report.violation
    assert report.acknowledged > 10
    return report


def test_links_are_clogged_narrow_damaged_and_slow_and_strangers_knock() -> None:
    report = suffer(
        Faults(
            clogs=(Clog(0, 1, 0.5, 1.0),),
            narrows=(Narrow(1, 500.0, 1.0, 2.0),),
            damages=(Damage(2, 0.2, 0.5, 3.0),),
            slow=(Slow(0, CoreQuality(delay_s=0.1), 2.0, 2.0),),
            strangers=tuple(Stranger(number % 3, 0.3 * number) for number in range(12)),
            hangs=(Hang(0, 1.0, 1.0),),
        )
    )
    assert report.fired["stranger"] == 12
    for name in ("clog", "clogged datagram", "narrow", "datagram past a narrow link", "damage", "damaged datagram"):
        assert report.fired[name], name
    for name in ("damaged datagram, lost", "damaged send", "slow", "hang"):
        assert report.fired[name], name


def test_connections_end_in_the_middle_of_frames_and_for_one_side_alone() -> None:
    report = suffer(
        Faults(resets=(Reset(0, 1, 1.0, in_frame=True), Reset(0, 2, 2.0)), half_opens=(HalfOpen(1, 2, 3.0),))
    )
    assert report.fired["reset in a frame"] >= 1
    assert (report.fired["reset"], report.fired["half-open"]) == (1, 1)


def test_nodes_end_in_order_one_after_the_other_and_start_late() -> None:
    report = suffer(
        Faults(
            leaves=(Leave(1, 0.5, 0.5),),
            late_starts=(LateStart(3, 1.5),),
            rolling_restarts=(RollingRestart(2.0, 0.2),),
            slow_cpus=(SlowCpu(0, 0.0001, 1.0, 1.0),),
        ),
        nodes=4,
        duration_s=9.0,
    )
    for name in ("stop", "late start", "rolling restart", "rolling restart done", "slow cpu"):
        assert report.fired[name] == 1, name
    assert "boot 2" in report.nodes[0]
    assert "boot 3" in report.nodes[1]
    assert "boot 2" in report.nodes[3]


def test_a_node_that_leaves_for_good_is_followed_by_a_new_one() -> None:
    report = suffer(Faults(departures=(Departure(1, 1.0),)), nodes=4, duration_s=8.0)
    assert report.fired["left for good"] == 1
    assert "boot 1," in report.nodes[1]


def test_a_node_that_was_let_go_while_it_was_down_is_let_in_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a word from the group that it is no part of any more, it could propose nothing."""
    returned: list[int] = []
    forgotten_s: list[float] = []
    forget = Metadata._forget

    async def join(*arguments: Any) -> Any:
        returned.extend(argument.registration.boot for argument in arguments if isinstance(argument, Join))
        return await join_mesh(*arguments)

    def note(metadata: Metadata, node_id: NodeId) -> Outcome:
        forgotten_s.append(trio.current_time())
        return forget(metadata, node_id)

    monkeypatch.setattr("meshnode.belonging.join_mesh", join)
    monkeypatch.setattr(Metadata, "_forget", note)
    plan = Faults(departures=(Departure(1, 1.0),))
    report = suffer(plan, nodes=4, duration_s=4.0, keys=1, partitions=1)
    let_go_s = forgotten_s[0] - report.begun_s
    for later_s in (0.0, 0.0001, 0.0002, 0.0004, 0.0008):  # after the group has let it go, and before it knows
        crash = Crash(1, let_go_s + later_s, 0.3, power=False)
        report = suffer(dataclasses.replace(plan, crashes=(crash,)), nodes=4, duration_s=14.0, keys=1, partitions=1)
        if 2 in returned:
            assert "boot 2" in report.nodes[1]
            return
    pytest.fail("it was not killed at the right moment")


def test_a_machine_may_be_cut_off_from_its_power_at_any_operation_of_its_disk() -> None:
    kills = tuple(DiskKill(node, 3 * node, 1.0 + node, 1.5, power=node != 1) for node in range(3))
    report = suffer(Faults(disk_kills=kills))
    assert (report.fired["kill at disk"], report.fired["power cut at disk"]) == (1, 2)
    assert report.fired["disk lost_sector"]


def test_exchanged_disks_lose_nothing() -> None:
    report = suffer(Faults(mixups=(Mixup(0, 1, 1.0, 2.5),)), nodes=4)
    assert report.fired["mixup"] == 1
    assert "boot 3" in report.nodes[0]
    assert "boot 3" in report.nodes[1]


@pytest.mark.parametrize("power", [True, False], ids=["machine", "process"])
def test_no_machine_ends_by_a_disk_that_it_has_no_more(power: bool) -> None:
    kill = DiskKill(0, 40, 1.4, 3.0, power=power)
    report = suffer(Faults(mixups=(Mixup(0, 1, 1.0, 0.5),), disk_kills=(kill,)), nodes=4)
    assert report.fired["kill at disk to come"] == 1
    assert all("boot 3," in line for line in report.nodes[:2])


@pytest.mark.parametrize("other", [1, 2], ids=["its-own", "another"])
def test_an_old_copy_of_a_disk_is_refused_and_nothing_is_lost(other: int) -> None:
    report = suffer(Faults(old_images=(OldImage(1, other, 0.5, 3.0, 5.0),)), nodes=4, duration_s=9.0)
    assert report.fired["old image"] == 1
    assert report.fired["OldCopy"] == 1
    assert f"boot {3 if other == 1 else 2}," in report.nodes[1]


def test_disks_are_full_slow_stuck_and_fail() -> None:
    report = suffer(
        Faults(
            bad_disks=(
                BadDisk(0, DiskFaults(slow_sync_rate=0.5, slow_sync_factor=100.0), 0.5, 1.5),
                BadDisk(1, DiskFaults(stuck_sync_rate=0.3), 1.0, 2.0),
                BadDisk(2, DiskFaults(capacity_bytes=500), 3.0, 1.0),
                BadDisk(2, DiskFaults(sync_error_rate=1.0), 4.5, 0.5),
            )
        ),
        nodes=4,
    )
    for name in ("disk slow_sync", "disk stuck_sync", "disk no_space", "disk sync_error", "StorageFailed"):
        assert report.fired[name], name


def test_disks_rot_and_whoever_finds_that_starts_anew() -> None:
    faults = DiskFaults(bit_rot_rate=1.0, torn_sector_rate=0.5, stale_rate=0.1, misdirected_rate=0.1)
    report = suffer(
        Faults(bad_disks=(BadDisk(1, faults, 0.5, 4.0),), crashes=(Crash(1, 2.0, 0.5),)),
        nodes=4,
    )
    for name in ("disk bit_rot", "DataDirectoryError"):
        assert report.fired[name], name


def test_bytes_rot_while_they_are_read() -> None:
    faults = Faults(
        bad_disks=(BadDisk(1, DiskFaults(read_bit_rot_rate=1.0), 0.5, 2.0),), crashes=(Crash(1, 1.0, 0.5, power=False),)
    )
    assert suffer(faults, nodes=4).fired["disk read_bit_rot"]


def test_without_an_atlas_every_disk_may_rot_and_nobody_is_wrong_though_nobody_may_answer() -> None:
    bad = tuple(BadDisk(node, DiskFaults(bit_rot_rate=1.0), 2.0, 3.0) for node in range(3))
    crashes = tuple(Crash(node, 2.5, 0.5) for node in range(3))
    report = suffer(Faults(bad_disks=bad, crashes=crashes), atlas=False, recovery_s=5.0)
    assert report.fired["DataDirectoryError"] == 3
    assert all(line.endswith("down") for line in report.nodes)


def test_a_power_cut_that_tears_sectors_is_no_excuse(monkeypatch: pytest.MonkeyPatch) -> None:
    bad = tuple(BadDisk(node, DiskFaults(in_order=node == 0, torn_sector_rate=1.0), 0.5, 4.0) for node in range(3))
    faults = Faults(bad_disks=bad, crashes=tuple(Crash(node, 1.0 + node, 0.5) for node in range(3)))
    assert suffer(faults).fired["crash"] == 3

    def damaged(_journal: Journal) -> None:
        raise DataDirectoryError("it looks damaged")

    monkeypatch.setattr(Journal, "recover", damaged)
    report = run(dataclasses.replace(SMALL, faults=faults))
    assert report.violation is not None
    assert report.violation.invariant == "node-crash"


def test_clocks_drift_jump_and_run_at_other_rates() -> None:
    report = suffer(
        Faults(
            clocks=(ClockRate(0, 1.2),),
            drifts=(Drift(1, 1.8, 0.5, 2.0), Drift(0, 0.6, 2.0, 2.0), Drift(1, 0.6, 2.5, 2.0)),
            wall_jumps=(WallJump(2, -1e5, 1.0),),
        )
    )
    assert (report.fired["drift"], report.fired["wall jump"]) == (3, 1)


# ---- the end of faults


FOREVER = 1e9
LASTING = Faults(
    clogs=(Clog(0, 1, 1.0, FOREVER),),
    narrows=(Narrow(1, 500.0, 1.0, FOREVER),),
    damages=(Damage(2, 0.5, 1.0, FOREVER),),
    strangers=(Stranger(0, 3.9), Stranger(1, 3.9)),
    hangs=(Hang(0, 1.0, FOREVER),),
    late_starts=(LateStart(3, FOREVER),),
    leaves=(Leave(1, 3.0, FOREVER),),
    bad_disks=(BadDisk(0, DiskFaults(stuck_sync_rate=1.0), 2.0),),
    old_images=(OldImage(2, 2, 1.0, 2.5, FOREVER),),
    drifts=(Drift(0, 2.0, 1.0, FOREVER),),
)


def test_whatever_the_plan_says_nothing_goes_wrong_after_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    report = run(dataclasses.replace(SMALL, nodes=4, duration_s=4.0, faults=LASTING))
    assert report.violation is None, report.violation
    assert report.virtual_s < 100.0
    seen: list[Injector] = []
    calm = Injector._calm

    def look(injector: Injector) -> None:
        calm(injector)
        seen.append(injector)

    monkeypatch.setattr(Injector, "_calm", look)
    run(dataclasses.replace(SMALL, nodes=4, duration_s=4.0, faults=LASTING))
    cluster = seen[0]._cluster
    paths = cluster.network.paths
    for node in range(4):
        assert cluster.machines[node].skew.rate == 1.0
        assert cluster.disk(node).faults == DiskFaults()
        for other in range(4):
            assert paths.quality(host_of(node), host_of(other)) == paths.default
            assert not paths.is_cut(host_of(node), host_of(other))
    assert not cluster.absent
    assert not any(process.is_alive for process in cluster._strangers)


# ---- sizes


def test_nodes_run_within_the_smallest_bounds() -> None:
    bounds = Bounds(
        segment_bytes=2**12, journal_bytes_max=2**13, partition_bytes_max=2**16, moves_max=1, mailbox_max=1, idle_s=0.5,
        inflight_messages_max=1, inflight_bytes_max=1, append_bytes_max=2**17, uncommitted_bytes_max=2**17,
        apply_bytes_max=1, datagram_bytes_max=1232, indirect_probes=0, gossip_peers=1, connections_max=32, voters=3,
    )  # fmt: skip
    suffer(Faults(crashes=(Crash(1, 1.0, 1.0),)), bounds=bounds)


# ---- agents that reach past the world


def test_an_agent_that_looks_at_the_clock_is_told_what_to_do_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    async def add(counter: Counter, amount: int) -> int:
        counter.state.value += amount + int(time.time() * 0)
        return counter.state.value

    monkeypatch.setattr(Counter, "add", add)
    result = run_plan(SMALL)
    assert result.invariant == "harness"
    assert "time.time() was called at" in result.story
    assert "test_faults.py" in result.story
    assert "asks self.node.now()" in result.story
    totals = Totals()
    totals.add(result)
    assert totals.exit_code == HARNESS == campaign.HARNESS == 13
