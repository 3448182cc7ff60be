"""Snapshots in the core (Raft paper 7), with logs in memory."""

import random

import pytest

from consensus.config import RaftConfig
from consensus.memory import MemoryLog
from consensus.messages import Configuration, Entry, HardState, Message, MessageKind, Role, Snapshot
from consensus.progress import ProgressState
from consensus.raft import Raft
from tests.consensus.group import role_of

BOTH = Configuration(voters=(1, 2), learners=(3,))
BASE = Snapshot(index=5, term=1, configuration=BOTH, data=b"base")


class Node:
    """A core over a log in memory."""

    def __init__(self, node: int, snapshot: Snapshot | None = None) -> None:
        self.log = MemoryLog(snapshot)
        if snapshot:
            self.log.set_hard_state(HardState(1, 0, snapshot.index))
        config = RaftConfig(id=node, pre_vote=False, check_quorum=False)
        self.raft = Raft(config, self.log, now=0.0, rng=random.Random(node))
        self.installed: list[Snapshot] = []

    def work(self) -> list[Message]:
        sent: list[Message] = []
        while (ready := self.raft.ready()) is not None:
            if ready.snapshot:
                assert ready.committed_entries == ()
                self.log.install(ready.snapshot)
                self.installed.append(ready.snapshot)
            if ready.hard_state:
                self.log.set_hard_state(ready.hard_state)
            self.log.append(ready.entries)
            sent += [*ready.messages, *ready.messages_after_sync]
            self.raft.advance()
        return sent


def exchange(*nodes: Node) -> None:
    """Work and deliver until nothing is left."""
    by_id = {node.raft.id: node for node in nodes}
    while messages := [message for node in nodes for message in node.work()]:
        for message in messages:
            if message.to in by_id:
                by_id[message.to].raft.receive(message, 0.0)


@pytest.fixture
def leader() -> Node:
    """Node 1, leading term 2 with the help of node 2, and compacted up to its last entry. Learner 3 was never there."""
    nodes = [Node(1, BASE), Node(2, BASE)]
    nodes[0].raft.campaign(0.0)
    exchange(*nodes)
    nodes[0].raft.propose(b"a")
    exchange(*nodes)
    log = nodes[0].log
    log.record_snapshot(Snapshot(log.last_index(), 2, BOTH, b"base+a"))
    log.compact(log.last_index())
    return nodes[0]


def test_a_follower_behind_the_log_gets_a_snapshot_and_then_the_entries(leader: Node) -> None:
    follower = Node(3)
    leader.raft.wake(100.0)
    exchange(leader, follower)
    assert [snapshot.data for snapshot in follower.installed] == [b"base+a"]
    assert follower.raft.configuration == BOTH
    assert follower.raft.applied_index == follower.raft.commit_index == leader.raft.last_index
    leader.raft.propose(b"b")
    exchange(leader, follower)
    assert follower.log.entries(8, 9)[0].data == b"b"
    assert leader.raft.progress[3].state is ProgressState.REPLICATE


def test_no_snapshot_goes_to_a_node_that_has_not_been_heard_of(leader: Node) -> None:
    leader.raft.propose(b"b")
    messages = leader.work()
    assert [message.to for message in messages if message.entries] == [2]
    assert not [message for message in messages if message.kind is MessageKind.SNAPSHOT]


@pytest.mark.parametrize("delivered", [True, False])
def test_after_a_snapshot_the_leader_waits_for_a_sign(leader: Node, delivered: bool) -> None:
    peer = leader.raft._core.tracker.progress[2]
    peer.become_snapshot(7)
    leader.raft.report_snapshot(9, delivered=True)
    leader.raft.report_snapshot(2, delivered=delivered)
    assert (peer.state, peer.paused) == (ProgressState.PROBE, True)
    assert peer.next == 8
    leader.raft.report_snapshot(2, delivered=True)
    assert peer.state is ProgressState.PROBE


def test_a_failed_snapshot_is_sent_again(leader: Node) -> None:
    peer = leader.raft._core.tracker.progress[2]
    peer.match = 0
    peer.become_snapshot(7)
    leader.raft.report_snapshot(2, delivered=False)
    assert peer.next == 1


def receive(follower: Node, snapshot: Snapshot) -> Message:
    follower.raft.receive(Message(MessageKind.SNAPSHOT, to=2, sender=1, term=3, snapshot=snapshot), 0.0)
    return follower.work()[-1]


def test_an_old_snapshot_changes_nothing() -> None:
    follower = Node(2, BASE)
    answer = receive(follower, Snapshot(4, 1, BOTH))
    assert (answer.index, follower.installed) == (5, [])


def test_a_snapshot_of_a_group_that_one_is_not_in_changes_nothing() -> None:
    follower = Node(2, BASE)
    answer = receive(follower, Snapshot(9, 2, Configuration(voters=(1, 3))))
    assert (answer.index, follower.installed) == (5, [])


def test_a_snapshot_of_what_the_log_has_only_raises_the_commit_index() -> None:
    """Raft paper, figure 13: retain the log entries that follow."""
    follower = Node(2, BASE)
    entries = (Entry(2, 6), Entry(2, 7))
    follower.raft.receive(
        Message(MessageKind.APPEND, to=2, sender=1, term=2, index=5, log_term=1, entries=entries), 0.0
    )
    follower.work()
    answer = receive(follower, Snapshot(6, 2, BOTH))
    assert (answer.index, follower.installed) == (6, [])
    assert follower.raft.last_index == 7


def test_nobody_stands_for_election_before_its_snapshot_is_stored() -> None:
    follower = Node(2, BASE)
    snapshot = Snapshot(9, 2, BOTH)
    follower.raft.receive(Message(MessageKind.SNAPSHOT, to=2, sender=1, term=3, snapshot=snapshot), 0.0)
    assert follower.raft.next_deadline is None
    follower.raft.campaign(0.0)
    assert role_of(follower.raft) is Role.FOLLOWER
    # What follows the snapshot is taken in before it is stored.
    follower.raft.receive(
        Message(MessageKind.APPEND, to=2, sender=1, term=3, index=9, log_term=2, entries=(Entry(3, 10),), commit=10),
        0.0,
    )
    follower.work()
    assert (follower.raft.applied_index, follower.raft.last_index) == (10, 10)
    follower.raft.campaign(0.0)
    assert role_of(follower.raft) is Role.CANDIDATE


def test_a_core_starts_behind_what_the_application_has_applied() -> None:
    log = MemoryLog(BASE)
    log.append([Entry(2, 6, data=b"a"), Entry(2, 7, data=b"b")])
    log.set_hard_state(HardState(2, 0, 7))
    raft = Raft(RaftConfig(id=1), log, now=0.0, rng=random.Random(1), applied=6)
    ready = raft.ready()
    assert ready is not None
    assert [entry.index for entry in ready.committed_entries] == [7]
