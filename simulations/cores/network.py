"""Messages under way between cores: late, lost, repeated, out of order, or stopped by a cut.

What happens to a message is a hash of (seed, link, how many came before it on that link), and of nothing else. So a run
from which one fault is taken away draws the same for every message that is sent all the same.
"""

import struct
from collections.abc import Mapping
from typing import Any

from xxhash import xxh3_64_intdigest

from simulations.cores.faults import FOREVER, LAN, CoreFaults, Cut, LinkQuality, Slow
from simulations.cores.heap import Action, EventHeap

_pack_key = struct.Struct("<QQ").pack
_NODE_BITS = 32

# Where in the 64 bits of a hash each decision finds its own: 24 for a delay, some nanoseconds of jitter, and at least
# 12 for a share, of which a four-thousandth is the smallest.
_DELAY_BITS = 24
_LOSS_SHIFT, _LOSS_BITS = 24, 16
_DUPLICATE_SHIFT, _DUPLICATE_BITS = 40, 12
_LATE_SHIFT, _LATE_BITS = 52, 12
_DELAY_MASK = (1 << _DELAY_BITS) - 1
_LOSS_MASK = (1 << _LOSS_BITS) - 1
_DUPLICATE_MASK = (1 << _DUPLICATE_BITS) - 1
_DELAY_UNIT = 1.0 / (1 << _DELAY_BITS)
_COPY = 1 << 63
"""Set in the number of a message for what is drawn of its second copy."""


class _Quality:
    """A `LinkQuality` as thresholds for the bits of a hash."""

    __slots__ = ("delay_s", "duplicate", "is_plain", "jitter", "late", "late_s", "loss")

    def __init__(self, quality: LinkQuality) -> None:
        self.delay_s = quality.delay_s
        self.jitter = quality.jitter_s * _DELAY_UNIT
        self.loss = round(quality.loss * (1 << _LOSS_BITS))
        self.duplicate = round(quality.duplicate * (1 << _DUPLICATE_BITS))
        self.late = round(quality.late * (1 << _LATE_BITS))
        self.late_s = quality.late_s
        self.is_plain = not (self.loss or self.duplicate or self.late)


class Network:
    """Takes messages between nodes with the numbers 0 … 2**32 - 1.

    Args:
        heap: what arrives is an event there.
        seed: of all that is drawn.
        receivers: for each node, the action that takes an argument ``(message, sender)``.
        faults: the quality of the links, the cuts and the slow nodes are taken from it.

    Attributes:
        lost, cut, duplicated: messages so far; one that is cut is not counted as lost.
    """

    def __init__(self, heap: EventHeap, seed: int, receivers: Mapping[int, Action], faults: CoreFaults) -> None:
        self.lost = 0
        self.cut = 0
        self.duplicated = 0
        self._heap = heap
        self._at = heap.at
        self._seed = seed & (1 << 64) - 1
        self._receivers = receivers
        self._quality = _Quality(faults.quality)
        # Each has at most one entry for each pair of nodes that talk to each other.
        self._numbers: dict[int, int] = {}
        self._arrivals: dict[int, float] = {}
        self._ordered = faults.ordered
        self._cuts: dict[int, Cut] = {}
        self._blocked: dict[int, frozenset[int]] = {}
        self._slow: dict[int, _Quality] = {}
        if faults.calm_s != FOREVER:
            heap.at(faults.calm_s, self._calm)
        self._planned = 0
        for cut in faults.cuts:
            self.plan(cut)
        for slow in faults.slow:
            self.slow_down(slow)

    @property
    def sent(self) -> int:
        """Messages so far, those that were lost or cut included."""
        return sum(self._numbers.values())

    def send(self, source: int, target: int, message: Any) -> None:
        """One message, once."""
        link = source << _NODE_BITS | target
        numbers = self._numbers
        numbers[link] = number = numbers.get(link, 0) + 1
        if self._blocked and target in self._blocked.get(source, ()):
            self.cut += 1
            return
        drawn = xxh3_64_intdigest(_pack_key(link, number), self._seed)
        quality = self._quality
        if self._slow:
            quality = self._slow.get(source) or self._slow.get(target) or quality
        delay_s = quality.delay_s + quality.jitter * (drawn & _DELAY_MASK)
        if not quality.is_plain:
            if drawn >> _LOSS_SHIFT & _LOSS_MASK < quality.loss:
                self.lost += 1
                return
            if drawn >> _LATE_SHIFT < quality.late:
                delay_s += self._lateness_s(quality, link, number)
            if drawn >> _DUPLICATE_SHIFT & _DUPLICATE_MASK < quality.duplicate:
                self._repeat(quality, link, number, message)
        arrival_s = self._heap.now + delay_s
        if self._ordered:
            earliest_s = self._arrivals.get(link)
            if earliest_s is not None and earliest_s > arrival_s:
                arrival_s = earliest_s
            self._arrivals[link] = arrival_s
        self._at(arrival_s, self._receivers[target], (message, source))

    def plan(self, cut: Cut) -> None:
        """Let a cut begin when its time comes, or at once."""
        self._planned += 1
        self._heap.at(cut.at_s, self._begin_cut, (self._planned, cut))

    def slow_down(self, slow: Slow) -> None:
        """Let a node's links be slow when the time comes, or at once."""
        self._heap.at(slow.at_s, self._begin_slow, slow)

    def heal(self) -> None:
        """All cuts end now, whatever was planned."""
        self._cuts.clear()
        self._block()

    def isolate(self, *groups: frozenset[int]) -> None:
        """From now on, only nodes of one group reach each other; in place of earlier cuts."""
        self._cuts.clear()
        for number, group in enumerate(groups):
            for other in groups[number + 1 :]:
                self._cuts[-len(self._cuts) - 1] = Cut(group, other, self._heap.now)
        self._block()

    def set_quality(self, quality: LinkQuality) -> None:
        """All links but the slow ones are like this from now on."""
        self._quality = _Quality(quality)

    def _lateness_s(self, quality: _Quality, link: int, number: int) -> float:
        drawn = xxh3_64_intdigest(_pack_key(number, link), self._seed)
        return quality.late_s * _DELAY_UNIT * (drawn & _DELAY_MASK)

    def _repeat(self, quality: _Quality, link: int, number: int, message: Any) -> None:
        self.duplicated += 1
        drawn = xxh3_64_intdigest(_pack_key(link, number | _COPY), self._seed)
        delay_s = quality.delay_s + quality.jitter * (drawn & _DELAY_MASK)
        source, target = link >> _NODE_BITS, link & (1 << _NODE_BITS) - 1
        self._heap.at(self._heap.now + delay_s, self._receivers[target], (message, source))

    # Faults that begin and end.

    def _calm(self, _: object) -> None:
        self.set_quality(LAN)

    def _begin_cut(self, planned: tuple[int, Cut]) -> None:
        number, cut = planned
        self._cuts[number] = cut
        self._block()
        end_s = cut.at_s + cut.for_s
        if cut.flap_s:
            self._heap.at(min(self._heap.now + cut.flap_s, end_s), self._pause_cut, planned)
        elif end_s != FOREVER:
            self._heap.at(end_s, self._end_cut, number)

    def _pause_cut(self, planned: tuple[int, Cut]) -> None:
        number, cut = planned
        self._end_cut(number)
        again_s = self._heap.now + cut.flap_s
        if again_s < cut.at_s + cut.for_s:
            self._heap.at(again_s, self._begin_cut, planned)

    def _end_cut(self, number: int) -> None:
        self._cuts.pop(number, None)
        self._block()

    def _block(self) -> None:
        """Who is not heard by whom, from the cuts in force: two sets shared by all nodes of a side, not a pair each."""
        blocked: dict[int, frozenset[int]] = {}
        for cut in self._cuts.values():
            sides = [(cut.senders, cut.receivers)]
            if cut.both_ways:
                sides.append((cut.receivers, cut.senders))
            for senders, receivers in sides:
                for sender in senders:
                    present = blocked.get(sender)
                    blocked[sender] = receivers if present is None else present | receivers
        self._blocked = blocked

    def _begin_slow(self, slow: Slow) -> None:
        quality = _Quality(slow.quality)
        self._slow[slow.node] = quality
        if slow.for_s != FOREVER:
            self._heap.at(slow.at_s + slow.for_s, self._end_slow, (slow.node, quality))

    def _end_slow(self, ended: tuple[int, _Quality]) -> None:
        node, quality = ended
        if self._slow.get(node) is quality:
            del self._slow[node]
