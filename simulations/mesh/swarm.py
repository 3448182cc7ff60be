"""Draws plans: each run has a few kinds of faults, at rates of its own, and sizes that are not the usual ones.

A run in which everything may happen rarely gets far into anything; a random subset with random rates reaches states
that neither a mild nor a wild mixture does (Groce, Zhang, Eide, Chen, Regehr, "Swarm testing", 2012).
"""

import random
from collections.abc import Callable, Iterable

from simulations.cores.faults import ClockRate, Crash, Cut, LinkQuality, Pause, Slow
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

Draw = Callable[["_Drawing"], dict[str, object]]


class _Drawing:
    """One plan in the making.

    Attributes:
        victim: the one node that may lose what it had synced. More than one could cost a partition the majority of its
            replicas, and then nothing is to be expected.
    """

    def __init__(self, rng: random.Random, nodes: int, duration_s: float) -> None:
        self.rng = rng
        self.nodes = nodes
        self.duration_s = duration_s
        self.victim = rng.randrange(nodes)

    def node(self) -> int:
        return self.rng.randrange(self.nodes)

    def times(self, most: int) -> list[float]:
        """When something happens, once or several times."""
        latest_s = 0.8 * self.duration_s
        return sorted(round(self.rng.uniform(0.0, latest_s), 3) for _ in range(self.rng.randint(1, most)))

    def span(self, at_s: float, longest_s: float) -> float:
        """How long it lasts: rather short than long, and over before the end of the run."""
        return round(min(longest_s * self.rng.random() ** 2 + 0.05, 0.95 * self.duration_s - at_s), 3)

    def group(self) -> frozenset[int]:
        """Some nodes, not all."""
        size = self.rng.randint(1, max(1, self.nodes - 1))
        return frozenset(self.rng.sample(range(self.nodes), size))


def _links(draw: _Drawing) -> dict[str, object]:
    rng = draw.rng
    quality = LinkQuality(
        delay_s=rng.choice((0.0002, 0.001, 0.01, 0.05)),
        jitter_s=rng.choice((0.0, 0.001, 0.02, 0.1)),
        loss=rng.choice((0.0, 0.01, 0.1, 0.3)),
        duplicate=rng.choice((0.0, 0.01, 0.2)),
        late=rng.choice((0.0, 0.01, 0.1)),
        late_s=rng.choice((0.05, 0.5, 2.0)),
    )
    return {"quality": quality, "calm_s": 0.95 * draw.duration_s}


def _cuts(draw: _Drawing) -> dict[str, object]:
    rng = draw.rng
    cuts = []
    for at_s in draw.times(3):
        senders = draw.group()
        rest = frozenset(range(draw.nodes)) - senders
        receivers = rest
        if len(rest) > 1 and rng.random() < 0.3:  # a bridge: one node reaches both sides
            receivers = rest - {rng.choice(sorted(rest))}
        flap_s = round(rng.uniform(0.1, 2.0), 3) if rng.random() < 0.3 else 0.0
        for_s = draw.span(at_s, 20.0)
        cuts.append(Cut(senders, receivers, at_s, for_s, both_ways=rng.random() < 0.6, flap_s=flap_s))
    return {"cuts": tuple(cuts)}


def _slow(draw: _Drawing) -> dict[str, object]:
    quality = LinkQuality(delay_s=draw.rng.choice((0.05, 0.2, 0.6)), jitter_s=0.1, loss=draw.rng.choice((0.0, 0.1)))
    return {"slow": tuple(Slow(draw.node(), quality, at_s, draw.span(at_s, 15.0)) for at_s in draw.times(2))}


def _crashes(draw: _Drawing) -> dict[str, object]:
    rng = draw.rng
    crashes = []
    for at_s in draw.times(5):
        effects = rng.choice((0, 0, rng.randint(1, 300)))
        crashes.append(Crash(draw.node(), at_s, draw.span(at_s, 12.0), effects, power=rng.random() < 0.5))
    return {"crashes": tuple(crashes)}


def _blackouts(draw: _Drawing) -> dict[str, object]:
    """Several at once, or one after the other."""
    rng = draw.rng
    (at_s,) = draw.times(1)
    for_s = draw.span(at_s, 5.0)
    power = rng.random() < 0.5
    apart_s = rng.choice((0.0, 0.0, 1.0, 3.0))
    nodes = rng.sample(range(draw.nodes), rng.randint(2, draw.nodes)) if draw.nodes > 1 else [0]
    last_s = 0.95 * draw.duration_s - for_s
    return {
        "crashes": tuple(
            Crash(node, round(min(at_s + number * apart_s, last_s), 3), for_s, 0, power=power)
            for number, node in enumerate(nodes)
        )
    }


def _pauses(draw: _Drawing) -> dict[str, object]:
    return {"pauses": tuple(Pause(draw.node(), at_s, draw.span(at_s, 15.0)) for at_s in draw.times(3))}


def _stuck_loops(draw: _Drawing) -> dict[str, object]:
    return {"stuck_loops": tuple(StuckLoop(draw.node(), at_s, draw.span(at_s, 15.0)) for at_s in draw.times(3))}


def _slow_cpus(draw: _Drawing) -> dict[str, object]:
    step_s = draw.rng.choice((0.0001, 0.001))
    return {"slow_cpus": tuple(SlowCpu(draw.node(), step_s, at_s, draw.span(at_s, 10.0)) for at_s in draw.times(2))}


def _resets(draw: _Drawing) -> dict[str, object]:
    return {"resets": tuple(Reset(draw.node(), draw.node(), at_s) for at_s in draw.times(8))}


def _hangs(draw: _Drawing) -> dict[str, object]:
    return {"hangs": tuple(Hang(draw.node(), at_s, draw.span(at_s, 10.0)) for at_s in draw.times(2))}


def _disk_kills(draw: _Drawing) -> dict[str, object]:
    rng = draw.rng
    return {
        "disk_kills": tuple(
            DiskKill(draw.node(), rng.choice((0, rng.randint(1, 20), rng.randint(1, 200))), at_s, draw.span(at_s, 8.0))
            for at_s in draw.times(3)
        )
    }


def _full_disks(draw: _Drawing) -> dict[str, object]:
    faults = DiskFaults(capacity_bytes=draw.rng.randint(0, 20_000))
    return {"bad_disks": tuple(BadDisk(draw.node(), faults, at_s, draw.span(at_s, 8.0)) for at_s in draw.times(2))}


def _slow_disks(draw: _Drawing) -> dict[str, object]:
    rng = draw.rng
    faults = DiskFaults(slow_sync_rate=rng.choice((0.05, 0.5)), slow_sync_factor=rng.choice((20.0, 200.0, 1000.0)))
    return {"bad_disks": tuple(BadDisk(draw.node(), faults, at_s, draw.span(at_s, 10.0)) for at_s in draw.times(2))}


def _failing_disks(draw: _Drawing) -> dict[str, object]:
    faults = DiskFaults(sync_error_rate=draw.rng.choice((0.01, 0.2)), read_error_rate=draw.rng.choice((0.0, 0.01)))
    return {"bad_disks": tuple(BadDisk(draw.victim, faults, at_s, draw.span(at_s, 8.0)) for at_s in draw.times(2))}


def _rotten_disks(draw: _Drawing) -> dict[str, object]:
    rng = draw.rng
    faults = DiskFaults(
        bit_rot_rate=rng.choice((0.0, 0.2)),
        torn_sector_rate=rng.choice((0.0, 0.5)),
        stale_rate=rng.choice((0.0, 0.02)),
        misdirected_rate=rng.choice((0.0, 0.02)),
    )
    (at_s,) = draw.times(1)
    again_s = round(min(at_s + rng.uniform(0.0, 10.0), 0.85 * draw.duration_s), 3)
    return {
        "bad_disks": (BadDisk(draw.victim, faults, at_s, 0.95 * draw.duration_s - at_s),),
        "crashes": (Crash(draw.victim, again_s, 1.0, 0, power=True),),
    }


def _new_disks(draw: _Drawing) -> dict[str, object]:
    (at_s,) = draw.times(1)
    return {"new_disks": (NewDisk(draw.victim, at_s, draw.span(at_s, 5.0)),)}


def _clocks(draw: _Drawing) -> dict[str, object]:
    rng = draw.rng
    return {
        "clocks": tuple(ClockRate(node, round(rng.uniform(0.8, 1.25), 3)) for node in range(draw.nodes)),
        "wall_jumps": tuple(
            WallJump(draw.node(), rng.choice((-1e5, -10.0, 10.0, 1e5)), at_s) for at_s in draw.times(3)
        ),
    }


def _bad_devices(draw: _Drawing) -> dict[str, object]:
    rng = draw.rng
    return {"bad_devices": tuple(BadDevice(draw.node(), rng.randint(0, 20), at_s) for at_s in draw.times(3))}


def _outside(draw: _Drawing) -> dict[str, object]:
    rng = draw.rng
    return {"outside": Outside(late=rng.choice((0.02, 0.1, 0.3)), late_s=rng.choice((1.0, 5.0, 20.0)))}


KINDS: dict[str, Draw] = {
    "links": _links,
    "cuts": _cuts,
    "slow": _slow,
    "crashes": _crashes,
    "blackouts": _blackouts,
    "pauses": _pauses,
    "stuck-loops": _stuck_loops,
    "slow-cpus": _slow_cpus,
    "resets": _resets,
    "hangs": _hangs,
    "disk-kills": _disk_kills,
    "full-disks": _full_disks,
    "slow-disks": _slow_disks,
    "failing-disks": _failing_disks,
    "rotten-disks": _rotten_disks,
    "new-disks": _new_disks,
    "clocks": _clocks,
    "bad-devices": _bad_devices,
    "outside": _outside,
}
"""Kinds of faults by the names under which they are asked for."""


DESTROYING = frozenset({"failing-disks", "rotten-disks", "new-disks"})
"""Kinds that may cost a node what it had synced."""


def _has_effect(kind: str, workload: str) -> bool:
    """Whether there is anything in the workload that the fault could strike."""
    is_own = ":" in workload
    return (kind != "outside" or is_own) and (kind != "bad-devices" or is_own or workload == "predict")


def draw_plan(
    seed: int,
    *,
    nodes: int = 5,
    duration_s: float = 30.0,
    kinds: Iterable[str] = KINDS,
    workload: str = "counter",
    app: tuple[str, ...] = (),
    calls_per_s: float = 20.0,
) -> Plan:
    """The plan of a seed: a random subset of these kinds of faults, and other sizes each time."""
    rng = random.Random(f"plan {seed}")
    drawing = _Drawing(rng, nodes, duration_s)
    replication = min(nodes, rng.choice((3, 3, 3, 2, 5)))
    kinds = [kind for kind in kinds if _has_effect(kind, workload)]
    present = [kind for kind in kinds if rng.random() < rng.choice((0.15, 0.35))]
    if replication < 3:  # the loss of one copy for good is the loss of a majority
        present = [kind for kind in present if kind not in DESTROYING]
    found: dict[str, object] = {}
    for kind in present:
        for name, value in KINDS[kind](drawing).items():
            before = found.get(name)
            found[name] = before + value if isinstance(before, tuple) and isinstance(value, tuple) else value
    return Plan(
        seed=seed,
        nodes=nodes,
        clients=rng.randint(1, 5),
        duration_s=duration_s,
        workload=workload,
        app=app,
        keys=rng.choice((1, 3, 8, 20)),
        calls_per_s=calls_per_s,
        partitions=rng.choice((1, 4, 16)),
        replication=replication,
        tempo=rng.choice((1.0, 1.0, 0.5, 0.25)),
        faults=Faults(**found),  # type: ignore[arg-type]
    )
