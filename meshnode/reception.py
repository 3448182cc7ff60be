"""Where outside programs and other nodes are received: joining, routes for clients, views for people."""

import functools
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import trio

from meshnode import wire
from meshnode.agents.messages import Answer
from meshnode.control import Alive, AskRoutes, Join, Joined, Query, Routes, View
from meshnode.errors import MeshError, Overloaded, Unavailable
from meshnode.export import Exports
from meshnode.identity import NodeId, PartitionId
from meshnode.links import Channel, Requests
from meshnode.membership.seeds import SEEDS_MAX
from meshnode.raft_views import RAFT_VIEWS
from meshnode.views import VIEWS

if TYPE_CHECKING:
    from meshnode.node import Node

ROUTES_PATIENCE_S = 2.0
"""How long a client's question for routes waits for news: short enough that a lost answer is soon asked for again."""

RECEIVED_MAX = 1024
"""Questions that are answered at a time; each is a task."""


class Reception:
    """Answers the channel CONTROL.

    Attributes:
        exports: snapshots that are being taken at this node.
    """

    def __init__(self, node: "Node") -> None:
        self.joined: Requests[Joined] = Requests(node.links, Channel.CONTROL)
        self.views: Requests[View] = Requests(node.links, Channel.CONTROL)
        self.exports = Exports(node.host)
        self._node = node
        self._nursery: trio.Nursery | None = None
        self._received = 0
        # The last question of each guest: it asks again when it is answered, and has a link for as long as it waits.
        self._waiting_for_routes: dict[NodeId, AskRoutes] = {}

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None  # messages may come until the links have ended

    def receive(self, peer: NodeId, message: Any) -> None:
        """A message of the channel CONTROL."""
        match message:
            case Alive():
                record = self._node.metadata.nodes.get(peer)
                if self._nursery is not None and record is not None and record.boot == message.boot:
                    self._node.leadership.heard(peer)
            case Joined():
                self.joined.answered(peer, message.number, message)
            case View():
                self.views.answered(peer, message.number, message)
            case Join():
                self._answer(peer, functools.partial(self._admit, message), functools.partial(_not_now_joined, message))
            case AskRoutes():
                self._ask_routes(peer, message)
            case Query():
                self._answer(peer, functools.partial(self._view, message), functools.partial(_not_now_view, message))

    def answer_when_there_is_room(self, peer: NodeId, answer: Answer) -> None:
        """The answer to a call whose caller takes its answers more slowly than it gets them."""
        if self._nursery is not None and self._received < RECEIVED_MAX:
            self._received += 1
            self._nursery.start_soon(self._answer_late, peer, answer)

    async def _answer_late(self, peer: NodeId, answer: Answer) -> None:
        links = self._node.links
        try:
            await links.wait_for_room(peer, Channel.CALLS)
        finally:
            self._received -= 1
        if links.is_linked(peer):
            links.send(peer, Channel.CALLS, answer)

    def _answer(
        self, peer: NodeId, work: Callable[[], Awaitable[object]], refuse: Callable[[MeshError], object]
    ) -> None:
        if self._nursery is None:
            self._node.links.send(peer, Channel.CONTROL, refuse(Unavailable("this node is starting")))
        elif self._received >= RECEIVED_MAX:
            self._node.links.send(peer, Channel.CONTROL, refuse(Overloaded(f"{RECEIVED_MAX} questions are under way")))
        else:
            self._received += 1
            self._nursery.start_soon(self._work, peer, work, refuse)

    async def _work(
        self, peer: NodeId, work: Callable[[], Awaitable[object]], refuse: Callable[[MeshError], object]
    ) -> None:
        try:
            answer = await work()
        except MeshError as error:
            answer = refuse(error)
        finally:
            self._received -= 1
        self._node.links.send(peer, Channel.CONTROL, answer)

    # ---- joining

    async def _admit(self, join: Join) -> Joined:
        node = self._node
        if not node.group.is_leader:
            leader = node.metadata.nodes.get(node.group.leader or NodeId(0))
            address = None if leader is None else leader.address
            return Joined(join.number, "unavailable", "this node does not lead the Raft group", leader=address)
        await node.leadership.admit(join.registration)
        joined = join.registration.node_id
        members = tuple(record.address for record in node.metadata.nodes.values() if record.node_id != joined)
        return Joined(join.number, mesh_id=node.identity.mesh_id, members=members[-SEEDS_MAX:])

    # ---- routes

    def _ask_routes(self, peer: NodeId, question: AskRoutes) -> None:
        if self._nursery is None:
            self._node.links.send(peer, Channel.CONTROL, Routes(question.number, 0))
            return
        waits = peer in self._waiting_for_routes
        self._waiting_for_routes[peer] = question
        if not waits:
            self._nursery.start_soon(self._tell_routes, peer)

    async def _tell_routes(self, peer: NodeId) -> None:
        node = self._node
        waiting = self._waiting_for_routes
        with node.host.deadline(node.host.now() + ROUTES_PATIENCE_S):
            while node.metadata.version <= waiting[peer].version or node.metadata.founding is None:
                await node.directory.next_change()
        node.links.send(peer, Channel.CONTROL, self._routes(waiting.pop(peer)))

    def _routes(self, question: AskRoutes) -> Routes:
        node = self._node
        metadata = node.metadata
        total = node.directory.partitions_total
        if metadata.version <= question.version or not total:
            return Routes(question.number, question.version)
        primaries = (node.directory.primary_of(PartitionId(number)) for number in range(total))
        return Routes(
            question.number,
            metadata.version,
            tuple(primary or NodeId(0) for primary in primaries),
            tuple((record.node_id, record.address) for record in metadata.nodes.values()),
        )

    # ---- views

    async def _view(self, query: Query) -> View:
        view = VIEWS.get(query.view) or RAFT_VIEWS.get(query.view)
        if view is None:
            return View(query.number, "not_found", f"this node has no view {query.view!r:.80}".encode())
        try:
            arguments = wire.loads(query.arguments)
        except wire.WireError as error:
            return View(query.number, "invalid_argument", str(error).encode())
        return View(query.number, "", wire.dumps(await view(self._node, arguments)))


def _not_now_joined(join: Join, error: MeshError) -> Joined:
    return Joined(join.number, error.code, str(error))


def _not_now_view(query: Query, error: MeshError) -> View:
    return View(query.number, error.code, str(error).encode())
