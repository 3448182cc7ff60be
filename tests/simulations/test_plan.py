"""Plans as data."""

import dataclasses
import math
from typing import Any

import pytest

from simulations.cores.faults import Cut
from simulations.cores.plans import CORE_KINDS, PartitionsPlan, RaftPlan, SwimPlan, struck
from simulations.cores.raft_world import RaftWorkload
from simulations.cores.swarm import ANY, DRAWS, Wish
from simulations.disk import DiskFaults
from simulations.faults import BadDisk, Faults
from simulations.mesh.swarm import DESTROYING, KINDS, draw_plan
from simulations.plan import AnyPlan, Bounds, MalformedPlan, Plan, read_plan


def test_a_plan_comes_back_from_its_text() -> None:
    for seed in range(200):
        plans: list[AnyPlan] = [draw_plan(seed), *(draw(seed, ANY) for draw in DRAWS.values())]
        for plan in plans:
            assert read_plan(plan.to_json()) == plan


def test_what_lasts_for_ever_comes_back_too() -> None:
    faults = Faults(cuts=(Cut(frozenset({2, 0}), frozenset({1}), 1.0),), bad_disks=(BadDisk(1, DiskFaults(), 2.0),))
    again = Plan.from_json(Plan(faults=faults).to_json())
    assert again.faults == faults
    assert again.faults.cuts[0].for_s == math.inf


@pytest.mark.parametrize("text", ["", "[]", "{", '{"nodes": 0}', '{"nodes": "many"}', '{"faults": {"cuts": [{}]}}'])
def test_a_text_that_is_no_plan_is_refused(text: str) -> None:
    with pytest.raises(MalformedPlan, match="not a plan"):
        Plan.from_json(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"pace": 1}', "it knows no field pace"),
        ('{"faults": {"crashes": [{"node": 1, "at_s": 1}, {"node": 1, "at_s": 1, "why": 2}]}}', "crashes.1..why"),
        ('{"level": 1, "world": "raft", "workload": {"members": 3, "founders": 3, "speed": 1}}', "workload.speed"),
        ('{"level": 3}', "level is 3: choose 1 or 2"),
        ('{"level": 1, "world": "moon"}', "world is 'moon': choose from swim, raft, partitions, placement"),
        ('{"level": 1}', "world is None"),
        ('{"nodes": 3, "faults": {"crashes": [{"node": 3, "at_s": 1}]}}', "faults name the node 3: choose from 0 to 2"),
        (
            '{"level": 1, "world": "raft", "faults": {"crashes": [{"node": 0, "at_s": 1}]}}',
            "the node 0: choose from 1 to 5",
        ),
        ('{"level": 1, "world": "swim", "nodes": 0}', "nodes is 0: choose 1 or more"),
    ],
)
def test_a_plan_that_can_not_be_run_is_refused_by_the_field(text: str, reason: str) -> None:
    with pytest.raises(MalformedPlan, match=reason):
        read_plan(text)


def test_cores_have_the_kinds_of_faults_that_are_asked_for_and_no_other_draw_changes() -> None:
    for kind in CORE_KINDS:
        found: set[str] = set()
        for draw in DRAWS.values():
            for seed in range(20):
                drawn, whole = draw(seed, Wish(kinds=frozenset({kind}))), draw(seed, ANY)
                found |= struck(drawn.faults, math.inf).keys()
                name = CORE_KINDS[kind]
                if name:
                    assert getattr(drawn.faults, name) == getattr(whole.faults, name)
                if isinstance(drawn, RaftPlan | PartitionsPlan) and drawn.workload.isolations_per_s:
                    found.add("isolations")
                if isinstance(drawn, RaftPlan) and drawn.disk_faults != DiskFaults(in_order=drawn.disk_faults.in_order):
                    found.add("bad-disks")
        assert found == {kind}


def test_fewer_nodes_are_still_a_whole_world() -> None:
    raft = RaftPlan(workload=RaftWorkload(members=5, founders=4)).with_nodes(2, RaftPlan().faults)
    assert (raft.nodes, raft.workload.founders, list(raft.numbers)) == (2, 2, [1, 2])
    assert list(PartitionsPlan().with_nodes(2, RaftPlan().faults).numbers) == [0, 1, 2]
    assert list(SwimPlan().with_nodes(2, RaftPlan().faults).numbers) == [0, 1]
    assert Plan().with_nodes(2, Faults()).replication == 2


@pytest.mark.parametrize("name", ["nodes", "clients", "keys", "duration_s", "recovery_s", "calls_per_s", "tempo"])
def test_sizes_that_are_none_are_refused(name: str) -> None:
    nothing: dict[str, Any] = {name: 0}
    with pytest.raises(ValueError, match=f"{name} is 0"):
        Plan(**nothing)


def test_a_seed_draws_the_same_plan_each_time_and_another_seed_another_one() -> None:
    assert draw_plan(7) == draw_plan(7)
    assert len({draw_plan(seed).to_json() for seed in range(50)}) == 50


def test_every_kind_of_fault_is_drawn_and_is_over_before_the_run_is() -> None:
    drawn = set()
    for name in KINDS:
        for seed in range(60):
            plan = draw_plan(seed, kinds=(name,), workload="own:workload")  # to which everything can happen
            faults = plan.faults
            if faults == Faults():
                continue
            drawn.add(name)
            for item in dataclasses.fields(faults):
                value = getattr(faults, item.name)
                for fault in value if isinstance(value, tuple) and item.name != "sync_s" else ():
                    at_s = getattr(fault, "at_s", 0.0)
                    for_s = getattr(fault, "for_s", 0.0)
                    assert 0 <= at_s <= plan.duration_s, (name, seed, fault)
                    assert for_s >= 0, (name, seed, fault)
                    assert at_s + for_s <= plan.duration_s, (name, seed, fault)
    assert drawn == set(KINDS)


def test_no_fault_is_drawn_that_the_workload_can_not_notice() -> None:
    def drawn(workload: str) -> set[str]:
        plans = [draw_plan(seed, kinds=("bad-devices", "outside"), workload=workload) for seed in range(60)]
        kinds = {kind for plan in plans for kind in plan.faults.kinds()}
        return kinds | {"outside" for plan in plans if plan.faults.outside != Faults().outside}

    assert drawn("counter") == set()
    assert drawn("predict") == {"bad_devices"}
    assert drawn("own:workload") == {"bad_devices", "outside"}


def test_every_setting_of_every_fault_is_drawn_and_so_is_every_bound() -> None:
    """But for damage that no reader can find, which nothing that relies on syncs survives."""
    plans = [draw_plan(seed) for seed in range(600)]
    faults = [fault for plan in plans for fault in all_faults(plan.faults)]
    for kind in {type(fault) for fault in faults}:
        of_kind = [fault for fault in faults if type(fault) is kind]
        for item in dataclasses.fields(kind):
            if item.name != "silent":
                assert len({repr(getattr(fault, item.name)) for fault in of_kind}) > 1, (kind, item.name)
    for item in dataclasses.fields(Bounds):
        assert len({getattr(plan.bounds, item.name) for plan in plans}) > 1, item.name
    assert {plan.atlas for plan in plans} == {True, False}


def all_faults(faults: Faults) -> list[Any]:
    """Each fault, and what it consists of."""
    found: list[Any] = [faults.quality]
    for item in dataclasses.fields(faults):
        value = getattr(faults, item.name)
        for fault in value if isinstance(value, tuple) and item.name != "sync_s" else ():
            parts = [getattr(fault, part.name) for part in dataclasses.fields(fault)]
            found += [fault, *(part for part in parts if dataclasses.is_dataclass(part))]
    return found


def test_a_kind_that_is_asked_for_alone_is_always_there_and_of_many_there_may_be_none() -> None:
    for seed in range(50):
        assert draw_plan(seed, kinds=("cuts",)).faults.cuts
    assert any(draw_plan(seed).faults == Faults() for seed in range(50))


def test_only_one_node_may_lose_what_it_had_synced_and_none_where_that_is_a_majority() -> None:
    for seed in range(300):
        plan = draw_plan(seed, kinds=sorted(DESTROYING))
        burnt = {new.node for new in plan.faults.new_disks}
        spoilt = {bad.node for bad in plan.faults.bad_disks}
        assert len(burnt | spoilt) <= (1 if plan.replication >= 3 else 0)
