"""Plans as data."""

import dataclasses
import math
from typing import Any

import pytest

from simulations.cores.faults import Cut
from simulations.disk import DiskFaults
from simulations.faults import BadDisk, Faults
from simulations.mesh.swarm import DESTROYING, KINDS, UnknownFault, draw_plan, kinds_of
from simulations.plan import Bounds, MalformedPlan, Plan


def test_a_plan_comes_back_from_its_text() -> None:
    for seed in range(200):
        plan = draw_plan(seed)
        assert Plan.from_json(plan.to_json()) == plan


def test_what_lasts_for_ever_comes_back_too() -> None:
    faults = Faults(cuts=(Cut(frozenset({2, 0}), frozenset({1}), 1.0),), bad_disks=(BadDisk(1, DiskFaults(), 2.0),))
    again = Plan.from_json(Plan(faults=faults).to_json())
    assert again.faults == faults
    assert again.faults.cuts[0].for_s == math.inf


@pytest.mark.parametrize("text", ["", "[]", "{", '{"nodes": 0}', '{"nodes": "many"}', '{"faults": {"cuts": [{}]}}'])
def test_a_text_that_is_no_plan_is_refused(text: str) -> None:
    with pytest.raises(MalformedPlan, match="not a plan"):
        Plan.from_json(text)


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
            plan = draw_plan(seed, kinds=(name,))
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


def test_kinds_are_asked_for_by_name() -> None:
    assert kinds_of("all") == tuple(KINDS)
    assert kinds_of("none") == ()
    assert kinds_of("cuts, pauses") == ("cuts", "pauses")
    with pytest.raises(UnknownFault, match="there is no fault 'rain': choose all, none, or from links"):
        kinds_of("cuts,rain")
