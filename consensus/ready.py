"""What a core hands out: batches of work, and, with asynchronous storage, what the two storage threads are to do.

Nobody changes one; see `consensus.messages` for why they are not frozen, and why they have an `__init__`.
"""

from dataclasses import dataclass

from consensus.messages import Entry, HardState, Message, ReadState, Snapshot, SoftState


@dataclass(slots=True, unsafe_hash=True, init=False)
class Appended:
    """Says that a `StorageAppend` is durable. For `Raft.stored`.

    Attributes:
        term: the node's term when it handed the work out. What was appended in an earlier term may have been replaced
            meanwhile, so then it says nothing of entries.
        index, log_term: the last entry of the log at that time; 0 if all of it was on disk before.
        snapshot: the snapshot that was stored, if any.
    """

    term: int
    index: int
    log_term: int
    snapshot: Snapshot | None

    def __init__(self, term: int, index: int = 0, log_term: int = 0, snapshot: Snapshot | None = None) -> None:
        self.term = term
        self.index = index
        self.log_term = log_term
        self.snapshot = snapshot


@dataclass(slots=True, unsafe_hash=True, init=False)
class StorageAppend:
    """Work for the thread that writes: in order, one after the other; several may be made durable by one sync.

    Attributes:
        hard_state, entries, snapshot: to be written as `Ready` says.
        must_sync: whether the work has to be durable at all. If not, the responses still wait for all work before it.
        responses: once all is durable, in this order: messages to peers leave; messages to the node itself go to
            `Raft.receive_own`, and the last, if it is an `Appended`, to `Raft.stored`.
    """

    hard_state: HardState | None
    entries: tuple[Entry, ...]
    snapshot: Snapshot | None
    must_sync: bool
    responses: tuple[Message | Appended, ...]

    def __init__(
        self,
        hard_state: HardState | None,
        entries: tuple[Entry, ...],
        snapshot: Snapshot | None,
        must_sync: bool,
        responses: tuple[Message | Appended, ...],
    ) -> None:
        self.hard_state = hard_state
        self.entries = entries
        self.snapshot = snapshot
        self.must_sync = must_sync
        self.responses = responses


@dataclass(slots=True, unsafe_hash=True, init=False)
class StorageApply:
    """Work for the thread that applies, in order. Once done, it goes to `Raft.applied`.

    Attributes:
        entries: to be applied.
        size_bytes: of their data.
    """

    entries: tuple[Entry, ...]
    size_bytes: int

    def __init__(self, entries: tuple[Entry, ...], size_bytes: int) -> None:
        self.entries = entries
        self.size_bytes = size_bytes


@dataclass(slots=True, unsafe_hash=True, init=False)
class Ready:
    """One batch of work. The steps are numbered in the docstring of the package.

    Attributes:
        soft_state: leader and role, if they changed.
        hard_state: to be written, if it changed.
        entries: to be written behind the hard state, in place of any that begin at the first of them.
        snapshot: to be stored in place of the log before the entries are, and loaded by the application. Always
            durable before `messages_after_sync`.
        committed_entries: to be applied. They may be among `entries`.
        messages: may leave before the sync. A leader sends its entries while its own disk writes them (thesis 10.2.1).
        messages_after_sync: promises. They leave when the batch is on disk. If the batch changes term or vote, all
            messages are here: none may name a term that the node could forget. None with asynchronous storage.
        must_sync: whether the batch has to be durable at all. A commit index alone may be lost.
        read_states: reads that may be answered as soon as their index is applied.
        append, apply: with asynchronous storage, the same work for the storage threads.
    """

    soft_state: SoftState | None
    hard_state: HardState | None
    entries: tuple[Entry, ...]
    snapshot: Snapshot | None
    committed_entries: tuple[Entry, ...]
    messages: tuple[Message, ...]
    messages_after_sync: tuple[Message, ...]
    must_sync: bool
    read_states: tuple[ReadState, ...]
    append: StorageAppend | None
    apply: StorageApply | None

    def __init__(
        self,
        soft_state: SoftState | None,
        hard_state: HardState | None,
        entries: tuple[Entry, ...],
        snapshot: Snapshot | None,
        committed_entries: tuple[Entry, ...],
        messages: tuple[Message, ...],
        messages_after_sync: tuple[Message, ...],
        must_sync: bool,
        read_states: tuple[ReadState, ...] = (),
        append: StorageAppend | None = None,
        apply: StorageApply | None = None,
    ) -> None:
        self.soft_state = soft_state
        self.hard_state = hard_state
        self.entries = entries
        self.snapshot = snapshot
        self.committed_entries = committed_entries
        self.messages = messages
        self.messages_after_sync = messages_after_sync
        self.must_sync = must_sync
        self.read_states = read_states
        self.append = append
        self.apply = apply
