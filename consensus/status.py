"""What a node says of itself."""

from dataclasses import dataclass

from consensus.messages import Configuration, Role
from consensus.progress import ProgressState
from consensus.raft import Raft


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """What a leader knows of a member.

    Attributes:
        match: the highest index known to be on the member's disk.
        next: the index that is sent to it next.
        recent_active: whether it was heard of since the leader last checked its quorum.
    """

    node: int
    state: ProgressState
    match: int
    next: int
    is_learner: bool
    recent_active: bool


@dataclass(frozen=True, slots=True)
class Status:
    """A node at one moment.

    Attributes:
        running: whether the node has not stopped. After that, the rest says how it was at the end.
        leader: the leader of `term`, as far as the node knows; 0 for nobody.
        commit: the highest index known to be committed.
        applied: the highest index that the state machine has applied.
        stored: the highest index up to which the disk is known to have the log.
        configuration: the one in force here.
        progress: on the leader, each member; empty elsewhere.
        messages_dropped: messages that came when the inbox was full.
        messages_refused: messages that were malformed, from nobody known, or proposals that could not be taken.
        snapshot: the index of the latest snapshot, one that is being installed included.
        first: the index of the first entry that is still in the log.
        lost: whether the disk has lost entries that this node may have acknowledged, and no leader has given them back
            yet. Until then it does not stand for election.
        damage: the damage that was found on the disk, with file and offset; empty if none was that mattered.
    """

    id: int
    running: bool
    role: Role
    term: int
    leader: int
    commit: int
    applied: int
    stored: int
    configuration: Configuration
    progress: tuple[PeerStatus, ...]
    messages_dropped: int
    messages_refused: int
    snapshot: int = 0
    first: int = 1
    lost: bool = False
    damage: str = ""

    @property
    def voters(self) -> tuple[int, ...]:
        return self.configuration.voters

    @property
    def learners(self) -> tuple[int, ...]:
        return self.configuration.learners


def status_of(raft: Raft, *, running: bool, messages_dropped: int, messages_refused: int, damage: str = "") -> Status:
    """A core's status."""
    progress: tuple[PeerStatus, ...] = ()
    if raft.role is Role.LEADER:
        progress = tuple(
            PeerStatus(node, peer.state, peer.match, peer.next, peer.is_learner, peer.recent_active)
            for node, peer in raft.progress.items()
        )
    return Status(
        id=raft.id,
        running=running,
        role=raft.role,
        term=raft.term,
        leader=raft.leader,
        commit=raft.commit_index,
        applied=raft.applied_index,
        stored=raft.stored_index,
        configuration=raft.configuration,
        progress=progress,
        messages_dropped=messages_dropped,
        messages_refused=messages_refused,
        snapshot=raft.snapshot_index,
        first=raft.first_index,
        lost=raft.lost is not None,
        damage=damage,
    )
