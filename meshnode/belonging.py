"""Belonging to a mesh, once a node is in: its start is registered, it leaves, or it finds out that it is over."""

import contextlib
from typing import TYPE_CHECKING

import trio

from meshnode.control import Join
from meshnode.errors import GroupRecovered, MeshError, OldCopy, Unavailable
from meshnode.identity import NodeId, node_id_text
from meshnode.joining import join_mesh
from meshnode.log import get_logger
from meshnode.metadata.commands import Leaving
from meshnode.metadata.state import Outcome
from meshnode.views import ask_node

if TYPE_CHECKING:
    from meshnode.node import Node

LEAVE_POLL_S = 0.1

REGISTRATION_PATIENCE_S = 10.0
"""Several elections: a start that is not registered by then may be of a node that the mesh has let go."""

REMOVAL_TIMEOUT_S = 15.0
"""Several elections, after which a leader has removed the node or none will."""


class Belonging:
    """Of one node. `run` once its rooms are open.

    Attributes:
        left: set when the node has left the mesh.
    """

    def __init__(self, node: "Node") -> None:
        self.left = trio.Event()
        self._node = node
        self._refusal = ""
        self._is_refused = trio.Event()
        self._log = get_logger()

    async def run(self) -> None:
        """Make this start of the node known, and end when it is not the last one.

        Raises:
            OldCopy: the data directory is an old copy, or another process runs on a copy of it.
            GroupRecovered: the Raft group goes on without what this node's log has.
            OperatorError: it can't be registered.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._end_when_refused)
            nursery.start_soon(self._end_when_recovered)
            nursery.start_soon(self._stay_registered)

    def refused(self, refusal: MeshError) -> None:
        """A member refused a link to this node."""
        if isinstance(refusal, OldCopy):
            self._refusal = str(refusal)
            self._is_refused.set()

    async def leave(self) -> None:
        """See `meshnode.Node.leave`."""
        node = self._node
        if node.node_id in node.metadata.nodes and await node.group.propose(Leaving(node.node_id)) is Outcome.INVALID:
            raise Unavailable("the last node can't leave its mesh: nobody is there to take over; stop it instead")
        await self.left.wait()

    # ---- staying

    async def _stay_registered(self) -> None:
        node = self._node
        patience_s = REGISTRATION_PATIENCE_S
        while not self._is_superseded():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._ask_back_in, patience_s)
                await node.group.register(node.registration)
                nursery.cancel_scope.cancel()
            await self._until_registered_no_more()
            patience_s = 0.0  # what this node knows by then is no old news
        raise OldCopy(
            f"this is start {node.identity.boot} of node {node_id_text(node.node_id)}, but the mesh has seen another "
            f"start {node.metadata.boot_of(node.node_id)}: the data directory {node.config.data} is an old copy, or "
            "another process runs on a copy of it. Start with an empty one"
        )

    async def _until_registered_no_more(self) -> None:
        """Wait until another start is registered, or the group was made anew without this one, and leave if forgotten.

        A group that is made anew may have lost that this start was registered: that is no reason to leave.
        """
        node = self._node
        generation = node.metadata.generation
        while not self._is_superseded() and node.metadata.boot_of(node.node_id) == node.identity.boot:
            generation = node.metadata.generation
            await node.directory.next_change()
        if node.node_id not in node.metadata.nodes and node.metadata.generation == generation:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._leave)
                while not self._is_superseded():
                    await node.directory.next_change()
                nursery.cancel_scope.cancel()

    def _is_superseded(self) -> bool:
        node = self._node
        return node.identity.start.is_over(node.metadata.start_of(node.node_id))

    async def _ask_back_in(self, patience_s: float) -> None:
        """For a node that is not registered nothing is proposed, as for one that was let go while it was down: it has
        to be let in as if it were new.

        Raises:
            OperatorError: the mesh never will, as when another node has its name by now.
        """
        node = self._node
        await node.host.sleep_until(node.host.now() + patience_s)
        known = [node.membership.members[member].address for member in node.others()]
        seeds = (*node.config.join, *known)
        await join_mesh(node.host, node.links, node.reception.joined, Join(0, node.registration), seeds)

    async def _end_when_refused(self) -> None:
        """Others may know of a later start before this one hears of it, and then want nothing to do with this one."""
        await self._is_refused.wait()
        raise OldCopy(
            "the data directory is an old copy, or another node runs on a copy of it: a member of the mesh says: "
            f"{self._refusal} Start with another one than {self._node.config.data}, an empty one"
        )

    async def _end_when_recovered(self) -> None:
        """What this node's log has, and what it voted for, may contradict what the recovered group agrees on."""
        group = self._node.group
        await group.recovered.wait()
        raise GroupRecovered(
            f"the mesh's Raft group was recovered, as generation {group.generation}, without this node's log, which is "
            f"set aside in {self._node.config.data}. Start the node again: it takes the metadata from the others"
        )

    # ---- leaving

    async def _leave(self) -> None:
        """Whoever asked for it may not wait any more: the node leaves once it is let go."""
        await self._until_not_needed()
        self._node.membership.leave()
        self._log.info("left the mesh")
        self.left.set()

    async def _until_not_needed(self) -> None:
        """Go on voting until the Raft group does without this node: it takes its vote to agree on that.

        Only the leader can tell, since a node that was removed is sent no more. One that can't be asked for a while has
        to be believed to know.
        """
        node = self._node
        with node.host.deadline(node.host.now() + REMOVAL_TIMEOUT_S):
            while True:
                leader = node.group.leader
                if leader is not None and leader != node.node_id and await self._does_without_this(leader):
                    return
                await node.host.sleep_until(node.host.now() + LEAVE_POLL_S)

    async def _does_without_this(self, leader: NodeId) -> bool:
        """Whether the other node says that it leads a group that this one is no member of."""
        me = node_id_text(self._node.node_id)
        with contextlib.suppress(MeshError):
            status = await ask_node(self._node, leader, "raft_status")
            return status["role"] == "leader" and me not in (*status["voter_ids"], *status["learner_ids"])
        return False
