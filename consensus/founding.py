"""The first entries of a new group."""

from collections.abc import Sequence

from consensus.messages import ChangeKind, ConfChange, Entry, HardState
from consensus.reconfiguration import encode_change


def founding(voters: Sequence[int]) -> tuple[HardState, tuple[Entry, ...]]:
    """What a founder writes to its empty log before it starts: `log.append(*founding([1]))`, and `log.sync()`.

    The configuration is in the log from its first entry on, so that nodes which join with nothing learn all of it from
    there. With several founders, each writes the same.

    Args:
        voters: the ids of the founders, none twice; usually one.

    Returns:
        A hard state and entries of term 1, one for each founder, committed from the start.
    """
    if not voters or len(set(voters)) != len(voters):
        raise ValueError(f"the founders are {list(voters)}: name at least one node, and none twice")
    entries = []
    for index, voter in enumerate(voters, start=1):
        kind, data = encode_change(ConfChange(ChangeKind.ADD_VOTER, voter))
        entries.append(Entry(term=1, index=index, kind=kind, data=data))
    return HardState(term=1, commit=len(entries)), tuple(entries)
