"""What the metadata keeps of the mesh and of its nodes."""

from collections.abc import Mapping
from dataclasses import dataclass

from meshnode.errors import InvalidArgument, NotFound
from meshnode.identity import Address, Boot, MeshId, NodeId, Start, node_id_text
from meshnode.metadata.config import VOTERS_DEFAULT

NAMES_SHOWN = 20
"""To choose from, where a node is not found."""


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


def resolve(names: Mapping[NodeId, str], text: str) -> NodeId:
    """A node by its id or, where none has that id, by its name.

    Raises:
        NotFound: none has it.
        InvalidArgument: several have that name.
    """
    by_id = [node_id for node_id in names if node_id_text(node_id) == text]
    found = by_id or [node_id for node_id, name in names.items() if name == text]
    if not found:
        known = sorted(names.values())
        more = f" and {len(known) - NAMES_SHOWN} more" if len(known) > NAMES_SHOWN else ""
        raise NotFound(f"no node {text!r:.80} is known here: choose from {', '.join(known[:NAMES_SHOWN])}{more}")
    if len(found) > 1:
        ids = ", ".join(map(node_id_text, found))
        raise InvalidArgument(f"several nodes are named {text!r:.80}: give an id, one of {ids}")
    return found[0]
