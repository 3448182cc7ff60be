"""What a path between two machines does to messages, and who is cut off from whom."""

import struct
from dataclasses import dataclass

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
        bytes_per_s: bandwidth of a stream; 0 for no limit.

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

    def __post_init__(self) -> None:
        for name in ("loss", "duplicate", "late"):
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
    """

    delay_s: float
    is_lost: bool
    share: float
    copy_delay_s: float | None


@dataclass(slots=True)
class _Kind:
    """Messages of one kind on one path: what their fates depend on, and how many there were."""

    key: int
    count: int = 0


class Paths:
    """The state of the network between machines, by their addresses.

    Args:
        seed: of everything that is drawn.
    """

    def __init__(self, seed: int) -> None:
        self.default = LAN
        self._seed = seed
        self._special: dict[tuple[str, str], Quality] = {}
        # How many cuts lie on a path at the moment.
        self._cuts: dict[tuple[str, str], int] = {}
        # How many messages have gone over each path: one entry for each pair of machines and kind of message.
        self._kinds: dict[tuple[str, str, str], _Kind] = {}

    def quality(self, source: str, target: str) -> Quality:
        """The path as it is now."""
        return self._special.get((source, target), self.default) if self._special else self.default

    def set_quality(self, source: str, target: str, quality: Quality | None) -> None:
        """Make one path, in one direction, special; or like the others again."""
        if quality is None:
            self._special.pop((source, target), None)
        else:
            self._special[source, target] = quality

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
        self.default = LAN
        self._special.clear()
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
        if quality.late or quality.duplicate:
            more = xxh3_64_intdigest(_KEY.pack(drawn, 1), self._seed)
            if (more & _MASK) * _UNIT < quality.late:
                delay_s += quality.late_s * _UNIT * (more >> 16 & _MASK)
            if (more >> 32 & _MASK) * _UNIT < quality.duplicate:
                copy_delay_s = quality.delay_s + quality.jitter_s * _UNIT * (more >> 48 & _MASK)
        return Fate(delay_s, is_lost, (drawn >> 32 & _MASK) * _UNIT, copy_delay_s)

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
