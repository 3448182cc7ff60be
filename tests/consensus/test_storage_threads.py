"""Asynchronous storage: batches that overlap, and what must wait for what."""

from consensus.messages import MessageKind, Role
from consensus.ready import Appended
from tests.consensus.group import Group, Member, add_voter, role_of


def begin_all(group: Group, member: Member) -> None:
    while group.begin(member):
        pass


def test_several_batches_are_under_way_at_a_time() -> None:
    group = Group(3, async_storage=True)
    leader = group.elect(1)
    for data in (b"a", b"b", b"c"):
        group.propose(1, data)
        begin_all(group, leader)
    assert [len(work.entries) for work in leader.to_write] == [1, 1, 1]
    group.settle()
    assert group[3].data() == [b"a", b"b", b"c"]


def test_an_acknowledgement_leaves_only_when_the_work_that_names_it_is_durable() -> None:
    group = Group(3, async_storage=True)
    group.elect(1)
    group.propose(1, b"a")
    group.settle(1)
    group.in_flight = [message for message in group.in_flight if message.to == 2]
    for message in group.in_flight:
        group.deliver(message)
    group.in_flight = []
    follower = group[2]
    begin_all(group, follower)
    while group.write(follower):
        pass
    assert not group.in_flight
    group.sync(follower)
    assert [message.kind for message in group.in_flight] == [MessageKind.APPEND_RESPONSE]


def test_only_what_storage_has_is_handed_out_for_application() -> None:
    group = Group(1, async_storage=True)
    leader = group.elect(1)
    group.add(2)
    group.change(1, add_voter(2))
    group.propose(1, b"a")
    begin_all(group, leader)
    group.settle(2)
    for message in [message for message in group.in_flight if message.to == 1]:
        group.deliver(message)
    begin_all(group, leader)
    assert not leader.to_apply, "it is not even on this node's own disk"
    group.settle()
    assert leader.data() == [b"a"]


def test_a_candidate_leads_only_once_its_own_vote_is_on_disk() -> None:
    """Else it could crash, forget the term, and lead it a second time with another log."""
    group = Group(3, async_storage=True)
    candidate = group[1]
    candidate.raft.campaign(group.now)
    begin_all(group, candidate)
    group.settle(2, 3)
    for message in group.in_flight:
        group.deliver(message)
    group.in_flight = []
    assert role_of(candidate.raft) is Role.CANDIDATE
    group.work(1)
    assert role_of(candidate.raft) is Role.LEADER


def test_a_vote_for_an_earlier_life_in_the_same_term_does_not_count() -> None:
    """It was given to the log of then, of which the end was not durable."""
    group = Group(3, async_storage=True)
    group[1].raft.campaign(group.now)
    begin_all(group, group[1])
    group.settle(2, 3)
    votes, group.in_flight = group.in_flight, []
    assert {message.kind for message in votes} == {MessageKind.VOTE_RESPONSE}
    term = group[1].raft.term
    group.crash(1)
    group.work(1)
    group[1].raft.campaign(group.now)
    group.work(1)
    assert group[1].raft.term == term, "it forgot that it stood before"
    for message in votes:
        group.deliver(message)
    group.work(1)
    assert role_of(group[1].raft) is Role.CANDIDATE
    group.settle()
    assert role_of(group[1].raft) is Role.LEADER


def test_what_was_appended_in_an_earlier_term_is_not_taken_for_stable() -> None:
    """The entries may have been replaced by others of the same index since."""
    group = Group(3, async_storage=True)
    leader = group.elect(1)
    group.propose(1, b"lost")
    begin_all(group, leader)
    (work,) = leader.to_write
    (done,) = [response for response in work.responses if isinstance(response, Appended)]
    group.in_flight = []
    group.elect(2)
    stable = leader.raft._core.log.offset
    leader.raft.stored(done, group.now)
    assert leader.raft._core.log.offset == stable
