"""Agents at work on the node that is the primary of their partition: sessions, mailboxes, turns, replies.

A request passes: looked up among what was answered, or is running → into the agent's mailbox → a turn → one record →
committed → its answer leaves. A turn whose record was never committed leaves no trace; its caller asks again.
"""

import functools
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import msgspec
import trio

from meshnode import wire
from meshnode.agents.config import AgentsConfig
from meshnode.agents.definition import Agent, Application, Definition, Handler, Surroundings
from meshnode.agents.ledger import (
    OUTSTANDING_MAX,
    REQUEST_ID_S,
    REQUEST_IDS_MAX,
    SESSIONS_MAX,
    Expired,
    Ledger,
    Reply,
    SessionOpened,
    Turn,
)
from meshnode.agents.messages import Answer, Call, OpenSession, Status
from meshnode.errors import (
    AgentError,
    CallerError,
    InvalidArgument,
    MeshError,
    Overloaded,
    TurnTimeout,
    Unavailable,
    UnknownSession,
)
from meshnode.host import Host
from meshnode.identity import Epoch, NodeId, PartitionId
from meshnode.log import get_logger
from meshnode.partitions.replica import Machine
from meshnode.placement import partition_of

SWEEP_INTERVAL_S = 30.0
"""How often what has expired is looked for."""

CHAIN_MAX = 32
"""Turns that may wait for one another: deeper is a loop that no check of names finds."""

JOINED_MAX = 16
"""Questions that one running request answers."""

Respond = Callable[[Answer], None]
Identity = tuple[int, int] | tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class TurnInfo:
    """What a turn's surroundings are made from."""

    epoch: Epoch
    call: Call
    deadline_s: float
    is_read_only: bool


class Primaries(Protocol):
    """What the partitions offer to agents: see `meshnode.partitions.driver.Partitions`."""

    def holds_lease(self, partition: PartitionId) -> bool: ...
    def has_room(self, partition: PartitionId) -> bool: ...
    def propose(self, partition: PartitionId, payload: bytes) -> int: ...
    def read(self, partition: PartitionId, token: int) -> None: ...


@dataclass(slots=True, eq=False)
class _Request:
    """A call under way, with everybody who waits for it."""

    call: Call
    identity: Identity
    handler: Handler
    arguments: dict[str, Any]
    deadline_s: float
    waiting: list[tuple[int, Respond]]

    def respond(self, answer: Answer) -> None:
        """Answer everybody who waits, once."""
        for number, respond in self.waiting:
            respond(replace(answer, number=number))
        self.waiting.clear()


@dataclass(slots=True, eq=False)
class _Activation:
    """An agent in memory."""

    definition: Definition
    agent: Agent[Any]
    kept: bytes
    used_at_s: float
    mailbox: deque[_Request] = field(default_factory=deque)
    turns: trio.CancelScope | None = None
    """Set while turns run."""


@dataclass(slots=True, eq=False)
class _Serving:
    """One partition in one epoch of which this process is the primary."""

    partition: PartitionId
    epoch: Epoch
    ledger: Ledger
    activations: dict[tuple[str, str], _Activation] = field(default_factory=dict)
    running: dict[Identity, _Request] = field(default_factory=dict)
    pending: deque[tuple[int, Callable[[], None]]] = field(default_factory=deque)
    reads: dict[int, Callable[[], None]] = field(default_factory=dict)
    session_used_at_s: dict[int, float] = field(default_factory=dict)


class Agents:
    """The tenant of a node's partitions.

    Args:
        surroundings: makes what a running turn is given.
        primary_of: whom the committed rows name, for callers that ask the wrong node.
    """

    def __init__(
        self,
        host: Host,
        config: AgentsConfig,
        application: Application,
        *,
        partitions_total: Callable[[], int],
        primary_of: Callable[[PartitionId], NodeId | None],
        surroundings: Callable[[TurnInfo], Surroundings],
    ) -> None:
        self.application = application
        self.turns_committed = 0
        self._host = host
        self._config = config
        self._partitions_total = partitions_total
        self._primary_of = primary_of
        self._surroundings = surroundings
        self._primaries: Primaries | None = None
        self._nursery: trio.Nursery | None = None
        self._serving: dict[PartitionId, _Serving] = {}
        self._last_token = 0
        self._log = get_logger()

    def attach(self, primaries: Primaries) -> None:
        """Give it the partitions in which it lives."""
        self._primaries = primaries

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Run turns until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            while True:
                await self._host.sleep_until(self._host.now() + SWEEP_INTERVAL_S)
                for serving in list(self._serving.values()):
                    self._sweep(serving)

    def agents(self) -> Iterator[tuple[PartitionId, str, str]]:
        """All agents with a state whose primary is this process."""
        for serving in self._serving.values():
            for agent_type, key in serving.ledger.states:
                yield serving.partition, agent_type, key

    # ---- tenant of the partitions

    def machine(self, partition: PartitionId) -> Machine:
        """A fresh ledger."""
        return Ledger()

    def serving(self, partition: PartitionId, epoch: Epoch, machine: Machine) -> None:
        """Turns may start."""
        assert isinstance(machine, Ledger)
        now = self._host.now()
        used = dict.fromkeys(machine.sessions, now)
        self._serving[partition] = _Serving(partition, epoch, machine, session_used_at_s=used)

    def deposed(self, partition: PartitionId, epoch: Epoch) -> None:
        """No answer leaves any more; whoever waits asks the next primary under the same identity."""
        serving = self._serving.pop(partition)
        for activation in serving.activations.values():
            if activation.turns is not None:
                activation.turns.cancel()
        unknown = Answer(0, Status.UNKNOWN, "not_primary", b"the partition moved while the call was under way")
        for request in serving.running.values():
            request.respond(unknown)

    def committed(self, partition: PartitionId, through: int) -> None:
        """Answers of records up to ``through`` may leave."""
        serving = self._serving.get(partition)
        while serving is not None and serving.pending and serving.pending[0][0] <= through:
            serving.pending.popleft()[1]()

    def read_ready(self, partition: PartitionId, token: int) -> None:
        """The answer of a read may leave."""
        serving = self._serving.get(partition)
        if serving is not None and token in serving.reads:
            serving.reads.pop(token)()

    # ---- requests

    def open_session(self, request: OpenSession, respond: Respond) -> None:
        """Open a session; answered once its record is committed."""
        serving = self._serving.get(request.partition)
        if serving is None or self._primaries is None:
            respond(self._not_primary(request.number, request.partition))
            return
        if len(serving.ledger.sessions) >= SESSIONS_MAX or not self._primaries.has_room(request.partition):
            respond(_refusal(request.number, Overloaded(f"partition {request.partition} has too many sessions")))
            return
        sequence = self._primaries.propose(request.partition, wire.encode(SessionOpened()))

        def opened() -> None:
            serving.session_used_at_s[sequence] = self._host.now()
            respond(Answer(request.number, Status.DONE, session=sequence))

        serving.pending.append((sequence, opened))

    def call(self, call: Call, respond: Respond) -> None:
        """Take a call; ``respond`` is called once, now or later."""
        serving = self._serving.get(call.partition)
        if serving is None:
            respond(self._not_primary(call.number, call.partition))
            return
        try:
            request = self._admit(serving, call, respond)
        except MeshError as error:
            respond(_refusal(call.number, error))
            return
        if request is not None:
            self._enqueue(serving, request)

    def _admit(self, serving: _Serving, call: Call, respond: Respond) -> _Request | None:
        """The request to run; None when it is answered or joined to a running one. Raises what refuses it."""
        assert self._primaries is not None
        if partition_of(call.agent_type, call.key, self._partitions_total()) != call.partition:
            raise InvalidArgument(f"{call.agent_type}/{call.key} does not belong to partition {call.partition}")
        definition = self.application.definition(call.agent_type)
        handler = definition.handler(call.method)
        identity = self._identity(call, handler)
        if not handler.is_read_only:
            reply = self._known_reply(serving, call, definition.name)
            if reply is not None:
                respond(_answer(call.number, reply))
                return None
            running = serving.running.get(identity)
            if running is not None:
                # A caller asks again only after it lost a connection: older questions of its are dead.
                del running.waiting[: -JOINED_MAX + 1]
                running.waiting.append((call.number, respond))
                return None
        if not self._primaries.holds_lease(call.partition):
            raise Unavailable("the primary's lease has run out: a majority of its replicas did not answer of late")
        if not self._primaries.has_room(call.partition):
            raise Overloaded(f"partition {call.partition}: too much waits for its replicas")
        arguments = handler.bind(*_split_arguments(call.arguments))
        _check_chain(call)
        deadline_s = self._host.now() + min(call.timeout_s, 10 * self._config.call_timeout_s)
        request = _Request(call, identity, handler, arguments, deadline_s, [(call.number, respond)])
        serving.running[identity] = request
        return request

    def _identity(self, call: Call, handler: Handler) -> Identity:
        if handler.is_read_only:
            self._last_token += 1
            return (0, self._last_token)  # no session is 0, so reads never join
        if call.request_id:
            return (call.agent_type, call.key, call.request_id)
        return (call.session, call.request)

    def _known_reply(self, serving: _Serving, call: Call, agent_type: str) -> Reply | None:
        """The recorded reply of a request that has ended already. Raises what refuses a new one."""
        if call.request_id:
            kept = serving.ledger.request_ids.get((agent_type, call.key, call.request_id))
            if kept is None and len(serving.ledger.request_ids) >= REQUEST_IDS_MAX:
                raise Overloaded(f"partition {call.partition} keeps {REQUEST_IDS_MAX} request ids already")
            return None if kept is None else kept[1]
        session = serving.ledger.sessions.get(call.session)
        if session is None:
            raise UnknownSession(f"session {call.session} of partition {call.partition} has expired")
        serving.session_used_at_s[call.session] = self._host.now()
        replies = session.replies or {}
        if call.request in replies:
            return replies[call.request]
        if call.request < session.lowest:
            raise UnknownSession(f"request {call.request} of session {call.session} was answered and forgotten")
        if len(replies) >= OUTSTANDING_MAX:
            raise Overloaded(f"session {call.session} has {OUTSTANDING_MAX} replies that were not acknowledged")
        return None

    # ---- turns

    def _enqueue(self, serving: _Serving, request: _Request) -> None:
        assert self._nursery is not None
        call = request.call
        agent_id = (call.agent_type, call.key)
        activation = serving.activations.get(agent_id)
        try:
            if activation is None:
                activation = serving.activations[agent_id] = self._activate(serving, call)
            if len(activation.mailbox) >= self._config.mailbox_max:
                raise Overloaded(f"{call.agent_type}/{call.key} has {self._config.mailbox_max} calls waiting")
        except MeshError as error:
            self._finish(serving, request, _refusal(0, error))
            return
        activation.mailbox.append(request)
        if activation.turns is None:
            activation.turns = trio.CancelScope()
            self._nursery.start_soon(self._drain, serving, activation)

    def _activate(self, serving: _Serving, call: Call) -> _Activation:
        definition = self.application.definition(call.agent_type)
        agent = definition.cls()
        agent.key = call.key
        # Whatever this epoch has not committed yet was written by an activation that is still here.
        kept = serving.ledger.states.get((call.agent_type, call.key), b"")
        agent.state = definition.decode_state(kept)
        return _Activation(definition, agent, kept, self._host.now())

    async def _drain(self, serving: _Serving, activation: _Activation) -> None:
        """Run one turn after the other until the mailbox is empty."""
        assert activation.turns is not None
        with activation.turns:
            while activation.mailbox:
                request = activation.mailbox.popleft()
                activation.used_at_s = self._host.now()
                await self._take_turn(serving, activation, request)
        activation.turns = None

    async def _take_turn(self, serving: _Serving, activation: _Activation, request: _Request) -> None:
        call = request.call
        agent = activation.agent
        agent.node = self._surroundings(TurnInfo(serving.epoch, call, request.deadline_s, request.handler.is_read_only))
        reply: Reply | None = None
        state = activation.kept
        with self._host.deadline(request.deadline_s):
            try:
                result = await getattr(agent, call.method)(**request.arguments)
                payload = _plain(result)
                state = _plain(agent.state)
                if len(state) > self._config.state_bytes_max:
                    raise InvalidArgument(f"the state has {len(state)} bytes; at most {self._config.state_bytes_max}")
                if request.handler.is_read_only and state != (activation.kept or _plain(activation.definition.state())):
                    raise InvalidArgument(f"{call.method} is read-only, but changed the state")
                reply = Reply("", payload)
            except MeshError as error:
                reply = Reply(error.code, str(error).encode())
            except Exception as error:  # noqa: BLE001 - whatever user code raises is an answer
                self._log.info(
                    "handler raised", agent=f"{call.agent_type}/{call.key}", method=call.method, exc_info=True
                )
                reply = Reply(AgentError.code, f"{type(error).__name__}: {error}".encode())
        if reply is None:
            late = f"{call.agent_type}/{call.key}.{call.method} took longer than its caller waits"
            reply = Reply(TurnTimeout.code, late.encode())
        if reply.code:
            agent.state = activation.definition.decode_state(activation.kept)
            state = activation.kept
        if self._serving.get(serving.partition) is not serving:
            return  # deposed between the turn's last wait and now
        if request.handler.is_read_only:
            self._answer_read(serving, request, reply)
        else:
            self._record(serving, activation, request, reply, state)

    def _record(
        self, serving: _Serving, activation: _Activation, request: _Request, reply: Reply, state: bytes
    ) -> None:
        assert self._primaries is not None
        call = request.call
        turn = Turn(
            call.agent_type,
            call.key,
            None if state == activation.kept else state,
            reply,
            session=0 if call.request_id else call.session,
            number=call.request,
            lowest=call.lowest,
            request_id=call.request_id,
            at_s=self._host.wall_clock() if call.request_id else 0.0,
        )
        activation.kept = state
        sequence = self._primaries.propose(serving.partition, wire.encode(turn))

        def committed() -> None:
            self.turns_committed += 1
            self._finish(serving, request, _answer(0, reply))

        serving.pending.append((sequence, committed))

    def _answer_read(self, serving: _Serving, request: _Request, reply: Reply) -> None:
        """Answer once what the turn saw is committed, and this process was the primary after it saw it (rule 11)."""
        assert self._primaries is not None
        token = request.identity[1]
        assert isinstance(token, int)
        serving.reads[token] = functools.partial(self._finish, serving, request, _answer(0, reply))
        self._primaries.read(serving.partition, token)

    def _finish(self, serving: _Serving, request: _Request, answer: Answer) -> None:
        serving.running.pop(request.identity, None)
        request.respond(answer)

    # ---- expiry

    def _sweep(self, serving: _Serving) -> None:
        assert self._primaries is not None
        now = self._host.now()
        idle = [
            agent_id
            for agent_id, activation in serving.activations.items()
            if activation.turns is None and now >= activation.used_at_s + self._config.idle_s
        ]
        if not serving.pending:  # a record that is not committed yet is known to its activation alone
            for agent_id in idle:
                del serving.activations[agent_id]
        used = serving.session_used_at_s
        sessions = tuple(
            session for session in serving.ledger.sessions if now >= used.get(session, now) + self._config.session_s
        )
        cut = self._host.wall_clock() - REQUEST_ID_S
        has_old = any(at_s < cut for at_s, _reply in serving.ledger.request_ids.values())
        if sessions or has_old:
            sequence = self._primaries.propose(serving.partition, wire.encode(Expired(sessions, cut)))
            serving.pending.append((sequence, lambda: None))
            for session in sessions:
                used.pop(session, None)

    def _not_primary(self, number: int, partition: PartitionId) -> Answer:
        primary = self._primary_of(partition) or NodeId(0)
        return Answer(number, Status.TRY_AGAIN, "not_primary", b"this node is not the primary", primary=primary)


def _answer(number: int, reply: Reply) -> Answer:
    return Answer(number, Status.FAILED if reply.code else Status.DONE, reply.code, reply.payload)


def _refusal(number: int, error: MeshError) -> Answer:
    status = Status.FAILED if isinstance(error, CallerError) else Status.TRY_AGAIN
    return Answer(number, status, error.code, str(error).encode())


def _split_arguments(data: bytes) -> tuple[list[Any], dict[str, Any]]:
    try:
        match wire.loads(data):
            case [list() as positional, dict() as named] if all(isinstance(name, str) for name in named):
                return positional, named
    except wire.WireError as error:
        raise InvalidArgument(f"the arguments are unreadable: {error}") from error
    raise InvalidArgument("the arguments are not a list and a map of names")


def _check_chain(call: Call) -> None:
    agent = f"{call.agent_type}/{call.key}"
    if agent in call.chain:
        raise InvalidArgument(f"{' → '.join((*call.chain, agent))} would wait for itself")
    if len(call.chain) >= CHAIN_MAX:
        raise InvalidArgument(f"{CHAIN_MAX} turns wait for one another already: {' → '.join(call.chain)}")


def _plain(value: object) -> bytes:
    """A result or a state as CBOR. Raises what a type that can't cross the mesh raises: TypeError, ValueError."""
    return wire.dumps(msgspec.to_builtins(value, builtin_types=(bytes,)))
