"""A run of cores as plain data: which world, its sizes and settings, and what goes wrong."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from meshnode.membership.config import SwimConfig
from simulations.cores import partition_world, placement_world, raft_world, swim_world
from simulations.cores.faults import FOREVER, CoreFaults
from simulations.cores.partition_world import PartitionSettings, PartitionWorkload
from simulations.cores.placement_settings import PlacementSettings, PlacementWorkload
from simulations.cores.plan_file import Written, check_nodes
from simulations.cores.raft_process import RaftSettings
from simulations.cores.raft_world import RaftWorkload
from simulations.cores.report import Report
from simulations.disk import DiskFaults


@dataclass(frozen=True, slots=True, kw_only=True)
class _CorePlan(Written):
    """What the plans of all worlds have in common.

    Attributes:
        duration_s: for how long there are faults and work, in virtual seconds.
    """

    level: Literal[1] = 1
    seed: int = 0
    duration_s: float = 20.0
    faults: CoreFaults = field(default_factory=CoreFaults)

    def __post_init__(self) -> None:
        if self.nodes < 1:
            raise ValueError(f"nodes is {self.nodes}: choose 1 or more")
        if not 0 < self.duration_s < FOREVER:
            raise ValueError(f"duration_s is {self.duration_s}: choose above 0")
        check_nodes(self.faults, self.numbers)

    @property
    def nodes(self) -> int:
        """How many there are."""
        raise NotImplementedError

    @property
    def numbers(self) -> range:
        """Of all that faults may name."""
        return range(1, self.nodes + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class SwimPlan(_CorePlan):
    """A run of `swim_world`; its nodes are numbered from 0."""

    world: Literal["swim"] = "swim"
    nodes: int = 5
    config: SwimConfig = field(default_factory=SwimConfig)

    @property
    def numbers(self) -> range:
        """See `_CorePlan.numbers`."""
        return range(self.nodes)

    def with_nodes(self, nodes: int, faults: CoreFaults) -> "SwimPlan":
        """The same with other nodes, and what may happen to them."""
        return replace(self, nodes=nodes, faults=faults)

    def run(self) -> Report:
        """Run it to its end, or to the first violation."""
        return swim_world.run(self.seed, self.faults, self.duration_s, nodes=self.nodes, config=self.config)


@dataclass(frozen=True, slots=True, kw_only=True)
class RaftPlan(_CorePlan):
    """A run of `raft_world`; its members are numbered from 1.

    Attributes:
        disk_faults: of all disks.
    """

    world: Literal["raft"] = "raft"
    settings: RaftSettings = field(default_factory=RaftSettings)
    workload: RaftWorkload = field(default_factory=RaftWorkload)
    disk_faults: DiskFaults = field(default_factory=lambda: DiskFaults(in_order=True))

    @property
    def nodes(self) -> int:
        """How many members there are."""
        return self.workload.members

    def with_nodes(self, nodes: int, faults: CoreFaults) -> "RaftPlan":
        """The same with other members, and what may happen to them."""
        workload = replace(self.workload, members=nodes, founders=min(nodes, self.workload.founders))
        return replace(self, workload=workload, faults=faults)

    def run(self) -> Report:
        """Run it to its end, or to the first violation."""
        return raft_world.run(
            self.seed,
            self.faults,
            self.duration_s,
            settings=self.settings,
            workload=self.workload,
            disk_faults=self.disk_faults,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionsPlan(_CorePlan):
    """A run of `partition_world`; its nodes are numbered from 1, and 0 is the metadata service."""

    world: Literal["partitions"] = "partitions"
    settings: PartitionSettings = field(default_factory=PartitionSettings)
    workload: PartitionWorkload = field(default_factory=PartitionWorkload)

    @property
    def nodes(self) -> int:
        """How many there are, without the service."""
        return self.workload.nodes

    @property
    def numbers(self) -> range:
        """See `_CorePlan.numbers`."""
        return range(self.nodes + 1)

    def with_nodes(self, nodes: int, faults: CoreFaults) -> "PartitionsPlan":
        """The same with other nodes, and what may happen to them."""
        return replace(self, workload=replace(self.workload, nodes=nodes), faults=faults)

    def run(self) -> Report:
        """Run it to its end, or to the first violation."""
        return partition_world.run(
            self.seed, self.faults, self.duration_s, settings=self.settings, workload=self.workload
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementPlan(_CorePlan):
    """A run of `placement_world`; its nodes are numbered from 1."""

    world: Literal["placement"] = "placement"
    settings: PlacementSettings = field(default_factory=PlacementSettings)
    workload: PlacementWorkload = field(default_factory=PlacementWorkload)

    @property
    def nodes(self) -> int:
        """How many there are."""
        return self.workload.nodes

    def with_nodes(self, nodes: int, faults: CoreFaults) -> "PlacementPlan":
        """The same with other nodes, and what may happen to them."""
        workload = replace(self.workload, nodes=nodes, founders=min(nodes, self.workload.founders))
        return replace(self, workload=workload, faults=faults)

    def run(self) -> Report:
        """Run it to its end, or to the first violation."""
        return placement_world.run(
            self.seed, self.faults, self.duration_s, settings=self.settings, workload=self.workload
        )


CorePlan: TypeAlias = SwimPlan | RaftPlan | PartitionsPlan | PlacementPlan
"""A plan of level 1."""

CORE_PLANS: Mapping[str, type[CorePlan]] = {
    "swim": SwimPlan,
    "raft": RaftPlan,
    "partitions": PartitionsPlan,
    "placement": PlacementPlan,
}
"""By their worlds. A new world adds its own here, and a way to draw it to `simulations.cores.swarm.DRAWS`."""

CORE_KINDS: dict[str, str] = {
    "links": "quality",
    "slow-disks": "sync_s",
    "bad-disks": "",
    "isolations": "",
    "cuts": "cuts",
    "slow": "slow",
    "crashes": "crashes",
    "pauses": "pauses",
    "leaves": "leaves",
    "clocks": "clocks",
}
"""Kinds of faults by the names under which they are asked for, each with its field of `CoreFaults`. Isolations, of
leaders and primaries, are drawn while a world runs: they are of its workload. How disks fail is a field of the plan."""


def only(faults: CoreFaults, kinds: frozenset[str]) -> CoreFaults:
    """These faults without those of other kinds."""
    nothing = CoreFaults()
    absent = {name: getattr(nothing, name) for kind, name in CORE_KINDS.items() if name and kind not in kinds}
    return replace(faults, **absent)


def struck(faults: CoreFaults, until_s: float) -> dict[str, int]:
    """How many faults of each kind had begun by then."""
    counts = {}
    for kind, name in CORE_KINDS.items():
        present = getattr(faults, name) if name else ()
        if kind in ("links", "slow-disks"):
            count = int(present != getattr(CoreFaults(), name))
        else:
            count = sum(getattr(fault, "at_s", 0.0) <= until_s for fault in present)
        if count:
            counts[kind] = count
    return counts
