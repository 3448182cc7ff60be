"""What a majority says, and what two majorities of a joint configuration say together.

Pure functions. A joint decision is the weaker of its halves, and an empty half agrees with everything, so that a
configuration that is not joint needs no case of its own.
"""

from collections.abc import Collection, Mapping
from enum import Enum
from typing import Final

EVERYTHING: Final = 2**64 - 1
"""What an empty set of voters commits: larger than any index, so that the other half of a joint quorum decides."""


class VoteResult(Enum):
    """The state of a vote."""

    PENDING = "pending"
    LOST = "lost"
    WON = "won"


def majority(voters: int) -> int:
    """How many of that many voters decide."""
    return voters // 2 + 1


def committed_index(voters: Collection[int], acknowledged: Mapping[int, int]) -> int:
    """The highest index that a majority of voters has acknowledged (Raft paper 5.3).

    Args:
        voters: node ids, none twice.
        acknowledged: the highest index that each node has acknowledged. Who is missing has acknowledged 0.
    """
    if not voters:
        return EVERYTHING
    indexes = sorted([acknowledged.get(voter, 0) for voter in voters])
    return indexes[len(indexes) - majority(len(indexes))]


def vote_result(voters: Collection[int], votes: Mapping[int, bool]) -> VoteResult:
    """Whether a majority of voters has said yes, or can no longer say yes.

    Args:
        voters: node ids, none twice.
        votes: what each node answered. Who is missing has not answered; who is no voter does not count.
    """
    granted = sum(1 for voter in voters if votes.get(voter) is True)
    pending = sum(1 for voter in voters if voter not in votes)
    needed = majority(len(voters)) if voters else 0
    if granted >= needed:
        return VoteResult.WON
    return VoteResult.PENDING if granted + pending >= needed else VoteResult.LOST


def joint_committed_index(incoming: Collection[int], outgoing: Collection[int], acknowledged: Mapping[int, int]) -> int:
    """The highest index that a majority of each half has acknowledged (thesis 4.3)."""
    return min(committed_index(incoming, acknowledged), committed_index(outgoing, acknowledged))


def joint_vote_result(incoming: Collection[int], outgoing: Collection[int], votes: Mapping[int, bool]) -> VoteResult:
    """Won when both halves have won, lost as soon as one has lost (thesis 4.3)."""
    results = (vote_result(incoming, votes), vote_result(outgoing, votes))
    if VoteResult.LOST in results:
        return VoteResult.LOST
    return VoteResult.PENDING if VoteResult.PENDING in results else VoteResult.WON
