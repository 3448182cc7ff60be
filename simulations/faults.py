"""What can go wrong with whole nodes, as plain data: all that can with cores, and more.

Nodes are named by their numbers. Times are virtual seconds from when the mesh was formed.
"""

import dataclasses
from dataclasses import dataclass

from simulations.cores.faults import FOREVER, CoreFaults
from simulations.disk import DiskFaults

# ---- links


@dataclass(frozen=True, slots=True)
class Reset:
    """All connections between two nodes end.

    Attributes:
        in_frame: they end in the middle of what they carry next, of which a beginning still arrives.
    """

    one: int
    other: int
    at_s: float
    in_frame: bool = False


@dataclass(frozen=True, slots=True)
class HalfOpen:
    """All connections between two nodes end for ``one``; the other is not told, and what it sends is not answered."""

    one: int
    other: int
    at_s: float


@dataclass(frozen=True, slots=True)
class Hang:
    """Whoever connects to the node waits for ever."""

    node: int
    at_s: float
    for_s: float


@dataclass(frozen=True, slots=True)
class Clog:
    """What ``one`` sends to ``other`` is held up somewhere, and arrives when that is over."""

    one: int
    other: int
    at_s: float
    for_s: float


@dataclass(frozen=True, slots=True)
class Narrow:
    """All links to and from a node carry so many bytes a second, each of them."""

    node: int
    bytes_per_s: float
    at_s: float
    for_s: float


@dataclass(frozen=True, slots=True)
class Damage:
    """A share of what is sent to and by a node arrives as something else: see `simulations.hosts.damage`."""

    node: int
    share: float
    at_s: float
    for_s: float


@dataclass(frozen=True, slots=True)
class Stranger:
    """Somebody who is no node sends a node what no node sends: see `simulations.mesh.stranger`."""

    node: int
    at_s: float


# ---- processes


@dataclass(frozen=True, slots=True)
class StuckLoop:
    """The main loop of a node stands still, as in a long computation, while its membership goes on."""

    node: int
    at_s: float
    for_s: float


@dataclass(frozen=True, slots=True)
class SlowCpu:
    """Each step of each task of a node takes ``step_s``."""

    node: int
    step_s: float
    at_s: float
    for_s: float = FOREVER


@dataclass(frozen=True, slots=True)
class RollingRestart:
    """All nodes are restarted, each when the one before is back.

    Attributes:
        down_s: how long each is away.
        orderly: they are asked to end, as by SIGTERM; otherwise killed.
    """

    at_s: float
    down_s: float
    orderly: bool = True


@dataclass(frozen=True, slots=True)
class Departure:
    """A node leaves the mesh for good, however long that takes; then a new one takes its machine."""

    node: int
    at_s: float


@dataclass(frozen=True, slots=True)
class LateStart:
    """A node, not the founder, is there only from this time on."""

    node: int
    at_s: float


# ---- disks


@dataclass(frozen=True, slots=True)
class BadDisk:
    """The disk of a node fails as ``faults`` says, for a time."""

    node: int
    faults: DiskFaults
    at_s: float
    for_s: float = FOREVER


@dataclass(frozen=True, slots=True)
class DiskKill:
    """The process of a node is killed at one of its disk operations, and started again after ``for_s``.

    Attributes:
        operations: how many it may still do from ``at_s`` on.
        power: the whole machine goes, when a file is to be synced next, with what was not synced by then.
    """

    node: int
    operations: int
    at_s: float
    for_s: float
    power: bool = False


@dataclass(frozen=True, slots=True)
class NewDisk:
    """The machine of a node burns down: a new one takes its name, with an empty disk, after ``for_s``."""

    node: int
    at_s: float
    for_s: float


@dataclass(frozen=True, slots=True)
class Mixup:
    """An operator exchanges the disks of two machines and starts both, and puts that right after ``for_s``."""

    one: int
    other: int
    at_s: float
    for_s: float


@dataclass(frozen=True, slots=True)
class OldImage:
    """An operator starts a node's machine on an old copy of a disk, its own or another's, for as long as ``for_s``.

    The copy is taken while its node is down, and put to use only once the mesh knows of a later start of that node: it
    is then to be refused (rule 2 of partition replication). The machine's own disk is kept, and put back.

    Attributes:
        node: whose machine it is.
        other: whose disk was copied.
        taken_at_s: when that was.
        again_s: so long after its start the copy is started once more.
    """

    node: int
    other: int
    taken_at_s: float
    at_s: float
    for_s: float
    again_s: float = FOREVER


# ---- clocks


@dataclass(frozen=True, slots=True)
class WallJump:
    """Somebody sets the wall clock of a node."""

    node: int
    by_s: float
    at_s: float


@dataclass(frozen=True, slots=True)
class Drift:
    """The clocks of a node run at another rate for a time; the monotonic one never goes back."""

    node: int
    rate: float
    at_s: float
    for_s: float


# ---- devices, and the outside


@dataclass(frozen=True, slots=True)
class BadDevice:
    """The device of a node on which predictions are computed fails in the middle of a batch, until its process ends.

    Attributes:
        batches: how many it still computes from ``at_s`` on.
    """

    node: int
    batches: int
    at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """The way from nodes to services outside of the mesh is slow: of requests, and of answers, this share takes up to
    ``late_s`` longer than usual."""

    late: float = 0.0
    late_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults(CoreFaults):
    """All that goes wrong in one run.

    `leaves` are orderly ends here, as by SIGTERM: the process cleans up, and starts again on its disk.
    """

    resets: tuple[Reset, ...] = ()
    half_opens: tuple[HalfOpen, ...] = ()
    hangs: tuple[Hang, ...] = ()
    clogs: tuple[Clog, ...] = ()
    narrows: tuple[Narrow, ...] = ()
    damages: tuple[Damage, ...] = ()
    strangers: tuple[Stranger, ...] = ()
    stuck_loops: tuple[StuckLoop, ...] = ()
    slow_cpus: tuple[SlowCpu, ...] = ()
    rolling_restarts: tuple[RollingRestart, ...] = ()
    departures: tuple[Departure, ...] = ()
    late_starts: tuple[LateStart, ...] = ()
    bad_disks: tuple[BadDisk, ...] = ()
    disk_kills: tuple[DiskKill, ...] = ()
    new_disks: tuple[NewDisk, ...] = ()
    mixups: tuple[Mixup, ...] = ()
    old_images: tuple[OldImage, ...] = ()
    wall_jumps: tuple[WallJump, ...] = ()
    drifts: tuple[Drift, ...] = ()
    bad_devices: tuple[BadDevice, ...] = ()
    outside: Outside = Outside()

    def kinds(self) -> dict[str, int]:
        """How many of each kind."""
        counts = {}
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if isinstance(value, tuple) and value and dataclasses.is_dataclass(value[0]):
                counts[item.name] = len(value)
        return counts
