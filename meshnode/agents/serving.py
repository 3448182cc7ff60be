"""One partition in one epoch of which this process is the primary."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from meshnode.agents.activation import Activation
from meshnode.agents.ledger import (
    OUTSTANDING_MAX,
    REQUEST_ID_CHARACTERS_MAX,
    REQUEST_IDS_MAX,
    AgentId,
    Ledger,
)
from meshnode.agents.messages import Answer, Call
from meshnode.agents.nested import NESTED_MAX
from meshnode.agents.origin import Lineage, Origin
from meshnode.agents.request import Identity, Request, Respond
from meshnode.errors import InvalidArgument, Overloaded, Unavailable, UnknownSession
from meshnode.identity import Epoch, PartitionId
from meshnode.partitions.replica import SNAPSHOT_BYTES_MAX

PAYLOAD_BYTES_MAX = SNAPSHOT_BYTES_MAX // 4 * 3
"""States and replies of one partition: its snapshot must still reach a new replica."""

STRIDE_MAX_S = 60.0
"""What one reading of the clock adds at most to a partition's time: a clock that leaps must not make it fly."""


@dataclass(slots=True, eq=False)
class Serving:
    """What the primary knows beside the ledger; all of it is gone with the epoch.

    Attributes:
        counted_at_s: when ``elapsed_s`` was last brought up to date.
        activations: agents in memory; those without a state only while their turns run.
        running: calls that were admitted and are not answered.
        openings: who waits for a session, by the sequence of its record.
        pending: what to do once a record is committed, by its sequence, in order.
        reads: what to do once a read is confirmed, by its token.
        session_used_at_s: when each session was last heard of; one that is about to expire is not here any more.
        is_expiring: a record of what has expired is on its way.
        lineage: the turns that have called others.
        elapsed_s: the partition's own time; it goes on from the one in the ledger.
    """

    partition: PartitionId
    epoch: Epoch
    ledger: Ledger
    counted_at_s: float
    activations: dict[AgentId, Activation] = field(default_factory=dict)
    running: dict[Identity, Request] = field(default_factory=dict)
    openings: dict[int, tuple[int, Respond]] = field(default_factory=dict)
    pending: deque[tuple[int, Callable[[], None]]] = field(default_factory=deque)
    reads: dict[int, Callable[[], None]] = field(default_factory=dict)
    session_used_at_s: dict[int, float] = field(init=False)
    is_expiring: bool = False
    lineage: Lineage = field(init=False)
    elapsed_s: float = field(init=False)

    def __post_init__(self) -> None:
        self.session_used_at_s = dict.fromkeys(self.ledger.sessions, self.counted_at_s)
        self.lineage = Lineage(self.partition, self.epoch)
        self.elapsed_s = self.ledger.elapsed_s

    def elapse(self, now: float) -> float:
        """Count the time until ``now``; the partition's own time."""
        self.elapsed_s += min(now - self.counted_at_s, STRIDE_MAX_S)
        self.counted_at_s = now
        return self.elapsed_s

    def end(self, unchanged: Answer, unknown: Answer) -> None:
        """Stop all turns, and answer whoever waits: by whether what was asked may have begun."""
        for activation in self.activations.values():
            if activation.turns is not None:
                activation.turns.cancel()
            for request in activation.mailbox:  # its turn has not begun
                request.respond(unchanged)
            activation.mailbox.clear()
        for request in self.running.values():
            request.respond(unknown)
        for number, respond in self.openings.values():
            respond(replace(unchanged, number=number))

    def check_identity(self, call: Call) -> None:
        """Refuse a request whose reply could not be kept, or that may have ended and been forgotten.

        Raises:
            Overloaded: too much is kept already.
            InvalidArgument: its id is too long.
            Unavailable: it is of a turn that has ended, or whose partition has another primary.
            UnknownSession: its session has expired, or it was forgotten.
        """
        if self.ledger.payload_bytes >= PAYLOAD_BYTES_MAX:
            raise Overloaded(
                f"partition {call.partition} holds {self.ledger.payload_bytes // 2**20} MiB of states and replies; at "
                f"most {PAYLOAD_BYTES_MAX // 2**20} MiB fit: a mesh of more partitions spreads them further"
            )
        if len(call.request_id) > REQUEST_ID_CHARACTERS_MAX:
            raise InvalidArgument(f"request id {call.request_id!r:.80}: at most {REQUEST_ID_CHARACTERS_MAX} characters")
        if call.origin is not None:
            self._check_origin(call.origin)
        elif call.request_id:
            if len(self.ledger.request_ids) >= REQUEST_IDS_MAX:
                raise Overloaded(f"partition {call.partition} keeps {REQUEST_IDS_MAX} request ids already")
        else:
            self._check_session(call)

    def _check_origin(self, origin: Origin) -> None:
        if self.ledger.nested.is_over(origin):
            raise Unavailable(f"turn {origin.turn} of partition {origin.partition}, epoch {origin.epoch}, is over")
        if not self.ledger.nested.has_room(origin):
            raise Overloaded(f"partition {self.partition} keeps {NESTED_MAX} replies to turns already")

    def _check_session(self, call: Call) -> None:
        session = self.ledger.sessions.get(call.session)
        if session is None or call.session not in self.session_used_at_s:
            raise UnknownSession(f"session {call.session} of partition {call.partition} has expired")
        if call.request < session.lowest:
            raise UnknownSession(f"request {call.request} of session {call.session} was answered and forgotten")
        if session.replies is not None and len(session.replies) >= OUTSTANDING_MAX:
            raise Overloaded(f"session {call.session} has {OUTSTANDING_MAX} replies that were not acknowledged")
