from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from meshnode import wire
from meshnode.identity import NodeId
from meshnode.membership import gossip
from meshnode.membership.gossip import GossipQueue, record_bytes
from meshnode.membership.messages import Member, State
from tests.membership.samples import member, members

pytestmark = pytest.mark.timeout(600)  # two thousand examples in the long profile


@given(members())
def test_the_size_of_a_record_is_what_it_takes_inside_a_message(record: Member) -> None:
    @dataclass(frozen=True, slots=True)
    class Pair:
        records: tuple[Member, ...]

    assert len(wire.pack(Pair((record, record)))) - len(wire.pack(Pair((record,)))) == record_bytes(record)


ONCE = 1000


@dataclass
class _Entry:
    update: Member
    times: int
    since: int


class NaiveQueue:
    """The same promise, kept by sorting everything every time."""

    def __init__(self) -> None:
        self.entries: list[_Entry] = []
        self._clock = 0

    def put(self, update: Member, once: bool) -> None:
        self.discard(update.node_id)
        self.entries.append(_Entry(update, ONCE if once else 0, self._tick()))

    def discard(self, node_id: NodeId) -> None:
        self.entries = [entry for entry in self.entries if entry.update.node_id != node_id]

    def take(self, bytes_max: int, transmit_limit: int, without: set[NodeId]) -> tuple[Member, ...]:
        self.entries = [entry for entry in self.entries if entry.times < transmit_limit or entry.times == ONCE]
        taken: list[_Entry] = []
        for entry in sorted(self.entries, key=lambda entry: (entry.times, entry.since)):
            if entry.update.node_id in without:
                continue
            if sum(len(wire.pack(one.update)) for one in [*taken, entry]) > bytes_max:
                break
            taken.append(entry)
        for entry in taken:
            entry.times += 1  # also past ONCE
            entry.since = self._tick()
        self.entries = [entry for entry in self.entries if entry.times < transmit_limit or entry.times == ONCE]
        return tuple(entry.update for entry in taken)

    def _tick(self) -> int:
        self._clock += 1
        return self._clock


class QueueAgainstNaiveQueue(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.queue = GossipQueue()
        self.naive = NaiveQueue()

    @rule(
        number=st.integers(1, 8),
        state=st.sampled_from(State),
        name=st.sampled_from(["short", "long" * 30]),
        once=st.booleans(),
    )
    def put(self, number: int, state: State, name: str, once: bool) -> None:
        update = member(number, state=state, name=name)
        self.queue.put(update, once=once)
        self.naive.put(update, once)

    @rule(number=st.integers(1, 8))
    def discard(self, number: int) -> None:
        self.queue.discard(NodeId(number))
        self.naive.discard(NodeId(number))

    @rule(
        bytes_max=st.integers(0, 600), transmit_limit=st.integers(1, 5), without=st.sets(st.integers(1, 8), max_size=2)
    )
    def take(self, bytes_max: int, transmit_limit: int, without: set[int]) -> None:
        left_out = {NodeId(number) for number in without}
        taken = self.queue.take(bytes_max=bytes_max, transmit_limit=transmit_limit, without=left_out)
        assert taken == self.naive.take(bytes_max, transmit_limit, left_out)
        assert sum(len(wire.pack(update)) for update in taken) <= bytes_max

    @invariant()
    def there_is_as_much_to_say(self) -> None:
        assert len(self.queue) == len(self.naive.entries)


TestQueueAgainstNaiveQueue = QueueAgainstNaiveQueue.TestCase


def test_an_update_is_transmitted_up_to_the_limit_and_then_forgotten() -> None:
    queue = GossipQueue()
    queue.put(member(1))
    heard = [queue.take(bytes_max=1000, transmit_limit=4) for _ in range(6)]
    assert heard == [(member(1),)] * 4 + [()] * 2
    assert len(queue) == 0


def test_a_newer_update_replaces_the_older_one_and_starts_anew() -> None:
    queue = GossipQueue()
    queue.put(member(1))
    queue.take(bytes_max=1000, transmit_limit=2)
    queue.put(member(1, state=State.SUSPECT))
    heard = [queue.take(bytes_max=1000, transmit_limit=2) for _ in range(3)]
    assert heard == [(member(1, state=State.SUSPECT),)] * 2 + [()]


def test_a_full_queue_gives_up_what_was_said_most_often() -> None:
    queue = GossipQueue()
    for number in range(1, gossip.UPDATES_MAX + 1):
        queue.put(member(number))
    (said,) = queue.take(bytes_max=record_bytes(member(1)), transmit_limit=99)
    queue.put(member(gossip.UPDATES_MAX + 1))
    assert len(queue) == gossip.UPDATES_MAX
    assert said == member(1)
    everything = queue.take(bytes_max=10**9, transmit_limit=99)
    assert said not in everything
    assert everything[-1] == member(gossip.UPDATES_MAX + 1)
