"""Who takes over."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.identity import NodeId, PartitionId
from meshnode.placement import MemberSpec, next_table, successor, successors
from tests.placement.strategies import by_partition, equal_members

A, B, C, D = (NodeId(node) for node in range(1, 5))
NODES = [NodeId(node) for node in range(1, 7)]

Rows = Mapping[PartitionId, Sequence[NodeId]]


@st.composite
def failures(draw: st.DrawFn) -> tuple[Rows, set[NodeId], dict[NodeId, MemberSpec]]:
    """Rows, who failed, and who is alive. A node may be neither, having left."""
    row = st.lists(st.sampled_from(NODES), max_size=3, unique=True)
    rows = {PartitionId(at): row for at, row in enumerate(draw(st.lists(row, max_size=9)))}
    failed = draw(st.sets(st.sampled_from(NODES), max_size=3))
    alive = draw(st.sets(st.sampled_from(NODES))) - failed
    weights = st.sampled_from([0.5, 1.0, 1.0, 2.0])
    return rows, failed, {node: MemberSpec(weight=draw(weights)) for node in sorted(alive)}


def unevenness(rows: Rows, choice: Mapping[PartitionId, NodeId], alive: Mapping[NodeId, MemberSpec]) -> Fraction:
    leads = [choice.get(partition, row[0] if row else None) for partition, row in rows.items()]
    return sum((Fraction(leads.count(node) ** 2) / Fraction(spec.weight) for node, spec in alive.items()), Fraction(0))


@settings(deadline=None)
@given(failures())
def test_no_choice_among_living_replicas_is_more_even(
    failure: tuple[Rows, set[NodeId], dict[NodeId, MemberSpec]],
) -> None:
    rows, failed, alive = failure
    chosen = successors(rows, failed=failed, alive=alive)
    heirs = {
        partition: living
        for partition, row in rows.items()
        if row and row[0] in failed and (living := [node for node in row if node in alive])
    }
    assert list(chosen) == list(heirs)
    assert all(chosen[partition] in living for partition, living in heirs.items())
    best = min(unevenness(rows, dict(zip(heirs, choice, strict=True)), alive) for choice in product(*heirs.values()))
    assert unevenness(rows, chosen, alive) == best


@settings(deadline=None)
@given(failures())
def test_the_order_of_the_living_does_not_matter(
    failure: tuple[Rows, set[NodeId], dict[NodeId, MemberSpec]],
) -> None:
    rows, failed, alive = failure
    backwards = dict(reversed(alive.items()))
    assert successors(rows, failed=failed, alive=backwards) == successors(rows, failed=failed, alive=alive)


def test_a_choice_is_corrected_along_a_chain_of_heirs() -> None:
    # One by one, B gets the first and C the second. The others can only go to B, who then passes its first on to C, who
    # passes its own on to D.
    rows = {
        PartitionId(0): (A, B, C),
        PartitionId(1): (A, C, D),
        PartitionId(3): (A, B),
        PartitionId(4): (A, B),
    }
    chosen = successors(rows, failed={A}, alive={node: MemberSpec() for node in (B, C, D)})
    assert chosen == {PartitionId(0): C, PartitionId(1): D, PartitionId(3): B, PartitionId(4): B}


@pytest.mark.parametrize("nodes", [4, 5, 6, 7])
def test_after_one_failure_the_survivors_lead_equally_many(nodes: int) -> None:
    everyone = equal_members(range(1, nodes + 1))
    table = next_table(None, everyone, partitions=1024)
    for failed in sorted(everyone):
        alive = {node: spec for node, spec in everyone.items() if node != failed}
        chosen = successors(by_partition(table), failed={failed}, alive=alive)
        assert len(chosen) == table.primaries()[failed]
        leads = [chosen.get(PartitionId(at), row[0]) for at, row in enumerate(table.rows)]
        counts = [leads.count(node) for node in alive]
        assert max(counts) - min(counts) <= 1


def test_heavier_survivors_take_more() -> None:
    rows = {PartitionId(at): (A, B, C) for at in range(9)}
    chosen = list(successors(rows, failed={A}, alive={B: MemberSpec(weight=2.0), C: MemberSpec()}).values())
    assert (chosen.count(B), chosen.count(C)) == (6, 3)


def test_a_partition_with_no_living_replica_waits() -> None:
    rows = {PartitionId(0): (A, B), PartitionId(1): (A, C), PartitionId(2): ()}
    assert successors(rows, failed={A, B}, alive={C: MemberSpec(), D: MemberSpec()}) == {PartitionId(1): C}
    assert successor((A, B), alive={C, D}, primaries_load={}) is None


def test_a_node_cannot_be_failed_and_alive() -> None:
    with pytest.raises(ValueError, match=r"nodes \[1\] are named as failed and as alive"):
        successors({}, failed={A}, alive={A: MemberSpec()})


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(NODES), unique=True),
    st.sets(st.sampled_from(NODES)),
    st.dictionaries(st.sampled_from(NODES), st.integers(0, 3)),
)
def test_one_successor_is_the_first_of_the_least_loaded_living(
    row: list[NodeId], alive: set[NodeId], load: dict[NodeId, int]
) -> None:
    found = successor(row, alive=alive, primaries_load=load)
    living = [node for node in row if node in alive]
    least = min((load.get(node, 0) for node in living), default=0)
    assert found == next((node for node in living if load.get(node, 0) == least), None)
