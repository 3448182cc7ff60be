"""A small deterministic world for membership cores: virtual time, a lossy network, crashes, partitions and pauses.

Everything is drawn from the seed: the same seed gives the same events, whatever `PYTHONHASHSEED` is.
"""

import functools
import hashlib
import heapq
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from meshnode import wire
from meshnode.identity import Address, Boot, NodeId
from meshnode.membership.config import HEADER_BYTES, SwimConfig
from meshnode.membership.effects import Changed, Counters, Effect, SeedsSilent, Send
from meshnode.membership.messages import Member, Message, State, first_incarnation
from meshnode.membership.swim import Swim

LATENCY_S = (0.0005, 0.010)


@dataclass(slots=True)
class Node:
    """One participant, over all of its starts."""

    index: int
    node_id: NodeId
    address: Address
    boot: int = 0
    swim: Swim | None = None
    wake_at: float | None = None
    paused_until: float = 0.0
    waiting: list[tuple[Message, Address]] = field(default_factory=list)
    changes: list[tuple[float, Changed]] = field(default_factory=list)
    silences: list[int] = field(default_factory=list)

    @property
    def core(self) -> Swim:
        assert self.swim is not None, f"node {self.index} is down"
        return self.swim


class World:
    """Nodes by index; `run_for` and `run_until` let virtual time pass."""

    def __init__(
        self,
        seed: int,
        nodes: int,
        *,
        config: SwimConfig | None = None,
        loss: float = 0.0,
        traced: bool = False,
        measured: bool = False,
    ) -> None:
        """
        Args:
            seed: of everything random.
            nodes: how many there are; none is started yet.
            config: the same for all.
            loss: the share of datagrams that get lost.
            traced: whether to digest every event; see `trace`.
            measured: whether to check that each message fits in its datagram.
        """
        self.config = config or SwimConfig()
        self.loss = loss
        self.now = 0.0
        self.sent = 0
        self.past_lives = Counters()
        self._seed = seed
        self._rng = random.Random(f"world {seed}")
        self._groups: dict[int, int] = {}
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._trace = hashlib.blake2b(digest_size=16) if traced else None
        self._measured = measured
        self.nodes = [
            Node(index, NodeId(self._rng.getrandbits(62) + 1), Address(f"10.0.{index // 250}.{index % 250 + 1}", 7946))
            for index in range(nodes)
        ]
        self._by_address = {node.address: node for node in self.nodes}

    # ---- what happens to nodes

    def start(self, index: int, seeds: Iterable[int] = ()) -> None:
        """A new life of the node, on the same data directory as the ones before."""
        node = self.nodes[index]
        assert node.swim is None, f"node {index} runs already"
        node.boot += 1
        member = Member(
            node.node_id, f"n{index}", node.address, Boot(node.boot), first_incarnation(Boot(node.boot)), zone="z"
        )
        node.swim = Swim(self.config, member, random.Random(f"{self._seed}/{index}/{node.boot}"), self.now)
        node.wake_at = None
        self._perform(node, node.swim.join([self.nodes[seed].address for seed in seeds], self.now))

    def start_all(self, *, spread_s: float = 0.0) -> None:
        """Node 0 founds the mesh, and the others join it during the next ``spread_s`` seconds."""
        self.start(0)
        for node in self.nodes[1:]:
            self.run_for(spread_s / len(self.nodes))
            self.start(node.index, [0])

    def crash(self, index: int) -> None:
        """The process is gone, without a word."""
        node = self.nodes[index]
        self._bury(node)
        node.swim = None
        node.waiting.clear()

    def leave(self, index: int) -> None:
        """The node says good-bye, and its process ends."""
        node = self.nodes[index]
        self._perform(node, node.core.leave(self.now))
        self.crash(index)

    def pause(self, index: int, for_s: float) -> None:
        """Stop the process, as SIGSTOP does: datagrams wait in its socket, and its timers come late."""
        node = self.nodes[index]
        node.paused_until = self.now + for_s
        self.at(node.paused_until, lambda: self._resume(node))

    def partition(self, *groups: Iterable[int]) -> None:
        """Only nodes of one group reach each other."""
        self._groups = {index: number for number, group in enumerate(groups) for index in group}

    def heal(self) -> None:
        """Everyone reaches everyone again."""
        self._groups = {}

    # ---- what is seen

    @property
    def running(self) -> list[Node]:
        return [node for node in self.nodes if node.swim is not None]

    def state(self, seen_by: int, index: int) -> State | None:
        """What one node believes of another; None if it does not know it."""
        member = self.nodes[seen_by].core.members.get(self.nodes[index].node_id)
        return None if member is None else member.state

    def converged(self) -> bool:
        """Whether everyone who runs sees exactly those who run as alive, each at its newest claim."""
        truth = {node.node_id: node.core.me for node in self.running}
        return all(
            {member.node_id: member for member in node.core.members.values() if member.is_live} == truth
            for node in self.running
        )

    def total(self, counter: str) -> int:
        """The sum of one of the `Counters`, over all lives of all nodes."""
        lives = [self.past_lives, *[node.core.counters for node in self.running]]
        return sum(int(getattr(life, counter)) for life in lives)

    @property
    def trace(self) -> str:
        """A digest of everything that was sent and believed so far."""
        assert self._trace is not None
        return self._trace.hexdigest()

    # ---- time

    def at(self, when: float, event: Callable[[], None]) -> None:
        """Let something happen."""
        self._count += 1
        heapq.heappush(self._events, (when, self._count, event))

    def run_for(self, seconds: float) -> None:
        """Let time pass."""
        until = self.now + seconds
        while self._events and self._events[0][0] <= until:
            self._step()
        self.now = until

    def run_until(self, condition: Callable[[], bool], *, within_s: float, every_s: float = 0.05) -> float:
        """Let time pass until the condition holds, looked at now and then. Returns how long it took.

        Raises:
            AssertionError: it took longer than ``within_s``.
        """
        began = self.now
        while not condition():
            assert self.now < began + within_s, f"seed {self._seed}: not so after {within_s} virtual seconds"
            self.run_for(every_s)
        return self.now - began

    def _step(self) -> None:
        self.now, _, event = heapq.heappop(self._events)
        event()

    # ---- between core and network

    def _perform(self, node: Node, effects: list[Effect]) -> None:
        for effect in effects:
            if self._trace is not None:
                self._trace.update(f"{self.now:.9f} {node.index} {effect!r}\n".encode())
            match effect:
                case Send():
                    self._send(node, effect)
                case Changed():
                    node.changes.append((self.now, effect))
                case SeedsSilent():
                    node.silences.append(effect.attempts)
        self._plan_wake(node)

    def _send(self, source: Node, send: Send) -> None:
        self.sent += 1
        if self._measured:
            size = HEADER_BYTES + len(wire.encode(send.message))
            assert size <= self.config.datagram_bytes_max, (size, send)
        target = self._by_address.get(send.to)
        lost = self._rng.random() < self.loss
        delay = self._rng.uniform(*LATENCY_S)
        if target is None or lost or self._groups.get(source.index) != self._groups.get(target.index):
            return
        self.at(self.now + delay, lambda: self._deliver(target, send.message, source.address))

    def _deliver(self, node: Node, message: Message, sender: Address) -> None:
        if node.swim is None:
            return
        if self.now < node.paused_until:
            node.waiting.append((message, sender))
            return
        self._perform(node, node.swim.receive(message, sender, self.now))

    def _plan_wake(self, node: Node) -> None:
        at = node.core.next_deadline
        if at != float("inf") and (node.wake_at is None or at < node.wake_at):
            node.wake_at = at
            self.at(at, functools.partial(self._wake, node, node.core, at))

    def _wake(self, node: Node, swim: Swim, planned: float) -> None:
        if node.swim is not swim or node.wake_at != planned or self.now < node.paused_until:
            return
        node.wake_at = None
        effects = swim.wake(self.now) if swim.next_deadline <= self.now else []
        assert swim.next_deadline > self.now
        self._perform(node, effects)

    def _resume(self, node: Node) -> None:
        if node.swim is None or self.now < node.paused_until:
            return
        # The driver wakes the core first: the worst order, since the answers are still unread.
        node.wake_at = None
        self._perform(node, node.swim.wake(self.now))
        waiting, node.waiting = node.waiting, []
        for message, sender in waiting:
            self._deliver(node, message, sender)

    def _bury(self, node: Node) -> None:
        for name in self.past_lives.__slots__:
            setattr(self.past_lives, name, getattr(self.past_lives, name) + getattr(node.core.counters, name))
