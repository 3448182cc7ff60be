"""A plan: everything that distinguishes one run from another, as plain data that fits into a file."""

import json
import math
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from simulations.cores.plan_file import MalformedPlan, Written, check_nodes
from simulations.cores.plans import CORE_PLANS, CorePlan
from simulations.faults import Faults

__all__ = ["AnyPlan", "Bounds", "Faults", "MalformedPlan", "Plan", "read_plan"]


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
        log_segment_bytes, log_snapshot_bytes, log_kept_bytes: of `consensus.config.LogConfig`, as `segment_bytes`,
            `snapshot_log_bytes` and `kept_log_bytes`.
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
    log_segment_bytes: int = 64 * 2**20
    log_snapshot_bytes: int = 16 * 2**20
    log_kept_bytes: int = 16 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan(Written):
    """One run of whole nodes.

    Attributes:
        seed: of everything that is drawn while it runs: delays, the order of tasks, the nodes' own randomness.
        nodes: how many; they are numbered from 0, and 0 founds the mesh.
        clients: how many call agents.
        duration_s: how long faults and calls go on, in virtual seconds from when the mesh was formed.
        recovery_s: how long the workload has to end once the mesh is whole again, which has a bound of its own.
        workload: its name, such as `counter`, or where it is: `my_agents:workload`.
        app: modules with the agents that such a workload calls; its own if empty.
        keys: how many agents are called.
        calls_per_s: of all clients together; each waits for its answer, so it may be fewer.
        tempo: by what the nodes' timeouts are multiplied.
        bounds: how much the nodes take in, keep and send at a time.
        atlas: a `FaultAtlas` keeps a majority of each set of disks sound. Without it any disk may lose what was synced;
            see `simulations.mesh` for what must still hold.
        tls: whether links are over TLS.
        faults: what goes wrong, in virtual seconds from when the mesh was formed.
    """

    level: Literal[2] = 2
    seed: int = 0
    nodes: int = 5
    clients: int = 3
    duration_s: float = 30.0
    recovery_s: float = 150.0
    workload: str = "counter"
    app: tuple[str, ...] = ()
    keys: int = 8
    calls_per_s: float = 20.0
    partitions: int = 16
    replication: int = 3
    tempo: float = 1.0
    bounds: Bounds = field(default_factory=Bounds)
    atlas: bool = True
    tls: bool = False
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
        check_nodes(self.faults, self.numbers)

    @property
    def numbers(self) -> range:
        """Of its nodes."""
        return range(self.nodes)

    def with_nodes(self, nodes: int, faults: Faults) -> "Plan":
        """The same with other nodes, and what may happen to them."""
        return replace(self, nodes=nodes, replication=min(nodes, self.replication), faults=faults)


AnyPlan: TypeAlias = Plan | CorePlan
"""Of either level."""


def read_plan(text: str) -> AnyPlan:
    """Read a plan of either level.

    Raises:
        MalformedPlan: it is none.
    """
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MalformedPlan(f"not a plan: {error}") from error
    match given:
        case {"level": 1, "world": str(world)} if world in CORE_PLANS:
            return CORE_PLANS[world].from_json(text)
        case {"level": 1}:
            raise MalformedPlan(f"not a plan: world is {given.get('world')!r}: choose from {', '.join(CORE_PLANS)}")
        case {"level": level} if level != 2:
            raise MalformedPlan(f"not a plan: level is {level!r}: choose 1 or 2")
        case _:
            return Plan.from_json(text)
