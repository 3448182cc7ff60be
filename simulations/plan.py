"""A plan: everything that distinguishes one run from another, as plain data that fits into a file."""

import dataclasses
import json
import math
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from simulations.cores.faults import FOREVER, CoreFaults
from simulations.cores.plan_file import MalformedPlan, Written, check_nodes
from simulations.cores.plans import CORE_PLANS, CorePlan
from simulations.disk import DiskFaults

__all__ = [
    "AnyPlan",
    "BadDisk",
    "DiskKill",
    "Faults",
    "Hang",
    "MalformedPlan",
    "NewDisk",
    "Plan",
    "Reset",
    "SlowCpu",
    "StuckLoop",
    "WallJump",
    "read_plan",
]


@dataclass(frozen=True, slots=True)
class Reset:
    """All connections between two nodes end in the middle of what they carry."""

    one: int
    other: int
    at_s: float


@dataclass(frozen=True, slots=True)
class Hang:
    """Whoever connects to the node waits for ever."""

    node: int
    at_s: float
    for_s: float


@dataclass(frozen=True, slots=True)
class StuckLoop:
    """The main loop of a node stands still, as in a long computation, while its membership goes on."""

    node: int
    at_s: float
    for_s: float


@dataclass(frozen=True, slots=True)
class SlowCpu:
    """Each step of each task of a node takes ``step_s``."""

    node: int
    step_s: float
    at_s: float
    for_s: float = FOREVER


@dataclass(frozen=True, slots=True)
class BadDisk:
    """The disk of a node fails as ``faults`` says, for a time."""

    node: int
    faults: DiskFaults
    at_s: float
    for_s: float = FOREVER


@dataclass(frozen=True, slots=True)
class DiskKill:
    """The process of a node is killed at one of its disk operations, and started again after ``for_s``.

    Attributes:
        operations: how many it may still do from ``at_s`` on.
    """

    node: int
    operations: int
    at_s: float
    for_s: float


@dataclass(frozen=True, slots=True)
class NewDisk:
    """The machine of a node burns down: a new one takes its name, with an empty disk, after ``for_s``."""

    node: int
    at_s: float
    for_s: float


@dataclass(frozen=True, slots=True)
class WallJump:
    """Somebody sets the wall clock of a node."""

    node: int
    by_s: float
    at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """The way from nodes to services outside of the mesh is slow: of requests, and of answers, this share takes up to
    ``late_s`` longer than usual."""

    late: float = 0.0
    late_s: float = 0.0


@dataclass(frozen=True, slots=True)
class BadDevice:
    """The device of a node on which predictions are computed fails in the middle of a batch, until its process ends.

    Attributes:
        batches: how many it still computes from ``at_s`` on.
    """

    node: int
    batches: int
    at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults(CoreFaults):
    """What can go wrong with whole nodes: all that can with cores, and more."""

    resets: tuple[Reset, ...] = ()
    hangs: tuple[Hang, ...] = ()
    stuck_loops: tuple[StuckLoop, ...] = ()
    slow_cpus: tuple[SlowCpu, ...] = ()
    bad_disks: tuple[BadDisk, ...] = ()
    disk_kills: tuple[DiskKill, ...] = ()
    new_disks: tuple[NewDisk, ...] = ()
    wall_jumps: tuple[WallJump, ...] = ()
    bad_devices: tuple[BadDevice, ...] = ()
    outside: Outside = Outside()

    def kinds(self) -> dict[str, int]:
        """How many of each kind."""
        counts = {}
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if isinstance(value, tuple) and value and dataclasses.is_dataclass(value[0]):
                counts[item.name] = len(value)
        return counts


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
