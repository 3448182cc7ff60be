"""Quorums against twins that try everything."""

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from consensus.quorum import (
    EVERYTHING,
    VoteResult,
    committed_index,
    joint_committed_index,
    joint_vote_result,
    majority,
    vote_result,
)

NODES = st.integers(1, 7)
VOTERS = st.sets(NODES)
ACKNOWLEDGED = st.dictionaries(NODES, st.integers(0, 9))
VOTES = st.dictionaries(NODES, st.booleans())


def every_majority(voters: set[int]) -> list[tuple[int, ...]]:
    return list(combinations(sorted(voters), majority(len(voters)))) if voters else [()]


def committed_by_trial(voters: set[int], acknowledged: dict[int, int]) -> int:
    """The best that any majority agrees on."""
    if not voters:
        return EVERYTHING
    return max(min(acknowledged.get(voter, 0) for voter in chosen) for chosen in every_majority(voters))


def vote_by_trial(voters: set[int], votes: dict[int, bool]) -> VoteResult:
    """Won if some majority said yes, lost if none can any more."""
    majorities = every_majority(voters)
    if any(all(votes.get(voter) is True for voter in chosen) for chosen in majorities):
        return VoteResult.WON
    if any(all(votes.get(voter) is not False for voter in chosen) for chosen in majorities):
        return VoteResult.PENDING
    return VoteResult.LOST


@given(VOTERS, ACKNOWLEDGED)
def test_the_committed_index_is_the_best_that_a_majority_has(voters: set[int], acknowledged: dict[int, int]) -> None:
    assert committed_index(voters, acknowledged) == committed_by_trial(voters, acknowledged)


@given(VOTERS, VOTES)
def test_a_vote_is_won_or_lost_as_soon_as_the_rest_cannot_matter(voters: set[int], votes: dict[int, bool]) -> None:
    assert vote_result(voters, votes) is vote_by_trial(voters, votes)


@given(VOTERS, VOTERS, ACKNOWLEDGED)
def test_a_joint_quorum_commits_what_both_halves_commit(
    incoming: set[int], outgoing: set[int], acknowledged: dict[int, int]
) -> None:
    both = min(committed_by_trial(incoming, acknowledged), committed_by_trial(outgoing, acknowledged))
    assert joint_committed_index(incoming, outgoing, acknowledged) == both
    assert joint_committed_index(outgoing, incoming, acknowledged) == both


@given(VOTERS, VOTERS, VOTES)
def test_a_joint_vote_needs_both_halves_and_is_lost_by_either(
    incoming: set[int], outgoing: set[int], votes: dict[int, bool]
) -> None:
    halves = {vote_by_trial(incoming, votes), vote_by_trial(outgoing, votes)}
    if VoteResult.LOST in halves:
        expected = VoteResult.LOST
    else:
        expected = VoteResult.WON if halves == {VoteResult.WON} else VoteResult.PENDING
    assert joint_vote_result(incoming, outgoing, votes) is expected
    assert joint_vote_result(outgoing, incoming, votes) is expected


@given(VOTERS.filter(bool))
def test_two_majorities_always_share_a_node(voters: set[int]) -> None:
    majorities = every_majority(voters)
    assert all(set(one) & set(other) for one in majorities for other in majorities)
