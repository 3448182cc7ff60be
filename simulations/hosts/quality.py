"""What a path between two machines does to messages, and who is cut off from whom."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace

from xxhash import xxh3_64_intdigest

_KEY = struct.Struct("<QQ")
_UNIT = 1.0 / (1 << 16)
_MASK = (1 << 16) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """Of the paths from one machine to another.

    Attributes:
        delay_s: what every message takes at least.
        jitter_s: and at most this much more.
        loss: share of datagrams that are lost; a stream delivers what is lost later.
        duplicate: share of datagrams that arrive twice.
        late: share of messages that take up to ``late_s`` longer.
        bytes_per_s: bandwidth of the path, for all that goes over it together; 0 for no limit.
        damage: share of datagrams, and of what is sent on a stream at a time, that arrive as something else.

    Raises:
        ValueError: a share is not from 0 to 1, or a time is below 0.
    """

    delay_s: float = 0.0002
    jitter_s: float = 0.0008
    loss: float = 0.0
    duplicate: float = 0.0
    late: float = 0.0
    late_s: float = 0.0
    bytes_per_s: float = 0.0
    damage: float = 0.0

    def __post_init__(self) -> None:
        for name in ("loss", "duplicate", "late", "damage"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}: choose 0 to 1")
        for name in ("delay_s", "jitter_s", "late_s", "bytes_per_s"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} is {getattr(self, name)}: choose 0 or more")


LAN = Quality()


@dataclass(slots=True)
class Fate:
    """What becomes of one message.

    Attributes:
        share: from 0 to 1; of what a stream delivers before it comes to what was lost.
        copy_delay_s: of its second copy, if there is one.
        damage: a key to what it arrives as; 0 if it arrives as it was sent.
    """

    delay_s: float
    is_lost: bool
    share: float
    copy_delay_s: float | None
    damage: int


@dataclass(slots=True)
class _Kind:
    """Messages of one kind on one path: what their fates depend on, and how many there were."""

    key: int
    count: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """Something that makes one path, in one direction, other than the rest for a time.

    Attributes:
        values: of `Quality`, by name. Where several changes name one, the latest counts.
    """

    path: tuple[str, str]
    values: Mapping[str, float]


class Paths:
    """The state of the network between machines, by their addresses.

    Args:
        seed: of everything that is drawn.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._default = LAN
        # What lies on each path at the moment, in the order of its coming, and what it makes of it.
        self._changes: dict[tuple[str, str], list[Change]] = {}
        self._special: dict[tuple[str, str], Quality] = {}
        # When the last byte that waits for a narrow path will have left: one entry for each path that ever was.
        self._free_at_s: dict[tuple[str, str], float] = {}
        # How many cuts lie on a path at the moment.
        self._cuts: dict[tuple[str, str], int] = {}
        # How many messages have gone over each path: one entry for each pair of machines and kind of message.
        self._kinds: dict[tuple[str, str, str], _Kind] = {}

    def quality(self, source: str, target: str) -> Quality:
        """The path as it is now."""
        return self._special.get((source, target), self._default) if self._special else self._default

    @property
    def default(self) -> Quality:
        """Of paths on which no change lies."""
        return self._default

    @default.setter
    def default(self, quality: Quality) -> None:
        self._default = quality
        for path in self._changes:
            self._judge(path)

    def change(self, source: str, target: str, /, **values: float) -> Change:
        """Make one path, in one direction, other than the rest, until `change_back`."""
        change = Change((source, target), values)
        self._changes.setdefault(change.path, []).append(change)
        self._judge(change.path)
        return change

    def change_back(self, change: Change) -> None:
        """Undo a change; one that a calm has undone already stays undone."""
        present = self._changes.get(change.path, [])
        if change in present:
            present.remove(change)
            self._judge(change.path)

    def _judge(self, path: tuple[str, str]) -> None:
        values: dict[str, float] = {}
        for change in self._changes[path]:
            values.update(change.values)
        if values:
            self._special[path] = replace(self._default, **values)
        else:
            self._special.pop(path, None)

    def leaves_at(self, source: str, target: str, size: int, now: float) -> float:
        """When the last of so many bytes, sent now, is on its way: behind all that was sent before."""
        rate = self.quality(source, target).bytes_per_s
        if not rate:
            return now
        self._free_at_s[source, target] = leaves_s = max(now, self._free_at_s.get((source, target), 0.0)) + size / rate
        return leaves_s

    def cut(self, source: str, target: str) -> None:
        """Nothing gets through in this direction, until every cut of it is mended."""
        self._cuts[source, target] = self._cuts.get((source, target), 0) + 1

    def mend(self, source: str, target: str) -> bool:
        """Undo one cut; whether the path is open again."""
        left = self._cuts[source, target] = self._cuts[source, target] - 1
        if not left:
            del self._cuts[source, target]
        return not left

    def calm(self) -> None:
        """All paths are as they were in the beginning."""
        self._changes.clear()
        self._special.clear()
        self._free_at_s.clear()
        self.default = LAN
        self._cuts.clear()

    def is_cut(self, source: str, target: str) -> bool:
        """Whether nothing gets through."""
        return bool(self._cuts) and (source, target) in self._cuts

    def draw(self, source: str, target: str, kind: str) -> Fate:
        """The fate of the next message of a kind on a path."""
        quality = self.quality(source, target)
        drawn = self._drawn(source, target, kind)
        delay_s = quality.delay_s + quality.jitter_s * _UNIT * (drawn & _MASK)
        is_lost = bool(quality.loss) and (drawn >> 16 & _MASK) * _UNIT < quality.loss
        copy_delay_s = None
        damage = 0
        if quality.damage and self._unit(drawn, 2) < quality.damage:
            damage = xxh3_64_intdigest(_KEY.pack(drawn, 3), self._seed) or 1
        if quality.late or quality.duplicate:
            more = xxh3_64_intdigest(_KEY.pack(drawn, 1), self._seed)
            if (more & _MASK) * _UNIT < quality.late:
                delay_s += quality.late_s * _UNIT * (more >> 16 & _MASK)
            if (more >> 32 & _MASK) * _UNIT < quality.duplicate:
                copy_delay_s = quality.delay_s + quality.jitter_s * _UNIT * (more >> 48 & _MASK)
        return Fate(delay_s, is_lost, (drawn >> 32 & _MASK) * _UNIT, copy_delay_s, damage)

    def _unit(self, drawn: int, question: int) -> float:
        """A number from 0 to 1 that answers a question about the message for which ``drawn`` was drawn."""
        return (xxh3_64_intdigest(_KEY.pack(drawn, question), self._seed) & _MASK) * _UNIT

    def share(self, source: str, target: str, question: str) -> float:
        """A number from 0 to 1 that answers a question about a path; each time another one."""
        return (self._drawn(source, target, question) & _MASK) * _UNIT

    def _drawn(self, source: str, target: str, kind: str) -> int:
        """64 bits for the next message of a kind on a path."""
        messages = self._kinds.get((source, target, kind))
        if messages is None:
            key = xxh3_64_intdigest(f"{source} {target} {kind}".encode(), self._seed)
            messages = self._kinds[source, target, kind] = _Kind(key)
        messages.count += 1
        return xxh3_64_intdigest(_KEY.pack(messages.key, messages.count), self._seed)
