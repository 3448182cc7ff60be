"""Proposals of this process that wait for their outcome.

A proposal goes through the log in an envelope, by which its proposer finds it again when it is applied:

    proposer u64 · incarnation u64 · sequence u64 · term u64 · data          big-endian

The incarnation is drawn at random for each start, so that what an earlier process of the same node left in the log is
never taken for a proposal of this one. The term is the one in which it was proposed, and only the leader of just that
term appends it. Hence a rule without guessing: once an entry of a later term is applied and the proposal was not, it
is in no log and will never be in one, because terms only rise along the log.
"""

import heapq
import struct
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from consensus.errors import ConsensusError, MalformedMessage, NodeStopped, OutcomeUnknown, Overloaded, ProposalDropped
from consensus.messages import ConfChange, ConfChangeSet

_ENVELOPE: Final = struct.Struct(">QQQQ")
_COST_BYTES: Final = 512
"""What a waiting proposal takes in memory beside its data, roughly, so that many small ones are bounded as well."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """Whose proposal it is. See the module's docstring."""

    proposer: int
    incarnation: int
    sequence: int
    term: int


def wrap(envelope: Envelope, data: bytes) -> bytes:
    """Put data into an envelope."""
    return _ENVELOPE.pack(envelope.proposer, envelope.incarnation, envelope.sequence, envelope.term) + data


def unwrap(data: bytes) -> tuple[Envelope, bytes]:
    """Take data out of its envelope.

    Raises:
        MalformedMessage: there is none.
    """
    if len(data) < _ENVELOPE.size:
        raise MalformedMessage(f"{data!r} is too short for a proposal in its envelope")
    return Envelope(*_ENVELOPE.unpack_from(data)), data[_ENVELOPE.size :]


class Proposal:
    """One proposal and, in the end, its outcome: a result or an error."""

    __slots__ = ("_error", "_result", "_wake", "content", "deadline", "sequence", "settled", "term")

    def __init__(
        self, content: bytes | ConfChange | ConfChangeSet, *, sequence: int, deadline: float, wake: Callable[[], None]
    ) -> None:
        self.content = content
        self.sequence = sequence
        self.deadline = deadline
        self.term = 0
        """The term in which it was proposed; 0 as long as it was not."""
        self.settled = False
        self._wake = wake
        self._result: object = None
        self._error: ConsensusError | None = None

    @property
    def cost_bytes(self) -> int:
        size = len(self.content) if isinstance(self.content, bytes) else 0
        return size + _COST_BYTES

    def settle(self, result: object = None, *, error: ConsensusError | None = None) -> None:
        assert not self.settled
        self.settled = True
        self._result = result
        self._error = error
        self._wake()

    def outcome(self) -> object:
        """The result. Raises the error if there is one."""
        assert self.settled
        if self._error is not None:
            raise self._error
        return self._result


class Proposals:
    """All that wait.

    Args:
        bytes_max: how much may wait, data and bookkeeping, before `add` refuses.
    """

    def __init__(self, *, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        # Together within bytes_max, by `add`. The sent ones are in the order of their terms.
        self._unsent: deque[Proposal] = deque()
        self._sent: OrderedDict[int, Proposal] = OrderedDict()
        self._bytes = 0
        self._sequence = 0
        # Also holds settled ones until `_prune` or their deadline; at most twice as many as wait, and a few.
        self._deadlines: list[tuple[float, int, Proposal]] = []

    def __len__(self) -> int:
        return len(self._unsent) + len(self._sent)

    def add(
        self, content: bytes | ConfChange | ConfChangeSet, *, deadline: float, wake: Callable[[], None]
    ) -> Proposal:
        """Let a proposal wait its turn. `wake` is called once, when it is settled.

        Raises:
            Overloaded: too much is waiting.
        """
        proposal = Proposal(content, sequence=self._sequence, deadline=deadline, wake=wake)
        if self._bytes + proposal.cost_bytes > self._bytes_max and len(self):
            raise Overloaded(
                f"{len(self)} proposals with {self._bytes} bytes wait already and at most {self._bytes_max} may:"
                " propose again when some have come back"
            )
        self._sequence += 1
        self._bytes += proposal.cost_bytes
        self._unsent.append(proposal)
        self._prune()
        heapq.heappush(self._deadlines, (deadline, proposal.sequence, proposal))
        return proposal

    def _prune(self) -> None:
        if len(self._deadlines) > 2 * len(self) + 64:
            self._deadlines = [item for item in self._deadlines if not item[2].settled]
            heapq.heapify(self._deadlines)

    def next_batch(self, bytes_max: int) -> list[Proposal]:
        """The next proposals to send together: a change of the configuration, or data within `bytes_max`."""
        batch: list[Proposal] = []
        size = 0
        while self._unsent:
            proposal = self._unsent[0]
            if not isinstance(proposal.content, bytes):
                if not batch:
                    batch.append(self._unsent.popleft())
                break
            size += len(proposal.content)
            if batch and size > bytes_max:
                break
            batch.append(self._unsent.popleft())
        return batch

    def mark_sent(self, proposal: Proposal, *, term: int) -> None:
        """The proposal of the last batch was proposed in that term."""
        proposal.term = term
        self._sent[proposal.sequence] = proposal

    def refuse(self, proposal: Proposal, error: ConsensusError) -> None:
        """The proposal of the last batch was not taken."""
        self._settle(proposal, error=error)

    def applied(self, sequence: int, result: object) -> None:
        """A proposal of this process was applied."""
        proposal = self._sent.pop(sequence, None)
        if proposal is not None:
            self._settle(proposal, result)

    def term_applied(self, term: int) -> None:
        """An entry of that term was applied: what was proposed in an earlier one has come, or never will."""
        while self._sent:
            proposal = next(iter(self._sent.values()))
            if proposal.term >= term:
                return
            del self._sent[proposal.sequence]
            error = ProposalDropped(
                f"the leader of term {proposal.term} was replaced before it could keep the proposal: propose it again"
            )
            self._settle(proposal, error=error)

    @property
    def next_deadline(self) -> float | None:
        """When to call `expire` next. May be the deadline of one that was settled meanwhile."""
        return self._deadlines[0][0] if self._deadlines else None

    def expire(self, now: float) -> None:
        """Give up on those whose time is over."""
        while self._deadlines and self._deadlines[0][0] <= now:
            proposal = heapq.heappop(self._deadlines)[2]
            if not proposal.settled:
                self.withdraw(proposal)

    def withdraw(self, proposal: Proposal) -> None:
        """Wait no longer for a proposal. Without effect if it is settled."""
        if proposal.settled:
            return
        if proposal.term:
            del self._sent[proposal.sequence]
            error: ConsensusError = OutcomeUnknown(
                f"no word in time of a proposal made in term {proposal.term}: it may still be agreed on"
            )
        else:
            self._unsent.remove(proposal)
            error = ProposalDropped("the time was over before it could be proposed: propose it again")
        self._settle(proposal, error=error)

    def stop(self) -> None:
        """The node stops: nobody will come to know."""
        while self._unsent:
            self._settle(self._unsent.popleft(), error=NodeStopped("the node stopped before it could propose"))
        while self._sent:
            _, proposal = self._sent.popitem()
            self._settle(proposal, error=OutcomeUnknown("the node stopped: the proposal may still be agreed on"))
        self._deadlines = []

    def _settle(self, proposal: Proposal, result: object = None, *, error: ConsensusError | None = None) -> None:
        self._bytes -= proposal.cost_bytes
        assert self._bytes >= 0
        proposal.settle(result, error=error)
