"""What the metadata keeps of the mesh and of its nodes."""

from dataclasses import dataclass

from meshnode.identity import Address, Boot, MeshId, NodeId, Start
from meshnode.metadata.config import VOTERS_DEFAULT


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """What the mesh knows for good of one of its nodes."""

    node_id: NodeId
    boot: Boot
    name: str
    address: Address
    weight: int
    zone: str
    nonce: int = 0
    is_leaving: bool = False

    @property
    def start(self) -> Start:
        """Which life of the node this is."""
        return Start(self.boot, self.nonce)


@dataclass(frozen=True, slots=True)
class Founding:
    """What was fixed when the mesh was founded."""

    mesh_id: MeshId
    partitions: int
    replication: int
    voters: int = VOTERS_DEFAULT
