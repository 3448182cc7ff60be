"""A mesh made of little more than its metadata: nodes that come, go and hang, an allocator, and rows that it moves.

Time is a number, the log a counter, and a takeover takes as long as it is told to. Every plan is checked against the
rules on its way.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from meshnode import wire
from meshnode.identity import Address, Boot, Epoch, MeshId, NodeId, PartitionId
from meshnode.metadata.allocator import Allocator, Health, Move, Plan
from meshnode.metadata.commands import ChangeRows, Command, Forget, Found, Leaving, Register, RowChange, Step
from meshnode.metadata.config import AllocatorConfig
from meshnode.metadata.rows import Phase, Row
from meshnode.metadata.state import GENERATION_SHIFT, Metadata, Outcome
from meshnode.placement import MemberSpec, Table, next_table

LOOK_INTERVAL_S = 0.25
"""How often the leader looks."""

FIRST_BOOT = Boot(1)

Chance = Callable[[], bool]
"""Whether something that may fail does."""


def never() -> bool:
    return False


@dataclass
class Process:
    """A node as it really is; what the leader thinks of it follows after `Mesh.detection_s`.

    Attributes:
        is_up: whether it runs.
        is_stuck: whether its main loop hangs.
        changed_at_s: since when the leader may be wrong about it.
        believed: what the leader thinks of it.
        balks_until_s: until when none of its takeovers gets anywhere.
    """

    boot: Boot = FIRST_BOOT
    is_up: bool = True
    is_stuck: bool = False
    changed_at_s: float = 0.0
    believed: Health = Health.LIVE
    balks_until_s: float = 0.0

    @property
    def works(self) -> bool:
        return self.is_up and not self.is_stuck


@dataclass
class Mesh:
    """The world.

    Attributes:
        begun: how many rows began, by reason.
        copied: how many replicas were made on a node that had none before.
        proposals: whatever the allocator proposed, in order.
        asked: moves that reached their primary and are not begun yet.
    """

    partitions: int = 16
    replication: int = 3
    config: AllocatorConfig = field(default_factory=AllocatorConfig)
    takeover_s: float = 0.0
    detection_s: float = 0.0
    is_lost: Chance = never

    def __post_init__(self) -> None:
        self.now = 1000.0
        self.metadata = Metadata()
        self.nodes: dict[NodeId, Process] = {}
        self.begun: Counter[str] = Counter()
        self.copied = 0
        self.proposals: list[RowChange | Move] = []
        self._index = 0
        self._begun_at_s: dict[PartitionId, float] = {}
        self.asked: dict[PartitionId, Move] = {}
        self.apply(Found(MeshId(bytes(16)), self.partitions, self.replication))
        self.elect()

    # ---- what happens to nodes

    def elect(self) -> None:
        """Another node leads from now on, and knows nothing of what the last one was about."""
        self.allocator = Allocator(self.metadata, self.config, self.now)

    def join(self, *numbers: int, weight: int = 1, zone: str = "") -> list[NodeId]:
        """New nodes; their ids are far apart, as drawn ones are."""
        ids = [NodeId(number * 0x1234_5678_9ABC_DEF % (2**63 - 1)) for number in numbers]
        for node_id in ids:
            self.nodes[node_id] = Process(changed_at_s=self.now)
            self._register(node_id, weight, zone)
        return ids

    def fail(self, node_id: NodeId, *, left: bool = False) -> None:
        process = self.nodes[node_id]
        process.is_up = False
        self._notice(process, Health.LEFT if left else Health.FAILED)

    def restart(self, node_id: NodeId) -> None:
        """The node is started again, whether it ran or not."""
        process = self.nodes[node_id]
        process.boot = Boot(process.boot + 1)
        process.is_up, process.is_stuck = True, False
        self._notice(process, Health.LIVE)
        record = self.metadata.nodes[node_id]
        self._register(node_id, record.weight, record.zone)

    def hang(self, node_id: NodeId) -> None:
        process = self.nodes[node_id]
        process.is_stuck = True
        self._notice(process, Health.FAILED)

    def recover(self, node_id: NodeId) -> None:
        """The node's main loop runs again; or the same process can be reached again."""
        process = self.nodes[node_id]
        process.is_up, process.is_stuck = True, False
        self._notice(process, Health.LIVE)

    def balk(self, node_id: NodeId, for_s: float) -> None:
        """The node is well, but takes nothing over for a while."""
        self.nodes[node_id].balks_until_s = self.now + for_s

    def leave(self, node_id: NodeId) -> None:
        """The node wants to leave."""
        assert self.apply(Leaving(node_id)) is Outcome.DONE

    def forget(self) -> list[NodeId]:
        """Let go whoever wants to leave and holds nothing."""
        leaving = [node_id for node_id, record in self.metadata.nodes.items() if record.is_leaving]
        gone = [node_id for node_id in leaving if self.apply(Forget(node_id)) is Outcome.DONE]
        for node_id in gone:
            del self.nodes[node_id]
        return gone

    def _register(self, node_id: NodeId, weight: int, zone: str) -> None:
        process = self.nodes[node_id]
        address = Address("127.0.0.1", 7946)
        command = Register(node_id, process.boot, f"{node_id:x}", address, weight, zone)
        assert self.apply(command) is Outcome.DONE

    def _notice(self, process: Process, health: Health) -> None:
        process.changed_at_s = self.now
        if self.detection_s == 0.0:
            process.believed = health

    def health(self) -> dict[NodeId, Health]:
        """What the leader thinks."""
        for process in self.nodes.values():
            is_wrong = process.works is not (process.believed is Health.LIVE)
            if is_wrong and self.now >= process.changed_at_s + self.detection_s:
                process.believed = Health.LIVE if process.works else Health.FAILED
        return {node_id: process.believed for node_id, process in self.nodes.items()}

    # ---- time

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while self.now < end:
            self.look()
            self.now += LOOK_INTERVAL_S

    def look(self) -> Plan:
        """One look of the leader, and what it leads to."""
        self._work()
        health = self.health()
        plan = self.allocator.plan(health, self.now)
        self._check(plan, health)
        self.proposals.extend([*plan.changes, *plan.moves])
        if arriving := tuple(change for change in plan.changes if not self.is_lost()):
            self.apply(ChangeRows(arriving))
        for move in plan.moves:
            if not self.is_lost():
                self.asked[move.partition] = move
        self._work()
        return plan

    def _work(self) -> None:
        """Primaries do what they can: move what they were asked to, end takeovers."""
        for partition, move in list(self.asked.items()):
            row = self.row(partition)
            del self.asked[partition]
            is_served = row.phase is Phase.ACTIVE and row.epoch == move.epoch and self._is_running(row)
            if is_served and all(self.nodes[member].works for member in move.replicas if member in self.nodes):
                change = RowChange(
                    partition, Step.BEGIN, row.epoch, row.phase, move.primary, move.boot, move.replicas, move.reason
                )
                self.apply(ChangeRows((change,)))
            elif is_served:
                self.asked[partition] = move  # its learners will be back
        for partition, row in list(self.metadata.rows.items()):
            if row.phase is Phase.SEALING and self._is_running(row) and self._can_end(partition, row):
                self.apply(ChangeRows((RowChange(partition, Step.ACTIVATE, row.epoch, row.phase),)))

    def _is_running(self, row: Row) -> bool:
        process = self.nodes.get(row.primary)
        return process is not None and process.works and process.boot == row.boot

    def _can_end(self, partition: PartitionId, row: Row) -> bool:
        is_due = self.now >= self._begun_at_s[partition] + self.takeover_s
        balks = self.now < self.nodes[row.primary].balks_until_s
        return is_due and not balks and self.is_able(row)

    # ---- the rows

    def row(self, partition: int) -> Row:
        return self.metadata.rows[PartitionId(partition)]

    def works(self, members: Iterable[NodeId]) -> bool:
        """Whether a majority of them does."""
        votes = [member in self.nodes and self.nodes[member].works for member in members]
        return 2 * sum(votes) > len(votes)

    def is_able(self, row: Row) -> bool:
        """Whether a takeover can end."""
        return self.works(row.replicas) and (not row.base or self.works(row.base))

    def table(self) -> Table:
        """The committed rows, the primary first in each."""
        rows = [self.metadata.rows.get(PartitionId(partition)) for partition in range(self.partitions)]
        return Table(
            tuple(
                () if row is None else (row.primary, *(member for member in row.replicas if member != row.primary))
                for row in rows
            )
        )

    def led(self) -> Counter[NodeId]:
        """How many partitions each node leads."""
        return self.table().primaries()

    def target(self, *members: NodeId) -> Table:
        """What the committed rows should become."""
        specs = {
            node_id: MemberSpec(float(self.metadata.nodes[node_id].weight), self.metadata.nodes[node_id].zone)
            for node_id in members
        }
        return next_table(self.table(), specs, partitions=self.partitions, replication=self.replication)

    def apply(self, command: Command) -> Outcome:
        """Commit a command."""
        before = dict(self.metadata.rows)
        self._index += 1
        outcome = self.metadata.apply(self._index, wire.encode(command))
        assert isinstance(outcome, Outcome)
        for partition, row in self.metadata.rows.items():
            old = before.get(partition)
            if old is None or row.epoch != old.epoch:
                self._begun_at_s[partition] = self.now
                self.begun[row.reason] += 1
                kept = set() if old is None else {*old.replicas, *old.base}
                self.copied += len(set(row.replicas) - kept)
        return outcome

    # ---- what every plan has to keep to

    def _check(self, plan: Plan, health: dict[NodeId, Health]) -> None:
        assert len(plan.moves) <= self.config.moves_max
        steps: list[RowChange | Move] = [*plan.changes, *plan.moves]
        partitions = [step.partition for step in steps]
        assert len(partitions) == len(set(partitions)), "a partition has two steps in one plan"
        for change in plan.changes:
            self._check_change(change, health)
        for move in plan.moves:
            self._check_move(move, health)

    def _check_primary(self, step: RowChange | Move, health: dict[NodeId, Health]) -> None:
        assert step.primary in step.replicas
        assert len(set(step.replicas)) == len(step.replicas)
        assert health[step.primary] is Health.LIVE, "a primary that is not alive"
        assert self.metadata.nodes[step.primary].boot == step.boot, "a process that is gone"

    def _check_change(self, change: RowChange, health: dict[NodeId, Health]) -> None:
        self._check_primary(change, health)
        assert change.step is Step.BEGIN
        row = self.metadata.rows.get(change.partition)
        if row is None:
            assert (change.epoch, change.phase) == (Epoch(0), Phase.ACTIVE)
            return
        assert (change.epoch, change.phase) == (row.epoch, row.phase), "compares with a row that is no more"
        replicas, held = set(change.replicas), set(row.replicas)
        if not row.base:
            return
        is_undone = row.phase is Phase.SEALING and replicas == set(row.base)
        assert replicas == held or is_undone, "a set was changed without its primary"
        is_same_process = (change.primary, change.boot) == (row.primary, row.boot)
        is_old = row.epoch < self.metadata.generation << GENERATION_SHIFT
        assert not is_same_process or replicas != held or is_old, "the same process again, for nothing"

    def _check_move(self, move: Move, health: dict[NodeId, Health]) -> None:
        self._check_primary(move, health)
        row = self.row(move.partition)
        assert row.phase is Phase.ACTIVE, "only an active primary can move its partition"
        assert move.epoch == row.epoch
        assert health[row.primary] is Health.LIVE, "nobody is there to be asked"
        assert set(move.replicas) != set(row.replicas)
        assert all(health[member] is Health.LIVE for member in move.replicas)
        assert not any(self.metadata.nodes[member].is_leaving for member in move.replicas)
