"""A mesh whose members come and go: how it works, and who there is."""

from dataclasses import dataclass, field

from meshnode.metadata.config import AllocatorConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementSettings:
    """How the mesh works.

    Attributes:
        allocator: of the leader.
        look_interval_s: how often the leader looks.
        seal_s: how long it takes a new primary to become active, at most.
        copy_s: how long it takes to copy a partition, at most.
    """

    allocator: AllocatorConfig = field(default_factory=AllocatorConfig)
    look_interval_s: float = 0.5
    seal_s: float = 0.2
    copy_s: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementWorkload:
    """Who there is, and what becomes of it until the faults end.

    Attributes:
        nodes: how many there ever are, with the numbers 1, 2, …
        founders: the first so many are there from the beginning; the others join one by one.
        partitions: a power of two.
        replication: of each partition.
        zones: how many there are; 0 for nodes without a tag.
        weights: those that a node may have.
        joins_per_s: how often one of the others joins, until all have.
        changes_per_s: nodes that are started again with another weight and in another zone.
        elections_per_s: leaders that are followed by one that knows nothing of what the last one was about.
        lost: the share of copies that come to nothing.
    """

    nodes: int = 6
    founders: int = 3
    partitions: int = 16
    replication: int = 3
    zones: int = 0
    weights: tuple[int, ...] = (1,)
    joins_per_s: float = 0.2
    changes_per_s: float = 0.0
    elections_per_s: float = 0.0
    lost: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.founders <= self.nodes:
            raise ValueError(f"{self.founders} founders of {self.nodes} nodes: choose 1 … {self.nodes}")
        if not self.weights:
            raise ValueError("no weights to choose from: give at least (1,)")
