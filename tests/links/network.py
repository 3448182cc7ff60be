"""Nodes reduced to their links: over loopback sockets, or in memory with a clock that jumps."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import trio
import trio.testing

from meshnode import wire
from meshnode.host import RealHost
from meshnode.identity import Address, Boot, MeshId, NodeId, Start
from meshnode.links import Channel, Hello, Links, LinksConfig, Role, Tls
from meshnode.links.handshake import INTRODUCTION_BYTES_MAX
from meshnode.links.socket import FrameSocket, open_client

Stream = trio.abc.HalfCloseableStream
MESH = MeshId(b"m" * 16)
GUARD_S = 20.0


@wire.message(65010)
@dataclass(frozen=True, slots=True)
class Note:
    number: int
    data: bytes = b""


@dataclass(eq=False)
class End:
    """A node reduced to its links."""

    links: Links
    hello: Hello
    address: Address
    received: list[tuple[NodeId, Any]] = field(default_factory=list)
    ended: list[NodeId] = field(default_factory=list)
    ended_linked: list[bool] = field(default_factory=list)
    took: Callable[[], None] = lambda: None
    changed: trio.Event = field(default_factory=trio.Event)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)

    async def dialled(self) -> trio.SocketStream:
        """A bare connection to this node."""
        return await trio.open_tcp_stream(self.address.host, self.address.port)

    def take(self, peer: NodeId, message: Any) -> None:
        self.received.append((peer, message))
        self.took()
        self._wake()

    def end(self, peer: NodeId, was_linked: bool) -> None:
        self.ended.append(peer)
        self.ended_linked.append(was_linked)
        self._wake()

    def _wake(self) -> None:
        self.changed.set()
        self.changed = trio.Event()

    async def until(self, condition: Any, *, guard_s: float = GUARD_S) -> None:
        with trio.fail_after(guard_s):
            while not condition():
                await self.changed.wait()


class Network:
    def __init__(self, nursery: trio.Nursery, host: RealHost) -> None:
        self.nursery = nursery
        self.host = host
        self.addresses: dict[NodeId, Address] = {}
        self.boots: dict[NodeId, Boot] = {}
        self.nonces: dict[NodeId, int] = {}

    async def start(
        self,
        number: int,
        *,
        mesh_id: MeshId = MESH,
        role: Role = Role.NODE,
        config: LinksConfig | None = None,
        tls: Tls | None = None,
    ) -> End:
        node_id = NodeId(number)
        hello = Hello(mesh_id, node_id, Boot(1), role, f"node-{number}")
        links = Links(
            self.host,
            config or LinksConfig(backoff_min_s=0.01, backoff_max_s=0.02),
            local=hello,
            address_of=self.addresses.get,
            start_of=lambda peer: Start(self.boots.get(peer, Boot(0)), self.nonces.get(peer, 0)),
            tls=tls,
        )
        listener, address = await self.host.listen(Address("127.0.0.1", 0))
        self.addresses[node_id] = address
        end = End(links, hello, address)
        for channel in Channel:
            links.on(channel, end.take)
        links.on_end(end.end)

        async def run(*, task_status: trio.TaskStatus[None]) -> None:
            with end.scope:
                await links.run(listener, task_status=task_status)
            await listener.aclose()

        await self.nursery.start(run)
        return end


@contextlib.asynccontextmanager
async def network(host: RealHost | None = None) -> AsyncIterator[Network]:
    async with trio.open_nursery() as nursery:
        yield Network(nursery, host or RealHost())
        nursery.cancel_scope.cancel()


async def socket_over(nursery: trio.Nursery, stream: Stream) -> FrameSocket:
    """The dialling end of a WebSocket that takes small frames only."""
    return await open_client(
        nursery,
        stream,
        authority="x",
        now=trio.current_time,
        entropy=RealHost().fresh_id,
        first_bytes_max=INTRODUCTION_BYTES_MAX,
        frame_bytes_max=INTRODUCTION_BYTES_MAX,
    )


@contextlib.asynccontextmanager
async def stranger(end: End) -> AsyncIterator[FrameSocket]:
    """A WebSocket to ``end`` whose other side says what the test says."""
    async with await end.dialled() as stream, trio.open_nursery() as nursery:
        yield await socket_over(nursery, stream)
        nursery.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def introduced(end: End, hello: Hello) -> AsyncIterator[tuple[FrameSocket, Stream]]:
    """A connection to ``end`` whose other side says ``hello`` and then what the test says; also the stream under it."""
    async with await end.dialled() as stream, trio.open_nursery() as nursery:
        socket = await socket_over(nursery, stream)
        await socket.send(wire.encode(hello))
        assert wire.decode(await socket.receive()) == end.hello
        yield socket, stream
        nursery.cancel_scope.cancel()


class MemoryListener(trio.abc.Listener[Stream]):
    def __init__(self) -> None:
        self.dialled, self._streams = trio.open_memory_channel[Stream](16)

    async def accept(self) -> Stream:
        return await self._streams.receive()

    async def aclose(self) -> None:
        self.dialled.close()
        self._streams.close()


@dataclass(eq=False)
class Path:
    """What lies between the two ends of a stream in memory."""

    ends: tuple[trio.testing.MemorySendStream, trio.testing.MemorySendStream]
    others: tuple[trio.testing.MemoryReceiveStream, trio.testing.MemoryReceiveStream]

    def cut(self) -> None:
        """From now on bytes vanish, and neither end is told."""
        for sender in self.ends:
            sender.send_all_hook = None
            sender.close_hook = None

    def hold(self) -> None:
        """Keep the bytes until `pump`."""
        for sender in self.ends:
            sender.send_all_hook = None

    def pump(self) -> None:
        for sender, receiver in zip(self.ends, self.others, strict=True):
            trio.testing.memory_stream_pump(sender, receiver)
            sender.send_all_hook = partial(self._pass_on, sender, receiver, None)

    def slow_down(self, bytes_per_s: int) -> None:
        for sender, receiver in zip(self.ends, self.others, strict=True):
            sender.send_all_hook = partial(self._pass_on, sender, receiver, bytes_per_s)

    async def _pass_on(
        self,
        sender: trio.testing.MemorySendStream,
        receiver: trio.testing.MemoryReceiveStream,
        bytes_per_s: int | None,
    ) -> None:
        while trio.testing.memory_stream_pump(sender, receiver, max_bytes=bytes_per_s) and bytes_per_s is not None:
            await trio.sleep(1)


class MemoryHost(RealHost):
    """Streams in memory, in trio's time: with a `trio.testing.MockClock` hours pass in no time."""

    def __init__(self) -> None:
        super().__init__()
        self.paths: list[Path] = []
        self._listeners: dict[Address, MemoryListener] = {}

    def now(self) -> float:
        return trio.current_time()

    async def sleep_until(self, at: float) -> None:
        await trio.sleep_until(at)

    def deadline(self, at: float) -> trio.CancelScope:
        return trio.CancelScope(deadline=at)

    async def listen(self, bind: Address) -> tuple[trio.abc.Listener[Stream], Address]:
        address = Address(bind.host, len(self._listeners) + 1)
        self._listeners[address] = MemoryListener()
        return self._listeners[address], address

    async def dial(self, to: Address) -> Stream:
        here, there = trio.testing.memory_stream_pair()
        try:
            await self._listeners[to].dialled.send(there)
        except trio.ClosedResourceError as error:
            raise ConnectionRefusedError(f"nobody listens at {to}") from error
        self.paths.append(Path((here.send_stream, there.send_stream), (there.receive_stream, here.receive_stream)))
        return here


def in_virtual_time(scenario: Callable[[Network, MemoryHost, trio.testing.MockClock], Awaitable[None]]) -> None:
    clock = trio.testing.MockClock(autojump_threshold=0)

    async def main() -> None:
        host = MemoryHost()
        async with network(host) as net:
            await scenario(net, host, clock)

    trio.run(main, clock=clock)
