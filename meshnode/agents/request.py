"""Calls under way at the primary: who they are, and who waits for them."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from meshnode import wire
from meshnode.agents.definition import Handler
from meshnode.agents.ledger import Ledger
from meshnode.agents.messages import Answer, Call, Status
from meshnode.agents.reply import Reply
from meshnode.errors import AgentError, CallerError, InvalidArgument, MeshError

JOINED_MAX = 16
"""Questions that one running request answers: a caller has one, and those before it lost their connection."""

CHAIN_MAX = 32
"""Turns that may wait for one another: deeper is a loop that no check of names finds."""

Respond = Callable[[Answer], None]

Identity = tuple[int, int] | tuple[str, str, str] | tuple[str, str, str, int]
"""(session, request), (agent type, key, request id), the same with the partition of the turn that asks, or for a read
(0, token): no session is 0, so reads never join."""


def identity_of(call: Call) -> Identity:
    """Under which a call that writes is known until it is forgotten."""
    if call.origin is not None:
        return (call.agent_type, call.key, call.request_id, call.origin.partition)
    if call.request_id:
        return (call.agent_type, call.key, call.request_id)
    return (call.session, call.request)


@dataclass(slots=True, eq=False)
class Request:
    """A call that was admitted, with everybody who waits for its answer."""

    call: Call
    identity: Identity
    handler: Handler
    arguments: inspect.BoundArguments
    deadline_s: float
    waiting: list[tuple[int, Respond]]

    def join(self, number: int, respond: Respond) -> None:
        """Answer another question of the same identity too."""
        if len(self.waiting) >= JOINED_MAX:
            oldest, respond_oldest = self.waiting.pop(0)
            respond_oldest(Answer(oldest, Status.UNKNOWN, "overloaded", b"too many wait for this request: ask again"))
        self.waiting.append((number, respond))

    def respond(self, answer: Answer) -> None:
        """Answer everybody who waits, once."""
        for number, respond in self.waiting:
            respond(replace(answer, number=number))
        self.waiting.clear()


def recorded(number: int, reply: Reply) -> Answer:
    """The answer for a request that has ended."""
    return Answer(number, Status.FAILED if reply.code else Status.DONE, reply.code, reply.payload)


def refusal(number: int, error: MeshError) -> Answer:
    """The answer for a question that changed nothing."""
    status = Status.REFUSED if isinstance(error, CallerError | AgentError) else Status.TRY_AGAIN
    return Answer(number, status, error.code, str(error).encode(errors="backslashreplace"))


def known_reply(ledger: Ledger, call: Call) -> Reply | None:
    """The recorded reply of a request that has ended and is not forgotten."""
    request_id = (call.agent_type, call.key, call.request_id)
    if call.origin is not None:
        nested = ledger.nested.replies.get(request_id)
        return None if nested is None else nested.reply
    if call.request_id:
        kept = ledger.request_ids.get(request_id)
        return None if kept is None else kept[1]
    session = ledger.sessions.get(call.session)
    return None if session is None or session.replies is None else session.replies.get(call.request)


def split_arguments(data: bytes) -> tuple[list[Any], dict[str, Any]]:
    """The positional and the named arguments of a call. Raises InvalidArgument."""
    try:
        match wire.loads(data):
            case [list() as positional, dict() as named] if all(isinstance(name, str) for name in named):
                return positional, named
    except wire.WireError as error:
        raise InvalidArgument(f"the arguments are unreadable: {error}") from error
    raise InvalidArgument("the arguments are not a list and a map of names")


def check_chain(call: Call) -> None:
    """Refuse a call that its own turn would wait for. Raises InvalidArgument."""
    agent = f"{call.agent_type}/{call.key}"
    if agent in call.chain:
        raise InvalidArgument(f"{' → '.join((*call.chain, agent))} would wait for itself")
    if len(call.chain) >= CHAIN_MAX:
        raise InvalidArgument(f"{CHAIN_MAX} turns wait for one another already: {' → '.join(call.chain)}")
