"""Proposals of this process that wait for their outcome.

A proposal goes through the log in an envelope, by which its proposer finds it again when it is applied:

    proposer u64 · incarnation u64 · sequence u64 · term u64 · data          big-endian

The incarnation is drawn at random for each start, so that what an earlier process of the same node left in the log is
never taken for a proposal of this one. Proposals that were made together have one sequence number, and stand in the log
one behind the other, in their order. The term is the one in which it was proposed, and only the leader of just that
term appends it. Hence a rule without guessing: once an entry of a later term is applied and the proposal was not, it
is in no log and will never be in one, because terms only rise along the log. A snapshot that takes the place of entries
leaves the outcome of what may be among them unknown.
"""

import struct
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from consensus.errors import ConsensusError, MalformedMessage, NodeStopped, OutcomeUnknown, Overloaded, ProposalDropped
from consensus.messages import ConfChange, ConfChangeSet
from consensus.waiting import Deadlines, Waiter

_ENVELOPE: Final = struct.Struct(">QQQQ")
_SENDER: Final = struct.Struct(">QQ")
_NUMBER: Final = struct.Struct(">QQ")
_SEQUENCE: Final = struct.Struct(">Q")
ENVELOPE_BYTES: Final = _ENVELOPE.size
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
    if len(data) < ENVELOPE_BYTES:
        raise without_envelope(data)
    return Envelope(*_ENVELOPE.unpack_from(data)), data[_ENVELOPE.size :]


class Envelopes:
    """Those of one process.

    Args:
        proposer, incarnation: see `Envelope`.

    Attributes:
        sender: with what all of them, and no others, begin.
    """

    def __init__(self, proposer: int, incarnation: int) -> None:
        self.sender = _SENDER.pack(proposer, incarnation)

    def wrap(self, sequence: int, term: int, data: bytes) -> bytes:
        """Put data into an envelope."""
        return self.sender + _NUMBER.pack(sequence, term) + data

    def wrap_all(self, proposals: Iterable["Proposal"], term: int) -> list[bytes]:
        """The data of proposals, each in its envelope."""
        sender, number = self.sender, _NUMBER.pack
        wrapped: list[bytes] = []
        for proposal in proposals:
            head = sender + number(proposal.sequence, term)
            wrapped += [head + data for data in proposal.data]
        return wrapped


def sequence_of(data: bytes) -> int:
    """The sequence number in the envelope of data that has one."""
    sequence: int = _SEQUENCE.unpack_from(data, _SENDER.size)[0]
    return sequence


def without_envelope(data: bytes) -> MalformedMessage:
    """What is wrong with data that is shorter than an envelope."""
    return MalformedMessage(f"{data!r} is too short for a proposal in its envelope")


Content: TypeAlias = bytes | tuple[bytes, ...] | ConfChange | ConfChangeSet
"""What is proposed: data, several pieces of it together, or a change of the configuration."""


class Proposal(Waiter):
    """One proposal and, in the end, its outcome: a result or an error. For several pieces of data, their results.

    Attributes:
        data: the pieces; none for a change.
        size_bytes: theirs.
        term: the one in which it was proposed; 0 as long as it was not.
        results: of the pieces that are applied.
    """

    __slots__ = ("content", "cost_bytes", "data", "results", "sequence", "size_bytes", "term")

    def __init__(self, content: Content, sequence: int, deadline: float, wake: Callable[[Waiter], None]) -> None:
        Waiter.__init__(self, deadline, wake)
        self.content = content
        self.data: tuple[bytes, ...] = ()
        self.size_bytes = 0
        if isinstance(content, bytes):
            self.data = (content,)
            self.size_bytes = len(content)
        elif isinstance(content, tuple):
            self.data = content
            self.size_bytes = sum(map(len, content))
        self.sequence = sequence
        self.term = 0
        self.results: list[object] = []
        self.cost_bytes = self.size_bytes + _COST_BYTES * max(len(self.data), 1)


class Proposals:
    """All that wait: those that are under way, and behind them, in order, those that have to wait their turn.

    Args:
        bytes_max: how much may be under way, data and bookkeeping. As much again may wait behind it, before `add`
            refuses. One of any size may be alone on either side.
    """

    def __init__(self, *, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        # Each within bytes_max, and in the order of the sequence; so the sent ones are in the order of their terms.
        self._unsent: OrderedDict[int, Proposal] = OrderedDict()
        self._sent: OrderedDict[int, Proposal] = OrderedDict()
        self._unsent_bytes = 0
        self._sent_bytes = 0
        self._is_held_back = False
        self._sequence = 0
        self._deadlines: Deadlines[Proposal] = Deadlines()

    def __len__(self) -> int:
        return len(self._unsent) + len(self._sent)

    @property
    def has_unsent(self) -> bool:
        """Whether some wait to be proposed."""
        return bool(self._unsent)

    @property
    def are_held_back(self) -> bool:
        """Whether some wait for others to come back."""
        return self._is_held_back

    def add(self, content: Content, deadline: float, wake: Callable[[Waiter], None]) -> Proposal:
        """Let a proposal wait its turn. `wake` is called once, when it is settled.

        Raises:
            Overloaded: too much is waiting.
        """
        proposal = Proposal(content, self._sequence, deadline, wake)
        size = self._unsent_bytes + proposal.cost_bytes
        if size > self._bytes_max and self._unsent:
            raise Overloaded(
                f"{self._sent_bytes} bytes of proposals are under way, {self._unsent_bytes} wait behind them and at"
                f" most {self._bytes_max} may: propose again when some have come back"
            )
        self._sequence += 1
        self._unsent_bytes = size
        self._unsent[proposal.sequence] = proposal
        self._deadlines.add(proposal)
        return proposal

    def next_batch(self, bytes_max: int) -> list[Proposal]:
        """The next proposals to send together: a change of the configuration, or data within `bytes_max`.

        None as long as too much is under way. They belong to the caller until `mark_sent`, `refuse` or `put_back`.
        """
        batch: list[Proposal] = []
        size = cost = 0
        self._is_held_back = False
        for proposal in self._unsent.values():
            under_way = self._sent_bytes + cost
            if under_way and under_way + proposal.cost_bytes > self._bytes_max:
                self._is_held_back = True
                break
            size += proposal.size_bytes
            if batch and (size > bytes_max or not proposal.data):
                break
            batch.append(proposal)
            cost += proposal.cost_bytes
            if not proposal.data:
                break
        for proposal in batch:
            del self._unsent[proposal.sequence]
        self._unsent_bytes -= cost
        return batch

    def mark_sent(self, batch: Iterable[Proposal], *, term: int) -> None:
        """The last batch was proposed in that term."""
        sent, size = self._sent, 0
        for proposal in batch:
            proposal.term = term
            sent[proposal.sequence] = proposal
            size += proposal.cost_bytes
        self._sent_bytes += size

    def put_back(self, batch: Sequence[Proposal]) -> None:
        """The last batch has to wait until the leader takes on more."""
        self._is_held_back = True
        for proposal in reversed(batch):
            self._unsent[proposal.sequence] = proposal
            self._unsent.move_to_end(proposal.sequence, last=False)
            self._unsent_bytes += proposal.cost_bytes

    def refuse(self, batch: Iterable[Proposal], error: ConsensusError) -> None:
        """The last batch was not taken."""
        for proposal in batch:
            proposal.settle(error=error)

    def applied(self, sequence: int, result: object) -> None:
        """A proposal of this process was applied, or the next piece of one."""
        proposal = self._sent.get(sequence)
        if proposal is None:
            return
        if isinstance(proposal.content, tuple):
            proposal.results.append(result)
            if len(proposal.results) < len(proposal.content):
                return
            result = proposal.results
        del self._sent[sequence]
        self._sent_bytes -= proposal.cost_bytes
        proposal.settle(result)

    def term_applied(self, term: int) -> None:
        """An entry of that term was applied: what was proposed in an earlier one has come, or never will."""
        while self._sent:
            proposal = next(iter(self._sent.values()))
            if proposal.term >= term:
                return
            self._forget(proposal)
            error: ConsensusError = ProposalDropped(
                f"the leader of term {proposal.term} was replaced before it could keep the proposal: propose it again"
            )
            if proposal.results:
                error = OutcomeUnknown(
                    f"the leader of term {proposal.term} was replaced when {len(proposal.results)} of"
                    f" {len(proposal.data)} that were proposed together had been agreed on: the others were not"
                )
            proposal.settle(error=error)

    def skipped(self, term: int) -> None:
        """A snapshot took the place of entries, the last of that term: what was proposed in it or before may be one."""
        for proposal in [one for one in self._sent.values() if one.term <= term]:
            self._forget(proposal)
            proposal.settle(
                error=OutcomeUnknown(
                    f"a snapshot brought what the group agreed on up to term {term}, and nobody can tell whether the"
                    f" proposal of term {proposal.term} is part of it"
                )
            )

    @property
    def next_deadline(self) -> float | None:
        """When to call `expire` next. May be the deadline of one that was settled meanwhile."""
        return self._deadlines.next

    def expire(self, now: float) -> bool:
        """Give up on those whose time is over. False if there are none."""
        due = self._deadlines.due(now)
        for proposal in due:
            self.withdraw(proposal)
        return bool(due)

    def withdraw(self, proposal: Proposal) -> None:
        """Wait no longer for a proposal. Without effect if it is settled."""
        if proposal.settled:
            return
        self._forget(proposal)
        error: ConsensusError
        if proposal.term:
            error = OutcomeUnknown(
                f"no word in time of a proposal made in term {proposal.term}: it may still be agreed on"
            )
        elif self._is_held_back:
            error = Overloaded(
                "the time was over while earlier proposals were under way, more than may be: propose it again when"
                " some have come back"
            )
        else:
            error = ProposalDropped("the time was over before it could be proposed: propose it again")
        proposal.settle(error=error)

    def stop(self) -> None:
        """The node stops: nobody will come to know."""
        unsent, sent = [*self._unsent.values()], [*self._sent.values()]
        for proposal in (*unsent, *sent):
            self._forget(proposal)
        self.refuse(unsent, NodeStopped("the node stopped before it could propose"))
        self.refuse(sent, OutcomeUnknown("the node stopped: the proposal may still be agreed on"))
        self._deadlines = Deadlines()

    def _forget(self, proposal: Proposal) -> None:
        if proposal.term:
            del self._sent[proposal.sequence]
            self._sent_bytes -= proposal.cost_bytes
        else:
            del self._unsent[proposal.sequence]
            self._unsent_bytes -= proposal.cost_bytes
