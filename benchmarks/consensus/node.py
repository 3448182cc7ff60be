"""One node of ours: `python -m benchmarks.consensus.node SETTINGS`, the settings as JSON; see `NodeSettings`.

The consensus library on a real disk, with a dictionary for a state machine, and TCP for peers and clients.
"""

import contextlib
import functools
import gc
import json
import os
import random
import socket
import ssl
import struct
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import trio

from benchmarks.consensus.protocol import (
    ANSWER,
    FRAMED_ANSWER,
    HOST,
    KEY_BYTES,
    LENGTH,
    REQUEST,
    Frames,
    Kind,
    framed,
)
from benchmarks.consensus.tls import Records, TlsFiles
from consensus import codec
from consensus.config import RaftConfig
from consensus.driver import RaftNode
from consensus.environment import Image
from consensus.errors import ConsensusError
from consensus.founding import founding
from consensus.messages import Packet
from consensus.opening import open_log
from consensus.syncing import QuickSyncs
from consensus.waiting import Waiter
from meshnode.certificates import load_tls
from meshnode.real_disk import RealDisk, RealFile

TIMEOUT_S: Final = 30.0
RECEIVED_BYTES: Final = 1 << 18
_PAIR: Final = struct.Struct(">I")
COLLECTOR: Final = (50_000, 20, 50)
"""Python's collector looks for cycles after so many new objects. Every write makes some, and none is in a cycle: at the
default of 700 the search takes a sixth of the node's time."""
PUT: Final = int(Kind.PUT)
GET: Final = int(Kind.GET)
QUEUED_BYTES_MAX: Final = 64 << 20
"""For a peer that does not read; beyond it messages are dropped, and Raft sends them again."""


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """What a node is told.

    Attributes:
        id: this node.
        raft_ports, client_ports: of all nodes, in the order of their ids, from 1.
        directory: its data.
        fsync: whether a sync does anything.
        tls: the node's files, for peers and clients; None: in plaintext.
    """

    id: int
    raft_ports: list[int]
    client_ports: list[int]
    directory: str
    fsync: bool
    tls: TlsFiles | None = None


class MonotonicClock:
    """The machine's monotonic time."""

    def now(self) -> float:
        return time.monotonic()

    async def sleep_until(self, deadline: float) -> None:
        await trio.sleep(max(deadline - time.monotonic(), 0.0))


class Store:
    """Keys and values."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}

    def apply(self, _index: int, data: bytes) -> None:
        self.values[data[:KEY_BYTES]] = data[KEY_BYTES:]

    def freeze(self) -> Image:
        """A copy; each pair as its length and its bytes."""
        frozen = dict(self.values)
        return lambda: (_PAIR.pack(len(key + value)) + key + value for key, value in frozen.items())

    def restore(self, pieces: Iterable[bytes]) -> Callable[[], None]:
        """Read what `freeze` gave out."""
        image, values, at = b"".join(pieces), {}, 0
        while at < len(image):
            begin = at + _PAIR.size
            at = begin + _PAIR.unpack_from(image, at)[0]
            values[image[begin : begin + KEY_BYTES]] = image[begin + KEY_BYTES : at]
        return lambda: self.values.update(values)


class UnsyncedFile(RealFile):
    """A file that is never synced."""

    def sync(self) -> None:
        pass


class UnsyncedDisk(RealDisk):
    """A disk whose files are never synced."""

    def open(self, path: str, *, create: bool) -> RealFile:
        return UnsyncedFile(self._path(path), create=create)


@contextlib.contextmanager
def direct(stream: trio.SocketStream) -> Iterator[socket.socket]:
    """The socket below a stream, which never blocks: to send and receive without a task's turn for each time."""
    with socket.socket(fileno=os.dup(stream.socket.fileno())) as below:
        below.setblocking(False)
        try:
            yield below
        finally:
            trio.lowlevel.notify_closing(below)


async def shake_hands(below: socket.socket, context: ssl.SSLContext, *, dials: bool) -> Records:
    """Have TLS from now on.

    Raises:
        OSError: the two sides do not agree, or the connection broke.
    """
    records = Records(context, dials=dials)
    agrees, said = records.shake_hands(b"")
    while said or not agrees:
        if said:
            await trio.lowlevel.wait_writable(below)
            said = said[below.send(said) :]
        else:
            await trio.lowlevel.wait_readable(below)
            arrived = below.recv(RECEIVED_BYTES)
            if not arrived:
                raise ConnectionError("the other side hung up in the handshake")
            agrees, said = records.shake_hands(arrived)
    return records


async def received(below: socket.socket, records: Records | None) -> bytes:
    """What comes next; nothing at the end of the stream."""
    data = b"" if records is None else records.open(b"")  # the first may have come with the end of the handshake
    while not data:
        await trio.lowlevel.wait_readable(below)
        with contextlib.suppress(BlockingIOError):
            data = below.recv(RECEIVED_BYTES)
            if not data:
                break
            if records is not None:
                data = records.open(data)
    return data


class Outgoing:
    """What is to be sent on one connection: at once, and what its socket does not take waits, all together."""

    def __init__(self) -> None:
        self._below: socket.socket | None = None
        self._records: Records | None = None
        self._waiting = bytearray()
        self._event = trio.Event()

    def put(self, *parts: bytes) -> None:
        """Send this. Without effect if there is no connection, or too much waits."""
        if self._below is None or len(self._waiting) > QUEUED_BYTES_MAX:
            return
        if self._records is not None:
            parts = (self._records.seal(b"".join(parts)),)
        sent = 0
        if not self._waiting:
            try:
                sent = self._below.sendmsg(parts)
            except BlockingIOError:
                pass
            except OSError:  # the connection broke, as `pump` will see, too
                self._below = None
        if sent < sum(map(len, parts)):
            self._waiting += b"".join(parts)[sent:]
            self._event.set()

    def connect(self, below: socket.socket, records: Records | None) -> None:
        """Send over this from now on. `pump` has to run."""
        self._below, self._records = below, records
        self._waiting.clear()

    async def pump(self, below: socket.socket) -> None:
        """Send what waits, until the connection breaks."""
        try:
            while True:
                await self._event.wait()
                await trio.lowlevel.wait_writable(below)
                del self._waiting[: below.send(self._waiting)]
                if not self._waiting:
                    self._event = trio.Event()
        finally:
            self._below = None


class Server:
    """One node and its connections."""

    def __init__(self, settings: NodeSettings) -> None:
        self._settings = settings
        self._tls = None if settings.tls is None else load_tls(*settings.tls)
        self._store = Store()
        self._peers = {node: Outgoing() for node in range(1, len(settings.raft_ports) + 1) if node != settings.id}
        disk = (RealDisk if settings.fsync else UnsyncedDisk)(settings.directory)
        self._log = open_log(disk, "raft", owner=b"benchmark%d" % settings.id)
        if self._log.last_index() == 0:
            self._log.append(*founding(tuple(range(1, len(settings.raft_ports) + 1))))
            self._log.sync()
        self._raft = RaftNode(
            RaftConfig(id=settings.id),
            log=self._log,
            machine=self._store,
            clock=MonotonicClock(),
            run_blocking=trio.to_thread.run_sync,
            syncs=QuickSyncs(trio.to_thread.run_sync, time.perf_counter),
            rng=random.Random(),
            send=self._send,
        )

    async def run(self) -> None:
        """Until the process is ended."""
        number = self._settings.id - 1
        async with trio.open_nursery() as nursery:
            await nursery.start(self._raft.run)
            for serve, port in (
                (self._receive_from_peer, self._settings.raft_ports[number]),
                (self._serve_client, self._settings.client_ports[number]),
            ):
                await nursery.start(functools.partial(trio.serve_tcp, serve, port, host=HOST))
            for node in self._peers:
                nursery.start_soon(self._link, node)
            sys.stdout.write("ready\n")
            sys.stdout.flush()

    # Peers.

    def _send(self, message: Packet) -> None:
        encoded = codec.encode(message)
        self._peers[message.to].put(LENGTH.pack(len(encoded)), encoded)

    async def _link(self, node: int) -> None:
        while True:
            try:
                async with await trio.open_tcp_stream(HOST, self._settings.raft_ports[node - 1]) as stream:
                    with direct(stream) as below:
                        self._peers[node].connect(below, await self._agreed(below, dials=True))
                        await self._peers[node].pump(below)
            except OSError:
                self._raft.report_unreachable(node)
                await trio.sleep(0.05)

    async def _receive_from_peer(self, stream: trio.SocketStream) -> None:
        frames = Frames()
        with contextlib.suppress(OSError), direct(stream) as below:
            records = await self._agreed(below, dials=False)
            while data := await received(below, records):
                self._raft.receive(*map(codec.decode, frames.feed(data)))

    async def _agreed(self, below: socket.socket, *, dials: bool) -> Records | None:
        if self._tls is None:
            return None
        return await shake_hands(below, self._tls.client if dials else self._tls.server, dials=dials)

    # Clients.

    async def _serve_client(self, stream: trio.SocketStream) -> None:
        answers, frames = Outgoing(), Frames()
        try:
            with direct(stream) as below:
                records = await self._agreed(below, dials=False)
                answers.connect(below, records)  # before the first request, which may be here already
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(answers.pump, below)
                    while data := await received(below, records):
                        self._take(frames.feed(data), answers.put, nursery)
                    nursery.cancel_scope.cancel()
        except* OSError:
            pass

    def _take(self, requests: list[bytes], answer: Callable[[bytes], None], nursery: trio.Nursery) -> None:
        reads = []
        numbers, writes = [], []
        for request in requests:
            number, kind, key = REQUEST.unpack_from(request)
            if kind == PUT:
                numbers.append(number)
                writes.append(request[REQUEST.size - KEY_BYTES :])
            elif kind == GET:
                reads.append((number, key))
            else:
                answer(framed(ANSWER.pack(number, True) + json.dumps(self._status()).encode()))
        if writes:
            settled = functools.partial(_settled, numbers, answer)
            self._raft.propose_batch(writes, timeout_s=TIMEOUT_S, settled=settled)
        if reads:
            nursery.start_soon(self._read, reads, answer)

    async def _read(self, reads: list[tuple[int, bytes]], answer: Callable[[bytes], None]) -> None:
        await self._raft.read_index(timeout_s=TIMEOUT_S)
        values = self._store.values
        parts: list[bytes] = []
        for number, key in reads:
            value = values.get(key, b"")
            parts += FRAMED_ANSWER.pack(ANSWER.size + len(value), number, True), value
        answer(b"".join(parts))

    def _status(self) -> dict[str, int]:
        status = self._raft.status()
        return {"leader": status.leader, "applied": status.applied, "commit": status.commit}


def _settled(numbers: list[int], answer: Callable[[bytes], None], waiter: Waiter) -> None:
    try:
        waiter.outcome()
        is_well = True
    except ConsensusError:
        is_well = False
    answer(b"".join([FRAMED_ANSWER.pack(ANSWER.size, number, is_well) for number in numbers]))


if __name__ == "__main__":
    gc.set_threshold(*COLLECTOR)
    trio.run(Server(NodeSettings(**json.loads(sys.argv[1]))).run)
