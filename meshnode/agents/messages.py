"""What callers and primaries say to each other."""

import enum
from dataclasses import dataclass

from meshnode import wire
from meshnode.agents.origin import Origin
from meshnode.identity import PartitionId


@wire.message(0x54)
@dataclass(frozen=True, slots=True)
class OpenSession:
    """A caller wants a session in a partition. Answered by `Answer` with the session's id."""

    number: int
    partition: PartitionId


@wire.message(0x55)
@dataclass(frozen=True, slots=True)
class Call:
    """One call of a handler, sent again until it is answered; ``number``, ``timeout_s``, ``origin`` are of the attempt.

    Attributes:
        number: pairs it with its `Answer`.
        arguments: positional list and named map, as CBOR.
        session, request: the request's identity within a session; ``lowest`` is the lowest one still unanswered.
        request_id: the caller's own identity for it, in place of a session.
        timeout_s: how long the caller will wait.
        chain: the agents, as TYPE/KEY, whose turns wait for this one.
        keep_s: for how long the reply is kept under ``request_id``.
        origin: the turn that makes the call under ``request_id``, as things stand at this attempt.
        is_read_only: refuse a handler that is not.
    """

    number: int
    partition: PartitionId
    agent_type: str
    key: str
    method: str
    arguments: bytes
    timeout_s: float
    session: int = 0
    request: int = 0
    lowest: int = 0
    request_id: str = ""
    chain: tuple[str, ...] = ()
    keep_s: float = 0.0
    origin: Origin | None = None
    is_read_only: bool = False

    def __post_init__(self) -> None:
        if self.origin is not None and not self.request_id:
            raise ValueError("a call of a turn has a request id")
        if not (self.timeout_s >= 0 and self.keep_s >= 0):  # neither is true of a NaN
            raise ValueError(f"timeout_s is {self.timeout_s} and keep_s is {self.keep_s}: neither is below 0")


class Status(enum.Enum):
    """How a request stands after an answer."""

    DONE = 0
    """It took effect; ``payload`` is the result."""
    FAILED = 1
    """It ended in an error, which is its recorded end; ``code`` and ``payload`` say which."""
    TRY_AGAIN = 2
    """Nothing was changed; another node, or this one later, may do it."""
    UNKNOWN = 3
    """It may take effect or have; ask again under the same identity."""
    REFUSED = 4
    """It was not taken, and would not be if asked again; ``code`` and ``payload`` say why. This question changed
    nothing, but says nothing of an earlier one that was not answered."""


@wire.message(0x56)
@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to an `OpenSession` or a `Call`.

    Attributes:
        session: the id of the session that was opened.
    """

    number: int
    status: Status
    code: str = ""
    payload: bytes = b""
    session: int = 0
