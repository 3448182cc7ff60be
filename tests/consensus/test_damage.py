"""Nodes whose disks have lost entries that they had acknowledged (Alagappan et al., FAST 2018)."""

from typing import Any

import pytest

from consensus.errors import CorruptLog
from consensus.memory import Lost
from consensus.messages import EntryKind, Message, MessageKind, Role
from consensus.records import RecordScan
from tests.consensus.group import Group, Member, add_learner, cut, role_of

FIRST = "raft/00000001-00000000000000000001.log"


def grown(voters: int = 3, **settings: Any) -> Group:
    """A group whose leader is node 1 and in which everyone has applied five proposals."""
    group = Group(voters, **settings)
    group.elect(1)
    for number in range(5):
        group.propose(1, b"proposal %d" % number)
        group.settle()
    group.pass_time(0.2)
    group.settle()
    return group


def damage(member: Member, data: bytes) -> None:
    """Turn over a bit of an entry on a node's disk."""
    member.disk.turn_over(FIRST, data)


def damaged(node: int, data: bytes, **settings: Any) -> Group:
    group = grown(**settings)
    damage(group[node], data)
    group.crash(node, power=False)
    return group


def lost(group: Group, node: int) -> Lost | None:
    return group[node].raft.lost


def test_a_node_says_what_it_has_lost_and_its_peers_give_it_back() -> None:
    group = damaged(2, b"proposal 2")
    last = group[1].raft.last_index
    assert group[2].log.last_index() == last - 3
    assert lost(group, 2) == Lost(last, 2, 2)
    assert f"{FIRST} is damaged at byte" in str(group[2].log.damage)
    group.pass_time(0.2)
    group.settle()
    assert lost(group, 2) is None
    assert group[2].data() == group[1].data() == [b"proposal %d" % number for number in range(5)]
    group.crash(2)
    assert lost(group, 2) is None
    assert group[2].log.damage is None


@pytest.mark.parametrize("room", [1, 600, 1 << 17])
def test_damage_before_room_that_was_made_ahead_is_repaired_as_any_other(room: int) -> None:
    group = grown()
    damage(group[2], b"proposal 2")
    group[2].disk.bytes_of(FIRST).extend(bytes(room))
    group.crash(2, power=False)
    assert lost(group, 2) is not None
    group.pass_time(0.2)
    group.settle()
    assert lost(group, 2) is None


def test_the_last_record_written_to_the_place_of_another_one_is_not_taken_for_room() -> None:
    group = grown()
    for number in range(8):
        group.propose(1, b"and another %d" % number)
        group.settle()
    group[2].log.close()
    content = group[2].disk.bytes_of(FIRST)
    last = max(offset for offset, _ in RecordScan(group[2].disk.open(FIRST, create=False), FIRST))
    sector = last // 512 * 512
    assert sector > 1024, "there is a whole one between"
    content.extend(bytes(sector + 512 - len(content)))
    content[512:1024] = content[sector:]
    content[last:] = bytes(1000)
    with pytest.raises(CorruptLog, match=rf"also cut off at byte {last}"):
        group.crash(2, power=False)


def test_damage_before_a_record_that_was_not_written_whole_is_not() -> None:
    group = grown()
    damage(group[2], b"proposal 2")
    group[2].disk.bytes_of(FIRST).extend(bytes(600) + b"x")
    with pytest.raises(CorruptLog, match=r"also cut off at byte \d+"):
        group.crash(2, power=False)


def test_half_repaired_it_is_still_in_doubt_after_the_next_start() -> None:
    group = damaged(2, b"proposal 2", append_bytes_max=1, inflight_messages_max=1)
    had = lost(group, 2)
    group.pass_time(0.2)
    before = group[2].log.last_index()
    while group[2].raft.last_index == before:
        group.work(1)
        group.work(2)
        due, group.in_flight = group.in_flight, []
        for message in due:
            group.deliver(message)
    group.work(2)
    assert group[2].raft.last_index == before + 1
    group.crash(2)
    assert group[2].log.last_index() == before + 1
    assert lost(group, 2) == had


def test_in_a_term_of_which_the_leader_has_not_heard_it_says_so_and_is_not_left_alone() -> None:
    group = damaged(2, b"proposal 2", pre_vote=False, check_quorum=False)
    group[2].raft.receive(Message(MessageKind.VOTE, to=2, sender=3, term=9, index=1, log_term=1), group.now)
    group.work(2)
    group.in_flight.clear()  # nobody hears its answer
    for _ in range(30):
        group.pass_time(0.2)
        group.settle()
    assert lost(group, 2) is None
    assert group[2].data() == [b"proposal %d" % number for number in range(5)]


def test_it_does_not_stand_for_election() -> None:
    group = damaged(2, b"proposal 2")
    group.work(2)
    assert group[2].raft.configuration.electorate == (1, 2, 3)
    assert group[2].raft.next_deadline is None
    group[2].raft.campaign(group.now)
    group.pass_time(100.0, 2)
    group.settle(drop=cut(1, 3))
    assert role_of(group[2].raft) is Role.FOLLOWER
    assert group[2].raft.term == 2


def test_it_gives_no_vote_to_a_log_that_lacks_what_it_has_lost() -> None:
    """Node 3 never had the last entry, which is committed: nodes 1 and 2 had it, and 2 has lost it."""
    group = grown()
    group.propose(1, b"committed")
    group.settle(drop=cut(3))
    assert group[1].raft.commit_index == group[1].raft.last_index == group[3].raft.last_index + 1
    damage(group[2], b"committed")
    group.crash(2, power=False)
    group[3].raft.campaign(group.now)
    group.settle(drop=cut(1))
    assert role_of(group[3].raft) is not Role.LEADER
    group.crash(1)
    group.settle()
    group.elect(1)
    group.pass_time(0.2)
    group.settle()
    assert group[3].data() == group[2].data() == group[1].data()


def test_it_votes_for_a_log_that_has_what_it_has_lost() -> None:
    """Else a group of two could never repair it when the other one does not lead."""
    group = damaged(1, b"proposal 2", voters=2)
    assert role_of(group[1].raft) is Role.FOLLOWER
    group.elect(2)
    group.settle()
    assert lost(group, 1) is None
    assert group[1].data() == group[2].data()


def test_an_entry_of_a_later_term_makes_it_whole_however_short_the_log() -> None:
    """What it had beyond the leader's log was never committed."""
    group = grown()
    group.propose(1, b"never committed 1")
    group.propose(1, b"never committed 2")
    group.work(1)
    group.in_flight = []
    damage(group[1], b"proposal 4")
    group.crash(1, power=False)
    had = lost(group, 1)
    assert had is not None
    group.elect(2)
    group.settle()
    assert group[2].raft.last_index < had.index
    assert lost(group, 1) is None
    assert group[1].data() == group[2].data()


def test_a_leader_forgets_what_a_follower_had_and_its_commit_index_stays() -> None:
    group = damaged(2, b"proposal 2")
    commit = group[1].raft.commit_index
    assert group[1].raft.progress[2].match == commit
    group.pass_time(0.2)
    group.settle(2)  # node 2 answers the heartbeat
    group.settle(drop=lambda message: message.kind is MessageKind.APPEND)
    assert group[1].raft.progress[2].match == 0
    assert group[1].raft.commit_index == commit


def test_damage_that_a_later_batch_has_replaced_costs_nothing() -> None:
    group = grown()
    group.propose(1, b"in conflict")
    group.work(1)
    group.in_flight = []
    group.elect(2)
    damage(group[1], b"in conflict")
    group.crash(1, power=False)
    assert lost(group, 1) is None
    assert group[1].log.damage is None
    assert group[1].log.last_index() == group[2].log.last_index()


def test_term_and_vote_survive_damage_to_the_batch_that_brought_them() -> None:
    group = grown()
    group.propose(1, b"the last")
    group.settle()
    damage(group[3], b"the last")
    before = group[3].raft._core.hard_state
    group.crash(3, power=False)
    assert lost(group, 3) is not None
    assert group[3].raft._core.hard_state.term == before.term
    assert group[3].raft._core.hard_state.vote == before.vote


def test_without_a_record_that_says_how_it_voted_it_refuses_to_start() -> None:
    """The last record has the vote, and is damaged there."""
    group = grown()
    group.elect(2)
    group[3].log.close()
    member = group[3]
    content = member.disk.bytes_of(FIRST)
    content[-2] ^= 1
    size = 57 + 4 + 1 + 28  # of a batch without entries, with its header and trailer
    content[-size + 40] ^= 1
    with pytest.raises(CorruptLog, match=rf"{FIRST} is damaged at byte \d+.*for whom the node voted.*empty data"):
        group.crash(3, power=False)


def test_changes_of_the_configuration_are_lost_and_come_back_too() -> None:
    group = grown()
    group.add(4)
    group.change(1, add_learner(4))
    group.settle()
    content = group[2].disk.bytes_of(FIRST)
    change = next(entry for entry in group[1].entries() if entry.kind is not EntryKind.NORMAL and entry.index > 3)
    place = content.rindex(change.data)
    content[place] ^= 1
    group.crash(2, power=False)
    assert not group[2].raft.configuration.learners
    group.pass_time(0.2)
    group.settle()
    assert group[2].raft.configuration.learners == (4,)
