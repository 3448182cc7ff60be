"""The connections of one node: who is linked, who is dialled, what waits for whom."""

import functools
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

import trio
from trio.abc import HalfCloseableStream

from meshnode import wire
from meshnode.errors import MeshError, OperatorError, Unavailable
from meshnode.host import Host
from meshnode.identity import Address, Boot, NodeId, Start, node_id_text
from meshnode.links.config import LinksConfig
from meshnode.links.delivery import Delivery, Handler, LinkCounters
from meshnode.links.frames import HEAD_BYTES, Channel, SendQueue, split_frame
from meshnode.links.handshake import LinkRefused, introduce, receive_introduction
from meshnode.links.hello import Hello, Refusal, Role, refusal_of
from meshnode.links.socket import FrameSocket, SocketClosed, Stream, TlsRefused
from meshnode.links.tls import FAR, Tls
from meshnode.log import get_logger

EndListener = Callable[[NodeId, bool], None]

FAREWELL = b""
"""The last frame of a side that sends no more on a connection, because another one serves the pair."""

GRACE_S = 2.0
"""How long a connection that was replaced may take to deliver what is under way."""

READ_BYTES = 64 * 2**10
READ_MESSAGES = 512
"""After this much was decoded and handed over, other tasks have their turn: some 10 ms at worst."""

QUIET_S = 60.0
"""Between two lines about connections that were refused: whoever dials may do so all the time."""

# What hostile bytes or a dying network can raise out of a connection's tasks; the last one when the stream is closed.
_CONNECTION_ERRORS = (LinkRefused, SocketClosed, wire.WireError, trio.BrokenResourceError)


@dataclass(slots=True, eq=False)
class _Link:
    """One established connection."""

    hello: Hello
    dialled_by: NodeId
    dial: int
    socket: FrameSocket
    owes_beat: bool = False
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
        self.drained: trio.Event | None = None  # as long as somebody waits for it

    def report_room(self) -> None:
        """Wake who waits for room."""
        if self.drained is not None:
            self.drained.set()
            self.drained = None


class Links:
    """All connections of this node.

    Args:
        local: how this node introduces itself.
        address_of: where to dial a peer; None when nobody knows. `introduce_as` replaces both once a node has joined.
        start_of: the latest start of a node that is registered; a node that says another one that is over is refused.
        tls: what makes each connection private; None for none.
    """

    def __init__(
        self,
        host: Host,
        config: LinksConfig,
        *,
        local: Hello,
        address_of: Callable[[NodeId], Address | None],
        start_of: Callable[[NodeId], Start] = lambda _node_id: Start(Boot(0), 0),
        tls: Tls | None = None,
    ) -> None:
        self.counters = LinkCounters()
        self._host = host
        self._config = config
        self._local = local
        self._address_of = address_of
        self._start_of = start_of
        self._tls = tls
        self._delivery = Delivery(self.counters)
        self._end_listeners: list[EndListener] = []
        self._refusal_listeners: list[Callable[[MeshError], None]] = []
        self._peers: dict[NodeId, _Peer] = {}
        self._nursery: trio.Nursery | None = None
        self._connecting: set[trio.CancelScope] = set()
        self._accepted = 0
        self._dials = 0
        self._quiet_until = -math.inf
        self._encoded: tuple[object, bytes] = (None, b"")
        self._log = get_logger()

    # ---- what the rooms above use

    def on(self, channel: Channel, handler: Handler) -> None:
        """Register the one function that takes a channel's messages."""
        self._delivery.on(channel, handler)

    def on_end(self, listener: EndListener) -> None:
        """Register a function that is told of each peer whose last connection ended, or who could not be reached.

        It is told, too, whether there was a connection since it was told last: without one nothing was sent.
        """
        self._end_listeners.append(listener)

    def on_refusal(self, listener: Callable[[MeshError], None]) -> None:
        """Register a function that is told why a node does not want this one, which dialled it for a message."""
        self._refusal_listeners.append(listener)

    def introduce_as(self, hello: Hello, address_of: Callable[[NodeId], Address | None]) -> None:
        """Be ``hello`` from now on, on new connections: the next message dials one.

        Present connections end, and each end is reported. What was queued on them is dropped; what is under way already
        has `GRACE_S` to arrive.
        """
        self._local = hello
        self._address_of = address_of
        for peer_id, peer in list(self._peers.items()):
            if peer.link is not None:
                peer.link.retired.set()
                peer.link = None
                peer.queued.set()
                self._end(peer_id, peer)

    def send(self, to: NodeId, channel: Channel, message: object) -> bool:
        """Queue a message, which nobody changes any more; False when it was dropped. Never waits."""
        assert to != self._local.node_id, "a node does not link to itself"
        peer = self._peers.get(to)
        if peer is None or peer.link is None:
            peer = self._dial_on_demand(to)
        if peer is not None:
            if message is not self._encoded[0]:  # one that goes to several peers is encoded once
                self._encoded = (message, wire.encode(message))
            data = self._encoded[1]
            if len(data) + HEAD_BYTES <= self._config.frame_bytes_max and peer.queue.put(channel, data):
                peer.queued.set()
                return True
        self.counters.messages_dropped += 1
        return False

    async def wait_for_room(self, to: NodeId, channel: Channel) -> None:
        """Return when the peer's queue is less than half full, or the peer is gone."""
        while (peer := self._peers.get(to)) is not None and not peer.queue.has_room(channel):
            if peer.drained is None:
                peer.drained = trio.Event()
            await peer.drained.wait()

    async def connect(self, address: Address) -> Hello:
        """Link to whoever listens at ``address``.

        Raises:
            OSError: nobody answers there.
            LinkRefused: it does not want to talk to us, or is no node; or these links do not run.
        """
        if self._nursery is None:
            raise LinkRefused(Unavailable(f"{address} is not dialled, since these links do not run"))
        with trio.CancelScope() as scope:
            self._connecting.add(scope)
            try:
                hello: Hello = await self._nursery.start(self._dial, address)
            finally:
                self._connecting.discard(scope)
            return hello
        raise LinkRefused(Unavailable(f"these links ended while {address} was dialled"))

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

    async def run(
        self, listener: trio.abc.Listener[HalfCloseableStream] | None, *, task_status: trio.TaskStatus[None]
    ) -> None:
        """Accept and dial until cancelled, then report the end of each peer. Without a listener only dial.

        May run again: nothing is left of peers of the run before.
        """
        assert self._nursery is None, "these links run already"
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                task_status.started()
                try:
                    if listener is None:
                        await trio.sleep_forever()
                    else:
                        await trio.serve_listeners(self._accept, [listener], handler_nursery=nursery)
                finally:
                    # From here on nobody dials; and a nursery does not end before what others started in it is there.
                    self._nursery = None
                    for scope in self._connecting:
                        scope.cancel()
        finally:
            for peer_id, peer in list(self._peers.items()):
                if peer.queue:  # its dial was cancelled; the ends of links are reported already
                    self._end(peer_id, peer)
            self._peers.clear()

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
            if error.by_peer:
                for listener in self._refusal_listeners:
                    listener(error.refusal)
        finally:
            peer.dialling = False
        if peer.link is None:  # not reached; or another node has taken the address over
            pause_s = min(self._config.backoff_max_s, self._config.backoff_min_s * 2 ** min(peer.failures, 20))
            peer.silent_until = self._host.now() + pause_s * self._host.rng.uniform(0.5, 1.0)
            peer.failures += 1
            self._end(to, peer)

    async def _dial(self, address: Address, *, task_status: trio.TaskStatus[Hello]) -> None:
        stream: HalfCloseableStream | None = None
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
            now=self._host.now,
            entropy=self._host.fresh_id,
            frame_bytes_max=self._config.frame_bytes_max,
        )
        await self._converse(stream, shake, local, task_status, far=str(address))

    async def _accept(self, stream: HalfCloseableStream) -> None:
        if self._accepted >= self._config.connections_max:
            self.counters.connections_refused += 1
            await stream.aclose()
            return
        shake = functools.partial(
            receive_introduction,
            local=self._local,
            judge=self._judge,
            now=self._host.now,
            frame_bytes_max=self._config.frame_bytes_max,
        )
        self._accepted += 1
        try:
            await self._converse(stream, shake, None, trio.TASK_STATUS_IGNORED)
        except LinkRefused as error:
            self.counters.connections_failed += 1
            if isinstance(error.refusal, OperatorError) and self._host.now() >= self._quiet_until:
                self._quiet_until = self._host.now() + QUIET_S
                self._log.warning("a connection is refused", reason=str(error))
        finally:
            self._accepted -= 1

    def _judge(self, hello: Hello) -> Refusal | None:
        local = self._local
        registered = self._start_of(hello.node_id)
        return refusal_of(hello, mesh_id=local.mesh_id, node_id=local.node_id, registered=registered)

    # ---- one connection

    async def _converse(
        self,
        stream: HalfCloseableStream,
        shake: Callable[[trio.Nursery, Stream], Awaitable[tuple[FrameSocket, Hello]]],
        dialler: Hello | None,
        task_status: trio.TaskStatus[Hello],
        far: str = FAR,
    ) -> None:
        """Shake hands, then exchange messages until the connection ends.

        Raises:
            LinkRefused: the handshake failed.
        """
        established = False
        failure: BaseException | None = None
        introduced_as = self._local
        tls = None if self._tls is None else self._tls.over(stream, dials=dialler is not None, far=far)
        try:
            async with stream, trio.open_nursery() as nursery:
                with self._host.deadline(self._host.now() + self._config.handshake_timeout_s) as scope:
                    if tls is not None:
                        await tls.shake_hands()
                    socket, hello = await shake(nursery, tls or stream)
                if scope.cancelled_caught:
                    raise SocketClosed(f"no handshake within {self._config.handshake_timeout_s} s")
                if self._local is not introduced_as:
                    raise SocketClosed("this node introduces itself anew since the handshake began")
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
            if tls is not None and tls.refusal is not None:  # said while something else waited for an answer
                failure = tls.refusal
            by_operator = isinstance(failure, TlsRefused)
            raise LinkRefused((OperatorError if by_operator else Unavailable)(str(failure))) from failure

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
                nursery.start_soon(self._watch, peer, link, nursery.cancel_scope)
                async with trio.open_nursery() as both_directions:
                    both_directions.start_soon(self._write, peer, link)
                    await self._read(peer_id, link)
                    link.retired.set()
                    peer.queued.set()
                nursery.cancel_scope.cancel()
        finally:
            if peer.link is link:
                peer.link = None
                self._end(peer_id, peer)

    def _end(self, peer_id: NodeId, peer: _Peer) -> None:
        """A peer's last connection ended, or none came about: drop what was queued, and tell all who wait."""
        self.counters.messages_dropped += peer.queue.clear()
        was_linked, peer.was_linked = peer.was_linked, False
        peer.report_room()
        if not peer.dialling and peer.failures == 0:
            del self._peers[peer_id]
        for listener in self._end_listeners:
            listener(peer_id, was_linked)

    async def _watch(self, peer: _Peer, link: _Link, scope: trio.CancelScope) -> None:
        """Owe the peer a sign of life when it hears nothing else, and end a connection that serves no more.

        Raises:
            SocketClosed: the peer is silent, or a later start of it is known.
        """
        host, socket = self._host, link.socket
        idle_s, silent_s = self._config.idle_s, self._config.silent_s
        beat_at = host.now() + idle_s
        while not link.retired.is_set():
            with host.deadline(min(beat_at, socket.heard_at + silent_s)):
                await link.retired.wait()
            await trio.lowlevel.checkpoint()  # what came while this loop was held up is to be heard first
            now = host.now()
            if now >= socket.heard_at + silent_s:
                self.counters.connections_silent += 1
                raise self._gives_up(link, f"nothing was heard for {silent_s} s")
            registered = self._start_of(link.hello.node_id)
            if link.hello.role is Role.NODE and link.hello.start.is_over(registered):
                reason = f"start {link.hello.boot} is over, since another start {registered.boot} is registered"
                raise self._gives_up(link, reason)
            if now >= beat_at:
                link.owes_beat = now >= socket.sent_at + idle_s
                beat_at = (now if link.owes_beat else socket.sent_at) + idle_s
                peer.queued.set()
        await host.sleep_until(host.now() + GRACE_S)
        scope.cancel()

    def _gives_up(self, link: _Link, reason: str) -> SocketClosed:
        who = self.describe(link.hello.node_id)
        self._log.info("a connection is given up", peer=who, reason=reason)
        return SocketClosed(f"{who}: {reason}")

    async def _write(self, peer: _Peer, link: _Link) -> None:
        while not link.retired.is_set():
            if peer.queue:
                frame = peer.queue.take_frame(self._config.frame_bytes_max)
                peer.report_room()
                await link.socket.send(frame)
            elif link.owes_beat:
                link.owes_beat = False
                await link.socket.beat()
            else:
                peer.queued = trio.Event()
                await peer.queued.wait()
        await link.socket.send(FAREWELL)

    async def _read(self, peer_id: NodeId, link: _Link) -> None:
        """Hand over what arrives until the farewell.

        Raises:
            SocketClosed: the connection ended.
            WireError: a frame is malformed.
        """
        messages = size = 0
        while (frame := await link.socket.receive()) != FAREWELL:
            for channel, data in split_frame(frame):
                self._delivery.deliver(peer_id, link.hello.role, channel, data)
                messages += 1
                size += len(data)
                if messages >= READ_MESSAGES or size >= READ_BYTES:
                    messages = size = 0
                    await trio.lowlevel.checkpoint()
                    link.socket.heard_at = self._host.now()  # what is still to be read was heard, too


def _talk_to_anybody(_hello: Hello) -> Refusal | None:
    """A guest has no mesh of its own yet."""
    return None


def _first_leaf(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
