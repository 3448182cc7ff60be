"""Fair shares."""

from fractions import Fraction
from math import inf, nan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.identity import NodeId
from meshnode.placement import MemberSpec, fair_primaries, fair_replicas
from meshnode.placement.share import bounds, check_members
from tests.placement.strategies import equal_members, members

COUNTS = st.sampled_from([1, 4, 64, 1024])


def poured(specs: dict[NodeId, MemberSpec], *, partitions: int, slots: int) -> dict[NodeId, Fraction]:
    """Fair shares as water finds its level: pour what is left by weight, cap who overflows, pour again."""
    shares = dict.fromkeys(specs, Fraction(0))
    full: set[NodeId] = set()
    while True:
        left = slots - partitions * len(full)
        weight = sum(specs[node].exact_weight for node in specs if node not in full)
        for node in specs:
            shares[node] = Fraction(partitions) if node in full else left * specs[node].exact_weight / weight
        overflowing = {node for node in specs if shares[node] > partitions}
        if not overflowing:
            return shares
        full |= overflowing


@settings(deadline=None)
@given(members(), COUNTS, st.integers(1, 5))
def test_replicas_are_shared_as_water_finds_its_level(
    specs: dict[NodeId, MemberSpec], partitions: int, replication: int
) -> None:
    shares = fair_replicas(specs, partitions=partitions, replication=replication)
    slots = partitions * min(replication, len(specs))
    assert shares == poured(specs, partitions=partitions, slots=slots)
    assert sum(shares.values()) == slots
    assert max(shares.values()) <= partitions


@settings(deadline=None)
@given(members(), COUNTS)
def test_primaries_are_shared_by_weight_and_nobody_leads_more_than_it_holds(
    specs: dict[NodeId, MemberSpec], partitions: int
) -> None:
    leads = fair_primaries(specs, partitions)
    holds = fair_replicas(specs, partitions=partitions, replication=3)
    assert sum(leads.values()) == partitions
    for one in specs:
        assert leads[one] <= holds[one]
        for other in specs:
            assert leads[one] * specs[other].exact_weight == leads[other] * specs[one].exact_weight


def test_equal_weights_give_exactly_equal_shares_even_where_floats_would_not() -> None:
    specs = {NodeId(node): MemberSpec(weight=0.1) for node in range(1, 4)}
    assert set(fair_primaries(specs, 1024).values()) == {Fraction(1024, 3)}


def test_weights_mean_what_they_say_in_decimal() -> None:
    specs = {NodeId(node): MemberSpec(weight=0.1) for node in range(1, 11)} | {NodeId(11): MemberSpec(weight=1)}
    assert fair_primaries(specs, 1024)[NodeId(11)] == 512


def test_bounds_are_the_whole_numbers_around_a_share() -> None:
    found = bounds([Fraction(7, 2), Fraction(3), Fraction(0)])
    assert (found.low, found.high) == ((3, 3, 0), (4, 3, 0))


@pytest.mark.parametrize("weight", [0.0, -1.0, inf, nan])
def test_a_weight_that_is_not_positive_and_finite_is_refused(weight: float) -> None:
    with pytest.raises(ValueError, match=f"weight {weight}.*1.0 is a node of ordinary capacity"):
        MemberSpec(weight=weight)


@pytest.mark.parametrize("node", [0, -1, 2**63])
def test_an_id_that_no_node_can_have_is_refused(node: int) -> None:
    with pytest.raises(ValueError, match=f"node id {node} is not from 1"):
        check_members({NodeId(node): MemberSpec()})


def test_no_members_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one member"):
        check_members({})
    check_members(equal_members([1]))
