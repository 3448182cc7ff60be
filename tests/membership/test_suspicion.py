import math

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from meshnode.identity import NodeId
from meshnode.membership.suspicion import Suspicions

pytestmark = pytest.mark.timeout(600)  # two thousand examples in the long profile


class SuspicionsAgainstDict(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.suspicions = Suspicions()
        self.naive: dict[NodeId, float] = {}
        self.now = 0.0

    @rule(number=st.integers(1, 6), in_s=st.integers(1, 9))
    def start(self, number: int, in_s: int) -> None:
        self.suspicions.start(NodeId(number), self.now + in_s)
        self.naive[NodeId(number)] = self.now + in_s

    @rule(number=st.integers(1, 6))
    def stop(self, number: int) -> None:
        self.suspicions.stop(NodeId(number))
        self.naive.pop(NodeId(number), None)

    @rule(by_s=st.integers(1, 5))
    def extend(self, by_s: int) -> None:
        self.suspicions.extend(by_s)
        self.naive = {node_id: deadline + by_s for node_id, deadline in self.naive.items()}

    @rule(by_s=st.integers(0, 4))
    def time_passes(self, by_s: int) -> None:
        self.now += by_s
        due = sorted((deadline, node_id) for node_id, deadline in self.naive.items() if deadline <= self.now)
        assert self.suspicions.take_due(self.now) == [node_id for _, node_id in due]
        for _, node_id in due:
            del self.naive[node_id]

    @invariant()
    def the_same_are_suspected_until_the_same_time(self) -> None:
        assert len(self.suspicions) == len(self.naive)
        assert [NodeId(number) in self.suspicions for number in range(7)] == [
            number in self.naive for number in range(7)
        ]
        assert self.suspicions.deadline == min(self.naive.values(), default=math.inf)


TestSuspicionsAgainstDict = SuspicionsAgainstDict.TestCase


def test_suspicions_that_start_and_stop_for_ever_take_no_room() -> None:
    suspicions = Suspicions()
    for round_ in range(10_000):
        suspicions.start(NodeId(round_ % 5 + 1), 1000.0 + round_)
        suspicions.stop(NodeId(round_ % 5 + 1))
    assert len(suspicions._by_deadline) < 100
    assert suspicions.deadline == math.inf
