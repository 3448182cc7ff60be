"""What a turn can reach: other agents, predictions, and the node's clocks and chance."""

import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

import xxhash

from meshnode.agents.caller import Caller
from meshnode.agents.definition import Agent, definition_of
from meshnode.agents.reference import Reference
from meshnode.agents.request import identity_of
from meshnode.agents.service import TurnInfo
from meshnode.errors import CallerError, Unavailable
from meshnode.host import Host
from meshnode.identity import Epoch

A = TypeVar("A", bound=Agent[Any])

RERUN_S = 2 * 3600.0
"""How long after its caller's deadline a turn may run again that was cut off: a caller whose host was suspended asks on
where it stood. Its session lives an hour, and another one after a change of the primary."""


class TurnContext:
    """The surroundings of one turn.

    A call made by the turn is identified by the turn's own request, the agent that it goes to, and an ordinal: a turn
    that runs again after a crash gets the answers of the calls that it made the first time. It must therefore make its
    calls to any one agent in the same order. Calls of handlers known to be read-only are none of these: they are new
    each time. A turn that is read-only may run again without a trace, so all its calls must be such.
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

    @property
    def rng(self) -> random.Random:
        """The node's generator."""
        return self._host.rng

    def now(self) -> float:
        """The node's monotonic clock."""
        return self._host.now()

    def wall_clock(self) -> float:
        """The node's wall clock."""
        return self._host.wall_clock()

    def ref(self, agent_type: type[A] | str, key: str) -> A:
        """Another agent; its calls end when this turn's caller waits no longer."""
        definition = None if isinstance(agent_type, str) else definition_of(agent_type)

        async def invoke(
            type_name: str, key: str, method: str, positional: tuple[Any, ...], named: dict[str, Any]
        ) -> Any:
            with self._turn.footprint.noting():
                if self._turn.is_read_only or (definition is not None and definition.handler(method).is_read_only):
                    return await self._call(type_name, key, method, positional, named, is_read_only=True)
                return await self._change(type_name, key, method, positional, named)

        with self._turn.footprint.noting():
            return cast(A, Reference(agent_type, key, invoke))

    async def predict(self, model: str, rows: Any) -> Any:
        """See `meshnode.prediction.predictor.Predictor.predict`."""
        with self._turn.footprint.noting():
            return await self._predict(model, rows)

    async def _change(
        self, agent_type: str, key: str, method: str, positional: tuple[Any, ...], named: dict[str, Any]
    ) -> Any:
        """A call that may change the other agent, made once however often this turn runs."""
        call = self._turn.call
        footprint = self._turn.footprint
        self._calls[agent_type, key] += 1
        turn = (call.agent_type, call.key, identity_of(call))
        identity = repr((turn, agent_type, key, self._calls[agent_type, key]))
        footprint.changes += 1
        try:
            return await self._call(
                agent_type,
                key,
                method,
                positional,
                named,
                request_id=xxhash.xxh3_128_hexdigest(identity.encode()),
                keep_s=call.keep_s if call.request_id else call.timeout_s + RERUN_S,
                origin=footprint.origin,
            )
        except (CallerError, Unavailable):  # both say that nothing was changed
            footprint.changes -= 1
            raise

    async def _call(
        self,
        agent_type: str,
        key: str,
        method: str,
        positional: tuple[Any, ...],
        named: dict[str, Any],
        **options: Any,
    ) -> Any:
        call = self._turn.call
        return await self._caller.call(
            agent_type,
            key,
            method,
            positional,
            named,
            timeout_s=max(0.0, self._turn.deadline_s - self._host.now()),
            chain=(*call.chain, f"{call.agent_type}/{call.key}"),
            **options,
        )
