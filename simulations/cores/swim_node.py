"""One SWIM core in its world: what the UDP driver does for it in a node."""

import operator
import random
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, assert_never

from meshnode import wire
from meshnode.identity import Address, Boot, NodeId
from meshnode.membership.config import HEADER_BYTES, SwimConfig
from meshnode.membership.effects import Changed, Effect, SeedsSilent, Send
from meshnode.membership.messages import (
    Ack,
    Gossip,
    Member,
    Message,
    Ping,
    PingRequest,
    SyncPage,
    SyncPush,
    SyncRequest,
    first_incarnation,
)
from meshnode.membership.swim import Swim
from simulations.checkers.swim import SwimChecker
from simulations.cores.faults import FOREVER
from simulations.cores.heap import EventHeap
from simulations.cores.network import Network
from simulations.cores.trace import Trace

SOCKET_DATAGRAMS_MAX = 256
"""What waits for a process that stands still: the default receive buffer of Linux holds about so many datagrams."""

CHANGES_MAX = 1 << 16
"""Reports that a node keeps for whoever looks: those of a large mesh that forms, and of a few faults more."""

_WOKEN, _CHANGED, _SILENT, _STARTED, _ENDED = range(5)
_KINDS: dict[type[Message], int] = {
    kind: 8 + number for number, kind in enumerate((Ping, Ack, PingRequest, Gossip, SyncRequest, SyncPage, SyncPush))
}
NOTES = {
    **dict(enumerate(("woken", "changed", "silent", "started", "ended"))),
    **{number: f"took {kind.__name__} of" for kind, number in _KINDS.items()},
}
"""What its notes in the trace mean, for people."""

_RUMOURS: dict[type[Message], Callable[[Any], tuple[Member, ...]]] = {
    Ping: operator.attrgetter("updates"),
    Ack: operator.attrgetter("updates"),
    PingRequest: operator.attrgetter("updates"),
    Gossip: operator.attrgetter("updates"),
    SyncRequest: lambda message: (message.source,),
    SyncPage: operator.attrgetter("members"),
    SyncPush: operator.attrgetter("members"),
}
"""Whatever a message claims of members."""


class Surroundings(Protocol):
    """What a node finds in its world."""

    config: SwimConfig
    heap: EventHeap
    network: Network
    checks: SwimChecker
    trace: Trace
    numbers: dict[Address, int]
    numbers_by_object: dict[int, int]
    addresses: list[Address]
    is_measured: bool

    def believes(self, node: "SwimNode", member: Member, *, is_own: bool) -> None:
        """A node holds something else of another one than before: unless ``is_own``, because others said so."""
        ...


class SwimNode:
    """One participant, over all of its lives.

    Attributes:
        number: by which the world knows it.
        core: None while no process runs.
        rate: of its clock.
        effects_left: how many effects the process performs before it dies; infinite as a rule.
        changes: what the core reported in this life, and when.
        silences: what it said of seeds that do not answer.
    """

    __slots__ = (
        "_claim",
        "_heap",
        "_is_certain",
        "_local_s",
        "_paused_until_s",
        "_waiting",
        "_wake_s",
        "_world",
        "address",
        "boot",
        "changes",
        "core",
        "effects_left",
        "node_id",
        "number",
        "rate",
        "silences",
    )

    def __init__(self, world: Surroundings, number: int, node_id: NodeId, address: Address) -> None:
        self._world = world
        self._heap = world.heap
        self.number = number
        self.node_id = node_id
        self.address = address
        self.boot = Boot(0)
        self.core: Swim | None = None
        self.rate = 1.0
        self.effects_left = FOREVER
        self.changes: deque[tuple[float, Changed]] = deque(maxlen=CHANGES_MAX)
        self.silences: deque[int] = deque(maxlen=CHANGES_MAX)
        self._local_s = 0.0
        self._paused_until_s = 0.0
        self._waiting: deque[tuple[Message, int]] = deque(maxlen=SOCKET_DATAGRAMS_MAX)
        self._wake_s = FOREVER
        self._is_certain = False
        self._claim: Member | None = None  # the last that the checks know of

    # ---- its life

    def start(self, rng: random.Random) -> Swim:
        """A new life on the same data directory. `join` follows."""
        assert self.core is None, f"node {self.number} runs already"
        self.boot = Boot(self.boot + 1)
        incarnation = first_incarnation(self.boot)
        member = Member(self.node_id, f"n{self.number}", self.address, self.boot, incarnation, zone="z")
        self.core = Swim(self._world.config, member, rng, self.local_s())
        self.effects_left = FOREVER
        self._wake_s = FOREVER
        self._paused_until_s = 0.0
        self.changes.clear()
        self._claim = self.core.me
        self._world.checks.started(self.core.me)
        self._world.trace.note(self._world.heap.now, self.number, _STARTED, self.boot)
        return self.core

    def join(self, seeds: list[Address]) -> None:
        """Knock at the seeds."""
        assert self.core is not None
        self.perform(self.core.join(seeds, self.local_s()))
        self.plan()

    def leave(self) -> None:
        """Say good-bye, and end."""
        assert self.core is not None
        self.perform(self.core.leave(self.local_s()))
        self.end()

    def end(self) -> None:
        """The process is gone."""
        self.core = None
        self._wake_s = FOREVER
        self._waiting.clear()
        self._world.trace.note(self._world.heap.now, self.number, _ENDED, self.boot)

    def pause(self, for_s: float) -> None:
        """The process stands still: what it is sent waits in its socket, and its timers come late."""
        self._paused_until_s = max(self._paused_until_s, self._world.heap.now + for_s)
        self._world.heap.at(self._paused_until_s, self._resume, self.boot)

    def _resume(self, boot: Boot) -> None:
        core = self.core
        if core is None or boot != self.boot or self._world.heap.now < self._paused_until_s:
            return
        # The driver wakes the core first: the worst order, since the answers are still unread.
        if core.next_deadline <= self.local_s():
            self.perform(core.wake(self.local_s()), is_own=True)
        self._wake_s = FOREVER
        self.plan()
        waiting, self._waiting = self._waiting, deque(maxlen=SOCKET_DATAGRAMS_MAX)
        for envelope in waiting:
            self.receive(envelope)

    @property
    def is_responsive(self) -> bool:
        """Whether its process runs, and not only stands there."""
        return self.core is not None and self._paused_until_s <= self._world.heap.now

    @property
    def running(self) -> Swim:
        """The core of the process, which must run."""
        assert self.core is not None, f"node {self.number} is down"
        return self.core

    @property
    def wakes_s(self) -> float:
        """When it will look at its core, by its own clock."""
        return self._wake_s

    # ---- events

    def local_s(self) -> float:
        """The time by its own clock, which never falls."""
        if self.rate == 1.0:
            return self._world.heap.now
        self._local_s = max(self._local_s, self._world.heap.now * self.rate)
        return self._local_s

    def receive(self, envelope: tuple[Message, int]) -> None:
        """A datagram arrives."""
        core = self.core
        if core is None:
            return
        world = self._world
        now_s = self._heap.now
        if now_s < self._paused_until_s:
            if len(self._waiting) < SOCKET_DATAGRAMS_MAX:
                self._waiting.append(envelope)
            return
        message, sender = envelope
        kind = type(message)
        world.trace.note(now_s, self.number, _KINDS[kind], sender)
        effects = core.receive(message, world.addresses[sender], now_s if self.rate == 1.0 else self.local_s())
        if effects:
            self.perform(effects)
        if kind is Ping and len(effects) == 1 and not message.updates:  # type: ignore[union-attr]
            return  # an answer, and no news: no deadline is another one now
        self._is_certain = False
        if kind is Ack and not effects and not message.updates:  # type: ignore[union-attr]
            return  # no deadline is nearer now, and one that is further away shows when the node wakes
        self.plan()

    def wake(self, planned_s: float) -> None:
        """It may be time, by the plan of its clock, for the core to do what is due."""
        core = self.core
        now_s = self._heap.now  # not before the plan, which says when this event happens
        if core is None or planned_s != self._wake_s or now_s < self._paused_until_s:
            return
        if self.rate != 1.0:
            now_s = self._local_s = max(planned_s, self.local_s())
        if not self._is_certain:
            deadline_s = core.next_deadline
            if deadline_s > now_s:
                self._plan_for(deadline_s)
                return
        self._wake_s = FOREVER
        effects = core.wake(now_s)
        self._world.trace.note(now_s, self.number, _WOKEN, len(effects))
        if effects:
            self.perform(effects, is_own=True)
        self.plan()

    def plan(self) -> None:
        """See to it that the node wakes no later than its core wants to."""
        core = self.core
        if core is not None:
            deadline_s = core.next_deadline
            if deadline_s < self._wake_s:
                self._plan_for(deadline_s)

    def _plan_for(self, deadline_s: float) -> None:
        self._wake_s = deadline_s
        self._is_certain = True
        self._heap.at(deadline_s / self.rate, self.wake, deadline_s)

    # ---- effects

    def perform(self, effects: list[Effect], *, is_own: bool = False) -> None:
        """Do what the core wants done, unless the process dies in the middle of it.

        Args:
            is_own: whether nothing but time made the core want it.
        """
        world = self._world
        core = self.core
        assert core is not None, f"node {self.number} is down"
        me = core.me
        dies = False
        if self.effects_left != FOREVER:
            dies = self.effects_left < len(effects)
            effects = effects[: int(self.effects_left)]
            self.effects_left -= len(effects)
        # Nearly all are for one of the world's own objects, which is found without a look at what it says.
        number, number_of, send = self.number, world.numbers_by_object.get, world.network.send
        for effect in effects:
            if type(effect) is Send:  # nearly all are, and `match` would ask more slowly
                message = effect.message
                if me is not self._claim and _RUMOURS[type(message)](message):
                    world.checks.claimed(me)
                    self._claim = me
                if world.is_measured:
                    self._measure(effect)
                target = number_of(id(effect.to))
                if target is None:
                    target = world.numbers.get(effect.to)
                if target is not None:
                    send(number, target, message)
            else:
                self._note(effect, is_own=is_own)
        if dies:
            self.end()

    def _note(self, effect: Effect, *, is_own: bool) -> None:
        world = self._world
        match effect:
            case Changed(member, _):
                self.changes.append((world.heap.now, effect))
                world.trace.note(world.heap.now, self.number, _CHANGED, member.node_id ^ member.state << 8)
                world.believes(self, member, is_own=is_own)
            case SeedsSilent(attempts):
                self.silences.append(attempts)
                world.trace.note(world.heap.now, self.number, _SILENT, attempts)
            case Send():
                raise TypeError("sent before it came here")
            case _:
                assert_never(effect)

    def _measure(self, send: Send) -> None:
        size = HEADER_BYTES + len(wire.encode(send.message))
        assert size <= self._world.config.datagram_bytes_max, (size, send)
