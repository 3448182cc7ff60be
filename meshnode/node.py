"""A node: its rooms, wired together in one nursery."""

import contextlib
import functools
import importlib
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import replace
from typing import Any, TypeVar, TypeVarTuple

import numpy.typing as npt
import structlog
import trio

from consensus.disk import Disk
from meshnode.access import MODEL_TIMEOUT_S, Access
from meshnode.agents.caller import Caller
from meshnode.agents.context import TurnContext
from meshnode.agents.definition import Agent, Application, application_of
from meshnode.agents.messages import Answer, Call, OpenSession
from meshnode.agents.service import Agents
from meshnode.belonging import Belonging
from meshnode.config import NodeConfig
from meshnode.control import Alive, Join, Joined
from meshnode.coordination.commands import BeginSession
from meshnode.coordination.coordinator import Coordinator
from meshnode.coordination.replica import LocalReplica
from meshnode.coordination.ticks import keep_ticking
from meshnode.data_directory import Identity, Standing, load_identity, save_identity
from meshnode.directory import NodeDirectory
from meshnode.errors import GroupRecovered, OldCopy, OperatorError, StorageFailed, Unavailable
from meshnode.host import Host, RealHost
from meshnode.identity import Address, MeshId, NodeId, PartitionId, node_id_text
from meshnode.joining import NoMesh, check_mesh, join_mesh, literal_addresses
from meshnode.links import Channel, Hello, Links, Requests, Role, Tls
from meshnode.log import get_logger
from meshnode.membership.effects import Changed
from meshnode.membership.messages import Member, first_incarnation
from meshnode.membership.seeds import SEEDS_MAX
from meshnode.membership.udp import Membership
from meshnode.metadata.commands import ChangeRows, Found, Register
from meshnode.metadata.group import MetadataGroup, open_raft_log
from meshnode.metadata.leadership import Leadership
from meshnode.metadata.nodes import NodeRecord
from meshnode.metadata.rows import Row
from meshnode.metadata.state import Metadata
from meshnode.partitions.driver import Partitions
from meshnode.partitions.journal import Journal
from meshnode.prediction import EngineBackend, Predictor
from meshnode.prediction.backend import Rows
from meshnode.prediction.shelf import ModelShelf, PublishedModel
from meshnode.reception import Reception

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

ALIVE_INTERVAL_S = 1.0
"""How often the main loop shows the leader that it runs."""


class Node(Access):
    """One node of a mesh, embedded in this program: ``async with Node(config) as node: …``

    Entering returns once the node belongs to a mesh; a node that is to join keeps trying until a seed lets it in. An
    error of the operator's (`OperatorError`) ends the block as part of an exception group.

    Args:
        agents: agent types to offer beside those of ``config.app``.
        host: the outside; this machine if None.
        tls: what makes links private, from `meshnode.load_tls`; all nodes and clients of a mesh have one, or none does.
    """

    node_id: NodeId
    identity: Identity
    address: Address
    links: Links
    metadata: Metadata
    directory: NodeDirectory
    group: MetadataGroup
    membership: Membership
    leadership: Leadership
    partitions: Partitions
    agents: Agents
    predictor: Predictor

    def __init__(
        self,
        config: NodeConfig,
        *,
        agents: Iterable[type[Agent[Any]]] = (),
        host: Host | None = None,
        tls: Tls | None = None,
    ) -> None:
        super().__init__(config.agents.call_timeout_s)
        self.config = config
        self._tls = tls
        self.host: Host = RealHost() if host is None else host
        self.application = load_application(config.app)
        for cls in (*agents, ModelShelf):
            self.application.add(cls)
        # Of members that were there: one entry for each at most.
        self.gone_since_s: dict[NodeId, float] = {}
        self._has_duties = False
        self._belonging = Belonging(self)
        self._log = get_logger()

    # ---- what programs use

    async def predict(self, model: str, rows: npt.ArrayLike) -> Rows:
        """See `meshnode.prediction.predictor.Predictor.predict`."""
        return await self.predictor.predict(model, rows)

    async def leave(self) -> None:
        """Leave the mesh for good: hand everything over, then be forgotten. The node serves until then.

        Raises:
            Unavailable: no quorum agrees, or this is the last node.
        """
        await self._belonging.leave()

    @property
    def left(self) -> trio.Event:
        """Set when the node has left the mesh."""
        return self._belonging.left

    # ---- life

    @contextlib.asynccontextmanager
    async def _live(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            await nursery.start(self._main)
            yield
            nursery.cancel_scope.cancel()

    async def _main(self, *, task_status: trio.TaskStatus[None]) -> None:
        """All of the node, in a task of its own, so that its log lines carry its name."""
        structlog.contextvars.bind_contextvars(node=self.config.name)
        host, config = self.host, self.config
        async with host.disk(config.data) as disk:
            fresh_id, nonce = NodeId(host.fresh_id(63)), host.fresh_id(63)
            listener, bound = await host.listen(config.bind)
            advertised = config.advertise or bound
            self.address = Address(advertised.host, advertised.port or bound.port)
            try:
                async with listener, trio.open_nursery() as nursery:
                    # It counts as a start, of which the directory remembers a few, only where it may get to the mesh.
                    identity = await self._on_disk(load_identity, disk, fresh_id, nonce)
                    self.node_id = identity.node_id
                    self._open_links(identity)
                    await nursery.start(self.links.run, listener)
                    self.identity, seeds = await self._belong(disk, identity)
                    await self._open_rooms(disk, bound, seeds)
                    await self._start_rooms(nursery)
                    if identity.standing is not Standing.BORN:
                        nursery.start_soon(check_mesh, self.links, config.data, config.join)
                    task_status.started()
            except* OldCopy:
                with trio.CancelScope(shield=True):
                    superseded = replace(self.identity, standing=Standing.SUPERSEDED)
                    await self._on_disk(save_identity, disk, superseded)
                raise
            except* GroupRecovered:
                with trio.CancelScope(shield=True):
                    anew = replace(self.identity, generation=self.group.generation)
                    await self._on_disk(save_identity, disk, anew)
                raise

    async def _on_disk(self, work: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """Raises StorageFailed where the work raises OSError."""
        try:
            return await self.host.run_blocking(work, *arguments)
        except OSError as error:
            raise StorageFailed(f"data directory {self.config.data}: {error}. This node stops") from error

    def _open_links(self, identity: Identity) -> None:
        role = Role.NODE if identity.mesh_id else Role.GUEST
        hello = self._hello(identity, role)
        self.metadata = Metadata(
            on_row=self._row_changed, on_node=self._node_changed, on_coordination=lambda: replica.changed()
        )
        replica = LocalReplica(
            self.metadata.coordination,
            agree=lambda *asked: self.group.agree(*asked),
            catch_up=lambda: self.group.read(),
        )
        opening = BeginSession(self.config.name, identity.node_id, identity.boot)
        self.coordinator = Coordinator(self.host, replica, opening)
        self.links = Links(
            self.host,
            self.config.links,
            local=hello,
            address_of=lambda _node_id: None,  # who is to be joined is found by address
            start_of=self.metadata.start_of,
            tls=self._tls,
        )
        self.directory = NodeDirectory(self.metadata)
        self.agents = Agents(
            self.host,
            self.config.agents,
            self.application,
            partitions_total=lambda: self.directory.partitions_total,
            primary_of=self.directory.primary_of,
            surroundings=lambda turn: TurnContext(self.host, self.caller, self.predict, turn),
        )
        self._answers: Requests[Answer] = Requests(self.links, Channel.CALLS)
        self.reception = Reception(self)
        self.links.on(Channel.CONTROL, self.reception.receive)
        self.links.on(Channel.CALLS, self._take_call)

    async def _belong(self, disk: Disk, identity: Identity) -> tuple[Identity, tuple[Address, ...]]:
        """Found a mesh, join one, or come back to one: the identity, and where members may be."""
        host, config = self.host, self.config
        seeds = tuple(config.join)
        if identity.standing is Standing.BORN and config.found:
            mesh_id = MeshId(host.fresh_id(128).to_bytes(16, "big"))
            identity = replace(
                identity,
                standing=Standing.FOUNDING,
                mesh_id=mesh_id,
                partitions=config.partitions,
                replication=config.replication,
                voters=config.voters,
            )
            await self._on_disk(save_identity, disk, identity)
        elif identity.standing is Standing.BORN:
            if not seeds:
                raise NoMesh(
                    f"the data directory {config.data} belongs to no mesh yet: give --found on the first node of a new "
                    "mesh, --join HOST:PORT on the others"
                )
            joined: Joined = await join_mesh(
                host, self.links, self.reception.joined, Join(0, self._register(identity)), seeds
            )
            identity = replace(identity, standing=Standing.MEMBER, mesh_id=joined.mesh_id)
            await self._on_disk(save_identity, disk, identity)
            seeds = (*seeds, *joined.members)
        return identity, tuple(literal_addresses(seeds)[:SEEDS_MAX])

    @property
    def registration(self) -> Register:
        """What makes this start of the node known."""
        return self._register(self.identity)

    def _register(self, identity: Identity) -> Register:
        config, start = self.config, identity.start
        return Register(
            identity.node_id,
            start.boot,
            config.name,
            self.address,
            config.weight,
            config.zone,
            start.nonce,
            start.before,
        )

    def _hello(self, identity: Identity, role: Role) -> Hello:
        start = identity.start
        return Hello(
            identity.mesh_id,
            identity.node_id,
            start.boot,
            role,
            self.config.name,
            nonce=start.nonce,
            before=start.before,
        )

    async def _open_rooms(self, disk: Disk, bound: Address, seeds: tuple[Address, ...]) -> None:
        host, config, identity = self.host, self.config, self.identity
        founder = identity.node_id if identity.standing is Standing.FOUNDING else None
        log = await self._on_disk(
            functools.partial(
                open_raft_log,
                disk,
                identity.raft_directory,
                identity.owner,
                founder=founder,
                config=config.log,
                must_exist=identity.has_log,
            )
        )
        self.group = MetadataGroup(
            host,
            self.metadata,
            log,
            node_id=self.node_id,
            election_timeout_s=config.election_timeout_s,
            config=config.group,
            links=self.links,
            generation=identity.generation,
            candidates=self.others,
        )
        journal = Journal(host, disk, config.partition, identity.owner, must_exist=identity.has_journal)
        self.partitions = Partitions(
            host,
            config.partition,
            node_id=self.node_id,
            boot=identity.boot,
            links=self.links,
            journal=journal,
            tenant=self.agents,
            propose=self._propose_rows,
        )
        self.agents.attach(self.partitions)
        await self._on_disk(self.partitions.recover)
        if not identity.has_log:
            self.identity = identity = replace(identity, standing=Standing.MEMBER, opened=identity.generation)
            await self._on_disk(save_identity, disk, identity)
        self.caller = Caller(host, self.directory, self._exchange)
        prediction = config.prediction
        backend = EngineBackend(host.run_blocking, device=prediction.device, cache_dir=prediction.cache_dir)
        self.predictor = Predictor(host, prediction, backend, self._fetch_model)
        me = Member(
            self.node_id,
            config.name,
            self.address,
            identity.boot,
            first_incarnation(identity.boot),
            weight=config.weight,
            zone=config.zone,
        )
        at = Address(bound.host, bound.port)
        self.membership = Membership(host, config.swim, me, mesh_id=identity.mesh_id, bind=at, seeds=seeds)
        self.links.introduce_as(self._hello(identity, Role.NODE), self._address_of)
        founding = None
        if identity.partitions:  # the founder may have ended before its first command was committed
            founding = Found(identity.mesh_id, identity.partitions, identity.replication, identity.voters)
        self.leadership = Leadership(
            host,
            config.allocator,
            config.voting,
            self.group,
            node_id=self.node_id,
            links=self.links,
            members=lambda: self.membership.members,
            on_move=self.partitions.move,
            founding=founding,
        )

    async def _start_rooms(self, nursery: trio.Nursery) -> None:
        identity = self.identity
        self.links.on(Channel.RAFT, self.group.receive)
        self.links.on_end(self._link_ended)
        self.links.on_refusal(self._belonging.refused)
        await nursery.start(self.agents.run)
        nursery.start_soon(self.partitions.run)
        await nursery.start(self.group.run)
        nursery.start_soon(self.group.relay.run)
        await nursery.start(self.host.own_loop, self.membership.run)
        await nursery.start(self.predictor.run)
        nursery.start_soon(self.reception.run)
        nursery.start_soon(self.leadership.run)
        await nursery.start(self.coordinator.run)
        nursery.start_soon(keep_ticking, self.host, self.group, self.metadata.coordination)
        nursery.start_soon(self._follow_membership)
        nursery.start_soon(self._show_alive)
        nursery.start_soon(self._belonging.run)
        self._log.info(
            "node runs",
            node_id=node_id_text(self.node_id),
            boot=identity.boot,
            address=str(self.address),
            mesh=identity.mesh_id.hex(),
        )

    # ---- between the rooms

    def _address_of(self, node_id: NodeId) -> Address | None:
        member = self.membership.members.get(node_id)
        if member is not None and member.is_live:
            return member.address
        record = self.metadata.nodes.get(node_id)
        return None if record is None else record.address

    def _row_changed(self, partition: PartitionId, row: Row) -> None:
        self.partitions.row_changed(partition, row)
        self.directory.row_changed(partition)

    def _node_changed(self, node_id: NodeId, record: NodeRecord | None) -> None:
        self.directory.node_changed()
        if node_id == self.node_id:
            if record is not None and record.start == self.identity.start and not self._has_duties:
                # Partition duties begin once this start is registered (rule 2), and before any row that names it.
                self._has_duties = True
                self.links.on(Channel.PARTITIONS, self.partitions.receive)
        elif record is not None:
            # Whoever is registered is worth a knock while this node knows nobody.
            known = [other.address for other in self.metadata.nodes.values() if other.node_id != self.node_id]
            self.membership.join(known[-SEEDS_MAX:])

    def others(self) -> list[NodeId]:
        """Who seems to be there beside this node."""
        members = self.membership.members.values()
        return [member.node_id for member in members if member.is_live and member.node_id != self.node_id]

    def _link_ended(self, peer: NodeId, _was_linked: bool) -> None:
        self.group.link_ended(peer)
        if peer in self.membership.members:
            self.membership.probe_now(peer)

    def _take_call(self, peer: NodeId, message: Any) -> None:
        def respond(answer: Answer) -> None:
            if not self.links.send(peer, Channel.CALLS, answer):
                self.reception.answer_when_there_is_room(peer, answer)

        match message:
            case Call():
                if message.origin is not None and peer not in self.metadata.nodes:
                    message = replace(message, origin=None)  # whose turn a call is part of, only nodes can say
                self.agents.call(message, respond)
            case OpenSession():
                self.agents.open_session(message, respond)
            case Answer():
                self._answers.answered(peer, message.number, message)

    async def _exchange(self, primary: NodeId, question: Callable[[int], OpenSession | Call]) -> Answer:
        if primary != self.node_id:
            return await self._answers.ask(primary, question)
        answered = trio.Event()
        answers: list[Answer] = []

        def respond(answer: Answer) -> None:
            answers.append(answer)
            answered.set()

        match question(0):
            case Call() as call:
                self.agents.call(call, respond)
            case OpenSession() as opening:
                self.agents.open_session(opening, respond)
        if answers:  # which no deadline that has passed meanwhile makes unknown
            await trio.lowlevel.cancel_shielded_checkpoint()
        else:
            await answered.wait()
        return answers[0]

    async def _propose_rows(self, command: ChangeRows) -> None:
        try:
            await self.group.propose(command)
        except Unavailable as error:
            self._log.debug("rows not changed", reason=str(error))

    async def _fetch_model(self, name: str, known: int) -> PublishedModel | None:
        return await self.ref(ModelShelf, name, timeout_s=MODEL_TIMEOUT_S).latest(known)

    async def _follow_membership(self) -> None:
        while True:
            for event in (await self.membership.events.receive()).values():
                if isinstance(event, Changed):
                    self._log.info(
                        "member",
                        peer=event.member.name,
                        state=event.member.state.name.lower(),
                        term=self.group.status.term,
                    )
                    if event.member.is_live:
                        self.gone_since_s.pop(event.member.node_id, None)
                    else:
                        self.gone_since_s.setdefault(event.member.node_id, self.host.now())
                        for forgotten in self.gone_since_s.keys() - self.membership.members.keys():
                            del self.gone_since_s[forgotten]
                    self.leadership.look_soon()
                else:
                    self._log.warning("no seed answers; trying again", attempts=event.attempts)

    async def _show_alive(self) -> None:
        while True:
            leader = self.group.leader
            if leader is not None and leader != self.node_id:
                self.links.send(leader, Channel.CONTROL, Alive(self.identity.boot))
            await self.host.sleep_until(self.host.now() + ALIVE_INTERVAL_S)


def load_application(modules: Any) -> Application:
    """The agents of all these modules.

    Raises:
        OperatorError: a module can't be imported, or has no agent.
    """
    application = Application()
    for name in modules:
        try:
            module = importlib.import_module(name)
        except ImportError as error:
            raise OperatorError(f"--app {name}: {error}. Is its folder in PYTHONPATH?") from error
        found = list(application_of(vars(module)))
        if not found:
            raise OperatorError(f"--app {name}: the module has no class decorated with @agent")
        for definition in found:
            application.add(definition.cls)
    return application
