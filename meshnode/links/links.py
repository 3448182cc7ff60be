"""The connections of one node: who is linked, who is dialled, what waits for whom."""

import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import trio
import trio_websocket
import wsproto.utilities

from meshnode import wire
from meshnode.errors import OperatorError, Unavailable
from meshnode.host import Host
from meshnode.identity import Address, Boot, NodeId, node_id_text
from meshnode.links.config import LinksConfig
from meshnode.links.frames import HEAD_BYTES, Channel, SendQueue, split_frame
from meshnode.links.handshake import LinkRefused, introduce, receive_introduction
from meshnode.links.hello import Hello, Refusal, Role, refusal_of
from meshnode.links.socket import FrameSocket, SocketClosed
from meshnode.log import get_logger

Handler = Callable[[NodeId, Any], None]
EndListener = Callable[[NodeId, bool], None]
Stream = trio.abc.HalfCloseableStream

GUEST_CHANNELS = frozenset({Channel.CONTROL, Channel.CALLS})

FAREWELL = b""
"""The last frame of a side that sends no more on a connection, because another one serves the pair."""

GRACE_S = 2.0
"""How long a connection that was replaced may take to deliver what is under way."""

# What hostile bytes or a dying network can raise out of a connection's tasks.
_CONNECTION_ERRORS = (
    LinkRefused,
    SocketClosed,
    wire.WireError,
    OSError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
    trio_websocket.HandshakeError,
    trio_websocket.ConnectionClosed,
    wsproto.utilities.ProtocolError,
)


@dataclass(slots=True)
class LinkCounters:
    """What was dropped, since the start."""

    malformed: int = 0
    unknown_kind: int = 0
    forbidden: int = 0
    no_handler: int = 0
    connections_failed: int = 0
    connections_refused: int = 0
    messages_dropped: int = 0


@dataclass(slots=True, eq=False)
class _Link:
    """One established connection."""

    hello: Hello
    dialled_by: NodeId
    dial: int
    socket: FrameSocket
    retired: trio.Event = field(default_factory=trio.Event)

    def supersedes(self, other: "_Link") -> bool:
        """Whether this one stays when both ends dialled at once, or one dialled again: both ends decide alike."""
        if self.hello.boot != other.hello.boot:
            return self.hello.boot > other.hello.boot
        if self.dialled_by != other.dialled_by:
            return self.dialled_by < other.dialled_by
        return self.dial > other.dial


class _Peer:
    """What is known of one peer as long as something is queued for it, a link lasts, or a dial failed of late."""

    def __init__(self, queue_bytes_max: int) -> None:
        self.queue = SendQueue(queue_bytes_max)
        self.link: _Link | None = None
        self.dialling = False
        self.failures = 0
        self.was_linked = False
        self.silent_until = 0.0
        self.queued = trio.Event()
        self.drained = trio.Event()

    def report_room(self) -> None:
        """Wake who waits for room."""
        self.drained.set()
        self.drained = trio.Event()


class Links:
    """All connections of this node.

    Args:
        local: how this node introduces itself.
        address_of: where to dial a peer; None when nobody knows. `introduce_as` replaces both once a node has joined.
        boot_of: the latest start of a node that is known; a node that says an earlier one is refused.
    """

    def __init__(
        self,
        host: Host,
        config: LinksConfig,
        *,
        local: Hello,
        address_of: Callable[[NodeId], Address | None],
        boot_of: Callable[[NodeId], Boot] = lambda _node_id: Boot(0),
    ) -> None:
        self.counters = LinkCounters()
        self._host = host
        self._config = config
        self._local = local
        self._address_of = address_of
        self._boot_of = boot_of
        self._handlers: dict[Channel, Handler] = {}
        self._end_listeners: list[EndListener] = []
        self._peers: dict[NodeId, _Peer] = {}
        self._nursery: trio.Nursery | None = None
        self._accepted = 0
        self._dials = 0
        self._log = get_logger()

    # ---- what the rooms above use

    def on(self, channel: Channel, handler: Handler) -> None:
        """Register the one function that takes a channel's messages."""
        assert channel not in self._handlers, channel
        self._handlers[channel] = handler

    def on_end(self, listener: EndListener) -> None:
        """Register a function that is told of each peer whose last connection ended, or who could not be reached.

        It is told, too, whether there was a connection since it was told last: without one nothing was sent.
        """
        self._end_listeners.append(listener)

    def introduce_as(self, hello: Hello, address_of: Callable[[NodeId], Address | None]) -> None:
        """Be ``hello`` from now on: present connections retire, and the next message dials anew."""
        self._local = hello
        self._address_of = address_of
        for peer in self._peers.values():
            if peer.link is not None:
                peer.link.retired.set()
                peer.link = None
                peer.queued.set()

    def send(self, to: NodeId, channel: Channel, message: object) -> bool:
        """Queue a message; False when it was dropped. Never waits."""
        assert to != self._local.node_id, "a node does not link to itself"
        peer = self._peers.get(to)
        if peer is None or peer.link is None:
            peer = self._dial_on_demand(to)
        if peer is not None:
            data = wire.encode(message)
            if len(data) + HEAD_BYTES <= self._config.frame_bytes_max and peer.queue.put(channel, data):
                peer.queued.set()
                return True
        self.counters.messages_dropped += 1
        return False

    async def wait_for_room(self, to: NodeId, channel: Channel) -> None:
        """Return when the peer's queue is less than half full, or the peer is gone."""
        while (peer := self._peers.get(to)) is not None and not peer.queue.has_room(channel):
            await peer.drained.wait()

    async def connect(self, address: Address) -> Hello:
        """Link to whoever listens at ``address``.

        Raises:
            OSError: nobody answers there.
            LinkRefused: it does not want to talk to us, or is no node.
        """
        assert self._nursery is not None
        hello: Hello = await self._nursery.start(self._dial, address)
        return hello

    def is_linked(self, to: NodeId) -> bool:
        """Whether a connection lasts right now."""
        peer = self._peers.get(to)
        return peer is not None and peer.link is not None

    def describe(self, peer: NodeId) -> str:
        """A node for people: its id, and where it listens if that is known."""
        address = self._address_of(peer)
        return f"node {node_id_text(peer)}" + ("" if address is None else f" at {address}")

    def linked(self) -> list[Hello]:
        """How the peers with a lasting connection introduced themselves."""
        return [peer.link.hello for peer in self._peers.values() if peer.link is not None]

    async def run(self, listener: trio.abc.Listener[Stream] | None, *, task_status: trio.TaskStatus[None]) -> None:
        """Accept and dial until cancelled. Without a listener only dial."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            if listener is None:
                await trio.sleep_forever()
            else:
                await trio.serve_listeners(self._accept, [listener], handler_nursery=nursery)

    # ---- dialling and accepting

    def _dial_on_demand(self, to: NodeId) -> _Peer | None:
        """The peer, being dialled; None when dialling is pointless now."""
        address = self._address_of(to)
        if address is None or self._nursery is None:
            return None
        peer = self._peers.setdefault(to, _Peer(self._config.queue_bytes_max))
        if not peer.dialling:
            if self._host.now() < peer.silent_until:
                return None
            peer.dialling = True
            self._nursery.start_soon(self._dial_peer, to, peer, address)
        return peer

    async def _dial_peer(self, to: NodeId, peer: _Peer, address: Address) -> None:
        try:
            await self.connect(address)
        except OSError:
            self.counters.connections_failed += 1
        except LinkRefused as error:
            self.counters.connections_failed += 1
            if isinstance(error.refusal, OperatorError) and peer.failures == 0:
                self._log.warning("a node refuses to be linked", peer=self.describe(to), reason=str(error))
        peer.dialling = False
        if peer.link is None:  # not reached; or another node has taken the address over
            self.counters.messages_dropped += peer.queue.clear()
            pause_s = min(self._config.backoff_max_s, self._config.backoff_min_s * 2 ** min(peer.failures, 20))
            peer.silent_until = self._host.now() + pause_s * self._host.rng.uniform(0.5, 1.0)
            peer.failures += 1
            self._report_end(to, peer)

    async def _dial(self, address: Address, *, task_status: trio.TaskStatus[Hello]) -> None:
        stream: Stream | None = None
        with self._host.deadline(self._host.now() + self._config.handshake_timeout_s):
            stream = await self._host.dial(address)
        if stream is None:
            raise TimeoutError(f"{address} accepts no connection")
        self._dials += 1
        local = replace(self._local, dial=self._dials)
        shake = functools.partial(
            introduce,
            local=local,
            judge=self._judge if local.mesh_id else _talk_to_anybody,
            authority=str(address),
            frame_bytes_max=self._config.frame_bytes_max,
        )
        await self._converse(stream, shake, local, task_status)

    async def _accept(self, stream: Stream) -> None:
        if self._accepted >= self._config.connections_max:
            self.counters.connections_refused += 1
            await stream.aclose()
            return
        shake = functools.partial(
            receive_introduction,
            local=self._local,
            judge=self._judge,
            frame_bytes_max=self._config.frame_bytes_max,
        )
        self._accepted += 1
        try:
            await self._converse(stream, shake, None, trio.TASK_STATUS_IGNORED)
        except LinkRefused:
            self.counters.connections_failed += 1
        finally:
            self._accepted -= 1

    def _judge(self, hello: Hello) -> Refusal | None:
        local = self._local
        return refusal_of(hello, mesh_id=local.mesh_id, node_id=local.node_id, boot_known=self._boot_of(hello.node_id))

    # ---- one connection

    async def _converse(
        self,
        stream: Stream,
        shake: Callable[[trio.Nursery, Stream], Awaitable[tuple[FrameSocket, Hello]]],
        dialler: Hello | None,
        task_status: trio.TaskStatus[Hello],
    ) -> None:
        """Shake hands, then exchange messages until the connection ends.

        Raises:
            LinkRefused: the handshake failed.
        """
        established = False
        failure: BaseException | None = None
        try:
            async with stream, trio.open_nursery() as nursery:
                with self._host.deadline(self._host.now() + self._config.handshake_timeout_s) as scope:
                    socket, hello = await shake(nursery, stream)
                if scope.cancelled_caught:
                    raise SocketClosed(f"no handshake within {self._config.handshake_timeout_s} s")
                established = True
                by = hello if dialler is None else dialler
                link = _Link(hello, by.node_id, by.dial, socket)
                self._adopt(link)
                task_status.started(hello)
                await self._serve(link)
                with self._host.deadline(self._host.now() + GRACE_S):
                    await socket.aclose()
                nursery.cancel_scope.cancel()
        except* _CONNECTION_ERRORS as group:
            failure = _first_leaf(group)
        if failure is not None and not established:
            if isinstance(failure, LinkRefused):
                raise failure
            raise LinkRefused(Unavailable(str(failure))) from failure

    def _adopt(self, link: _Link) -> None:
        """Make it the peer's link, or retire it when one that both ends prefer is there."""
        peer = self._peers.setdefault(link.hello.node_id, _Peer(self._config.queue_bytes_max))
        if peer.link is not None and not link.supersedes(peer.link):
            link.retired.set()
            return
        if peer.link is not None:
            peer.link.retired.set()
            peer.queued.set()
        peer.link = link
        peer.was_linked = True
        peer.failures = 0
        peer.silent_until = 0.0

    async def _serve(self, link: _Link) -> None:
        peer_id = link.hello.node_id
        peer = self._peers[peer_id]
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._expire, link, nursery.cancel_scope)
                async with trio.open_nursery() as both_directions:
                    both_directions.start_soon(self._write, peer, link)
                    await self._read(peer_id, link)
                    link.retired.set()
                    peer.queued.set()
                nursery.cancel_scope.cancel()
        finally:
            if peer.link is link:
                peer.link = None
                self.counters.messages_dropped += peer.queue.clear()
                self._report_end(peer_id, peer)

    def _report_end(self, peer_id: NodeId, peer: _Peer) -> None:
        was_linked, peer.was_linked = peer.was_linked, False
        peer.report_room()
        if not peer.dialling and peer.failures == 0:
            del self._peers[peer_id]
        for listener in self._end_listeners:
            listener(peer_id, was_linked)

    async def _expire(self, link: _Link, scope: trio.CancelScope) -> None:
        await link.retired.wait()
        await self._host.sleep_until(self._host.now() + GRACE_S)
        scope.cancel()

    async def _write(self, peer: _Peer, link: _Link) -> None:
        while not link.retired.is_set():
            if not peer.queue:
                peer.queued = trio.Event()
                await peer.queued.wait()
                continue
            frame = peer.queue.take_frame(self._config.frame_bytes_max)
            peer.report_room()
            await link.socket.send(frame)
        await link.socket.send(FAREWELL)

    async def _read(self, peer_id: NodeId, link: _Link) -> None:
        """Hand over what arrives until the farewell.

        Raises:
            SocketClosed: the connection ended.
            WireError: a frame is malformed.
        """
        while (frame := await link.socket.receive()) != FAREWELL:
            for channel, data in split_frame(frame):
                if link.hello.role is Role.GUEST and channel not in GUEST_CHANNELS:
                    self.counters.forbidden += 1
                    continue
                try:
                    message = wire.decode(data)
                except wire.UnknownKind:
                    self.counters.unknown_kind += 1
                    continue
                except wire.WireError:
                    self.counters.malformed += 1
                    continue
                handler = self._handlers.get(channel)
                if handler is None:
                    self.counters.no_handler += 1
                else:
                    handler(peer_id, message)


def _talk_to_anybody(_hello: Hello) -> Refusal | None:
    """A guest has no mesh of its own yet."""
    return None


def _first_leaf(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
