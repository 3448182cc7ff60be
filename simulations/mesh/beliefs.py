"""Listens in on what nodes believe of each other, and has a checker judge it.

Whether a crash is known in time is judged while nothing disturbs membership: no fault of the plan that delays or drops
datagrams, stops a process or slows it. Crashes, whatever ends connections, stuck main loops and clocks that run fast or
slow are no such faults: the bounds allow for them.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from meshnode.identity import NodeId
from meshnode.membership.config import SwimConfig
from meshnode.membership.messages import Member, State
from meshnode.membership.roster import Roster
from meshnode.membership.swim import Swim
from simulations.checkers.swim import SwimChecker, View
from simulations.checkers.swim_bounds import SwimBounds, swim_bounds
from simulations.checkers.violation import Violation
from simulations.cores.faults import FOREVER, LAN
from simulations.kernel import Process
from simulations.kernel.process import State as LoopState
from simulations.kernel.process import current_process
from simulations.mesh.listening import Listener, Method, Wrapping
from simulations.plan import Faults

HARMLESS = frozenset(
    {
        "crashes", "leaves", "disk_kills", "bad_disks", "new_disks", "resets", "hangs", "stuck_loops", "wall_jumps",
        "clocks", "bad_devices", "strangers", "half_opens", "rolling_restarts",
    }
)  # fmt: skip
"""Kinds of faults that let datagrams of those that run pass in time."""

AFTERMATH_S = 3.0
"""What was late or held up when a fault ended is there by then."""

LATENCY_S = 0.01
"""Of a datagram on a link without faults, at most."""


@dataclass(slots=True)
class _Life:
    """One process that takes part.

    Attributes:
        is_responsive: whether its loop ran when it was last looked at.
    """

    process: Process
    swim: Swim
    config: SwimConfig
    is_responsive: bool = True

    @property
    def runs(self) -> bool:
        """Whether the loop of its membership is not stopped."""
        loops = [loop for loop in self.process.loops if loop is not self.process.main]
        return all(loop.state is LoopState.RUNNING for loop in loops)


class Beliefs(Listener):
    """Sees each change of what a node says of itself and holds of others; `look` says what should be so by now.

    Args:
        faults: of the plan.
    """

    def __init__(self, clock: Callable[[], float], fail: Callable[[Violation], None], *, faults: Faults) -> None:
        super().__init__(clock, fail)
        self._checker = SwimChecker(SwimConfig(), bounds=None, clock=clock)
        self._slowest = min([1.0, *(clock.rate for clock in faults.clocks)])
        self._disturbed = tuple(disturbances(faults))
        self._begun_s = FOREVER
        self._is_over = False
        # The last life of each node that ever took part, and of which of them the end is known.
        self._lives: dict[NodeId, _Life] = {}
        self._ended: dict[NodeId, None] = {}
        # Nodes of which an impostor ran on an old copy of their disk: what is said of them is not theirs alone.
        self._forged: set[NodeId] = set()
        self._bounds = functools.lru_cache(self._bounds_of)

    def wrappings(self) -> tuple[Wrapping, ...]:
        return (
            (Swim, "__init__", self._begin_heard),
            (Roster, "put", self.after(self._put)),
        )

    def begin(self) -> None:
        """Time 0 of the plan is now."""
        self._begun_s = self.clock()

    def calm(self) -> None:
        """The last fault has ended."""
        self._is_over = True
        self._checker.disturb()
        self._checker.calm()

    def _begin_heard(self, original: Method) -> Method:
        def heard(swim: Swim, config: SwimConfig, me: Member, *arguments: Any) -> None:
            process = current_process()
            assert process is not None
            if process.is_stray:
                self._forged.add(me.node_id)
            self.tell(self._checker.started, me)
            original(swim, config, me, *arguments)
            if process.is_alive and not process.is_stray:
                self._lives[me.node_id] = _Life(process, swim, config)
                self._ended.pop(me.node_id, None)

        return heard

    def _put(self, roster: Roster, member: Member) -> None:
        if roster.members.get(member.node_id) is not member:
            return  # there was no room for it
        if member.node_id in self._forged:
            return
        if member.node_id == roster._my_id:
            self._checker.claimed(member)
        else:
            self._checker.believes(roster._my_id, member)

    # ---- what has become true

    def look(self) -> None:
        """Judge what every node holds by now."""
        self.tell(self._look)

    def _look(self) -> None:
        if not self._is_over:
            if self._is_disturbed():
                self._checker.disturb()
            elif not self._checker.is_calm:
                self._checker.calm()
        views = []
        for node_id, life in self._lives.items():
            if not life.process.is_alive:
                self._note_end(node_id, life)
                continue
            if life.runs != life.is_responsive:
                life.is_responsive = life.runs
                (self._checker.resumed if life.runs else self._checker.paused)(node_id)
            if life.is_responsive:
                views.append(View(node_id, self._judged(life.swim.members)))
        if views:
            config = next(iter(self._lives.values())).config  # all have the same
            self._checker.check(views, self._bounds(config, len(views), len(self._lives) - len(views)))

    def _judged(self, members: Mapping[NodeId, Member]) -> Mapping[NodeId, Member]:
        if not self._forged:
            return members
        return {node_id: member for node_id, member in members.items() if node_id not in self._forged}

    def _note_end(self, node_id: NodeId, life: _Life) -> None:
        if node_id not in self._ended:
            self._ended[node_id] = None
            said_goodbye = life.swim.me.state is State.LEFT
            (self._checker.left if said_goodbye else self._checker.crashed)(node_id)

    def _is_disturbed(self) -> bool:
        since_s = self.clock() - self._begun_s
        return any(begin_s <= since_s < end_s for begin_s, end_s in self._disturbed)

    def _bounds_of(self, config: SwimConfig, live: int, gone: int) -> SwimBounds:
        return swim_bounds(config, live=live, gone=gone, latency_s=LATENCY_S, slowest=self._slowest)


def disturbances(faults: Faults) -> Iterator[tuple[float, float]]:
    """When datagrams may be lost or late by the plan, or those that run not run: from … to, in its time.

    Of a kind of fault that is not known here to be harmless, or to end, everything is expected.
    """
    if faults.quality != LAN:
        yield 0.0, faults.calm_s + AFTERMATH_S
    for item in dataclasses.fields(faults):
        value = getattr(faults, item.name)
        if item.name in HARMLESS or not isinstance(value, tuple):
            continue
        for fault in filter(dataclasses.is_dataclass, value):
            begin_s = getattr(fault, "at_s", 0.0)
            yield begin_s, begin_s + getattr(fault, "for_s", FOREVER) + AFTERMATH_S
