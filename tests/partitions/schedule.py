"""Random schedules over a world, and what must happen once the faults stop."""

import random
from collections.abc import Callable

from meshnode.identity import NodeId, PartitionId
from tests.partitions.world import Node, World

PATIENCE_ROUNDS = 8
"""Rounds of half a second that a takeover gets before another candidate is tried; doubled each time."""

ROUNDS_MAX = 200
DELIVERIES_MAX = 20_000
"""More messages than this in one round are a storm: somebody answers what needs no answer."""


def settle(world: World) -> None:
    """No more faults: each partition becomes active, and takes a write, a read and all its replicas with it."""
    world.cut.clear()
    world.uninformed.clear()
    for node in world.nodes.values():
        node.is_paused = False
        if not node.is_up:
            world.restart(node.node_id)
    waited = dict.fromkeys(world.partition_ids, 0)
    patience = dict.fromkeys(world.partition_ids, PATIENCE_ROUNDS)
    for _ in range(ROUNDS_MAX):
        quiet_round(world)
        stuck = [partition for partition in world.partition_ids if not _is_well(world, partition)]
        if not stuck:
            break
        for partition in stuck:
            waited[partition] += 1
            if waited[partition] > patience[partition] or world.row(partition) is None:
                waited[partition] = 0
                patience[partition] *= 2
                _begin_with_next(world, partition)
    else:
        raise AssertionError(f"{stuck} did not become active")
    for partition in world.partition_ids:
        _use(world, partition)


def _use(world: World, partition: PartitionId) -> None:
    (node,) = [node for node in world.serving(partition) if _is_current(world, node, partition)]
    sequence = world.propose(node.node_id, partition)
    world.read(node.node_id, partition)
    before = world.reads_ready
    for _ in range(20):
        quiet_round(world)
    assert sequence in world.oracle.acknowledged[partition], f"{sequence} was never acknowledged"
    assert world.reads_ready > before, "the read was never answered"
    row = world.row(partition)
    assert row is not None
    for member in row.replicas:
        copy = world.nodes[member].partitions[partition]
        assert copy.replica.committed >= sequence, f"replica {member} stays at {copy.replica.committed}"


def quiet_round(world: World) -> None:
    """Half a second in which everything arrives in order."""
    world.pass_time(0.5)
    deliveries = 0
    for node_id in world.nodes:
        for partition in world.partition_ids:
            while world.learn_row(node_id, partition):
                pass
        world.confirm(node_id)
    while world.network or world.proposals or any(node.queue for node in world.nodes.values() if node.can_act):
        if world.network:
            world.deliver()
        for node_id in world.nodes:
            world.sync(node_id)
        while world.proposals:
            world.agree()
        deliveries += 1
        assert deliveries < DELIVERIES_MAX, "messages without end"


def _is_current(world: World, node: Node, partition: PartitionId) -> bool:
    row = world.row(partition)
    primary = node.partitions[partition].primary
    return row is not None and primary is not None and primary.epoch == row.epoch


def _is_well(world: World, partition: PartitionId) -> bool:
    return any(_is_current(world, node, partition) for node in world.serving(partition))


def _begin_with_next(world: World, partition: PartitionId) -> None:
    row = world.row(partition)
    if row is None:
        world.begin(partition, NodeId(1), list(world.nodes)[:3])
    else:
        index = row.replicas.index(row.primary)
        world.begin(partition, row.replicas[(index + 1) % len(row.replicas)], row.replicas)


class Explorer:
    """Draws events from a seed, with other odds for each seed."""

    def __init__(self, seed: int) -> None:
        self._rng = rng = random.Random(seed)
        self.world = World(nodes=rng.choice([3, 4, 5]), partitions=rng.choice([1, 1, 1, 2]))
        self._odds: dict[Callable[[], None], float] = {
            self._deliver: rng.choice([3, 8, 15]),
            self._sync: rng.choice([1, 4, 8]),
            self._tell_row: 4,
            self._agree: 2,
            self._pass_time: rng.choice([0.5, 2]),
            self._propose: rng.choice([1, 3, 6]),
            self._read: 0.5,
            self._confirm: 1,
            self._begin: rng.choice([0.05, 0.15, 0.6]),
            self._move: rng.choice([0, 0.2, 0.5]),
            self._crash: rng.choice([0, 0.1, 0.4]),
            self._restart: 0.5,
            self._pause: rng.choice([0, 0.2]),
            self._lose: rng.choice([0, 0.5, 2]),
            self._repeat: rng.choice([0, 0.5]),
            self._copy_forward: rng.choice([0, 0.2]),
            self._delete_old_files: rng.choice([0, 0.5, 3]),
            self._calm: rng.choice([0.1, 0.3, 1]),
            self._take_over_behind_its_back: rng.choice([0, 0.1, 0.3]),
            self._heal_links: 0.2,
            self._inform: 0.2,
        }
        self._is_ordered = rng.random() < 0.5

    def run(self, events: int) -> None:
        """So many random events, then quiet."""
        for partition in self.world.partition_ids:
            members = self._some_replicas()
            self.world.begin(partition, self._rng.choice(members), members)
        actions, weights = list(self._odds), list(self._odds.values())
        for action in self._rng.choices(actions, weights, k=events):
            action()
        settle(self.world)

    def _some_replicas(self) -> tuple[NodeId, ...]:
        nodes = list(self.world.nodes)
        return tuple(self._rng.sample(nodes, min(len(nodes), self._rng.choice([1, 2, 3, 3, 3, 3, 5]))))

    def _node(self) -> Node:
        return self.world.nodes[self._rng.choice(list(self.world.nodes))]

    def _partition(self) -> PartitionId:
        return self._rng.choice(self.world.partition_ids)

    def _message(self) -> int:
        return 0 if self._is_ordered else self._rng.randrange(len(self.world.network))

    # ---- events

    def _deliver(self) -> None:
        for _ in range(self._rng.choice([1, 1, 4])):
            if self.world.network:
                self.world.deliver(self._message())

    def _repeat(self) -> None:
        if self.world.network:
            self.world.deliver(self._message(), keep=True)

    def _lose(self) -> None:
        if self.world.network:
            for _ in range(self._rng.choice([1, 1, len(self.world.network)])):
                self.world.network.pop(self._message())

    def _sync(self) -> None:
        self.world.sync(self._node().node_id, self._rng.choice([1, 2, None]))

    def _tell_row(self) -> None:
        self.world.learn_row(self._node().node_id, self._partition(), self._rng.choice([0, 0, 0, 1, 3]))

    def _agree(self) -> None:
        if self.world.proposals:
            self.world.agree(self._rng.randrange(len(self.world.proposals)))

    def _pass_time(self) -> None:
        self.world.pass_time(self._rng.choice([0.1, 0.5, 2.5]))

    def _propose(self) -> None:
        partition = self._partition()
        for node in self.world.serving(partition):
            for _ in range(self._rng.choice([0, 1, 1, 3])):
                self.world.propose(node.node_id, partition)

    def _read(self) -> None:
        partition = self._partition()
        for node in self.world.serving(partition):
            self.world.read(node.node_id, partition)

    def _confirm(self) -> None:
        self.world.confirm(self._node().node_id)

    def _begin(self) -> None:
        """By suspicion: another candidate of the same set, or, rarely, any set."""
        partition = self._partition()
        row = self.world.row(partition)
        assert row is not None
        members = row.replicas if self._rng.random() < 0.7 else self._some_replicas()
        self.world.begin(partition, self._rng.choice(members), members)

    def _move(self) -> None:
        partition = self._partition()
        for node in self.world.serving(partition):
            members = self._some_replicas()
            self.world.move(node.node_id, partition, self._rng.choice(members), members)

    def _crash(self) -> None:
        node = self._node()
        if node.is_up:
            self.world.crash(node.node_id, self._rng.randint(0, len(node.queue)))

    def _restart(self) -> None:
        for node in self.world.nodes.values():
            if not node.is_up and self._rng.random() < 0.5:
                self.world.restart(node.node_id, self._rng.choice([0, 1, 10]))

    def _pause(self) -> None:
        node = self._node()
        node.is_paused = not node.is_paused

    def _calm(self) -> None:
        """Long enough for something to be at stake when the next fault comes."""
        quiet_round(self.world)

    def _take_over_behind_its_back(self) -> None:
        """A primary that is cut off, perhaps but for one link, writes on and reads while another one takes over."""
        partition = self._partition()
        for node in self.world.serving(partition):
            self._cut_off(node.node_id)
            if self._rng.random() < 0.5:
                self._propose()
            row = self.world.row(partition)
            assert row is not None
            self.world.begin(partition, self._rng.choice(row.replicas), row.replicas)
        for action in (self._calm, self._calm, self._propose, self._calm, self._heal_links, self._read, self._confirm):
            if self._rng.random() < 0.8:
                action()

    def _cut_off(self, node: NodeId) -> None:
        others = [other for other in self.world.nodes if other != node]
        lost = self._rng.sample(others, len(others) - self._rng.choice([0, 0, 1]))
        self.world.cut |= {(node, other) for other in lost} | {(other, node) for other in lost}
        self.world.uninformed.add(node)

    def _heal_links(self) -> None:
        self.world.cut.clear()

    def _inform(self) -> None:
        self.world.uninformed.clear()

    def _delete_old_files(self) -> None:
        self.world.delete_old_files(self._node().node_id)

    def _copy_forward(self) -> None:
        self.world.copy_forward(self._node().node_id, self._partition())
