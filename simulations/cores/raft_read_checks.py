"""By what right a leader of Raft answers reads: a majority has confirmed its term since it was asked, or of late.

`RaftChecks.answered` judges what a read sees, which goes wrong only where another leader has committed something in the
same moment. Here it is judged whether that could have been.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from consensus.messages import Configuration, Message, MessageKind, ReadState
from consensus.quorum import majority

CONCERN_READS = frozenset(
    {MessageKind.HEARTBEAT, MessageKind.HEARTBEAT_RESPONSE, MessageKind.TIMEOUT_NOW, MessageKind.READ_INDEX_RESPONSE}
)
"""All that `ReadChecks.sent` wants to see."""

CONFIGURATIONS_KEPT = 3
"""Of a leader: an answer leaves a few changes at most after it was decided."""


@dataclass(slots=True)
class _Leadership:
    """What one leader did in one term.

    Attributes:
        sent_s: when its rounds left, by its own clock.
        answered: the last round that each member has answered.
        asked: of reads by member and number, the last round before they came, and when that was by its clock.
        alone_s: until when, by its clock, it was the only one to be asked, and so confirmed its term by itself.
        has_lease: whether it never asked anybody to take over.
    """

    sent_s: dict[int, float] = field(default_factory=dict)
    last: int = 0
    answered: dict[int, int] = field(default_factory=dict)
    asked: dict[tuple[int, int], list[tuple[int, float]]] = field(default_factory=dict)
    alone_s: float = -math.inf
    has_lease: bool = True


class ReadChecks:
    """Sees all members of a group.

    Args:
        lease_s: how long a round that a majority has answered is good for, by the leader's clock; 0 without leases.
        broken: told of what is wrong, and by whom.
    """

    def __init__(self, lease_s: float, broken: Callable[[str, int], None]) -> None:
        self._lease_s = lease_s
        self._broken = broken
        # One entry for each leader and term; configurations by leader.
        self._leaderships: dict[tuple[int, int], _Leadership] = {}
        self._configurations: dict[int, list[Configuration]] = {}

    def configured(self, node: int, configuration: Configuration) -> None:
        """Another configuration is in force there."""
        self._configurations[node] = [*self._configurations.get(node, ())[1 - CONFIGURATIONS_KEPT :], configuration]

    def changes(self, node: int, term: int, now_s: float) -> None:
        """A change of the configuration is about to be applied there.

        Whoever elects another leader after it has heard from this one since, or else the change would not be agreed on:
        so a lease from before it is as good as ever.
        """
        if self._is_alone(self._configurations[node][-1], node):
            self._of(node, term).alone_s = now_s

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
            case MessageKind.HEARTBEAT_RESPONSE:
                answered = self._of(message.to, message.term).answered
                answered[message.sender] = max(message.round, answered.get(message.sender, 0))
            case MessageKind.TIMEOUT_NOW:
                self._of(message.sender, message.term).has_lease = False
            case MessageKind.READ_INDEX_RESPONSE:
                self._check(message.sender, message.term, message.to, message.request)
            case _:
                pass

    def asked(self, leader: int, term: int, member: int, request: int, now_s: float) -> None:
        """A leader is asked for a read by a member, or by itself."""
        leadership = self._of(leader, term)
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

    def _check(self, leader: int, term: int, member: int, request: int) -> None:
        leadership = self._of(leader, term)
        confirmed = max(
            [self._confirmed(leadership, leader, one) for one in self._configurations.get(leader, ())], default=0
        )
        for last, asked_s in leadership.asked.get((member, request), ()):
            if confirmed > last:
                return
            sent_s = leadership.sent_s.get(confirmed)
            if sent_s is not None and leadership.has_lease and asked_s - sent_s < self._lease_s:
                return
            if leadership.has_lease and asked_s - leadership.alone_s < self._lease_s:
                return
            # Alone, it need not ask anybody.
            if any(self._is_alone(one, leader) for one in self._configurations.get(leader, ())):
                return
        self._broken(f"answers read {request} of {member} in term {term}, with round {confirmed} confirmed", leader)

    def _is_alone(self, configuration: Configuration, leader: int) -> bool:
        return configuration.electorate == (leader,)

    def _confirmed(self, leadership: _Leadership, leader: int, configuration: Configuration) -> int:
        """The last round that a majority, of each half, has answered."""
        rounds = []
        for voters in filter(None, (configuration.voters, configuration.voters_outgoing)):
            answers = sorted(
                [leadership.last if voter == leader else leadership.answered.get(voter, 0) for voter in voters]
            )
            rounds.append(answers[len(answers) - majority(len(answers))])
        return min(rounds, default=0)
