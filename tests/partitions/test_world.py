"""The same world under hypothesis, which makes a failing schedule short."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from meshnode.identity import NodeId, PartitionId
from tests.partitions.schedule import quiet_round, settle
from tests.partitions.world import World

P = PartitionId(0)
NODES = st.integers(1, 4).map(NodeId)
SETS = st.lists(NODES, min_size=1, max_size=3, unique=True).map(tuple)


class Schedule(RuleBasedStateMachine):
    """Four nodes, one partition; the invariants are the oracle's."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(4)

    @initialize(replicas=SETS, in_service=st.booleans())
    def found(self, replicas: tuple[NodeId, ...], in_service: bool) -> None:
        self.world.begin(P, replicas[0], replicas)
        for _ in range(2 if in_service else 0):
            quiet_round(self.world)

    # ---- work

    @precondition(lambda self: self.world.network)
    @rule(data=st.data(), keep=st.booleans())
    def deliver(self, data: st.DataObject, keep: bool) -> None:
        self.world.deliver(data.draw(st.integers(0, len(self.world.network) - 1)), keep=keep)

    @rule(node=NODES, most=st.integers(1, 6))
    def sync(self, node: NodeId, most: int) -> None:
        self.world.sync(node, most)

    @rule(node=NODES, skip=st.integers(0, 2))
    def tell_row(self, node: NodeId, skip: int) -> None:
        self.world.learn_row(node, P, skip)

    @precondition(lambda self: self.world.proposals)
    @rule(data=st.data())
    def agree(self, data: st.DataObject) -> None:
        self.world.agree(data.draw(st.integers(0, len(self.world.proposals) - 1)))

    @rule(seconds=st.sampled_from([0.1, 0.5, 2.5]))
    def pass_time(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    @rule(node=NODES)
    def confirm(self, node: NodeId) -> None:
        self.world.confirm(node)

    @rule()
    def calm(self) -> None:
        quiet_round(self.world)

    # ---- use

    @rule(writes=st.integers(1, 4))
    def write(self, writes: int) -> None:
        for node in self.world.serving(P):
            for _ in range(writes):
                self.world.propose(node.node_id, P)

    @rule()
    def read(self) -> None:
        for node in self.world.serving(P):
            self.world.read(node.node_id, P)

    # ---- faults and changes

    @precondition(lambda self: self.world.network)
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        self.world.network.pop(data.draw(st.integers(0, len(self.world.network) - 1)))

    @rule(node=NODES, surviving=st.integers(0, 5))
    def crash(self, node: NodeId, surviving: int) -> None:
        if self.world.nodes[node].is_up:
            self.world.crash(node, surviving)

    @rule(node=NODES, forgotten_rows=st.sampled_from([0, 1, 10]))
    def restart(self, node: NodeId, forgotten_rows: int) -> None:
        if not self.world.nodes[node].is_up:
            self.world.restart(node, forgotten_rows)

    @rule(node=NODES)
    def pause_or_resume(self, node: NodeId) -> None:
        self.world.nodes[node].is_paused = not self.world.nodes[node].is_paused

    @rule(node=NODES)
    def copy_forward(self, node: NodeId) -> None:
        self.world.copy_forward(node, P)

    @rule(node=NODES)
    def delete_old_files(self, node: NodeId) -> None:
        self.world.delete_old_files(node)

    @rule(replicas=SETS)
    def begin(self, replicas: tuple[NodeId, ...]) -> None:
        self.world.begin(P, replicas[0], replicas)

    @rule(replicas=SETS)
    def move(self, replicas: tuple[NodeId, ...]) -> None:
        for node in self.world.serving(P):
            self.world.move(node.node_id, P, replicas[0], replicas)

    def teardown(self) -> None:
        if self.world.row(P) is not None:
            settle(self.world)


TestSchedule = Schedule.TestCase
TestSchedule.settings = settings(stateful_step_count=60)
