"""An outside program's access to a mesh: the same calls as on a node, without being one."""

import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import trio

from meshnode import wire
from meshnode.access import Access
from meshnode.agents.caller import ARGUMENTS_BYTES_MAX, Caller
from meshnode.agents.config import AgentsConfig
from meshnode.agents.messages import Answer, Call, OpenSession, Status
from meshnode.control import AskRoutes, Query, Routes, View
from meshnode.coordination.commands import BeginSession
from meshnode.coordination.coordinator import Coordinator
from meshnode.coordination.replica import RemoteReplica
from meshnode.directory import ClientDirectory
from meshnode.errors import InvalidArgument, MeshError, OperatorError, Unavailable, error_from_code
from meshnode.host import Host, RealHost
from meshnode.identity import Address, Boot, MeshId, NodeId
from meshnode.links import Channel, Hello, LinkLost, LinkRefused, Links, LinksConfig, Requests, Role, Tls

VIEW_TIMEOUT_S = 10.0

ROUTES_TIMEOUT_S = 4.0
"""Twice what a node takes to answer when there is no news."""

PAUSE_S = 0.1

DOUBTS_MAX = 3
"""Attempts that failed while the gateway has no news: so many happen while a partition moves."""


class Client(Access):
    """``async with Client([address]) as client: await client.ref(Counter, "42").add(3)``

    Entering returns at once; calls wait, within their deadline, until a node answers.

    Args:
        nodes: addresses of any nodes of the mesh. More are learned from the first one that answers.
        tls: what makes links private, from `meshnode.load_tls`, if the nodes have it.
    """

    def __init__(self, nodes: Sequence[Address], *, host: Host | None = None, tls: Tls | None = None) -> None:
        if not nodes:
            raise ValueError("name at least one node to connect to")
        super().__init__(AgentsConfig().call_timeout_s)
        self.host: Host = RealHost() if host is None else host
        self._nodes = tuple(nodes)
        self._me = NodeId(self.host.fresh_id(63))
        self._directory = ClientDirectory()
        hello = Hello(MeshId(b""), self._me, Boot(0), Role.GUEST, "client")
        self._links = Links(self.host, LinksConfig(), local=hello, address_of=self._directory.addresses.get, tls=tls)
        self._answers: Requests[Answer] = Requests(self._links, Channel.CALLS)
        self._views: Requests[View] = Requests(self._links, Channel.CONTROL)
        self._routes: Requests[Routes] = Requests(self._links, Channel.CONTROL)
        self._links.on(Channel.CALLS, self._take_answer)
        self._links.on(Channel.CONTROL, self._take_control)
        self.caller = Caller(self.host, self._directory, self._exchange)
        self.coordinator = Coordinator(self.host, RemoteReplica(self.host, self.view), BeginSession("client"))
        self._gateway: NodeId | None = None
        self._silences = 0
        self._doubts = 0  # attempts that the routes led astray, since the last news
        # Both have at most an entry for each address that the mesh's nodes ever had.
        self._dialling: dict[Address, trio.Lock] = {}
        self._reached: dict[Address, NodeId] = {}
        self._problem = "no node has answered yet"

    async def view(
        self, name: str, *, at: Address | None = None, timeout_s: float = VIEW_TIMEOUT_S, **arguments: Any
    ) -> Any:
        """A view of a node, as plain data; see `meshnode.views`.

        Args:
            at: the one node to ask, once. If None, any node is asked, and another one if it falls silent.

        Raises:
            Unavailable: no node answered in time, or the one to ask can't be reached.
            MeshError: the node refused.
        """
        question = functools.partial(Query, view=name, arguments=wire.dumps(arguments))
        if len(question.keywords["arguments"]) > ARGUMENTS_BYTES_MAX:
            raise InvalidArgument(f"the arguments of view {name!r} have more than {ARGUMENTS_BYTES_MAX} bytes")
        answer: View | None = None
        with self.host.deadline(self.host.now() + timeout_s):
            if at is not None:
                answer = await self._views.ask(await self._connect(at), question)
            while answer is None:
                try:
                    answer = await self._views.ask(await self._any_node(), question)
                except LinkLost as error:
                    self._problem = str(error)
                    await self.host.sleep_until(self.host.now() + PAUSE_S)
        if answer is None:
            raise Unavailable(f"no answer within {timeout_s:g} s: {self._problem}")
        if answer.code:
            raise error_from_code(answer.code, answer.payload.decode(errors="replace"))
        return wire.loads(answer.payload)

    # ---- life

    @contextlib.asynccontextmanager
    async def _live(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            await nursery.start(self._links.run, None)
            nursery.start_soon(self._follow_routes)
            await nursery.start(self.coordinator.run)
            yield
            nursery.cancel_scope.cancel()

    # ---- inside

    async def _call(self, *call: Any, **options: Any) -> Any:
        try:
            return await super()._call(*call, **options)
        except Unavailable as error:
            if not self._directory.partitions_total:
                raise Unavailable(f"no node could be reached: {self._problem}") from error
            raise

    def _take_answer(self, peer: NodeId, message: Any) -> None:
        if isinstance(message, Answer):
            self._answers.answered(peer, message.number, message)

    def _take_control(self, peer: NodeId, message: Any) -> None:
        match message:
            case Routes():
                self._routes.answered(peer, message.number, message)
            case View():
                self._views.answered(peer, message.number, message)

    async def _exchange(self, primary: NodeId, question: Callable[[int], OpenSession | Call]) -> Answer:
        try:
            answer = await self._answers.ask(primary, question)
        except LinkLost:
            self._doubts += 1
            raise
        if answer.status in (Status.TRY_AGAIN, Status.UNKNOWN):
            self._doubts += 1
        return answer

    async def _any_node(self) -> NodeId:
        """A linked node, the last one that answered if it is still there."""
        while True:
            if self._gateway is not None and self._links.is_linked(self._gateway):
                return self._gateway
            known = list(dict.fromkeys((*self._nodes, *self._directory.addresses.values())))
            begin = self._silences % len(known)  # one that was silent accepts connections, and would be taken again
            for address in (*known[begin:], *known[:begin]):
                try:
                    self._gateway = await self._connect(address)
                except Unavailable as error:
                    self._problem = str(error)
                else:
                    return self._gateway
            await self.host.sleep_until(self.host.now() + PAUSE_S)

    async def _connect(self, address: Address) -> NodeId:
        """Raises Unavailable."""
        async with self._dialling.setdefault(address, trio.Lock()):  # one link serves all who want this node at once
            await trio.lowlevel.checkpoint()  # the lock may come when this client is being closed: then dial no more
            reached = self._reached.get(address)
            if reached is not None and self._links.is_linked(reached):
                return reached
            try:
                self._reached[address] = (await self._links.connect(address)).node_id
            except (OSError, LinkRefused) as error:
                reason = getattr(error, "strerror", None) or str(error)
                is_there = isinstance(error, LinkRefused) and isinstance(error.refusal, OperatorError)
                advice = "" if is_there else ". Does it run, and is --node right?"
                raise Unavailable(f"node {address} can't be reached: {reason}{advice}") from error
            return self._reached[address]

    async def _follow_routes(self) -> None:
        while True:
            gateway = await self._any_node()
            asked_at_s = self.host.now()
            routes: Routes | None = None
            with self.host.deadline(self.host.now() + ROUTES_TIMEOUT_S), contextlib.suppress(MeshError):
                ask = functools.partial(AskRoutes, version=self._directory.version)
                routes = await self._routes.ask(gateway, ask)
            if routes is not None and routes.version > self._directory.version:
                self._directory.update(routes.version, routes.primaries, dict(routes.nodes))
                self._doubts = 0
                continue
            if routes is None or self._doubts >= DOUBTS_MAX:
                # It is silent, or cut off from the rest and holds what it knows for the last news: ask another one.
                self._gateway = None
                self._silences += 1
                self._doubts = 0
            await self.host.sleep_until(max(self.host.now(), asked_at_s + PAUSE_S))
