"""A log in memory: what the core reads of its storage, and all there is of it where nothing has to last."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from consensus.messages import Configuration, Entry, HardState, Snapshot


@dataclass(frozen=True, slots=True)
class Lost:
    """Says that a disk no longer has entries that its node may have acknowledged, and what it had.

    The node's log is what was left, and what a leader has sent since. It is whole again as soon as it matches that
    leader's up to where it once reached, or up to an entry of a later term: the leader of that term had all that was
    committed before, and the entry stands behind it (Raft paper 5.4; Alagappan et al., FAST 2018).

    Attributes:
        index, log_term: the last entry that the log had.
        term: the node's term when it was found out.
    """

    index: int
    log_term: int
    term: int

    def is_regained(self, last: int, last_term: int) -> bool:
        """Whether a log that ends so, and has grown by what leaders sent alone, is whole again."""
        return last >= self.index or last_term > self.term


class LogView(Protocol):
    """What the core reads: everything that was handed over in a batch whose `advance` has been called."""

    def initial_state(self) -> tuple[HardState, Configuration]:
        """The hard state, and the configuration at the snapshot, from which the log's own changes go on."""
        ...

    def first_index(self) -> int:
        """The index of the first entry that is still there: one more than the snapshot's."""
        ...

    def last_index(self) -> int:
        """The index of the last entry; without one, the snapshot's."""
        ...

    def term(self, index: int) -> int | None:
        """The term of the entry at `index`, known from one before `first_index` to `last_index`; otherwise None."""
        ...

    def entries(self, low: int, high: int, bytes_max: int | None = None) -> Sequence[Entry]:
        """The entries from `low` up to, not including, `high`. All of them must be there.

        Args:
            bytes_max: of data; what is returned may end with the first that exceeds it, or before. None for no bound.

        Returns:
            Fewer, or none, where they can't be read any more: then `damage` of the storage says so.
        """
        ...

    def snapshot(self) -> Snapshot:
        """The latest snapshot; at index 0 if there is none."""
        ...

    def lost(self) -> Lost | None:
        """What the log has lost and not regained, as of when it was opened."""
        ...


class MemoryLog:
    """Entries in memory behind a snapshot, whose data is the state itself."""

    def __init__(self, snapshot: Snapshot | None = None) -> None:
        self._snapshot = snapshot or Snapshot()
        self._hard_state = HardState()
        # Where the entries begin: the index and term just before the first.
        self._offset = self._snapshot.index
        self._offset_term = self._snapshot.term
        # Unbounded until compacted: it is the log itself.
        self._entries: list[Entry] = []

    def initial_state(self) -> tuple[HardState, Configuration]:
        return self._hard_state, self._snapshot.configuration

    def first_index(self) -> int:
        return self._offset + 1

    def last_index(self) -> int:
        return self._offset + len(self._entries)

    def term(self, index: int) -> int | None:
        place = index - self._offset - 1
        if place == -1:
            return self._offset_term
        return self._entries[place].term if 0 <= place < len(self._entries) else None

    def entries(self, low: int, high: int, bytes_max: int | None = None) -> Sequence[Entry]:
        assert self._offset < low <= high <= self.last_index() + 1, f"no entries from {low} to {high}"
        return self._entries[low - self._offset - 1 : high - self._offset - 1]

    def snapshot(self) -> Snapshot:
        return self._snapshot

    def lost(self) -> Lost | None:
        return None

    def set_hard_state(self, hard_state: HardState) -> None:
        """Replace the hard state."""
        self._hard_state = hard_state

    def append(self, entries: Sequence[Entry]) -> None:
        """Add entries, in place of any that begin at the first of them."""
        if not entries:
            return
        first = entries[0].index
        assert self._offset < first <= self.last_index() + 1, f"entry {first} does not follow {self.last_index()}"
        del self._entries[first - self._offset - 1 :]
        self._entries.extend(entries)

    def install(self, snapshot: Snapshot) -> None:
        """Replace everything by a snapshot."""
        assert snapshot.index > self._snapshot.index, "a snapshot does not go back in time"
        self._snapshot = snapshot
        self._offset, self._offset_term = snapshot.index, snapshot.term
        self._entries = []

    def record_snapshot(self, snapshot: Snapshot) -> None:
        """Keep a snapshot of what has been applied, for followers that need it. The entries stay."""
        assert self._snapshot.index <= snapshot.index <= self.last_index()
        self._snapshot = snapshot

    def compact(self, index: int) -> None:
        """Forget the entries up to and including `index`, which a snapshot covers."""
        term = self.term(index)
        assert term is not None, f"the log cannot be compacted up to {index}: it has no such entry"
        del self._entries[: index - self._offset]
        self._offset, self._offset_term = index, term
