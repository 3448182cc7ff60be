"""The safety properties of Raft (paper, figure 3), and those of its disk and messages from which they follow.

Each is checked at the one moment at which it could break, in time that does not grow with the logs: an entry when it is
appended, a leader when it begins, an index when it is committed.
"""

from collections.abc import Iterator, Sequence

from consensus.memory import Lost
from consensus.messages import (
    APPEND,
    APPEND_RESPONSE,
    Configuration,
    Entry,
    EntryKind,
    HardState,
    Message,
    MessageKind,
    ReadState,
    Snapshot,
)
from consensus.quorum import majority
from simulations.checkers.violation import Violation
from simulations.cores.heap import EventHeap
from simulations.cores.raft_read_checks import ReadChecks

_HYPOTHETICAL = frozenset({MessageKind.PRE_VOTE, MessageKind.PRE_VOTE_RESPONSE})
"""Their terms are those that somebody would stand in, not the sender's."""

_EARLY = frozenset({*_HYPOTHETICAL, MessageKind.VOTE, MessageKind.HEARTBEAT_RESPONSE})
"""With asynchronous storage these leave before their term is on disk, and it may be forgotten: a candidate leads only
once its own vote is there, and to have heard of a leader promises nothing that a restarted node does not keep."""


_OF_ELECTIONS = frozenset({MessageKind.VOTE, MessageKind.VOTE_RESPONSE})


class RaftChecks:
    """Sees what all members of a group do, which none of them does.

    Attributes:
        reads: by what right they are answered.
        leaders: who led which term.
        reads_answered: how many.
        installed: how often a snapshot has replaced a log.
        losses: how often a node found that its disk had lost something, and said so.
        chosen: the entries that were applied anywhere, in order: no other may ever be.

    Args:
        heap: of the world, for the time.
        has_threads: whether storage is asynchronous.
        lease_s: how long a leader that a majority has answered may read without asking again; 0 without leases.
    """

    def __init__(
        self,
        heap: EventHeap,
        *,
        has_threads: bool = False,
        lease_s: float = 0.0,
    ) -> None:
        self._heap = heap
        self.reads = ReadChecks(lease_s, self._broken)
        self._has_threads = has_threads
        self._forgettable = _EARLY if has_threads else _HYPOTHETICAL
        self.leaders: dict[int, int] = {}
        # Of those that take themselves for leaders now: which term each leads, and by that the terms of its entries.
        self._leads: dict[int, int] = {}
        self._leading: dict[int, Sequence[int]] = {}
        self.reads_answered = 0
        self.losses = 0
        self.installed = 0
        self.chosen: list[Entry] = []
        # One entry for each term and node, each entry ever appended, and each entry on each disk.
        self._votes: dict[tuple[int, int], int] = {}
        self._answers: set[tuple[int, int, int]] = set()
        self._candidacies: dict[int, int] = {}
        self._terms: dict[int, int] = {}
        self._states: dict[int, HardState] = {}
        self._written_states: dict[int, HardState] = {}
        self._entries: dict[tuple[int, int], tuple[int, Entry]] = {}
        self._durable: dict[int, list[int]] = {}
        self._written: dict[int, list[int]] = {}
        self._had: dict[int, list[int]] = {}
        self._unsynced: dict[int, list[tuple[int, list[int]]]] = {}
        self._commit_terms: list[int] = []
        self._commits: dict[int, int] = {}
        self._applied: dict[int, int] = {}
        self._asked: dict[int, int] = {}

    # ---- reads

    def asked(self, request: int) -> None:
        """A client asks for a read under this number. It must see all that is committed, acknowledged or not."""
        self._asked[request] = max(len(self.chosen), len(self._commit_terms))

    def answered(self, node: int, read: ReadState) -> None:
        """Linearizability (thesis 6.4): a read that may be answered at an index sees what was committed before it."""
        self.reads_answered += 1
        committed = self._asked[read.request]
        if read.index < committed:
            message = (
                f"read {read.request} is answered at {read.index}, and {committed} was committed when it was asked"
            )
            self._broken("raft-read", message, node)

    # ---- logs

    def founded(self, node: int, term: int, terms: Sequence[int]) -> None:
        """This was put on its disk, durably, before its first process."""
        self._terms[node] = term
        self._durable[node] = list(terms)
        self._unsynced[node] = []

    def started(self, node: int, term: int, terms: Sequence[int], lost: Lost | None = None) -> None:
        """A process found this on its disk: its term, and those of its entries. All of it is durable from here on.

        It is what was synced, or what some of the batches that were being written when the last process ended had made
        of it, one after the other. Or it is the beginning of that, and the log says that it had all of it.
        """
        found, durable = list(terms), self._durable.get(node, [])
        had = [left for left in self._left(node) if found == left or (lost is not None and _reaches(lost, found, left))]
        if node in self._durable and not had:
            self._broken("raft-durable-log", f"found {found} and {lost}, and {durable} was synced", node)
        if lost is None:
            self._had.pop(node, None)
        else:
            self.losses += node not in self._had
            self._had.setdefault(node, had[-1])
        if term < self._terms.get(node, 0):
            self._broken("raft-durable-term", f"starts in term {term} after messages of {self._terms[node]}", node)
        self._states.pop(node, None)
        self._written_states.pop(node, None)
        self._durable[node] = found
        self._written[node] = list(found)
        self._unsynced[node] = []
        self._commits[node] = 0
        self._applied[node] = 0

    def chosen_terms(self, index: int) -> list[int]:
        """Of the entries up to one that is applied somewhere."""
        assert index <= len(self.chosen), f"{index} is in a snapshot and was applied nowhere"
        return [entry.term for entry in self.chosen[:index]]

    def loaded(self, node: int, index: int, applied: Sequence[bytes]) -> None:
        """A state machine has what a snapshot of an index has: just that to which the entries up to there lead."""
        expected = [entry.data for entry in self.chosen[:index] if entry.kind is EntryKind.NORMAL and entry.data]
        if list(applied) != expected:
            self._broken("raft-snapshot", f"loads {applied} at {index}, and {expected} was applied", node)
        self._applied[node] = index

    def replaced(self, node: int, snapshot: Snapshot) -> None:
        """The log was handed a snapshot in its place."""
        terms = self.chosen_terms(snapshot.index)
        if not terms or terms[-1] != snapshot.term:
            self._broken("raft-snapshot", f"installs {snapshot}, and {terms} were chosen", node)
        self.installed += 1
        self._written[node] = list(terms)
        self._unsynced[node].append((1, terms))

    def _left(self, node: int) -> Iterator[list[int]]:
        """What a crash may leave of a node's log."""
        left = list(self._durable.get(node, ()))
        yield list(left)
        for first, terms in self._unsynced.get(node, ()):
            left[first - 1 :] = terms
            yield list(left)

    def wrote(self, node: int, state: HardState) -> None:
        """A term and a vote were handed to the disk. Who never tells of any is only judged by what a restart finds."""
        self._written_states[node] = state

    def appended(self, node: int, entries: Sequence[Entry]) -> None:
        """Log matching: an entry with the same index and term is the same everywhere, and so is what is before it."""
        written = self._written[node]
        for entry in entries:
            index, term = entry.index, entry.term
            before = written[index - 2] if index > 1 else 0
            known = self._entries.get((index, term))
            if known is None:
                self._entries[index, term] = (before, entry)
            elif known[0] != before or (known[1] is not entry and known[1] != entry):  # as a rule it is one object
                self._broken("raft-log-matching", f"{entry} after term {before}, elsewhere {known}", node)
            if before > term:
                self._broken("raft-log-matching", f"{entry} follows one of term {before}", node)
            if index <= len(written):
                del written[index - 1 :]
            written.append(term)
        if entries:
            self._unsynced[node].append((entries[0].index, [entry.term for entry in entries]))

    def synced(self, node: int, *, is_whole: bool = True) -> None:
        """What was appended is durable; with it the log is whole, or still lacks something that was lost."""
        if is_whole:
            self._had.pop(node, None)
        durable, unsynced = self._durable[node], self._unsynced[node]
        for first, terms in unsynced:
            durable[first - 1 :] = terms
        unsynced.clear()
        if node in self._written_states:
            self._states[node] = self._written_states[node]

    # ---- messages

    def took(self, node: int, message: Message, *, before: int, commit: int) -> None:
        """A member took in a message, which raised its commit index from ``before``.

        An append commits no more than it has compared (paper, figure 2), whatever else the log has.
        """
        compared = message.index + len(message.entries)
        if message.kind is APPEND and commit > max(before, compared):
            self._broken("raft-commit-verified", f"commits {commit} by an append up to {compared}", node)

    def sent(self, message: Message, now_in: int) -> None:
        """What a message promises holds, whatever crash comes next (paper 5.1, 5.2, 5.3).

        Args:
            message: what leaves.
            now_in: the sender's term. An answer of an earlier one says what the log matched before a later leader
                replaced it, in the same batch perhaps. Nobody can count it: that leader's voters had not given theirs.
        """
        sender, term, kind = message.sender, message.term, message.kind
        if term and kind not in self._forgettable:
            if term > self._terms.get(sender, 0):
                self._terms[sender] = term
            state = self._states.get(sender)
            if state is not None and term > state.term:
                self._broken("raft-durable-term", f"names {term}, and {state} is on disk", sender)
        if kind is APPEND_RESPONSE:
            if term == now_in and not message.reject:
                self._acknowledged(sender, term, message.index)
        elif kind not in _OF_ELECTIONS:
            pass
        elif kind is MessageKind.VOTE:
            self._candidacies[sender] = message.request
            if not self._has_threads:
                self._voted(sender, term, sender)
        elif kind is MessageKind.VOTE_RESPONSE and not message.reject:
            self._answers.add((sender, term, message.request))
            self._voted(sender, term, message.to)

    def _acknowledged(self, node: int, term: int, index: int) -> None:
        """It is on the node's disk, and what the leader of the term has there."""
        durable = self._durable[node]
        if index > len(durable):
            self._broken("raft-durable-ack", f"acknowledges {index}, and {len(durable)} is on disk", node)
        if index:
            terms = self._leading.get(term)
            if terms is not None and (index > len(terms) or terms[index - 1] != durable[index - 1]):
                self._broken("raft-ack-matches", f"acknowledges {index}, which the leader of {term} has not so", node)

    def _voted(self, node: int, term: int, candidate: int) -> None:
        first = self._votes.setdefault((node, term), candidate)
        if first != candidate:
            self._broken("raft-durable-vote", f"votes for {first} and {candidate} in term {term}", node)
        state = self._states.get(node)
        if state is not None and state.term == term and state.vote != candidate:
            self._broken("raft-durable-vote", f"votes for {candidate}, and {state} is on disk", node)

    # ---- leaders and what they commit

    def led(self, node: int, term: int, terms: Sequence[int]) -> None:
        """Election safety and leader completeness, for a leader with these terms of its entries.

        Args:
            node, term: who leads which term.
            terms: as the leader goes on to change them, until it is `deposed`.
        """
        first = self.leaders.setdefault(term, node)
        if first != node:
            self._broken("raft-election-safety", f"leads term {term}, and so does {first}", node)
        for entry in self.chosen:
            if self._committed_in(entry) < term and (entry.index > len(terms) or terms[entry.index - 1] != entry.term):
                self._broken("raft-leader-completeness", f"leads term {term} without {entry}", node)
        self.deposed(node)
        self._leads[node] = term
        self._leading[term] = terms

    def deposed(self, node: int) -> None:
        """A node does not take itself for the leader any more, if it did."""
        self.reads.deposed(node)
        term = self._leads.pop(node, None)
        if term is not None:
            del self._leading[term]

    def elected(self, node: int, term: int, configuration: Configuration) -> None:
        """Who begins to lead has the votes of a majority, its own included; of two in a joint configuration."""
        for voters in filter(None, (configuration.voters, configuration.voters_outgoing)):
            votes = [voter for voter in voters if self._votes_for(node, term, voter)]
            if len(votes) < majority(len(voters)):
                self._broken("raft-elected", f"leads term {term} with the votes of {votes} among {voters}", node)

    def _votes_for(self, node: int, term: int, voter: int) -> bool:
        """Whether a node has a vote in the candidacy from which it leads, and not for the log of an earlier life."""
        if voter == node and not self._has_threads:
            return True  # its vote is on disk before it says so to anybody
        if self._votes.get((voter, term)) != node:
            return False
        return voter == node or (voter, term, self._candidacies.get(node, 0)) in self._answers

    def _committed_in(self, entry: Entry) -> int:
        """The term whose leader committed the entry, which may be later than its own; the founders' are of the first.

        A candidate of a term in between may win, late, with votes from before: it need not have the entry.
        """
        return self._commit_terms[entry.index - 1] if entry.index <= len(self._commit_terms) else entry.term

    def committed(self, node: int, term: int, commit: int, configuration: Configuration, terms: Sequence[int]) -> None:
        """A leader raised its commit index: to an entry of its term, which a majority has on disk (paper 5.4.2).

        Args:
            node, term: who leads which term.
            commit: the new index.
            configuration: whose majority counts.
            terms: of the leader's entries, those included that its own disk does not have.
        """
        if terms[commit - 1] != term:
            self._broken("raft-commit-term", f"leads term {term} and commits {commit} of {terms[commit - 1]}", node)
        self._commit_terms += [term] * (commit - len(self._commit_terms))
        for voters in filter(None, (configuration.voters, configuration.voters_outgoing)):
            held = [voter for voter in voters if self._holds(voter, commit, term)]
            if len(held) < majority(len(voters)):
                self._broken("raft-durable-commit", f"commits {commit}, which of {voters} only {held} have", node)

    def _holds(self, node: int, commit: int, term: int) -> bool:
        """Whether it has the entry on disk; or had, and votes as if it had it still."""
        log = self._durable.get(node, ())
        if len(log) >= commit and log[commit - 1] == term:
            return True
        log = self._had.get(node, ())
        return len(log) >= commit and log[commit - 1] == term

    def progressed(self, node: int, *, commit: int, applied: int, last: int) -> None:
        """Within one life, the commit index only rises, and stays between what is applied and what there is."""
        before = self._commits[node]
        if commit != before:
            if commit < before:
                self._broken("raft-monotonic-commit", f"commit index {commit} after {before}", node)
            self._commits[node] = commit
        if not applied <= commit <= last:
            self._broken("raft-monotonic-commit", f"applied {applied}, committed {commit}, last {last}", node)

    def applied(self, node: int, entry: Entry) -> None:
        """State-machine safety: the same entries, in the same order, on all members."""
        if entry.index != self._applied[node] + 1:
            self._broken("raft-state-machine", f"applies {entry.index} after {self._applied[node]}", node)
        if not self._holds(node, entry.index, entry.term):
            self._broken("raft-durable-apply", f"applies {entry.index}, which is not on its disk", node)
        self._applied[node] = entry.index
        if entry.index > len(self.chosen):
            self.chosen.append(entry)
            for term, terms in self._leading.items():
                if term > self._committed_in(entry) and (
                    entry.index > len(terms) or terms[entry.index - 1] != entry.term
                ):
                    self._broken("raft-leader-completeness", f"the leader of term {term} lacks {entry}", node)
            return
        chosen = self.chosen[entry.index - 1]
        if chosen is not entry and chosen != entry:  # as a rule one object has come to all of them
            self._broken("raft-state-machine", f"applies {entry}, elsewhere {chosen}", node)

    def _broken(self, invariant: str, message: str, *nodes: int) -> None:
        raise Violation(invariant, virtual_s=self._heap.now, message=message, nodes=nodes)


def _reaches(lost: Lost, found: Sequence[int], left: Sequence[int]) -> bool:
    """Whether a log that found this much says at least that it had what was left."""
    is_prefix = list(left[: len(found)]) == list(found)
    return is_prefix and (not left or (lost.log_term, lost.index) >= (left[-1], len(left)))
