"""A plan: everything that distinguishes one run from another, as plain data that fits into a file."""

import json
import math
from dataclasses import dataclass, field
from typing import Any

import msgspec

from simulations.faults import Faults

__all__ = ["Bounds", "Faults", "MalformedPlan", "Plan"]


class MalformedPlan(ValueError):
    """The file is no plan; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much the nodes take in, keep and send at a time: each is a field of that name in one of their settings.

    Attributes:
        segment_bytes, journal_bytes_max, partition_bytes_max: of `meshnode.partitions.PartitionsConfig`; the last is
            its ``uncommitted_bytes_max``.
        moves_max: of `meshnode.metadata.config.AllocatorConfig`.
        mailbox_max, state_bytes_max, idle_s, session_s: of `meshnode.agents.config.AgentsConfig`.
        append_bytes_max, inflight_messages_max, inflight_bytes_max, uncommitted_bytes_max, apply_bytes_max: of
            `meshnode.metadata.config.GroupConfig`.
        datagram_bytes_max, indirect_probes, gossip_peers, retransmit_multiplier: of
            `meshnode.membership.config.SwimConfig`.
        connections_max: of `meshnode.links.LinksConfig`.
        voters: of `meshnode.NodeConfig`.
    """

    segment_bytes: int = 64 * 2**20
    journal_bytes_max: int = 512 * 2**20
    partition_bytes_max: int = 16 * 2**20
    moves_max: int = 128
    mailbox_max: int = 1024
    state_bytes_max: int = 8 * 2**20
    idle_s: float = 600.0
    session_s: float = 3600.0
    append_bytes_max: int = 2**20
    inflight_messages_max: int = 256
    inflight_bytes_max: int = 16 * 2**20
    uncommitted_bytes_max: int = 64 * 2**20
    apply_bytes_max: int = 4 * 2**20
    datagram_bytes_max: int = 1400
    indirect_probes: int = 3
    gossip_peers: int = 3
    retransmit_multiplier: int = 4
    connections_max: int = 4096
    voters: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One run.

    Attributes:
        seed: of everything that is drawn while it runs: delays, the order of tasks, the nodes' own randomness.
        nodes: how many; they are numbered from 0, and 0 founds the mesh.
        clients: how many call agents.
        duration_s: how long faults and calls go on, in virtual seconds from when the mesh was formed.
        recovery_s: how long the mesh then has to be whole again.
        workload: its name, such as `counter`.
        keys: how many agents are called.
        calls_per_s: of all clients together; each waits for its answer, so it may be fewer.
        tempo: by what the nodes' timeouts are multiplied.
        bounds: how much the nodes take in, keep and send at a time.
        atlas: a `FaultAtlas` keeps a majority of each set of disks sound. Without it any disk may lose what was synced;
            whoever finds that its own did stays down, and what must happen in time is not judged, only what must never.
        faults: what goes wrong, in virtual seconds from when the mesh was formed.
    """

    seed: int = 0
    nodes: int = 5
    clients: int = 3
    duration_s: float = 30.0
    recovery_s: float = 150.0
    workload: str = "counter"
    keys: int = 8
    calls_per_s: float = 20.0
    partitions: int = 16
    replication: int = 3
    tempo: float = 1.0
    bounds: Bounds = field(default_factory=Bounds)
    atlas: bool = True
    faults: Faults = field(default_factory=Faults)

    def __post_init__(self) -> None:
        if not 1 <= self.nodes <= 99:
            raise ValueError(f"nodes is {self.nodes}: choose 1 to 99")
        for name in ("clients", "keys"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: choose 1 or more")
        for name in ("duration_s", "recovery_s", "calls_per_s", "tempo"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}: choose above 0")

    def to_json(self) -> str:
        """As text, for a file."""
        return json.dumps(_plain(msgspec.to_builtins(self)), indent=1)

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        """Read what `to_json` wrote.

        Raises:
            MalformedPlan: it did not write this.
        """
        try:
            return msgspec.convert(json.loads(text), cls, strict=False)
        except (msgspec.ValidationError, ValueError) as error:
            raise MalformedPlan(f"not a plan: {error}") from error


def _plain(value: Any) -> Any:
    """JSON has no infinity, and no sets."""
    match value:
        case float() if math.isinf(value):
            return "inf"
        case dict():
            return {key: _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case set() | frozenset():
            return sorted(_plain(item) for item in value)
        case _:
            return value
