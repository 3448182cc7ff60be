"""Agents at work on the node that is the primary of their partition: sessions, mailboxes, turns, replies.

A request passes: looked up among what was answered, or is running → into the agent's mailbox → a turn → one record →
committed → its answer leaves. A turn whose record was never committed leaves no trace; its caller asks again.
"""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import trio

from meshnode import wire
from meshnode.agents.activation import Activation, Ended, Postponed
from meshnode.agents.config import AgentsConfig
from meshnode.agents.definition import Application, Surroundings, check_key
from meshnode.agents.footprint import Footprint
from meshnode.agents.ledger import REQUEST_ID_S, SESSIONS_MAX, Expired, Ledger, SessionOpened, Turn
from meshnode.agents.messages import Answer, Call, OpenSession, Status
from meshnode.agents.reply import Reply
from meshnode.agents.request import (
    Request,
    Respond,
    check_chain,
    identity_of,
    known_reply,
    recorded,
    refusal,
    split_arguments,
)
from meshnode.agents.serving import Serving
from meshnode.errors import InvalidArgument, MeshError, OutcomeUnknown, Overloaded, Unavailable, UnknownSession
from meshnode.host import Host
from meshnode.identity import Epoch, NodeId, PartitionId, node_id_text
from meshnode.partitions.replica import Machine
from meshnode.placement import partition_of

SWEEP_INTERVAL_S = 30.0
"""How often what has expired is looked for, or more often where an agent or a session is kept for less."""

TICK_S = 600.0
"""How much of a partition's own time may pass unrecorded where it matters: a change of the primary loses so much."""

RUNNING_MAX = 16_384
"""Calls under way in one partition, all mailboxes together: past it callers are told to come back later."""

PENDING_MAX = 16_384
"""Records of one partition that wait for their majority; small ones would not reach the bound in bytes."""

DEADLINE_FACTOR = 10
"""A turn runs no longer than this many times the usual deadline, whatever its caller says."""


@dataclass(frozen=True, slots=True)
class TurnInfo:
    """What a turn's surroundings are made from; they note in ``footprint`` what it does."""

    epoch: Epoch
    call: Call
    deadline_s: float
    is_read_only: bool
    footprint: Footprint


class Primaries(Protocol):
    """What the partitions offer to agents: see `meshnode.partitions.driver.Partitions`."""

    def holds_lease(self, partition: PartitionId) -> bool: ...
    def has_room(self, partition: PartitionId) -> bool: ...
    def propose(self, partition: PartitionId, payload: bytes) -> int: ...
    def read(self, partition: PartitionId, token: int) -> None: ...


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
        self._serving: dict[PartitionId, Serving] = {}
        self._last_token = 0

    def attach(self, primaries: Primaries) -> None:
        """Give it the partitions in which it lives."""
        self._primaries = primaries

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Run turns until cancelled. Whoever waits is answered then, and whoever asks later is refused."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            try:
                await self._keep_sweeping()
            finally:
                self._end()

    def agents(self) -> Iterator[tuple[PartitionId, str, str]]:
        """All agents with a state whose primary is this process."""
        for serving in self._serving.values():
            for agent_type, key in serving.ledger.states:
                yield serving.partition, agent_type, key

    def _end(self) -> None:
        self._nursery = None  # questions and news may come until the links and the partitions have ended
        unchanged = refusal(0, _ended())
        unknown = Answer(0, Status.UNKNOWN, OutcomeUnknown.code, b"the node ended while the call was under way")
        while self._serving:
            self._serving.popitem()[1].end(unchanged, unknown)

    # ---- tenant of the partitions

    def machine(self, partition: PartitionId) -> Machine:
        """A fresh ledger."""
        return Ledger()

    def serving(self, partition: PartitionId, epoch: Epoch, machine: Machine) -> None:
        """Turns may start."""
        assert isinstance(machine, Ledger)
        if self._nursery is None:
            return
        self._serving[partition] = Serving(partition, epoch, machine, self._host.now())

    def deposed(self, partition: PartitionId, epoch: Epoch) -> None:
        """No answer leaves any more; whoever waits asks the next primary under the same identity."""
        if self._nursery is None:
            return
        serving = self._serving.pop(partition)
        unknown = Answer(0, Status.UNKNOWN, "not_primary", b"the partition moved while the call was under way")
        serving.end(self._not_primary(0, partition), unknown)

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
        if serving is None:
            respond(self._not_primary(request.number, request.partition))
            return
        try:
            self._check_may_start(serving)
            if len(serving.ledger.sessions) + len(serving.openings) >= SESSIONS_MAX:
                raise Overloaded(f"partition {request.partition} has {SESSIONS_MAX} sessions already")
        except MeshError as error:
            respond(refusal(request.number, error))
            return
        sequence = self._propose(serving, SessionOpened(), lambda sequence: self._opened(serving, sequence))
        serving.openings[sequence] = (request.number, respond)

    def _opened(self, serving: Serving, sequence: int) -> None:
        serving.session_used_at_s[sequence] = self._host.now()
        number, respond = serving.openings.pop(sequence)
        respond(Answer(number, Status.DONE, session=sequence))

    def call(self, call: Call, respond: Respond) -> None:
        """Take a call; ``respond`` is called once, now or later."""
        serving = self._serving.get(call.partition)
        if serving is None:
            respond(self._not_primary(call.number, call.partition))
            return
        if not call.request_id and call.session <= 0:  # there, reads have their identities
            respond(refusal(call.number, UnknownSession(f"session {call.session}: a call names one, or a request id")))
            return
        if call.session in serving.session_used_at_s:
            serving.session_used_at_s[call.session] = self._host.now()
        # What is known of a request comes first: a refusal after that says that it did not take effect.
        running = serving.running.get(identity_of(call))
        reply = known_reply(serving.ledger, call)
        if running is not None:
            running.join(call.number, respond)
        elif reply is not None:
            respond(recorded(call.number, reply))
        else:
            try:
                self._enqueue(serving, self._admit(serving, call, respond))
            except MeshError as error:
                respond(refusal(call.number, error))

    def _admit(self, serving: Serving, call: Call, respond: Respond) -> Request:
        """A new request. Raises what refuses it."""
        check_key(call.key)
        if partition_of(call.agent_type, call.key, self._partitions_total()) != call.partition:
            raise InvalidArgument(f"{call.agent_type}/{call.key} does not belong to partition {call.partition}")
        handler = self.application.definition(call.agent_type).handler(call.method)
        identity = identity_of(call)
        if call.is_read_only and not handler.is_read_only:
            raise InvalidArgument(
                f"{call.agent_type}.{call.method} is not read-only, and was called as if it were: a read-only handler "
                "may call read-only ones alone, since it may run again; make it one that is not"
            )
        if call.origin is not None and not 0 <= call.origin.partition < self._partitions_total():
            raise InvalidArgument(f"there is no partition {call.origin.partition}")
        if handler.is_read_only:
            self._last_token += 1
            identity = (0, self._last_token)
        else:
            serving.check_identity(call)
        check_chain(call)
        arguments = handler.bind(*split_arguments(call.arguments))
        self._check_may_start(serving)
        deadline_s = self._host.now() + min(call.timeout_s, DEADLINE_FACTOR * self._config.call_timeout_s)
        return Request(call, identity, handler, arguments, deadline_s, [(call.number, respond)])

    def _check_may_start(self, serving: Serving) -> None:
        """Raises what keeps a record from being made now."""
        assert self._primaries is not None
        if not self._primaries.holds_lease(serving.partition):
            raise Unavailable("the primary's lease has run out: a majority of its replicas did not answer of late")
        if not self._primaries.has_room(serving.partition) or len(serving.pending) >= PENDING_MAX:
            raise Overloaded(f"partition {serving.partition}: too much waits for its replicas")

    # ---- turns

    def _enqueue(self, serving: Serving, request: Request) -> None:
        """Raises Overloaded."""
        assert self._nursery is not None, "only then it serves"
        call = request.call
        agent_id = (call.agent_type, call.key)
        activation = serving.activations.get(agent_id)
        if len(serving.running) >= RUNNING_MAX:
            raise Overloaded(f"partition {serving.partition} has {RUNNING_MAX} calls under way")
        if activation is None:
            definition = self.application.definition(call.agent_type)
            # Whatever this epoch has not committed yet was written by an activation that is still here.
            kept = serving.ledger.states.get(agent_id, b"")
            activation = Activation(definition, call.key, kept, self._host.now())
            serving.activations[agent_id] = activation
        if len(activation.mailbox) >= self._config.mailbox_max:
            raise Overloaded(f"{call.agent_type}/{call.key} has {self._config.mailbox_max} calls waiting")
        serving.running[request.identity] = request
        activation.mailbox.append(request)
        if activation.turns is None:
            activation.turns = trio.CancelScope()
            self._nursery.start_soon(self._drain, serving, activation)

    async def _drain(self, serving: Serving, activation: Activation) -> None:
        """Run one turn after the other until the mailbox is empty."""
        assert activation.turns is not None
        has_waited = False  # the first one was admitted a moment ago
        with activation.turns:
            while activation.mailbox:
                request = activation.mailbox.popleft()
                activation.used_at_s = self._host.now()
                try:
                    if has_waited:
                        self._check_may_start(serving)
                    if activation.used_at_s >= request.deadline_s:
                        raise Unavailable("the call waited for its turn as long as its caller waits")
                except MeshError as error:
                    self._finish(serving, request, refusal(0, error))
                else:
                    await self._take_turn(serving, activation, request)
                has_waited = True
                if activation.mailbox:
                    await trio.lowlevel.checkpoint()  # handlers that wait for nothing must not hold up the loop
        activation.turns = None
        if not activation.kept:
            serving.activations.pop((activation.definition.name, activation.key), None)

    async def _take_turn(self, serving: Serving, activation: Activation, request: Request) -> None:
        is_read_only = request.handler.is_read_only
        footprint = Footprint(serving.lineage)
        turn = TurnInfo(serving.epoch, request.call, request.deadline_s, is_read_only, footprint)
        ended = await activation.take_turn(
            request,
            self._surroundings(turn),
            footprint,
            host=self._host,
            state_bytes_max=self._config.state_bytes_max,
        )
        if self._serving.get(serving.partition) is not serving:
            return  # deposed between the turn's last wait and now
        if isinstance(ended, Postponed):
            footprint.end()
            self._finish(serving, request, refusal(0, ended.error))
        elif is_read_only:
            self._answer_read(serving, request, ended.reply)
        else:
            self._record(serving, activation, request, ended, footprint)

    def _record(
        self, serving: Serving, activation: Activation, request: Request, ended: Ended, footprint: Footprint
    ) -> None:
        call = request.call
        elapsed_s = serving.elapse(self._host.now()) if call.request_id else 0.0
        turn = Turn(
            call.agent_type,
            call.key,
            ended.state,
            ended.reply,
            session=0 if call.request_id else call.session,
            number=call.request,
            lowest=call.lowest,
            request_id=call.request_id,
            keep_until_s=elapsed_s + min(call.keep_s, REQUEST_ID_S) if call.request_id else 0.0,
            elapsed_s=elapsed_s,
            origin=call.origin,
        )

        def committed(_sequence: int) -> None:
            self.turns_committed += 1
            footprint.end()
            self._finish(serving, request, recorded(0, ended.reply))

        sequence = self._propose(serving, turn, committed)
        if ended.state is not None:
            activation.keep(ended.state, sequence)

    def _propose(self, serving: Serving, record: object, committed: Callable[[int], None]) -> int:
        """Append a record; its sequence, with which ``committed`` is called once it is."""
        assert self._primaries is not None
        sequence = self._primaries.propose(serving.partition, wire.encode(record))
        serving.pending.append((sequence, functools.partial(committed, sequence)))
        return sequence

    def _answer_read(self, serving: Serving, request: Request, reply: Reply) -> None:
        """Answer once what the turn saw is committed, and this process was the primary after it saw it (rule 11)."""
        assert self._primaries is not None
        token = request.identity[1]
        assert isinstance(token, int)
        serving.reads[token] = functools.partial(self._finish, serving, request, recorded(0, reply))
        self._primaries.read(serving.partition, token)

    def _finish(self, serving: Serving, request: Request, answer: Answer) -> None:
        serving.running.pop(request.identity, None)
        request.respond(answer)

    # ---- expiry

    async def _keep_sweeping(self) -> None:
        interval_s = min(SWEEP_INTERVAL_S, self._config.idle_s, self._config.session_s)
        while True:
            await self._host.sleep_until(self._host.now() + interval_s)
            for serving in list(self._serving.values()):
                if self._serving.get(serving.partition) is serving:
                    self._sweep(serving)
                await trio.lowlevel.checkpoint()  # many partitions together would hold up the loop

    def _sweep(self, serving: Serving) -> None:
        assert self._primaries is not None
        now = self._host.now()
        elapsed_s = serving.elapse(now)
        committed = serving.pending[0][0] - 1 if serving.pending else float("inf")
        idle = [
            agent_id
            for agent_id, activation in serving.activations.items()
            # A record that is not committed yet is known to its activation alone.
            if activation.turns is None
            and activation.recorded <= committed
            and now >= activation.used_at_s + self._config.idle_s
        ]
        for agent_id in idle:
            del serving.activations[agent_id]
        if serving.is_expiring or not self._primaries.has_room(serving.partition):
            return  # what has expired can wait
        used = serving.session_used_at_s
        for identity in serving.running:  # its reply is to be kept in the session
            if identity[0] in used:
                used[identity[0]] = now
        sessions = tuple(session for session, at_s in used.items() if now >= at_s + self._config.session_s)
        ledger = serving.ledger
        is_tick = ledger.keeps_by_time and elapsed_s >= ledger.elapsed_s + TICK_S
        if sessions or is_tick or ledger.has_expired(elapsed_s):
            for session in sessions:
                del used[session]

            def expired(_sequence: int) -> None:
                serving.is_expiring = False

            serving.is_expiring = True
            self._propose(serving, Expired(sessions, elapsed_s), expired)

    def _not_primary(self, number: int, partition: PartitionId) -> Answer:
        if self._nursery is None:
            return refusal(number, _ended())
        primary = self._primary_of(partition)
        text = "this node is not the primary" + ("" if primary is None else f"; node {node_id_text(primary)} is")
        return Answer(number, Status.TRY_AGAIN, "not_primary", text.encode())


def _ended() -> Unavailable:
    return Unavailable("this node takes no calls: it is starting, or has ended. Try again, or call through another one")
