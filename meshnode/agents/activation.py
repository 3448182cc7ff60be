"""An agent in memory, and its turns."""

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import trio

from meshnode.agents import plain
from meshnode.agents.config import RECORD_BYTES_MAX
from meshnode.agents.definition import Agent, Definition, Surroundings
from meshnode.agents.ledger import Reply
from meshnode.agents.request import Request
from meshnode.errors import AgentError, InvalidArgument, MeshError, TurnTimeout
from meshnode.host import Host
from meshnode.log import get_logger

ERROR_CHARACTERS_MAX = 4096
"""Of an error's message: it is kept with the reply, and may hold anything."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a turn ended.

    Attributes:
        state: what the agent keeps from now on; None where the turn did not change it.
    """

    reply: Reply
    state: bytes | None = None


@dataclass(slots=True, eq=False)
class Activation:
    """An agent whose turns run here.

    Attributes:
        kept: its state in the log; empty before the first record.
        recorded: the sequence of its last record in this epoch.
        turns: set while turns run.
        agent: made for the first turn, and anew after one that failed, which may have left anything in it.
        seen: the state of ``agent`` when no turn runs, encoded. It may differ from ``kept``: in fields that are newer
            than the record, in the order of a set.
    """

    definition: Definition
    key: str
    kept: bytes
    used_at_s: float
    recorded: int = 0
    mailbox: deque[Request] = field(default_factory=deque)
    turns: trio.CancelScope | None = None
    agent: Agent[Any] | None = None
    seen: bytes = b""

    async def take_turn(
        self, request: Request, surroundings: Surroundings, *, host: Host, state_bytes_max: int
    ) -> Ended:
        """Run a handler until the request's deadline. Unless it returns, the agent's state is as it was before."""
        ended: Ended | None = None
        with host.deadline(request.deadline_s):
            try:
                agent = self._present()
                agent.node = surroundings
                arguments = request.arguments
                result = await getattr(agent, request.call.method)(*arguments.args, **arguments.kwargs)
                ended = self._returned(request, agent, result, state_bytes_max)
            except MeshError as error:
                ended = Ended(Reply(error.code, _text(error)))
            except Exception as error:  # noqa: BLE001 - whatever user code raises is an answer
                get_logger().info("handler raised", agent=_name(request), exc_info=True)
                ended = Ended(Reply(AgentError.code, f"{type(error).__name__}: ".encode() + _text(error)))
        if ended is None:
            late = f"{_name(request)} took longer than its caller waits"
            ended = Ended(Reply(TurnTimeout.code, late.encode()))
        if ended.reply.code:
            self.agent = None
        return ended

    def keep(self, state: bytes, sequence: int) -> None:
        """The state was recorded."""
        self.kept = state
        self.recorded = sequence

    def _present(self) -> Agent[Any]:
        """Raises InvalidArgument when the kept state does not fit the type any more, and what the class raises."""
        agent = self.agent
        if agent is None:
            agent = self.definition.cls()
            agent.key = self.key
            agent.state = self.definition.decode_state(self.kept)
            self.seen = plain.encode(agent.state, "the state")
            self.agent = agent
        return agent

    def _returned(self, request: Request, agent: Agent[Any], result: object, state_bytes_max: int) -> Ended:
        """Raises InvalidArgument when the result or the state can't be kept."""
        method = request.call.method
        reply = Reply("", plain.encode_readable(result, f"the result of {method}"))
        state = plain.encode(agent.state, "the state")
        written = len(reply.payload)
        # An agent's first turn is kept even if it changed nothing: a new state may hold a time, or something drawn.
        is_changed = state != self.seen or not (self.kept or request.handler.is_read_only)
        if is_changed:
            if request.handler.is_read_only:
                raise InvalidArgument(f"{method} is read-only, but changed the state")
            if len(state) > state_bytes_max:
                raise InvalidArgument(f"the state has {len(state)} bytes; at most {state_bytes_max}")
            self.definition.decode_state(state)  # else the agent could never be activated again
            written += len(state)
        if written > RECORD_BYTES_MAX:
            raise InvalidArgument(f"{method} ends with {written} bytes to be written; at most {RECORD_BYTES_MAX}")
        self.seen = state
        return Ended(reply, state if is_changed else None)


def _name(request: Request) -> str:
    call = request.call
    return f"{call.agent_type}/{call.key}.{call.method}"


def _text(error: Exception) -> bytes:
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - an exception of the user's may not even have a message
        text = "its message can't be read"
    return text[:ERROR_CHARACTERS_MAX].encode(errors="backslashreplace")
