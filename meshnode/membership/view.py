"""What one node believes of all, and how rumours change it."""

import functools
import random
from collections.abc import Sequence
from dataclasses import replace

from meshnode.identity import NodeId
from meshnode.membership.config import SwimConfig
from meshnode.membership.effects import Changed, Counters, Effect
from meshnode.membership.gossip import GossipQueue, record_bytes
from meshnode.membership.messages import ALIVE, DEAD, INCARNATION_LIMIT, SUSPECT, Member, State, in_state
from meshnode.membership.probe import ProbeOrder
from meshnode.membership.roster import Roster, differs, supersedes
from meshnode.membership.suspicion import Suspicions


class View:
    """The roster, with what follows from each change of it: suspicions, the probe order, gossip and effects."""

    __slots__ = (
        "_bytes_max",
        "_counters",
        "_transmit_limit",
        "config",
        "gossip",
        "me",
        "order",
        "roster",
        "suspicions",
    )

    def __init__(self, config: SwimConfig, me: Member, rng: random.Random, counters: Counters) -> None:
        assert me.state is State.ALIVE, me
        self.config = config
        self.me = me
        self.roster = Roster(me, retention_s=config.dead_retention_s)
        self.order = ProbeOrder(rng)
        self.gossip = GossipQueue()
        self.suspicions = Suspicions()
        self._counters = counters
        self._bytes_max = config.updates_bytes_max
        self._transmit_limit = functools.lru_cache(maxsize=4)(config.transmit_limit)  # of the number of live members
        self.gossip.put(me)

    @property
    def is_alone(self) -> bool:
        """Whether this node knows no other live member."""
        return self.roster.live <= 1

    def live(self, node_id: NodeId) -> Member | None:
        """The other member, if it is live."""
        member = self.roster.get(node_id)
        return member if member is not None and member.is_live and node_id != self.me.node_id else None

    def sample(self, count: int, *, besides: NodeId | None = None, alive: bool = False) -> list[Member]:
        """Up to ``count`` other live members at random; with ``alive`` no suspects."""
        chosen = self.order.sample(count, besides=besides, without=self.suspicions if alive else ())
        members = self.roster.members
        return [members[node_id] for node_id in chosen]

    def piggyback(self, leads: Sequence[Member] = ()) -> tuple[Member, ...]:
        """The updates for one message: ``leads`` first, then what gossip has to spread, as far as they fit."""
        if not leads and not self.gossip.waiting:  # as a rule
            return ()
        limit = self._transmit_limit(self.roster.live)
        bytes_max = self._bytes_max
        if not leads:
            return self.gossip.take(bytes_max=bytes_max, transmit_limit=limit)
        fitting: list[Member] = []
        for lead in leads:
            if record_bytes(lead) <= bytes_max:
                bytes_max -= record_bytes(lead)
                fitting.append(lead)
        without = [lead.node_id for lead in fitting]
        return (*fitting, *self.gossip.take(bytes_max=bytes_max, transmit_limit=limit, without=without))

    def merge(self, rumour: Member, now: float, effects: list[Effect], *, spread: bool = True) -> None:
        """Take in a rumour, and pass it on if it was news.

        A death is doubted: who is live here gets a suspicion's time to refute it. As a rule that time runs already, and
        the death is no news. One that comes as a surprise was declared where nobody else was heard, on the other side
        of a cut, perhaps long ago: its subject never heard of the suspicion, and could not refute it.

        Args:
            spread: False for what a newcomer copies from the list of a member: everyone has it, except perhaps other
                newcomers, so it is said just once.
        """
        if rumour.node_id == self.me.node_id:
            self._hear_of_myself(rumour, now, effects)
            return
        held = self.roster.get(rumour.node_id)
        if held is not None:
            if rumour.state is DEAD and held.is_live:
                rumour = in_state(rumour, SUSPECT)
            if held is rumour or held == rumour:
                return  # most are heard several times
            if held.incarnation == rumour.incarnation and held.address != rumour.address:
                self._counters.conflicts += 1
            if not supersedes(rumour, held):
                return
        self._adopt(rumour, held, now, effects, spread=spread)

    def suspect(self, node_id: NodeId, incarnation: int, now: float, effects: list[Effect]) -> None:
        """Suspect the member, unless it has claimed more than ``incarnation`` meanwhile or is no longer alive."""
        held = self.live(node_id)
        if held is not None and held.state is ALIVE and held.incarnation == incarnation:
            self._adopt(in_state(held, SUSPECT), held, now, effects)

    def declare_due(self, now: float, effects: list[Effect]) -> None:
        """Declare dead who did not refute in time, and forget the tombstones whose time is over."""
        for node_id in self.suspicions.take_due(now):
            held = self.roster.members[node_id]
            assert held.state is State.SUSPECT, held
            self._adopt(in_state(held, DEAD), held, now, effects)
        self.roster.forget_due(now)

    def extend_suspicions(self, by_s: float) -> None:
        """Give every suspect ``by_s`` seconds more to refute."""
        self.suspicions.extend(by_s)

    def depart(self, now: float) -> None:
        """This node leaves: from now on it claims so, and must not hear anything more."""
        self._claim(in_state(self.me, State.LEFT), now)

    def _hear_of_myself(self, rumour: Member, now: float, effects: list[Effect]) -> None:
        if rumour.incarnation == self.me.incarnation and rumour.address != self.me.address:
            self._counters.conflicts += 1
        assert self.me.state is State.ALIVE, "who has left hears nothing"
        if not supersedes(rumour, self.me):
            return
        if rumour.incarnation + 1 >= INCARNATION_LIMIT:
            self._counters.refused += 1  # nobody would take the refutation; no honest node said this
            return
        self._counters.refutations += 1
        self._claim(replace(self.me, incarnation=rumour.incarnation + 1), now)

    def _claim(self, me: Member, now: float) -> None:
        assert supersedes(me, self.me), (me, self.me)
        self.me = me
        self.roster.put(me, now=now)
        self.gossip.put(me)

    def _adopt(
        self, member: Member, held: Member | None, now: float, effects: list[Effect], *, spread: bool = True
    ) -> None:
        """Believe ``member`` instead of ``held``."""
        if not self.roster.put(member, now=now):
            self._counters.refused += 1
            return
        was_live = held is not None and held.is_live
        if member.is_live and not was_live:
            self.order.add(member.node_id)
        elif was_live and not member.is_live:
            self.order.remove(member.node_id)
        self._judge(member, now)
        self.gossip.put(member, once=not spread)
        if held is None:
            if member.is_live:
                effects.append(Changed(member, None))
        elif differs(held, member):
            effects.append(Changed(member, held.state))

    def _judge(self, member: Member, now: float) -> None:
        """Start or stop the suspicion that belongs to the member's state."""
        if member.state is State.SUSPECT:
            self._counters.suspicions += 1
            self.suspicions.start(member.node_id, now + self.config.suspicion_s(self.roster.live))
            return
        self.suspicions.stop(member.node_id)
        if member.state is State.DEAD:
            self._counters.deaths += 1
