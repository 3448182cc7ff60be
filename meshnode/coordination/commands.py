"""What is proposed about sessions, locks and the configuration, and what is answered.

A command that changes something carries a `RequestId`, so that it takes effect at most once however often it is
proposed; see `meshnode.coordination.sessions`.
"""

import enum
from dataclasses import dataclass
from typing import Self

from meshnode import wire
from meshnode.coordination import bounds
from meshnode.errors import InvalidArgument
from meshnode.identity import Boot, NodeId

NOBODY = NodeId(0)


@dataclass(frozen=True, slots=True)
class RequestId:
    """One request of one session.

    Attributes:
        number: 1, 2, … in the session.
        answered: every request below this has its answer, or nobody wants it any more.
    """

    session: int
    number: int
    answered: int


@wire.message(0x70)
@dataclass(frozen=True, slots=True)
class BeginSession:
    """A process begins to coordinate. One that is opened by mistake ends by itself.

    Attributes:
        node_id, boot: of a node; its sessions end when it starts again. `NOBODY` for a client.
        name: for people.
    """

    name: str
    node_id: NodeId = NOBODY
    boot: Boot = Boot(0)  # noqa: RUF009 - a number


@wire.message(0x71)
@dataclass(frozen=True, slots=True)
class Renew:
    """The session lives, and these of its claims (the numbers of the requests that made them) last their TTL anew."""

    session: int
    claims: tuple[int, ...]


@wire.message(0x72)
@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed; see `meshnode.coordination.ticking`.

    Attributes:
        term: in which the proposer led.
        elapsed_ms: since it made its last tick in that term.
    """

    term: int
    elapsed_ms: int


@wire.message(0x73)
@dataclass(frozen=True, slots=True)
class Acquire:
    """Claim all of these names at once, or wait for them in the order of the claims."""

    request: RequestId
    names: tuple[str, ...]
    ttl_ms: int

    def problem(self) -> str:
        """Why it can't be carried out at all; empty where it can."""
        return bounds.problem_of_names(self.names) or bounds.problem_of_ttl(self.ttl_ms / 1000)


@wire.message(0x74)
@dataclass(frozen=True, slots=True)
class Release:
    """Give a claim up, held or waiting: that of request ``claim``. One that was not made yet will not be."""

    request: RequestId
    claim: int


class Field(enum.Enum):
    """What of a key is compared. Of a key that is not there each number is 0, and no value is equal to its value."""

    VALUE = 1
    VERSION = 2
    """How often it was put since it came to be."""
    CREATED = 3
    MODIFIED = 4


class Relation(enum.Enum):
    """How it is compared with what is given."""

    EQUAL = 1
    NOT_EQUAL = 2
    LESS = 3
    GREATER = 4


@dataclass(frozen=True, slots=True)
class Compare:
    """One condition of a transaction."""

    key: str
    field: Field
    relation: Relation
    value: bytes = b""
    number: int = 0

    @classmethod
    def exists(cls, key: str) -> Self:
        """The key is there."""
        return cls(key, Field.VERSION, Relation.GREATER)

    @classmethod
    def is_absent(cls, key: str) -> Self:
        """The key is not there."""
        return cls(key, Field.VERSION, Relation.EQUAL)

    @classmethod
    def has_value(cls, key: str, value: bytes | str) -> Self:
        """The key is there, with this value."""
        return cls(key, Field.VALUE, Relation.EQUAL, as_bytes(value))

    @classmethod
    def is_unchanged(cls, key: str, since: int) -> Self:
        """The key is there, and was last put at revision ``since``."""
        return cls(key, Field.MODIFIED, Relation.EQUAL, number=since)


class StepKind(enum.Enum):
    """What a step of a transaction does."""

    GET = 1
    PUT = 2
    DELETE = 3


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a transaction."""

    kind: StepKind
    key: str
    value: bytes = b""
    ttl_ms: int = 0

    @classmethod
    def get(cls, key: str) -> Self:
        """Read a key."""
        return cls(StepKind.GET, key)

    @classmethod
    def put(cls, key: str, value: bytes | str, *, ttl: float | None = None) -> Self:
        """Set a key, for ``ttl`` seconds or for good.

        Raises:
            InvalidArgument: no key may last so long, or so short.
        """
        return cls(StepKind.PUT, key, as_bytes(value), 0 if ttl is None else milliseconds(ttl))

    @classmethod
    def delete(cls, key: str) -> Self:
        """Delete a key, if it is there."""
        return cls(StepKind.DELETE, key)


@wire.message(0x75)
@dataclass(frozen=True, slots=True)
class Transact:
    """If all conditions hold carry out ``then``, else ``otherwise``: the steps in order, all at one revision."""

    request: RequestId
    compares: tuple[Compare, ...]
    then: tuple[Step, ...]
    otherwise: tuple[Step, ...] = ()

    def problem(self) -> str:
        """Why it can't be carried out at all; empty where it can."""
        size = 0
        for compare in self.compares:
            size += len(compare.key) + len(compare.value)
            if problem := bounds.problem_of_key(compare.key):
                return problem
        for branch in (self.compares, self.then, self.otherwise):
            if len(branch) > bounds.TRANSACTION_STEPS_MAX:
                return f"{len(branch)} steps in one transaction: split it into at most {bounds.TRANSACTION_STEPS_MAX}"
        for steps in (self.then, self.otherwise):
            written = [step.key for step in steps if step.kind is not StepKind.GET]
            if len(set(written)) != len(written):
                return f"one of the keys {', '.join(map(repr, written))[:200]} is written twice: write each once"
            for step in steps:
                size += len(step.key.encode(errors="replace")) + len(step.value)
                if problem := _problem_of_step(step):
                    return problem
        if size > bounds.TRANSACTION_BYTES_MAX:
            return f"a transaction of {size} bytes: split it into at most {bounds.TRANSACTION_BYTES_MAX}"
        return ""


def _problem_of_step(step: Step) -> str:
    problem = bounds.problem_of_key(step.key) or bounds.problem_of_value(step.key, step.value)
    return problem or (bounds.problem_of_ttl(step.ttl_ms / 1000) if step.ttl_ms else "")


# ---- answers


@wire.message(0x77)
@dataclass(frozen=True, slots=True)
class Done:
    """Nothing more to say."""


@wire.message(0x78)
@dataclass(frozen=True, slots=True)
class Opened:
    """The id of the new session."""

    session: int


@wire.message(0x79)
@dataclass(frozen=True, slots=True)
class Renewed:
    """Those of the claims that are still there."""

    claims: tuple[int, ...]


@wire.message(0x7A)
@dataclass(frozen=True, slots=True)
class Claimed:
    """The claim is made.

    Attributes:
        token: the fencing token if it was granted at once, else 0.
        at: the stamp of the command that made it.
    """

    token: int
    at: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A key of the configuration.

    Attributes:
        created, modified: the revisions at which it came to be and was last put.
        version: how often it was put since it came to be.
        deadline_ms: when it ends, in the state machine's own time; 0 for never.
    """

    key: str
    value: bytes
    created: int
    modified: int
    version: int = 1
    deadline_ms: int = 0

    @property
    def text(self) -> str:
        """The value as text. Raises UnicodeDecodeError if it is none."""
        return self.value.decode()

    @property
    def cost_bytes(self) -> int:
        """What it takes of the room for the configuration."""
        return len(self.key.encode()) + len(self.value) + bounds.ENTRY_COST_BYTES


@wire.message(0x7B)
@dataclass(frozen=True, slots=True)
class Transacted:
    """What a transaction did.

    Attributes:
        succeeded: whether all conditions held.
        revision: of its changes; where it changed nothing, of the last change before it.
        found: what each step found: a GET its entry, a PUT and a DELETE the one that was there before.
    """

    succeeded: bool
    revision: int
    found: tuple[Entry | None, ...] = ()


@wire.message(0x7C)
@dataclass(frozen=True, slots=True)
class Refused:
    """It had no effect: an error's code and message, see `meshnode.errors.error_from_code`."""

    code: str
    message: str


SESSION_OVER = Refused("session_over", "the session is over: nothing was heard of it for too long")

Requested = Acquire | Release | Transact
Command = BeginSession | Renew | Tick | Requested
Reply = Done | Opened | Renewed | Claimed | Transacted | Refused


def as_bytes(value: bytes | str) -> bytes:
    """Text as UTF-8. What has no UTF-8 form is no text: it raises UnicodeEncodeError.

    Raises:
        InvalidArgument: it is neither text nor bytes.
    """
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    raise InvalidArgument(f"{value!r:.80} is neither str nor bytes: encode it, as with json.dumps")


def milliseconds(ttl_s: float) -> int:
    """A TTL as the state machine counts it.

    Raises:
        InvalidArgument: it is too long or too short.
    """
    if problem := bounds.problem_of_ttl(ttl_s):
        raise InvalidArgument(problem)
    return round(ttl_s * 1000)
