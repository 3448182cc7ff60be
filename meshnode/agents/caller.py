"""The calling side: find the primary, ask, ask again under the same identity until there is an answer.

Nodes and outside clients call through the same code; they differ in their `Directory` and `Exchange`.
"""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol, assert_never

import trio

from meshnode import wire
from meshnode.agents import plain
from meshnode.agents.definition import check_key
from meshnode.agents.ledger import OUTSTANDING_MAX, REQUEST_ID_CHARACTERS_MAX, REQUEST_ID_S
from meshnode.agents.messages import Answer, Call, OpenSession, Status
from meshnode.agents.origin import Origin
from meshnode.errors import (
    InvalidArgument,
    MeshError,
    OutcomeUnknown,
    Overloaded,
    Unavailable,
    UnknownSession,
    error_from_code,
)
from meshnode.host import Host
from meshnode.identity import NodeId, PartitionId, node_id_text
from meshnode.links import LinkLost
from meshnode.placement import partition_of

PAUSE_MIN_S = 0.01
PAUSE_MAX_S = 0.5
"""Between two attempts; a change of the partition's row cuts a pause short."""

ARGUMENTS_BYTES_MAX = 8 * 2**20
"""Well within a frame, so that the call can be sent at all."""


class Directory(Protocol):
    """Who serves what, as far as this side knows."""

    @property
    def partitions_total(self) -> int:
        """Fixed when the mesh was founded; 0 before that is known."""
        ...

    def primary_of(self, partition: PartitionId) -> NodeId | None:
        """The primary of the partition's active row; None while there is none."""
        ...

    def on_change(self, partition: PartitionId, action: Callable[[], None]) -> AbstractContextManager[None]:
        """Call ``action`` whenever the partition's primary changes, while the context lasts."""
        ...


Exchange = Callable[[NodeId, Callable[[int], OpenSession | Call]], Awaitable[Answer]]
"""Ask a node, or this one; raises LinkLost."""


@dataclass(slots=True)
class _Session:
    """This caller's session in one partition."""

    session: int
    next_request: int = 1
    outstanding: dict[int, None] = field(default_factory=dict)

    def lowest(self) -> int:
        """The lowest request that still waits for its answer; requests are numbered in order."""
        return next(iter(self.outstanding), self.next_request)


@dataclass(slots=True)
class _Attempts:
    """What is known of one request so far: of its last attempt ``code`` and ``reason``, why there is no answer yet."""

    may_have_run: bool = False
    code: str = ""
    reason: str = "nobody was asked yet"
    pause_s: float = PAUSE_MIN_S

    def failed(self, reason: str, code: str = "") -> None:
        """An attempt brought no answer."""
        self.reason = reason
        self.code = code


class Caller:
    """Makes calls, each exactly once in effect, until its deadline."""

    def __init__(self, host: Host, directory: Directory, exchange: Exchange) -> None:
        self._host = host
        self._directory = directory
        self._exchange = exchange
        self._sessions: dict[PartitionId, _Session] = {}
        self._opening: dict[PartitionId, trio.Lock] = {}

    async def call(
        self,
        agent_type: str,
        key: str,
        method: str,
        positional: tuple[Any, ...] = (),
        named: dict[str, Any] | None = None,
        *,
        timeout_s: float,
        request_id: str = "",
        keep_s: float = REQUEST_ID_S,
        chain: tuple[str, ...] = (),
        origin: Callable[[], Origin] | None = None,
        is_read_only: bool = False,
    ) -> Any:
        """The handler's result, as plain data.

        Args:
            request_id: calls of the agent with the same one take effect once; its reply is kept for ``keep_s``.
            chain: the agents, as TYPE/KEY, whose turns wait for this call.
            origin: asked at each attempt; of the turn that makes the call under ``request_id``.
            is_read_only: have a handler refused that is not.

        Raises:
            CallerError: the call is wrong; nothing was changed.
            AgentError: the handler raised; the agent's state is unchanged.
            Unavailable: no answer in time; nothing was changed.
            OutcomeUnknown: no answer in time; it may take effect yet, or have.
        """
        arguments = _encode_arguments(positional, named or {})
        _check(key, request_id, timeout_s)
        what = f"{agent_type}/{key}.{method}"
        attempts = _Attempts()
        deadline_s = self._host.now() + timeout_s
        with self._host.deadline(deadline_s):
            partition = await self._partition_of(agent_type, key, attempts)

            async def attempt(session: int, request: int, lowest: int) -> Any:
                def question(number: int) -> Call:
                    left_s = max(0.0, deadline_s - self._host.now())
                    return Call(
                        number, partition, agent_type, key, method, arguments, left_s,
                        session, request, lowest, request_id, chain, keep_s if request_id else 0.0,
                        None if origin is None else origin(), is_read_only,
                    )  # fmt: skip

                answer = await self._until_answered(partition, question, attempts)
                return _result(what, answer, attempts)

            if request_id:
                return await attempt(0, 0, 0)
            while True:
                async with self._request(partition, attempts) as (session, request):
                    try:
                        return await attempt(session.session, request, session.lowest())
                    except _SessionExpired:
                        if self._sessions.get(partition) is session:
                            del self._sessions[partition]
        raise _give_up(what, timeout_s, attempts)

    async def _partition_of(self, agent_type: str, key: str, attempts: _Attempts) -> PartitionId:
        attempts.failed("this side has not learned yet how the mesh is partitioned")
        while not self._directory.partitions_total:
            await self._host.sleep_until(self._host.now() + PAUSE_MIN_S)
        return partition_of(agent_type, key, self._directory.partitions_total)

    @contextlib.asynccontextmanager
    async def _request(self, partition: PartitionId, attempts: _Attempts) -> AsyncIterator[tuple[_Session, int]]:
        """A fresh request number in an open session."""
        session = self._sessions.get(partition)
        if session is not None and len(session.outstanding) >= OUTSTANDING_MAX // 2:
            raise Overloaded(f"{len(session.outstanding)} calls to partition {partition} are under way already")
        # All replies after that of the slowest call are kept: beside a very slow one they would become too many.
        if session is None or session.next_request - session.lowest() >= OUTSTANDING_MAX // 2:
            stale = session
            async with self._opening.setdefault(partition, trio.Lock()):
                session = self._sessions.get(partition)
                if session is None or session is stale:
                    session = self._sessions[partition] = _Session(await self._open_session(partition, attempts))
        request = session.next_request
        session.next_request += 1
        session.outstanding[request] = None
        try:
            yield session, request
        finally:
            del session.outstanding[request]

    async def _open_session(self, partition: PartitionId, attempts: _Attempts) -> int:
        opening = _Attempts()  # of its own: a session that was opened and is not used does nothing
        try:
            answer = await self._until_answered(partition, lambda number: OpenSession(number, partition), opening)
            return answer.session
        finally:
            attempts.failed(opening.reason, opening.code)

    async def _until_answered(
        self, partition: PartitionId, question: Callable[[int], OpenSession | Call], attempts: _Attempts
    ) -> Answer:
        """Ask whoever is the primary until it has an answer that another attempt would not change."""
        while True:
            primary = self._directory.primary_of(partition)
            if primary is None:
                attempts.failed(f"partition {partition} has no active primary: a majority of its replicas is missing")
            else:
                answer = await self._ask(primary, partition, question, attempts)
                if answer is not None:
                    return answer
            await self._pause(partition, attempts, primary)

    async def _ask(
        self,
        primary: NodeId,
        partition: PartitionId,
        question: Callable[[int], OpenSession | Call],
        attempts: _Attempts,
    ) -> Answer | None:
        """One attempt; None when another one is worth while."""
        attempts.failed(f"node {node_id_text(primary)} did not answer")
        answer: Answer | None = None
        with trio.CancelScope() as scope:

            def moved() -> None:
                if self._directory.primary_of(partition) != primary:
                    scope.cancel()

            with self._directory.on_change(partition, moved):
                try:
                    answer = await self._exchange(primary, question)
                except LinkLost as error:
                    attempts.failed(str(error))
                    attempts.may_have_run |= error.was_sent
                except trio.Cancelled:
                    attempts.may_have_run = True
                    raise
        if answer is None:
            return None
        match answer.status:
            case Status.DONE | Status.FAILED | Status.REFUSED:
                return answer
            case Status.TRY_AGAIN:
                attempts.failed(_text(answer), answer.code)
            case Status.UNKNOWN:
                attempts.may_have_run = True
                attempts.failed(_text(answer), answer.code)
            case _:
                assert_never(answer.status)
        return None

    async def _pause(self, partition: PartitionId, attempts: _Attempts, asked: NodeId | None) -> None:
        """Wait a moment, growing and jittered, or until the partition's primary changes."""
        pause_s = attempts.pause_s * self._host.rng.uniform(0.5, 1.0)
        attempts.pause_s = min(PAUSE_MAX_S, attempts.pause_s * 2)
        with self._host.deadline(self._host.now() + pause_s) as scope:

            def moved() -> None:
                if self._directory.primary_of(partition) not in (None, asked):
                    attempts.pause_s = PAUSE_MIN_S
                    scope.cancel()

            with self._directory.on_change(partition, moved):
                moved()  # it may have while the attempt ended
                await trio.sleep_forever()


class _SessionExpired(Exception):
    """The primary does not know the session any more, and the request surely never ran: another session will do."""


def _check(key: str, request_id: str, timeout_s: float) -> None:
    check_key(key)
    if len(request_id) > REQUEST_ID_CHARACTERS_MAX:
        raise InvalidArgument(f"request id {request_id!r:.80}: at most {REQUEST_ID_CHARACTERS_MAX} characters")
    if not timeout_s >= 0:
        raise InvalidArgument(f"timeout_s is {timeout_s}: choose above 0")


def _encode_arguments(positional: tuple[Any, ...], named: dict[str, Any]) -> bytes:
    data = plain.encode_readable([positional, named], "an argument")
    if len(data) > ARGUMENTS_BYTES_MAX:
        raise InvalidArgument(f"the arguments have {len(data)} bytes; at most {ARGUMENTS_BYTES_MAX}")
    return data


def _result(what: str, answer: Answer, attempts: _Attempts) -> Any:
    """What the call returns. Raises the error that it ended with."""
    if answer.status is Status.DONE:
        try:
            return wire.loads(answer.payload)
        except wire.WireError as error:
            raise MeshError(f"{what}: the result is unreadable: {error}") from error
    ended_with = error_from_code(answer.code, _text(answer))
    if answer.status is Status.REFUSED:
        if attempts.may_have_run:
            raise OutcomeUnknown(f"{what}: it may have taken effect before; asked again, the answer is: {ended_with}")
        if isinstance(ended_with, UnknownSession):
            raise _SessionExpired
    raise ended_with


def _text(answer: Answer) -> str:
    return answer.payload.decode(errors="replace")


def _give_up(what: str, timeout_s: float, attempts: _Attempts) -> MeshError:
    if attempts.may_have_run:
        return OutcomeUnknown(f"{what}: no answer within {timeout_s:g} s; it may take effect yet. {attempts.reason}")
    if attempts.code == Overloaded.code:
        return Overloaded(f"{what}: {attempts.reason}")
    return Unavailable(f"{what}: no answer within {timeout_s:g} s. {attempts.reason}")
