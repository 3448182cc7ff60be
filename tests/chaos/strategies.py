"""Plans of whole nodes, drawn as plain data: what is drawn is the plan, and never what happens to a message.

Each field of `Plan`, `Faults` and `DiskFaults` has its strategy here or its reason to have none; a test sees to it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from simulations.cores.faults import ClockRate, Crash, Cut, Leave, LinkQuality, Pause, Slow
from simulations.disk import DiskFaults
from simulations.plan import (
    BadDevice,
    BadDisk,
    DiskKill,
    Faults,
    Hang,
    NewDisk,
    Outside,
    Plan,
    Reset,
    SlowCpu,
    StuckLoop,
    WallJump,
)

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
}
"""What a disk may do to any node."""

CRUEL_DISK: Mapping[str, st.SearchStrategy[Any]] = {
    "bit_rot_rate": rate(0.2),
    "stale_rate": rate(0.02),
    "misdirected_rate": rate(0.02),
    "sync_error_rate": rate(0.2),
    "read_error_rate": rate(0.01),
}
"""What it may do only to the victim, since it can cost what was synced."""

NO_STRATEGY = {
    "in_order": "a milder disk than the one there is",
    "read_bit_rot_rate": "nothing repairs what is read wrongly yet",
    "stuck_sync_rate": "the node is as good as paused, for ever: no operator restarts it here",
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
    "resets": lambda sizes: some(st.builds(Reset, one=sizes.node, other=sizes.node, at_s=sizes.at_s), 5),
    "hangs": lambda sizes: lasting(sizes, Hang, 2),
    "stuck_loops": lambda sizes: lasting(sizes, StuckLoop),
    "slow_cpus": lambda sizes: lasting(sizes, SlowCpu, 2, step_s=st.sampled_from((0.0001, 0.001))),
    "bad_disks": bad_disks,
    "disk_kills": lambda sizes: lasting(sizes, DiskKill, operations=st.integers(0, 200)),
    "new_disks": new_disks,
    "wall_jumps": lambda sizes: some(
        st.builds(WallJump, node=sizes.node, by_s=st.sampled_from((-1e5, -10.0, 10.0, 1e5)), at_s=sizes.at_s)
    ),
    "bad_devices": lambda sizes: some(
        st.builds(BadDevice, node=sizes.node, batches=st.integers(0, 20), at_s=sizes.at_s)
    ),
    "outside": lambda _: st.just(Outside()),  # of workloads of users' own: these call no services
}
"""For each field of `Faults`, what it can be."""


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
