"""The names of things that every room refers to: nodes, boots, partitions, epochs."""

import functools
import ipaddress
from dataclasses import dataclass, field
from typing import NewType

NodeId = NewType("NodeId", int)
"""A random 63-bit number, never 0, drawn together with the node's data directory. It is also the node's id in Raft."""

Boot = NewType("Boot", int)
"""How often a node has started on its data directory: 1, 2, …"""


STARTS_KEPT = 16
"""Starts that a data directory remembers. A copy of it that is started more often without once hearing from the mesh is
not known for one any more."""


@dataclass(frozen=True, slots=True)
class Start:
    """One life of a node. Two are equal if their boots and nonces are.

    Attributes:
        boot: which one of its data directory. A copy of the directory counts on by itself.
        nonce: drawn at random, so that no life of a copy has the same.
        before: the nonces of the lives before this one on the directory, the last one last, as far as it remembers.
    """

    boot: Boot
    nonce: int
    before: tuple[int, ...] = field(default=(), compare=False)

    def is_over(self, registered: "Start") -> bool:
        """Whether the life that the mesh has registered is neither this one nor known to have been before it."""
        ago = self.boot - registered.boot
        if ago <= 0:
            return self != registered
        return ago <= len(self.before) and self.before[-ago] != registered.nonce


PartitionId = NewType("PartitionId", int)
"""The top bits of the hash of an agent's type and key: 0 … number of partitions − 1."""

Epoch = NewType("Epoch", int)
"""How often a partition's row has begun anew. Within an epoch neither the primary nor the replicas change."""

MeshId = NewType("MeshId", bytes)
"""Sixteen random bytes, drawn once by the node that founds the mesh."""

NODE_ID_MAX = 2**63 - 1

NAME_BYTES_MAX = 255
"""Names and zones are for people and for placement; 255 bytes is what DNS allows for a whole name."""


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """Where a node listens: the same port number for datagrams and for streams.

    Attributes:
        host: an IPv4 or IPv6 address in text form, without brackets.
        port: 1 … 65535.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str, *, default_port: int | None = None) -> Address:
    """Read ``HOST:PORT``, ``[IPV6]:PORT`` or, with a default port, ``HOST``.

    Raises:
        ValueError: the text is not of that form or the port is outside 1 … 65535.
    """
    host, separator, port = text.rpartition(":")
    if text.startswith("[") and text.endswith("]"):
        host, separator, port = text, "", ""
    elif not separator:
        host = text
    if not separator:
        port = "" if default_port is None else str(default_port)
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text!r} is ambiguous: write an IPv6 address in brackets, as in [::1]:7946")
    if not host or not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65535:
        raise ValueError(f"{text!r} is not HOST:PORT with a port from 1 to 65535, as in 10.0.0.1:7946")
    return Address(host, int(port))


def check_address(address: Address) -> None:
    """Raises ValueError for what no node can listen at or no datagram should go to."""
    _check_host(address.host)
    if not 1 <= address.port <= 65535:
        raise ValueError(f"port {address.port}: expected 1 … 65535")


@functools.lru_cache(maxsize=16_384)  # one for each member of the largest mesh: they come with every update
def _check_host(host: str) -> None:
    # A name would be resolved where the datagram is sent, and hold up the loop for as long as the resolver takes.
    try:
        parsed = ipaddress.ip_address(host)
    except ValueError as error:
        raise ValueError(f"host {host!r:.80} is not a literal IP address: resolve the name first") from error
    if parsed.is_unspecified or parsed.is_multicast:
        raise ValueError(f"host {host} does not name one machine: advertise an address that the other nodes can reach")
    if "%" in host:
        raise ValueError(f"host {host!r:.80} has a scope, which means nothing on another machine: leave it out")


def check_text(field: str, text: str) -> None:
    """Raises ValueError for a name, a zone or the like that is too long."""
    # Characters first: hostile text of a megabyte needs no encoding to be refused.
    if len(text) > NAME_BYTES_MAX or len(text.encode()) > NAME_BYTES_MAX:
        raise ValueError(f"{field} {text[:20]!r}… is longer than {NAME_BYTES_MAX} bytes")


def node_id_text(node_id: NodeId) -> str:
    """The id as sixteen hexadecimal digits, as it stands in logs and tables."""
    return f"{node_id:016x}"
