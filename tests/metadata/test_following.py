"""Nodes outside the Raft group: what they are told is what was agreed on, in order, whoever tells it."""

import math
import random
from collections import deque
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode import wire
from meshnode.identity import Address, Boot, MeshId, NodeId
from meshnode.metadata.commands import Found, Register
from meshnode.metadata.feeding import BEAT_S, FOLLOWERS_MAX, PART_BYTES, PATIENCE_S, WINDOW_BYTES, Feeder
from meshnode.metadata.following import LEADERLESS_S, PAUSE_MAX_S, SILENT_S, Follower
from meshnode.metadata.history import ENTRY_BYTES, Applied, History
from meshnode.metadata.relayed import Agreed, Declined, Follow, News, Obstacle, StatePart, Taken, Unfollow
from meshnode.metadata.state import Metadata, Outcome

LEADER = NodeId(1)
MESH = MeshId(bytes(16))


def register(number: int, boot: int = 1, name: str = "") -> bytes:
    return wire.encode(Register(NodeId(number), Boot(boot), name or f"n{number}", Address("127.0.0.1", 7946)))


@dataclass
class Site:
    """A node: its metadata, and both its sides."""

    number: int
    others: list[NodeId]
    bytes_max: int = 2**20
    is_member: bool = False
    leader: NodeId = LEADER
    metadata: Metadata = field(default_factory=Metadata)

    def __post_init__(self) -> None:
        self.history = History(self.metadata, bytes_max=self.bytes_max)
        self.feeder = Feeder(self.history, lambda: b"".join(self.metadata.freeze()()))
        rng = random.Random(self.number)
        self.follower = Follower(
            self.me, self.history, lambda image: self.metadata.restore([image])(), lambda: self.others, rng
        )

    @property
    def me(self) -> NodeId:
        return NodeId(self.number)

    @property
    def news(self) -> News:
        if self.is_member:
            return News(self.leader, 1, (LEADER,), (), (self.me,))
        return replace(self.follower.news, path=(*self.follower.news.path, self.me))

    def receive(self, peer: NodeId, message: object, now: float) -> list[tuple[NodeId, object]]:
        match message:
            case Agreed() | StatePart() | Declined():
                return self.follower.receive(peer, message, now)
            case Follow():
                return self.feeder.follow(peer, message, self.news, now)
            case Taken():
                self.feeder.taken(peer, message, now)
            case Unfollow():
                self.feeder.left(peer, message.stream)
        return []

    def pump(self, now: float) -> list[tuple[NodeId, object]]:
        outgoing = [] if self.is_member else self.follower.seek(now)
        outgoing += self.feeder.pump(self.news, now)
        assert self.feeder.next_deadline > now, "who sleeps until then would look all the time"
        return outgoing

    def state(self) -> tuple[object, ...]:
        return self.metadata.founding, self.metadata.version, self.metadata.nodes


class Network:
    """Sites, and messages between them that arrive in the order of each pair, or not at all."""

    def __init__(self, *sites: Site) -> None:
        self.now = 0.0
        self.sites = {site.me: site for site in sites}
        self.down: set[NodeId] = set()
        self.queues: dict[tuple[NodeId, NodeId], deque[object]] = {}
        self.sent: list[object] = []

    def send(self, sender: NodeId, outgoing: list[tuple[NodeId, object]]) -> None:
        for peer, message in outgoing:
            assert wire.decode(wire.encode(message)) == message
            self.sent.append(message)
            if peer in self.down:
                self.sites[sender].follower.lost(peer, self.now)
                self.sites[sender].feeder.left(peer)
            elif sender not in self.down:
                self.queues.setdefault((sender, peer), deque()).append(message)

    def deliver(self) -> None:
        """Everything that is under way, and what it leads to at once."""
        for _ in range(1000):
            for site in self.sites.values():
                if site.me not in self.down:
                    self.send(site.me, site.pump(self.now))
            pending = [(pair, queue.popleft()) for pair, queue in self.queues.items() if queue]
            if not pending:
                return
            for (sender, peer), message in pending:
                if peer not in self.down:
                    self.send(peer, self.sites[peer].receive(sender, message, self.now))
        raise AssertionError("they never rest")

    def cut(self, one: NodeId, other: NodeId) -> None:
        """The connection ends, with what is under way."""
        for pair in ((one, other), (other, one)):
            self.queues.pop(pair, None)
        for here, there in ((one, other), (other, one)):
            self.sites[here].follower.lost(there, self.now)
            self.sites[here].feeder.left(there)

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.deliver()
            self.now += 0.25
        self.deliver()


def member(commands: int = 0, *, bytes_max: int = 2**20) -> Site:
    site = Site(1, [], bytes_max, is_member=True)
    site.history.apply(1, wire.encode(Found(MESH, 4, 3)))
    for number in range(commands):
        site.history.apply(2 + number, register(number + 1))
    return site


def followers(count: int, *, known: int, bytes_max: int = 2**20) -> list[Site]:
    everybody = [NodeId(number) for number in range(1, known + 1)]
    numbers = range(2, count + 2)
    return [Site(number, [node for node in everybody if node != number], bytes_max) for number in numbers]


def test_a_node_follows_and_is_told_everything_in_order() -> None:
    leader, (follower,) = member(5), followers(1, known=1)
    network = Network(leader, follower)
    network.run(1.0)
    assert follower.state() == leader.state()
    leader.history.apply(20, register(7))
    network.deliver()
    assert follower.history.position == 20
    assert follower.state() == leader.state()
    assert follower.news == News(LEADER, 1, (LEADER,), (), (leader.me, follower.me))


def test_nothing_but_a_beat_a_second_is_sent_while_nothing_is_agreed_on() -> None:
    leader, (follower,) = member(5), followers(1, known=1)
    network = Network(leader, follower)
    network.run(1.0)
    network.sent.clear()
    network.run(10 * BEAT_S)
    assert len(network.sent) <= 22


def test_a_node_that_is_too_far_behind_takes_the_whole_state() -> None:
    leader, (follower,) = member(2000, bytes_max=2**14), followers(1, known=1)
    network = Network(leader, follower)
    network.run(0.25)
    parts = [message for message in network.sent if isinstance(message, StatePart)]
    assert len(parts) == math.ceil(parts[0].total / PART_BYTES)
    assert follower.state() == leader.state()
    leader.history.apply(3000, register(7, boot=2))
    network.deliver()
    assert follower.state() == leader.state()


def test_no_more_is_under_way_than_the_window() -> None:
    leader, (follower,) = member(4000), followers(1, known=1)
    sent = leader.receive(follower.me, Follow(9, 0, 0), 0.0)
    commands = [command for _, message in sent if isinstance(message, Agreed) for command in message.commands]
    assert WINDOW_BYTES <= sum(ENTRY_BYTES + len(data) for _, data in commands) < 2 * WINDOW_BYTES
    assert leader.pump(0.5) == []
    first = sent[0][1]
    assert isinstance(first, Agreed)
    leader.receive(follower.me, Taken(9, first.position), 0.5)
    assert leader.pump(0.5)


def test_a_follower_that_says_nothing_is_given_up() -> None:
    leader = member(5)
    leader.receive(NodeId(2), Follow(9, 0, 0), 0.0)
    assert len(leader.feeder) == 1
    leader.pump(PATIENCE_S)
    assert len(leader.feeder) == 0


def test_a_follower_that_is_slow_to_take_its_state_is_waited_for_and_then_given_up() -> None:
    leader = member(2000, bytes_max=2**14)
    sent = leader.receive(NodeId(2), Follow(9, 0, 0), 0.0)
    assert [type(message) for _, message in sent] == [StatePart]
    for now in (BEAT_S, 2 * BEAT_S):
        assert leader.pump(now) == []
        assert leader.feeder.next_deadline == PATIENCE_S
    leader.pump(PATIENCE_S)
    assert len(leader.feeder) == 0


def test_a_silent_source_is_left_for_another_one() -> None:
    leader, first, second = member(5), *followers(2, known=3)
    network = Network(leader, first, second)
    network.run(2.0)
    (source,) = {first.follower.source, second.follower.source} - {leader.me} or {leader.me}
    network.sites[source].feeder = Feeder(network.sites[source].history, bytes)  # it has forgotten everybody
    network.run(SILENT_S + 2 * PAUSE_MAX_S)
    leader.history.apply(20, register(7))
    network.run(2.0)
    assert first.state() == second.state() == leader.state()


def test_a_source_that_hears_from_no_leader_is_left_after_a_while_but_not_forgotten() -> None:
    leader, (follower,) = member(5), followers(1, known=1)
    leader.leader = NodeId(0)
    network = Network(leader, follower)
    network.run(1.0)
    assert follower.state() == leader.state(), "what is agreed on is agreed on"
    assert not follower.follower.hears_of_leader
    asked = len([message for message in network.sent if isinstance(message, Follow)])
    network.run(2 * LEADERLESS_S)
    assert len([message for message in network.sent if isinstance(message, Follow)]) > asked


def test_a_node_that_is_taken_for_the_leader_that_it_was_once_hears_of_none() -> None:
    leader, one, other = member(5), *followers(2, known=1)
    leader.leader = one.me
    network = Network(leader, one, other)
    network.run(1.0)
    assert (one.follower.hears_of_leader, other.follower.hears_of_leader) == (False, True)
    network.run(2 * LEADERLESS_S)
    asked = [message for message in network.sent if isinstance(message, Follow)]
    assert len(asked) > 2, "it looks for one that knows better"


def test_nobody_follows_itself_by_way_of_others() -> None:
    leader, *chain = member(5), *followers(3, known=4)
    network = Network(leader, *chain)
    network.run(2.0)
    network.down.add(leader.me)
    for site in chain:
        network.cut(leader.me, site.me)
    network.run(60.0)
    assert not any(site.follower.hears_of_leader for site in chain), "the last news of the leader goes round in circles"


def test_a_node_is_followed_by_few_and_sends_the_others_on_to_them() -> None:
    leader = member(1)
    for number in range(FOLLOWERS_MAX):
        leader.receive(NodeId(100 + number), Follow(9, 0, 0), 0.0)
    ((_, declined),) = leader.receive(NodeId(2), Follow(9, 0, 0), 0.0)
    assert isinstance(declined, Declined)
    assert declined.obstacle is Obstacle.FULL
    assert set(declined.others) == {NodeId(100 + number) for number in range(FOLLOWERS_MAX)}


def test_a_hundred_nodes_make_a_tree() -> None:
    leader, many = member(5), followers(100, known=101)
    network = Network(leader, *many)
    network.run(30.0)
    leader.history.apply(20, register(7))
    network.run(1.0)
    assert all(site.state() == leader.state() for site in many)
    assert max(len(site.feeder) for site in network.sites.values()) <= FOLLOWERS_MAX


def test_what_is_not_the_next_is_not_applied() -> None:
    leader, (follower,) = member(5), followers(1, known=1)
    network = Network(leader, follower)
    network.run(1.0)
    before, stream = follower.state(), follower.follower._stream
    gap = Agreed(stream, 0, leader.news, 50, 51, ((51, register(8)),))
    ((_, answer),) = follower.receive(leader.me, gap, network.now)
    assert answer == Unfollow(stream)
    stranger = Agreed(stream + 1, 0, leader.news, 6, 7, ((7, register(8)),))
    assert follower.receive(leader.me, stranger, network.now) == [(leader.me, Unfollow(stream + 1))]
    assert follower.state() == before


def test_of_an_older_generation_nothing_is_taken_and_of_a_newer_one_everything_anew() -> None:
    leader, (follower,) = member(5), followers(1, known=1)
    network = Network(leader, follower)
    network.run(1.0)
    recovered = member(3)
    recovered.metadata.generation = 1
    network.sites[leader.me] = recovered
    network.run(SILENT_S + PAUSE_MAX_S)
    assert follower.state() == recovered.state()
    assert (follower.metadata.generation, follower.history.position) == (1, recovered.history.position)
    network.sites[leader.me] = leader
    network.run(SILENT_S + PAUSE_MAX_S)
    assert follower.state() == recovered.state()
    assert leader.feeder.follow(follower.me, Follow(1, 1, 4), leader.news, 0.0)[0][1] == Declined(
        1, Obstacle.OLD, (LEADER, LEADER)
    )


def test_a_command_that_came_by_another_way_is_not_carried_out_again() -> None:
    history = History(Metadata())
    for _ in range(2):
        assert history.apply(1, wire.encode(Found(MESH, 4, 3))) == Applied(1, Outcome.DONE), "and not: stale"


def test_a_state_that_is_older_by_the_time_it_is_there_is_not_taken_back_to() -> None:
    leader, (follower,) = member(5), followers(1, known=1)
    network = Network(leader, follower)
    network.run(1.0)
    before, stream, frozen = follower.state(), follower.follower._stream, b"".join(member(2).metadata.freeze()())
    ((_, answer),) = follower.receive(leader.me, StatePart(stream, 0, 3, 0, len(frozen), frozen), network.now)
    assert answer == Taken(stream, 3, len(frozen))
    assert follower.state() == before
    assert follower.history.position == leader.history.position


def cut(image: bytes, size: int) -> list[bytes]:
    return [image[at : at + size] for at in range(0, len(image), size)]


@pytest.mark.parametrize("size", [1, 3, 8, 2**16])
def test_a_snapshot_of_the_log_says_where_it_is_and_never_takes_a_node_back(size: int) -> None:
    leader, late = member(5), Site(2, [])
    image = b"".join(leader.history.freeze()())
    install = late.history.restore(cut(image, size))
    assert late.history.position == 0
    install()
    assert (late.history.position, late.state()) == (6, leader.state())
    leader.history.apply(7, register(7))
    late.history.apply(7, register(7))
    late.history.restore(cut(image, size))()
    assert (late.history.position, late.state()) == (7, leader.state())
    with pytest.raises(wire.WireError):
        late.history.restore([image[:5]])


KINDS = st.sampled_from(["agree", "cut", "crash", "wait", "deliver"])
STEPS = st.lists(st.tuples(KINDS, st.integers(1, 6), st.integers(1, 6)), max_size=40)


@settings(max_examples=60, deadline=None)
@given(STEPS, st.sampled_from([2**10, 2**20]))
def test_whatever_is_lost_everybody_ends_with_what_was_agreed_on(
    steps: list[tuple[str, int, int]], bytes_max: int
) -> None:
    leader = member(3, bytes_max=bytes_max)
    network = Network(leader, *followers(5, known=6, bytes_max=bytes_max))
    agreed = dict.fromkeys(range(1, 5))
    for what, one, other in steps:
        match what:
            case "agree":
                for _ in range(one):
                    index = leader.history.position + other
                    agreed[index] = None
                    leader.history.apply(index, register(one, boot=index))
            case "cut" if one != other:
                network.cut(NodeId(one), NodeId(other))
            case "crash" if one > 1:
                network.sites[NodeId(one)] = Site(one, network.sites[NodeId(one)].others, bytes_max)
                for peer in network.sites:
                    if peer != one:
                        network.cut(NodeId(one), peer)
            case "wait":
                network.run(one * 0.5)
            case _:
                network.deliver()
        for site in network.sites.values():
            assert site.history.position in {0, *agreed}, "between two commands"
    network.run(40.0)
    assert all(site.state() == leader.state() for site in network.sites.values())
