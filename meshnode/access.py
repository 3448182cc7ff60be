"""What a `Node` and an outside `Client` have in common: agents by reference, models, and a life as a context."""

import contextlib
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from kernels import Mlp
from meshnode.agents.caller import Caller
from meshnode.agents.definition import Agent
from meshnode.agents.reference import Reference
from meshnode.prediction.shelf import ModelShelf

A = TypeVar("A", bound=Agent[Any])

MODEL_TIMEOUT_S = 10.0


class Access:
    """The shared interface; the two differ in their `caller`, and in `_live`, what runs meanwhile.

    Args:
        call_timeout_s: the deadline of a call whose caller gives none.
    """

    caller: Caller

    def __init__(self, call_timeout_s: float) -> None:
        self._call_timeout_s = call_timeout_s
        self._context: contextlib.AbstractAsyncContextManager[None] | None = None

    def ref(self, agent_type: type[A] | str, key: str, *, timeout_s: float | None = None, request_id: str = "") -> A:
        """A reference to an agent: ``await node.ref(Counter, "42").add(3)``.

        Args:
            timeout_s: the deadline of each call.
            request_id: calls with the same one, to the same agent, take effect once, for 24 hours; it is for one call.
        """
        timeout = self._call_timeout_s if timeout_s is None else timeout_s

        async def invoke(
            agent_type: str, key: str, method: str, positional: tuple[Any, ...], named: dict[str, Any]
        ) -> Any:
            return await self._call(
                agent_type, key, method, positional, named, timeout_s=timeout, request_id=request_id
            )

        return cast(A, Reference(agent_type, key, invoke))

    async def publish_model(self, name: str, model: Mlp) -> int:
        """Publish a model to the whole mesh; its version. Nodes that use an older one see it within seconds."""
        return await self.ref(ModelShelf, name, timeout_s=MODEL_TIMEOUT_S).publish(model.to_bytes())

    async def __aenter__(self) -> Self:
        self._context = self._live()
        await self._context.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        assert self._context is not None
        try:
            return await self._context.__aexit__(kind, error, trace)
        except BaseExceptionGroup as group:
            if group.exceptions == (error,):
                return False  # what the block raised, and nothing beside it: it comes out as it is
            raise

    def _live(self) -> contextlib.AbstractAsyncContextManager[None]:
        """Everything that runs while the context lasts."""
        raise AssertionError(f"{type(self).__name__} says what runs")

    async def _call(
        self,
        agent_type: str,
        key: str,
        method: str,
        positional: tuple[Any, ...],
        named: dict[str, Any],
        *,
        timeout_s: float,
        request_id: str,
    ) -> Any:
        """Make one call; see `meshnode.agents.caller.Caller.call`."""
        return await self.caller.call(
            agent_type, key, method, positional, named, timeout_s=timeout_s, request_id=request_id
        )
