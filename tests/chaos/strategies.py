"""Plans of whole nodes, drawn as plain data: what is drawn is the plan, and never what happens to a message.

Each field of `Plan`, `Faults` and `DiskFaults` has its strategy here or its reason to have none; a test sees to it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from meshnode.metadata.config import COMMAND_BYTES_MAX
from simulations.cores.faults import ClockRate, Crash, Cut, Leave, LinkQuality, Pause, Slow
from simulations.disk import DiskFaults
from simulations.faults import (
    BadDevice,
    BadDisk,
    Clog,
    Damage,
    Departure,
    DiskKill,
    Drift,
    Faults,
    HalfOpen,
    Hang,
    Mixup,
    Narrow,
    NewDisk,
    OldImage,
    Outside,
    Reset,
    RollingRestart,
    SlowCpu,
    Stranger,
    StuckLoop,
    WallJump,
)
from simulations.plan import Bounds, Plan

SPAN_MAX_S = 8.0
"""Longer than a lease, and than it takes to find somebody dead."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """What faults are drawn for.

    Attributes:
        victim: the one node that may lose what it had synced; None where it would take a majority of some replicas
            with it.
    """

    nodes: int
    duration_s: float
    victim: int | None

    @property
    def node(self) -> st.SearchStrategy[int]:
        return st.integers(0, self.nodes - 1)

    @property
    def at_s(self) -> st.SearchStrategy[float]:
        return seconds(0.0, 0.8 * self.duration_s)

    @property
    def group(self) -> st.SearchStrategy[frozenset[int]]:
        return st.frozensets(self.node, min_size=1)


def seconds(least: float, most: float) -> st.SearchStrategy[float]:
    """Milliseconds, so that a plan that was shrunk can be read."""
    return st.integers(round(least * 1000), round(most * 1000)).map(lambda number: number / 1000)


def some(fault: st.SearchStrategy[Any], most: int = 3) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(fault, max_size=most).map(tuple)


def ended(fault: Any, duration_s: float) -> Any:
    """The fault, over before the end of the run."""
    return type(fault)(**{
        **{name: getattr(fault, name) for name in fault.__dataclass_fields__},
        "for_s": min(fault.for_s, round(0.95 * duration_s - fault.at_s, 3)),
    })  # fmt: skip


def lasting(sizes: Sizes, kind: Callable[..., Any], most: int = 3, **fields: Any) -> st.SearchStrategy[tuple[Any, ...]]:
    """Faults of a node that begin and end."""
    own = {"node": sizes.node, "at_s": sizes.at_s, "for_s": seconds(0.05, SPAN_MAX_S), **fields}
    return some(st.builds(kind, **own).map(lambda fault: ended(fault, sizes.duration_s)), most)


def quality(worst_s: float = 0.1) -> st.SearchStrategy[LinkQuality]:
    return st.builds(
        LinkQuality,
        delay_s=seconds(0.001, worst_s),
        jitter_s=seconds(0.0, worst_s),
        late=st.sampled_from((0.0, 0.01, 0.1)),
        late_s=seconds(0.0, 2.0),
        loss=st.sampled_from((0.0, 0.01, 0.1, 0.3)),
        duplicate=st.sampled_from((0.0, 0.01, 0.2)),
    )


def rate(most: float) -> st.SearchStrategy[float]:
    return st.sampled_from((0.0, most / 10, most))


def cuts(sizes: Sizes) -> st.SearchStrategy[tuple[Cut, ...]]:
    cut = st.builds(
        Cut,
        senders=sizes.group,
        receivers=sizes.group,
        at_s=sizes.at_s,
        for_s=seconds(0.05, SPAN_MAX_S),
        both_ways=st.booleans(),
        flap_s=st.sampled_from((0.0, 0.1, 1.0)),
    )
    return some(cut.map(lambda fault: ended(fault, sizes.duration_s)))


MILD_DISK: Mapping[str, st.SearchStrategy[Any]] = {
    "capacity_bytes": st.none() | st.integers(0, 20_000),
    "slow_sync_rate": rate(0.5),
    "slow_sync_factor": st.sampled_from((20.0, 200.0, 1000.0)),
    "torn_sector_rate": rate(0.5),
    "stuck_sync_rate": rate(0.2),
    "in_order": st.booleans(),
}
"""What a disk may do to any node."""

CRUEL_DISK: Mapping[str, st.SearchStrategy[Any]] = {
    "bit_rot_rate": rate(0.2),
    "read_bit_rot_rate": rate(0.2),
    "stale_rate": rate(0.02),
    "misdirected_rate": rate(0.02),
    "sync_error_rate": rate(0.2),
    "read_error_rate": rate(0.01),
}
"""What it may do only to the victim, since it can cost what was synced."""

NO_STRATEGY = {
    "silent": "nothing that relies on syncs survives it",
}
"""Fields of `DiskFaults` that stay as they are, and why."""


def bad_disks(sizes: Sizes) -> st.SearchStrategy[tuple[BadDisk, ...]]:
    mild = lasting(sizes, BadDisk, 2, faults=st.builds(DiskFaults, **MILD_DISK))
    if sizes.victim is None:
        return mild
    cruel = st.builds(DiskFaults, **MILD_DISK, **CRUEL_DISK)
    return st.tuples(mild, lasting(sizes, BadDisk, 1, node=st.just(sizes.victim), faults=cruel)).map(
        lambda both: both[0] + both[1]
    )


def new_disks(sizes: Sizes) -> st.SearchStrategy[tuple[NewDisk, ...]]:
    if sizes.victim is None:
        return st.just(())
    return lasting(sizes, NewDisk, 1, node=st.just(sizes.victim))


def clogs(sizes: Sizes) -> st.SearchStrategy[tuple[Clog, ...]]:
    clog = st.builds(Clog, one=sizes.node, other=sizes.node, at_s=sizes.at_s, for_s=seconds(0.05, SPAN_MAX_S))
    return some(clog.map(lambda fault: ended(fault, sizes.duration_s)))


def rolling_restarts(sizes: Sizes) -> st.SearchStrategy[tuple[RollingRestart, ...]]:
    at_s = seconds(0.0, 0.4 * sizes.duration_s)
    return some(st.builds(RollingRestart, at_s=at_s, down_s=st.sampled_from((0.1, 1.0)), orderly=st.booleans()), 1)


def departures(sizes: Sizes) -> st.SearchStrategy[tuple[Departure, ...]]:
    """Of those that stay, three may be all that know something, and of these one may lose its disk."""
    if sizes.nodes < 4:
        return st.just(())
    return some(st.builds(Departure, node=sizes.node, at_s=sizes.at_s), 1)


def pairs(sizes: Sizes) -> st.SearchStrategy[tuple[int, int]] | None:
    """Two nodes whose disks are sound."""
    sound = [node for node in range(sizes.nodes) if node != sizes.victim]
    if len(sound) < 2:
        return None
    return st.permutations(sound).map(lambda nodes: (nodes[0], nodes[1]))


def mixups(sizes: Sizes) -> st.SearchStrategy[tuple[Mixup, ...]]:
    pair = pairs(sizes)
    if pair is None:
        return st.just(())
    mixup = st.builds(
        lambda both, at_s, for_s: Mixup(both[0], both[1], at_s, for_s), pair, sizes.at_s, seconds(0.05, SPAN_MAX_S)
    )
    return some(mixup.map(lambda fault: ended(fault, sizes.duration_s)), 1)


def old_images(sizes: Sizes) -> st.SearchStrategy[tuple[OldImage, ...]]:
    pair = pairs(sizes)
    if pair is None:
        return st.just(())
    image = st.builds(
        lambda both, is_own, taken_at_s, later_s, for_s: OldImage(
            both[0], both[0] if is_own else both[1], taken_at_s, round(taken_at_s + later_s, 3), for_s
        ),
        pair,
        st.booleans(),
        seconds(0.0, 0.4 * sizes.duration_s),
        seconds(0.1 * sizes.duration_s, 0.4 * sizes.duration_s),
        seconds(0.05, SPAN_MAX_S),
    )
    return some(image.map(lambda fault: ended(fault, sizes.duration_s)), 1)


FAULTS: Mapping[str, Callable[[Sizes], st.SearchStrategy[Any]]] = {
    "quality": lambda _: st.just(LinkQuality()) | quality(),
    "sync_s": lambda _: st.just(Faults().sync_s),  # of cores: the disks of whole nodes are slow by `bad_disks`
    "ordered": lambda _: st.just(False),  # of cores: the streams of whole nodes are
    "calm_s": lambda sizes: st.just(0.95 * sizes.duration_s),
    "cuts": cuts,
    "slow": lambda sizes: lasting(sizes, Slow, 2, quality=quality(0.6)),
    "crashes": lambda sizes: lasting(sizes, Crash, 5, effects=st.integers(0, 300), power=st.booleans()),
    "pauses": lambda sizes: lasting(sizes, Pause),
    "leaves": lambda sizes: lasting(sizes, Leave, 2),
    "clocks": lambda sizes: st.lists(
        st.builds(ClockRate, node=sizes.node, rate=st.integers(80, 125).map(lambda percent: percent / 100)),
        max_size=sizes.nodes,
        unique_by=lambda clock: clock.node,
    ).map(tuple),
    "resets": lambda sizes: some(
        st.builds(Reset, one=sizes.node, other=sizes.node, at_s=sizes.at_s, in_frame=st.booleans()), 5
    ),
    "half_opens": lambda sizes: some(st.builds(HalfOpen, one=sizes.node, other=sizes.node, at_s=sizes.at_s)),
    "clogs": clogs,
    "narrows": lambda sizes: lasting(sizes, Narrow, 2, bytes_per_s=st.sampled_from((2e3, 2e4, 1e6))),
    "damages": lambda sizes: lasting(sizes, Damage, 2, share=st.sampled_from((0.01, 0.1))),
    "strangers": lambda sizes: some(st.builds(Stranger, node=sizes.node, at_s=sizes.at_s), 5),
    "hangs": lambda sizes: lasting(sizes, Hang, 2),
    "stuck_loops": lambda sizes: lasting(sizes, StuckLoop),
    "slow_cpus": lambda sizes: lasting(sizes, SlowCpu, 2, step_s=st.sampled_from((0.0001, 0.001))),
    "bad_disks": bad_disks,
    "rolling_restarts": rolling_restarts,
    "departures": departures,
    "late_starts": lambda _: st.just(()),  # of meshes with more nodes than are drawn here
    "disk_kills": lambda sizes: lasting(sizes, DiskKill, operations=st.integers(0, 200), power=st.booleans()),
    "new_disks": new_disks,
    "mixups": mixups,
    "old_images": old_images,
    "drifts": lambda sizes: lasting(sizes, Drift, rate=st.integers(60, 180).map(lambda percent: percent / 100)),
    "wall_jumps": lambda sizes: some(
        st.builds(WallJump, node=sizes.node, by_s=st.sampled_from((-1e5, -10.0, 10.0, 1e5)), at_s=sizes.at_s)
    ),
    "bad_devices": lambda sizes: some(
        st.builds(BadDevice, node=sizes.node, batches=st.integers(0, 20), at_s=sizes.at_s)
    ),
    "outside": lambda _: st.just(Outside()),  # of workloads of users' own: these call no services
}
"""For each field of `Faults`, what it can be."""


def bounds() -> st.SearchStrategy[Bounds]:
    """The usual ones, or some that something runs into."""
    usual = Bounds()
    small: Mapping[str, tuple[float, ...]] = {
        "segment_bytes": (2**13,),
        "journal_bytes_max": (2**27,),
        "partition_bytes_max": (2**16,),
        "moves_max": (1, 4),
        "mailbox_max": (1, 8),
        "state_bytes_max": (2**20,),
        "idle_s": (0.5, 5.0),
        "session_s": (20.0,),
        "append_bytes_max": (COMMAND_BYTES_MAX,),
        "inflight_messages_max": (1, 4),
        "inflight_bytes_max": (1000,),
        "uncommitted_bytes_max": (COMMAND_BYTES_MAX,),
        "apply_bytes_max": (1, 500),
        "datagram_bytes_max": (1232, 8000),
        "indirect_probes": (0, 1),
        "gossip_peers": (1,),
        "retransmit_multiplier": (2,),
        "connections_max": (64,),
        "voters": (3,),
    }
    return st.builds(Bounds, **{name: st.sampled_from((getattr(usual, name), *few)) for name, few in small.items()})


PLAN: Mapping[str, st.SearchStrategy[Any]] = {
    "level": st.just(2),
    "seed": st.integers(0, 2**32 - 1),  # the scheduler's too: hypothesis reseeds the generators of trio and of `random`
    "nodes": st.integers(1, 4),
    "clients": st.integers(1, 4),
    "duration_s": st.integers(3, 9).map(float),
    "recovery_s": st.just(Plan().recovery_s),
    "workload": st.sampled_from(("counter", "kv", "predict")),
    "app": st.just(()),
    "keys": st.sampled_from((1, 3, 8)),
    "calls_per_s": st.sampled_from((2.0, 10.0, 30.0)),
    "partitions": st.sampled_from((1, 4, 16)),
    "replication": st.integers(1, 3),
    "tempo": st.sampled_from((0.25, 0.5, 1.0)),
    "tls": st.booleans(),
    "bounds": st.just(Bounds()) | bounds(),
    "atlas": st.just(True),  # without it the plan may be clean although what should happen does not
}
"""For each field of `Plan` but its faults, what it can be."""


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """A plan that must be clean, whatever it does to the nodes."""
    own = {name: draw(strategy, label=name) for name, strategy in PLAN.items()}
    own["replication"] = min(own["replication"], own["nodes"])
    victim = draw(st.integers(0, own["nodes"] - 1)) if own["replication"] >= 3 else None
    sizes = Sizes(own["nodes"], own["duration_s"], victim)
    kinds = draw(st.sets(st.sampled_from(sorted(FAULTS))), label="kinds")
    return Plan(**own, faults=Faults(**{name: draw(FAULTS[name](sizes), label=name) for name in sorted(kinds)}))
