"""A schedule that chance finds too seldom: a primary is told what was acknowledged in an earlier epoch of its own.

1. A primary is cut off with one replica, its friend, whose answers take long. What both write is never committed.
2. Another primary is named, and cuts their logs back.
3. The cut ends, the first one is named again and writes its log anew. Its friend is not heard any more, but what it
   answered in (1) arrives now, and says that it has records up to a sequence that others have taken the place of.
"""

import random
from typing import Protocol

from meshnode.identity import NodeId, PartitionId
from meshnode.metadata.commands import RowChange, Step
from simulations.cores.faults import CoreFaults, Cut, LinkQuality, Slow
from simulations.cores.heap import EventHeap
from simulations.cores.metadata_service import MetadataService
from simulations.cores.network import Network
from simulations.cores.partition_node import PartitionNode
from simulations.cores.partition_traffic import SERVICE

NODES = 5
"""So many that two of them are no majority."""


STEP_S = 0.02
"""So often it is looked at whether the other primary serves already."""


class Echoed(Protocol):
    """What is needed of a world of partitions."""

    heap: EventHeap
    network: Network
    nodes: dict[int, PartitionNode]
    service: MetadataService
    faults: CoreFaults
    failed_after_s: float


class Echo:
    """One of them, from now on.

    Args:
        primary: serves the partition now.
    """

    def __init__(self, world: Echoed, rng: random.Random, partition: PartitionId, primary: int) -> None:
        self._world = world
        self._partition = partition
        self._primary = primary
        self._friend, self._heir, *_ = rng.sample([one for one in world.nodes if one != primary], len(world.nodes) - 1)
        now, short_s = world.heap.now, world.failed_after_s
        late = LinkQuality(late=rng.choice((0.5, 0.9)), late_s=short_s * rng.uniform(0.5, 1.5))
        world.network.slow_down(Slow(self._friend, late, now, short_s))
        self._named_s = now + short_s * rng.uniform(0.1, 0.4)
        self._patience_s = now + 2 * short_s
        self._unheard_s = short_s * rng.uniform(1.0, 3.0)
        self._go_on(False)

    def _go_on(self, is_named: bool) -> None:
        world, now = self._world, self._world.heap.now
        alone = frozenset([self._primary, self._friend])
        others = frozenset([SERVICE, *world.nodes]) - alone
        if world.nodes[self._heir].is_serving(self._partition):
            self._name(self._primary)
            world.network.plan(Cut(frozenset([self._friend]), others | {self._primary}, now, self._unheard_s))
        elif now < min(self._patience_s, world.faults.calm_s):
            if not is_named and now >= self._named_s:
                self._name(self._heir)
                is_named = True
            world.network.plan(Cut(alone, others, now, STEP_S))
            world.heap.at(now + STEP_S, self._go_on, is_named)

    def _name(self, number: int) -> None:
        metadata, named = self._world.service.metadata, NodeId(number)
        row = metadata.rows.get(self._partition)
        if row is not None and named in row.replicas:
            boot = metadata.boot_of(named)
            change = RowChange(self._partition, Step.BEGIN, row.epoch, row.phase, named, boot, row.replicas)
            self._world.service.propose(change)


def quiet(rng: random.Random, duration_s: float, *, sync_s: float) -> CoreFaults:
    """What else may go wrong in such a world: little, or else nothing would be written."""
    quality = LinkQuality(duplicate=rng.choice((0.0, 0.1)))
    return CoreFaults(calm_s=duration_s, quality=quality, sync_s=(0.0005, min(sync_s, 0.02)))
