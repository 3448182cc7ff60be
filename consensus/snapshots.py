"""Takes snapshots of the state machine, and gets them to followers that are too far behind for the log.

A leader sends such a follower a SNAPSHOT, which says what the snapshot is and not what is in it. The follower then asks
for the file with its image, part by part and a few ahead, writes each part as it comes, and begins again where it was
when a link breaks. What it has is checked as a whole, loaded, and given its name; only then does its core hear of the
SNAPSHOT. Neither side holds more than those few parts. The leader gives a part to whoever asks; it counts the
transfer as failed if nobody has asked for a while, and its core begins anew.

A snapshot is taken when the log says that it is due (`DurableLog.snapshot_due`), but not while a follower fetches one,
unless the log has grown by as much as for several: the entries that it needs next must still be there. Where a transfer
has failed, the image is checked; another one takes the place of one that is damaged, and only that is offered then.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import trio
from crc32c import crc32c

from consensus.applier import Applier
from consensus.config import RaftConfig
from consensus.disk import File
from consensus.environment import Clock, RunBlocking, StateMachine
from consensus.errors import CorruptSnapshot, Damage, MalformedMessage, StorageFailed
from consensus.image import CHUNK_BYTES, image_file_bytes, read_image
from consensus.messages import ImagePart, ImageRequest, Message, Packet, Role, Snapshot
from consensus.progress import ProgressState
from consensus.raft import Raft
from consensus.storage import DurableLog

PARTS_AHEAD: Final = 16
"""Asked for at a time: they bridge the way there and back, and are all that a receiver holds in memory."""
REQUESTS_MAX: Final = 128
"""That wait to be served: of eight followers at a time. What does not fit is asked for again."""
RETRY_TIMEOUTS: Final = 1.0
"""Election timeouts without a part, after which what is missing is asked for again."""
PATIENCE_TIMEOUTS: Final = 10.0
"""Election timeouts after which a transfer that does not move is given up, on either side."""
GROWTH_MAX: Final = 4
"""Snapshots' worth of log, after which one is taken even though a follower is fetching the last."""

Restored = Callable[[], None]


@dataclass(slots=True)
class _Incoming:
    """An image that is being received.

    Attributes:
        message: the latest that offers it.
        path: of the file.
        size: of the whole file.
        offset: up to where it is written.
        asked: up to where it is asked for.
        parts: that have come and are not written, by their offsets.
    """

    message: Message
    snapshot: Snapshot
    path: str
    size: int
    offset: int = 0
    asked: int = 0
    parts: dict[int, bytes] = field(default_factory=dict)

    def take(self) -> bytes:
        """What can be written now: the parts from `offset` on that follow each other."""
        following = []
        at = self.offset
        while (part := self.parts.pop(at, None)) is not None:
            following.append(part)
            at += len(part)
        return b"".join(following)


class Snapshots:
    """One node's.

    Args:
        config, raft, log, machine, clock, run_blocking, send: the node's.
        applier: tells up to which entry the machine has applied the log.
        written: called when the log has something to be synced.
        arrived: called with the message that offered a snapshot whose image is here and loaded; says whether the core
            takes it.
        failed: called with the node to which a snapshot did not get.
    """

    def __init__(
        self,
        config: RaftConfig,
        *,
        raft: Raft,
        log: DurableLog,
        machine: StateMachine,
        applier: Applier,
        clock: Clock,
        run_blocking: RunBlocking,
        send: Callable[[Packet], None],
        written: Callable[[], None],
        arrived: Callable[[Message], bool],
        failed: Callable[[int], None],
    ) -> None:
        self._raft = raft
        self._log = log
        self._machine = machine
        self._applier = applier
        self._clock = clock
        self._run_blocking = run_blocking
        self._send = send
        self._written = written
        self._arrived = arrived
        self._failed = failed
        self._id = config.id
        self._retry_s = RETRY_TIMEOUTS * config.election_timeout_s
        self._patience_s = PATIENCE_TIMEOUTS * config.election_timeout_s
        self._due = trio.Event()
        self._requests: deque[ImageRequest] = deque()
        self._asked = trio.Event()
        # By node, since when a snapshot of this leader moves towards it without a sign.
        self._outgoing: dict[int, float] = {}
        self._sending = trio.Event()
        # Nodes that need one and can't be sent the last: they joined after it, or its image is damaged.
        self._wanting: set[int] = set()
        self._incoming: _Incoming | None = None
        self._came = trio.Event()
        # Images that are loaded and wait for the log to be replaced: their snapshots and what puts them in place. One,
        # unless the disk takes long for the first.
        self._restored: deque[tuple[Snapshot, Restored]] = deque()

    # ---- what the driver tells

    async def begin(self) -> None:
        """Put the state of the log's own snapshot in place, if it has one: before anything is applied.

        Raises:
            CorruptSnapshot: it cannot be read.
        """
        if self._log.snapshot().index:
            loaded: list[Restored] = []
            await self._blocking(
                lambda: loaded.append(self._machine.restore(self._log.images.pieces(self._log.snapshot())))
            )
            loaded[0]()

    def take_if_due(self) -> None:
        """Have a snapshot taken if one is due, as when more of the log is applied."""
        if self._log.snapshot_due:
            self._due.set()

    def sends(self, message: Message) -> bool:
        """This leader is about to send a SNAPSHOT. False if it must not: it is of a time before the receiver joined.

        Such a one takes no node in (`consensus.following`). A later one is taken, and then the core sends that. So it
        is with one whose image is damaged.
        """
        assert message.snapshot is not None
        if message.to not in message.snapshot.configuration.members or self._log.is_image_damaged:
            self._wanting.add(message.to)
            self._due.set()
            return False
        self._outgoing[message.to] = self._clock.now()
        self._sending.set()
        return True

    def offered(self, message: Message) -> bool:
        """A SNAPSHOT has come. Whether its image is fetched; else it is for the core as it is.

        Raises:
            MalformedMessage: it has something else than the identity of an image.
        """
        snapshot, raft = message.snapshot, self._raft
        assert snapshot is not None
        is_leader = raft.role is Role.LEADER and message.term == raft.term
        if is_leader or message.term < raft.term or snapshot.index <= raft.commit_index:
            return False
        try:
            size = image_file_bytes(snapshot)
        except ValueError as error:
            raise MalformedMessage(str(error)) from error
        incoming = self._incoming
        if incoming is not None and incoming.snapshot == snapshot:
            incoming.message = message
            return True
        path = self._log.images.partial_path(snapshot, received=True)
        self._incoming = _Incoming(message, snapshot, path, size)
        self._came.set()
        return True

    def received(self, packet: ImageRequest | ImagePart) -> None:
        """A request for a part of an image, or a part, has come."""
        if isinstance(packet, ImageRequest):
            if len(self._requests) < REQUESTS_MAX:
                self._requests.append(packet)
                self._asked.set()
            return
        incoming = self._incoming
        if (
            incoming is not None
            and (packet.index, packet.image) == (incoming.snapshot.index, incoming.snapshot.data)
            and packet.offset in range(incoming.offset, incoming.asked, CHUNK_BYTES)
            and len(packet.data) == min(CHUNK_BYTES, incoming.size - packet.offset)
            and packet.checksum == crc32c(packet.data)
        ):
            incoming.parts[packet.offset] = packet.data
            self._came.set()

    def install(self, snapshot: Snapshot) -> None:
        """The log was replaced by a snapshot: put the state of its image in place."""
        loaded, put_in_place = self._restored.popleft()
        assert loaded == snapshot, "the core installs what was handed to it, in that order"
        put_in_place()
        self._applier.jump(snapshot.index, snapshot.term)

    # ---- tasks

    async def take(self) -> None:
        """Take snapshots when they are due, until cancelled."""
        while True:
            await self._due.wait()
            self._due = trio.Event()
            index = self._applier.index
            is_due = self._wanting or (self._log.snapshot_due and self._may_take())
            if not is_due or not self._log.may_record(index) or self._raft.pending_snapshot is not None:
                continue  # of one received, the configuration is in force already, and the state is not
            wanting, self._wanting = self._wanting, set()
            term = self._log.term(index)
            assert term is not None, "what is applied is in the log"
            described = Snapshot(index, term, self._raft.configuration)
            image = self._machine.freeze()
            written: list[Snapshot] = []
            # A list, since what runs elsewhere returns nothing.
            await self._blocking(lambda: written.append(self._log.images.write(described, image())))  # noqa: B023
            if self._log.may_record(index):
                self._log.record_snapshot(written[0])
                self._written()
                for node in sorted(wanting):
                    self._failed(node)
            else:  # a later one was installed meanwhile
                await self._remove_image(written[0])

    def _may_take(self) -> bool:
        if self._log.is_image_damaged or self._log.growth >= GROWTH_MAX:
            return True
        return not any(map(self._is_fetching, self._outgoing))

    def _is_fetching(self, node: int) -> bool:
        peer = self._raft.progress.get(node)
        return self._raft.role is Role.LEADER and peer is not None and peer.state is ProgressState.SNAPSHOT

    async def serve(self) -> None:
        """Answer requests for parts, until cancelled."""
        while True:
            await self._asked.wait()
            self._asked = trio.Event()
            while self._requests:
                request = self._requests.popleft()
                if request.sender in self._outgoing:
                    self._outgoing[request.sender] = self._clock.now()
                for snapshot in self._log.snapshots:
                    if (snapshot.index, snapshot.data) == (request.index, request.image):
                        await self._serve(request, snapshot)

    async def _serve(self, request: ImageRequest, snapshot: Snapshot) -> None:
        parts: list[bytes] = []

        def read() -> None:
            try:
                parts.append(self._log.images.read_part(snapshot, request.offset, CHUNK_BYTES))
            except OSError:  # it was removed, or can't be read: the receiver gives up, and gets another one
                return

        await self._run_blocking(read)
        if not parts:
            await self._check_image(snapshot)
        for data in parts:
            part = ImagePart(request.sender, self._id, request.index, request.image, request.offset, data, crc32c(data))
            self._send(part)

    async def watch(self) -> None:
        """Give up transfers from here that do not move, until cancelled."""
        while True:
            await self._sending.wait()
            self._sending = trio.Event()
            while self._outgoing:
                await self._clock.sleep_until(min(self._outgoing.values()) + self._patience_s)
                now = self._clock.now()
                failed = False
                for node, since in list(self._outgoing.items()):
                    if not self._is_fetching(node):
                        del self._outgoing[node]
                    elif now >= since + self._patience_s:
                        del self._outgoing[node]
                        self._failed(node)
                        failed = True
                if failed:
                    await self._check_image(self._log.snapshot())
            self.take_if_due()

    async def _check_image(self, snapshot: Snapshot) -> None:
        """A snapshot did not get to a node: look whether its image is what it was."""
        if self._log.is_image_damaged:
            return
        found: list[Damage | None] = []
        await self._run_blocking(lambda: found.append(self._log.images.damage_of(snapshot)))
        for damage in found:
            if damage is not None:
                self._log.image_found_damaged(snapshot, damage)
                self.take_if_due()

    async def fetch(self) -> None:
        """Receive images, one after the other, until cancelled."""
        while True:
            await self._came.wait()
            self._came = trio.Event()
            incoming = self._incoming
            if incoming is None:
                continue
            is_whole = await self._fetch(incoming)
            if incoming is self._incoming:
                self._incoming = None
            else:  # another one is offered
                self._came.set()
            if not is_whole:
                await self._blocking(lambda: self._log.images.remove(incoming.path))  # noqa: B023
            elif not self._arrived(incoming.message):
                self._restored.pop()
                await self._remove_image(incoming.snapshot)

    async def _fetch(self, incoming: _Incoming) -> bool:
        """Receive an image. Whether it is whole, loaded, and has its name."""
        files: list[File] = []
        await self._blocking(lambda: files.append(self._log.images.open_partial(incoming.path)))
        file = files[0]
        try:
            incoming.offset = incoming.asked = min(file.size(), incoming.size)
            moved_s = self._clock.now()
            while incoming.offset < incoming.size:
                if incoming is not self._incoming or incoming.snapshot.index <= self._raft.commit_index:
                    return False
                self._ask(incoming)
                parts = incoming.take()
                if parts:
                    incoming.offset += len(parts)  # at once, or a part that comes twice meanwhile would be kept
                    await self._blocking(lambda: file.append(parts))  # noqa: B023
                    moved_s = self._clock.now()
                elif await self._it_came(self._clock.now() + self._retry_s):
                    continue
                elif self._clock.now() >= moved_s + self._patience_s:
                    return False
                else:
                    incoming.asked = incoming.offset
            return await self._load(incoming, file)
        finally:
            file.close()

    def _ask(self, incoming: _Incoming) -> None:
        end = min(incoming.offset + PARTS_AHEAD * CHUNK_BYTES, incoming.size)
        while incoming.asked < end:
            if incoming.asked in incoming.parts:
                incoming.asked += CHUNK_BYTES
                continue
            snapshot = incoming.snapshot
            request = ImageRequest(incoming.message.sender, self._id, snapshot.index, snapshot.data, incoming.asked)
            self._send(request)
            incoming.asked += CHUNK_BYTES

    async def _it_came(self, deadline: float) -> bool:
        """Wait until a part, or another snapshot, has come. False if none has by the deadline."""
        self._came = trio.Event()
        async with trio.open_nursery() as nursery:

            async def at_the_deadline() -> None:
                await self._clock.sleep_until(deadline)
                nursery.cancel_scope.cancel()

            nursery.start_soon(at_the_deadline)
            await self._came.wait()
            nursery.cancel_scope.cancel()
        return self._came.is_set()

    async def _load(self, incoming: _Incoming, file: File) -> bool:
        """Check what was received, have the machine read it, and give it its name. False if it is damaged."""
        loaded: list[Restored] = []

        def load() -> None:
            file.sync()
            pieces = read_image(file, incoming.path, incoming.snapshot)
            try:
                restored = self._machine.restore(pieces)
                for _ in pieces:  # the end is checked also if the machine does not ask for it
                    pass
            except CorruptSnapshot:
                return
            self._log.images.keep(incoming.path, incoming.snapshot)
            loaded.append(restored)

        await self._blocking(load)
        for restored in loaded:
            self._restored.append((incoming.snapshot, restored))
        return bool(loaded)

    async def _remove_image(self, snapshot: Snapshot) -> None:
        if snapshot not in self._log.snapshots:
            await self._blocking(lambda: self._log.images.remove_image(snapshot))

    async def _blocking(self, call: Callable[[], None]) -> None:
        """Run what writes to the disk. Raises StorageFailed if it refuses."""
        try:
            await self._run_blocking(call)
        except OSError as error:
            raise StorageFailed(
                f"a snapshot cannot be written or read: {error}. Free space or replace the disk, then start the node"
                " again: it finds what is on disk"
            ) from error
