"""An agent in memory, and its turns."""

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import trio

from meshnode.agents import plain
from meshnode.agents.config import RECORD_BYTES_MAX
from meshnode.agents.definition import Agent, Definition, Surroundings
from meshnode.agents.footprint import Footprint
from meshnode.agents.reply import Reply
from meshnode.agents.request import Request
from meshnode.errors import (
    AgentError,
    CallerError,
    InvalidArgument,
    Overloaded,
    TurnTimeout,
    Unavailable,
    UnknownAgentType,
    UnknownMethod,
    UnknownSession,
)
from meshnode.host import Host
from meshnode.log import get_logger

ERROR_CHARACTERS_MAX = 4096
"""Of an error's message: it is kept with the reply, and may hold anything."""

CODE_CHARACTERS_MAX = 128
"""Of the name under which an error of the user's crosses the mesh."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a turn ended.

    Attributes:
        state: what the agent keeps from now on; None where the turn did not change it.
    """

    reply: Reply
    state: bytes | None = None


@dataclass(frozen=True, slots=True)
class Postponed:
    """The turn changed nothing anywhere, since something is not there at the moment: it may run again."""

    error: Unavailable


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
        self, request: Request, surroundings: Surroundings, footprint: Footprint, *, host: Host, state_bytes_max: int
    ) -> Ended | Postponed:
        """Run a handler until the request's deadline. Unless it returns, the agent's state is as it was before.

        Raises:
            trio.Cancelled, KeyboardInterrupt: the turn was stopped from outside. Nothing else.
        """
        ended: Ended | Postponed | None = None
        try:
            # Not within: at the deadline the scope takes its Cancelled out of a group of errors, and raises the others.
            with host.deadline(request.deadline_s):
                agent = self._present()
                agent.node = surroundings
                arguments = request.arguments
                result = await getattr(agent, request.call.method)(*arguments.args, **arguments.kwargs)
                ended = self._returned(request, agent, result, state_bytes_max)
        except BaseException as error:  # noqa: BLE001 - whatever user code raises is an answer
            await _let_pass(error)
            ended = _failed(error, footprint)
            if isinstance(ended, Ended) and ended.reply.code == AgentError.code:
                get_logger().info("handler raised", agent=_name(request), exc_info=True)
        if ended is None:
            late = f"{_name(request)} took longer than its caller waits"
            ended = Ended(Reply(TurnTimeout.code, late.encode()))
        if isinstance(ended, Postponed) or ended.reply.code:
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


async def _let_pass(error: BaseException) -> None:
    """Raise what stops the turn from outside: the operator, the end of the node, another primary."""
    interrupt: BaseException | None = error
    if isinstance(error, BaseExceptionGroup):
        interrupt = error.subgroup(KeyboardInterrupt)
    if isinstance(interrupt, KeyboardInterrupt | BaseExceptionGroup):
        raise interrupt
    # A Cancelled may be an old one that the handler kept, and other errors may have taken the place of a true one.
    await trio.lowlevel.checkpoint_if_cancelled()


def _failed(error: BaseException, footprint: Footprint) -> Ended | Postponed:
    """How a turn ended that raised. A class that says that nothing was changed is kept only where that is true."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]  # what a nursery adds
    if footprint.changes == 0:
        unavailable = _unavailable(error)
        if unavailable is not None:
            return Postponed(unavailable)
        if isinstance(error, CallerError) and _is_refusal(error) and not footprint.has_met(error):
            return Ended(Reply(type(error).code, _encode(_text(error))))
    return Ended(Reply(AgentError.code, _encode(f"{type(error).__name__[:ERROR_CHARACTERS_MAX]}: {_text(error)}")))


def _unavailable(error: BaseException) -> Unavailable | None:
    """Why the turn could not be done now, if there is no other reason."""
    match error:
        case Overloaded():
            return Overloaded(_text(error))
        case Unavailable():
            return Unavailable(_text(error))
        case BaseExceptionGroup() if all(_unavailable(one) is not None for one in error.exceptions):
            return _unavailable(error.exceptions[0])
    return None


def _is_refusal(error: CallerError) -> bool:
    """Whether a handler may end its own call with the error: some speak of the call itself, which was in order."""
    if isinstance(error, UnknownAgentType | UnknownMethod | UnknownSession):
        return False
    code: object = type(error).code  # a class of the user's may say anything
    return isinstance(code, str) and 1 <= len(code) <= CODE_CHARACTERS_MAX and code.isprintable()


def _text(error: BaseException) -> str:
    return plain.text_of(error)[:ERROR_CHARACTERS_MAX]


def _encode(text: str) -> bytes:
    return text.encode(errors="backslashreplace")
