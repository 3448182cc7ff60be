"""What nodes, and outside programs, ask each other beside calls: to join, to be heard, for routes and for views."""

from dataclasses import dataclass

from meshnode import wire
from meshnode.identity import Address, Boot, MeshId, NodeId
from meshnode.metadata.commands import Register


@wire.message(0x60)
@dataclass(frozen=True, slots=True)
class Join:
    """A node that belongs to no mesh asks to be taken in."""

    number: int
    registration: Register


@wire.message(0x61)
@dataclass(frozen=True, slots=True)
class Joined:
    """The answer: taken in where ``code`` is empty; else ask the leader, if its address is given, or later."""

    number: int
    code: str = ""
    reason: str = ""
    mesh_id: MeshId = MeshId(b"")
    leader: Address | None = None
    members: tuple[Address, ...] = ()


@wire.message(0x62)
@dataclass(frozen=True, slots=True)
class Alive:
    """A node's main loop to the Raft leader, once a second (rule 12)."""

    boot: Boot


@wire.message(0x63)
@dataclass(frozen=True, slots=True)
class AskRoutes:
    """A client asks who serves what; answered at once if anything is newer than ``version``, else in a moment."""

    number: int
    version: int


@wire.message(0x64)
@dataclass(frozen=True, slots=True)
class Routes:
    """Who serves what.

    Attributes:
        primaries: by partition; 0 where no row is active.
        nodes: where nodes listen.
    """

    number: int
    version: int
    primaries: tuple[NodeId, ...] = ()
    nodes: tuple[tuple[NodeId, Address], ...] = ()


@wire.message(0x65)
@dataclass(frozen=True, slots=True)
class Query:
    """A view of the node or the mesh, by name; ``arguments`` is a map as CBOR."""

    number: int
    view: str
    arguments: bytes


@wire.message(0x66)
@dataclass(frozen=True, slots=True)
class View:
    """The answer: plain data as CBOR, or an error's code and message."""

    number: int
    code: str
    payload: bytes


Answered = Joined | Routes | View
