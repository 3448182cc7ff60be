"""To whom a leader hands over whose disk hangs."""

import pytest

from consensus.core import Core
from consensus.messages import NO_NODE
from tests.consensus.group import Group


@pytest.fixture
def group() -> Group:
    """Node 1 leads 2, 3 and 4, which have all that is committed. Its own disk has not."""
    group = Group(4)
    group.elect(1)
    group.propose(1, b"agreed on")
    group.settle()
    core = core_of(group)
    core.tracker.progress[1].match = core.log.committed - 1
    for node in (2, 3, 4):
        core.tracker.progress[node].recent_active = True
    return group


def core_of(group: Group) -> Core:
    return group[1].raft._core


def heirs(group: Group, count: int) -> list[int]:
    """Who is asked, one after the other, if none takes over."""
    core, found = core_of(group), []
    for _ in range(count):
        group[1].raft.hand_over(group.now)
        found.append(core.transferee)
        core.transferee = NO_NODE
    return found


def test_all_that_may_lead_are_asked_in_turns(group: Group) -> None:
    assert heirs(group, 7) == [4, 3, 2, 4, 3, 2, 4]


def test_one_is_asked_at_a_time(group: Group) -> None:
    group[1].raft.hand_over(group.now)
    group[1].raft.hand_over(group.now)
    assert core_of(group).transferee == 4
    assert heirs(group, 1) == [4]


def test_none_is_asked_where_the_others_do_not_agree_without_this_disk(group: Group) -> None:
    core = core_of(group)
    core.tracker.progress[1].match = core.log.committed
    assert heirs(group, 1) == [NO_NODE]


def test_one_that_lacks_what_is_committed_is_not_asked(group: Group) -> None:
    core = core_of(group)
    core.tracker.progress[4].match = core.log.committed - 1
    assert heirs(group, 3) == [3, 2, 3]


def test_one_that_has_no_vote_is_not_asked(group: Group) -> None:
    core_of(group).tracker.progress[4].is_learner = True
    assert heirs(group, 3) == [3, 2, 3]


def test_one_that_was_not_heard_of_is_asked_last(group: Group) -> None:
    core_of(group).tracker.progress[4].recent_active = False
    assert heirs(group, 4) == [3, 2, 4, 3]


def test_a_new_term_begins_anew(group: Group) -> None:
    assert heirs(group, 1) == [4]
    group.elect(2)
    group.elect(1)
    assert not core_of(group).heirs_tried


def test_only_a_leader_hands_over(group: Group) -> None:
    group.elect(2)
    group[1].raft.hand_over(group.now)
    assert core_of(group).transferee == NO_NODE
