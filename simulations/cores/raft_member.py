"""A node of a Raft group, over all lives of its process: its disk, its clock, its crashes and pauses."""

import contextlib
import random
from collections.abc import Sequence

from consensus.errors import CorruptLog, CorruptSnapshot, StorageFailed
from consensus.messages import Message, Role
from consensus.opening import open_log
from consensus.raft import Raft
from simulations.cores.process import LocalClock, ProcessKilled
from simulations.cores.raft_process import ENDED, STARTED, RaftProcess, Surroundings
from simulations.cores.raft_snapshots import RaftSnapshots, read_state
from simulations.cores.raft_storage import Batches, Threads
from simulations.disk import Operation, SimDisk

DIRECTORY = "raft"


class RaftMember:
    """One member.

    Attributes:
        number: its id in the group.
        process: None while none runs.
        is_corrupt: whether its log can't be opened any more.
        clock: of its machine.
    """

    __slots__ = ("_lives", "_world", "clock", "disk", "is_corrupt", "number", "process")

    def __init__(self, world: Surroundings, number: int, disk: SimDisk) -> None:
        self._world = world
        self.number = number
        self.disk = disk
        self.process: RaftProcess | None = None
        self.is_corrupt = False
        self.clock = LocalClock(world.heap)
        self._lives = 0

    # ---- its lives

    def start(self, rng: random.Random) -> None:
        """A new process on the same disk. None runs if the log on it can't be opened."""
        assert self.process is None, f"member {self.number} runs already"
        self.disk.acquire()
        self._lives += 1
        try:
            config = self._world.settings.log_config
            log = open_log(self.disk, DIRECTORY, owner=b"member %d" % self.number, config=config)
            applied = read_state(log.images.pieces(log.snapshot())) if log.snapshot().index else []
        except (CorruptLog, CorruptSnapshot, OSError) as error:
            self.is_corrupt = isinstance(error, CorruptLog)
            self.disk.crash(power_loss=False)
            if not self.is_corrupt:
                self._world.failed(self.number)
            return
        process = RaftProcess(
            self._world, self.number, log, clock=self.clock, rng=rng, applied=applied, end=self._killed
        )
        process.snapshots = RaftSnapshots(process, self._world.images)
        process.storage = Threads(process) if self._world.settings.async_storage else Batches(process)
        self.process = process
        process.note(STARTED, self._lives)
        process.work()

    def end(self, *, power: bool) -> None:
        """The process is gone, and with `power` what its disk had not synced as well."""
        process = self.process
        if process is None:
            return
        process.is_alive = False
        self._world.checks.deposed(process.number)
        # A process that is killed may have left its batch in the cache or not; where the power fails it often has.
        if process.storage.is_writing and (power or self._lives % 2):
            self._write_without_sync(process)
        self.disk.crash(power_loss=power)
        self.process = None
        process.note(ENDED, self._lives)

    def _killed(self, power: bool) -> None:
        self.end(power=power)

    def _write_without_sync(self, process: RaftProcess) -> None:
        """The power fails while the disk is at work: the bytes are on their way, and the sync has not returned."""
        self.disk.on_operation = _die_at_sync
        with contextlib.suppress(ProcessKilled, StorageFailed):  # a log that failed before writes nothing more
            process.log.sync()
        self.disk.on_operation = None

    def pause(self, for_s: float) -> None:
        """The process stands still for a time."""
        process = self.process
        if process is not None:
            process.resumes_s = max(process.resumes_s, self._world.heap.now + for_s)
            self._world.heap.at(process.resumes_s, self._resume, process)

    def _resume(self, process: RaftProcess) -> None:
        if process.is_alive and not self.is_paused:
            process.resume()

    # ---- what the world sees

    def receive(self, envelope: tuple[Message, int]) -> None:
        """A message arrives."""
        process = self.process
        if process is not None:
            process.receive(envelope[0])

    @property
    def raft(self) -> Raft | None:
        """The core of its process."""
        return None if self.process is None else self.process.raft

    @property
    def is_paused(self) -> bool:
        """Whether its process stands still."""
        return self.process is not None and self._world.heap.now < self.process.resumes_s

    @property
    def is_leader(self) -> bool:
        """Whether it takes itself for the leader."""
        return self.process is not None and self.process.raft.role is Role.LEADER

    @property
    def terms(self) -> Sequence[int]:
        """Of the entries in its log, those not yet written included."""
        return () if self.process is None else self.process.terms


def _die_at_sync(operation: str, _path: str) -> None:
    if operation == Operation.SYNC:
        raise ProcessKilled
