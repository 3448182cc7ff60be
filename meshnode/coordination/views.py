"""What clients ask of a node about locks and the configuration; see `meshnode.views`."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from meshnode import wire
from meshnode.coordination.commands import NOBODY, Acquire, BeginSession, Release, Renew, Transact
from meshnode.coordination.questions import Answer, Question
from meshnode.coordination.replica import NO_NEWS, PATIENCE_S
from meshnode.errors import InvalidArgument
from meshnode.identity import Boot

if TYPE_CHECKING:
    from meshnode.node import Node

AGREE_S_MAX = 10.0
"""How long a node tries to have a client's command agreed on."""


async def coordination_agree(node: "Node", arguments: Any) -> Any:
    """Have a client's command agreed on: the reply, encoded."""
    match arguments:
        case {"command": bytes(data), "within_s": float() | int() as within_s}:
            command = _decoded(data)
        case _:
            raise InvalidArgument("coordination_agree takes a command and the time that it may take")
    if isinstance(command, BeginSession):
        command = replace(command, node_id=NOBODY, boot=Boot(0))  # who asks is no node
    elif not isinstance(command, Renew | Acquire | Release | Transact):
        raise InvalidArgument(f"a client proposes no {type(command).__name__}")
    return wire.encode(await node.coordinator.replica.agree(command, timeout_s=min(float(within_s), AGREE_S_MAX)))


async def coordination_ask(node: "Node", arguments: Any) -> Any:
    """The answer to a client's question, encoded; `NO_NEWS` if there was none in a while."""
    match arguments:
        case {"question": bytes(data), "fresh": bool(fresh)}:
            question = _decoded(data)
        case _:
            raise InvalidArgument("coordination_ask takes a question and whether the answer must be fresh")
    if not isinstance(question, Question):
        raise InvalidArgument(f"{type(question).__name__} is no question")
    if fresh:
        await node.group.read()
    answer: Answer | None = None
    with node.host.deadline(node.host.now() + PATIENCE_S):
        answer = await node.coordinator.replica.ask(question)
    return NO_NEWS if answer is None else wire.encode(answer)


def _decoded(data: bytes) -> object:
    try:
        return wire.decode(data)
    except wire.WireError as error:
        raise InvalidArgument(f"the node can't read this: {error}") from error
