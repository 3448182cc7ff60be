"""What the nodes of a group send, and what they keep in the log.

Nobody changes a value of any type here. Those that a node makes by the thousand are not frozen all the same, since to
make a frozen one takes three to four times as long. And most have an `__init__` of their own: mypyc compiles it, but
not the one that `dataclass` would make, which then takes five times as long. (Compiled, one can be copied by
`dataclasses.replace` and not by `copy`.) `consensus.codec` and `consensus.entries` say what they are as bytes. The
numbers of the enums are the format: they never change their meaning.

A node id is an int from 1 to 2**63 - 1; 0 stands for no node. Terms and indexes start at 1; 0 is before the first.
"""

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, TypeAlias

NO_NODE: Final = 0
NODE_ID_MAX: Final = 2**63 - 1


class EntryKind(IntEnum):
    """What an entry's data is."""

    NORMAL = 0
    """The application's bytes, or nothing: the entry with which a leader begins its term."""
    CHANGE = 1
    """An encoded `ConfChange`."""
    CHANGE_SET = 2
    """An encoded `ConfChangeSet`. No data at all means to leave a joint configuration."""


@dataclass(slots=True, unsafe_hash=True, init=False)
class Entry:
    """One place in the log.

    Attributes:
        encoded: the whole entry as bytes, once somebody asked `consensus.entries` for them.
    """

    term: int
    index: int
    kind: EntryKind
    data: bytes
    encoded: bytes | None = field(init=False, repr=False, compare=False)

    def __init__(self, term: int, index: int, kind: EntryKind = EntryKind.NORMAL, data: bytes = b"") -> None:
        self.term = term
        self.index = index
        self.kind = kind
        self.data = data
        self.encoded = None


@dataclass(slots=True, unsafe_hash=True, init=False)
class HardState:
    """What a node must find again after a restart, beside its entries (Raft paper, figure 2).

    Attributes:
        term: the latest term that the node has seen.
        vote: for whom it voted in that term; 0 for nobody.
        commit: a lower bound of the committed index. It may be lost in a crash, term and vote may not.
    """

    term: int
    vote: int
    commit: int

    def __init__(self, term: int = 0, vote: int = NO_NODE, commit: int = 0) -> None:
        self.term = term
        self.vote = vote
        self.commit = commit


class Role(IntEnum):
    """A node's part in its term."""

    FOLLOWER = 0
    PRE_CANDIDATE = 1
    CANDIDATE = 2
    LEADER = 3


@dataclass(frozen=True, slots=True)
class SoftState:
    """What an observer wants to know and nobody needs to store."""

    leader: int
    role: Role


@dataclass(frozen=True, slots=True)
class Configuration:
    """Who belongs to the group. The tuples are sorted and hold no id twice.

    Attributes:
        voters: the nodes whose majority decides.
        voters_outgoing: in a joint configuration, the voters before the change: their majority is needed as well.
        learners: nodes that receive the log and have no vote.
        learners_next: nodes in `voters_outgoing` that become learners when the joint configuration is left.
        auto_leave: the leader leaves the joint configuration on its own as soon as it is in force.
    """

    voters: tuple[int, ...] = ()
    voters_outgoing: tuple[int, ...] = ()
    learners: tuple[int, ...] = ()
    learners_next: tuple[int, ...] = ()
    auto_leave: bool = False

    @property
    def is_joint(self) -> bool:
        return bool(self.voters_outgoing)

    @property
    def electorate(self) -> tuple[int, ...]:
        """All voters, incoming and outgoing, sorted."""
        if not self.voters_outgoing:
            return self.voters
        return tuple(sorted({*self.voters, *self.voters_outgoing}))

    @property
    def members(self) -> tuple[int, ...]:
        """Every node that the leader sends the log to, itself included, sorted."""
        return tuple(sorted({*self.voters, *self.voters_outgoing, *self.learners}))


class ChangeKind(IntEnum):
    """What a change does to one node."""

    ADD_VOTER = 0
    """Add the node as a voter, or promote a learner."""
    REMOVE = 1
    TOUCH = 2
    """Change nothing: an entry by which the application passes `context` along with the changes."""
    ADD_LEARNER = 3
    """Add the node as a learner, or demote a voter."""


@dataclass(frozen=True, slots=True)
class ConfChange:
    """One change of one node.

    Attributes:
        kind: what to do.
        node: with whom. 0 does nothing.
        context: bytes for the application, carried and not interpreted.

    Raises:
        ValueError: the node is none.
    """

    kind: ChangeKind
    node: int
    context: bytes = b""

    def __post_init__(self) -> None:
        if not 0 <= self.node <= NODE_ID_MAX:
            raise ValueError(f"{self.node} is no node id: choose a number from 1 to 2**63 - 1")


class Transition(IntEnum):
    """How a set of changes takes effect (thesis 4.3)."""

    AUTO = 0
    """At once if at most one voter changes by a single change, else as JOINT_IMPLICIT."""
    JOINT_IMPLICIT = 1
    """Through a joint configuration that the leader leaves on its own."""
    JOINT_EXPLICIT = 2
    """Into a joint configuration that an empty `ConfChangeSet` leaves."""


@dataclass(frozen=True, slots=True)
class ConfChangeSet:
    """Several changes that take effect together. Without changes and with AUTO, it leaves a joint configuration."""

    changes: tuple[ConfChange, ...] = ()
    transition: Transition = Transition.AUTO
    context: bytes = b""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of the application after the entry at `index`, in place of the log up to there.

    Attributes:
        data: the state itself; with a log on disk, what identifies the file that has it (`consensus.image`).
    """

    index: int = 0
    term: int = 0
    configuration: Configuration = Configuration()
    data: bytes = b""


@dataclass(slots=True, unsafe_hash=True)
class ReadState:
    """A read that was asked by this number may be answered once the index is applied."""

    request: int
    index: int


class MessageKind(IntEnum):
    """What a message asks or answers."""

    PROPOSE = 1
    APPEND = 2
    APPEND_RESPONSE = 3
    VOTE = 4
    VOTE_RESPONSE = 5
    PRE_VOTE = 6
    PRE_VOTE_RESPONSE = 7
    HEARTBEAT = 8
    HEARTBEAT_RESPONSE = 9
    SNAPSHOT = 10
    TRANSFER_LEADER = 11
    TIMEOUT_NOW = 12
    READ_INDEX = 13
    READ_INDEX_RESPONSE = 14


# In Python 3.11 a member that is looked up in its enum costs as much as ten calls. What happens with each message or
# entry uses these.
NORMAL: Final = EntryKind.NORMAL
FOLLOWER: Final = Role.FOLLOWER
LEADER: Final = Role.LEADER
APPEND: Final = MessageKind.APPEND
APPEND_RESPONSE: Final = MessageKind.APPEND_RESPONSE
HEARTBEAT: Final = MessageKind.HEARTBEAT
HEARTBEAT_RESPONSE: Final = MessageKind.HEARTBEAT_RESPONSE
READ_INDEX: Final = MessageKind.READ_INDEX
SNAPSHOT: Final = MessageKind.SNAPSHOT


@dataclass(slots=True, unsafe_hash=True, init=False)
class Message:
    """From one node to another. A field that its kind does not name is at its default.

    With its fields by name one takes up to seven times as long to make as without names (Python 3.11, not compiled):
    those of which each entry needs some are made by place.

    Attributes:
        term: the sender's term; 0 in PROPOSE, READ_INDEX and TRANSFER_LEADER, which any leader may take. In PRE_VOTE,
            and in its answer when granted, the term that the sender would stand in.
        index: APPEND: the entry before `entries`. Votes: the candidate's last entry. APPEND_RESPONSE: the last entry
            known to match; when rejected, the index that was asked for. READ_INDEX_RESPONSE: the read index.
        log_term: the term of the entry at `index`; in a rejected APPEND_RESPONSE, of the entry at `hint`; in a refused
            vote, of the entry at `commit`.
        entries: APPEND and PROPOSE.
        commit: APPEND and HEARTBEAT: the leader's commit index, as far as the receiver has it. Refused votes: the
            sender's commit index.
        reject: whether a response says no.
        hint: in a rejection, the highest index at which the two logs may agree.
        snapshot: SNAPSHOT.
        transfer: VOTE: the leader asked for this election, so do not hold on to it.
        round: HEARTBEAT: the leader's number of this round; its response repeats it.
        request: READ_INDEX and VOTE: the sender's number of the read, or of its candidacy; the response repeats it.
        lost: in a rejected APPEND_RESPONSE, the sender's disk has lost entries that it may have acknowledged.
    """

    kind: MessageKind
    to: int
    sender: int
    term: int
    index: int
    log_term: int
    entries: tuple[Entry, ...]
    commit: int
    reject: bool
    hint: int
    snapshot: Snapshot | None
    transfer: bool
    round: int
    request: int
    lost: bool

    def __init__(
        self,
        kind: MessageKind,
        to: int,
        sender: int,
        term: int = 0,
        index: int = 0,
        log_term: int = 0,
        entries: tuple[Entry, ...] = (),
        commit: int = 0,
        reject: bool = False,
        hint: int = 0,
        snapshot: Snapshot | None = None,
        transfer: bool = False,
        round: int = 0,  # noqa: A002 - as the field is called
        request: int = 0,
        lost: bool = False,
    ) -> None:
        self.kind = kind
        self.to = to
        self.sender = sender
        self.term = term
        self.index = index
        self.log_term = log_term
        self.entries = entries
        self.commit = commit
        self.reject = reject
        self.hint = hint
        self.snapshot = snapshot
        self.transfer = transfer
        self.round = round
        self.request = request
        self.lost = lost


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """Asks a node that sent a SNAPSHOT for a part of its image. Who asks decides how fast it goes, and where to resume.

    Attributes:
        index, image: of the snapshot: its index, and its data.
        offset: the byte of the file with which the part begins.
    """

    to: int
    sender: int
    index: int
    image: bytes
    offset: int


@dataclass(frozen=True, slots=True)
class ImagePart:
    """A part of the file with an image.

    Attributes:
        index, image, offset: as in the request.
        data: the bytes.
        checksum: CRC32C of `data`.
    """

    to: int
    sender: int
    index: int
    image: bytes
    offset: int
    data: bytes
    checksum: int


Packet: TypeAlias = Message | ImageRequest | ImagePart
"""All that nodes send to each other."""
