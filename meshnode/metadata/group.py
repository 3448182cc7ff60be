"""This node's part in the mesh's one Raft group: the log on disk, the metadata, proposals."""

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

import trio

from consensus import codec
from consensus.config import LogConfig, RaftConfig
from consensus.disk import Disk
from consensus.driver import RaftNode
from consensus.environment import Image
from consensus.errors import CorruptLog, ForeignLog, LostLog, MalformedMessage, ProposalDropped, StorageError
from consensus.errors import OutcomeUnknown as ProposalUnknown
from consensus.founding import founding
from consensus.messages import ConfChange, Configuration, Message, MessageKind, Packet, Role, Snapshot
from consensus.opening import open_log
from consensus.status import Status
from consensus.storage import DurableLog
from meshnode import wire
from meshnode.coordination.commands import Command as CoordinationCommand
from meshnode.errors import (
    DataDirectoryError,
    OldCopy,
    OperatorError,
    OutcomeUnknown,
    StorageFailed,
    Unavailable,
    WrongMesh,
)
from meshnode.host import Host
from meshnode.identity import NodeId
from meshnode.links import Channel, Links
from meshnode.log import get_logger
from meshnode.metadata.commands import Command, Register
from meshnode.metadata.config import GroupConfig
from meshnode.metadata.following import NOBODY
from meshnode.metadata.history import Applied, History
from meshnode.metadata.relay import Relay
from meshnode.metadata.relayed import News
from meshnode.metadata.state import GENERATION_SHIFT, Metadata, Outcome

PROPOSAL_TIMEOUT_S = 5.0
"""Several elections: after it a proposal is made again, which a command always allows."""

PAUSE_S = 0.2
"""Between two tries of a proposal that was dropped, as while there is no leader."""

HEARING_TIMEOUTS = 2
"""Election timeouts without a word of the leader after which a node looks for another one to tell it. A voter stands
for election by then; a learner may have been taken out of the group, which nobody tells it."""

HEARTBEATS_PER_TIMEOUT = 5
"""In the shortest time after which a follower stands for election. They are most of what an idle mesh sends, and each
wakes two processes. Streams lose none while they last, so one that is late means a path or a process that stalls. What
has to be far below the timeout is how long a message is under way (Raft paper 5.6), not the pause between two."""

_OF_LEADERS = frozenset({MessageKind.APPEND, MessageKind.HEARTBEAT, MessageKind.SNAPSHOT})


@wire.message(0x20)
@dataclass(frozen=True, slots=True)
class RaftBytes:
    """A message of the group as `consensus.codec` makes it: its entries are the bytes of the log."""

    message: bytes


class MetadataGroup:
    """The Raft node, its log and the metadata that it applies.

    Args:
        log: opened by `open_raft_log`.
        generation: of the group, as far as the log was begun for one; see `meshnode.recovery`.
        candidates: whom this node could follow, where the group itself tells it nothing.

    Attributes:
        generation: of the group, as this node's Raft knows it.
        recovered: set when the group turns out to have been recovered without this node's log.
        relay: what brings the metadata to nodes outside the group. To be run beside the group.
    """

    def __init__(
        self,
        host: Host,
        metadata: Metadata,
        log: DurableLog,
        *,
        node_id: NodeId,
        election_timeout_s: float,
        config: GroupConfig,
        links: Links,
        generation: int,
        candidates: Callable[[], Sequence[NodeId]],
    ) -> None:
        self.metadata = metadata
        self.recovered = trio.Event()
        self.generation = max(generation, log.initial_state()[0].term >> GENERATION_SHIFT)
        self._history = History(metadata)
        self._heard_at_s = -math.inf
        # One for each node that was a member since the start.
        self._member_heard_at_s: dict[NodeId, float] = {}
        self._hearing_s = HEARING_TIMEOUTS * election_timeout_s
        self._host = host
        self._node_id = node_id
        self._links = links
        self._log = log
        settings = RaftConfig(
            id=node_id,
            election_timeout_s=election_timeout_s,
            heartbeat_interval_s=election_timeout_s / HEARTBEATS_PER_TIMEOUT,
            **asdict(config),
        )
        self._raft = RaftNode(
            settings,
            log=log,
            machine=self._history,
            clock=host,
            run_blocking=host.run_blocking,
            syncs=host.syncs(),
            rng=host.rng,
            send=self._send,
        )
        self.relay = Relay(
            host,
            metadata,
            self._history,
            links,
            node_id=node_id,
            member_news=self._member_news,
            agree=self._agree_for_others,
            candidates=candidates,
        )
        self._logger = get_logger()
        if log.damage is not None:
            self._logger.warning("the Raft log is damaged; the others give back what is lost", damage=str(log.damage))

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Until cancelled.

        Raises:
            StorageFailed: the disk refused a write.
            DataDirectoryError: what the log has lost does not come back to this process.
            OldCopy: the log went back in time.
        """
        try:
            await self._raft.run(task_status=task_status)
        except LostLog as error:
            reason = f"the data directory is an old copy, or another node runs on a copy of it: {error}"
            raise OldCopy(reason) from error
        except CorruptLog as error:
            raise DataDirectoryError(f"Raft log: {error}. See docs/raft.md; this node stops") from error
        except StorageError as error:
            raise StorageFailed(f"Raft log: {error}. This node stops; nothing acknowledged is lost") from error
        finally:
            # A log that can't be closed has failed before, or has nothing left that anybody was told of.
            with trio.CancelScope(shield=True), contextlib.suppress(StorageError):
                await self._host.run_blocking(self._log.close)

    def receive(self, sender: NodeId, message: object) -> None:
        """A message of the channel RAFT."""
        if not isinstance(message, RaftBytes):
            self.relay.receive(sender, message)
            if self._log.lost() is not None and self.relay.news.leader not in (NOBODY, self._node_id):
                self._raft.report_others()
            return
        try:
            decoded = codec.decode(message.message)
        except MalformedMessage as error:
            self._logger.debug("dropped what is no message of Raft", sender=sender, reason=str(error))
            return
        if decoded.sender == sender and self._is_of_this_group(decoded):
            now = self._host.now()
            self._member_heard_at_s[sender] = now
            if isinstance(decoded, Message) and decoded.kind in _OF_LEADERS and sender == self._raft.leader:
                self._heard_at_s = now
            self._raft.receive(decoded)

    def _is_of_this_group(self, message: Packet) -> bool:
        """Whether it comes neither from a group that was lost nor from one that was recovered without this log."""
        if self.recovered.is_set():
            return False
        if not isinstance(message, Message):
            return True  # a part of an image, which names the image
        generation = message.term >> GENERATION_SHIFT
        if generation == self.generation or not message.term:
            return True
        newest = max(self.generation, self.metadata.generation)
        if generation < newest:
            self._tell_generation(NodeId(message.sender), newest)
            return False
        self.generation = generation
        if self._raft.status().term:
            self.recovered.set()  # only a log that has nothing yet can be of any group
            return False
        return True

    def _tell_generation(self, node: NodeId, generation: int) -> None:
        """Tell a node of an older group that it is over. Nobody else may: the new one need not know of that node."""
        message = Message(
            MessageKind.HEARTBEAT_RESPONSE, to=node, sender=self._node_id, term=generation << GENERATION_SHIFT
        )
        self._links.send(node, Channel.RAFT, RaftBytes(codec.encode(message)))

    def link_ended(self, peer: NodeId) -> None:
        """Messages to the peer were lost."""
        self.relay.lost(peer)
        if peer in self.member_status.configuration.members:
            self._raft.report_unreachable(peer)

    @property
    def member_status(self) -> Status:
        """The Raft node at this moment. It knows what the group last told it, which may be long ago."""
        return self._raft.status()

    @property
    def status(self) -> Status:
        """The Raft group as this node knows it, from the group itself or from another node."""
        status = self._raft.status()
        if self._is_told:
            return status
        news, position = self.relay.news, max(self._history.position, status.applied)
        if news.term < status.term:
            return replace(status, leader=0, commit=max(position, status.commit), applied=position)
        return replace(
            status,
            leader=news.leader,
            term=news.term,
            commit=max(position, status.commit),
            applied=position,
            configuration=Configuration(voters=news.voters, learners=news.learners),
        )

    @property
    def leader(self) -> NodeId | None:
        """Who leads, as far as this node knows."""
        leader = self._raft.leader if self._is_told else self.relay.news.leader
        return NodeId(leader) if leader else None

    @property
    def _is_told(self) -> bool:
        """Whether the group itself tells this node what is agreed on."""
        return self.is_leader or self._host.now() < self._heard_at_s + self._hearing_s

    def answers(self, member: NodeId) -> bool:
        """Whether a member was heard of in the last election timeouts.

        Raft's own note of that begins anew with each check of its quorum: who looks in step with those sees nobody.
        """
        return self._host.now() < self._member_heard_at_s.get(member, -math.inf) + self._hearing_s

    def _member_news(self) -> News | None:
        if not self._is_told:
            return None
        status = self._raft.status()
        self._history.advance(status.applied)
        voters, learners = (tuple(map(NodeId, nodes)) for nodes in (status.configuration.electorate, status.learners))
        return News(NodeId(status.leader), status.term, voters, learners)

    @property
    def is_leader(self) -> bool:
        """Whether this node leads."""
        return self._raft.role is Role.LEADER

    @property
    def term(self) -> int:
        """The present term, as far as this node knows."""
        return self.status.term

    async def until_leader(self) -> None:
        """Wait until this node leads."""
        await self._raft.until_leader()

    async def propose(self, command: Command) -> Outcome:
        """Have a command applied, on any node; what it did.

        Raises:
            Unavailable: no quorum agreed in time; it may be agreed on yet.
        """
        try:
            outcome = await self.agree(command, PROPOSAL_TIMEOUT_S)
        except OutcomeUnknown as error:
            raise Unavailable(str(error)) from error
        assert isinstance(outcome, Outcome)
        return outcome

    async def agree(self, command: Command | CoordinationCommand, timeout_s: float) -> object:
        """Have a command applied, on any node; what `Metadata.apply` returned for it.

        Raises:
            Unavailable: it is surely in no log.
            OutcomeUnknown: it may be agreed on, or be yet.
        """
        data = wire.encode(command)
        if self._is_told or (not self.relay.news.leader and self._votes):
            outcome = (await self._agree_here(data, timeout_s)).outcome
        else:
            outcome = self._history.outcome_at(await self.relay.agree(data, timeout_s))
        if outcome is None:
            raise OutcomeUnknown("agreed on, but this node was too far behind to see what it did")
        return outcome

    @property
    def _votes(self) -> bool:
        """As far as its own Raft knows, which else stands for no election, and names the last leader for ever."""
        return self._node_id in self.member_status.configuration.electorate

    async def _agree_here(self, command: bytes, timeout_s: float) -> Applied:
        """Have a command agreed on by this node's own Raft."""
        try:
            applied = await self._raft.propose(command, timeout_s=timeout_s)
        except ProposalDropped as error:
            raise Unavailable(f"the Raft group did not agree: {error}") from error
        except ProposalUnknown as error:
            raise OutcomeUnknown(f"the Raft group did not agree in time: {error}") from error
        assert isinstance(applied, Applied)
        return applied

    async def _agree_for_others(self, command: bytes) -> int:
        """Where the command is in the log, or the last one, without one. For a node that takes this one for leader."""
        if not self.is_leader:
            raise Unavailable("this node does not lead the Raft group")
        if not command:
            await self._read_member()
            return self._history.newest
        return (await self._agree_here(command, PROPOSAL_TIMEOUT_S)).index

    async def read(self) -> None:
        """Wait until the metadata here has all that was agreed on before this call, on any node.

        Whoever looks at it then, before anything else is awaited, looks at the present.

        Raises:
            Unavailable: no leader confirmed it in time.
        """
        if self._is_told or not self.relay.news.leader:
            await self._read_member()
        else:
            try:
                await self.relay.agree(b"", PROPOSAL_TIMEOUT_S)
            except OutcomeUnknown as error:
                raise Unavailable(str(error)) from error

    async def _read_member(self) -> None:
        try:
            await self._raft.read_index(timeout_s=PROPOSAL_TIMEOUT_S)
        except ProposalDropped as error:
            raise Unavailable(f"the Raft group did not confirm what the metadata is: {error}") from error

    def freeze(self) -> tuple[Snapshot, Image]:
        """All of the metadata as it is here: what it is, and what gives out its image, in another thread.

        Returns:
            A snapshot of the position up to which everything is applied, the present term and the configuration as far
            as this node knows it; and the image, as `consensus.image.write_image` takes it.
        """
        self._history.advance(self.member_status.applied)
        status = self.status
        return Snapshot(self._history.position, status.term, status.configuration), self._history.freeze()

    async def change_configuration(self, change: ConfChange) -> None:
        """Change who votes and who follows; on the leader.

        Raises:
            Unavailable: it was refused, or no quorum agreed in time.
        """
        try:
            await self._raft.change_configuration(change, timeout_s=PROPOSAL_TIMEOUT_S)
        except (ProposalDropped, ProposalUnknown) as error:
            raise Unavailable(f"the configuration was not changed: {error}") from error

    async def hand_over(self, to: NodeId) -> None:
        """As leader, have another voter lead; wait until it does, or a moment."""
        self._raft.transfer_leadership(to)
        with self._host.deadline(self._host.now() + PROPOSAL_TIMEOUT_S):
            while self.is_leader:
                await self._raft.status_changed()

    async def register(self, command: Register) -> None:
        """Make this start of the node known; returns when the metadata has it, or it is over.

        Raises:
            OperatorError: it can't be registered.
        """
        start = command.start
        while (known := self.metadata.start_of(self._node_id)).boot < start.boot and not start.is_over(known):
            try:
                outcome = await self.propose(command)
            except Unavailable as error:
                self._logger.debug("not registered yet", reason=str(error))
                await self._host.sleep_until(self._host.now() + PAUSE_S)
            else:
                if outcome is Outcome.INVALID:
                    raise OperatorError(f"the mesh can't register this node: {command.problem() or 'it is too new'}")

    def _send(self, message: Packet) -> None:
        self._links.send(NodeId(message.to), Channel.RAFT, RaftBytes(codec.encode(message)))


def open_raft_log(
    disk: Disk,
    directory: str,
    owner: bytes,
    *,
    founder: NodeId | None = None,
    config: LogConfig | None = None,
    must_exist: bool = False,
) -> DurableLog:
    """Open the log (blocks); a founder's empty log gets its first entry.

    Raises:
        DataDirectoryError: it is damaged, or not there though it must be.
        WrongMesh: it is of another mesh or node.
    """
    try:
        log = open_log(disk, directory, owner=owner, config=config, must_exist=must_exist)
    except CorruptLog as error:
        raise DataDirectoryError(str(error)) from error
    except ForeignLog as error:
        raise WrongMesh(str(error)) from error
    if founder is not None and log.last_index() == 0 and log.lost() is None:
        log.append(*founding((founder,)))
        log.sync()
    return log
