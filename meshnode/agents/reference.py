"""References: how one agent is called, from a node, a client or another agent."""

from collections.abc import Awaitable, Callable
from typing import Any

from meshnode.agents import plain
from meshnode.agents.definition import Agent, Definition, check_key, definition_of
from meshnode.errors import InvalidArgument, MeshError

Invoke = Callable[[str, str, str, tuple[Any, ...], dict[str, Any]], Awaitable[Any]]
"""Make one call: agent type, key, method, positional and named arguments; the result as plain data."""


class Reference:
    """Calls to one agent: each attribute is a method of it. Made by ``node.ref`` and ``client.ref``."""

    __slots__ = ("_definition", "_invoke", "_key", "_type")

    def __init__(self, agent_type: type[Agent[Any]] | str, key: str, invoke: Invoke) -> None:
        check_key(key)
        self._definition: Definition | None = None if isinstance(agent_type, str) else definition_of(agent_type)
        self._type = agent_type if isinstance(agent_type, str) else definition_of(agent_type).name
        self._key = key
        self._invoke = invoke

    def __repr__(self) -> str:
        return f"<reference to {self._type}/{self._key}>"

    def __getattr__(self, method: str) -> Callable[..., Awaitable[Any]]:
        if method.startswith("_"):
            raise AttributeError(method)
        handler = None if self._definition is None else self._definition.handler(method)

        async def call(*positional: Any, **named: Any) -> Any:
            result = await self._invoke(self._type, self._key, method, positional, named)
            if handler is None:
                return result
            try:
                return plain.convert(result, handler.returns)
            except InvalidArgument as error:
                raise MeshError(
                    f"{self._type}/{self._key}.{method} returned something else than {handler.returns}: {error}. "
                    "Do both sides run the same application?"
                ) from error

        return call
