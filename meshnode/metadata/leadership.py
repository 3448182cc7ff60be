"""What the leader of the Raft group does: found the mesh, let nodes in and out, choose voters, move partitions."""

from collections.abc import Callable, Mapping

import trio

from consensus.messages import Configuration
from consensus.status import Status
from meshnode.errors import NameTaken, OperatorError, Unavailable
from meshnode.host import Host
from meshnode.identity import NodeId, node_id_text
from meshnode.links import Channel, Links
from meshnode.log import get_logger
from meshnode.membership.messages import Member, State
from meshnode.metadata.allocator import Allocator, Health, Move
from meshnode.metadata.commands import CHANGES_MAX, ChangeRows, Forget, Found, Register
from meshnode.metadata.config import AllocatorConfig, VotersConfig
from meshnode.metadata.group import MetadataGroup
from meshnode.metadata.voters import Action, Peer, next_step

INTERVAL_S = 0.25
"""How often the leader looks; news of a member makes it look at once."""

UNKNOWN_GRACE_S = 10.0
"""How long a new leader waits for word of a registered node that membership does not know yet."""

CAUGHT_UP_ENTRIES = 128
"""A learner this close to the leader's log may vote."""


class Leadership:
    """The duties; idle on every node but the leader.

    Args:
        members: who membership knows.
        on_move: takes a move whose primary is this node.
        founding: what a founder proposes.
    """

    def __init__(
        self,
        host: Host,
        config: AllocatorConfig,
        voting: VotersConfig,
        group: MetadataGroup,
        *,
        node_id: NodeId,
        links: Links,
        members: Callable[[], Mapping[NodeId, Member]],
        on_move: Callable[[Move], None],
        founding: Found | None,
    ) -> None:
        self._host = host
        self._config = config
        self._voting = voting
        self._group = group
        self._metadata = group.metadata
        self._node_id = node_id
        self._links = links
        self._members = members
        self._on_move = on_move
        self._founding = founding
        self._live_since: dict[NodeId, tuple[bool, float]] = {}
        self._configuration = Configuration()
        self._unchanged_since_s = 0.0
        self._heard_at_s: dict[NodeId, float] = {}
        self._admitted_at_s: dict[NodeId, float] = {}
        self._admitting = trio.Lock()
        self._since_s = 0.0
        self._term = 0
        self._allocator: Allocator | None = None
        self._news = trio.Event()
        self._log = get_logger()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._news = trio.Event()
            try:
                await self._look()
            except Unavailable as error:
                self._log.debug("leader's duty put off", reason=str(error))
            if self._group.is_leader:
                with self._host.deadline(self._host.now() + INTERVAL_S):
                    await self._news.wait()
            else:
                await self._group.until_leader()

    def look_soon(self) -> None:
        """A member changed."""
        self._news.set()

    def heard(self, node_id: NodeId) -> None:
        """A node's main loop runs."""
        self._heard_at_s[node_id] = self._host.now()

    async def admit(self, candidate: Register) -> None:
        """As leader, let a node in: it is registered.

        Raises:
            NameTaken: a live node has its name.
            OperatorError: what it says of itself can't be registered.
            Unavailable: this node does not lead, or no quorum agreed.
        """
        if not self._group.is_leader:
            raise Unavailable("this node does not lead")
        if problem := candidate.problem():
            raise OperatorError(f"the mesh can't register this node: {problem}")
        async with self._admitting:  # of two candidates with one name, the second sees the first
            await self._admit(candidate)

    async def _admit(self, candidate: Register) -> None:
        await self._group.read()  # an earlier leader may have let in one of that name, or a later one by now
        health = self.health()
        for record in self._metadata.nodes.values():
            is_other = record.name == candidate.name and record.node_id != candidate.node_id
            if is_other and health[record.node_id] is Health.LIVE:
                raise NameTaken(
                    f"a live node at {record.address} is named {candidate.name!r} already: choose another --name"
                )
        self._admitted_at_s[candidate.node_id] = self._host.now()
        await self._group.propose(candidate)

    def health(self) -> dict[NodeId, Health]:
        """What this node thinks of each registered node; meaningful on the leader."""
        now = self._host.now()
        members = self._members()
        states = {}
        for node_id, record in self._metadata.nodes.items():
            member = members.get(node_id)
            if node_id == self._node_id:
                state = Health.LIVE
            elif member is None:
                since_s = max(self._since_s, self._admitted_at_s.get(node_id, 0.0))
                state = Health.LIVE if now < since_s + UNKNOWN_GRACE_S else Health.FAILED
            elif not member.is_live:
                state = Health.LEFT if member.state is State.LEFT else Health.FAILED
            elif member.boot > record.boot:
                state = Health.FAILED  # the process that is registered is gone
            else:
                heard_at_s = max(self._heard_at_s.get(node_id, 0.0), self._since_s)
                state = Health.LIVE if now < heard_at_s + self._config.stuck_after_s else Health.FAILED
            states[node_id] = state
        return states

    # ---- one look

    async def _look(self) -> None:
        if not self._group.is_leader:
            if self._allocator is not None:
                status = self._group.status
                leader = node_id_text(NodeId(status.leader))
                self._log.info("leads the Raft group no more", term=status.term, leader=leader)
            self._allocator = None
            return
        status = self._group.status
        if self._allocator is None or status.term != self._term:
            self._term = status.term
            self._since_s = self._host.now()
            self._allocator = Allocator(self._metadata, self._config, self._host.now())
            self._live_since = {}
            self._log.info("leads the Raft group", term=status.term)
        if self._metadata.founding is None:
            if self._founding is not None:
                await self._group.propose(self._founding)
            return
        await self._move_partitions(self._allocator, self.health())
        if self._group.is_leader:  # and looks anew: meanwhile nodes may have come and gone
            await self._choose_voters(self._group.status, self.health())
        await self._let_go()

    async def _move_partitions(self, allocator: Allocator, health: Mapping[NodeId, Health]) -> None:
        plan = allocator.plan(health, self._host.now())
        for move in plan.moves:
            row = self._metadata.rows[move.partition]
            if row.primary == self._node_id:
                self._on_move(move)
            else:
                self._links.send(row.primary, Channel.PARTITIONS, move)
        for begin in range(0, len(plan.changes), CHANGES_MAX):
            await self._group.propose(ChangeRows(plan.changes[begin : begin + CHANGES_MAX]))

    async def _choose_voters(self, status: Status, health: Mapping[NodeId, Health]) -> None:
        """Make the change of the group that is due, if one is."""
        founding = self._metadata.founding
        assert founding is not None
        if self._node_id not in self._metadata.nodes and status.voters == (self._node_id,):
            return  # a founder that is not registered yet
        now = self._host.now()
        if status.configuration != self._configuration:
            self._configuration = status.configuration
            self._unchanged_since_s = now
        step = next_step(
            status.configuration,
            self._peers(status, health),
            leader=self._node_id,
            target=founding.voters,
            config=self._voting,
            quiet_s=now - max(self._unchanged_since_s, self._since_s),
        )
        if step is None:
            return
        self._log.info("voters", step=step.action.value, peer=node_id_text(step.node), reason=step.reason)
        if step.action is Action.HAND_OVER:
            await self._group.hand_over(step.node)
        else:
            await self._group.change_configuration(step.change)

    def _peers(self, status: Status, health: Mapping[NodeId, Health]) -> dict[NodeId, Peer]:
        """Every registered node, as the rules for voters see it."""
        now = self._host.now()
        ready = {
            peer.node
            for peer in status.progress
            if self._group.answers(NodeId(peer.node))
            and peer.match > 0
            and peer.match + CAUGHT_UP_ENTRIES >= status.commit
        }
        peers = {}
        since: dict[NodeId, tuple[bool, float]] = {}
        for node_id, record in self._metadata.nodes.items():
            is_live = health[node_id] is Health.LIVE
            was_live, at_s = self._live_since.get(node_id, (is_live, now))
            since[node_id] = (is_live, at_s if was_live is is_live else now)
            peers[node_id] = Peer(
                zone=record.zone,
                is_leaving=record.is_leaving,
                is_live=is_live,
                is_ready=is_live and node_id in ready,
                for_s=now - since[node_id][1],
            )
        self._live_since = since
        return peers

    async def _let_go(self) -> None:
        """Forget one node that wants to leave, and neither holds anything any more nor votes.

        What the group can do without it is judged by what is known of it, and so only as long as it is registered.
        """
        holding = {member for row in self._metadata.rows.values() for member in (*row.replicas, *row.base)}
        holding.update(map(NodeId, self._group.status.configuration.electorate))
        for node_id, record in self._metadata.nodes.items():
            if record.is_leaving and node_id not in holding and node_id != self._node_id:
                await self._group.propose(Forget(node_id))
                return
