"""What is kept in memory of a log on disk: the terms of its entries, and where each stands.

Terms come in runs, one for each leader. Places are kept per record, as two numbers of eight bytes. Both shrink when the
log is compacted.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final

from consensus.messages import Entry

_OFFSET_BITS: Final = 40
"""Of a place: a file of up to a tebibyte, of one of up to 16 million."""
_OFFSET_MASK: Final = (1 << _OFFSET_BITS) - 1


class Terms:
    """The term of every entry of a log that begins behind `start`.

    Attributes:
        start: the index just before the first entry.
        last: the index of the last entry; without one, `start`.
    """

    __slots__ = ("_firsts", "_start_term", "_terms", "last", "start")

    def __init__(self, start: int = 0, start_term: int = 0) -> None:
        self.start = self.last = start
        self._start_term = start_term
        # Runs: the first index of each and its term.
        self._firsts: list[int] = []
        self._terms: list[int] = []

    @property
    def start_term(self) -> int:
        """The term of the entry at `start`; 0 where it is not known."""
        return self._start_term

    @property
    def last_term(self) -> int:
        """The term of the entry at `last`; 0 where it is not known."""
        return self._terms[-1] if self._terms else self._start_term

    def term(self, index: int) -> int | None:
        """The term of an entry, known from `start` to `last`; otherwise None."""
        if self._terms and self._firsts[-1] <= index <= self.last:  # as a rule: it is of the last run
            return self._terms[-1]
        if self.start < index <= self.last:
            return self._terms[bisect_right(self._firsts, index) - 1]
        if index == self.start and (self._start_term or not index):
            return self._start_term
        return None

    def append(self, index: int, term: int) -> None:
        """The entry at `index` follows, or replaces that one and all behind it."""
        if index <= self.last:
            self.truncate(index - 1)
        assert index == self.last + 1, f"entry {index} does not follow {self.last}"
        if not self._terms or self._terms[-1] != term:
            self._firsts.append(index)
            self._terms.append(term)
        self.last = index

    def extend(self, entries: Sequence[Entry]) -> None:
        """Entries follow, or replace those from the first of them on."""
        first, last = entries[0], entries[-1]
        if first.term == last.term:  # as a rule: and so are all between, since terms only rise along a log
            self.append(first.index, first.term)
            self.last = last.index
            return
        for entry in entries:
            self.append(entry.index, entry.term)

    def truncate(self, last: int) -> None:
        """Forget the entries behind `last`."""
        assert self.start <= last
        kept = bisect_right(self._firsts, last)
        del self._firsts[kept:]
        del self._terms[kept:]
        self.last = min(self.last, last)

    def compact(self, start: int, start_term: int) -> None:
        """Forget the entries up to and including `start`."""
        assert self.start <= start <= self.last
        gone = bisect_right(self._firsts, start + 1)
        if start == self.last:
            self._firsts, self._terms = [], []
        elif gone:
            # The last of these runs goes on beyond `start`.
            del self._firsts[: gone - 1]
            del self._terms[: gone - 1]
            self._firsts[0] = start + 1
        self.start, self._start_term = start, start_term


class Places:
    """In which record of which file each entry stands. Entries are in the files in the order of their indexes."""

    __slots__ = ("_firsts", "_places")

    def __init__(self) -> None:
        self._firsts = array("Q")
        self._places = array("Q")

    def append(self, first: int, number: int, offset: int) -> None:
        """A record whose entries begin at `first` is at an offset of a file. It replaces what was there."""
        if self._firsts and self._firsts[-1] >= first:
            self.truncate(first - 1)
        assert offset <= _OFFSET_MASK
        self._firsts.append(first)
        self._places.append(number << _OFFSET_BITS | offset)

    def truncate(self, last: int) -> None:
        """Forget the entries behind `last`."""
        kept = bisect_right(self._firsts, last)
        del self._firsts[kept:]
        del self._places[kept:]

    def compact(self, start: int) -> None:
        """Forget the records that end at `start` or before."""
        gone = bisect_right(self._firsts, start + 1) - 1
        if gone > 0:
            del self._firsts[:gone]
            del self._places[:gone]

    def find(self, index: int) -> tuple[int, int] | None:
        """The number of the file and the offset of the record that has the entry; None if no record is known."""
        found = bisect_right(self._firsts, index) - 1
        if found < 0:
            return None
        place = self._places[found]
        return place >> _OFFSET_BITS, place & _OFFSET_MASK

    def next_first(self, index: int) -> int | None:
        """The first index in the record behind the one that has the entry; None if that is the last."""
        found = bisect_right(self._firsts, index)
        return self._firsts[found] if found < len(self._firsts) else None

    def end_of(self, number: int, offset: int, *, last: int) -> int:
        """The last index in the record at a place, in a log that ends at `last`."""
        found = bisect_right(self._places, number << _OFFSET_BITS | offset)
        return self._firsts[found] - 1 if found < len(self._firsts) else last

    def clear(self) -> None:
        """Forget all."""
        self._firsts, self._places = array("Q"), array("Q")

    def latest(self) -> Iterator[tuple[int, int, int]]:
        """The records, the last one first: the first index of each, and its place."""
        for first, place in zip(reversed(self._firsts), reversed(self._places), strict=True):
            yield first, place >> _OFFSET_BITS, place & _OFFSET_MASK

    def first_from(self, number: int) -> int | None:
        """The index of the first entry in that file or a later one; None if they have none."""
        found = bisect_left(self._places, number << _OFFSET_BITS)
        return self._firsts[found] if found < len(self._firsts) else None


class Tail:
    """The latest entries of a log, as many as fit, for those who read them right after they were written.

    Args:
        bytes_max: of entries, with what it takes to keep them, before the older half of them goes, by whole batches.
    """

    ENTRY_BYTES: Final = 250
    """What an entry takes in memory beside its data, which is there twice (`consensus.entries`)."""

    __slots__ = ("_batches", "_bytes", "_bytes_max", "_entries", "first")

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        # Bounded by bytes_max, and by what its owner does not let go before it is written.
        self._entries: list[Entry] = []
        # Of each batch: the index where it begins, and its bytes. One that is cut off keeps those of all of it.
        self._batches: deque[tuple[int, int]] = deque()
        self.first = 1

    def __len__(self) -> int:
        return len(self._entries)

    def clear(self, first: int) -> None:
        """Forget all; the next entry is that at `first`, or any."""
        self._entries, self._bytes, self.first = [], 0, first
        self._batches.clear()

    def append(self, entries: Sequence[Entry], size_bytes: int) -> None:
        """Add a batch of entries with so many bytes of data, in place of any that begin at the first of them."""
        first = entries[0].index
        kept = first - self.first
        if not 0 <= kept <= len(self._entries):
            self.clear(first)
        elif kept < len(self._entries):
            del self._entries[kept:]
            while self._batches and self._batches[-1][0] >= first:
                self._bytes -= self._batches.pop()[1]
        self._entries.extend(entries)
        cost = 2 * size_bytes + self.ENTRY_BYTES * len(entries)
        self._batches.append((first, cost))
        self._bytes += cost

    def slice(self, low: int, high: int) -> list[Entry]:
        """The entries from `low` up to, not including, `high`. It must have them."""
        return self._entries[low - self.first : high - self.first]

    @property
    def is_large(self) -> bool:
        """Whether it has more than it should."""
        return self._bytes > self._bytes_max

    def shrink(self, *, before: int) -> None:
        """Let go the older half of its bytes; nothing from index `before` on."""
        batches, first = self._batches, self.first
        while batches and self._bytes > self._bytes_max // 2:
            end = batches[1][0] if len(batches) > 1 else self.first + len(self._entries)
            if end > before:
                break
            first = end
            self._bytes -= batches.popleft()[1]
        del self._entries[: first - self.first]
        self.first = first
