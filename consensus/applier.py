"""Applies what is agreed on, a part at a time, and lets those know who proposed it."""

from collections import deque
from collections.abc import Iterable
from typing import Final

from consensus.environment import StateMachine
from consensus.messages import NORMAL, Entry
from consensus.proposals import ENVELOPE_BYTES, Envelopes, Proposals, sequence_of, without_envelope
from consensus.raft import Raft
from consensus.ready import StorageApply
from consensus.reconfiguration import decode_change

APPLIED_AT_ONCE: Final = 256
"""Entries after which others have their turn, though a long log is applied: a few milliseconds."""


class Applier:
    """What is to be applied on one node.

    Args:
        machine: what it is applied to.
        raft: the core, which changes of the configuration go to.
        proposals: those of this process, in its envelopes.

    Attributes:
        index: up to which the machine has applied the log.
    """

    def __init__(self, machine: StateMachine, *, raft: Raft, proposals: Proposals, envelopes: Envelopes) -> None:
        self._machine = machine
        self._raft = raft
        self._proposals = proposals
        self._envelopes = envelopes
        # Bounded by the core's apply_bytes_max. The first piece is applied up to a place.
        self._work: deque[StorageApply] = deque()
        self._place = 0
        self._term = 0
        self.index = raft.applied_index

    def add(self, work: StorageApply) -> None:
        """Have a piece of work done, behind all before it."""
        self._work.append(work)

    def apply_some(self, now: float) -> int | None:
        """Apply the next part; the index up to which everything is applied now. None if there is nothing to do."""
        if not self._work:
            return None
        work = self._work[0]
        entries = work.entries[self._place : self._place + APPLIED_AT_ONCE]
        self._apply(entries)
        self.index = entries[-1].index
        self._place += len(entries)
        if self._place == len(work.entries):
            self._work.popleft()
            self._place = 0
            self._raft.applied(work, now)
        return entries[-1].index

    def jump(self, index: int, term: int) -> None:
        """The machine was given the state up to an entry by a snapshot. Nothing may wait to be applied."""
        assert not self._work
        self.index = index
        self._proposals.skipped(term)

    def _apply(self, entries: Iterable[Entry]) -> None:
        apply, settle, sender = self._machine.apply, self._proposals.applied, self._envelopes.sender
        for entry in entries:
            data = entry.data
            if entry.kind is not NORMAL:
                self._change(entry)
            elif data:
                if len(data) < ENVELOPE_BYTES:
                    raise without_envelope(data)
                result = apply(entry.index, data[ENVELOPE_BYTES:])
                if data.startswith(sender):
                    settle(sequence_of(data), result)
            if entry.term != self._term:
                self._term = entry.term
                self._proposals.term_applied(entry.term)

    def _change(self, entry: Entry) -> None:
        change = decode_change(entry)
        configuration = self._raft.apply_change(change)
        # A founder's change has no envelope: nobody waits for it.
        if change.context.startswith(self._envelopes.sender):
            self._proposals.applied(sequence_of(change.context), configuration)
