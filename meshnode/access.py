"""What a `Node` and an outside `Client` have in common: agents by reference, models, locks, and a life as a context."""

import contextlib
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from kernels import Mlp
from meshnode.agents.caller import Caller
from meshnode.agents.definition import Agent
from meshnode.agents.reference import Reference
from meshnode.coordination.configuration import Configuration
from meshnode.coordination.coordinator import Coordinator
from meshnode.coordination.election import Election
from meshnode.coordination.lock import TTL_DEFAULT_S, Lock
from meshnode.prediction.shelf import ModelShelf

A = TypeVar("A", bound=Agent[Any])

MODEL_TIMEOUT_S = 10.0


class Access:
    """The shared interface; the two differ in their `caller`, and in `_live`, what runs meanwhile.

    Args:
        call_timeout_s: the deadline of a call whose caller gives none.
    """

    caller: Caller
    coordinator: Coordinator

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

    def lock(
        self, *names: str, ttl: float = TTL_DEFAULT_S, timeout: float | None = None
    ) -> contextlib.AbstractAsyncContextManager[Lock]:
        """Hold a lock, or several at once, while a block runs: ``async with node.lock("name") as lock: …``

        Waiters are served in order. Hand ``lock.token`` to what the lock protects, and have that refuse lower tokens
        than it has seen: a process that is stopped for longer than the TTL can't know that it holds the lock no more.
        A process that does know is told at once: the block is cancelled, and ends with `LockLost`.

        Args:
            names: all are got together or none is, so that nobody waits for somebody who waits.
            ttl: seconds after which others may get it when this process is not heard of: 1 s to a day. It may take some
                seconds longer, and never less.
            timeout: seconds to wait for it; None for as long as it takes.

        Raises:
            InvalidArgument: a name, the TTL or the timeout is out of bounds.
            LockTimeout: others have it; the message says who.
            Unavailable: the Raft group did not answer within ``timeout``.
            Overloaded: too many locks are held or waited for in the whole mesh.
            LockLost: it is not held any more; the block was cancelled, or had come to its end.
        """
        return self.coordinator.locks.lock(*names, ttl=ttl, timeout=timeout)

    def election(self, role: str, *, ttl: float = TTL_DEFAULT_S) -> Election:
        """The election of a leader for a role of the program's own: campaign in it, or ask who leads.

        Args:
            ttl: seconds after which another one may lead when the leader's process is not heard of; see `lock`.
        """
        return self.coordinator.election(role, ttl=ttl)

    @property
    def configuration(self) -> Configuration:
        """The replicated configuration of the mesh: ``await node.configuration.put("key", "value")``"""
        return self.coordinator.configuration

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
