"""Comparing whole lists with another node: for a newcomer, after a partition, and now and then to be sure.

The requester sends digests of its list by buckets of node ids. The answer says which buckets differ and lists the
answerer's live members in them, page by page: each page is asked for, so a list of any length moves one datagram at a
time and a lost one costs one repetition. After each page the requester pushes what the page showed the other to lack.
The dead are not listed, or tombstones would pass from node to node for ever; they come up only where one side shows a
member as live that the other knows to be dead.
"""

import math
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from meshnode.identity import NODE_ID_MAX, Address
from meshnode.membership.config import SwimConfig
from meshnode.membership.effects import Counters, Effect, Send
from meshnode.membership.gossip import record_bytes
from meshnode.membership.messages import SEQUENCE_MAX, Member, SyncPage, SyncPush, SyncRequest
from meshnode.membership.roster import MEMBERS_MAX, supersedes
from meshnode.membership.view import View

SESSIONS_MAX = 8
"""Room for a few seeds at once, the lost, strangers and the regular sync; who gets none is reached by the next."""

PUSHES_MAX = 8
"""Datagrams of news in answer to one: enough for any usual difference. The other asks for the rest by itself."""

REQUESTS_MAX = 3
"""How often a page is asked for once the other has answered at all; beside the loss of single datagrams."""


@dataclass(slots=True)
class _Session:
    """A running comparison, begun by this node."""

    to: Address
    newcomer: bool
    resend_at: float
    after: int = 0
    sends_left: int = 1  # who never answered is not asked twice here: seeds and dead members have their own rhythm
    pages_left: int = MEMBERS_MAX


class Sync:
    """The comparisons that this node has begun, and its answers to those of others."""

    __slots__ = ("_config", "_counters", "_sequence", "_sessions", "_view", "deadline")

    def __init__(self, config: SwimConfig, view: View, rng: random.Random, counters: Counters) -> None:
        self._config = config
        self._view = view
        self._counters = counters
        self._sequence = rng.randint(0, SEQUENCE_MAX)
        self._sessions: dict[int, _Session] = {}
        self.deadline = math.inf
        """When an answer is overdue."""

    def begin(self, to: Address, now: float, effects: list[Effect], *, again: bool = False) -> None:
        """Compare lists with the node at ``to``.

        If that goes on already nothing happens, except that with ``again`` who has not answered yet is asked once more.
        """
        for sequence, session in self._sessions.items():
            if session.to == to:
                if again and session.after == 0:
                    session.sends_left = 1
                    self._request(sequence, now, effects)
                return
        if len(self._sessions) >= SESSIONS_MAX:
            self._counters.refused += 1
            return
        self._counters.syncs += 1
        self._sequence = (self._sequence + 1) & SEQUENCE_MAX
        self._sessions[self._sequence] = _Session(to, newcomer=self._view.is_alone, resend_at=now)
        self._request(self._sequence, now, effects)

    def wake(self, now: float, effects: list[Effect]) -> None:
        """Ask again where an answer is overdue, or give up."""
        for sequence in [sequence for sequence, session in self._sessions.items() if session.resend_at <= now]:
            self._request(sequence, now, effects)

    def on_request(self, request: SyncRequest, sender: Address, now: float, effects: list[Effect]) -> None:
        """Take in the sender itself, and answer with the next page of what differs."""
        me = self._view.me
        if request.source.node_id == me.node_id and request.source.address == me.address:
            return  # a seed address that is this node's own under another name
        self._view.merge(request.source, now, effects)
        buckets = self._view.roster.buckets_that_differ(request.digests)
        bytes_max = self._config.updates_bytes_max
        leads: list[Member] = []
        held = self._view.roster.get(request.source.node_id)
        if request.after == 0 and held is not None and supersedes(held, request.source):
            leads.append(held)
            bytes_max -= record_bytes(held)
        page, upto = self._view.roster.page(request.after, buckets, bytes_max=bytes_max)
        members = (*leads, *[member for member in page if member not in leads])
        effects.append(Send(sender, SyncPage(request.sequence, upto, buckets, members)))

    def on_page(self, page: SyncPage, now: float, effects: list[Effect]) -> None:
        """Take in the page, push what the other lacks, and ask for the next page."""
        session = self._sessions.get(page.sequence)
        if session is None:
            self._counters.strays += 1
            return
        for member in page.members:
            self._view.merge(member, now, effects, spread=not session.newcomer)
        self._push(self._lacking(page, session.after), session.to, effects)
        session.pages_left -= 1
        if page.upto >= NODE_ID_MAX or session.pages_left <= 0:
            self._end(page.sequence)
            return
        if page.upto <= session.after:
            return  # the answer to a repeated request
        session.after = page.upto
        session.sends_left = REQUESTS_MAX
        self._request(page.sequence, now, effects)

    def on_push(self, push: SyncPush, sender: Address, now: float, effects: list[Effect]) -> None:
        """Take in the news, and answer with what is known better here, which ends it: there is nothing newer to answer.

        What this node refutes by it leaves as gossip. As an answer, two processes with one identity would raise their
        incarnations against each other as fast as the network carries them.
        """
        for member in push.members:
            self._view.merge(member, now, effects)
        better = [held for held in self._better(push.members) if held is not self._view.me]
        self._push(better, sender, effects)

    def _request(self, sequence: int, now: float, effects: list[Effect]) -> None:
        session = self._sessions[sequence]
        if session.sends_left <= 0:
            self._end(sequence)
            return
        session.sends_left -= 1
        session.resend_at = now + self._config.probe_interval_s
        self._plan()
        digests = self._view.roster.digests()
        effects.append(Send(session.to, SyncRequest(sequence, self._view.me, digests, session.after)))

    def _end(self, sequence: int) -> None:
        del self._sessions[sequence]
        self._plan()

    def _plan(self) -> None:
        self.deadline = min([session.resend_at for session in self._sessions.values()], default=math.inf)

    def _lacking(self, page: SyncPage, after: int) -> Iterator[Member]:
        """What the page shows its sender not to know."""
        yield from self._better(page.members)
        shown = {member.node_id for member in page.members}
        for held in self._view.roster.between(after, page.upto, page.buckets):
            if held.is_live and held.node_id not in shown:
                yield held

    def _better(self, members: Iterable[Member]) -> Iterator[Member]:
        """What is held here that overrides what ``members`` say."""
        for member in members:
            held = self._view.roster.get(member.node_id)
            if held is not None and supersedes(held, member):
                yield held

    def _push(self, members: Iterable[Member], to: Address, effects: list[Effect]) -> None:
        page: list[Member] = []
        bytes_left = self._config.updates_bytes_max
        pushes = 0
        for member in members:
            size = record_bytes(member)
            if size > bytes_left:
                effects.append(Send(to, SyncPush(tuple(page))))
                pushes += 1
                if pushes >= PUSHES_MAX:
                    return
                page, bytes_left = [], self._config.updates_bytes_max
            page.append(member)
            bytes_left -= size
        if page:
            effects.append(Send(to, SyncPush(tuple(page))))
