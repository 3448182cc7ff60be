"""Takes what was agreed on from node to node, where the Raft group itself does not: drives `following` and `feeding`.

The group has few members, so that its leader sends few streams. Every other node follows a member, or another node
that does; and has the leader propose for it.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import trio

from meshnode import wire
from meshnode.errors import MeshError, OperatorError, OutcomeUnknown, Overloaded, Unavailable, error_from_code
from meshnode.host import Host
from meshnode.identity import NodeId
from meshnode.links import Channel, LinkLost, Links, Requests
from meshnode.metadata.feeding import Feeder, Outgoing
from meshnode.metadata.following import NOBODY, Follower
from meshnode.metadata.history import History
from meshnode.metadata.relayed import (
    Agreed,
    Declined,
    Follow,
    News,
    Propose,
    Proposed,
    StatePart,
    Taken,
    Unfollow,
)
from meshnode.metadata.state import Metadata

LOOK_S = 1.0
"""How often a node looks whether the Raft group still tells it itself."""

PROPOSED_MAX = 1024
"""Proposals of other nodes that are under way; each is a task."""


class Relay:
    """Of one node. `run` beside the Raft node.

    Attributes:
        led_at_s: when it last heard of a leader, or began.

    Args:
        member_news: what the Raft group tells this node itself; None where it tells nothing.
        agree: has a command agreed on by this node's own Raft, or none, which only reads; where that was.
        candidates: whom this node could follow.
    """

    def __init__(
        self,
        host: Host,
        metadata: Metadata,
        history: History,
        links: Links,
        *,
        node_id: NodeId,
        member_news: Callable[[], News | None],
        agree: Callable[[bytes], Awaitable[int]],
        candidates: Callable[[], Sequence[NodeId]],
    ) -> None:
        self._host = host
        self._metadata = metadata
        self._history = history
        self._links = links
        self._node_id = node_id
        self._member_news = member_news
        self._agree = agree
        self._feeder = Feeder(history, lambda: b"".join(metadata.freeze()()))
        self._follower = Follower(node_id, history, lambda image: metadata.restore([image])(), candidates, host.rng)
        self._answers: Requests[Proposed] = Requests(links, Channel.RAFT)
        self._work = trio.Event()
        self._moved = trio.Event()
        self._nursery: trio.Nursery | None = None
        self._proposed = 0
        self._unreadable: wire.WireError | None = None
        self.led_at_s = host.now()
        history.on_change = self.moved

    @property
    def news(self) -> News:
        """What this node knows of the group."""
        return self._beside(self._member_news())

    def _beside(self, told: News | None) -> News:
        """What this node knows, given what the group tells it itself."""
        if told is not None:
            return replace(told, path=(self._node_id,))
        news = self._follower.news
        return replace(news, path=(*news.path, self._node_id))

    async def run(self) -> None:
        """Until cancelled.

        Raises:
            OperatorError: what was agreed on is of a newer version than this node.
        """
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                await self._keep_told()
            finally:
                self._nursery = None  # messages may come until the links have ended

    async def _keep_told(self) -> None:
        while True:
            self._work = trio.Event()
            if self._unreadable is not None:
                raise OperatorError(
                    f"what the mesh agreed on can't be read: {self._unreadable}. It is of a newer version: upgrade "
                    "this node"
                ) from self._unreadable
            now = self._host.now()
            told = self._member_news()
            if self._beside(told).leader:
                self.led_at_s = now
            self._send(self._follower.rest(now) if told is not None else self._follower.seek(now))
            self._send(self._feeder.pump(self._beside(told), now))
            seek_at_s = now + LOOK_S if told is not None else self._follower.next_deadline
            with self._host.deadline(min(seek_at_s, self._feeder.next_deadline)):
                await self._work.wait()

    def moved(self) -> None:
        """Something was applied."""
        self._moved.set()
        self._moved = trio.Event()
        if len(self._feeder):
            self._work.set()

    def lost(self, peer: NodeId) -> None:
        """Messages to the peer, or of it, were lost."""
        self._feeder.left(peer)
        self._follower.lost(peer, self._host.now())
        self._work.set()

    def receive(self, peer: NodeId, message: object) -> None:
        """A message of another node."""
        now = self._host.now()
        match message:
            case Agreed() | StatePart() | Declined():
                try:
                    self._send(self._follower.receive(peer, message, now))
                except wire.WireError as error:
                    self._unreadable = error
                self._work.set()
            case Follow():
                self._send(self._feeder.follow(peer, message, self.news, now))
                self._work.set()
            case Taken():
                self._feeder.taken(peer, message, now)
                self._work.set()
            case Unfollow():
                self._feeder.left(peer, message.stream)
            case Propose():
                self._take_proposal(peer, message)
            case Proposed():
                self._answers.answered(peer, message.number, message)

    def _send(self, outgoing: list[Outgoing]) -> None:
        for peer, message in outgoing:
            if not self._links.send(peer, Channel.RAFT, message):
                self.lost(peer)

    # ---- proposals

    async def agree(self, command: bytes, timeout_s: float) -> int:
        """Have the leader propose a command, and wait until it is applied here; where it is in the log.

        Without a command, wait until all is applied here that was agreed on before.

        Raises:
            Unavailable: no leader is known, or it did not take it.
            OutcomeUnknown: the command may be agreed on, or be yet.
        """
        leader = self._follower.news.leader
        if leader == NOBODY:
            raise Unavailable("this node hears from no leader of the Raft group: propose again later")
        with self._host.deadline(self._host.now() + timeout_s):
            try:
                answer = await self._answers.ask(leader, lambda number: Propose(number, command))
            except LinkLost as error:
                if error.was_sent:
                    raise OutcomeUnknown(f"the leader may have proposed it: {error}") from error
                raise
            if answer.code:
                raise error_from_code(answer.code, answer.reason)
            while self._history.position < answer.position:
                await self._moved.wait()
            return answer.position
        raise OutcomeUnknown(f"no word of it within {timeout_s:g} s: it may be agreed on yet")

    def _take_proposal(self, peer: NodeId, proposal: Propose) -> None:
        if peer not in self._metadata.nodes:
            self._refuse(peer, proposal, Unavailable("a node that is not registered proposes nothing: join first"))
        elif self._nursery is None:
            reason = "this node takes no proposals: it is starting, or has ended. Propose again later"
            self._refuse(peer, proposal, Unavailable(reason))
        elif self._proposed >= PROPOSED_MAX:
            self._refuse(peer, proposal, Overloaded(f"{PROPOSED_MAX} proposals of other nodes are under way"))
        else:
            self._proposed += 1
            self._nursery.start_soon(self._propose_for, peer, proposal)

    async def _propose_for(self, peer: NodeId, proposal: Propose) -> None:
        try:
            position = await self._agree(proposal.command)
        except MeshError as error:
            self._refuse(peer, proposal, error)
        else:
            self._links.send(peer, Channel.RAFT, Proposed(proposal.number, position=position))
        finally:
            self._proposed -= 1

    def _refuse(self, peer: NodeId, proposal: Propose, error: MeshError) -> None:
        self._links.send(peer, Channel.RAFT, Proposed(proposal.number, error.code, str(error)))
