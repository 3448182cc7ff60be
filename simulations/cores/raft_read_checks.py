"""By what right a leader of Raft answers reads: a majority has confirmed its term since it was asked, or of late.

`RaftChecks.answered` judges what a read sees, which goes wrong only where another leader has committed something in the
same moment. Here it is judged whether that could have been: a leader answers only by such a right, and nobody else is
elected while one of them has a lease.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from consensus.messages import Configuration, Message, MessageKind, ReadState
from consensus.quorum import majority
from simulations.cores.process import LocalClock

CONCERN_READS = frozenset({MessageKind.HEARTBEAT, MessageKind.TIMEOUT_NOW, MessageKind.READ_INDEX_RESPONSE})
"""All that `ReadChecks.sent` wants to see."""


@dataclass(slots=True)
class _Leadership:
    """What one leader did in one term.

    Attributes:
        sent_s: when its rounds left, by its own clock.
        last: the last of them.
        answered: the last round that each member has answered.
        confirmed: the last round that a majority, of each half of the configuration of that moment, has answered. It
            stays so in the next configuration; `consensus.reads` says why.
        asked: of reads by member and number, the last round before they came, and when that was by its clock.
        alone_s: until when, by its clock, it was the only one to be asked, and so confirmed its term by itself.
        has_lease: whether it never asked anybody to take over.
    """

    sent_s: dict[int, float] = field(default_factory=dict)
    last: int = 0
    answered: dict[int, int] = field(default_factory=dict)
    confirmed: int = 0
    asked: dict[tuple[int, int], list[tuple[int, float]]] = field(default_factory=dict)
    alone_s: float = -math.inf
    has_lease: bool = True

    def confirm(self, leader: int, configuration: Configuration) -> None:
        """Take note of what is confirmed by now."""
        rounds = []
        for voters in filter(None, (configuration.voters, configuration.voters_outgoing)):
            answers = sorted([self.last if voter == leader else self.answered.get(voter, 0) for voter in voters])
            rounds.append(answers[len(answers) - majority(len(answers))])
        self.confirmed = max(self.confirmed, min(rounds, default=0))


class ReadChecks:
    """Sees all members of a group.

    Args:
        lease_s: how long a round that a majority has answered is good for, by the leader's clock; 0 without leases.
        broken: told which invariant is broken, how, and by whom.
    """

    def __init__(self, lease_s: float, broken: Callable[[str, str, int], None]) -> None:
        self._lease_s = lease_s
        self._broken = broken
        # Of those that take themselves for leaders now: which term each leads, and its clock.
        self._leads: dict[int, tuple[int, LocalClock]] = {}
        # One entry for each leader and term; configurations by member.
        self._leaderships: dict[tuple[int, int], _Leadership] = {}
        self._configurations: dict[int, Configuration] = {}

    def configured(self, node: int, term: int, configuration: Configuration, now_s: float) -> None:
        """Another configuration is in force there from now on, by its own clock."""
        if self._is_alone(node):
            self._of(node, term).alone_s = now_s
        self._configurations[node] = configuration
        if self._is_alone(node):
            self._of(node, term).alone_s = now_s
        elif (node, term) in self._leaderships:
            self._of(node, term).confirm(node, configuration)

    def led(self, node: int, term: int, clock: LocalClock) -> None:
        """It begins to lead, until it is `deposed`. None that led before it may have a lease, by its own clock."""
        for other, (earlier, its_clock) in self._leads.items():
            if earlier < term and self._has_lease(self._of(other, earlier), its_clock.now_s()):
                self._broken("raft-lease", f"leads term {term}, and {other} has a lease in term {earlier}", node)
        self._leads[node] = term, clock

    def deposed(self, node: int) -> None:
        """A node does not take itself for the leader any more, if it did."""
        self._leads.pop(node, None)

    def sent(self, message: Message, now_s: float) -> None:
        """A message leaves.

        Args:
            message: one of `CONCERN_READS`.
            now_s: by the sender's clock.
        """
        match message.kind:
            case MessageKind.HEARTBEAT:
                leadership = self._of(message.sender, message.term)
                leadership.sent_s.setdefault(message.round, now_s)
                leadership.last = message.round
            case MessageKind.TIMEOUT_NOW:
                self._of(message.sender, message.term).has_lease = False
            case MessageKind.READ_INDEX_RESPONSE:
                self._check(message.sender, message.term, message.to, message.request)
            case _:
                pass

    def heard(self, leader: int, message: Message) -> None:
        """A heartbeat is answered."""
        leadership = self._of(leader, message.term)
        leadership.answered[message.sender] = max(message.round, leadership.answered.get(message.sender, 0))
        leadership.confirm(leader, self._configurations[leader])

    def asked(self, leader: int, term: int, member: int, request: int, now_s: float) -> None:
        """A leader is asked for a read by a member, or by itself."""
        leadership = self._of(leader, term)
        if self._is_alone(leader):
            leadership.alone_s = now_s
        leadership.asked.setdefault((member, request), []).append((leadership.last, now_s))

    def answered(self, node: int, term: int, read: ReadState) -> None:
        """A member may answer a read. If it leads, it may have found the index itself."""
        leadership = self._leaderships.get((node, term))
        if leadership is not None and (node, read.request) in leadership.asked:
            self._check(node, term, node, read.request)

    def _of(self, leader: int, term: int) -> _Leadership:
        key = (leader, term)
        found = self._leaderships.get(key)
        if found is None:
            found = self._leaderships[key] = _Leadership()
        return found

    def _is_alone(self, node: int) -> bool:
        configuration = self._configurations.get(node)
        return configuration is not None and configuration.electorate == (node,)

    def _has_lease(self, leadership: _Leadership, now_s: float) -> bool:
        since_s = max(leadership.sent_s.get(leadership.confirmed, -math.inf), leadership.alone_s)
        return leadership.has_lease and now_s - since_s < self._lease_s

    def _check(self, leader: int, term: int, member: int, request: int) -> None:
        leadership = self._of(leader, term)
        confirmed = leadership.confirmed
        for last, asked_s in leadership.asked.get((member, request), ()):
            if confirmed > last or leadership.alone_s >= asked_s or self._has_lease(leadership, asked_s):
                return
        message = f"answers read {request} of {member} in term {term}, with round {confirmed} confirmed"
        self._broken("raft-read-confirmed", message, leader)
