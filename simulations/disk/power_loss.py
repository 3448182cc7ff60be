"""What a power loss leaves of one file.

Until a sync returns, the cache may have written any of the file's dirty sectors, in any order and as they were after
any append since the last sync. So each is left, for itself, as it was at the last sync or after one of these appends.

What a journalled file system guarantees all the same:

- A sector that was not to be written keeps its bytes. A sector is written as a whole, but for `torn_sector_rate`.
- The file's size is one that it had, or the end of a sector on the way there. It may be larger than what was written:
  the rest reads as zeros, and never as what another file, or this one before a truncation, had there.
- Truncations happen in their order: one that is lost takes all later ones and the appends after it with it.
"""

import bisect
import random
from collections.abc import Sequence
from dataclasses import dataclass

from simulations.disk.content import Content


@dataclass(frozen=True, slots=True)
class Losses:
    """What did not get to the medium.

    Attributes:
        lost_sectors: sectors that are not as they were cached, for want of a sync.
        torn_sectors: those of which only the first bytes are new.
        shown_sectors: sectors in which an earlier fault comes to light.
    """

    lost_sectors: int = 0
    torn_sectors: int = 0
    shown_sectors: int = 0


def lose_power(
    content: Content, rng: random.Random, *, in_order: bool = False, torn_sector_rate: float = 0.0
) -> Losses:
    """Replace the cache by what the medium has, as one of the outcomes that the module allows."""
    first = content.first_dirty()
    losses = Losses(shown_sectors=content.show_astray(range(content.sectors if first is None else first)))
    if first is not None:
        window = _Window(content, first)
        remains, lost, torn = _survivors(window, rng, in_order=in_order, torn_sector_rate=torn_sector_rate)
        content.cached[window.low :] = remains
        losses = Losses(lost, torn, losses.shown_sectors)
    content.restart()
    return losses


class _Window:
    """The part of a file that may change: from its first dirty sector on. Offsets count from there.

    Attributes:
        low: where in the file that is.
        states: the bytes at the end of each epoch; a truncation begins an epoch.
        marks: the sizes after the appends of each epoch.
        cuts: the sizes after each truncation.
        durable: the bytes on the medium.
    """

    def __init__(self, content: Content, first: int) -> None:
        self.sector_bytes = content.sector_bytes
        self.low = first * content.sector_bytes
        self.cuts = [cut.size - self.low for cut in content.cuts]
        states = [bytes(content.cached[self.low :])]
        for cut in reversed(content.cuts):
            states.append(states[-1][: cut.size - self.low] + cut.removed)
        self.states = states[::-1]
        all_marks = [*(cut.marks for cut in content.cuts), content.marks]
        self.marks = [[mark - self.low for mark in marks] for marks in all_marks]
        durable = bytearray(self.states[0][: content.durable_size - self.low])
        for sector in sorted(content.astray):
            if sector >= first and content.is_shown(sector):
                begin = sector * content.sector_bytes - self.low
                size = min(len(durable) - begin, content.sector_bytes)
                if size > 0:
                    durable[begin : begin + size] = content.astray[sector].data[:size]
        self.durable = bytes(durable)

    def versions(self, sector: int, committed: int) -> list[bytes]:
        """What a sector may hold, from the durable to the newest, when so many truncations have happened."""
        begin, end = sector * self.sector_bytes, (sector + 1) * self.sector_bytes
        found = [self._filled(self.durable[begin:end])]
        for epoch in range(committed + 1):
            state, marks = self.states[epoch], self.marks[epoch]
            first = bisect.bisect_right(marks, begin)
            last = bisect.bisect_left(marks, end)
            for mark in marks[first : last + 1]:
                _add(found, self._filled(state[begin : min(mark, end)]))
            if epoch < committed and self.cuts[epoch] < end:
                kept = max(self.cuts[epoch] - begin, 0)
                cut: list[bytes] = []
                for version in found:
                    _add(cut, self._filled(version[:kept]))
                found = cut
        return found

    def _filled(self, data: bytes) -> bytes:
        return data.ljust(self.sector_bytes, b"\0")


def _add(versions: list[bytes], version: bytes) -> None:
    if not versions or versions[-1] != version:
        versions.append(version)


def _survivors(
    window: _Window, rng: random.Random, *, in_order: bool, torn_sector_rate: float
) -> tuple[bytes, int, int]:
    """The bytes that are left in the window, and how many sectors were lost and torn."""
    committed = rng.randint(0, len(window.cuts))
    size, most = _size(window, committed, rng), len(window.states[committed])
    sectors = -(-most // window.sector_bytes)
    # Often nothing or everything got there: the outcomes at the ends are too many sectors away for coins to find.
    share = rng.choice((0.0, rng.random(), 1.0))
    in_time = rng.choice((0, rng.randint(0, sectors), sectors))
    left: list[bytes] = []
    lost = torn = 0
    for sector in range(sectors):
        versions = window.versions(sector, committed)
        arrived = sector < in_time if in_order else rng.random() < share
        if arrived:
            chosen = versions[-1]
        elif in_order and sector > in_time:
            chosen = versions[0]
        else:
            chosen = versions[0] if rng.random() < 0.5 else rng.choice(versions[:-1] or versions)
        if chosen != versions[0] and torn_sector_rate and rng.random() < torn_sector_rate:
            at = rng.randrange(1, window.sector_bytes)
            chosen = chosen[:at] + versions[0][at:]
            torn += 1
        lost += chosen != versions[-1] or size < min((sector + 1) * window.sector_bytes, most)
        left.append(chosen)
    return b"".join(left)[:size], lost, torn


def _size(window: _Window, committed: int, rng: random.Random) -> int:
    """One of the sizes that the file may have."""
    least = window.cuts[committed - 1] if committed else len(window.durable)
    most = len(window.states[committed])
    sizes: Sequence[int] = (most,)
    match rng.randrange(4):
        case 0:
            sizes = (least, *window.marks[committed])
        case 1:
            begin = -(-least // window.sector_bytes) * window.sector_bytes
            sizes = range(begin, most, window.sector_bytes) or sizes
        case _:
            pass  # often enough the size got there, and only the data did not
    return rng.choice(sizes)
