"""Clients of a workload: the production `Client`, with chance of its own and a memory of what it saw."""

import heapq
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar, cast

from meshnode import CallerError, Client, MeshError, OutcomeUnknown, TurnTimeout, Unavailable
from meshnode.host import Host
from meshnode.identity import Address
from meshnode.links import Tls
from simulations.checkers.history import History, Json

T = TypeVar("T", bound=Json)

PARTS_MAX = 3
"""Agents on which one call may work at a time."""

LANES = 3 * PARTS_MAX
"""Operations of one client that may be under way: in a history each needs a process of its own."""

TIMEOUTS_S = (1.0, 3.0, 10.0)
"""How long clients may wait for an answer: less than a takeover takes, about as long, and longer."""

CAUSED_BY_FAULTS = (Unavailable, OutcomeUnknown, TurnTimeout)
"""What a call may raise through no mistake of anybody's while things go wrong."""


class SimClient(Client):
    """A client on a machine of its own.

    Attributes:
        number: from 0. In the history it is as many clients as it does operations at a time: this one, and those that
            come after all of the run, at the same distances.
        rng: what this client draws; each one's is its own.
        calls: how many calls of agents it has begun.
    """

    def __init__(
        self,
        nodes: Sequence[Address],
        *,
        host: Host,
        number: int,
        clients: int,
        rng: random.Random,
        history: History,
        now_ns: Callable[[], int],
        tls: Tls | None = None,
    ) -> None:
        super().__init__(nodes, host=host, tls=tls)
        self.number = number
        # The lowest first, so that one thing at a time has one number; a heap.
        self._idle = [number + lane * clients for lane in range(LANES)]
        self.rng = rng
        self.calls = 0
        self._history = history
        self._now_ns = now_ns

    async def _call(self, *call: Any, **options: Any) -> Any:
        self.calls += 1
        return await super()._call(*call, **options)

    async def operation(self, op: str, key: str, value: Json, call: Awaitable[T]) -> T:
        """Await the call, and keep it in the history of the run as one operation on ``key``.

        Args:
            value: what the operation was given, as the model has it; the result of ``call`` is what it returned.

        Raises:
            ValueError: `LANES` that this client began have not ended.
            BaseException: whatever ``call`` raises; the operation then failed, or nobody knows.
        """

        async def alone() -> list[T]:
            return [await call]

        (result,) = await self.operations([(op, key, value)], alone())
        return result

    async def operations(self, parts: Sequence[tuple[str, str, Json]], call: Awaitable[Sequence[T]]) -> Sequence[T]:
        """Await a call of one agent that calls others; in the history each of these does an operation of its own.

        Args:
            parts: ``op``, ``key`` and ``value`` of each, as above, that of the called agent first; at most `PARTS_MAX`.
                ``call`` returns what each of them returned.

        Raises:
            ValueError, BaseException: as above.
        """
        history, now_ns = self._history, self._now_ns
        if len(parts) > len(self._idle):
            raise ValueError(f"client {self.number} has {LANES - len(self._idle)} operations under way: {LANES} may be")
        lanes = [heapq.heappop(self._idle) for _ in parts]
        begun = [
            history.invoke(lane, op=op, key=key, value=value, time_ns=now_ns())
            for lane, (op, key, value) in zip(lanes, parts, strict=True)
        ]
        try:
            results = await call
        except BaseException as error:
            for number, operation in enumerate(begun):
                has_failed = _have_failed(error) if number else _has_failed(error)
                end = history.fail if has_failed else history.info
                end(operation, str(error)[:80], time_ns=now_ns())
            raise
        else:
            for operation, result in zip(begun, results, strict=True):
                history.ok(operation, cast(Json, result), time_ns=now_ns())
            return results
        finally:
            for lane in lanes:
                heapq.heappush(self._idle, lane)


def _has_failed(error: BaseException) -> bool:
    """Whether the called agent is as it was, and stays so."""
    return isinstance(error, MeshError) and not isinstance(error, OutcomeUnknown)


def _have_failed(error: BaseException) -> bool:
    """Whether those are too that it may have called."""
    return isinstance(error, CallerError | Unavailable)
