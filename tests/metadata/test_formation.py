"""How a mesh gets its first rows."""

import pytest

from meshnode.identity import Epoch
from meshnode.metadata.allocator import Allocator, Plan
from meshnode.metadata.rows import Phase
from meshnode.metadata.state import Metadata
from meshnode.placement import Reason
from tests.metadata.mesh import LOOK_INTERVAL_S, Mesh
from tests.metadata.scene import (
    CONFIG,
    changes,
)


def test_before_the_mesh_is_founded_there_is_nothing_to_do() -> None:
    assert Allocator(Metadata(), CONFIG, 0.0).plan({}, 100.0) == Plan()


def test_without_members_there_is_nothing_to_do() -> None:
    mesh = Mesh()
    mesh.run(5.0)
    assert mesh.proposals == []


def test_partitions_are_given_out_once_the_members_have_settled() -> None:
    mesh = Mesh(config=CONFIG)
    ids = mesh.join(1, 2, 3, 4)
    mesh.run(CONFIG.settle_s)
    assert mesh.proposals == []
    mesh.look()
    assert len(changes(mesh)) == mesh.partitions
    assert mesh.begun == {Reason.FOUNDED.value: mesh.partitions}
    assert mesh.table() == mesh.target(*ids)
    assert all(row.phase is Phase.ACTIVE and row.epoch == Epoch(1) for row in mesh.metadata.rows.values())


@pytest.mark.parametrize("gap_s", [0.0, 0.25, 0.5, 0.75])
def test_five_nodes_that_come_within_seconds_cost_one_epoch_a_partition(gap_s: float) -> None:
    mesh = Mesh(partitions=64, config=CONFIG)
    for number in range(1, 6):
        mesh.join(number)
        mesh.run(gap_s)
    mesh.run(10.0)
    assert sum(mesh.begun.values()) == 64
    assert mesh.copied == 64 * 3
    assert mesh.table() == mesh.target(*mesh.nodes)


@pytest.mark.parametrize("gap_s", [1.25, 2.0, 5.0])
def test_nodes_that_come_one_by_one_cost_no_more_than_each_by_itself(gap_s: float) -> None:
    mesh = Mesh(partitions=64, config=CONFIG)
    for number in range(1, 6):
        mesh.join(number)
        mesh.run(gap_s)
    mesh.run(10.0)
    assert mesh.table() == mesh.target(*mesh.nodes)
    # Every partition gets its second and third replica, then 3/4 of those of the fourth node, 3/5 for the fifth.
    assert mesh.copied <= 64 * 3 + 48 + 39
    assert sum(mesh.begun.values()) <= 64 * 3 + 48 + 39 + 5 * 4, "some primaries are handed over besides"


def test_a_member_that_fails_while_the_mesh_forms_does_not_hold_it_up() -> None:
    mesh = Mesh(config=CONFIG)
    first, second, third = mesh.join(1, 2, 3)
    mesh.fail(third)
    mesh.run(2.0)
    assert mesh.table() == mesh.target(first, second)


def test_a_partition_whose_first_replicas_are_gone_is_given_to_others() -> None:
    mesh = Mesh(config=CONFIG, takeover_s=0.5)
    nodes = mesh.join(1, 2, 3)
    while not mesh.metadata.rows:
        mesh.run(LOOK_INTERVAL_S)
    assert all(row.phase is Phase.SEALING for row in mesh.metadata.rows.values())
    mesh.fail(nodes[0])
    mesh.fail(nodes[1])
    mesh.run(3.0)
    assert all(row.phase is Phase.ACTIVE and row.replicas == (nodes[2],) for row in mesh.metadata.rows.values())
