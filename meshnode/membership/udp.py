"""The driver: one core on a loop of its own, its datagrams, and mailboxes to the rest of the node."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TypeAlias, assert_never

import trio

from meshnode.host import Datagrams, Host, Mailbox
from meshnode.identity import Address, MeshId, NodeId
from meshnode.membership.config import HEADER_BYTES, SwimConfig
from meshnode.membership.datagram import OtherMesh, pack_datagram, unpack_datagram
from meshnode.membership.effects import Changed, Counters, Effect, SeedsSilent, Send
from meshnode.membership.messages import Member, Message, check_node_id
from meshnode.membership.roster import MEMBERS_MAX
from meshnode.membership.seeds import check_seeds
from meshnode.membership.swim import Swim
from meshnode.wire import UnknownKind, WireError

NOBODY = NodeId(0)
"""The subject of an event that is about no member."""

COMMANDS_MAX = 1024
"""One command of a kind for a node at a time: every link of a large node may end at once."""

Event: TypeAlias = Changed | SeedsSilent


@dataclass(frozen=True, slots=True)
class _ProbeNow:
    node_id: NodeId


@dataclass(frozen=True, slots=True)
class _Join:
    seeds: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class _Leave:
    pass


_Command: TypeAlias = _ProbeNow | _Join | _Leave


@dataclass(slots=True)
class DatagramCounters:
    """What went over the socket, and what was dropped before it reached the core.

    Attributes:
        received: datagrams taken in.
        received_bytes: theirs, without the headers of UDP and IP.
        sent: datagrams sent.
        sent_bytes: theirs.
        malformed: dropped as no well-typed message of this version.
        unknown_kind: dropped as well-formed but of a kind that does not belong here.
        other_mesh: dropped as of another mesh.
        oversize: dropped as larger than ``datagram_bytes_max``.
    """

    received: int = 0
    received_bytes: int = 0
    sent: int = 0
    sent_bytes: int = 0
    malformed: int = 0
    unknown_kind: int = 0
    other_mesh: int = 0
    oversize: int = 0


class Membership:
    """Takes part in the membership of one mesh. Give `run` to `Host.own_loop`.

    All else may be used from any loop of the node, at any time. What it returns is frozen or a copy.
    """

    def __init__(
        self,
        host: Host,
        config: SwimConfig,
        self_member: Member,
        *,
        mesh_id: MeshId,
        bind: Address,
        seeds: Sequence[Address] = (),
    ) -> None:
        """
        Args:
            host: sockets, time and randomness.
            config: the same on all nodes of the mesh.
            self_member: this node, with the address that it advertises, at `messages.first_incarnation` of its boot.
            mesh_id: datagrams of other meshes are dropped.
            bind: where to listen: the advertised port, and the advertised host or an unspecified one.
            seeds: any members of the mesh; empty for its first node.

        Raises:
            ValueError: the mesh id is not 16 bytes long, or `check_seeds` refuses the seeds.
        """
        check_seeds(seeds)
        if len(mesh_id) != HEADER_BYTES:
            raise ValueError(f"mesh id {mesh_id.hex()} has {len(mesh_id)} bytes: expected {HEADER_BYTES}")
        self._host = host
        self._config = config
        self._mesh_id = mesh_id
        self._bind = bind
        self._seeds = tuple(seeds)
        self._self_member = self_member
        self._rng = random.Random(host.rng.getrandbits(64))  # the host's own belongs to the loop that called
        self._core_counters = Counters()
        self._counters = DatagramCounters()
        self._commands: Mailbox[tuple[str, NodeId], _Command] = host.mailbox(COMMANDS_MAX)
        self._waiting = trio.CancelScope()
        self.members: Mapping[NodeId, Member] = MappingProxyType({self_member.node_id: self_member})
        """Everyone known, this node and tombstones included: a snapshot, replaced whole after each change."""
        self.events: Mailbox[NodeId, Event] = host.mailbox(MEMBERS_MAX + 1)
        """What changed, by the member's id, `SeedsSilent` under `NOBODY`: of what was not taken yet only the latest."""

    @property
    def counters(self) -> Counters:
        """What the core has counted so far."""
        return replace(self._core_counters)

    @property
    def datagram_counters(self) -> DatagramCounters:
        """What the socket has counted so far."""
        return replace(self._counters)

    def probe_now(self, node_id: NodeId) -> None:
        """Something else, such as an ended connection, casts doubt on the member: probe it at once.

        Raises:
            ValueError: this can't be a node's id.
        """
        check_node_id(node_id)
        self._commands.put(("probe", node_id), _ProbeNow(node_id))

    def join(self, seeds: Sequence[Address]) -> None:
        """Knock at these seeds from now on, in place of the ones before. Raises as `check_seeds` does."""
        check_seeds(seeds)
        self._commands.put(("join", NOBODY), _Join(tuple(seeds)))

    def leave(self) -> None:
        """Say good-bye to the mesh; `run` returns when that is sent."""
        self._commands.put(("leave", NOBODY), _Leave())

    async def run(self, ready: Callable[[], None]) -> None:
        """Take part until `leave`, or until cancelled, which the others notice as a failure.

        Args:
            ready: called when the socket is bound and the seeds were asked.

        Raises:
            AddressInUse: another process has the address.
            OperatorError: it can't be bound for another reason.
        """
        async with self._host.datagrams(self._bind) as endpoint:
            now = self._host.now()
            swim = Swim(self._config, self._self_member, self._rng, now)
            self._core_counters = swim.counters
            await self._perform(swim.join(self._seeds, now), swim, endpoint)
            ready()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._serve, swim, endpoint)
                await self._obey(swim, endpoint)
                nursery.cancel_scope.cancel()

    async def _serve(self, swim: Swim, endpoint: Datagrams) -> None:
        """Read, decode, core, perform."""
        while True:
            received: tuple[bytes, Address] | None = None
            with self._host.deadline(swim.next_deadline) as self._waiting:
                received = await endpoint.receive()
            if received is not None:
                data, sender = received
                message = self._decode(data)
                if message is not None:
                    await self._perform(swim.receive(message, sender, self._host.now()), swim, endpoint)
            if swim.next_deadline <= self._host.now():
                await self._perform(swim.wake(self._host.now()), swim, endpoint)

    async def _obey(self, swim: Swim, endpoint: Datagrams) -> None:
        """Carry out commands, until the one to leave."""
        while True:
            for command in (await self._commands.receive()).values():
                now = self._host.now()
                match command:
                    case _ProbeNow():
                        await self._perform(swim.probe_now(command.node_id, now), swim, endpoint)
                    case _Join():
                        await self._perform(swim.join(command.seeds, now), swim, endpoint)
                    case _Leave():
                        await self._perform(swim.leave(now), swim, endpoint)
                        return
                    case _:
                        assert_never(command)
            self._waiting.cancel()  # the next deadline may have come nearer

    def _decode(self, data: bytes) -> Message | None:
        self._counters.received += 1
        self._counters.received_bytes += len(data)
        if len(data) > self._config.datagram_bytes_max:
            self._counters.oversize += 1
            return None
        try:
            return unpack_datagram(self._mesh_id, data)
        except OtherMesh:
            self._counters.other_mesh += 1
        except UnknownKind:
            self._counters.unknown_kind += 1
        except WireError:
            self._counters.malformed += 1
        return None

    async def _perform(self, effects: list[Effect], swim: Swim, endpoint: Datagrams) -> None:
        # What was learned goes out before the first wait, in which the other task may perform what was learned later.
        if any(isinstance(effect, Changed) for effect in effects):
            # Who takes an event finds its change in the snapshot, so the snapshot comes first.
            self.members = MappingProxyType(dict(swim.members))
        sends: list[Send] = []
        for effect in effects:
            match effect:
                case Send():
                    sends.append(effect)
                case Changed():
                    self.events.put(effect.member.node_id, effect)
                case SeedsSilent():
                    self.events.put(NOBODY, effect)
                case _:
                    assert_never(effect)
        for send in sends:
            data = pack_datagram(self._mesh_id, send.message)
            assert len(data) <= self._config.datagram_bytes_max, send
            self._counters.sent += 1
            self._counters.sent_bytes += len(data)
            await endpoint.send(data, send.to)
