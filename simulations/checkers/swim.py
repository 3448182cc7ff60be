"""What must hold of every belief in a mesh (SWIM 4.2), and how soon beliefs must become true.

The world calls:

1. `started` when a process takes up an identity, `crashed` and `left` when one ends, `paused` and `resumed`;
2. `claimed` when a node's own record has changed, before it says so to anyone, and `believes` when what an observer
   holds of another has changed, and `suspects` before that if a probe of its own told it so; or `look` now and then,
   which does both for all that one node holds;
3. `disturb` when faults of the network, the clocks or the processes begin, and `calm` when the last has ended;
4. `check` now and then, with what every live node holds.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from meshnode.identity import NodeId
from meshnode.membership.config import SwimConfig
from meshnode.membership.messages import Member, State
from simulations.checkers.swim_bounds import SwimBounds
from simulations.checkers.violation import Violation

_ROUNDING_S = 1e-6


@dataclass(frozen=True, slots=True)
class View:
    """What one live node holds.

    Attributes:
        observer: the node.
        members: everyone that it knows, itself included.
    """

    observer: NodeId
    members: Mapping[NodeId, Member]


@dataclass(frozen=True, slots=True)
class _Crash:
    claim: int
    at_s: float


@dataclass(slots=True)
class _Observer:
    """What a process holds of others, with the time from which it does; and when it stood still."""

    beliefs: dict[NodeId, tuple[Member, float]] = field(default_factory=dict)
    pauses: list[tuple[float, float]] = field(default_factory=list)


class SwimChecker:
    """Sees what every node says of itself and holds of others. All methods raise Violation.

    Args:
        config: the same on all nodes.
        bounds: how long things may take once there are no faults; None to check none of that, or by the bounds that
            `check` is given.
        clock: virtual seconds.
        remember_beliefs: whether to check the order in which beliefs follow each other: an entry for each pair of
            nodes.
        fastest: the rate of the fastest clock; None where `believes` may not be told of each change, so that nothing
            is known of what came before a death.
        slowest: the rate of the slowest clock.
    """

    def __init__(
        self,
        config: SwimConfig,
        *,
        bounds: SwimBounds | None,
        clock: Callable[[], float],
        remember_beliefs: bool = True,
        fastest: float | None = None,
        slowest: float = 1.0,
    ) -> None:
        self._config = config
        self._bounds = bounds
        self._clock = clock
        self._remember_beliefs = remember_beliefs
        self._fastest = fastest
        self._slowest = slowest
        # At most one entry for each node, and for each pair of nodes in beliefs.
        self._claims: dict[NodeId, int] = {}
        self._responsive_since_s: dict[NodeId, float] = {}
        self._observers: dict[NodeId, _Observer] = {}
        self._crashes: dict[NodeId, _Crash] = {}
        # One entry for each incarnation that somebody declared dead, and for each that its subject said good-bye with.
        self._deaths: set[tuple[NodeId, int]] = set()
        self._departures: set[tuple[NodeId, int]] = set()
        self._calm_since_s: float | None = 0.0

    # ---- processes

    def started(self, me: Member) -> None:
        """A process takes up this identity: above all that was said of its earlier lives."""
        if me.incarnation <= self._claims.get(me.node_id, -1):
            raise self._violation(
                "swim-life-supersedes",
                f"{me.name} starts at incarnation {me.incarnation} and has been at {self._claims[me.node_id]}",
                me.node_id,
            )
        self._claims[me.node_id] = me.incarnation
        self._responsive_since_s[me.node_id] = self._clock()
        self._observers[me.node_id] = _Observer()
        self._crashes.pop(me.node_id, None)

    def crashed(self, node_id: NodeId) -> None:
        """The process is gone without a word."""
        self.left(node_id)
        self._crashes[node_id] = _Crash(self._claims.get(node_id, -1), self._clock())

    def left(self, node_id: NodeId) -> None:
        """The process said good-bye and is gone: others may hold it for anything."""
        self._responsive_since_s.pop(node_id, None)

    def paused(self, node_id: NodeId) -> None:
        """The process stands still: others may hold it dead."""
        self._responsive_since_s.pop(node_id, None)
        pauses = self._observers.setdefault(node_id, _Observer()).pauses
        if not pauses or pauses[-1][1] < math.inf:  # another pause of one that stands still makes it no two
            pauses.append((self._clock(), math.inf))

    def resumed(self, node_id: NodeId) -> None:
        """It goes on, and has as much time to catch up as one that has just started."""
        self._responsive_since_s[node_id] = self._clock()
        pauses = self._observers.setdefault(node_id, _Observer()).pauses
        pauses[:] = [(begin_s, min(end_s, self._clock())) for begin_s, end_s in pauses]

    # ---- faults

    def disturb(self) -> None:
        """Faults begin: nothing has to become true until they end."""
        self._calm_since_s = None

    def calm(self) -> None:
        """The last fault has ended."""
        self._calm_since_s = self._clock()

    @property
    def is_calm(self) -> bool:
        """Whether no fault goes on."""
        return self._calm_since_s is not None

    # ---- what is said and held

    def claimed(self, me: Member) -> None:
        """What a node says of itself now."""
        if me.incarnation < self._claims.get(me.node_id, 0):
            raise self._violation(
                "swim-life-supersedes",
                f"{me.name} says {me.incarnation} of itself and has been at {self._claims[me.node_id]}",
                me.node_id,
            )
        self._claims[me.node_id] = me.incarnation
        if me.state is State.LEFT:
            self._departures.add((me.node_id, me.incarnation))

    def believes(self, observer: NodeId, member: Member) -> None:
        """What an observer holds of another node now."""
        claim = self._claims.get(member.node_id, -1)
        if member.incarnation > claim:
            raise self._violation(
                "swim-incarnation",
                f"{observer} holds {member.name} at {member.incarnation}, which claimed incarnation {claim} at most",
                observer,
                member.node_id,
            )
        if self._fastest is not None and member.state is State.LEFT:
            self._check_departure(observer, member)
        if not self._remember_beliefs:
            return
        now = self._clock()
        beliefs = self._observers.setdefault(observer, _Observer()).beliefs
        held, since_s = beliefs.get(member.node_id, (None, now))
        if held is None or not self._is_forgotten(held, since_s, now):
            self._check_order(observer, held, member)
        self._check_death(observer, held, since_s, member)
        if held is None or (held.state, held.boot) != (member.state, member.boot):
            beliefs[member.node_id] = (member, now)
        elif held is not member:  # nobody tells when the incarnation alone changes
            beliefs[member.node_id] = (member, since_s)

    def suspects(self, observer: NodeId, member: Member) -> None:
        """An observer is about to suspect a member that did not answer its own probe."""
        if self._fastest is None:
            return
        now = self._clock()
        period_s = self._config.probe_interval_s
        seen = self._observers[observer]
        held, since_s = seen.beliefs.get(member.node_id, (None, now))
        why = "it claimed to be alive" if held is not None and held.state is State.ALIVE else ""
        for begin_s, end_s in seen.pauses:
            # One that is longer is noticed, whenever in a period it began.
            if min(end_s, now) - begin_s > 2 * period_s / self._slowest + _ROUNDING_S and min(end_s, now) > since_s:
                since_s, why = min(end_s, now), "the observer stood still"
        if why and now - since_s < period_s / self._fastest - _ROUNDING_S:
            raise self._violation(
                "swim-time-to-answer",
                f"{observer} suspects {member.name} by a probe of its own {now - since_s:.3f} s after {why}",
                observer,
                member.node_id,
            )

    def look(self, view: View) -> None:
        """All that one node says of itself and holds of others."""
        for member in view.members.values():
            if member.node_id == view.observer:
                self.claimed(member)
        for member in view.members.values():
            if member.node_id != view.observer:
                self.believes(view.observer, member)

    def _check_order(self, observer: NodeId, held: Member | None, member: Member) -> None:
        if held is not None and (member.incarnation, member.state) < (held.incarnation, held.state):
            raise self._violation(
                "swim-precedence",
                f"{observer} held {member.name} {held.state.name} at {held.incarnation} and now {member.state.name} at"
                f" {member.incarnation}",
                observer,
                member.node_id,
            )

    def _check_departure(self, observer: NodeId, member: Member) -> None:
        if (member.node_id, member.incarnation) not in self._departures:
            raise self._violation(
                "swim-departure",
                f"{observer} holds that {member.name} left at {member.incarnation}, which never said so",
                observer,
                member.node_id,
            )

    def _check_death(self, observer: NodeId, held: Member | None, since_s: float, member: Member) -> None:
        """Whoever holds a live member dead has suspected it for as long as it had to refute, and has run meanwhile.

        Whoever never knew it alive may have heard of its death, unless nobody else declared it.
        """
        if self._fastest is None or member.state is not State.DEAD:
            return
        death = (member.node_id, member.incarnation)
        is_known = death in self._deaths
        self._deaths.add(death)
        if is_known and (held is None or not held.is_live):
            return
        if held is None or held.state is not State.SUSPECT:
            raise self._violation(
                "swim-time-to-refute",
                f"{observer} holds {member.name} dead at {member.incarnation}, and held it"
                f" {'for nobody' if held is None else f'{held.state.name} at {held.incarnation}'} before",
                observer,
                member.node_id,
            )
        now = self._clock()
        pauses = [(begin_s, end_s) for begin_s, end_s in self._observers[observer].pauses if end_s > since_s]
        ran_s = now - since_s - sum(min(end_s, now) - max(begin_s, since_s) for begin_s, end_s in pauses)
        # A pause is noticed when it is longer than a period, from the end of one on.
        unnoticed_s = 2 * len(pauses) * self._config.probe_interval_s
        least_s = (self._config.suspicion_s(1) - unnoticed_s) / self._fastest
        if ran_s < least_s - _ROUNDING_S:
            raise self._violation(
                "swim-time-to-refute",
                f"{observer} holds {member.name} dead after {ran_s:.3f} s of suspicion, and {least_s:.3f} s are due",
                observer,
                member.node_id,
            )

    def _is_forgotten(self, held: Member, since_s: float, now: float) -> bool:
        """Whether the observer may have forgotten it, so that it can believe older rumours again."""
        return not held.is_live and now >= since_s + self._config.dead_retention_s

    # ---- what must have become true

    def check(self, views: Sequence[View], bounds: SwimBounds | None = None) -> None:
        """What every live node holds, against what is so. Costs a look-up for each pair of a node and a crashed one.

        Args:
            views: of all nodes that run.
            bounds: for as many as there are now; None for those of all times.
        """
        bounds, calm_since_s = bounds or self._bounds, self._calm_since_s
        if bounds is None or calm_since_s is None:
            return
        now = self._clock()
        since_s = {
            view.observer: max(calm_since_s, self._responsive_since_s[view.observer])
            for view in views
            if view.observer in self._responsive_since_s
        }
        live = [view for view in views if view.observer in since_s]
        for node_id, crash in self._crashes.items():
            self._check_crash(node_id, crash, live, since_s, bounds)
        settled = [view for view in live if now - since_s[view.observer] > bounds.healing_s]
        self._check_nobody_live_is_dead(settled)

    def _check_crash(
        self, node_id: NodeId, crash: _Crash, live: list[View], since_s: Mapping[NodeId, float], bounds: SwimBounds
    ) -> None:
        now = self._clock()
        fooled = {
            view.observer: now - max(crash.at_s, since_s[view.observer])
            for view in live
            if (held := view.members.get(node_id)) is not None and held.is_live and held.incarnation <= crash.claim
        }
        bound_s = bounds.detection_s
        if fooled and len(fooled) == len(live) and min(fooled.values()) > bound_s:
            raise self._violation(
                "swim-detection-bound",
                f"{node_id} crashed {now - crash.at_s:.3f} s ago and all hold it live; the bound is {bound_s:.3f} s",
                node_id,
                *fooled,
            )
        late = [observer for observer, waited_s in fooled.items() if waited_s > bounds.known_to_all_s]
        if late:
            raise self._violation(
                "swim-spread-bound",
                f"{node_id} crashed {now - crash.at_s:.3f} s ago and {len(late)} of {len(live)} still hold it live; the"
                f" bound is {bounds.known_to_all_s:.3f} s",
                node_id,
                *late,
            )

    def _check_nobody_live_is_dead(self, settled: list[View]) -> None:
        for view in settled:
            for other in settled:
                held = view.members.get(other.observer)
                truth = other.members.get(other.observer)
                if truth is None:
                    continue  # strangers speak in its name, so nothing is judged of it
                if held is not None and not held.is_live and truth.state is not State.LEFT:
                    raise self._violation(
                        "swim-live-stays-dead",
                        f"{view.observer} holds {truth.name} {held.state.name} at {held.incarnation}, which runs at"
                        f" {truth.incarnation}, long after the last fault",
                        view.observer,
                        other.observer,
                    )

    def _violation(self, invariant: str, message: str, *nodes: NodeId) -> Violation:
        return Violation(invariant, virtual_s=self._clock(), message=message, nodes=nodes)
