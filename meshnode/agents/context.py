"""What a turn can reach: other agents and predictions."""

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

import xxhash

from meshnode.agents.caller import Caller
from meshnode.agents.definition import Agent
from meshnode.agents.reference import Reference
from meshnode.agents.request import identity_of
from meshnode.agents.service import TurnInfo
from meshnode.host import Host
from meshnode.identity import Epoch

A = TypeVar("A", bound=Agent[Any])

TURN_PREFIX = "turn:"
"""So begin the request ids of calls made inside turns."""

CLOCKS_APART_S = 600.0
"""How far the clocks of nodes may be apart: replies are kept until a time, which another node may tell."""


class TurnContext:
    """The surroundings of one turn.

    A call made by the turn is identified by the turn's own request, the agent that it goes to, and an ordinal: a turn
    that runs again after a crash gets the answers of the calls that it made the first time. It must therefore make its
    calls to any one agent in the same order.
    """

    def __init__(
        self, host: Host, caller: Caller, predict: Callable[[str, Any], Awaitable[Any]], turn: TurnInfo
    ) -> None:
        self._host = host
        self._caller = caller
        self._predict = predict
        self._turn = turn
        self._calls: Counter[tuple[str, str]] = Counter()

    @property
    def fencing_token(self) -> Epoch:
        """The epoch of the primary that runs the turn."""
        return self._turn.epoch

    def ref(self, agent_type: type[A], key: str) -> A:
        """Another agent; its calls end when this turn's caller waits no longer."""
        return cast(A, Reference(agent_type, key, self._invoke))

    async def predict(self, model: str, rows: Any) -> Any:
        """See `meshnode.prediction.predictor.Predictor.predict`."""
        return await self._predict(model, rows)

    async def _invoke(
        self, agent_type: str, key: str, method: str, positional: tuple[Any, ...], named: dict[str, Any]
    ) -> Any:
        call = self._turn.call
        request_id = ""
        if not self._turn.is_read_only:  # a read that runs again is another read
            self._calls[agent_type, key] += 1
            turn = (call.agent_type, call.key, identity_of(call))
            identity = repr((turn, agent_type, key, self._calls[agent_type, key]))
            request_id = TURN_PREFIX + xxhash.xxh3_128_hexdigest(identity.encode())
        return await self._caller.call(
            agent_type,
            key,
            method,
            positional,
            named,
            timeout_s=max(0.0, self._turn.deadline_s - self._host.now()),
            request_id=request_id,
            # As long as the turn may run again: while its own caller may ask for it again.
            keep_s=call.keep_s if call.request_id else call.timeout_s + CLOCKS_APART_S,
            chain=(*call.chain, f"{call.agent_type}/{call.key}"),
        )
