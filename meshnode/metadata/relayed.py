"""What nodes tell each other of what was agreed on, beside what the members of the Raft group do."""

import enum
from dataclasses import dataclass

from meshnode import wire
from meshnode.identity import NodeId


@dataclass(frozen=True, slots=True)
class News:
    """What a node knows of the Raft group at this moment.

    Attributes:
        leader: 0 where it hears from none.
        path: by whom it came, from a member of the group to the node itself.
    """

    leader: NodeId = NodeId(0)
    term: int = 0
    voters: tuple[NodeId, ...] = ()
    learners: tuple[NodeId, ...] = ()
    path: tuple[NodeId, ...] = ()


@wire.message(0x48)
@dataclass(frozen=True, slots=True)
class Follow:
    """Asks for everything that is agreed on after a position. ``stream`` is a number of the asking node's."""

    stream: int
    generation: int
    position: int


@wire.message(0x49)
@dataclass(frozen=True, slots=True)
class Agreed:
    """Commands, in order, and news; only news where there is nothing else for a while.

    Attributes:
        after: the position that the first command follows.
        position: up to which these are all.
    """

    stream: int
    generation: int
    news: News
    after: int
    position: int
    commands: tuple[tuple[int, bytes], ...] = ()


@wire.message(0x4A)
@dataclass(frozen=True, slots=True)
class StatePart:
    """A part of all of the metadata at a position, for a node that is too far behind. Parts come in order."""

    stream: int
    generation: int
    position: int
    offset: int
    total: int
    part: bytes


@wire.message(0x4B)
@dataclass(frozen=True, slots=True)
class Taken:
    """The answer to each `Agreed` and `StatePart`: so much was taken, so that more may come.

    Attributes:
        offset: of a state, up to which it is there.
    """

    stream: int
    position: int
    offset: int = 0


class Obstacle(enum.Enum):
    """Why a node can't be followed."""

    FULL = 1
    """Enough follow it: ask one of those."""
    LOOP = 2
    """It follows the asking node itself, if by others."""
    IGNORANT = 3
    """It knows nothing yet."""
    OLD = 4
    """It is of an older generation than the asking node."""


@wire.message(0x4C)
@dataclass(frozen=True, slots=True)
class Declined:
    """The answer to a `Follow`, at once or later: look elsewhere, perhaps at these."""

    stream: int
    obstacle: Obstacle
    others: tuple[NodeId, ...] = ()


@wire.message(0x4D)
@dataclass(frozen=True, slots=True)
class Unfollow:
    """Send no more of this stream."""

    stream: int


@wire.message(0x4E)
@dataclass(frozen=True, slots=True)
class Propose:
    """A node outside the Raft group asks the leader to have a command agreed on; empty, to hear how far the log is."""

    number: int
    command: bytes


@wire.message(0x4F)
@dataclass(frozen=True, slots=True)
class Proposed:
    """The answer: agreed on, and applied, at this position; or, where ``code`` is not empty, an error."""

    number: int
    code: str = ""
    reason: str = ""
    position: int = 0
