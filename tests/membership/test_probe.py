import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from meshnode.identity import NodeId
from meshnode.membership.probe import RELAYS_MAX, ProbeOrder, Relay, Relays
from tests.membership.samples import address

pytestmark = pytest.mark.timeout(600)  # two thousand examples in the long profile


@given(st.integers(1, 40), st.integers(0, 2**32))
def test_each_member_is_probed_at_most_two_rounds_less_one_period_apart(count: int, seed: int) -> None:
    order = ProbeOrder(random.Random(seed))
    for number in range(1, count + 1):
        order.add(NodeId(number))
    probed = [order.next() for _ in range(6 * count)]
    for number in range(1, count + 1):
        turns = [turn for turn, node_id in enumerate(probed) if node_id == number]
        assert len(turns) >= 5
        assert all(later - earlier <= 2 * count - 1 for earlier, later in itertools.pairwise(turns))


class OrderAgainstSet(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.order = ProbeOrder(random.Random(1))
        self.live: set[NodeId] = set()

    @rule(number=st.integers(1, 60))
    def come_or_go(self, number: int) -> None:
        node_id = NodeId(number)
        if node_id in self.live:
            self.live.discard(node_id)
            self.order.remove(node_id)
        else:
            self.live.add(node_id)
            self.order.add(node_id)

    @rule(first=st.integers(1, 40), many=st.integers(1, 20))
    def many_come_or_go(self, first: int, many: int) -> None:
        for number in range(first, first + many):
            self.come_or_go(number)

    @rule()
    def two_rounds_reach_everyone(self) -> None:
        probed = [self.order.next() for _ in range(2 * len(self.live))]
        assert set(probed) == self.live

    @rule()
    def probe_one(self) -> None:
        target = self.order.next()
        assert (target in self.live) if self.live else (target is None)

    @rule(count=st.integers(1, 5), odd=st.booleans(), besides=st.none() | st.integers(1, 60).map(NodeId))
    def sample(self, count: int, odd: bool, besides: NodeId | None) -> None:
        without = {node_id for node_id in self.live if node_id % 2 != odd}
        chosen = self.order.sample(count, besides=besides, without=without)
        assert len(set(chosen)) == len(chosen) <= count
        accepted = self.live - without - {besides}
        assert set(chosen) <= accepted
        if len(self.order._round) <= 48:
            assert len(chosen) == min(count, len(accepted))

    @invariant()
    def it_counts_the_live_and_keeps_few_others(self) -> None:
        assert len(self.order) == len(self.live)
        assert len(self.order._round) <= 2 * len(self.live) + 2 * 16 + 2


TestOrderAgainstSet = OrderAgainstSet.TestCase


def test_a_new_member_enters_anywhere_in_the_round() -> None:
    places = set()
    for seed in range(200):
        order = ProbeOrder(random.Random(seed))
        for number in range(1, 6):
            order.add(NodeId(number))
        order.next()
        order.add(NodeId(9))
        places.add([order.next() for _ in range(10)].index(NodeId(9)))
    assert places >= set(range(5))


def test_the_gone_are_swept_out_before_they_outnumber_the_live_and_the_round_goes_on() -> None:
    order = ProbeOrder(random.Random(1))
    for number in range(1, 101):
        order.add(NodeId(number))
    probed = {order.next() for _ in range(40)}
    for number in range(1, 90):
        order.remove(NodeId(number))
    assert len(order._round) < 60
    left = {NodeId(number) for number in range(90, 101)}
    rest = {order.next() for _ in range(len(left - probed))}
    assert rest == left - probed


def test_a_relay_is_for_one_answer_of_its_target_only() -> None:
    relays = Relays()
    relay = Relay(NodeId(2), address(1), 77, expires_at=1.0)
    assert relays.put(5, relay, now=0.0)
    assert relays.take(5, NodeId(3)) is None
    assert relays.take(6, NodeId(2)) is None
    assert relays.take(5, NodeId(2)) == relay
    assert relays.take(5, NodeId(2)) is None


def test_relays_are_bounded_and_make_room_as_they_expire() -> None:
    relays = Relays()
    for sequence in range(RELAYS_MAX):
        assert relays.put(sequence, Relay(NodeId(2), address(1), sequence, expires_at=1.0 + sequence), now=0.0)
    one_more = Relay(NodeId(2), address(1), 0, expires_at=1000.0)
    assert not relays.put(RELAYS_MAX, one_more, now=0.9)
    assert len(relays) == RELAYS_MAX
    assert relays.put(RELAYS_MAX, one_more, now=2.0)
    assert len(relays) == RELAYS_MAX - 1
