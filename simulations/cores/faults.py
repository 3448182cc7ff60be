"""What goes wrong in a world, and when: plain data, made by hand or drawn by `simulations.cores.swarm`.

Nodes are the numbers by which a world knows them. Times are virtual seconds from the start of the run.
"""

import math
from dataclasses import dataclass

FOREVER = math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkQuality:
    """What a link does to each message, each for itself.

    Attributes:
        delay_s: every message takes at least this long.
        jitter_s: and up to this much longer, evenly spread. More than the gap between two messages reorders them.
        late: the share of messages that take up to `late_s` longer still.
        late_s: see `late`.
        loss: the share of messages that do not arrive.
        duplicate: the share of messages that arrive twice, each copy after a delay of its own.

    Raises:
        ValueError: a value is out of its range.
    """

    delay_s: float = 0.0005
    jitter_s: float = 0.0095
    late: float = 0.0
    late_s: float = 0.0
    loss: float = 0.0
    duplicate: float = 0.0

    def __post_init__(self) -> None:
        for name in ("delay_s", "jitter_s", "late_s"):
            if not 0 <= getattr(self, name) < FOREVER:
                raise ValueError(f"{name} = {getattr(self, name)}: choose 0 seconds or more")
        for name in ("late", "loss", "duplicate"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} = {getattr(self, name)}: it is a share of the messages, from 0 to 1")


LAN = LinkQuality()
"""Links without faults: 0.5 to 10 ms, as within a site."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Messages from any of `senders` to any of `receivers` are lost for a time.

    Two groups that do not hear each other, while a third reaches both, is a bridge. With `flap_s` the cut is on for so
    long and then off for so long, in turns.
    """

    senders: frozenset[int]
    receivers: frozenset[int]
    at_s: float
    for_s: float = FOREVER
    both_ways: bool = True
    flap_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Slow:
    """All links to and from a node are of another quality for a time."""

    node: int
    quality: LinkQuality
    at_s: float
    for_s: float = FOREVER


@dataclass(frozen=True, slots=True)
class Crash:
    """The process of a node ends without a word, and a new one starts on the same disk after `for_s`.

    Attributes:
        effects: how many effects it still performs from `at_s` on, so that it dies between any two of them.
        power: whether the whole machine goes, and with it what was written but not synced.
    """

    node: int
    at_s: float
    for_s: float = FOREVER
    effects: int = 0
    power: bool = True


@dataclass(frozen=True, slots=True)
class Pause:
    """The process of a node stands still for a time, as after SIGSTOP; what it is sent waits, or is lost."""

    node: int
    at_s: float
    for_s: float


@dataclass(frozen=True, slots=True)
class Leave:
    """A node says good-bye and ends, and comes back after `for_s`."""

    node: int
    at_s: float
    for_s: float = FOREVER


@dataclass(frozen=True, slots=True)
class ClockRate:
    """The clock of a node runs at `rate` local seconds per virtual second, all the time."""

    node: int
    rate: float

    def __post_init__(self) -> None:
        if not 0.1 <= self.rate <= 10:
            raise ValueError(f"rate = {self.rate}: a clock that is still one runs at 0.1 to 10 times the true rate")


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreFaults:
    """All that goes wrong in one run.

    Attributes:
        quality: of every link until `calm_s`; from then on it is `LAN`.
        sync_s: how long a sync of a disk takes until `calm_s`, from … to; from then on the former.
        ordered: whether a link delivers in the order of sending, as a stream does.
        calm_s: when the faults of links and disks end. The lists may say more, but a world judges liveness from the
            end of the last fault on.
    """

    quality: LinkQuality = LAN
    sync_s: tuple[float, float] = (0.0005, 0.002)
    ordered: bool = False
    calm_s: float = FOREVER
    cuts: tuple[Cut, ...] = ()
    slow: tuple[Slow, ...] = ()
    crashes: tuple[Crash, ...] = ()
    pauses: tuple[Pause, ...] = ()
    leaves: tuple[Leave, ...] = ()
    clocks: tuple[ClockRate, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.sync_s[0] <= self.sync_s[1]:
            raise ValueError(f"sync_s = {self.sync_s}: expected the shortest and the longest time, in seconds")

    @property
    def ends_s(self) -> float:
        """When the last fault is over: crashed nodes are up again, paused ones run, links are whole."""
        timed: tuple[Cut | Slow | Crash | Pause | Leave, ...] = (
            *self.cuts,
            *self.slow,
            *self.crashes,
            *self.pauses,
            *self.leaves,
        )
        ends = [fault.at_s + fault.for_s for fault in timed if fault.for_s != FOREVER]
        if self.calm_s != FOREVER:
            ends.append(self.calm_s)
        return max(ends, default=0.0)

    @property
    def is_quiet(self) -> bool:
        """Whether nothing goes wrong at all."""
        timed = (*self.cuts, *self.slow, *self.crashes, *self.pauses, *self.leaves, *self.clocks)
        return not timed and self.quality == LAN


NO_FAULTS = CoreFaults()
