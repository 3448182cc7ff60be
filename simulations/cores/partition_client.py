"""A client of partitions: one request at a time, tried again under its name until it is answered."""

import random
from typing import Protocol

from meshnode.identity import NodeId, PartitionId
from simulations.checkers.history import History, Operation
from simulations.cores.heap import Action, EventHeap, Timer
from simulations.cores.network import Network
from simulations.cores.partition_traffic import Reply, Request


class Surroundings(Protocol):
    """What a client finds in its world."""

    heap: EventHeap
    network: Network
    history: History

    def target(self, partition: PartitionId, rng: random.Random) -> NodeId | None:
        """Where a request for the partition may go; None if there is nowhere yet."""
        ...


class PartitionClient:
    """Asks for writes and reads, with pauses in between.

    Args:
        world: where it is.
        number: of the client in the network.
        process: its number in the history, where an `append` returns the place of its record, and a `read` how many
            records it saw.
        partitions: that it asks for.
        pause_s: between two requests, on average.
        patience_s: how long it waits for an answer before it tries again.
        read_share: of its requests.
        rng: its own.

    Attributes:
        done: how many of its requests were answered.
        refused: how many tries were refused.
        partition: of the request under way; None between two.
    """

    def __init__(
        self,
        world: Surroundings,
        number: int,
        *,
        process: int,
        partitions: int,
        pause_s: float,
        patience_s: float,
        read_share: float,
        rng: random.Random,
    ) -> None:
        self.done = 0
        self.refused = 0
        self.partition: PartitionId | None = None
        self._world = world
        self._number = number
        self._process = process
        self._operation: Operation | None = None
        self._partitions = partitions
        self._pause_s = pause_s
        self._patience_s = patience_s
        self._read_share = read_share
        self._rng = rng
        self._attempt = 0
        self._key = b""
        self._is_stopping = False
        self._timer: Timer | None = None
        self._rest()

    def stop(self) -> None:
        """No new request; what is under way is still tried until it is answered."""
        self._is_stopping = True

    def ask(self, partition: PartitionId, *, is_read: bool) -> None:
        """Ask for this next, after `stop`. Nothing may be under way."""
        assert self.partition is None
        assert self._is_stopping
        self._begin(partition, is_read=is_read)

    def receive(self, envelope: tuple[Reply, int]) -> None:
        """An answer; one to an earlier try counts for nothing, except that a write is done."""
        reply = envelope[0]
        if reply.attempt != self._attempt or self.partition is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        if not reply.is_done:
            self.refused += 1
            # Not at once: whoever takes over needs a moment.
            self._timer = self._after(self._patience_s * self._rng.uniform(0.1, 0.5), self._try)
            return
        self.done += 1
        self.partition = None
        assert self._operation is not None
        self._world.history.ok(self._operation, reply.seen, time_ns=self._now_ns())
        if not self._is_stopping:
            self._rest()

    def _rest(self) -> None:
        self._after(self._rng.expovariate(1.0 / self._pause_s), self._next)

    def _next(self, _: object) -> None:
        if not self._is_stopping:
            partition = PartitionId(self._rng.randrange(self._partitions))
            self._begin(partition, is_read=self._rng.random() < self._read_share)

    def _begin(self, partition: PartitionId, *, is_read: bool) -> None:
        self.partition = partition
        self._key = b"" if is_read else b"%d.%d" % (self._number, self._attempt)
        self._operation = self._world.history.invoke(
            self._process,
            op="read" if is_read else "append",
            key=str(partition),
            value=None if is_read else self._key.decode(),
            time_ns=self._now_ns(),
        )
        self._try(None)

    def _try(self, _: object) -> None:
        assert self.partition is not None
        self._attempt += 1
        target = self._world.target(self.partition, self._rng)
        if target is not None:
            request = Request(self.partition, self._attempt, self._key)
            self._world.network.send(self._number, target, request)
        self._timer = self._after(self._patience_s, self._try)

    def _now_ns(self) -> int:
        return round(self._world.heap.now * 1e9)

    def _after(self, delay_s: float, action: Action) -> Timer:
        heap = self._world.heap
        return heap.timer(heap.now + delay_s, action)
