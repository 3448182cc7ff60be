"""How a member's process carries out what its core hands out: one batch after the other, or by two threads.

Both die between any two effects, as their member's fuse has it, and tell the checks what is on the disk by then.
"""

from collections import deque

from consensus.errors import StorageFailed
from consensus.ready import Appended, Ready, StorageAppend, StorageApply
from simulations.cores.process import ProcessKilled
from simulations.cores.raft_process import RaftProcess


class Batches:
    """`ready` and `advance`: a batch is written, synced, answered and applied before the next one is taken."""

    __slots__ = ("_process", "_raft", "_ready", "is_at_work")

    def __init__(self, process: RaftProcess) -> None:
        self._process = process
        self._raft = process.raft
        self._ready: Ready | None = None
        self.is_at_work = False

    @property
    def is_writing(self) -> bool:
        """See `Storage`."""
        return self._ready is not None and (self._ready.must_sync or self._ready.snapshot is not None)

    def carry_out(self) -> None:
        """See `Storage`."""
        if self._ready is not None:
            return
        process = self._process
        while (ready := self._raft.ready()) is not None:
            self._ready = ready
            self.is_at_work = True
            if ready.entries or ready.snapshot:
                process.handed_out(ready.entries, ready.snapshot)
            process.write(ready.hard_state, ready.entries, ready.snapshot)
            if ready.read_states:
                process.answer(ready.read_states)
            if ready.messages:
                process.send(ready.messages)
            if ready.must_sync or ready.snapshot:
                process.heap.at(process.heap.now + process.sync_takes_s(), self._synced, ready)
                return
            self._finish(ready)

    def _synced(self, ready: Ready) -> None:
        process = self._process
        if ready is not self._ready or not process.is_alive:
            return
        if process.resumes_s > process.heap.now:  # the disk is done, the process does not see it
            process.heap.at(process.resumes_s, self._synced, ready)
            return
        if _is_synced(process):
            try:
                self._finish(ready)
            except ProcessKilled:
                process.end(power=True)
            else:
                process.work()

    def finish_applying(self) -> None:
        """See `Storage`. What is handed out is applied with its batch."""
        assert self._ready is None

    def _finish(self, ready: Ready) -> None:
        process = self._process
        if ready.snapshot is not None:
            process.install(ready.snapshot)
        if ready.messages_after_sync:
            process.send(ready.messages_after_sync)
        if ready.committed_entries:
            process.apply(ready.committed_entries)
        self._ready = None
        self.is_at_work = False
        self._raft.advance()
        process.look()


class Threads:
    """Asynchronous storage: a thread that writes and one that applies, while the core goes on (`consensus.ready`).

    Whatever has gathered is written together and made durable by one sync. Each thread takes its time before it gets to
    its next piece of work.
    """

    __slots__ = ("_applying", "_is_called", "_process", "_raft", "_to_apply", "_to_write", "_writing")

    is_at_work = False

    def __init__(self, process: RaftProcess) -> None:
        self._process = process
        self._raft = process.raft
        # As long as what the core may hand out: see `uncommitted_bytes_max` and `apply_bytes_max`.
        self._to_write: list[StorageAppend] = []
        self._writing: list[StorageAppend] = []
        self._is_called = False
        self._to_apply: deque[StorageApply] = deque()
        self._applying: StorageApply | None = None

    @property
    def is_writing(self) -> bool:
        """See `Storage`."""
        return bool(self._writing)

    def carry_out(self) -> None:
        """See `Storage`."""
        process, raft = self._process, self._raft
        while (ready := raft.ready()) is not None:
            if ready.entries or ready.snapshot:
                process.handed_out(ready.entries, ready.snapshot)
            if ready.messages:
                process.send(ready.messages)
            if ready.read_states:
                process.answer(ready.read_states)
            if ready.append is not None:
                self._to_write.append(ready.append)
                self._call()
            if ready.apply is not None:
                self._to_apply.append(ready.apply)
                self._apply()

    # ---- the thread that writes

    def _call(self) -> None:
        process = self._process
        if self._writing or self._is_called or not self._to_write:
            return
        takes_s = process.thread_takes_s()
        if takes_s:
            self._is_called = True
            process.heap.at(process.heap.now + takes_s, self._called, None)
        else:
            self._write()

    def _called(self, _: object) -> None:
        process = self._process
        if not process.is_alive:
            return
        if process.resumes_s > process.heap.now:
            process.heap.at(process.resumes_s, self._called, None)
            return
        self._is_called = False
        try:
            self._write()
        except ProcessKilled:
            process.end(power=True)
        else:
            process.work()

    def _write(self) -> None:
        process = self._process
        while self._to_write and not self._writing:
            self._writing, self._to_write = self._to_write, []
            must_sync = False
            for work in self._writing:
                process.write(work.hard_state, work.entries, work.snapshot)
                must_sync = must_sync or work.must_sync or work.snapshot is not None
            if must_sync:
                process.heap.at(process.heap.now + process.sync_takes_s(), self._synced, self._writing)
                return
            self._respond()

    def _synced(self, works: list[StorageAppend]) -> None:
        process = self._process
        if not process.is_alive:
            return
        if process.resumes_s > process.heap.now:
            process.heap.at(process.resumes_s, self._synced, works)
            return
        if _is_synced(process):
            try:
                self._respond()
                self._call()
            except ProcessKilled:
                process.end(power=True)
            else:
                process.work()

    def _respond(self) -> None:
        process, raft = self._process, self._raft
        works, self._writing = self._writing, []
        for work in works:
            if work.snapshot is not None:
                process.install(work.snapshot)
            for response in work.responses:
                if isinstance(response, Appended):
                    process.fuse.burn()
                    raft.stored(response, process.clock.now_s())
                    process.look()
                elif response.to == process.number:
                    process.promise(response)
                else:
                    process.send((response,))

    # ---- the thread that applies

    def _apply(self) -> None:
        process = self._process
        while self._to_apply and self._applying is None:
            self._applying = self._to_apply.popleft()
            takes_s = process.thread_takes_s()
            if takes_s:
                process.heap.at(process.heap.now + takes_s, self._applied, self._applying)
            else:
                self._finish_applying()

    def finish_applying(self) -> None:
        """See `Storage`."""
        while self._applying is not None or self._to_apply:
            self._applying = self._applying or self._to_apply.popleft()
            self._finish_applying()

    def _applied(self, work: StorageApply) -> None:
        process = self._process
        if not process.is_alive or work is not self._applying:
            return
        if process.resumes_s > process.heap.now:
            process.heap.at(process.resumes_s, self._applied, work)
            return
        try:
            self._finish_applying()
            self._apply()
        except ProcessKilled:
            process.end(power=True)
        else:
            process.work()

    def _finish_applying(self) -> None:
        process, work = self._process, self._applying
        assert work is not None
        process.apply(work.entries)
        self._applying = None
        self._raft.applied(work, process.clock.now_s())
        process.look()


def _is_synced(process: RaftProcess) -> bool:
    """Sync. False, and the process is gone, if it dies just before or the disk fails."""
    try:
        process.fuse.burn()
        process.log.sync()
    except ProcessKilled:
        process.end(power=True)
        return False
    except StorageFailed:
        process.fail()
        return False
    process.note_synced()
    return True
