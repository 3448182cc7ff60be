"""Meshes to begin a test with, and what to ask of them."""

from collections.abc import Sequence

from meshnode.identity import NodeId
from meshnode.metadata.allocator import Move
from meshnode.metadata.commands import RowChange
from meshnode.metadata.config import AllocatorConfig
from tests.metadata.mesh import Mesh

CONFIG = AllocatorConfig(settle_s=1.0, replacement_delay_s=30.0, stall_s=3.0)


def formed(nodes: int, *, partitions: int = 32, replication: int = 3, config: AllocatorConfig = CONFIG) -> Mesh:
    """A mesh of nodes that came at once, at rest."""
    mesh = Mesh(partitions=partitions, replication=replication, config=config)
    mesh.join(*range(1, nodes + 1))
    mesh.run(5.0)
    assert mesh.table() == mesh.target(*mesh.nodes)
    forget_the_past(mesh)
    return mesh


def forget_the_past(mesh: Mesh) -> None:
    mesh.proposals.clear()
    mesh.begun.clear()
    mesh.copied = 0


def changes(mesh: Mesh) -> list[RowChange]:
    return [proposal for proposal in mesh.proposals if isinstance(proposal, RowChange)]


def moves(mesh: Mesh) -> list[Move]:
    return [proposal for proposal in mesh.proposals if isinstance(proposal, Move)]


def led_by(mesh: Mesh, node_id: NodeId) -> set[int]:
    return {partition for partition, row in mesh.metadata.rows.items() if row.primary == node_id}


def held_by(mesh: Mesh, node_id: NodeId) -> set[int]:
    return {partition for partition, row in mesh.metadata.rows.items() if node_id in row.replicas}


def spread(counts: Sequence[int]) -> int:
    return max(counts) - min(counts)


def one_partition(nodes: int = 3) -> Mesh:
    return formed(nodes, partitions=1)
