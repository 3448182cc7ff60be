"""The handshake: each side says who it is, before anything else."""

import enum
from dataclasses import dataclass

from meshnode import wire
from meshnode.errors import OldCopy
from meshnode.identity import NODE_ID_MAX, STARTS_KEPT, Boot, MeshId, NodeId, Start, check_text, node_id_text


class Role(enum.Enum):
    """What the dialling side is to the other."""

    NODE = 1
    GUEST = 2


@wire.message(0x01)
@dataclass(frozen=True, slots=True)
class Hello:
    """Who is at this end.

    Attributes:
        mesh_id: empty when a guest does not know it yet.
        node_id: a guest draws one too, so that answers find their way.
        boot: 0 for a guest.
        dial: the dialling side's count of its dials, so that both ends know the newer of two connections.
        nonce, before: see `meshnode.identity.Start`.
    """

    mesh_id: MeshId
    node_id: NodeId
    boot: Boot
    role: Role
    name: str
    dial: int = 0
    nonce: int = 0
    before: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.node_id <= NODE_ID_MAX:
            raise ValueError(f"node id {self.node_id} is outside 1 … 2**63 − 1")
        if len(self.mesh_id) not in (0, 16):
            raise ValueError(f"a mesh id has 16 bytes, not {len(self.mesh_id)}")
        if len(self.before) > STARTS_KEPT:
            raise ValueError(f"{len(self.before)} starts before this one: at most {STARTS_KEPT} are kept")
        check_text("name", self.name)

    @property
    def start(self) -> Start:
        """Which life of the node this is."""
        return Start(self.boot, self.nonce, self.before)


@wire.message(0x02)
@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the accepting side closes the connection."""

    code: str
    reason: str


def refusal_of(hello: Hello, *, mesh_id: MeshId, node_id: NodeId, registered: Start) -> Refusal | None:
    """Why node ``node_id`` of mesh ``mesh_id`` can't talk to the side that sent ``hello``; None when it can.

    Args:
        registered: the latest start of the other side that the mesh has registered; of boot 0 where there is none.
    """
    if hello.mesh_id and mesh_id and hello.mesh_id != mesh_id:
        return Refusal("wrong_mesh", f"this node is of mesh {mesh_id.hex()}, not {hello.mesh_id.hex()}")
    if hello.role is Role.NODE and (not hello.mesh_id or not mesh_id):
        return Refusal("unavailable", "this node has not joined a mesh yet")
    if hello.node_id == node_id:
        return Refusal("own_node", f"{node_id_text(node_id)} is this node's own id: was its data directory copied?")
    if hello.role is Role.NODE and hello.start.is_over(registered):
        return Refusal(
            OldCopy.code,
            f"start {hello.boot} of node {node_id_text(hello.node_id)} is over, since another start {registered.boot} "
            "is registered: was its data directory copied?",
        )
    return None
