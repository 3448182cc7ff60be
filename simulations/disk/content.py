"""The bytes of one file: what the page cache shows, and how what the medium holds differs from it.

Files mostly grow, so the medium is not a second copy. It is the cache's first bytes, up to where the last sync found
the end, but for three kinds of difference that are kept as they come up: what was appended since (only where it ends),
what was cut off since (the bytes), and sectors in which a fault left something else.
"""

import random
from collections import deque
from dataclasses import dataclass
from typing import Final

MARKS_MAX: Final = 64
"""Ends of unsynced appends that are remembered: each is one more state in which a power loss may leave the file, and
that many are enough to choose from."""
CUTS_MAX: Final = 16
"""Unsynced truncations that are remembered. Before one more, the rest is written back, which a cache may do at any
time."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A truncation that may not have reached the medium, and the appends before it.

    Attributes:
        start: the file's size when those appends began.
        marks: the sizes after each of them.
        size: the size after the truncation.
        removed: the bytes that it took away.
    """

    start: int
    marks: tuple[int, ...]
    size: int
    removed: bytes


@dataclass(frozen=True, slots=True)
class Astray:
    """A sector of the medium that is not what the cache shows, though nobody would write it again.

    Attributes:
        data: what the medium has, a whole sector.
        shows_after: it shows once this much of the file has been synced; before that, a reader could take it for the
            end of a file that a crash cut off.
    """

    data: bytes
    shows_after: int = -1


class Content:
    """See the module.

    Attributes:
        key: names the file in keyed draws.
        cached: what a reader sees.
        start: `cached` from here on was appended since the last sync or truncation.
        marks: the sizes after each of these appends, oldest first.
        cuts: the truncations since the last sync, oldest first.
        confirmed: the size that the last successful sync promised to keep.
        astray: sectors by number; at most all of the file, and only faults add one.
        dropped: those of them that a failed sync left; the cache shows what they should be until it is dropped.
        links: names that lead here, 0 or 1.
        handles: open files.
        room: bytes that the file has on the medium, zeros behind the end included; 0 if it has none there.
        synced_room: the same as of the last sync.
        reads, syncs: how many there were: the occasions of keyed draws.
    """

    __slots__ = (
        "astray",
        "cached",
        "confirmed",
        "cuts",
        "dropped",
        "handles",
        "key",
        "links",
        "marks",
        "reads",
        "room",
        "sector_bytes",
        "start",
        "synced_room",
        "syncs",
    )

    def __init__(self, key: int, sector_bytes: int) -> None:
        self.key = key
        self.sector_bytes = sector_bytes
        self.cached = bytearray()
        self.start = 0
        self.marks: deque[int] = deque(maxlen=MARKS_MAX)
        self.cuts: list[Cut] = []
        self.confirmed = 0
        self.astray: dict[int, Astray] = {}
        self.dropped: set[int] = set()
        self.links = 0
        self.handles = 0
        self.reads = 0
        self.syncs = 0
        self.room = 0
        self.synced_room = 0

    @property
    def durable_size(self) -> int:
        """Bytes of the file on the medium."""
        return self.cuts[0].start if self.cuts else self.start

    @property
    def is_clean(self) -> bool:
        """Whether the cache shows what the medium has."""
        return not (self.marks or self.cuts or self.astray)

    def can_break(self) -> bool:
        """Whether a sync has something to write that a fault of this module may get at: not while a cut is pending."""
        return bool(self.marks) and not self.cuts

    def first_dirty(self) -> int | None:
        """The first sector that is to be written; None if there is none."""
        if not self.marks and not self.cuts:
            return None
        low = self.start
        for cut in self.cuts:
            low = min(low, cut.start)  # each starts where the cut before it ended
        return low // self.sector_bytes

    def append(self, data: bytes | memoryview) -> None:
        """Add to the end, in the cache."""
        if data:
            self.cached += data
            self.marks.append(len(self.cached))

    def show_room(self, room: int) -> None:
        """The process that had made the room is gone: its zeros are bytes of the file as any other."""
        self.append(bytes(max(room - len(self.cached), 0)))
        self.room = self.synced_room = 0

    def truncate(self, size: int) -> None:
        """Cut to ``size`` bytes, in the cache."""
        self.room = 0
        if size == len(self.cached):
            return
        if len(self.cuts) == CUTS_MAX:
            self.write_back()
        self.cuts.append(Cut(self.start, tuple(self.marks), size, bytes(self.cached[size:])))
        del self.cached[size:]
        self.start = size
        self.marks.clear()

    def sync(self) -> None:
        """Put everything on the medium, and promise it."""
        self.write_back()
        self.confirmed = len(self.cached)

    def write_back(self) -> None:
        """Put everything on the medium, as a kernel does after a while."""
        if self.astray:
            first = self.first_dirty()
            if first is not None:
                for sector in [sector for sector in self.astray if sector >= first]:
                    del self.astray[sector]
                    self.dropped.discard(sector)
        self.cuts.clear()
        self.marks.clear()
        self.start = len(self.cached)
        self.synced_room = self.room

    def dirty_sectors(self) -> range:
        """The sectors that the next sync writes."""
        first, end = self.first_dirty(), self.sectors
        return range(end if first is None else first, end)

    @property
    def sectors(self) -> int:
        """How many the cached file takes."""
        return -(-len(self.cached) // self.sector_bytes)

    def sector(self, number: int) -> bytes:
        """A sector as it is cached, filled up with zeros."""
        begin = number * self.sector_bytes
        return bytes(self.cached[begin : begin + self.sector_bytes]).ljust(self.sector_bytes, b"\0")

    def durable_sector(self, number: int) -> bytes:
        """A sector as it is on the medium, in a part of the file where no truncation is pending."""
        if self.is_shown(number):
            return self.astray[number].data
        begin = number * self.sector_bytes
        end = max(begin, min(self.start, begin + self.sector_bytes))
        return bytes(self.cached[begin:end]).ljust(self.sector_bytes, b"\0")

    def is_shown(self, sector: int) -> bool:
        """Whether the medium has something else in a sector that was synced; if not yet, it got there after all."""
        astray = self.astray.get(sector)
        return astray is not None and astray.shows_after < self.confirmed

    def restart(self) -> None:
        """Take what is cached for what the medium has: the machine has just begun to read it."""
        self.cuts.clear()
        self.marks.clear()
        self.astray.clear()
        self.dropped.clear()
        self.start = self.confirmed = len(self.cached)

    # ---- faults

    def sync_leaving_one_stale(self, rng: random.Random, *, silent: bool) -> bool:
        """Sync, but one sector keeps what it had. Needs `can_break`, and has always one: true."""
        assert self.can_break()
        dirty = self.dirty_sectors()
        sector = rng.choice(dirty)
        old = self.durable_sector(sector)
        self.sync()
        self.astray[sector] = Astray(old, -1 if silent else self.confirmed)
        return True

    def sync_misdirecting_one(self, rng: random.Random, *, silent: bool) -> bool:
        """Sync, but one sector is written over another. Needs `can_break`. False, and no sync, if there are no two."""
        assert self.can_break()
        dirty = self.dirty_sectors()
        sector = rng.choice(dirty)
        data = self.sector(sector)
        # What was promised and is not being written: its records end before anything that this sync could lose.
        victims = range(self.sectors) if silent else range(min(dirty.start, self.confirmed // self.sector_bytes))
        victim = rng.choice(victims) if victims else sector
        if victim == sector or data == self.sector(victim) or not any(data):
            return False
        old = self.durable_sector(sector)
        self.sync()
        self.astray[sector] = Astray(old)
        self.astray[victim] = Astray(data)
        return True

    def fail_to_sync(self, rng: random.Random) -> int:
        """Write some sectors and take the others for written. Needs `can_break`. How many those are."""
        assert self.can_break()
        dirty = self.dirty_sectors()
        share = rng.choice((rng.random(), 1.0))
        lost = [sector for sector in dirty if rng.random() < share] or [dirty[-1]]
        old = {sector: self.durable_sector(sector) for sector in lost}
        self.write_back()
        for sector, data in old.items():
            self.astray[sector] = Astray(data)
            self.dropped.add(sector)
        return len(lost)

    def rot(self, rng: random.Random, *, begin: int, end: int) -> bool:
        """Turn a bit of the durable bytes from ``begin`` to ``end``, in the cache as well. Whether there are any."""
        end = min(end, self.start)
        if self.cuts or begin >= end:
            return False
        at = rng.randrange(begin, end)
        sector, place = divmod(at, self.sector_bytes)
        bit = 1 << rng.randrange(8)
        self.cached[at] ^= bit
        if sector in self.astray:
            astray = self.astray[sector]
            data = bytearray(astray.data)
            data[place] ^= bit
            self.astray[sector] = Astray(bytes(data), astray.shows_after)
        return True

    def drop_cache(self) -> int:
        """Show what is on the medium. How many sectors look different by it."""
        assert self.first_dirty() is None, "what is to be written stays in the cache until it is"
        self.dropped.clear()
        return self.show_astray(range(self.sectors))

    def show_astray(self, sectors: range) -> int:
        """Let those of the sectors that went astray show, if they may. How many look different by it."""
        differ = 0
        for sector in sorted(self.astray):
            if sector in sectors and self.is_shown(sector):
                cached, found = self.sector(sector), self.astray.pop(sector).data
                begin = sector * self.sector_bytes
                size = min(len(self.cached) - begin, self.sector_bytes)
                self.cached[begin : begin + size] = found[:size]
                differ += cached != self.sector(sector)
        return differ
