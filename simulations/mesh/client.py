"""Clients of a workload: the production `Client`, with chance of its own and a memory of what it saw."""

import random
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar, cast

from meshnode import Client, MeshError, OutcomeUnknown, TurnTimeout, Unavailable
from meshnode.host import Host
from meshnode.identity import Address
from meshnode.links import Tls
from simulations.checkers.history import History, Json

T = TypeVar("T", bound=Json)

TIMEOUTS_S = (1.0, 3.0, 10.0)
"""How long clients may wait for an answer: less than a takeover takes, about as long, and longer."""

CAUSED_BY_FAULTS = (Unavailable, OutcomeUnknown, TurnTimeout)
"""What a call may raise through no mistake of anybody's while things go wrong."""


class SimClient(Client):
    """A client on a machine of its own.

    Attributes:
        number: from 0.
        rng: what this client draws; each one's is its own.
    """

    def __init__(
        self,
        nodes: Sequence[Address],
        *,
        host: Host,
        number: int,
        rng: random.Random,
        history: History,
        now_ns: Callable[[], int],
        tls: Tls | None = None,
    ) -> None:
        super().__init__(nodes, host=host, tls=tls)
        self.number = number
        self.rng = rng
        self._history = history
        self._now_ns = now_ns

    async def operation(self, op: str, key: str, value: Json, call: Awaitable[T]) -> T:
        """Await the call, and keep it in the history of the run as one operation on ``key``.

        Args:
            value: what the operation was given, as the model has it; the result of ``call`` is what it returned.

        Raises:
            ValueError: one that this client began has not ended.
            BaseException: whatever ``call`` raises; the operation then failed, or nobody knows.
        """
        history = self._history
        operation = history.invoke(self.number, op=op, key=key, value=value, time_ns=self._now_ns())
        try:
            result = await call
        except (OutcomeUnknown, TurnTimeout) as error:
            history.info(operation, str(error)[:80], time_ns=self._now_ns())
            raise
        except MeshError as error:
            history.fail(operation, str(error)[:80], time_ns=self._now_ns())
            raise
        history.ok(operation, cast(Json, result), time_ns=self._now_ns())
        return result
