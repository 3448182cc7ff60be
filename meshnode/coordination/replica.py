"""Where the replicated state is: in this process, as on a node, or behind a node, as for a client."""

from collections.abc import Awaitable, Callable
from typing import Protocol

import trio

from meshnode import wire
from meshnode.coordination.commands import Command, Reply
from meshnode.coordination.questions import (
    Answer,
    Question,
)
from meshnode.coordination.state import Coordination
from meshnode.errors import MeshError, OutcomeUnknown, Unavailable
from meshnode.host import Host

FRESH_S = 5.0
"""Several elections: how long a read may take to be sure that it misses nothing."""

PATIENCE_S = 4.0
"""How long a node has a client wait for news: short enough that a lost answer is soon asked for again."""

NO_NEWS = b""


class Replica(Protocol):
    """What a process needs of it."""

    async def agree(self, command: Command, *, timeout_s: float) -> Reply:
        """Have a command agreed on and applied; its reply.

        Raises:
            Unavailable: it surely was not.
            OutcomeUnknown: it may be, now or later.
        """
        ...

    async def ask(self, question: Question, *, fresh: bool = False) -> Answer:
        """Wait for the answer.

        Args:
            fresh: whether all that was agreed on before the call must be considered.

        Raises:
            Unavailable: nobody could be asked, or could say that it misses nothing.
        """
        ...


class LocalReplica:
    """The state of this node.

    Args:
        agree: has a command agreed on, as `meshnode.metadata.group.MetadataGroup.agree`.
        catch_up: waits until all that was agreed on before is applied here, as `MetadataGroup.read`.
    """

    def __init__(
        self,
        state: Coordination,
        *,
        agree: Callable[[Command, float], Awaitable[object]],
        catch_up: Callable[[], Awaitable[None]],
    ) -> None:
        self.state = state
        self._agree = agree
        self._catch_up = catch_up
        # One for each who waits.
        self._waiting: dict[trio.Event, tuple[Question, list[Answer]]] = {}

    async def agree(self, command: Command, *, timeout_s: float) -> Reply:
        reply = await self._agree(command, timeout_s)
        assert isinstance(reply, Reply)
        return reply

    async def ask(self, question: Question, *, fresh: bool = False) -> Answer:
        if fresh:
            await self._catch_up()
        answer = question.look(self.state)
        if answer is not None:
            await trio.lowlevel.checkpoint()
            return answer
        answered, answers = trio.Event(), list[Answer]()
        self._waiting[answered] = question, answers
        try:
            await answered.wait()
        finally:
            self._waiting.pop(answered, None)
        return answers[0]

    def changed(self) -> None:
        """Look whether the change is what somebody waits for."""
        for answered, (question, answers) in list(self._waiting.items()):
            answer = question.look(self.state)
            if answer is not None:
                answers.append(answer)
                answered.set()
                del self._waiting[answered]


class RemoteReplica:
    """The state of whichever node answers.

    Args:
        view: asks it, as `meshnode.Client.view`.
    """

    def __init__(self, host: Host, view: Callable[..., Awaitable[object]]) -> None:
        self._host = host
        self._view = view

    async def agree(self, command: Command, *, timeout_s: float) -> Reply:
        try:
            answer = await self._view(
                "coordination_agree", timeout_s=timeout_s, command=wire.encode(command), within_s=timeout_s
            )
        except Unavailable as error:
            # A node that fell silent may have proposed it.
            raise OutcomeUnknown(str(error)) from error
        reply = _decoded(answer)
        if not isinstance(reply, Reply):
            raise MeshError(f"the node runs another version: {type(reply).__name__} is no reply")
        return reply

    async def ask(self, question: Question, *, fresh: bool = False) -> Answer:
        encoded = wire.encode(question)
        while True:
            found = await self._view("coordination_ask", timeout_s=PATIENCE_S + FRESH_S, question=encoded, fresh=fresh)
            if found != NO_NEWS:
                answer = _decoded(found)
                if not isinstance(answer, Answer):
                    raise MeshError(f"the node runs another version: {type(answer).__name__} is no answer")
                return answer
            await trio.lowlevel.checkpoint()


def _decoded(data: object) -> object:
    if not isinstance(data, bytes):
        raise MeshError("the node runs another version: its answer is no message")
    return wire.decode(data)
