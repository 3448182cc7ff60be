"""The safety of a Raft group, over what its nodes do and say (Raft paper, figure 3, and section 5.2 for votes).

The world calls, for each node:

1. `look` whenever the node's log or status may have changed, at the latest before 2 for a message of it, and just
   before its process is killed;
2. `sent` with each message that leaves it;
3. `applied` with each entry that its state machine is given;
4. `synced` with what is on its disk, when it starts and after each sync; or never, if only restarts are to show that.

`look` compares a log with what it was by identity of the entries, so it costs as much as has changed.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from consensus.memory import LogView
from consensus.messages import NO_NODE, Entry, HardState, Message, MessageKind, Role
from consensus.status import Status
from simulations.checkers.violation import Violation

_HYPOTHETICAL = frozenset({MessageKind.PRE_VOTE, MessageKind.PRE_VOTE_RESPONSE})
"""These name a term that their sender may not be in."""

_ANY_TERM = 0

_CHUNK_ENTRIES = 16
"""Compared at a time, from the end on backwards: a look usually finds the last one unchanged."""


@dataclass(frozen=True, slots=True)
class Observation:
    """One node at one moment.

    Attributes:
        life: how often it has started; higher after each restart, which forgets what was not durable.
        term, role, leader: as it has them; leader 0 for nobody.
        commit, applied: indexes.
        first: where the part of the log that changed begins; the log ends with `entries`.
        entries: the log from ``first`` on; the whole log in the first observation of a life.
        lost: whether the node says that its disk has lost a part of the log.
        stored: what the log has behind that index is about to be replaced, whatever the commit index says.
    """

    node: int
    life: int
    term: int
    role: Role
    leader: int
    commit: int
    applied: int
    first: int
    entries: tuple[Entry, ...]
    lost: bool = False
    stored: int = sys.maxsize


@dataclass(slots=True)
class _Node:
    """What is known of one node.

    Attributes:
        shown_term: the highest term that a message of it named: it must be on its disk.
        acknowledged: the index up to which messages of it said that the log is on its disk.
        leads: the term that it leads; 0 if it does not.
        on_disk: the last index, and the term and vote; None if nobody tells.
        looked_at: what the last look saw, but for the log; None if something else was observed since.
    """

    life: int = 0
    term: int = 0
    commit: int = 0
    applied: int = 0
    log: list[Entry] = field(default_factory=list)
    shown_term: int = 0
    acknowledged: int = 0
    leads: int = 0
    on_disk: tuple[int, HardState] | None = None
    looked_at: tuple[object, ...] | None = None


class RaftChecker:
    """Sees all nodes of one group. All methods raise Violation.

    Args:
        clock: virtual seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._nodes: dict[int, _Node] = {}
        self._leading: dict[int, _Node] = {}
        # All of these grow with the run, as the log does.
        self._leaders: dict[int, int] = {}
        self._votes: dict[tuple[int, int], int] = {}
        self._entries: dict[tuple[int, int], tuple[Entry, int]] = {}
        self._committed: list[Entry] = []
        self._committed_by: list[int] = []
        self._given: dict[int, bytes] = {}
        self._handed: dict[int, tuple[int, int]] = {}

    @property
    def committed(self) -> Sequence[Entry]:
        """Every entry that some node took for committed, in order."""
        return self._committed

    # ---- what the world tells

    def look(self, status: Status, log: LogView, *, life: int) -> None:
        """Take a node's status and the log that it has stored.

        What a snapshot stands for is what was committed, or the term that it names is not that of what was.

        Args:
            life: how often the node has started.

        Raises:
            ValueError: the log begins behind anything that was seen to be committed.
        """
        begin = log.first_index()
        if begin > len(self._committed) + 1:
            raise ValueError(
                f"the log of node {status.id} begins at {begin}, and {len(self._committed)} was seen to be committed:"
                " what is before can't be checked"
            )
        snapshot = log.snapshot()
        self._check_boundary(status.id, begin - 1, log.term(begin - 1))
        self._check_boundary(status.id, snapshot.index, snapshot.term)
        known = self._nodes.get(status.id)
        seen = (life, status.term, status.role, status.leader, status.commit, status.applied, status.stored)
        if known is not None and known.looked_at == seen and _is_unchanged(known.log, log):
            return
        first = 1 if known is None or known.life != life else _first_change(known.log, log, self._committed)
        entries = [*self._committed[first - 1 : begin - 1], *_entries_from(log, max(first, begin))]
        self.observe(
            Observation(
                status.id,
                life,
                status.term,
                status.role,
                status.leader,
                status.commit,
                status.applied,
                first,
                tuple(entries),
                lost=status.lost,
                stored=status.stored,
            )
        )
        self._nodes[status.id].looked_at = seen

    def _check_boundary(self, node: int, index: int, term: int | None) -> None:
        """State machine safety, of what a snapshot hides: equal index and term mean equal entries up to there."""
        if term is None or not 0 < index <= len(self._committed):
            return
        entry = self._committed[index - 1]
        if entry.term != term:
            raise self._violation(
                "raft-state-machine",
                f"its snapshot stands for an entry of term {term} at index {index}, committed as {_text(entry)}",
                node,
            )

    def observe(self, seen: Observation) -> None:
        """Take one observation."""
        node = self._nodes.setdefault(seen.node, _Node(life=seen.life))
        node.looked_at = None
        if seen.life != node.life:
            self._restarted(node, seen)
        self._check_progress(node, seen)
        self._take_log(node, seen)
        node.term, node.applied = seen.term, seen.applied
        self._take_commit(node, seen)
        self._take_leader(node, seen)

    def sent(self, message: Message) -> None:
        """A message leaves its sender: what it says must be on the sender's disk by now."""
        node = self._nodes.get(message.sender)
        if node is None or message.term == _ANY_TERM:
            return
        if message.kind not in _HYPOTHETICAL:
            node.shown_term = max(node.shown_term, message.term)
        match message.kind:
            case MessageKind.VOTE_RESPONSE if not message.reject:
                self._vote(node, message.sender, message.term, message.to)
            case MessageKind.VOTE:
                self._vote(node, message.sender, message.term, message.sender)
            case MessageKind.APPEND_RESPONSE if not message.reject and message.index <= len(node.log):
                if message.term == node.term:
                    self._check_on_disk(node, message)
                node.acknowledged = max(node.acknowledged, message.index)
            case _:
                pass

    def synced(self, node: int, last: int, state: HardState) -> None:
        """This is on the node's disk: the log up to ``last``, its term and vote."""
        self._nodes.setdefault(node, _Node()).on_disk = (last, state)

    def _check_on_disk(self, node: _Node, message: Message) -> None:
        """An answer of an earlier term may tell of what a later leader has replaced since: nobody counts it."""
        if node.on_disk is not None and message.index > node.on_disk[0]:
            raise self._violation(
                "raft-durable-log",
                f"it acknowledges everything up to {message.index}, and {node.on_disk[0]} is on its disk",
                message.sender,
            )

    def applied(self, node: int, index: int, data: bytes, *, life: int) -> None:
        """The state machine of a node, which starts empty in each life, is given an entry."""
        before_life, before = self._handed.get(node, (life, 0))
        if life == before_life and index <= before:
            raise self._violation("raft-state-machine", f"index {index} is applied after {before}", node)
        self._handed[node] = (life, index)
        if self._given.setdefault(index, data) != data:
            raise self._violation(
                "raft-state-machine",
                f"index {index} was {self._given[index]!r:.80} elsewhere and is {data!r:.80} here",
                node,
            )

    # ---- what follows

    def _restarted(self, node: _Node, seen: Observation) -> None:
        """What was durable is there again; the rest may be forgotten."""
        if seen.term < node.shown_term:
            raise self._violation(
                "raft-durable-term",
                f"after restart {seen.life} it is in term {seen.term}, and messages of it named {node.shown_term}",
                seen.node,
            )
        if seen.lost:  # it votes as if it had what it lost, so what it acknowledged counts; but it is not there
            node.acknowledged = min(node.acknowledged, len(seen.entries))
        found = (seen.first, *seen.entries[: node.acknowledged])
        if found != (1, *node.log[: node.acknowledged]):
            raise self._violation(
                "raft-durable-log",
                f"it acknowledged everything up to {node.acknowledged} and finds {len(seen.entries)} entries after"
                f" restart {seen.life}, of which these are not all the same",
                seen.node,
            )
        node.life = seen.life
        node.term = node.commit = node.applied = node.leads = 0
        self._leading.pop(seen.node, None)
        node.log = []

    def _check_progress(self, node: _Node, seen: Observation) -> None:
        if seen.term < node.term:
            raise self._violation("raft-monotonic-term", f"its term falls from {node.term} to {seen.term}", seen.node)
        for what, before, now in (("commit", node.commit, seen.commit), ("applied", node.applied, seen.applied)):
            if now < before:
                raise self._violation(
                    "raft-monotonic-commit", f"its {what} index falls from {before} to {now}", seen.node
                )
        last = seen.first - 1 + len(seen.entries)
        if not seen.applied <= seen.commit:
            raise self._violation(
                "raft-monotonic-commit", f"it has applied {seen.applied} and committed {seen.commit} only", seen.node
            )
        if seen.first > len(node.log) + 1:
            raise ValueError(
                f"entries from {seen.first} on were observed of node {seen.node}, which had {len(node.log)}"
            )
        for place in range(seen.first, min(node.commit, len(node.log)) + 1):
            if place > last or seen.entries[place - seen.first] != node.log[place - 1]:
                raise self._violation(
                    "raft-committed-stays", f"it committed up to {node.commit} and now replaces {place}", seen.node
                )

    def _take_log(self, node: _Node, seen: Observation) -> None:
        """Log matching, by induction: one entry for each index and term, and one term before it."""
        same = _same(node.log[seen.first - 1 :], seen.entries)
        if seen.first - 1 + same < len(node.log):
            node.acknowledged = min(node.acknowledged, seen.first - 1 + same)
        before = node.log[seen.first - 2].term if seen.first > 1 else 0
        for index, entry in enumerate(seen.entries, start=seen.first):
            known = self._entries.setdefault((index, entry.term), (entry, before))
            if entry.index != index or entry.term < before or known != (entry, before):
                raise self._violation(
                    "raft-log-matching",
                    f"at index {index} it has {_text(entry)} after term {before}; known for that index and term is"
                    f" {_text(known[0])} after term {known[1]}",
                    seen.node,
                )
            before = entry.term
        node.log[seen.first - 1 :] = seen.entries

    def _take_commit(self, node: _Node, seen: Observation) -> None:
        """State machine safety: one entry for each committed index."""
        # The commit index may be ahead of what is stored: such entries are looked at when they are.
        upto = min(seen.commit, seen.stored, len(node.log))
        for index in range(node.commit + 1, upto + 1):
            entry = node.log[index - 1]
            if index > len(self._committed):
                self._committed.append(entry)
                self._committed_by.append(seen.term)
            elif self._committed[index - 1] != entry:
                raise self._violation(
                    "raft-state-machine",
                    f"index {index} is committed as {_text(entry)}, elsewhere as {_text(self._committed[index - 1])}",
                    seen.node,
                )
            self._committed_by[index - 1] = min(self._committed_by[index - 1], seen.term)
        for number, leader in self._leading.items():
            if leader.leads > seen.term:
                self._check_complete(number, leader, begin=node.commit, end=upto)
        node.commit = max(node.commit, upto)

    def _take_leader(self, node: _Node, seen: Observation) -> None:
        named = seen.node if seen.role is Role.LEADER else seen.leader
        if named != NO_NODE and self._leaders.setdefault(seen.term, named) != named:
            raise self._violation(
                "raft-election-safety",
                f"{named} leads term {seen.term} and so does {self._leaders[seen.term]}",
                seen.node,
                named,
                self._leaders[seen.term],
            )
        leads = seen.term if seen.role is Role.LEADER else 0
        if leads and leads != node.leads:
            node.leads = leads
            self._leading[seen.node] = node
            self._check_complete(seen.node, node, begin=0, end=len(self._committed))
        elif not leads and node.leads:
            node.leads = 0
            del self._leading[seen.node]

    def _check_complete(self, number: int, leader: _Node, *, begin: int, end: int) -> None:
        """Leader completeness: of the committed in these places, those of an earlier term are in its log."""
        for place in range(begin, end):
            entry = self._committed[place]
            if self._committed_by[place] < leader.leads and leader.log[place : place + 1] != [entry]:
                raise self._violation(
                    "raft-leader-completeness",
                    f"it leads term {leader.leads} without {_text(entry)} at index {place + 1},"
                    f" committed in term {self._committed_by[place]}",
                    number,
                )

    def _vote(self, node: _Node, voter: int, term: int, candidate: int) -> None:
        state = None if node.on_disk is None else node.on_disk[1]
        if state is not None and state.term <= term and (state.term, state.vote) != (term, candidate):
            raise self._violation(
                "raft-durable-vote",
                f"it votes for {candidate} in term {term}, and its disk has {state.vote} in term {state.term}",
                voter,
            )
        if self._votes.setdefault((voter, term), candidate) != candidate:
            raise self._violation(
                "raft-durable-vote",
                f"it votes for {candidate} in term {term} and voted for {self._votes[voter, term]}",
                voter,
                candidate,
                self._votes[voter, term],
            )

    def _violation(self, invariant: str, message: str, *nodes: int) -> Violation:
        return Violation(invariant, virtual_s=self._clock(), message=f"node {nodes[0]}: {message}", nodes=nodes)


def _is_unchanged(known: Sequence[Entry], log: LogView) -> bool:
    """Whether a log that only loses its end and grows is what it was."""
    last = log.last_index()
    if len(known) != last or 0 < last < log.first_index():  # all of it in a snapshot: seldom, and looked at as a whole
        return False
    return not last or _is_same(known[-1], log.entries(last, last + 1)[0])


def _first_change(known: Sequence[Entry], log: LogView, committed: Sequence[Entry]) -> int:
    """The index from which a log that only loses its end and grows may differ from what it was.

    A snapshot stands for what was committed, and may have come in the place of something else.
    """
    begin = log.first_index() - 1
    same = min(len(known), log.last_index())
    while same > begin:
        low = max(same - _CHUNK_ENTRIES, begin)
        stored = log.entries(low + 1, same + 1)
        while same > low and not _is_same(known[same - 1], stored[same - low - 1]):
            same -= 1
        if same > low:
            return same + 1
    while same and not _is_same(known[same - 1], committed[same - 1]):
        same -= 1
    return same + 1


def _is_same(one: Entry, other: Entry) -> bool:
    """Mostly the same object; one that was read from the disk again is an equal one."""
    return one is other or one == other


def _entries_from(log: LogView, first: int) -> Sequence[Entry]:
    last = log.last_index()
    return log.entries(first, last + 1) if first <= last else ()


def _same(known: Sequence[Entry], now: Sequence[Entry]) -> int:
    """How many entries at the beginning are equal."""
    count = 0
    for one, other in zip(known, now, strict=False):
        if one != other:
            break
        count += 1
    return count


def _text(entry: Entry) -> str:
    return f"{entry.kind.name} {entry.data!r:.60} of term {entry.term}"
