"""The core: messages and time in, effects out."""

import math
import random
from collections.abc import Mapping, Sequence
from typing import assert_never

from meshnode.identity import Address, NodeId
from meshnode.membership.config import SwimConfig
from meshnode.membership.detector import FailureDetector
from meshnode.membership.effects import Counters, Effect, SeedsSilent, Send
from meshnode.membership.messages import (
    DEAD,
    Ack,
    Gossip,
    Member,
    Message,
    Ping,
    PingRequest,
    State,
    SyncPage,
    SyncPush,
    SyncRequest,
)
from meshnode.membership.seeds import Seeds
from meshnode.membership.sync import Sync
from meshnode.membership.view import View

_SEED_KNOCKS = 3.0
"""All members together knock at seeds so often per rejoin interval: enough to find each other, and no load on them."""


class Swim:
    """One node's membership. The package's docstring lists the caller's duties.

    When a call comes more than a probe interval after the probe period was due, the process was stopped, and what the
    others sent meanwhile may still wait to be read. Then, before anything else: every running suspicion is extended by
    the lateness, every probe starts over with its whole time and its old sequence number, and a new period begins.
    Nobody is suspected or declared dead for the time that this node was away.
    """

    __slots__ = (
        "_chores_at",
        "_config",
        "_deadline",
        "_detector",
        "_gossip_at",
        "_has_left",
        "_held_of",
        "_rejoin_at",
        "_rng",
        "_seeds",
        "_sync",
        "_sync_at",
        "_sync_interval_s",
        "_view",
        "counters",
    )

    def __init__(self, config: SwimConfig, self_member: Member, rng: random.Random, now: float) -> None:
        """
        Args:
            config: the same on all nodes of the mesh.
            self_member: this node, alive, at `messages.first_incarnation` of its boot.
            rng: of this core alone.
            now: seconds of any clock that never falls.
        """
        self.counters = Counters()
        self._config = config
        self._rng = rng
        self._view = View(config, self_member, rng, self.counters)
        self._held_of = self._view.roster.get
        self._detector = FailureDetector(config, self._view, rng, self.counters, now)
        self._sync = Sync(config, self._view, rng, self.counters)
        self._seeds = Seeds(rng, probe_interval_s=config.probe_interval_s)
        self._has_left = False
        self._deadline: float | None = None  # the answer of `next_deadline`, until one of its parts may have changed
        self._gossip_at = math.inf
        self._sync_interval_s = min(config.probe_interval_s, config.sync_interval_s)
        self._sync_at = now + self._jittered(self._sync_interval_s)
        self._rejoin_at = now + self._jittered(config.rejoin_interval_s)
        self._chores_at = 0.0  # the first of what only `wake` puts off: to compare lists, to knock, to rejoin
        self._plan_chores()

    @property
    def me(self) -> Member:
        """This node, as it claims to be."""
        return self._view.me

    @property
    def members(self) -> Mapping[NodeId, Member]:
        """Everyone known, this node and tombstones included: a view that changes with the next call."""
        return self._view.roster.members

    @property
    def next_deadline(self) -> float:
        """When to call `wake`; infinite after `leave`."""
        deadline = self._deadline
        if deadline is None:
            deadline = self._deadline = math.inf if self._has_left else self._next_deadline()
        return deadline

    def _next_deadline(self) -> float:
        view = self._view
        return min(
            self._detector.deadline,
            view.suspicions.deadline,
            view.roster.deadline,
            self._gossip_at,
            self._sync.deadline,
            self._chores_at,
        )

    def join(self, seeds: Sequence[Address], now: float) -> list[Effect]:
        """Knock at the seeds, and again whenever this node is alone, until one answers.

        Raises:
            ValueError: too many seeds, or one that is not a literal IP address with a port. Nothing was changed.
        """
        self._seeds.set(seeds, me=self.me.address)
        if not self._has_left:
            self._seeds.start(now)
            self._plan_chores()
        return self.wake(now)

    def receive(self, message: Message, sender: Address, now: float) -> list[Effect]:
        """Take in a message. Whatever it says, as long as it is well-typed, the core stays sound."""
        effects: list[Effect] = []
        if self._has_left:
            # Who has not heard of it yet is told with the answer; nothing else matters any more.
            if isinstance(message, Ping):
                self._detector.on_ping(message, self._held_of(message.source), sender, effects)
            return effects
        if self._detector.period_ends_at < now:
            self._notice_pause(now, effects)
        match message:
            case Gossip():
                self._merge(message.updates, sender, now, effects)
            case Ping():
                if message.updates:
                    self._merge(message.updates, sender, now, effects)
                source = self._held_of(message.source)
                self._detector.on_ping(message, source, sender, effects)
                if source is None:
                    self._deadline = None
                    self._sync.begin(sender, now, effects)  # it knows this node from an earlier life
            case Ack():
                if message.updates:
                    self._merge(message.updates, sender, now, effects)
                self._deadline = None
                self._detector.on_ack(message, now, effects)
            case PingRequest():
                self._merge(message.updates, sender, now, effects)
                self._detector.on_ping_request(message, sender, now, effects)
            case SyncRequest() | SyncPage() | SyncPush():
                self._deadline = None
                self._compare(message, sender, now, effects)
            case _:
                assert_never(message)
        if self._deadline is None and self._gossip_at == math.inf and self._view.gossip.waiting:
            self._plan_gossip(now)
        return effects

    def _compare(
        self, message: SyncRequest | SyncPage | SyncPush, sender: Address, now: float, effects: list[Effect]
    ) -> None:
        match message:
            case SyncRequest():
                self._sync.on_request(message, sender, now, effects)
            case SyncPage():
                self._sync.on_page(message, now, effects)
            case SyncPush():
                self._sync.on_push(message, sender, now, effects)
            case _:
                assert_never(message)

    def wake(self, now: float) -> list[Effect]:
        """Do what is due."""
        effects: list[Effect] = []
        if self._has_left:
            return effects
        detector, view = self._detector, self._view
        if detector.period_ends_at < now:
            self._notice_pause(now, effects)
        self._deadline = None
        if view.suspicions.deadline <= now or view.roster.deadline <= now:
            view.declare_due(now, effects)
        if detector.deadline <= now:
            detector.wake(now, effects)
        if self._sync.deadline <= now:
            self._sync.wake(now, effects)
        if self._chores_at <= now:
            self._do_chores(now, effects)
        if self._gossip_at <= now:
            self._spread(now, effects)
        if self._gossip_at == math.inf and view.gossip.waiting:
            self._plan_gossip(now)
        assert detector.period_ends_at > now
        return effects

    def probe_now(self, node_id: NodeId, now: float) -> list[Effect]:
        """Probe the member at once, because something else, such as an ended connection, cast doubt on it."""
        effects: list[Effect] = []
        if not self._has_left:
            self._notice_pause(now, effects)
            self._deadline = None
            self._detector.probe(node_id, now, effects)
        return effects

    def leave(self, now: float) -> list[Effect]:
        """Say good-bye, to as many members at once as gossip would reach. Afterwards this node only answers pings."""
        if self._has_left:
            return []
        copies = self._config.transmit_limit(self._view.roster.live)
        peers = self._view.sample(copies)
        self._view.depart(now)
        self._has_left = True
        self._deadline = None
        # In a small mesh each hears it several times: a lost datagram must not make a departure a failure.
        return [Send(peers[copy % len(peers)].address, Gossip((self.me,))) for copy in range(copies) if peers]

    def _merge(self, updates: tuple[Member, ...], sender: Address, now: float, effects: list[Effect]) -> None:
        """Take in updates. Who spreads a death that was refuted missed the refutation, and is told at once."""
        missed: list[Member] = []
        held_of = self._held_of
        for update in updates:
            if held_of(update.node_id) is update:
                continue  # most are heard several times, and in one process they are one record
            self._deadline = None
            self._view.merge(update, now, effects)
            if update.state is DEAD:
                held = self.members.get(update.node_id)
                if held is not None and held.is_live and held.incarnation > update.incarnation:
                    missed.append(held)
        if missed:
            effects.append(Send(sender, Gossip(self._view.piggyback(missed))))

    def _notice_pause(self, now: float, effects: list[Effect]) -> None:
        late_s = now - self._detector.period_ends_at
        if late_s > self._config.probe_interval_s:
            self.counters.pauses += 1
            self._deadline = None
            self._view.extend_suspicions(late_s)
            self._detector.start_over(now, effects)

    def _do_chores(self, now: float, effects: list[Effect]) -> None:
        if self._rejoin_at <= now:
            self._rejoin(now, effects)
        if self._seeds.knock_at <= now:
            self._knock(now, effects)
        if self._sync_at <= now:
            self._sync_regularly(now, effects)
        self._plan_chores()

    def _plan_chores(self) -> None:
        self._deadline = None
        self._chores_at = min(self._rejoin_at, self._seeds.knock_at, self._sync_at)

    def _knock(self, now: float, effects: list[Effect]) -> None:
        if not self._view.is_alone:
            self._seeds.rest()
            return
        if self._seeds.attempts:
            effects.append(SeedsSilent(self._seeds.attempts))
        for seed in self._seeds.knock(now):
            self._sync.begin(seed, now, effects, again=True)

    def _sync_regularly(self, now: float, effects: list[Effect]) -> None:
        self._sync_at = now + self._jittered(self._sync_interval_s)
        for peer in self._view.sample(1):
            self._sync.begin(peer.address, now, effects)
            # Often at first: what nodes that join at the same moment tell each other crosses with what they copy.
            self._sync_interval_s = min(2 * self._sync_interval_s, self._config.sync_interval_s)

    def _rejoin(self, now: float, effects: list[Effect]) -> None:
        """Knock at a lost member or a seed: two halves of a mesh hold each other dead, and neither probes the dead."""
        self._rejoin_at = now + self._jittered(self._config.rejoin_interval_s)
        if self._view.is_alone and self._seeds.knock_at == math.inf:
            self._seeds.start(now)
        lost = [member.address for member in self._view.roster.tombstones() if member.state is State.DEAD]
        if lost:
            self._sync.begin(self._rng.choice(lost), now, effects)
        if self._seeds.addresses and self._rng.random() * self._view.roster.live < _SEED_KNOCKS:
            self._sync.begin(self._rng.choice(self._seeds.addresses), now, effects)

    def _spread(self, now: float, effects: list[Effect]) -> None:
        self._gossip_at = math.inf
        view = self._view
        for peer in view.sample(self._config.gossip_peers):
            updates = view.piggyback()
            if not updates:
                return
            effects.append(Send(peer.address, Gossip(updates)))

    def _plan_gossip(self, now: float) -> None:
        if not self._view.is_alone:
            self._gossip_at = now + self._jittered(self._config.gossip_interval_s)

    def _jittered(self, interval_s: float) -> float:
        """Something around the interval, so that nodes do not fall into step."""
        return interval_s * (0.75 + 0.5 * self._rng.random())
