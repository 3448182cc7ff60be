"""A process's snapshots: taken when its log says that they are due, carried to others as a whole, and installed.

What is in one is the data that was applied, in its order. It goes from disk to disk with the message that offers it:
how it is cut into parts, lost and resumed is the business of `consensus.snapshots`, which this world does not have.
"""

import struct
from collections.abc import Iterator, Sequence

from consensus.image import write_image
from consensus.messages import Message, Snapshot
from consensus.progress import ProgressState
from simulations.cores.process import ProcessKilled
from simulations.cores.raft_process import Images, RaftProcess

PATIENCE_S = 2.0
"""After which a leader takes it that a snapshot was lost."""

_LENGTH = struct.Struct(">I")


class RaftSnapshots:
    """Of one process.

    Args:
        images: all that were ever taken, by their index and identity.
    """

    __slots__ = ("_images", "_is_planned", "_process", "_received", "_wanted_by")

    def __init__(self, process: RaftProcess, images: Images) -> None:
        self._process = process
        self._images = images
        self._is_planned = False
        self._wanted_by: set[int] = set()
        self._received: list[tuple[Snapshot, list[bytes]]] = []

    def applied(self) -> None:
        """More of the log is applied."""
        if self._process.log.snapshot_due:
            self._plan()

    def _plan(self) -> None:
        if not self._is_planned:
            self._is_planned = True
            self._process.heap.at(self._process.heap.now, self._take, None)

    def _take(self, _: object) -> None:
        process, raft, log = self._process, self._process.raft, self._process.log
        self._is_planned = False
        index = raft.applied_index
        if not process.is_alive or index <= log.snapshot().index:
            return
        term = log.term(index)
        assert term is not None, "what is applied is in the log"
        try:
            process.fuse.burn()
            described = Snapshot(index, term, raft.configuration)
            written = log.images.write(described, _pieces(process.applied))
            self._images[index, written.data] = tuple(process.applied)
            process.fuse.burn()
            log.record_snapshot(written)
        except ProcessKilled:
            process.end(power=True)
            return
        except OSError:
            process.fail()
            return
        wanted_by, self._wanted_by = self._wanted_by, set()
        for node in sorted(wanted_by):
            raft.report_snapshot(node, delivered=False)
        if wanted_by:
            process.work()

    def sends(self, message: Message) -> bool:
        """Whether a leader may send this SNAPSHOT; not if the receiver joined after it."""
        snapshot = message.snapshot
        assert snapshot is not None
        if message.to not in snapshot.configuration.members:
            self._wanted_by.add(message.to)
            self._plan()
            return False
        process = self._process
        process.heap.at(process.heap.now + PATIENCE_S, self._give_up, (message.to, snapshot.index))
        return True

    def _give_up(self, sent: tuple[int, int]) -> None:
        process, (node, index) = self._process, sent
        peer = process.raft.progress.get(node)
        is_waiting = peer is not None and peer.state is ProgressState.SNAPSHOT and peer.pending_snapshot == index
        if process.is_alive and is_waiting:
            process.raft.report_snapshot(node, delivered=False)
            process.work()

    def receive(self, message: Message) -> bool:
        """Get the image that a message offers. Whether the core may have the message now."""
        process, snapshot = self._process, message.snapshot
        assert snapshot is not None
        if message.term < process.raft.term or snapshot.index <= process.raft.commit_index:
            return True
        if process.storage.is_at_work:
            return False  # it is offered again
        process.storage.finish_applying()
        data, images = self._images[snapshot.index, snapshot.data], process.log.images
        partial = images.partial_path(snapshot, received=True)
        try:
            process.fuse.burn()
            images.remove(partial)
            file = images.open_partial(partial)
            written = write_image(file, snapshot, _pieces(data))
            file.close()
            assert written == snapshot
            process.fuse.burn()
            images.keep(partial, snapshot)
        except OSError:
            process.heap.at(process.heap.now, self._fail, None)
            return False
        self._received.append((snapshot, list(data)))
        return True

    def _fail(self, _: object) -> None:
        if self._process.is_alive:
            self._process.fail()

    def install(self, snapshot: Snapshot) -> list[bytes]:
        """The state in the snapshot that has replaced the log."""
        while self._received:
            received, data = self._received.pop(0)
            if received == snapshot:
                return data
        raise AssertionError(f"the core installs {snapshot}, which it was not offered")


def _pieces(applied: Sequence[bytes]) -> Iterator[bytes]:
    for data in applied:
        yield _LENGTH.pack(len(data)) + data


def read_state(pieces: Iterator[bytes]) -> list[bytes]:
    """The data in an image."""
    image, at, applied = b"".join(pieces), 0, []
    while at < len(image):
        begin = at + _LENGTH.size
        at = begin + _LENGTH.unpack_from(image, at)[0]
        applied.append(image[begin:at])
    return applied
