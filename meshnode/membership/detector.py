"""The failure detector: direct probes, probes through others, and suspicion of who answers neither (SWIM 4.1)."""

import random

from meshnode.identity import Address, NodeId
from meshnode.membership.config import SwimConfig
from meshnode.membership.effects import Counters, Effect, Send
from meshnode.membership.messages import ALIVE, SEQUENCE_MAX, Ack, Member, Ping, PingRequest
from meshnode.membership.probe import PROBES_MAX, SUSPECTS_MAX, Probe, Relay, Relays
from meshnode.membership.view import View


class FailureDetector:
    """Probes one member each period, and whomever it is told to at once.

    A probe goes through its stages one after the other, however late it is looked at: the target has its whole time to
    answer, then the others have theirs, and only then it is suspected. Whoever suspects a member goes on probing it.
    """

    __slots__ = ("_config", "_counters", "_probes", "_relays", "_sequence", "_view", "deadline", "period_ends_at")

    def __init__(self, config: SwimConfig, view: View, rng: random.Random, counters: Counters, now: float) -> None:
        self._config = config
        self._view = view
        self._counters = counters
        # Anywhere, so that answers to an earlier life of this node answer nothing in this one.
        self._sequence = rng.randint(0, SEQUENCE_MAX)
        self._probes: dict[int, Probe] = {}
        self._relays = Relays()
        # Nodes that start together must not probe together.
        self.period_ends_at = now + (0.05 + 0.95 * rng.random()) * config.probe_interval_s
        self.deadline = self.period_ends_at
        """When a probe goes on or the next period begins."""

    def wake(self, now: float, effects: list[Effect]) -> None:
        """Move the probes on that are due, and begin the next period if it is time."""
        if self._probes:
            due = [(sequence, probe) for sequence, probe in self._probes.items() if probe.goes_on_at <= now]
            for sequence, probe in due:
                if probe.is_indirect:
                    self._fail(sequence, now, effects)
                else:
                    self._ask_others(sequence, probe, now, effects)
        if self.period_ends_at <= now:
            self.period_ends_at = now + self._config.probe_interval_s
            target = self._view.order.next()
            if target is not None:
                self._begin(target, now, effects)
        self._plan()

    def probe(self, target: NodeId, now: float, effects: list[Effect]) -> None:
        """Probe the member now, unless it isn't live or is being probed already."""
        self._begin(target, now, effects)
        self._plan()

    def _begin(self, target: NodeId, now: float, effects: list[Effect]) -> None:
        member = self._view.live(target)
        if member is None or (self._probes and any(probe.target == target for probe in self._probes.values())):
            return
        if len(self._probes) >= PROBES_MAX:
            self._counters.refused += 1
            return
        self._counters.probes += 1
        sequence = self._next_sequence()
        self._probes[sequence] = self._begun(member, now)
        self._ping(member, sequence, effects)

    def start_over(self, now: float, effects: list[Effect]) -> None:
        """Give every probe its whole time again, since the answers of the time that passed could not be read.

        The sequence numbers stay, so that an answer that did arrive and waits to be read still counts.
        """
        for sequence, probe in list(self._probes.items()):
            member = self._view.live(probe.target)
            if member is None:
                del self._probes[sequence]
            else:
                self._probes[sequence] = self._begun(member, now)
                self._ping(member, sequence, effects)
        self.period_ends_at = now + self._config.probe_interval_s
        self._plan()

    def on_ping(self, ping: Ping, source: Member | None, sender: Address, effects: list[Effect]) -> None:
        """Answer; first of all with what this node refutes, and with what the ``source`` of the ping has to."""
        me = self._view.me
        if ping.target != me.node_id:
            self._counters.misdirected += 1
            return
        leads: list[Member] = []
        updates = ping.updates
        if not me.is_live or (updates and any(update.node_id == me.node_id and update != me for update in updates)):
            leads.append(me)
        if source is not None and source.state is not ALIVE and source is not me:
            leads.append(source)
        effects.append(Send(sender, Ack(ping.sequence, me.node_id, self._view.piggyback(leads))))

    def on_ack(self, ack: Ack, now: float, effects: list[Effect]) -> None:
        """The end of one of the own probes, or of one for another node."""
        probe = self._probes.get(ack.sequence)
        if probe is not None and probe.target == ack.source:
            del self._probes[ack.sequence]
            self._plan()
            return
        relay = self._relays.take(ack.sequence, ack.source)
        if relay is None or relay.expires_at <= now:
            self._counters.strays += 1
            return
        effects.append(Send(relay.origin, Ack(relay.sequence, ack.source, self._view.piggyback())))

    def on_ping_request(self, request: PingRequest, sender: Address, now: float, effects: list[Effect]) -> None:
        """Ping the target on behalf of the sender, at the address that this node knows of it."""
        if request.target == self._view.me.node_id:
            effects.append(Send(sender, Ack(request.sequence, request.target, self._view.piggyback())))
            return
        target = self._view.roster.get(request.target)
        sequence = self._next_sequence()
        relay = Relay(request.target, sender, request.sequence, now + self._config.probe_interval_s)
        if target is None or not self._relays.put(sequence, relay, now=now):
            self._counters.refused += 1
            return
        self._ping(target, sequence, effects)

    def _plan(self) -> None:
        self.deadline = self.period_ends_at
        for probe in self._probes.values():
            if probe.goes_on_at < self.deadline:
                self.deadline = probe.goes_on_at

    def _begun(self, member: Member, now: float) -> Probe:
        goes_on_at, ends_at = now + self._config.probe_timeout_s, now + self._config.probe_interval_s
        return Probe(member.node_id, member.incarnation, goes_on_at, ends_at)

    def _ping(self, member: Member, sequence: int, effects: list[Effect]) -> None:
        # A suspect hears of it with the ping, so that it can refute in the answer (Lifeguard's buddy system).
        leads = [] if member.state is ALIVE else [member]
        ping = Ping(sequence, member.node_id, self._view.me.node_id, self._view.piggyback(leads))
        effects.append(Send(member.address, ping))

    def _ask_others(self, sequence: int, probe: Probe, now: float, effects: list[Effect]) -> None:
        probe.is_indirect = True
        probe.goes_on_at = max(probe.ends_at, now + self._config.probe_interval_s - self._config.probe_timeout_s)
        target = self._view.live(probe.target)
        if target is None:
            return
        for relay in self._view.sample(self._config.indirect_probes, besides=probe.target, alive=True):
            request = PingRequest(sequence, probe.target, self._view.me.node_id, self._view.piggyback((target,)))
            effects.append(Send(relay.address, request))

    def _fail(self, sequence: int, now: float, effects: list[Effect]) -> None:
        probe = self._probes.pop(sequence)
        self._counters.probes_failed += 1
        self._view.suspect(probe.target, probe.incarnation, now, effects)
        if probe.target in self._view.suspicions and len(self._probes) < SUSPECTS_MAX:
            # On and on, until it is dead or answers: what gossip said of it may have gone into a network that lost all,
            # and a suspect that never hears of it can't refute.
            self._begin(probe.target, now, effects)

    def _next_sequence(self) -> int:
        # A number that comes round again after 2**32 probes finds the old one long gone.
        self._sequence = (self._sequence + 1) & SEQUENCE_MAX
        return self._sequence
